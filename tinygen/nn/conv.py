"""Convolution layers: the parameters of `ops/conv.py`. Weights are laid out as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

from tinygen import ops
from tinygen.nn import init
from tinygen.nn.module import Module, Parameter, cast, widen
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Size, TensorLike


class Conv(Module):
    """The base class of the layers below. The weight is (out, in/groups, *kernel), or (in, out/groups,
    *kernel) for a transposed convolution; the bias is (out). Both are initialized uniformly in
    ±1/sqrt(fan_in), with fan_in = weight.shape[1] · (size of the kernel), as in PyTorch.

    `kernel_size`, `stride`, `padding` (zeros on both sides) and `dilation` (the step from one tap of the
    kernel to the next) are one number, or one number for each axis.
    Raises ValueError when the channels cannot be split into equal groups."""

    axes: int
    op: Callable[..., Tensor]
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{in_channels} channels in and {out_channels} out cannot be split into {groups} equal groups"
            )
        kernel = (kernel_size,) * self.axes if isinstance(kernel_size, int) else kernel_size
        if len(kernel) != self.axes:
            raise ValueError(f"kernel_size must be one number or {self.axes}, got {kernel_size}")
        a, b = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (a, b // groups, *kernel)
        fan_in, _ = init.fans(shape)
        self.weight = Parameter(init.fan_in_uniform(shape, fan_in, rng=rng))
        self.bias = Parameter(init.fan_in_uniform((out_channels,), fan_in, rng=rng)) if bias else None
        self.channels = (in_channels, out_channels)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups

    def forward(self, x: TensorLike) -> Tensor:
        return self.op(
            cast(x, self.weight),
            widen(self.weight),
            widen(self.bias),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def extra_repr(self) -> str:
        kernel = self.weight.shape[2:]
        kernel_size = kernel[0] if len(set(kernel)) == 1 else kernel
        parts = [*map(str, self.channels), f"kernel_size={kernel_size}"]
        parts += [f"stride={self.stride}"] * (self.stride != 1)
        parts += [f"padding={self.padding}"] * (self.padding != 0)
        parts += [f"dilation={self.dilation}"] * (self.dilation != 1)
        parts += [f"groups={self.groups}"] * (self.groups != 1)
        parts += ["bias=False"] * (self.bias is None)
        return ", ".join(parts)


class Conv1d(Conv):
    """(N, in, L) -> (N, out, L'), L' = (L + 2·padding - dilation·(kernel - 1) - 1) // stride + 1."""

    axes, op = 1, staticmethod(ops.conv1d)


class Conv2d(Conv):
    """(N, in, H, W) -> (N, out, H', W'), H' = (H + 2·padding - dilation·(kernel - 1) - 1) // stride + 1,
    and W' by the same formula."""

    axes, op = 2, staticmethod(ops.conv2d)


class ConvTranspose1d(Conv):
    """(N, in, L) -> (N, out, L'), L' = (L - 1)·stride - 2·padding + dilation·(kernel - 1) + 1:
    Conv1d's gradient as a layer."""

    axes, op, transposed = 1, staticmethod(ops.conv_transpose1d), True


class ConvTranspose2d(Conv):
    """(N, in, H, W) -> (N, out, H', W'), H' = (H - 1)·stride - 2·padding + dilation·(kernel - 1) + 1, and
    W' by the same formula: Conv2d's gradient as a layer."""

    axes, op, transposed = 2, staticmethod(ops.conv_transpose2d), True
