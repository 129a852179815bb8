"""Fourier transforms: np.fft on Tensors, each of its functions.

The discrete Fourier transform of n numbers is y_j = Σ_k x_k w^(jk) with w = exp(-2πi/n). Its matrix is
symmetric, so the rule of a transform is the same transform once more (rules pass g without conjugates, see
`complex_numbers.py`). If `n` is smaller than x, the entries that are cut off have the gradient 0. For a real
x, `rfft` returns half of the numbers, since y_(n-j) is the conjugate of y_j. `irfft` counts each number of
that half twice, except j = 0 and, for an even n, j = n/2: each of these is its own partner.

`norm` is "backward" (the inverse divides by n), "ortho" (both by √n) or "forward" (the transform does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from tinygen.tape import implements, op
from tinygen.tensor import Array
from tinygen.types import TensorLike, ValueAndRules

Norm: TypeAlias = Literal["backward", "ortho", "forward"] | None

OTHER: dict[Norm, Norm] = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The norm by which an inverse divides as the transform does by this one, and the reverse."""


def length_of(x: Array, axis: int) -> int:
    """Raises AxisError for an axis that is not there."""
    return x.shape[np.lib.array_utils.normalize_axis_index(axis, x.ndim)]


def resize(x: Array, n: int, axis: int) -> Array:
    """The first n entries along an axis, with zeros after them if there are fewer."""
    size = x.shape[axis]
    axis %= x.ndim
    if n <= size:
        return x[(*[slice(None)] * axis, slice(n))] if n < size else x
    return np.pad(x, [(0, n - size if i == axis else 0) for i in range(x.ndim)])


# -- along one axis --------------------------------------------------------------------------------


@implements(np.fft.fft)
@op
def fft(a: Array, n: int | None = None, axis: int = -1, norm: Norm = None) -> ValueAndRules:
    size = length_of(a, axis)
    return np.fft.fft(a, n, axis, norm), lambda g: resize(np.fft.fft(g, None, axis, norm), size, axis)


@implements(np.fft.ifft)
@op
def ifft(a: Array, n: int | None = None, axis: int = -1, norm: Norm = None) -> ValueAndRules:
    size = length_of(a, axis)
    return np.fft.ifft(a, n, axis, norm), lambda g: resize(np.fft.ifft(g, None, axis, norm), size, axis)


@implements(np.fft.rfft)
@op
def rfft(a: Array, n: int | None = None, axis: int = -1, norm: Norm = None) -> ValueAndRules:
    """The numbers 0 to n//2 of the transform of a real a. Its rule is the transform of g, filled with zeros
    for the numbers that `rfft` leaves out."""
    if a.dtype.kind == "c":
        raise TypeError("rfft is of real numbers, these are complex: use np.fft.fft")
    size = length_of(a, axis)
    whole = size if n is None else n
    return (
        np.fft.rfft(a, n, axis, norm),
        lambda g: resize(np.real(np.fft.fft(resize(g, whole, axis), None, axis, norm)), size, axis),
    )


@implements(np.fft.irfft)
@op
def irfft(a: Array, n: int | None = None, axis: int = -1, norm: Norm = None) -> ValueAndRules:
    """n real numbers (2 (size - 1) unless n is given) of the numbers 0 to n//2 of their transform. The
    imaginary parts of numbers that are their own partners are ignored."""
    size = length_of(a, axis)
    whole = 2 * (size - 1) if n is None else n

    def da(g: Array) -> Array:
        d = np.conj(np.fft.rfft(g, None, axis, OTHER[norm]))  # whole//2 + 1 along the axis
        twice = 2 * np.ones_like(g, shape=(d.shape[axis],))
        twice[0] = 1.0
        if whole % 2 == 0:
            twice[-1] = 1.0
        behind = (1,) * (-1 - axis if axis < 0 else d.ndim - 1 - axis)
        return resize(d * twice.reshape(-1, *behind), size, axis)

    return np.fft.irfft(a, n, axis, norm), da


