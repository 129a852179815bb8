"""Mistakes in layers and losses, written to improve the diagnosis on."""

import numpy as np
from users_planting import attention_back, normal, positive, sigmoid, softmax, spread, standardized, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("softmax_cross_entropy", (Kind.TERM, Kind.MASK), normal(4, 5), softmax(normal(4, 5)))
def soft_targets_without_the_gradient_of_targets_normalizer(logits, targets):
    """Targets are normalized inside; their gradient forgets it."""
    p = softmax(logits)
    total = targets.sum(axis=1, keepdims=True)
    t = targets / total
    return (
        -(t * np.log(p)).sum(axis=1),
        lambda g: g[:, None] * (p - t),
        lambda g: -g[:, None] * np.log(p) / total,
    )


@wrong_op("z_loss", Kind.SLOPE, normal(4, 5))
def z_loss_without_the_logarithm_in_its_slope(x):
    z = np.log(np.exp(x).sum(axis=1))
    return z * z, lambda g: 2 * g[:, None] * softmax(x)


@wrong_op("elbo", Kind.CONSTANT, normal(3, 2), normal(3, 2))
def kl_with_the_wrong_sign_for_its_mean(mean, logvar):
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)
    return -kl, lambda g: g[:, None] * mean, lambda g: -0.5 * g[:, None] * (np.exp(logvar) - 1)


@wrong_op(
    "contrastive",
    Kind.MASK,
    np.array([0.2, 0.5, 1.4, 1.8, 0.9]),
    np.array([1, 0, 1, 0, 0]),
)
def contrastive_margin_without_its_limit(d, same):
    y = np.where(same, d * d, np.maximum(1 - d, 0) ** 2)
    return y, lambda g: g * np.where(same, 2 * d, -2 * (1 - d))


@wrong_op("wasserstein", Kind.PLACE, spread(6), spread(6))
def sorted_distance_without_its_order(a, b):
    """The distance of sorted samples; the gradient is given in sorted order."""
    i, j = np.argsort(a), np.argsort(b)
    d = a[i] - b[j]

    def db(g):
        out = np.zeros(6)
        out[j] = -2 * g * d
        return out

    return d * d, lambda g: 2 * g * d, db


@wrong_op("focal", Kind.TERM, positive(3, 4) / 2.5)
def focal_loss_of_probabilities_by_its_first_term(p):
    return -((1 - p) ** 2) * np.log(p), lambda g: g * 2 * (1 - p) * np.log(p)


@wrong_op(
    "mean_iou",
    (Kind.TERM, Kind.CONSTANT),
    positive(2, 5) / 2,
    np.arange(10).reshape(2, 5) % 2,
)
def soft_iou_with_a_plus_in_the_quotient_rule(p, y):
    a, b = (p * y).sum(axis=1), (p + y - p * y).sum(axis=1)
    return a / b, lambda g: g[:, None] * (y / b[:, None] + (a / b**2)[:, None] * (1 - y))


@wrong_op("group_norm", Kind.CONSTANT, normal(2, 4, 3), normal(4))
def group_norm_weight_by_the_mean_over_positions(x, weight):
    xhat, _ = standardized(x.reshape(2, 2, 6), -1)
    xhat = xhat.reshape(x.shape)

    def dx(g):
        h, inv = standardized(x.reshape(2, 2, 6), -1)
        g = (g * weight[:, None]).reshape(2, 2, 6)
        d = g - g.mean(axis=-1, keepdims=True) - h * (g * h).mean(axis=-1, keepdims=True)
        return (inv * d).reshape(x.shape)

    return xhat * weight[:, None], dx, lambda g: (g * xhat).sum(axis=0).mean(axis=1)


@wrong_op("layer_norm", Kind.SLOPE, normal(3, 5), positive(5))
def layer_norm_that_forgets_its_weight_on_the_way_back(x, weight):
    xhat, inv = standardized(x, -1)

    def dx(g):
        return inv * (g - g.mean(axis=-1, keepdims=True) - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return xhat * weight, dx, lambda g: (g * xhat).sum(axis=0)


@wrong_op("batch_norm", (Kind.TERM, Kind.SUM), normal(5, 3))
def batch_norm_with_statistics_of_everything_in_the_backward(x):
    xhat, inv = standardized(x, 0)
    return xhat, lambda g: inv * (g - g.mean() - xhat * (g * xhat).mean())


@wrong_op("rms_norm", (Kind.SLOPE, Kind.TERM, Kind.CONSTANT), normal(3, 4))
def rms_norm_with_one_more_in_its_count(x):
    inv = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True))
    y = x * inv
    return y, lambda g: inv * (g - y * (g * y).sum(axis=-1, keepdims=True) / 5)


@wrong_op(
    "attention",
    Kind.PLACE,
    normal(2, 4, 3),
    normal(2, 4, 3),
    normal(2, 4, 3),
)
def anticausal_mask_on_the_way_back(q, k, v):
    s = q @ k.swapaxes(-1, -2)
    low = np.tri(4, dtype=bool)
    p = softmax(np.where(low, s, -1e9))
    return p @ v, lambda g: attention_back(g, q, k, v, softmax(np.where(low.T, s, -1e9)), 1.0)


