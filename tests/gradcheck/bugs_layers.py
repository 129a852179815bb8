"""Bugs in activations over an axis, norms, attention, losses and convolution."""

import math

import numpy as np
from planting import normal, off_zero, rng, wrong_op

from tinygen.gradcheck import Kind


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# -- softmax ---------------------------------------------------------------------------------------


@wrong_op("softmax", Kind.DETACHED, normal(3, 4))
def softmax_with_a_gradient_of_zero(x):
    return softmax(x), lambda g: np.zeros_like(g)


@wrong_op("softmax", Kind.TERM, normal(3, 4))
def softmax_without_its_sum(x):
    y = softmax(x)
    return y, lambda g: y * g


@wrong_op("softmax", None, normal(3, 4))
def softmax_with_the_diagonal_of_its_jacobian(x):
    y = softmax(x)
    return y, lambda g: g * y * (1 - y)


@wrong_op("softmax", None, normal(3, 3))
def softmax_summed_along_the_wrong_axis(x):
    y = softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=0, keepdims=True))


@wrong_op("log_softmax", Kind.TERM, normal(3, 4))
def log_softmax_that_passes_on(x):
    return np.log(softmax(x)), lambda g: g


@wrong_op("log_softmax", None, normal(3, 4))
def log_softmax_with_y_for_its_exponential(x):
    y = np.log(softmax(x))
    return y, lambda g: g - y * g.sum(axis=-1, keepdims=True)


# -- norms -----------------------------------------------------------------------------------------


def standardized(x, axis, eps=1e-5):
    centered = x - x.mean(axis=axis, keepdims=True)
    inv = 1 / np.sqrt((centered * centered).mean(axis=axis, keepdims=True) + eps)
    return centered * inv, inv


@wrong_op("layer_norm", Kind.TERM, normal(3, 5), normal(5), normal(5))
def layer_norm_without_the_mean(x, weight, bias):
    xhat, inv = standardized(x, -1)

    def dx(g):
        g = g * weight
        return inv * (g - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight + bias, dx, lambda g: g * xhat, lambda g: g


@wrong_op("layer_norm", Kind.TERM, normal(3, 5), normal(5), normal(5))
def layer_norm_without_the_variance(x, weight, bias):
    xhat, inv = standardized(x, -1)

    def dx(g):
        g = g * weight
        return inv * (g - g.mean(axis=-1, keepdims=True))

    return xhat * weight + bias, dx, lambda g: g * xhat, lambda g: g


@wrong_op("layer_norm", None, normal(3, 5), normal(5), normal(5))
def layer_norm_not_divided_by_its_deviation(x, weight, bias):
    xhat, _ = standardized(x, -1)

    def dx(g):
        g = g * weight
        return g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True)

    return xhat * weight + bias, dx, lambda g: g * xhat, lambda g: g


@wrong_op("layer_norm", None, normal(3, 5), normal(5), normal(5))
def layer_norm_with_x_for_xhat_in_its_weight(x, weight, bias):
    xhat, inv = standardized(x, -1)

    def dx(g):
        g = g * weight
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight + bias, dx, lambda g: g * x, lambda g: g


@wrong_op("rms_norm", Kind.TERM, normal(3, 5), normal(5))
def rms_norm_without_its_projection(x, weight):
    inv = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)
    return x * inv * weight, lambda g: g * weight * inv, lambda g: g * x * inv


@wrong_op("rms_norm", Kind.SLOPE, normal(3, 5), normal(5))
def rms_norm_with_another_eps_in_the_backward(x, weight):
    mean = (x * x).mean(axis=-1, keepdims=True)
    inv, other = 1 / np.sqrt(mean + 1e-3), 1 / np.sqrt(mean + 1e-6)

    def dx(g):
        g = g * weight
        return other * (g - x * other * (g * x * other).mean(axis=-1, keepdims=True))

    return x * inv * weight, dx, lambda g: g * x * inv


@wrong_op("group_norm", None, normal(2, 4, 3), normal(4))
def group_norm_back_over_all_groups(x, weight):
    xhat, _ = standardized(x.reshape(2, 2, 6), -1)
    xhat = xhat.reshape(x.shape)
    w = weight[:, None]

    def dx(g):
        whole, inv = standardized(x.reshape(2, 12), -1)
        g = (g * w).reshape(2, 12)
        d = g - g.mean(axis=-1, keepdims=True) - whole * (g * whole).mean(axis=-1, keepdims=True)
        return (inv * d).reshape(x.shape)

    return xhat * w, dx, lambda g: (g * xhat).sum(axis=(0, 2))


@wrong_op("group_norm", Kind.SUM, normal(2, 4, 3), normal(4))
def channel_bias_of_the_first_picture(x, bias):
    return x + bias[:, None], lambda g: g, lambda g: g[0].sum(axis=1)


@wrong_op("batch_norm", Kind.TERM, normal(6, 3))
def batch_norm_back_as_in_evaluation(x):
    xhat, inv = standardized(x, 0)
    return xhat, lambda g: g * inv


