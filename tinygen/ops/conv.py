"""Convolution over maps of one or two axes, and its transpose.

LeCun et al. 1989, *Backpropagation applied to handwritten zip code recognition*; Dumoulin & Visin 2016
(arXiv:1603.07285) for the sizes. As usual in deep learning, "convolution" means cross-correlation: the kernel
is not flipped.

    y[n, o, i] = Σ_{c, t} weight[o, c, t] · x[n, c, i · stride + t · dilation - padding]

Entries of x outside of the map are 0; i runs over the positions of the kernel and t over its taps (entries),
which are pairs in 2-D. <y, convolution(x, weight)> is linear in each of the three arrays, and its gradient by
each one is an op of the other two: `convolution` by y, `transposed_convolution` by x, `correlation` by the
weight. The gradients of these three ops are these three ops again, which gives derivatives of all orders.

On arrays each of them is one matrix product with the columns of `unfold` (im2col). The columns need the
memory of prod(kernel) maps, so backward computes them again instead of keeping them.
"""

from __future__ import annotations

import math

from tinygen.ops.window import Geometry, Sizes, check_fit, fold, geometry_of, sizes_of_axes, unfold
from tinygen.summation import sum_over
from tinygen.tape import in_replay, op, show_as
from tinygen.tensor import Array, Tensor
from tinygen.types import Size, TensorLike, ValueAndRules

__all__ = ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"]


def channel_rows(x: Array, groups: int) -> Array:
    """One row per channel: (N, C, *size) -> (groups, C/groups, N · positions)."""
    n, channels, *size = x.shape
    return x.swapaxes(0, 1).reshape(groups, channels // groups, n * math.prod(size))


def kernel_rows(weight: Array, groups: int) -> Array:
    """One row per kernel: (out, in/groups, *kernel) -> (groups, out/groups, in/groups · taps)."""
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))


# -- the three ops ---------------------------------------------------------------------------------


@show_as(lambda x: f"conv{len(x.shape) - 2}d")
@op
def convolution(x: Array, weight: Array, bias: Array | None, geometry: Geometry) -> ValueAndRules:
    """x (N, in, *size), weight (out, in/groups, *kernel), bias (out) -> (N, out, *positions)."""
    size, kernel, groups = x.shape[2:], weight.shape[2:], geometry.groups
    if in_replay(x, weight, bias):
        y = convolution(x, weight, bias, geometry)
    else:
        y = kernel_rows(weight, groups) @ unfold(x, kernel, geometry)  # (groups, out/groups, N · positions)
        if bias is not None:
            y += bias.reshape(groups, -1, 1)
        positions = geometry.positions(size, kernel)
        y = y.reshape(weight.shape[0], x.shape[0], *positions).swapaxes(0, 1).copy()
    return (
        y,
        lambda g: transposed_convolution(g, weight, None, size, geometry),
        lambda g: correlation(x, g, kernel, geometry),
        sum_over_positions,
    )


@show_as(lambda y: f"conv_transpose{len(y.shape) - 2}d")
@op
def transposed_convolution(
    y: Array, weight: Array, bias: Array | None, size: Sizes, geometry: Geometry
) -> ValueAndRules:
    """For each entry of y (N, out, *positions), the kernel scaled by it is added where `convolution` read its
    input: -> (N, in, *size). The weight has the layout of `convolution`, (out, in/groups, *kernel); bias
    (in)."""
    kernel, groups = weight.shape[2:], geometry.groups
    if in_replay(y, weight, bias):
        x = transposed_convolution(y, weight, bias, size, geometry)
    else:
        columns = kernel_rows(weight, groups).swapaxes(-1, -2) @ channel_rows(y, groups)
        x = fold(columns, y.shape[0], size, kernel, geometry)
        if bias is not None:
            x += bias.reshape(-1, *[1] * len(size))
    return (
        x,
        lambda g: convolution(g, weight, None, geometry),
        lambda g: correlation(g, y, kernel, geometry),
        sum_over_positions,
    )


