# ruff: noqa: E501 (a case is one line)
"""Cases of convolution, pooling and upsampling."""

from typing import Any

import numpy as np
from optable import Case, distinct, normal

from tinygen import ops

try:
    import torch.nn.functional as F
except ImportError:
    F = None


def conv(op: str, what: str, x: np.ndarray, w: np.ndarray, bias: bool = False, **numbers: Any) -> Case:
    """`numbers` are those that torch's function of the same name takes."""
    transposed, groups = "transpose" in op, numbers.get("groups", 1)
    out = w.shape[1] * groups if transposed else w.shape[0]
    return Case(
        f"{op}-{what}",
        lambda x, w, b=None: getattr(ops, op)(x, w, b, **numbers),
        (x, w, normal(out)) if bias else (x, w),
        lambda x, w, b=None: getattr(F, op)(x, w, b, **numbers),
    )


CONV = [
    conv("conv1d", "bias", normal(2, 2, 4), normal(2, 2, 3), bias=True),
    conv("conv1d", "all numbers", normal(1, 2, 8), normal(4, 1, 3), bias=True, stride=3, padding=2, dilation=2, groups=2),
    conv("conv1d", "tuples", normal(1, 1, 5), normal(2, 1, 2), stride=(2,), padding=(1,), dilation=(1,)),
    conv("conv2d", "bias", normal(2, 2, 3, 3), normal(2, 2, 2, 2), bias=True),
    conv("conv2d", "padding", normal(1, 2, 2, 3), normal(1, 2, 3, 3), bias=True, padding=1),
    conv("conv2d", "padding for each axis", normal(1, 1, 2, 3), normal(1, 1, 3, 2), padding=(2, 0)),
    conv("conv2d", "stride", normal(1, 1, 4, 5), normal(2, 1, 2, 2), stride=2),
    conv("conv2d", "stride that leaves rows out", normal(1, 1, 6, 4), normal(1, 1, 1, 2), stride=(4, 3)),
    conv("conv2d", "dilation", normal(1, 1, 5, 4), normal(1, 1, 2, 2), dilation=(3, 2)),
    conv("conv2d", "groups", normal(2, 4, 2, 2), normal(2, 2, 2, 1), bias=True, groups=2),
    conv("conv2d", "depthwise", normal(1, 3, 3, 2), normal(6, 1, 2, 2), groups=3),
    conv("conv2d", "all numbers", normal(1, 4, 4, 5), normal(2, 2, 2, 3), bias=True, stride=(2, 1), padding=(1, 2), dilation=(3, 2), groups=2),
    conv("conv2d", "1 by 1", normal(2, 3, 2, 1), normal(2, 3, 1, 1)),
    conv("conv2d", "a map of one", normal(2, 2, 1, 1), normal(2, 2, 1, 1), bias=True),
    conv("conv2d", "a map of one in padding", normal(1, 2, 1, 1), normal(1, 2, 3, 3), padding=1),
    conv("conv2d", "the kernel as large as the map", normal(2, 1, 3, 2), normal(2, 1, 3, 2)),
    conv("conv2d", "no samples", normal(0, 2, 3, 3), normal(2, 2, 2, 2), bias=True),
    conv("conv2d", "transposed", normal(3, 3, 2, 2).T, normal(2, 2, 1, 2).swapaxes(0, 3)),
    conv("conv2d", "reversed", normal(1, 2, 3, 3)[:, ::-1, ::-1], normal(2, 2, 2, 2)[..., ::-1]),
    conv("conv2d", "cut out", normal(2, 2, 4, 5)[1:, :, 1:, ::2], normal(2, 4, 2, 2)[:, ::2], bias=True, padding=1),
    conv("conv2d", "stride 0", np.broadcast_to(normal(1, 3, 1), (2, 2, 3, 2)), np.broadcast_to(normal(2, 1), (1, 2, 2, 2))),
    Case("conv2d-the same tensor twice", lambda x: ops.conv2d(x, x), (normal(2, 2, 2, 2),), lambda x: F.conv2d(x, x)),
    Case("conv2d-of an array", lambda w: ops.conv2d(np.ones_like(w, shape=(1, 2, 3, 3)), w), (normal(1, 2, 2, 2),), lambda w: F.conv2d(w.new_ones(1, 2, 3, 3), w)),
    conv("conv_transpose1d", "bias", normal(2, 2, 3), normal(2, 2, 2), bias=True),
    conv("conv_transpose1d", "all numbers", normal(1, 2, 4), normal(2, 2, 3), bias=True, stride=3, padding=2, output_padding=1, groups=2, dilation=2),
    conv("conv_transpose2d", "bias", normal(2, 2, 2, 2), normal(2, 1, 2, 2), bias=True),
    conv("conv_transpose2d", "padding", normal(1, 1, 3, 2), normal(1, 2, 3, 3), padding=(1, 0)),
    conv("conv_transpose2d", "stride", normal(1, 1, 2, 2), normal(1, 2, 3, 2), stride=(2, 3)),
    conv("conv_transpose2d", "output_padding", normal(1, 1, 2, 2), normal(1, 1, 2, 2), stride=(2, 3), output_padding=(1, 2)),
    conv("conv_transpose2d", "groups", normal(1, 4, 2, 1), normal(4, 1, 2, 2), bias=True, groups=2),
    conv("conv_transpose2d", "all numbers", normal(1, 2, 3, 2), normal(2, 1, 2, 3), bias=True, stride=(2, 3), padding=(1, 2), output_padding=(1, 2), groups=2, dilation=(2, 1)),
    conv("conv_transpose2d", "a map of one", normal(2, 2, 1, 1), normal(2, 2, 2, 1), bias=True),
    conv("conv_transpose2d", "no samples", normal(0, 2, 2, 2), normal(2, 1, 2, 2), bias=True),
    conv("conv_transpose2d", "strides", normal(2, 2, 2, 2).T, normal(4, 2, 2, 2)[::2, :, ::-1]),
]  # fmt: skip

