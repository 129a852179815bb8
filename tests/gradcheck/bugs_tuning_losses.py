"""Mistakes in losses and probabilities, written to improve the diagnosis on."""

import numpy as np
from users_planting import normal, positive, sigmoid, softmax, spread, wrong_op

from tinygen.gradcheck import Kind


@wrong_op(
    "triplet",
    Kind.MASK,
    normal(6, 3) / 4,
    normal(6, 3) / 4,
    normal(6, 3) / 4 + np.array([0, 0, 0, 3, 3, 3])[:, None],
)
def triplet_loss_without_its_hinge_in_the_backward(a, p, n):
    margin = ((a - p) ** 2).sum(axis=-1) - ((a - n) ** 2).sum(axis=-1) + 1
    y = np.maximum(margin, 0)
    return (
        y,
        lambda g: 2 * g[:, None] * (n - p),
        lambda g: -2 * g[:, None] * (a - p),
        lambda g: 2 * g[:, None] * (a - n),
    )


@wrong_op("gaussian_nll", Kind.TERM, normal(3, 4), positive(3, 4))
def gaussian_log_density_without_its_normalizer_in_the_backward(x, sigma):
    z = x / sigma
    return -0.5 * z * z - np.log(sigma), lambda g: -g * z / sigma, lambda g: g * z * z / sigma


@wrong_op("weighted_mean", (Kind.TERM, Kind.DETACHED), normal(3, 4), positive(3, 4))
def weighted_mean_with_the_sum_of_weights_a_constant(x, w):
    total = w.sum(axis=1, keepdims=True)
    y = (w * x).sum(axis=1) / total[:, 0]
    return y, lambda g: g[:, None] * w / total, lambda g: g[:, None] * x / total


@wrong_op("dice", (Kind.TERM, Kind.DETACHED), positive(2, 5) / 2, np.arange(10).reshape(2, 5) % 2)
def dice_loss_with_its_denominator_a_constant(p, y):
    top, low = (p * y).sum(axis=1), (p + y).sum(axis=1)
    return 1 - 2 * top / low, lambda g: -2 * (g / low)[:, None] * y


@wrong_op("pinball", (Kind.PLACE, Kind.MASK, Kind.SLOPE), spread(3, 4))
def pinball_loss_with_its_slopes_exchanged(x):
    return np.where(x > 0, 0.9 * x, -0.1 * x), lambda g: g * np.where(x > 0, 0.1, -0.9)


@wrong_op("dpo", Kind.CONSTANT, normal(5), normal(5))
def dpo_loss_without_beta_in_its_backward(chosen, rejected):
    h = 0.3 * (chosen - rejected)
    s = sigmoid(-h)
    return np.log1p(np.exp(-h)), lambda g: -g * s, lambda g: g * s


@wrong_op("info_nce", (Kind.TERM, Kind.DETACHED, Kind.MASK), normal(4, 3))
def info_nce_of_itself_by_one_side(x):
    """Scores of x with x; the gradient goes to the left one alone."""
    p = softmax(x @ x.T)
    return -np.log(np.diag(p)), lambda g: (g[:, None] * (p - np.eye(4))) @ x


@wrong_op("kl_gaussian", (Kind.SLOPE, Kind.TERM), normal(3, 4), normal(3, 4))
def kl_with_one_of_its_halves_lost(mean, logvar):
    """0.5 (mean² + exp(logvar) - 1 - logvar): the half is on one of the terms."""
    y = 0.5 * (mean * mean + np.exp(logvar) - 1 - logvar)
    return y, lambda g: g * mean, lambda g: g * (0.5 * np.exp(logvar) - 1)


@wrong_op("cross_entropy", (Kind.PLACE, Kind.MASK), normal(4, 5), np.array([1, 3, 0, 2]))
def cross_entropy_with_its_target_off_by_one_in_the_backward(logits, targets):
    p = softmax(logits)
    rows = np.arange(4)
    return -np.log(p[rows, targets]), lambda g: g[:, None] * (p - np.eye(5)[targets + 1])


@wrong_op("logsumexp", (Kind.COTANGENT, Kind.SUM), normal(3, 4))
def logsumexp_of_rows_with_the_mean_cotangent(x):
    return np.log(np.exp(x).sum(axis=1)), lambda g: g.mean() * softmax(x)


@wrong_op("entropy", Kind.TERM, normal(3, 5))
def entropy_of_softmax_without_its_own_value(x):
    """dH/dx = -p (log p + H): the H is forgotten."""
    p = softmax(x)
    return -(p * np.log(p)).sum(axis=-1), lambda g: -g[:, None] * p * np.log(p)


@wrong_op("mse", (Kind.SLOPE, Kind.CONSTANT), normal(4, 3), normal(4, 3))
def mse_weighted_by_example_with_plain_backward(x, y):
    w = np.array([0.2, 1.0, 3.0, 0.5])[:, None]
    d = x - y
    return (w * d * d).sum(axis=1), lambda g: 2 * g[:, None] * d, lambda g: -2 * g[:, None] * d


@wrong_op("hinge", Kind.MASK, spread(3, 4))
def squared_hinge_with_its_mask_on_the_other_side(x):
    m = np.maximum(1 - x, 0)
    return m * m, lambda g: -2 * g * (1 - x) * (x > 1)


@wrong_op("softmax", Kind.TERM, normal(2, 5))
def sparse_softmax_with_elementwise_slope(x):
    """Only the diagonal of its Jacobian."""
    p = softmax(x)
    return p * p, lambda g: 2 * g * p * p * (1 - p)
