"""A time limit for calls: a user's function may run forever at inputs that it was not written for.

A loop `while error > 1e-13` never ends in float32, and `while not error < 1e-13` never ends at NaN. Signals
work in the main thread only, and tracing a function makes it slow. So the call runs in a thread of its own,
and after the time limit an exception is raised in that thread (CPython's `PyThreadState_SetAsyncExc`), which
ends any loop in Python.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class TimeUp(BaseException):
    """Raised inside a call that takes too long. It is not an Exception, since the function might catch
    that."""


def run_within(call: Callable[[], T], seconds: float) -> T:
    """What `call()` returns or raises; TimeoutError when that takes longer than `seconds`."""
    value: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            value.append(call())
        except BaseException as error:
            errors.append(error)

    run: Any = contextvars.copy_context().run  # whether ops record, and which warnings NumPy gives
    thread = threading.Thread(target=run, args=(work,), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeUp)
        )
        thread.join(1.0)
        raise TimeoutError(f"no result within {seconds:.2g} s")
    if errors:
        raise errors[0]
    return value[0]
