"""Kernels in a forked process: on one thread.

A fork copies the memory of a process, and of its threads only the one that calls it. The others, which OpenMP
counts on, are not there in the child: it would wait for them for ever, and Numba ends it before. So in a
child every kernel that runs on all threads gives way to another, compiled from the same function, that does
its parts one after the other: the same parts, so the same bits. That also holds for gradients whose forward
pass was in the parent. (TBB and Numba's own pool start their threads again, and stay.)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
from numba.core.registry import CPUDispatcher

KERNELS: list[Any] = []


class Alone(CPUDispatcher):
    """The class of a kernel in a forked child: it calls the single-threaded version."""

    def __call__(self, *args: Any) -> Any:
        return self.alone()(*args)


def replace_in_child(kernel: Any, make: Callable[[], Any]) -> None:
    """Let `make()` be what `kernel` gives way to in a child; it is made there, at the first call."""
    kernel.alone = functools.cache(make)
    KERNELS.append(kernel)


def copy_with_other_name(function: Any) -> Any:
    """The same function with another name: Numba knows kept machine code by that, not by the options."""
    name = f"{function.__name__}_alone"
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    copy.__qualname__ = name
    return copy


def after_fork() -> None:
    if numba.threading_layer() == "omp":
        for kernel in KERNELS:
            kernel.__class__ = Alone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)
