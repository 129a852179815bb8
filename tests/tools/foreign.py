"""An array type that stands in for CuPy's: it answers NumPy's protocols and refuses to mix with NumPy arrays.

On a machine without a GPU this shows where an op makes a NumPy array of its own, or treats whatever isn't a
NumPy array as a number. It also notes the dtypes of all results, inside of op bodies too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Waited(RuntimeError):
    """Somebody looked at values while that was not allowed."""


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """As `cupyx.allow_synchronize(False)`: whatever reads a value is an error."""
    Foreign.readable = False
    try:
        yield
    finally:
        Foreign.readable = True


SIZED_BY_VALUES = (
    np.nonzero,
    np.flatnonzero,
    np.argwhere,
    np.unique,
    np.extract,
    np.array_equal,
    np.allclose,
)
"""Functions whose result cannot even be allocated, or is a Python number, before the values are known."""


class Foreign(NDArrayOperatorsMixin):
    """Wraps the NumPy array `inner`. Scalars and lists mix with it, NumPy arrays only as indices."""

    seen: ClassVar[set[np.dtype[Any]]] = set()  # of every result since it was last cleared
    readable: ClassVar[bool] = True  # whether values may be looked at, for which a GPU must be waited for

    def __init__(self, inner: Any) -> None:
        self.inner = np.asarray(inner)
        Foreign.seen.add(self.inner.dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, HANDLED) for x in inputs):
            return NotImplemented  # a Tensor takes it, then
        if method == "at":  # (array, index, values)
            inputs = (inputs[0], indices(inputs[1]), *inputs[2:])
            return ufunc.at(unwrapped(inputs[0]), inputs[1], unwrapped(inputs[2]))
        return wrapped(getattr(ufunc, method)(*unwrapped(inputs), **unwrapped(kwargs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, HANDLED) for t in types):
            return NotImplemented  # a Tensor takes it, then
        if func in (np.asarray, np.array):  # with like=: an upload that is asked for
            return wrapped(np.array(*[x.inner if isinstance(x, Foreign) else x for x in args], **kwargs))
        if func in SIZED_BY_VALUES:
            self.read()
        return wrapped(func(*unwrapped(args), **unwrapped(kwargs)))

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed: use .get()")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("shape", "ndim", "size", "dtype", "nbytes", "flags"):
            return getattr(self.inner, name)
        if name in ("item", "tolist", "nonzero"):
            return getattr(self.read(), name)
        if name == "T":
            return wrapped(self.inner.T)
        if name == "base":
            return self.inner.base
        method = getattr(self.inner, name)
        return lambda *args, **kwargs: wrapped(method(*unwrapped(args), **unwrapped(kwargs)))

    def __getitem__(self, index: Any) -> Any:
        return wrapped(self.inner[indices(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self.inner[indices(index)] = unwrapped(value)

    def read(self) -> np.ndarray:
        """The values, on the CPU."""
        if not Foreign.readable:
            raise Waited("a value was looked at, which waits for the GPU")
        return self.inner

    def __len__(self) -> int:
        return len(self.inner)

    def __bool__(self) -> bool:
        return bool(self.read())

    def __float__(self) -> float:
        return float(self.read())

    def __int__(self) -> int:
        return int(self.read())

    def __index__(self) -> int:
        return self.read().__index__()

    def get(self) -> np.ndarray:
        return self.read().copy()


HANDLED = (Foreign, np.ndarray, np.generic)


def unwrapped(x: Any) -> Any:
    if isinstance(x, Foreign):
        return x.inner
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")  # as CuPy says
    if isinstance(x, dict):
        return {key: unwrapped(value) for key, value in x.items()}
    return type(x)(map(unwrapped, x)) if type(x) in (tuple, list) else x


def indices(x: Any) -> Any:
    """NumPy's integer arrays are taken as indices, as CuPy takes them; other objects are not."""
    if type(x) is tuple:
        return tuple(map(indices, x))
    if isinstance(x, Foreign) and x.dtype == bool:
        x.read()  # how many entries it picks
    if not isinstance(x, (Foreign, np.ndarray, np.generic, list, int, slice, type(None), type(...))):
        raise IndexError(f"unsupported index {type(x)}")
    return x.inner if isinstance(x, Foreign) else x


def wrapped(x: Any) -> Any:
    if type(x) in (tuple, list):
        return type(x)(map(wrapped, x))
    if isinstance(x, tuple):  # NumPy's own, such as EighResult
        return type(x)(*map(wrapped, x))
    return Foreign(x) if isinstance(x, (np.ndarray, np.generic)) else x
