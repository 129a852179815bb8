"""Mistakes in softmax, attention and losses."""

import numpy as np
from users_planting import normal, sigmoid, softmax, spread, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("attention", Kind.TERM, normal(3, 4), normal(5, 4), normal(5, 2))
def attention_with_the_rank_one_term_alone(q, k, v):
    p = softmax(q @ k.T / 2.0)

    def scores(g):
        return -p * (g @ v.T * p).sum(axis=-1, keepdims=True) / 2.0

    return p @ v, lambda g: scores(g) @ k, lambda g: scores(g).T @ q, lambda g: p.T @ g


@wrong_op("repeat", (Kind.SUM, Kind.PLACE), normal(2, 3, 2), normal(4, 3, 2))
def repeated_heads_summed_by_the_wrong_grouping(k, q):
    """Grouped queries: key 0 for heads 0 and 1, key 1 for 2 and 3; summed as 0 and 2, 1 and 3."""
    keys = k.repeat(2, axis=0)
    return q * keys, lambda g: (g * q).reshape(2, 2, 3, 2).sum(axis=0), lambda g: g * keys


SOFT = (Kind.TERM, Kind.SLOPE)


@wrong_op("cross_entropy", SOFT, normal(3, 5), np.array([4, 0, 2]))
def smoothed_cross_entropy_with_hard_targets_in_the_backward(logits, targets):
    p, onehot = softmax(logits), np.eye(5)[targets]
    smooth = 0.9 * onehot + 0.1 / 5
    return -(smooth * np.log(p)).sum(axis=-1), lambda g: g[:, None] * (p - onehot)


@wrong_op("cross_entropy", Kind.CONSTANT, normal(4, 5), np.array([1, -1, 3, 0]))
def mean_over_targets_that_count_sent_back_over_all(logits, targets):
    p, seen = softmax(logits), targets >= 0
    onehot = np.eye(5)[np.where(seen, targets, 0)]
    losses = -(onehot * np.log(p)).sum(axis=-1) * seen
    return losses.sum() / seen.sum(), lambda g: g * (p - onehot) * seen[:, None] / len(targets)


@wrong_op("cross_entropy", Kind.MASK, normal(4, 5), np.array([1, -1, 3, -1]))
def ignored_targets_that_pull_all_the_same(logits, targets):
    p, seen = softmax(logits), targets >= 0
    onehot = np.eye(5)[np.where(seen, targets, 0)]
    return -(onehot * np.log(p)).sum(axis=-1) * seen, lambda g: g[:, None] * (p - onehot)


@wrong_op("cross_entropy", Kind.TERM, normal(4, 4))
def contrastive_loss_with_one_of_its_directions(scores):
    """Pictures to texts and texts to pictures; the gradient of the first."""
    rows, columns = softmax(scores, 1), softmax(scores, 0)
    loss = -(np.log(np.diag(rows)) + np.log(np.diag(columns))).mean() / 2
    return loss, lambda g: g * (rows - np.eye(4)) / 8


@wrong_op(
    "bce_with_logits",
    (Kind.MASK, Kind.SLOPE),
    normal(3, 4),
    np.arange(12).reshape(3, 4) % 3 // 2,
)
def bce_with_its_weight_on_both_terms_in_the_backward(x, y):
    """The weight 3 of the positives is on all entries in the rule."""
    s = sigmoid(x)
    return -3 * y * np.log(s) - (1 - y) * np.log(1 - s), lambda g: 3 * g * (s - y)


@wrong_op("huber", (Kind.MASK, Kind.SLOPE), spread(3, 4))
def huber_whose_slope_outside_is_one(x):
    inside = np.abs(x) < 0.5
    y = np.where(inside, 0.5 * x * x, 0.5 * (np.abs(x) - 0.25))
    return y, lambda g: g * np.where(inside, x, np.sign(x))


MASKED = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])


@wrong_op("mean", Kind.CONSTANT, normal(3, 4))
def masked_mean_sent_back_over_all_positions(x):
    return (x * MASKED).sum() / MASKED.sum(), lambda g: g * MASKED / x.size


@wrong_op("cdist", Kind.CONSTANT, normal(4, 3), normal(5, 3))
def pairwise_distances_with_both_of_one_sign(x, y):
    d = x[:, None] - y
    return (
        (d * d).sum(axis=-1),
        lambda g: 2 * (g[..., None] * d).sum(axis=1),
        lambda g: 2 * (g[..., None] * d).sum(axis=0),
    )


@wrong_op("cdist", (Kind.SUM, Kind.PLACE), normal(4), normal(4))
def pairwise_differences_summed_along_the_same_axis(x, y):
    """A joint rule of a broadcast difference: both are summed along axis 1."""
    d = x[:, None] - y

    def back(g):
        g = 2 * g * d
        return g.sum(axis=1), -g.sum(axis=1)

    return d * d, back
