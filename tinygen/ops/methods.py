"""ndarray's methods on Tensors, a line each. Methods that write in place raise an error that names a
replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygen.ops.numpy  # noqa: F401 (it gives NumPy's functions their meaning)
from tinygen.ops.complex_numbers import imag, real
from tinygen.ops.elementwise import astype, conjugate
from tinygen.ops.shape import ravel, reshape, swapaxes, transpose
from tinygen.tensor import IMPLEMENTS, Tensor, bind_to_tensor
from tinygen.types import DType, TensorLike
from tinygen.words import IN_PLACE


def method_of(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function that NumPy's function calls for Tensors."""
    return IMPLEMENTS[function]


def reshape_to(x: TensorLike, *shape: Any, order: str = "C", copy: Any = None) -> Tensor:
    """x.reshape(2, 3) or x.reshape((2, 3))."""
    shape = shape[0] if len(shape) == 1 else shape
    return reshape(x, shape) if order == "C" else reshape(x, shape, order)


def transpose_to(x: TensorLike, *axes: Any) -> Tensor:
    """x.transpose(1, 0, 2), x.transpose((1, 0, 2)) or, reversed, x.transpose()."""
    return transpose(x, axes[0] if len(axes) == 1 else axes or None)


def to_dtype(
    x: TensorLike,
    dtype: DType,
    order: str = "K",
    casting: str = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Tensor:
    """x in another dtype; the gradient comes back in x's own."""
    return astype(x, dtype=dtype)


def swap_last_axes(x: TensorLike) -> Tensor:
    """The last two axes exchanged."""
    return IMPLEMENTS[np.matrix_transpose](x)


def flatten(x: TensorLike, order: str = "C") -> Tensor:
    """One axis, in memory of its own."""
    return IMPLEMENTS[np.copy](ravel(x, order))


def dot_with(x: TensorLike, b: TensorLike) -> Any:
    """The matrix product as in `np.dot`."""
    return np.dot(x, b)


def choose_from(x: TensorLike, choices: TensorLike, mode: Any = "raise") -> Any:
    """For each entry i of x, the entry of choices[i] at its place: `np.choose`."""
    return np.choose(x, choices, mode=mode)


def compress_by(x: TensorLike, condition: TensorLike, axis: int | None = None) -> Any:
    """The entries along an axis where the condition is True: `np.compress`."""
    return np.compress(condition, x, axis=axis)


def refuse_in_place(name: str, instead: str) -> Callable[..., Any]:
    """A method that raises, since NumPy's writes into its array, and says what to write."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"x.{name}() would write into the tensor, and its gradient would be wrong: write {instead}"
        )

    call.__doc__ = f"Raises TypeError: it would write into the tensor. Write {instead}."
    return call


def values_of(name: str) -> Callable[..., Any]:
    """The method of x's array; its results are not on the tape (lists, bytes, files)."""

    def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return getattr(x.numpy(), name)(*args, **kwargs)

    call.__doc__ = f"`{name}` of the values as a NumPy array, off the tape."
    return call


def attribute_of(name: str) -> property:
    """The attribute of x's array."""
    return property(lambda x: getattr(x._data, name), doc=f"`{name}` of the array.")


@bind_to_tensor
class Methods:
    """`x.sum()` is np.sum(x): each method and attribute of ndarray, and the function that it calls."""

    @property
    def T(self) -> Tensor:
        """The transpose: the axes in reverse order."""
        return transpose(self)

    @property
    def mT(self) -> Tensor:
        """The transpose of each matrix in the last two axes."""
        return swap_last_axes(self)

    @property
    def real(self) -> Tensor:
        """The real part; x itself where it is real."""
        return real(self)

    @property
    def imag(self) -> Tensor:
        """The imaginary part; zeros where x is real."""
        return imag(self)

    conj = conjugate
    conjugate = conjugate
    reshape = reshape_to
    transpose = transpose_to
    swapaxes = swapaxes
    squeeze = method_of(np.squeeze)
    ravel = ravel
    flatten = flatten
    copy = method_of(np.copy)
    astype = to_dtype
    sum = method_of(np.sum)
    mean = method_of(np.mean)
    var = method_of(np.var)
    std = method_of(np.std)
    max = method_of(np.max)
    min = method_of(np.min)
    prod = method_of(np.prod)
    cumsum = method_of(np.cumsum)
    cumprod = method_of(np.cumprod)
    trace = method_of(np.trace)
    diagonal = method_of(np.diagonal)
    dot = dot_with
    clip = method_of(np.clip)
    round = method_of(np.round)
    repeat = method_of(np.repeat)
    take = method_of(np.take)
    choose = choose_from
    compress = compress_by
    all = method_of(np.all)
    any = method_of(np.any)
    argmax = method_of(np.argmax)
    argmin = method_of(np.argmin)
    argsort = method_of(np.argsort)
    argpartition = method_of(np.argpartition)
    nonzero = IMPLEMENTS[np.nonzero]  # a tuple
    searchsorted = method_of(np.searchsorted)
    tolist = values_of("tolist")
    tobytes = values_of("tobytes")
    tofile = values_of("tofile")
    nbytes = attribute_of("nbytes")
    itemsize = attribute_of("itemsize")
    strides = attribute_of("strides")
    flags = attribute_of("flags")


for name, instead in IN_PLACE.items():
    setattr(Tensor, name, refuse_in_place(name, instead))
