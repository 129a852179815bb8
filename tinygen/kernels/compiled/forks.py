"""Kernels in a forked process: on one thread.

A fork copies the memory of a process, but only the thread that calls it. OpenMP's other threads do not
exist in the child, which would wait for them forever; Numba ends such a child. So in a child every kernel
that runs on all threads is replaced by one that is compiled from the same function and computes its parts
one after the other: the same parts, so the same bits. This also works for gradients whose forward pass was
in the parent. (With TBB and Numba's own pool, which start their threads again, nothing is replaced.)
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
    """In a forked child, replace `kernel` by `make()`, which runs there at the first call."""
    kernel.alone = functools.cache(make)
    KERNELS.append(kernel)


def copy_with_other_name(function: Any) -> Any:
    """The same function with another name: Numba finds cached machine code by the name, not by the
    options."""
    name = f"{function.__name__}_alone"
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__)
    copy.__qualname__ = name
    return copy


def replace_compiled() -> None:
    if numba.threading_layer() == "omp":
        for kernel in KERNELS:
            kernel.__class__ = Alone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=replace_compiled)
