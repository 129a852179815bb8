"""An array type in place of CuPy's: it implements NumPy's protocols and refuses to mix with NumPy arrays.

On a machine without a GPU this finds ops that create a NumPy array, or that treat every object except a NumPy
array as a number. It also records the dtypes of all results, inside op bodies, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Waited(RuntimeError):
    """A value was read inside `no_waiting`."""


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Like `cupyx.allow_synchronize(False)`: reading a value raises an error."""
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
"""Functions that must read values: the shape of their result depends on them, or the result is a Python
number."""


class Foreign(NDArrayOperatorsMixin):
    """Wraps the NumPy array `inner`. Scalars and lists mix with it, NumPy arrays only as indices."""

    seen: ClassVar[set[np.dtype[Any]]] = set()  # of every result since it was last cleared
    readable: ClassVar[bool] = True  # whether values may be read (on a GPU, this waits)

    def __init__(self, inner: Any) -> None:
        self.inner = np.asarray(inner)
        Foreign.seen.add(self.inner.dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, HANDLED) for x in inputs):
            return NotImplemented  # so that a Tensor handles the call
        if method == "at":  # (array, index, values)
            inputs = (inputs[0], indices(inputs[1]), *inputs[2:])
            return ufunc.at(unwrapped(inputs[0]), inputs[1], unwrapped(inputs[2]))
        return wrapped(getattr(ufunc, method)(*unwrapped(inputs), **unwrapped(kwargs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(t, HANDLED) for t in types):
            return NotImplemented  # so that a Tensor handles the call
        if func in (np.asarray, np.array):  # with like=, an explicit upload
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
