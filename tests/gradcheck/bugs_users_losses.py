"""Mistakes in softmax, attention and losses."""

import numpy as np
from users_planting import normal, right_op, sigmoid, softmax, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("logsumexp", (Kind.SUM, Kind.SLOPE), normal(3, 4))
def logsumexp_with_the_softmax_of_the_rows(x):
    """Over columns forward; the softmax over rows backward."""
    return np.log(np.exp(x).sum(axis=0)), lambda g: g * softmax(x, 1)


@wrong_op("softmax", Kind.CONSTANT, normal(3, 4))
def softmax_without_its_temperature(x):
    y = softmax(x / 0.7)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


DISTANCE = np.arange(4)[:, None] - np.arange(4) + 3


@wrong_op("getitem", Kind.PLACE, normal(7), normal(4, 4))
def relative_bias_sent_back_to_the_opposite_distance(bias, scores):
    def dbias(g):
        d = np.zeros_like(bias)
        np.add.at(d, DISTANCE.T, g)
        return d

    return scores + bias[DISTANCE], dbias, lambda g: g


RATIOS = np.array([0.5, 0.7, 0.9, 1.05, 1.3, 1.5])


@wrong_op("ppo", Kind.MASK, RATIOS, np.array([1, -1, 1, -1, 1, -1]))
def clipped_ratio_cut_whatever_the_advantage(ratio, advantage):
    """The minimum takes the cut only on one side, which depends on the advantage's sign."""
    cut = np.clip(ratio, 0.8, 1.2)
    y = np.minimum(ratio * advantage, cut * advantage)
    return y, lambda g: g * advantage * (ratio == cut)


@wrong_op("cosine", (Kind.DETACHED, Kind.TERM), normal(3, 4), normal(3, 4))
def cosine_similarity_with_one_length_a_constant(a, b):
    la, lb = (np.sqrt((z * z).sum(axis=-1, keepdims=True)) for z in (a, b))
    ua, ub = a / la, b / lb
    y = (ua * ub).sum(axis=-1)
    return y, lambda g: g[:, None] * (ub - ua * y[:, None]) / la, lambda g: g[:, None] * ua / lb


@wrong_op("where", (Kind.MASK, Kind.PLACE), normal(3, 4))
def masked_fill_with_its_mask_inverted(x):
    hidden = np.triu(np.ones((3, 4), dtype=bool), 1)
    return np.where(hidden, -9.0, x), lambda g: g * hidden


@wrong_op("square", Kind.COTANGENT, normal(3, 4))
def weight_decay_that_takes_itself_for_the_loss(w):
    return 0.5 * (w * w).sum(), lambda g: w


@right_op("bce_with_logits", normal(3, 4), np.arange(12).reshape(3, 4) % 3 // 2)
def bce_of_integer_targets(x, y):
    s = sigmoid(x)
    return np.log1p(np.exp(x)) - x * y, lambda g: g * (s - y)


@right_op("ppo", np.array([0.5, 0.7, 0.9, 1.05, 1.3, 1.5]), np.array([1, -1, 1, -1, 1, -1]))
def clipped_ratio_cut_where_the_minimum_is(ratio, advantage):
    plain, cut = ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage
    return np.minimum(plain, cut), lambda g: g * advantage * (plain <= cut)
