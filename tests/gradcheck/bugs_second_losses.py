"""Mistakes in softmax, attention and losses."""

import numpy as np
from users_planting import attention_back, normal, positive, right_op, sigmoid, softmax, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("log_softmax", (Kind.SUM, Kind.PLACE), normal(4, 4))
def log_softmax_without_keepdims(x):
    p = softmax(x)
    return np.log(p), lambda g: g - p * g.sum(axis=-1)


@wrong_op("attention", Kind.CONSTANT, normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 4))
def attention_that_scales_the_gradient_of_queries_alone(q, k, v):
    p = softmax(q @ k.swapaxes(-1, -2) * 0.5)

    def back(g):
        dq, dk, dv = attention_back(g, q, k, v, p, 1.0)
        return 0.5 * dq, dk, dv

    return p @ v, back


@wrong_op("repeat", (Kind.SUM, Kind.TERM), normal(2, 3, 2))
def repeated_heads_with_the_first_of_each_group(k):
    return k.repeat(2, axis=0), lambda g: g[::2]


@wrong_op("cross_entropy", (Kind.SLOPE, Kind.CONSTANT), normal(3, 4), np.array([2, 0, 3]))
def cross_entropy_without_its_class_weights_in_the_backward(logits, targets):
    p, onehot = softmax(logits), np.eye(4)[targets]
    weight = np.array([0.3, 1.0, 2.0, 5.0])[targets]
    return -weight * (onehot * np.log(p)).sum(axis=-1), lambda g: g[:, None] * (p - onehot)


@wrong_op("kl_categorical", Kind.TERM, positive(3, 4), positive(3, 4))
def kl_by_p_without_its_one(p, q):
    log = np.log(p / q)
    return (p * log).sum(axis=-1), lambda g: g[:, None] * log, lambda g: -g[:, None] * p / q


@wrong_op("focal", (Kind.DETACHED, Kind.TERM), normal(4, 3))
def focal_loss_with_its_weight_a_constant(x):
    p = sigmoid(x)
    weight = (1 - p) ** 2
    return -weight * np.log(p), lambda g: -g * weight * (1 - p)


PRESENT = np.arange(5) < np.array([[3], [5], [2]])


@wrong_op("mean", Kind.MASK, normal(3, 5, 2))
def pooled_positions_that_were_padding(x):
    """The mean over each sequence's own length; sent back to the padding too."""
    n = PRESENT.sum(axis=1)[:, None]
    y = (x * PRESENT[:, :, None]).sum(axis=1) / n
    return y, lambda g: np.broadcast_to((g / n)[:, None], x.shape)


@wrong_op("mse", Kind.COTANGENT, normal(4, 3), normal(4, 3))
def loss_per_row_with_the_mean_of_what_comes_back(x, y):
    d = x - y
    return (d * d).sum(axis=-1), lambda g: 2 * d * g.mean(), lambda g: -2 * d * g.mean()


@wrong_op("attention", Kind.STATE, normal(4, 4))
def scores_masked_in_place(scores):
    scores[np.triu_indices(4, 1)] = -9.0
    p = softmax(scores)
    return p, lambda g: p * (g - (g * p).sum(axis=-1, keepdims=True)) * np.tri(4)


@right_op("attention", normal(3, 4), normal(5, 4), normal(5, 2))
def attention_with_a_float64_scale(q, k, v):
    scale = 1 / np.sqrt(q.shape[-1])
    p = softmax(q @ k.T * scale)
    return p @ v, lambda g: attention_back(g, q, k, v, p, scale)


@right_op("cross_entropy", normal(4, 5), np.array([1, -1, 3, -1]))
def cross_entropy_of_targets_that_count(logits, targets):
    p, seen = softmax(logits), targets >= 0
    onehot = np.eye(5)[np.where(seen, targets, 0)]
    losses = -(onehot * np.log(p)).sum(axis=-1) * seen
    return losses.sum() / seen.sum(), lambda g: g * (p - onehot) * seen[:, None] / seen.sum()
