"""Right ops at random: `FAMILIES[name](rng)` draws an op of a family, and inputs of random shape and layout.

Ranks 0 to 4, axes of size 1 to 4, broadcasting, arrays transposed, reversed and cut out. Kinks are kept away
from: a difference whose step crosses one is no derivative.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen import ops

Rng = np.random.Generator
Drawn = tuple[Callable[..., Any], tuple[Any, ...]]


def shape(rng: Rng, low: int = 0, high: int = 4, least: int = 1) -> tuple[int, ...]:
    return tuple(rng.integers(least, 5, rng.integers(low, high + 1)).tolist())


def laid_out(rng: Rng, x: np.ndarray) -> np.ndarray:
    """x in another layout: transposed, reversed, cut out of a larger array."""
    how = rng.integers(5)
    if how == 0:
        return np.asfortranarray(x)
    if how == 1 and x.ndim:
        back = (slice(None, None, -1),) * x.ndim
        return np.ascontiguousarray(x[back])[back]
    if how == 2 and x.ndim:
        large = rng.normal(size=tuple(2 * n for n in x.shape))
        large[(slice(None, None, 2),) * x.ndim] = x
        return large[(slice(None, None, 2),) * x.ndim]
    return x


def normal(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    return laid_out(rng, np.asarray(rng.normal(size=size)))


def positive(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    return laid_out(rng, np.asarray(rng.uniform(0.3, 3.0, size)))


def off_zero(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    return laid_out(rng, np.asarray(rng.uniform(0.1, 2.0, size) * rng.choice([-1.0, 1.0], size)))


def distinct(rng: Rng, size: tuple[int, ...]) -> np.ndarray:
    """No two entries closer than 0.1."""
    return laid_out(rng, rng.permutation(int(np.prod(size))).reshape(size) * 0.1 - 0.5)


def broadcastable(rng: Rng, size: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to `size`: leading axes left out, others 1."""
    kept = size[rng.integers(0, len(size) + 1) :]
    return tuple(n if rng.random() < 0.6 else 1 for n in kept)


def pick(rng: Rng, options: list[Any]) -> Any:
    return options[rng.integers(len(options))]


# -- the families ----------------------------------------------------------------------------------


def elementwise(rng: Rng) -> Drawn:
    smooth = [np.exp, np.tanh, np.sin, np.cos, np.expm1, np.square, np.negative, ops.sigmoid, ops.erf]
    f, draw = pick(
        rng,
        [(f, normal) for f in smooth]
        + [(f, positive) for f in (np.log, np.log1p, np.sqrt, np.reciprocal, ops.rsqrt)]
        + [
            (np.abs, off_zero),
            (lambda x: np.clip(x, -1.05, 1.05), lambda r, s: np.asarray(distinct(r, s) * 0.99)),
        ],
    )
    return f, (draw(rng, shape(rng)),)


def binary(rng: Rng) -> Drawn:
    size = shape(rng)
    pair = [size, broadcastable(rng, size)]
    a, b = (pair[i] for i in rng.permutation(2))
    f = pick(rng, [np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.where])
    if f is np.power:
        return f, (positive(rng, a), normal(rng, b))
    if f is np.where:
        return (lambda c, x, y: np.where(c, x, y)), (rng.random(size) > 0.5, normal(rng, a), normal(rng, b))
    return f, (normal(rng, a), off_zero(rng, b))


def reduction(rng: Rng) -> Drawn:
    size = shape(rng, 1)
    f, draw = pick(
        rng,
        [
            *[(f, normal) for f in (np.sum, np.mean, ops.logsumexp)],
            *[(f, distinct) for f in (np.max, np.min, np.var)],
        ],
    )
    axes = rng.permutation(len(size))[: rng.integers(1, len(size) + 1)]
    axis = pick(rng, [None, tuple(int(a) for a in axes), int(axes[0])])
    keepdims = bool(rng.random() < 0.5)
    return (lambda x: f(x, axis=axis, keepdims=keepdims)), (draw(rng, size),)


def shapes(rng: Rng) -> Drawn:
    size = shape(rng, 1)
    order = tuple(rng.permutation(len(size)).tolist())
    axis = int(rng.integers(len(size)))
    n = int(rng.integers(1, 4))
    f = pick(
        rng,
        [
            lambda x: np.transpose(x, order),
            lambda x: np.reshape(x, (-1, *x.shape[:axis])),
            lambda x: np.flip(x, axis),
            lambda x: np.roll(x, n, axis),
            lambda x: np.pad(x, ((n, 1),) * x.ndim),
            lambda x: np.repeat(x, n, axis),
            lambda x: np.tile(x, (n, *[1] * (x.ndim - 1))),
            lambda x: np.broadcast_to(x, (n, *x.shape)),
            lambda x: np.concatenate([x, 2 * x], axis),
            lambda x: np.stack([x, x * x], axis),
            lambda x: tuple(np.split(x, [1], axis)),
            lambda x: np.cumsum(x, axis),
            lambda x: np.expand_dims(x, axis),
            lambda x: np.swapaxes(x, axis, 0),
        ],
    )
    return f, (normal(rng, size),)


def indexing(rng: Rng) -> Drawn:
    size = shape(rng, 1)
    n = size[0]
    ids = rng.integers(-n, n, shape(rng, 0, 2))
    f = pick(
        rng,
        [
            lambda x, i: x[i],
            lambda x, i: x[i, ..., None],
            lambda x, i: np.take(x, i, 0),
            lambda x, i: x[::-1] * x[i.flat[0]],
            lambda x, i: ops.scatter_add(x, np.resize(i, n) % 3, (3, *size[1:])),
        ],
    )
    return f, (normal(rng, size), ids)


