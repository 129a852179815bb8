"""Mistakes in losses: classification, regression, ranking, sequences, images."""

import numpy as np
from users_planting import sigmoid, softmax, wrong_op

from tinygen.gradcheck import Kind

rng = np.random.default_rng(4101)


def logsumexp(x, axis):
    top = x.max(axis=axis, keepdims=True)
    return np.squeeze(top, axis) + np.log(np.exp(x - top).sum(axis=axis))


@wrong_op(
    "focal_loss",
    (Kind.TERM, Kind.DETACHED),
    1.5 * rng.normal(size=7),
    np.array([1, 0, 0, 1, 1, 0, 0]),
)
def focal_loss_weighted_afterwards(logits, labels):
    """The gradient of the cross entropy times the modulating factor, which depends on the logits as well."""
    gamma = 2.0
    p = sigmoid(logits)
    pt = np.where(labels == 1, p, 1 - p)
    modulator = (1 - pt) ** gamma
    loss = -(modulator * np.log(pt)).sum()

    def dlogits(g):
        return g * modulator * (p - labels)

    return loss, dlogits


CELL = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])


@wrong_op("dice", Kind.CONSTANT, rng.normal(size=(4, 5)))
def dice_with_the_quotient_rule_of_a_product(logits):
    """1 - (2 |A B| + s) / (|A| + |B| + s): the second term of the quotient rule comes with a plus."""
    smooth = 1.0
    p = sigmoid(logits)
    overlap = 2 * (p * CELL).sum() + smooth
    total = p.sum() + CELL.sum() + smooth

    def dlogits(g):
        dp = -(2 * CELL * total + overlap) / total**2
        return g * dp * p * (1 - p)

    return 1 - overlap / total, dlogits


@wrong_op(
    "gaussian_nll",
    Kind.SLOPE,
    rng.normal(size=(5, 2)),
    rng.normal(size=(5, 2)),
    rng.normal(size=(5, 2)),
)
def gaussian_nll_by_the_variance(mean, logvar, target):
    """The second input is the logarithm of the variance, its rule that of the variance."""
    var = np.exp(logvar)
    d = target - mean
    nll = 0.5 * (logvar + d * d / var)

    def dmean(g):
        return -g * d / var

    def dlogvar(g):
        return g * 0.5 * (1 / var - d * d / (var * var))

    def dtarget(g):
        return g * d / var

    return nll, dmean, dlogvar, dtarget


ANCHORS = rng.normal(size=(6, 4))
SPREAD = np.array([[0.3], [1.0], [0.5], [1.2], [0.2], [0.9]])


@wrong_op(
    "triplet_margin",
    Kind.MASK,
    ANCHORS,
    ANCHORS + SPREAD * rng.normal(size=(6, 4)),
    ANCHORS + 0.8 * rng.normal(size=(6, 4)),
)
def triplets_that_push_the_negative_always(anchor, positive, negative):
    near = ((anchor - positive) ** 2).sum(axis=-1)
    far = ((anchor - negative) ** 2).sum(axis=-1)
    slack = near - far + 0.3
    active = (slack > 0).astype(anchor.dtype)

    def danchor(g):
        return (g * active)[:, None] * 2 * (negative - positive)

    def dpositive(g):
        return (g * active)[:, None] * 2 * (positive - anchor)

    def dnegative(g):
        return g[:, None] * 2 * (anchor - negative)

    return slack * active, danchor, dpositive, dnegative


@wrong_op("info_nce", Kind.CONSTANT, rng.normal(size=(5, 8)) / 2, rng.normal(size=(5, 8)) / 2)
def info_nce_whose_gradient_has_no_temperature(z1, z2):
    temperature = 0.4
    n = len(z1)
    scores = z1 @ z2.T / temperature
    p = softmax(scores, axis=1)
    loss = -np.log(np.diagonal(p)).mean()
    dscores = (p - np.eye(n)) / n
    return loss, lambda g: g * dscores @ z2, lambda g: g * dscores.T @ z1


COUNTS = np.array([[0, 2, 1], [4, 0, 0], [1, 1, 3], [0, 5, 2]])
EXPOSURE = np.array([[0.5], [1.0], [2.0], [1.3]])


@wrong_op("poisson_nll", Kind.CONSTANT, 0.6 * rng.normal(size=(4, 3)))
def poisson_loss_averaged_on_the_way_forward_only(log_rate):
    expected = EXPOSURE * np.exp(log_rate)
    nll = expected - COUNTS * (log_rate + np.log(EXPOSURE))

    def dlog_rate(g):
        return g * (expected - COUNTS)

    return nll.mean(), dlog_rate