@wrong_op("attention", (Kind.TERM, Kind.DETACHED), normal(4, 3))
def self_attention_whose_queries_alone_learn(x):
    p = softmax(x @ x.T)

    def dx(g):
        dp = g @ x.T
        return (p * (dp - (dp * p).sum(axis=-1, keepdims=True))) @ x

    return p @ x, dx


@wrong_op("attention", (Kind.PLACE, Kind.MASK), normal(5, 5))
def causal_scores_whose_diagonal_is_masked_on_the_way_back(s):
    low = np.tri(5, dtype=bool)
    return np.where(low, s, 0.0), lambda g: g * np.tri(5, k=-1)


@wrong_op("kv_cache", (Kind.TERM, Kind.MASK, Kind.DETACHED, Kind.SUM), normal(6, 2), normal(3, 2))
def cached_keys_that_only_learn_from_the_last_queries(k, q):
    return q @ k.T, lambda g: np.concatenate([np.zeros((3, 2)), (g.T @ q)[3:]]), lambda g: g @ k


@wrong_op("rope", (Kind.CONSTANT, Kind.MASK, Kind.PLACE), normal(3, 4))
def rotation_with_one_sign_of_its_transpose(x):
    angle = np.arange(1, 4)[:, None] * np.array([1.0, 0.3])
    c, s = np.cos(angle), np.sin(angle)
    a, b = x[:, :2], x[:, 2:]
    y = np.concatenate([a * c - b * s, a * s + b * c], axis=1)

    def dx(g):
        a, b = g[:, :2], g[:, 2:]
        return np.concatenate([a * c + b * s, a * s + b * c], axis=1)

    return y, dx


@wrong_op("conv2d", Kind.PLACE, normal(1, 5, 5), normal(3, 3))
def same_conv_whose_gradient_is_cut_at_the_corner(x, w):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))

    def dx(g):
        d = np.zeros_like(padded)
        for i in range(3):
            for j in range(3):
                d[:, i : i + 5, j : j + 5] += w[i, j] * g
        return d[:, :-2, :-2]

    return np.einsum("nhwij,ij->nhw", seen, w), dx, lambda g: np.einsum("nhwij,nhw->ij", seen, g)


@wrong_op("conv_transpose1d", Kind.PLACE, normal(2, 4), normal(3))
def conv_transpose_with_a_flipped_kernel_back(x, w):
    y = np.zeros((2, 6))
    for t in range(3):
        y[:, t : t + 4] += w[t] * x
    return (
        y,
        lambda g: sum(w[2 - t] * g[:, t : t + 4] for t in range(3)),
        lambda g: np.array([(g[:, t : t + 4] * x).sum() for t in range(3)]),
    )


@wrong_op(
    "depthwise_conv",
    (Kind.SLOPE, Kind.SUM),
    normal(2, 3, 5),
    normal(3, 2),
)
def depthwise_conv_back_with_the_kernel_of_the_first_channel(x, w):
    y = w[:, :1] * x[:, :, :-1] + w[:, 1:] * x[:, :, 1:]

    def dx(g):
        d = np.zeros_like(x)
        d[:, :, :-1] += w[0, 0] * g
        d[:, :, 1:] += w[0, 1] * g
        return d

    def dw(g):
        return np.stack([(g * x[:, :, t : t + 4]).sum(axis=(0, 2)) for t in range(2)], axis=1)

    return y, dx, dw


@wrong_op("avg_pool2d", (Kind.SUM, Kind.MASK, Kind.TERM), normal(1, 4, 4))
def avg_pool_that_pays_the_corner_of_each_window(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, ::2, ::2] = g / 4
        return d

    return x.reshape(1, 2, 2, 2, 2).mean(axis=(2, 4)), dx


@wrong_op("global_pool", (Kind.PLACE, Kind.MASK), spread(3, 5))
def argmax_pool_that_pays_the_smallest(x):
    low = x == x.min(axis=1, keepdims=True)
    return x.max(axis=1), lambda g: g[:, None] * low


@wrong_op("squeeze_excite", (Kind.TERM, Kind.DETACHED), normal(2, 3, 4))
def squeeze_and_excite_with_a_constant_gate(x):
    s = sigmoid(x.mean(axis=2, keepdims=True))
    return x * s, lambda g: g * s


@wrong_op("highway", Kind.CONSTANT, normal(3, 4), normal(3, 4), normal(3, 4))
def highway_whose_gate_goes_the_other_way(a, h, x):
    t = sigmoid(a)
    return t * h + (1 - t) * x, lambda g: g * (x - h) * t * (1 - t), lambda g: g * t, lambda g: g * (1 - t)


@wrong_op("maxout", (Kind.PLACE, Kind.MASK), normal(3, 4), normal(3, 4))
def maxout_that_pays_the_smaller(a, b):
    return np.maximum(a, b), lambda g: g * (a < b), lambda g: g * (b < a)


@wrong_op(
    "embedding_bag",
    (Kind.SLOPE, Kind.CONSTANT, Kind.MASK),
    normal(5, 2),
    np.array([[0, 1, 1], [2, 4, 4]]),
)
def bag_of_means_sent_back_as_a_sum(table, ids):
    def dtable(g):
        d = np.zeros_like(table)
        np.add.at(d, ids, np.broadcast_to(g[:, None], (2, 3, 2)))
        return d

    return table[ids].mean(axis=1), dtable
