"""Layer norm and group norm in blocks of rows that fit into the cache; steps are in place, layer norm's sums
are matrix products (BLAS)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.kernels.registry import are_float32, kernels
from tinygen.summation import sum_over
from tinygen.tensor import Array

BLOCK = 2**17  # floats: 512 kB, of a second-level cache


@kernels.register(ops.layer_norm)
def layer_norm(x: Array, weight: Array, bias: Array | None = None, eps: float = 1e-5) -> Any:
    if not are_float32(weight, bias):
        return NotImplemented
    channels = x.shape[-1]
    rows = x.reshape(-1, channels)  # (N, C)
    over = np.float32(1 / channels)
    average = np.empty(channels, np.float32)
    average.fill(over)
    y, xhat, inv = np.empty_like(rows), np.empty_like(rows), np.empty((len(rows), 1), np.float32)
    size = max(BLOCK // channels, 1)
    blocks = [slice(start, start + size) for start in range(0, len(rows), size)]
    for block in blocks:
        part, out, scale = rows[block], y[block], inv[block]
        hat = np.subtract(part, (part @ average)[:, None], out=xhat[block])
        np.vecdot(hat, hat, out=scale[:, 0])
        scale *= over
        scale += np.float32(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        hat *= scale
        np.multiply(hat, weight, out=out)
        if bias is not None:
            out += bias

    def backward(g: Array) -> tuple[Array, ...]:
        g, ones = g.reshape(-1, channels), np.ones(size, np.float32)
        dx, dweight, dbias = np.empty_like(rows), np.zeros_like(weight), np.zeros_like(weight)
        for block in blocks:
            part, hat, scale = g[block], xhat[block], inv[block]
            dbias += ones[: len(part)] @ part
            dweight += np.einsum("nc,nc->c", part, hat)
            d = np.multiply(part, weight, out=dx[block])
            along = np.vecdot(d, hat)
            along *= over
            d -= (d @ average)[:, None]
            d -= hat * along[:, None]
            d *= scale
        return dx.reshape(x.shape), dweight, dbias

    return y.reshape(x.shape), backward


@kernels.register(ops.group_norm)
def group_norm(x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5) -> Any:
    n, channels = x.shape[:2]
    if not are_float32(weight, bias) or channels % groups:
        return NotImplemented
    size = math.prod(x.shape[2:])
    count = channels // groups * size  # entries in a group
    x_, y = x.reshape(n, channels, size), np.empty((n, channels, size), np.float32)
    centered, inv = np.empty((n, groups, count), np.float32), np.empty((n, groups, 1), np.float32)
    some = max(BLOCK // (channels * size), 1)
    blocks = [slice(i, i + some) for i in range(0, n, some)]

    def scale_channels(values: Array) -> Array:
        """For each channel (N, C, 1), its weight times the number (N, groups, 1) of its group."""
        return (values * weight.reshape(groups, -1)).reshape(-1, channels, 1)

    for block in blocks:
        rows, scale = x_[block].reshape(-1, groups, count), inv[block]
        hat = np.subtract(rows, rows.mean(axis=-1, keepdims=True), out=centered[block])
        np.divide(np.vecdot(hat, hat)[..., None], np.float32(count), out=scale)
        scale += np.float32(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        out = np.multiply(hat.reshape(-1, channels, size), scale_channels(scale), out=y[block])
        out += bias[:, None]

    def backward(g: Array) -> tuple[Array | None, ...]:
        g, dx = g.reshape(y.shape), np.empty((n, channels, size), np.float32)
        plain, along = np.empty((2, n, channels), np.float32)  # the sums of g and of g · (x - mean)
        for block in blocks:
            part, hat, scale = g[block], centered[block].reshape(-1, channels, size), inv[block]
            np.sum(part, axis=-1, out=plain[block])
            np.vecdot(part, hat, out=along[block])
            # dx = (g · weight - mean(g · weight) - x̂ · mean(g · weight · x̂)) / √(variance + eps)
            means = [
                (sums[block] * weight).reshape(-1, groups, channels // groups).sum(-1, keepdims=True) / count
                for sums in (plain, along)
            ]
            d = np.multiply(part, scale_channels(scale), out=dx[block]).reshape(-1, groups, count)
            other = hat.reshape(-1, groups, count) * (means[1] * scale**3)
            other += means[0] * scale
            d -= other
        along *= np.repeat(inv[..., 0], channels // groups, axis=1)
        return dx.reshape(x.shape), None, sum_over(along, 0), sum_over(plain, 0)

    return y.reshape(x.shape), backward