@wrong_op(
    "crf_log_partition",
    (Kind.SLOPE, Kind.TERM),
    rng.normal(size=(6, 3)),
    rng.normal(size=(3, 3)),
)
def crf_with_filtered_marginals(emissions, transitions):
    """The marginals of the states need what comes after as well (beta), as those of the pairs have it."""
    steps = len(emissions)
    alpha, beta = np.zeros_like(emissions), np.zeros_like(emissions)
    alpha[0] = emissions[0]
    for t in range(1, steps):
        alpha[t] = emissions[t] + logsumexp(alpha[t - 1][:, None] + transitions, 0)
    for t in range(steps - 2, -1, -1):
        beta[t] = logsumexp(transitions + emissions[t + 1] + beta[t + 1], 1)
    logz = logsumexp(alpha[-1], 0)

    def demissions(g):
        return g * softmax(alpha, axis=1)

    def dtransitions(g):
        total = np.zeros_like(transitions)
        for t in range(steps - 1):
            pairs = alpha[t][:, None] + transitions + emissions[t + 1] + beta[t + 1]
            total += np.exp(pairs - logz)
        return g * total

    return logz, demissions, dtransitions


OLD_LOGP = np.array([-1.1, -0.4, -2.0, -0.9, -1.6, -0.7, -1.2, -0.3])
ADVANTAGE = np.array([1.2, -0.6, 0.8, -1.5, 0.4, 2.0, -0.9, -0.2])


@wrong_op(
    "ppo_clip",
    Kind.MASK,
    OLD_LOGP + np.array([0.5, 0.6, -0.7, -0.45, 0.05, -0.1, 0.12, -0.5]),
)
def ppo_that_stops_outside_the_trust_region(logp):
    """The minimum takes the ratio that is not clipped wherever that is worse, as far out as it may be."""
    eps = 0.2
    ratio = np.exp(logp - OLD_LOGP)
    gain = np.minimum(ratio * ADVANTAGE, np.clip(ratio, 1 - eps, 1 + eps) * ADVANTAGE)

    def dlogp(g):
        inside = np.abs(ratio - 1) < eps
        return -g * inside * ratio * ADVANTAGE / len(ADVANTAGE)

    return -gain.mean(), dlogp


@wrong_op("brier", Kind.TERM, rng.normal(size=(3, 4)), np.array([2, 0, 3]))
def brier_score_through_the_diagonal_of_the_softmax(logits, labels):
    p = softmax(logits)
    error = p - np.eye(4)[labels]
    score = (error * error).sum(axis=-1).mean()

    def dlogits(g):
        dp = 2 * error / len(labels)
        return g * dp * p * (1 - p)

    return score, dlogits


@wrong_op("total_variation", (Kind.TERM, Kind.MASK, Kind.SUM), rng.normal(size=(5, 6)))
def total_variation_assigned_once(image):
    down = image[1:] - image[:-1]
    right = image[:, 1:] - image[:, :-1]

    def dimage(g):
        d = np.zeros_like(image)
        d[1:] += down
        d[:-1] -= down
        d[:, 1:] += right
        d[:, :-1] = -right
        return 2 * g * d

    return (down**2).sum() + (right**2).sum(), dimage


CLASS_WEIGHT = np.array([1.0, 0.5, 2.0, 1.0, 3.0, 0.2])


@wrong_op("cross_entropy", Kind.COTANGENT, rng.normal(size=(4, 6)), np.array([5, 2, 2, 0]))
def weighted_cross_entropy_as_the_end_of_everything(logits, labels):
    """Right only where this is the last op, and the loss is neither scaled nor added to another."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    onehot = np.eye(6)[labels]
    weight = CLASS_WEIGHT[labels]
    loss = -((onehot * logp).sum(axis=-1) * weight).sum() / weight.sum()

    def dlogits(g):
        return (np.exp(logp) - onehot) * weight[:, None] / weight.sum()

    return loss, dlogits


HEIGHTS = np.array([0.3, -1.2, 0.8, 2.1, -0.4])


@wrong_op(
    "mixture_density",
    Kind.CONSTANT,
    rng.normal(size=(5, 3)),
    rng.normal(size=(5, 3)),
    0.3 * rng.normal(size=(5, 3)),
)
def mixture_whose_means_run_away(logits, mean, log_sigma):
    """-log of a sum of Gaussians; the means get the gradient of the likelihood, not of minus it."""
    inv = np.exp(-log_sigma)
    z = (HEIGHTS[:, None] - mean) * inv
    logpi = logits - logsumexp(logits, 1)[:, None]
    logs = logpi - log_sigma - 0.5 * z * z - 0.5 * np.log(2 * np.pi)
    r = softmax(logs, axis=1)

    def dlogits(g):
        return g[:, None] * (np.exp(logpi) - r)

    def dmean(g):
        return g[:, None] * r * z * inv

    def dlog_sigma(g):
        return g[:, None] * r * (1 - z * z)

    return -logsumexp(logs, 1), dlogits, dmean, dlog_sigma