# -- attention -------------------------------------------------------------------------------------

Q, K, V = normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 3)


def attention_parts(q, k, v, seen=None):
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    p = softmax(scores if seen is None else np.where(seen, scores, -np.inf))
    return p, p @ v


def attention_back(g, q, k, v, p, scale):
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


@wrong_op("attention", Kind.CONSTANT, Q, K, V)
def attention_without_its_scale_in_the_backward(q, k, v):
    p, y = attention_parts(q, k, v)
    return y, lambda g: attention_back(g, q, k, v, p, 1.0)


@wrong_op("attention", Kind.CONSTANT, Q, K, V)
def attention_with_its_scale_twice(q, k, v):
    p, y = attention_parts(q, k, v)
    return y, lambda g: attention_back(g, q, k, v, p, 1 / q.shape[-1])


@wrong_op("attention", None, Q, K, V)
def attention_without_its_causal_mask_in_the_backward(q, k, v):
    _, y = attention_parts(q, k, v, np.tri(q.shape[-2], dtype=bool))
    p, _ = attention_parts(q, k, v)
    return y, lambda g: attention_back(g, q, k, v, p, 1 / math.sqrt(q.shape[-1]))


@wrong_op("attention", Kind.MASK, normal(2, 4, 4))
def causal_mask_missing_in_the_backward(scores):
    return np.where(np.tri(4, dtype=bool), scores, -30.0), lambda g: g


@wrong_op("attention", Kind.PLACE, Q, K, V)
def attention_with_queries_and_keys_swapped(q, k, v):
    p, y = attention_parts(q, k, v)

    def backward(g):
        dq, dk, dv = attention_back(g, q, k, v, p, 1 / math.sqrt(q.shape[-1]))
        return dk, dq, dv

    return y, backward


@wrong_op("attention", Kind.PLACE, Q, K, V)
def attention_with_its_weights_not_transposed(q, k, v):
    p, y = attention_parts(q, k, v)

    def backward(g):
        dq, dk, _ = attention_back(g, q, k, v, p, 1 / math.sqrt(q.shape[-1]))
        return dq, dk, p @ g

    return y, backward


@wrong_op("rope", Kind.PLACE, normal(4, 6))
def rotation_back_in_the_same_direction(x):
    angle = np.arange(4)[:, None] * np.array([1.0, 0.1, 0.01])
    c, s = np.cos(angle), np.sin(angle)

    def turned(z):
        a, b = z[:, :3], z[:, 3:]
        return np.concatenate([a * c - b * s, a * s + b * c], axis=1)

    return turned(x), turned


MASK = np.random.default_rng(5).random((4, 5)) > 0.4


@wrong_op("dropout", Kind.MASK, normal(4, 5))
def dropout_without_its_mask_in_the_backward(x):
    return x * MASK * 2.0, lambda g: g * 2.0


@wrong_op("dropout", Kind.CONSTANT, normal(4, 5))
def dropout_without_its_scale_in_the_backward(x):
    return x * MASK / 0.6, lambda g: g * MASK


@wrong_op("dropout", Kind.PLACE, normal(4, 5))
def dropout_with_its_mask_reversed_in_the_backward(x):
    return (x * MASK)[:, ::-1], lambda g: g * MASK


# -- losses ----------------------------------------------------------------------------------------

LOGITS, TARGETS = normal(4, 5), np.array([1, 0, 4, 2])


def cross_entropies(logits, targets):
    p = softmax(logits)
    return -np.log(p[np.arange(len(targets)), targets]), p, np.eye(logits.shape[-1])[targets]


@wrong_op("cross_entropy", Kind.CONSTANT, LOGITS, TARGETS)
def mean_cross_entropy_with_the_gradient_of_the_sum(logits, targets):
    losses, p, onehot = cross_entropies(logits, targets)
    return losses.mean(), lambda g: g * (p - onehot)


@wrong_op("cross_entropy", Kind.CONSTANT, LOGITS, TARGETS)
def cross_entropy_uphill(logits, targets):
    losses, p, onehot = cross_entropies(logits, targets)
    return losses, lambda g: g[:, None] * (onehot - p)


@wrong_op("cross_entropy", Kind.MASK, LOGITS, TARGETS)
def cross_entropy_without_its_target(logits, targets):
    losses, p, _ = cross_entropies(logits, targets)
    return losses, lambda g: g[:, None] * p


@wrong_op("cross_entropy", Kind.COTANGENT, LOGITS, TARGETS)
def cross_entropy_that_takes_itself_for_the_last_op(logits, targets):
    losses, p, onehot = cross_entropies(logits, targets)
    return losses.sum(), lambda g: p - onehot


@wrong_op("mse", Kind.CONSTANT, normal(3, 4), normal(3, 4))
def mse_without_its_two(x, y):
    d = x - y
    return (d * d).mean(), lambda g: g * d / d.size, lambda g: -g * d / d.size


