"""Tensor: an array and its place on the tape.

A `Tensor` wraps an array (NumPy's, or CuPy's on a GPU). It answers NumPy's own protocols (NEP 13
`__array_ufunc__`, NEP 18 `__array_function__`), so plain NumPy code runs on it: on arrays `np.exp(x)`
computes, on Tensors it computes and records. Each NumPy function finds its op in the table
`IMPLEMENTS`, which the files in `tinygen/ops/` fill; a function that is not there raises, and never
drops the graph silently. The operators `+ - * / @ ...` are bound to the same ops in
`tinygen/ops/operators.py`, methods in `tinygen/ops/methods.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.memory import CLOCK, share, write
from tinygen.types import Array as Array

if TYPE_CHECKING:
    from tinygen.node import Node

IMPLEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""NumPy function -> the tinygen function that stands in for it when an argument is a Tensor."""


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    `data` is kept as it is when it is an array (no copy), also one of another library that speaks DLPack,
    as PyTorch does; Python numbers and lists become float32 (or complex64, int64, bool). float64 is used only
    when an array of that dtype is given, or `dtype` asks.

    Raises TypeError when `requires_grad` is asked of a dtype that has no gradient (integers, bools).
    """

    __slots__ = ("__weakref__", "_data", "grad", "node", "requires_grad", "version")

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        array = as_array(data, dtype)
        if requires_grad and array.dtype.kind not in "fc":
            raise TypeError(
                f"only floating-point tensors have gradients, this one is {array.dtype}: "
                "pass dtype=np.float32, or leave requires_grad off"
            )
        self._data = array
        self.grad: Array | None = None  # filled by backward() on leaves: an array like `data`
        self.requires_grad = requires_grad
        self.node: Node | None = None  # the tape entry that computed this tensor; None on leaves
        self.version = 0  # when `data` was last assigned to, by the tape's clock; 0 for never

    # -- the array ---------------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The array itself. Assigning (also `t.data -= step`) tells the tape that it has changed.

        A tensor keeps its dtype: what is assigned is cast to it, float64 to float32 as well. Raises TypeError
        for numbers of another kind (floats into integers), ValueError for another shape, RuntimeError when
        the tensor was computed on the tape."""
        if self.node is not None:
            share(self.node, self._data)
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        if self.node is not None:
            raise RuntimeError(
                "cannot write into a tensor that was computed on the tape: its gradient would be wrong. "
                "Compute a new one (np.where), or write into a copy of its values: Tensor(t.numpy().copy())"
            )
        value = as_array(value, None)
        if value.shape != self._data.shape:
            raise ValueError(f"cannot assign data of shape {value.shape} to shape {self.shape}")
        if value.dtype != self._data.dtype:
            if not np.can_cast(value.dtype, self._data.dtype, "same_kind"):
                raise TypeError(
                    f"cannot assign {value.dtype} data to a tensor of {self.dtype}, which keeps its dtype: "
                    "cast the data first, or make a new tensor"
                )
            value = value.astype(self._data.dtype)
        if value is self._data:  # written in place, and others may share it
            write(value)
        self.replace(value)

    def replace(self, array: Array) -> None:
        """Hold `array` from now on, of whatever dtype and device."""
        self._data = array
        self.version = next(CLOCK)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the entries, such as float32."""
        return self._data.dtype

    @property
    def device(self) -> str:
        """ "cpu" for NumPy arrays, "cuda" for CuPy arrays."""
        return device_of(self._data)

    def numpy(self) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, off the tape (shares memory on the CPU)."""
        return to_device(self.data, "cpu")

    def item(self) -> Any:
        """The one value of a tensor of size 1, as a Python number."""
        return self._data.item()

    def detach(self) -> Tensor:
        """The same array, off the tape. It shares its memory: backward refuses values that have been written
        into by way of it."""
        return Tensor(self.data)

    def to(self, device: str) -> Tensor:
        """This tensor's values on "cpu" or "cuda", as a new leaf; itself when it is there already. Raises
        TypeError when it would have to leave the tape."""
        if self.device == device:
            return self
        if self.node is not None:
            raise TypeError(
                f"a computed tensor would lose its graph on the way to {device}: move what it is computed "
                "from, or t.detach()"
            )
        return Tensor(to_device(self._data, device), requires_grad=self.requires_grad)

    # -- NumPy's protocols -------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            raise TypeError(cannot_write(ufunc.__name__))
        if method != "__call__":
            return IMPLEMENTS[getattr(np.ufunc, method)](ufunc, *inputs, **kwargs)
        function = IMPLEMENTS.get(ufunc)
        if function is None:
            raise TypeError(no_rule(ufunc.__name__))
        if kwargs:
            inputs, kwargs = IMPLEMENTS[np.ufunc](*inputs, **kwargs)
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = IMPLEMENTS.get(func)
        if function is None:
            raise TypeError(no_rule(f"{func.__module__}.{func.__name__}".removeprefix("numpy.")))
        if "out" in kwargs and kwargs.pop("out") is not None:
            raise TypeError(cannot_write(func.__name__))
        if not args:  # np.sum(a=x): NumPy's name of the first argument need not be the op's
            first = next(iter(inspect.signature(func).parameters))
            args = (kwargs.pop(first),)
        return function(*args, **kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.requires_grad:
            raise TypeError(
                "np.asarray of a tensor that requires grad would drop its graph: "
                "use t.numpy() for the values, or t.detach() first; np.stack makes one tensor of a list"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    # -- DLPack, by which array libraries hand each other memory (dmlc.github.io/dlpack) ------------

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise BufferError(
                "another library would not know of this tensor's graph: hand over t.detach() instead"
            )
        return self._data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    # -- Python's protocols ------------------------------------------------------------------------

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.requires_grad:
            raise TypeError(
                "cannot assign into a tensor that requires grad: its gradient would be wrong. Build the "
                "result with np.where or tinygen.ops.scatter_add; to set a parameter, assign to t.data"
            )
        if isinstance(value, Tensor):
            if value.requires_grad:
                raise TypeError(
                    "assigning a tensor that requires grad would drop its graph: build the result with "
                    "np.where or np.concatenate, or assign value.detach()"
                )
            value = value._data
        self._data[index] = value
        write(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("cannot iterate over a tensor of shape (): it is one number")
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self._data)

    __hash__ = object.__hash__  # == compares elementwise, so a tensor is itself as a key

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        extra = f", shape={self.shape}" if self.size > 100 else ""  # where some of them are left out
        extra += "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        origin = f", from {self.node.name}" if self.node else ", requires_grad=True"
        return f"Tensor({values}{extra}{origin if self.requires_grad else ''})"

    if TYPE_CHECKING:  # bound from above: in tinygen/protocols.py, tinygen/backward.py and tinygen/ops

        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def __complex__(self) -> complex: ...
        def __index__(self) -> int: ...

        def backward(self, gradient: Any = None, *, retain_graph: bool = False) -> None: ...

        @property
        def T(self) -> Tensor: ...
        @property
        def real(self) -> Tensor: ...
        @property
        def imag(self) -> Tensor: ...
        def conj(self) -> Tensor: ...
        def conjugate(self) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmax(self, axis: int | None = None) -> Tensor: ...
        def cumsum(self, axis: int | None = None) -> Tensor: ...
        def cumprod(self, axis: int | None = None) -> Tensor: ...
        def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def std(self, axis: Any = None, ddof: int = 0, keepdims: bool = False) -> Tensor: ...
        def all(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def any(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def argmin(self, axis: int | None = None) -> Tensor: ...
        def argsort(self, axis: int | None = -1) -> Tensor: ...
        def nonzero(self) -> tuple[Tensor, ...]: ...
        def clip(self, min: Any = None, max: Any = None) -> Tensor: ...
        def round(self, decimals: int = 0) -> Tensor: ...
        def dot(self, b: Any) -> Tensor: ...
        def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor: ...
        def copy(self) -> Tensor: ...
        def flatten(self) -> Tensor: ...
        def ravel(self) -> Tensor: ...
        def repeat(self, repeats: Any, axis: int | None = None) -> Tensor: ...
        def take(self, indices: Any, axis: int | None = None) -> Tensor: ...
        def tolist(self) -> Any: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def transpose(self, *axes: Any) -> Tensor: ...
        def swapaxes(self, axis1: int, axis2: int) -> Tensor: ...
        def squeeze(self, axis: Any = None) -> Tensor: ...

        def __getitem__(self, index: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __contains__(self, value: Any) -> bool: ...
        def __round__(self, decimals: int | None = None) -> Any: ...
        def __abs__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...


SINGLE = {"d": np.float32, "D": np.complex64}


def cannot_write(name: str) -> str:
    return (
        f"np.{name} cannot write into an array here (out=, or `array += tensor`): the graph would be lost. "
        "Keep what it returns, as in `array = array + tensor`"
    )


REFUSED: dict[str, str] = {}
"""NumPy function without a rule, as "fill_diagonal" -> why, and what to do instead."""


def no_rule(name: str) -> str:
    instead = "use another function, define one with @tinygen.op, or leave the tape with t.numpy()"
    return f"np.{name} has no gradient rule in tinygen: {REFUSED.get(name, instead)}"


def as_array(data: Any, dtype: Any) -> Array:
    """`data` as an array: arrays as they are, everything else through NumPy with float32 for floats."""
    if isinstance(data, Tensor):
        raise TypeError("this is a Tensor already: use t.detach() for the same values off the tape")
    if not hasattr(data, "__array_function__") or isinstance(data, np.generic):
        if hasattr(data, "__dlpack__"):
            data = from_dlpack(data)
        else:
            data = np.asarray(data)
            dtype = SINGLE.get(data.dtype.char) if dtype is None else dtype
        if data.dtype.kind not in "fciub":
            raise TypeError(f"cannot make a tensor of {data.dtype} data: numbers or bools are needed")
    return data if dtype is None else data.astype(dtype, copy=False)


def from_dlpack(data: Any) -> np.ndarray[Any, Any]:
    """Another library's array as NumPy's, in the same memory. Raises TypeError where NumPy cannot: other
    devices, dtypes such as bfloat16, tensors on another library's tape."""
    try:
        return np.from_dlpack(data)
    except (BufferError, RuntimeError) as error:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        raise TypeError(f"cannot make a tensor of this {kind}: {error}") from error


def device_of(array: Array) -> str:
    return "cpu" if isinstance(array, np.ndarray) else "cuda"


def to_device(array: Array, device: str) -> Array:
    """`array` on "cpu" (NumPy) or "cuda" (CuPy). Raises RuntimeError when there is no CuPy or no GPU."""
    if device == device_of(array):
        return array
    if device == "cpu":
        return array.get()
    if device != "cuda":
        raise ValueError(f'unknown device {device!r}: use "cpu" or "cuda"')
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            'device "cuda" needs CuPy: pip install "tinygen[cuda13]", or [cuda12] for a driver older than 580'
        ) from error
    if not cupy.cuda.is_available():
        raise RuntimeError(
            'device "cuda" needs an NVIDIA GPU and its driver: CuPy finds none (nvidia-smi lists them)'
        )
    return cupy.asarray(array)
