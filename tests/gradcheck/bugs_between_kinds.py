"""Twenty bugs beside the fifth set that lie between two kinds, since the sixty of that set were chosen to
have one by the table of docs/gradcheck.md. One kind each here too: the first row of its list that fits."""

import numpy as np
from users_planting import softmax, spread, wrong_op

from tinygen.gradcheck import Kind

rng = np.random.default_rng(5505)


def normal(*shape):
    return rng.normal(size=shape)


@wrong_op("spread", Kind.CONSTANT, normal(5, 2))
def distances_of_which_each_point_sees_its_own(x):
    n = len(x)
    d = x[:, None] - x
    return (d * d).sum() / n**2, lambda g: g * 2 * d.sum(axis=1) / n**2


@wrong_op("log_softmax", Kind.SUM, normal(3, 4))
def log_softmax_that_forgets_to_sum(x):
    y = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return y, lambda g: g - np.exp(y) * g


@wrong_op("film", Kind.SLOPE, normal(2, 3, 4), normal(2, 3), normal(2, 3))
def film_around_zero_on_the_way_back(x, gamma, beta):
    def dgamma(g):
        return (g * x).sum(axis=2)

    y = x * (1 + gamma[:, :, None]) + beta[:, :, None]
    return y, lambda g: g * gamma[:, :, None], dgamma, lambda g: g.sum(axis=2)


@wrong_op("silu", Kind.SLOPE, normal(3, 4))
def silu_with_the_slope_of_a_sigmoid(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, lambda g: g * s * (1 - s)


@wrong_op("smooth_l1", Kind.SLOPE, np.array([-1.9, -0.3, 0.1, 0.35, 0.8, -0.2]))
def smooth_l1_whose_middle_is_too_flat(d):
    beta = 0.5
    inside = np.abs(d) < beta
    y = np.where(inside, 0.5 * d * d / beta, np.abs(d) - 0.5 * beta)
    return y, lambda g: g * np.where(inside, d, np.sign(d))


@wrong_op("glu", Kind.SLOPE, normal(3, 6))
def glu_of_halves_with_a_linear_gate(x):
    a, s = x[:, :3], 1 / (1 + np.exp(-x[:, 3:]))
    return a * s, lambda g: np.concatenate([g * s, g * a * s], axis=1)


@wrong_op("quadratic_form", Kind.TERM, normal(3, 4), normal(4, 4))
def quadratic_form_of_a_matrix_thought_symmetric(x, a):
    def da(g):
        return (x * g[:, None]).T @ x

    return ((x @ a) * x).sum(axis=1), lambda g: 2 * g[:, None] * (x @ a), da


@wrong_op("cosine_similarity", Kind.TERM, normal(3, 4), normal(3, 4))
def cosine_whose_lengths_are_numbers(x, y):
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    back = lengths[:, None]
    return (x * y).sum(axis=1) / lengths, lambda g: g[:, None] * y / back, lambda g: g[:, None] * x / back


@wrong_op("batch_norm", Kind.TERM, normal(6, 3))
def batch_norm_with_two_counts(x):
    """The variance is the unbiased one, its gradient that of the biased one."""
    centered = x - x.mean(axis=0)
    inv = 1 / np.sqrt((centered**2).sum(axis=0) / (len(x) - 1) + 1e-5)
    xhat = centered * inv
    return xhat, lambda g: inv * (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0))


@wrong_op("rbf_kernel", Kind.SLOPE, normal(4, 2), normal(3, 2))
def kernel_that_is_linear_on_the_way_back(x, y):
    d = x[:, None] - y

    def dx(g):
        return -(g[:, :, None] * d).sum(axis=1)

    def dy(g):
        return (g[:, :, None] * d).sum(axis=0)

    return np.exp(-0.5 * (d * d).sum(axis=2)), dx, dy


@wrong_op("attention", Kind.SLOPE, normal(3, 4), normal(5, 4), normal(5, 2))
def attention_whose_scores_lose_their_probability(q, k, v):
    p = softmax(q @ k.T / 2)

    def back(g):
        dp = g @ v.T
        ds = (dp - (dp * p).sum(axis=1, keepdims=True)) / 2
        return ds @ k, ds.T @ q, p.T @ g

    return p @ v, back


DECAY = 0.7


def averaged(x):
    y = np.empty_like(x)
    y[0] = (1 - DECAY) * x[0]
    for t in range(1, len(x)):
        y[t] = DECAY * y[t - 1] + (1 - DECAY) * x[t]
    return y


@wrong_op("moving_average", Kind.TERM, normal(6, 2))
def moving_average_that_never_forgets(x):
    """The state is carried back without its decay."""
    return averaged(x), lambda g: (1 - DECAY) * np.cumsum(g[::-1], axis=0)[::-1]


@wrong_op("moving_average", Kind.SUM, normal(6, 2))
def moving_average_of_one_step(x):
    return averaged(x), lambda g: (1 - DECAY) * g


LEFT = np.array([0, 0, 1, 2, 3])
SHARE = np.array([0.1, 0.7, 0.3, 0.8, 0.4])


@wrong_op("interpolate", Kind.PLACE, normal(2, 5))
def interpolation_with_its_neighbors_exchanged(x):
    def dx(g):
        d = np.zeros_like(x)
        for j, i in enumerate(LEFT):
            d[:, i] += SHARE[j] * g[:, j]
            d[:, i + 1] += (1 - SHARE[j]) * g[:, j]
        return d

    return (1 - SHARE) * x[:, LEFT] + SHARE * x[:, LEFT + 1], dx


@wrong_op("max_pool1d", Kind.PLACE, spread(2, 8))
def max_pool_that_thanks_the_first_of_each_window(x):
    def dx(g):
        d = np.zeros_like(x)
        d[:, ::2] = g
        return d

    return x.reshape(2, 4, 2).max(axis=2), dx


@wrong_op("affine", Kind.PLACE, normal(5, 3), normal(3), normal(3))
def scale_and_shift_returned_the_other_way_round(x, weight, bias):
    return x * weight + bias, lambda g: (g * weight, g.sum(axis=0), (g * x).sum(axis=0))


@wrong_op("elu", Kind.SLOPE, spread(3, 4))
def elu_by_its_output_without_the_one(x):
    y = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return y, lambda g: g * np.where(x > 0, 1, y)


@wrong_op("clip_norm", Kind.TERM, np.array([[0.2, -0.4, 0.1], [1.5, -2.0, 0.3], [0.9, 1.1, -0.8]]))
def clipped_rows_with_a_constant_length(x):
    scale = np.minimum(1, 1 / np.sqrt((x * x).sum(axis=1, keepdims=True)))
    return x * scale, lambda g: g * scale


@wrong_op("cross_entropy", Kind.TERM, normal(4, 3), np.array([0, 2, 1, 2]))
def smoothed_labels_that_are_hard_on_the_way_back(logits, labels):
    p = softmax(logits)
    onehot = np.eye(3)[labels]
    loss = -((0.85 * onehot + 0.05) * np.log(p)).sum(axis=1)
    return loss, lambda g: g[:, None] * (p - onehot)


@wrong_op("cross_entropy", Kind.CONSTANT, normal(5, 3), np.array([0, -1, 1, 2, -1]))
def ignored_labels_that_are_counted(logits, labels):
    there = labels >= 0
    p = softmax(logits)
    onehot = np.eye(3)[labels] * there[:, None]
    loss = -(onehot * np.log(p)).sum() / there.sum()
    return loss, lambda g: g * (p * there[:, None] - onehot) / len(labels)