@wrong_op("mse", Kind.CONSTANT, normal(3, 4), normal(3, 4))
def mse_with_both_of_one_sign(x, y):
    d = x - y
    return (d * d).sum(), lambda g: g * 2 * d, lambda g: g * 2 * d


@wrong_op("huber", Kind.MASK, off_zero(3, 4))
def huber_that_stays_quadratic(x):
    return np.where(np.abs(x) <= 1, 0.5 * x * x, np.abs(x) - 0.5), lambda g: g * x


@wrong_op("bce_with_logits", None, normal(3, 4), (rng.random((3, 4)) > 0.5).astype(int))
def bce_without_its_sigmoid(x, y):
    return np.log1p(np.exp(x)) - x * y, lambda g: g * (x - y)


@wrong_op("kl_gaussian", Kind.TERM, normal(3, 4), normal(3, 4))
def kl_without_its_minus_one(mean, logvar):
    y = 0.5 * (mean * mean + np.exp(logvar) - 1 - logvar).sum()
    return y, lambda g: g * mean, lambda g: g * 0.5 * np.exp(logvar)


# -- convolution and pooling -----------------------------------------------------------------------

X, W = normal(2, 3, 7), normal(4, 3, 3)


def conv1d(x, w, padding=1):
    """x (N, in, L), w (out, in, k) -> (N, out, L), and the patches that it saw."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, w.shape[-1], axis=-1)  # (N, in, L, k)
    return np.einsum("ncit,oct->noi", seen, w), seen


def spread(g, w):
    """Each entry of g (N, out, L) times the kernel, where it saw the padded map: (N, in, L + k - 1)."""
    out = np.zeros((g.shape[0], w.shape[1], g.shape[2] + w.shape[2] - 1))
    for t in range(w.shape[2]):
        out[:, :, t : t + g.shape[2]] += np.einsum("noi,oc->nci", g, w[:, :, t])
    return out


@wrong_op("conv1d", Kind.PLACE, X, W)
def conv1d_with_its_padding_off_by_one(x, w):
    y, seen = conv1d(x, w)
    return y, lambda g: spread(g, w)[:, :, :-2], lambda g: np.einsum("ncit,noi->oct", seen, g)


@wrong_op("conv1d", Kind.PLACE, X, W)
def conv1d_with_its_kernel_reversed_in_the_backward(x, w):
    y, seen = conv1d(x, w)
    flipped = w[:, :, ::-1]
    return y, lambda g: spread(g, flipped)[:, :, 1:-1], lambda g: np.einsum("ncit,noi->oct", seen, g)


@wrong_op("conv1d", Kind.PLACE, X, W)
def conv1d_with_its_weight_gradient_reversed(x, w):
    y, seen = conv1d(x, w)
    return (
        y,
        lambda g: spread(g, w)[:, :, 1:-1],
        lambda g: np.einsum("ncit,noi->oct", seen, g)[:, :, ::-1].copy(),
    )


@wrong_op("conv1d", Kind.CONSTANT, X, W)
def conv1d_with_its_weight_averaged_over_the_batch(x, w):
    y, seen = conv1d(x, w)
    return y, lambda g: spread(g, w)[:, :, 1:-1], lambda g: np.einsum("ncit,noi->oct", seen, g) / len(x)


@wrong_op("conv2d", Kind.SUM, normal(2, 3, 4, 4), normal(3))
def picture_bias_of_the_first_row(x, bias):
    return x + bias[:, None, None], lambda g: g, lambda g: g[:, :, 0].sum(axis=(0, 2))


@wrong_op("conv2d", Kind.PLACE, normal(2, 3, 4, 4), normal(3, 3))
def pointwise_conv_with_its_weight_not_transposed(x, w):
    def dw(g):
        return np.einsum("nohw,nchw->oc", g, x)

    return np.einsum("oc,nchw->nohw", w, x), lambda g: np.einsum("oc,nchw->nohw", w, g), dw


@wrong_op("avg_pool2d", Kind.CONSTANT, normal(2, 4, 6))
def avg_pool_not_divided(x):
    return x.reshape(2, 2, 2, 3, 2).mean(axis=(2, 4)), lambda g: g.repeat(2, axis=1).repeat(2, axis=2)


@wrong_op("max_pool2d", Kind.MASK, normal(2, 8))
def max_pool_for_the_whole_window(x):
    return x.reshape(2, 4, 2).max(axis=2), lambda g: g.repeat(2, axis=1)


@wrong_op("max_pool1d", Kind.MASK, np.array([0.1, 0.9, 0.3, 0.2, 0.8, 0.7]))
def max_pool_that_overwrites_shared_winners(x):
    seen = np.lib.stride_tricks.sliding_window_view(x, 2)
    winners = np.arange(5) + seen.argmax(axis=1)

    def dx(g):
        d = np.zeros_like(x)
        d[winners] = g
        return d

    return x[winners], dx


@wrong_op("upsample_nearest", Kind.SUM, normal(2, 3, 3))
def upsample_with_one_corner_of_each_block(x):
    return x.repeat(2, axis=1).repeat(2, axis=2), lambda g: g[:, ::2, ::2]