@implements(np.fft.hfft)
def hfft(a: TensorLike, n: int | None = None, axis: int = -1, norm: Norm = None) -> TensorLike:
    """The real transform of numbers that are the first half of a Hermitian sequence."""
    return np.fft.irfft(np.conj(a), n, axis, other_norm(norm))


@implements(np.fft.ihfft)
def ihfft(a: TensorLike, n: int | None = None, axis: int = -1, norm: Norm = None) -> TensorLike:
    """The inverse of hfft."""
    return np.conj(np.fft.rfft(a, n, axis, other_norm(norm)))


def other_norm(norm: Norm) -> Norm:
    if norm not in OTHER:
        raise ValueError(f'norm must be "backward", "ortho" or "forward", got {norm!r}')
    return OTHER[norm]


# -- along several axes, one after the other -------------------------------------------------------


def axes_and_sizes(
    a: TensorLike, s: Sequence[int] | None, axes: Sequence[int] | None
) -> tuple[list[int], list[Any]]:
    """The axes, and for each the size to which it is cut or filled (None: as it is)."""
    if axes is None:
        axes = range(-(a.ndim if s is None else len(s)), 0)
    sizes = [None] * len(axes) if s is None else [None if n == -1 else n for n in s]
    if len(sizes) != len(axes):
        raise ValueError(f"s has {len(sizes)} sizes for {len(axes)} axes")
    return list(axes), sizes


def apply_along(
    f: Callable[..., Any], a: TensorLike, axes: Sequence[int], sizes: Sequence[Any], norm: Norm
) -> TensorLike:
    for axis, n in list(zip(axes, sizes, strict=True))[::-1]:
        a = f(a, n, axis, norm)
    return a


@implements(np.fft.fftn)
def fftn(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = None
) -> TensorLike:
    return apply_along(np.fft.fft, a, *axes_and_sizes(a, s, axes), norm)


@implements(np.fft.ifftn)
def ifftn(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = None
) -> TensorLike:
    return apply_along(np.fft.ifft, a, *axes_and_sizes(a, s, axes), norm)


@implements(np.fft.rfftn)
def rfftn(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = None
) -> TensorLike:
    """Real along the last of the axes, then complex along the others."""
    axes, sizes = axes_and_sizes(a, s, axes)
    return apply_along(np.fft.fft, np.fft.rfft(a, sizes[-1], axes[-1], norm), axes[:-1], sizes[:-1], norm)


@implements(np.fft.irfftn)
def irfftn(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: Norm = None
) -> TensorLike:
    """Complex along all axes but the last one, then real along that."""
    axes, sizes = axes_and_sizes(a, s, axes)
    first = apply_along(np.fft.ifft, a, axes[:-1][::-1], sizes[:-1][::-1], norm)
    return np.fft.irfft(first, sizes[-1], axes[-1], norm)


@implements(np.fft.fft2)
def fft2(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: Norm = None
) -> TensorLike:
    return fftn(a, s, axes, norm)


@implements(np.fft.ifft2)
def ifft2(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: Norm = None
) -> TensorLike:
    return ifftn(a, s, axes, norm)


@implements(np.fft.rfft2)
def rfft2(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: Norm = None
) -> TensorLike:
    return rfftn(a, s, axes, norm)


@implements(np.fft.irfft2)
def irfft2(
    a: TensorLike, s: Sequence[int] | None = None, axes: Sequence[int] = (-2, -1), norm: Norm = None
) -> TensorLike:
    return irfftn(a, s, axes, norm)


# -- the order of the frequencies ------------------------------------------------------------------


def roll_by(x: TensorLike, axes: Any, share: Callable[[int], int]) -> TensorLike:
    axes = tuple(range(x.ndim)) if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    return np.roll(x, tuple(share(length_of(x, i)) for i in axes), tuple(axes))


@implements(np.fft.fftshift)
def fftshift(x: TensorLike, axes: Any = None) -> TensorLike:
    """Frequency 0 in the middle."""
    return roll_by(x, axes, lambda n: n // 2)


@implements(np.fft.ifftshift)
def ifftshift(x: TensorLike, axes: Any = None) -> TensorLike:
    """Frequency 0 in front again."""
    return roll_by(x, axes, lambda n: -(n // 2))