POOL = [
    Case("avg_pool2d", lambda x: ops.avg_pool2d(x, 2), (normal(2, 2, 2, 4),), lambda x: F.avg_pool2d(x, 2)),
    Case("avg_pool2d-overlapping", lambda x: ops.avg_pool2d(x, (2, 3), 1), (normal(1, 2, 3, 4),), lambda x: F.avg_pool2d(x, (2, 3), 1)),
    Case("avg_pool2d-padding", lambda x: ops.avg_pool2d(x, 3, (2, 1), 1), (normal(1, 2, 4, 3),), lambda x: F.avg_pool2d(x, 3, (2, 1), 1)),
    Case("avg_pool2d-rows left over", lambda x: ops.avg_pool2d(x, 2), (normal(1, 2, 3, 5),), lambda x: F.avg_pool2d(x, 2)),
    Case("avg_pool2d-no samples", lambda x: ops.avg_pool2d(x, 2), (normal(0, 2, 2, 2),), lambda x: F.avg_pool2d(x, 2)),
    Case("avg_pool2d-strides", lambda x: ops.avg_pool2d(x, 2), (normal(2, 4, 1, 2).T[:, :, ::-1],), lambda x: F.avg_pool2d(x, 2)),
    Case("max_pool1d", lambda x: ops.max_pool1d(x, 2), (distinct(2, 2, 5),), lambda x: F.max_pool1d(x, 2)),
    Case("max_pool1d-padding", lambda x: ops.max_pool1d(x, 3, 2, 1), (distinct(2, 2, 5),), lambda x: F.max_pool1d(x, 3, 2, 1)),
    Case("max_pool2d", lambda x: ops.max_pool2d(x, 2), (distinct(2, 2, 2, 4),), lambda x: F.max_pool2d(x, 2)),
    Case("max_pool2d-overlapping", lambda x: ops.max_pool2d(x, (2, 3), 1), (distinct(1, 2, 3, 4),), lambda x: F.max_pool2d(x, (2, 3), 1)),
    Case("max_pool2d-padding", lambda x: ops.max_pool2d(x, 3, (2, 1), 1), (distinct(1, 2, 4, 3) - 5,), lambda x: F.max_pool2d(x, 3, (2, 1), 1)),
    Case("max_pool2d-gaps", lambda x: ops.max_pool2d(x, 1, 2), (distinct(1, 2, 3, 4),), lambda x: F.max_pool2d(x, 1, 2)),
    Case("max_pool2d-no samples", lambda x: ops.max_pool2d(x, 2), (distinct(0, 2, 2, 2),), lambda x: F.max_pool2d(x, 2)),
    Case("max_pool2d-strides", lambda x: ops.max_pool2d(x, 2), (distinct(2, 4, 1, 2).T[:, :, ::-1],), lambda x: F.max_pool2d(x, 2)),
    Case("upsample_nearest", lambda x: ops.upsample_nearest(x, 2), (normal(2, 2, 1, 2),), lambda x: F.interpolate(x, scale_factor=2)),
    Case("upsample_nearest-3", lambda x: ops.upsample_nearest(x, 3), (normal(1, 2, 2, 1),), lambda x: F.interpolate(x, scale_factor=3)),
    Case("upsample_nearest-1", lambda x: ops.upsample_nearest(x, 1), (normal(1, 2, 2, 1),), lambda x: x * 1),
    Case("upsample_nearest-no samples", lambda x: ops.upsample_nearest(x, 2), (normal(0, 2, 2, 1),), lambda x: F.interpolate(x, scale_factor=2)),
    Case("upsample_nearest-strides", lambda x: ops.upsample_nearest(x, 2), (normal(2, 2, 1, 2).T[:, :, ::-1],), lambda x: F.interpolate(x, scale_factor=2)),
]  # fmt: skip