def products(rng: Rng) -> Drawn:
    n, k, m = rng.integers(1, 5, 3).tolist()
    batch = shape(rng, 0, 2)
    kind = rng.integers(4)
    if kind == 0:
        a, b = (*batch, n, k), (*broadcastable(rng, batch), k, m)
        return np.matmul, (normal(rng, a), normal(rng, b))
    if kind == 1:
        a, b = pick(rng, [((k,), (*batch, k, m)), ((*batch, n, k), (k,)), ((k,), (k,))])
        return np.matmul, (normal(rng, a), normal(rng, b))
    if kind == 2:
        return ops.linear, (normal(rng, (*batch, n, k)), normal(rng, (m, k)), normal(rng, (m,)))
    return (lambda a, b: np.einsum("ijk,kl->lij", a, b)), (normal(rng, (n, 2, k)), normal(rng, (k, m)))


def activations(rng: Rng) -> Drawn:
    size = shape(rng, 1)
    axis = int(rng.integers(-len(size), len(size)))
    f, draw = pick(
        rng,
        [
            (ops.relu, off_zero),
            (ops.leaky_relu, off_zero),
            (ops.gelu, normal),
            (lambda x: ops.gelu(x, "tanh"), normal),
            (ops.silu, normal),
            (ops.softplus, off_zero),
            (lambda x: ops.softmax(x, axis), normal),
            (lambda x: ops.log_softmax(x, axis), normal),
            (lambda x: ops.dropout(x, 0.4, np.random.default_rng(3)), normal),
        ],
    )
    return f, (draw(rng, size),)


def norms(rng: Rng) -> Drawn:
    batch, c = shape(rng, 0, 2), int(rng.integers(2, 5))
    positions = shape(rng, 0, 2)
    weight, bias = normal(rng, (c,)), normal(rng, (c,))
    kind = rng.integers(4)
    if kind == 0:
        return ops.layer_norm, (distinct(rng, (*batch, c)) * 3, weight, bias)
    if kind == 1:
        return ops.rms_norm, (off_zero(rng, (*batch, c)), weight)
    if kind == 2:
        return (lambda x, w, b: ops.group_norm(x, 1, w, b)), (
            distinct(rng, (2, c, *positions)) * 3,
            weight,
            bias,
        )
    return ops.batch_norm, (distinct(rng, (3, c, *positions)), weight, bias)


def attention(rng: Rng) -> Drawn:
    t, s, d, e = rng.integers(1, 4, 4).tolist()
    batch = shape(rng, 0, 2)
    s = max(s, t)
    causal = bool(rng.random() < 0.5)
    mask = rng.random((t, s)) < 0.7 if rng.random() < 0.3 else None
    arrays = (normal(rng, (*batch, t, d)), normal(rng, (*batch, s, d)), normal(rng, (*batch, s, e)))
    return (lambda q, k, v: ops.attention(q, k, v, mask, causal)), arrays


def losses(rng: Rng) -> Drawn:
    size = shape(rng, 1)
    reduction = pick(rng, ["mean", "sum", "none"])
    kind = rng.integers(6)
    if kind == 0:
        targets = rng.integers(0, size[-1], size[:-1])
        return (lambda x, t: ops.cross_entropy(x, t, reduction=reduction)), (normal(rng, size), targets)
    if kind == 1:
        f = lambda x, t: ops.bce_with_logits(x, t, reduction)
        return f, (off_zero(rng, size), rng.random(size))
    if kind == 2:
        return (lambda m, v: ops.kl_gaussian(m, v, reduction)), (normal(rng, size), normal(rng, size))
    f = pick(rng, [ops.mse, ops.l1, lambda x, y, r: ops.huber(x, y, 0.555, r)])
    x = distinct(rng, size)
    return (lambda x, y: f(x, y, reduction=reduction) if f in (ops.mse, ops.l1) else f(x, y, reduction)), (
        x,
        np.asarray(x + off_zero(rng, size)),
    )


def convolution(rng: Rng) -> Drawn:
    axes = int(rng.integers(1, 3))
    n, groups, kernel = 1, int(rng.integers(1, 3)), tuple(rng.integers(1, 4, axes).tolist())
    stride, padding, dilation = (
        tuple(rng.integers(a, b, axes).tolist()) for a, b in ((1, 3), (0, 2), (1, 3))
    )
    size = tuple((k - 1) * d + int(rng.integers(1, 3)) for k, d in zip(kernel, dilation, strict=True))
    x = normal(rng, (n, groups, *size))
    w = normal(rng, (2 * groups, 1, *kernel))
    f = ops.conv1d if axes == 1 else ops.conv2d
    return (lambda x, w, b: f(x, w, b, stride, padding, dilation, groups)), (x, w, normal(rng, (2 * groups,)))


def pooling(rng: Rng) -> Drawn:
    kernel = tuple(rng.integers(1, 4, 2).tolist())
    stride = tuple(rng.integers(1, 4, 2).tolist())
    size = tuple(k + int(rng.integers(0, 3)) for k in kernel)
    f, draw = pick(
        rng,
        [
            (lambda x: ops.avg_pool2d(x, kernel, stride), normal),
            (lambda x: ops.max_pool2d(x, kernel, stride), distinct),
            (lambda x: ops.upsample_nearest(x, kernel[0]), normal),
        ],
    )
    return f, (draw(rng, (1, 2, *size)),)


FAMILIES: dict[str, Callable[[Rng], Drawn]] = {
    f.__name__: f
    for f in [
        *(elementwise, binary, reduction, shapes, indexing, products),
        *(activations, norms, attention, losses, convolution, pooling),
    ]
}
