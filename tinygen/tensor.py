"""Tensor: an array and its place on the tape.

A `Tensor` wraps an array (NumPy's, or CuPy's on a GPU). It answers NumPy's own protocols (NEP 13
`__array_ufunc__`, NEP 18 `__array_function__`), so plain NumPy code runs on it: on arrays `np.exp(x)`
computes, on Tensors it computes and records. Each NumPy function finds its op in the table
`IMPLEMENTS`, which the files in `tinygen/ops/` fill. A function that is not in the table raises an error and
never drops the graph silently. Operators (`a + b`) are in `tinygen/ops/operators.py`, methods (`a.sum()`) in
`tinygen/ops/methods.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.arrays import device_of, from_dlpack, to_device
from tinygen.memory import CLOCK, share, write
from tinygen.types import Array as Array

if TYPE_CHECKING:  # a + b, a.sum(), float(a): written in these files, and bound to Tensor by `bind_to_tensor`
    from tinygen.node import Node
    from tinygen.ops.methods import Methods
    from tinygen.ops.operators import Operators
    from tinygen.protocols import Protocols

    class Bound(Operators, Methods, Protocols):
        """For type checkers: all that is bound to Tensor."""
else:
    Bound = object

IMPLEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""NumPy function -> the tinygen function that stands in for it when an argument is a Tensor."""


class Tensor(Bound):
    """An n-dimensional array that remembers how it was computed.

    An array is kept as it is, without a copy; an array of a library that supports DLPack, as PyTorch does,
    shares its memory. Python numbers and lists become float32 (or complex64, int64, bool). float64 is used
    only when an array of that dtype is given, or `dtype` says so.

    Raises TypeError for `requires_grad` with a dtype that has no gradient (integers, bools).
    """

    __slots__ = ("__weakref__", "_data", "grad", "node", "requires_grad", "version")

    backward: Callable[..., None]
    """`backward_into_leaves` in tinygen/backward.py."""

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

        A tensor keeps its dtype: an assigned array is cast to it, float64 to float32 as well. Raises
        TypeError for numbers of another kind (floats into integers), ValueError for another shape,
        RuntimeError when the tensor was computed on the tape."""
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
        if isinstance(value, np.generic | complex | float | int | list | tuple):
            value = np.asarray(value)  # with all digits: `as_array` would make it float32
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
        if value is self._data:  # it was written in place, and other tensors may share it
            write(value)
        self.replace(value)

    def replace(self, array: Array) -> None:
        """Hold `array` from now on; its dtype and device may be others than before."""
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
        """The same array, off the tape. The memory is shared: after a write into it, backward through this
        tensor raises RuntimeError."""
        return Tensor(self.data)

    def to(self, device: str) -> Tensor:
        """This tensor's values on "cpu" or "cuda", as a new leaf; the tensor itself when it is there already.
        Raises TypeError when it would have to leave the tape."""
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
            raise TypeError(write_refusal(ufunc.__name__))
        if method != "__call__":
            return IMPLEMENTS[getattr(np.ufunc, method)](ufunc, *inputs, **kwargs)
        function = IMPLEMENTS.get(ufunc)
        if function is None:
            raise TypeError(rule_refusal(ufunc.__name__))
        if kwargs:
            inputs, kwargs = IMPLEMENTS[np.ufunc](*inputs, **kwargs)
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        function = IMPLEMENTS.get(func)
        if function is None:
            raise TypeError(rule_refusal(f"{func.__module__}.{func.__name__}".removeprefix("numpy.")))
        if "out" in kwargs and kwargs.pop("out") is not None:
            raise TypeError(write_refusal(func.__name__))
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

    __hash__ = object.__hash__  # == is elementwise, so tensors hash by identity

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(", threshold=100)
        extra = f", shape={self.shape}" if self.size > 100 else ""  # some values are left out
        extra += "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        origin = f", from {self.node.name}" if self.node else ", requires_grad=True"
        return f"Tensor({values}{extra}{origin if self.requires_grad else ''})"


class Empty:
    """The names that Python itself writes into every class."""


def bind_to_tensor(methods: type) -> type:
    """Give Tensor all attributes in the body of the class `methods`.

    So operators and methods are written next to the ops that they call, on floors above this one."""
    for name, value in vars(methods).items():
        if name not in vars(Empty) and name != "__hash__":  # which a class with == loses
            setattr(Tensor, name, value)
    return methods


SINGLE = {"d": np.float32, "D": np.complex64}


def write_refusal(name: str) -> str:
    return (
        f"np.{name} cannot write into an array here (out=, or `array += tensor`): the graph would be lost. "
        "Keep what it returns, as in `array = array + tensor`"
    )


REFUSED: dict[str, str] = {}
"""NumPy function without a rule, as "fill_diagonal" -> why, and what to do instead."""


def rule_refusal(name: str) -> str:
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