@op
def correlation(x: Array, y: Array, kernel: Sizes, geometry: Geometry) -> ValueAndRules:
    """The weight's gradient: for each tap, the entries of x (N, in, *size) that it read, times y (N, out,
    *positions), summed over the batch and all positions: -> (out, in/groups, *kernel)."""
    size, groups = x.shape[2:], geometry.groups
    if in_replay(x, y):
        weight = correlation(x, y, kernel, geometry)
    else:
        weight = channel_rows(y, groups) @ unfold(x, kernel, geometry).swapaxes(-1, -2)
        weight = weight.reshape(y.shape[1], x.shape[1] // groups, *kernel)
    return (
        weight,
        lambda g: transposed_convolution(y, g, None, size, geometry),
        lambda g: convolution(x, g, None, geometry),
    )


def sum_over_positions(g: Array) -> Array:
    """The gradient of a bias: (N, C, *size) -> (C)."""
    return sum_over(g, (0, *range(2, g.ndim)))


# -- the functions to call -------------------------------------------------------------------------


def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, in, L), weight (out, in/groups, k), bias (out) -> (N, out, L'): `conv2d` along one axis."""
    return conv_nd("conv1d", x, weight, bias, geometry_of("conv1d", 1, stride, padding, dilation, groups))


def conv2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, in, H, W), weight (out, in/groups, kh, kw), bias (out) -> (N, out, H', W') with

        H' = (H + 2·padding - dilation·(kh - 1) - 1) // stride + 1, and W' likewise.

    `stride`, `padding` (zeros on both sides) and `dilation` are one number, or one for each axis. The
    channels are split into `groups`, and each group is convolved separately. Raises ValueError when shapes
    and numbers do not fit.

    Eq.: y[n, o, i, j] = Σ_{c, k, l} w[o, c, k, l] x[n, c, i·s + k·d - p, j·s + l·d - p] + b[o]
        (Goodfellow et al. 2016, eq. 9.6 and 9.8)
    Held by: tests/ops/test_conv.py::test_the_definition
    """
    return conv_nd("conv2d", x, weight, bias, geometry_of("conv2d", 2, stride, padding, dilation, groups))


def conv_transpose1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """x (N, in, L), weight (in, out/groups, k), bias (out) -> (N, out, L'): `conv_transpose2d` along one
    axis."""
    geometry = geometry_of("conv_transpose1d", 1, stride, padding, dilation, groups)
    return conv_transpose_nd("conv_transpose1d", x, weight, bias, geometry, output_padding)


def conv_transpose2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """x (N, in, H, W), weight (in, out/groups, kh, kw), bias (out) -> (N, out, H', W') with

        H' = (H - 1)·stride - 2·padding + dilation·(kh - 1) + 1 + output_padding, and W' likewise:

    `conv2d` with the same weight and numbers, transposed as a linear map. With a stride, several input sizes
    H' give the same output size H; `output_padding` (less than the stride) selects one.
    Raises ValueError when shapes and numbers do not fit."""
    geometry = geometry_of("conv_transpose2d", 2, stride, padding, dilation, groups)
    return conv_transpose_nd("conv_transpose2d", x, weight, bias, geometry, output_padding)


def conv_nd(name: str, x: TensorLike, weight: TensorLike, bias: TensorLike, geometry: Geometry) -> Tensor:
    check_shapes(name, x, weight, bias, geometry, "out, in/groups")
    what = f"{name}: x has shape {x.shape}, weight {weight.shape}"
    check_fit(what, x.shape[2:], weight.shape[2:], geometry)
    return convolution(x, weight, bias, geometry)


def conv_transpose_nd(
    name: str, x: TensorLike, weight: TensorLike, bias: TensorLike, geometry: Geometry, output_padding: Size
) -> Tensor:
    check_shapes(name, x, weight, bias, geometry, "in, out/groups")
    extra = sizes_of_axes(name, "output_padding", output_padding, x.ndim - 2, 0)
    if any(e >= s for e, s in zip(extra, geometry.stride, strict=True)):
        raise ValueError(f"{name}: output_padding {extra} must be less than the stride {geometry.stride}")
    size = geometry.size(x.shape[2:], weight.shape[2:], extra)
    if min(size) < 1:
        raise ValueError(
            f"{name}: x has shape {x.shape}, weight {weight.shape}: cutting off the padding "
            f"{geometry.padding} leaves {size} of the map that comes out: use less padding"
        )
    return transposed_convolution(x, weight, bias, size, geometry)


def check_shapes(
    name: str, x: TensorLike, weight: TensorLike, bias: TensorLike, geometry: Geometry, names: str
) -> None:
    """Raises ValueError unless the arrays fit. `names` are the weight's first two axes: "in, out/groups" when
    it is transposed."""
    shapes = f"{name}: x has shape {x.shape}, weight {weight.shape}"
    ndim, groups = len(geometry.stride) + 2, geometry.groups
    if not x.ndim == weight.ndim == ndim:
        raise ValueError(
            f"{shapes}: both need {ndim} axes, x (N, in, *size), x[None] for a batch of one, and "
            f"weight ({names}, *kernel)"
        )
    channels = (weight.shape[0], weight.shape[1] * groups)
    enter, leave = channels if names.startswith("in") else channels[::-1]
    if weight.shape[0] % groups:
        raise ValueError(f"{shapes}: {weight.shape[0]} channels cannot be split into {groups} equal groups")
    if x.shape[1] != enter:
        raise ValueError(
            f"{shapes}: with groups={groups} this weight ({names}, *kernel) is for {enter} channels, "
            f"x has {x.shape[1]}"
        )
    if bias is not None and bias.shape != (leave,):
        raise ValueError(f"{shapes}: bias must have shape {(leave,)}, got {bias.shape}")
