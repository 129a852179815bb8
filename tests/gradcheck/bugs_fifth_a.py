"""The fifth set: mistakes in the rules of ops and losses. One kind each, by the table of
docs/gradcheck.md alone; written before the checker was asked."""

import numpy as np
from users_planting import sigmoid, softmax, spread, wrong_op

from tinygen.gradcheck import Kind

rng = np.random.default_rng(5101)


@wrong_op("softplus", Kind.CONSTANT, rng.normal(size=(3, 4)))
def softplus_with_its_sharpness_in_the_slope(x):
    beta = 2.5
    return np.logaddexp(0, beta * x) / beta, lambda g: g * beta * sigmoid(beta * x)


@wrong_op("cross_entropy", Kind.CONSTANT, rng.normal(size=(4, 5)), np.array([1, 0, 4, 4]))
def bits_whose_gradient_is_in_nats(logits, labels):
    rows = np.arange(len(labels))
    logp = np.log(softmax(logits))

    def dlogits(g):
        d = np.exp(logp)
        d[rows, labels] -= 1
        return g * d / len(labels)

    return -logp[rows, labels].mean() / np.log(2), dlogits


@wrong_op("avg_pool2d", Kind.CONSTANT, rng.normal(size=(2, 4, 6)))
def average_pool_that_gives_all_of_it_to_each(x):
    n, h, w = x.shape
    y = x.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4))
    return y, lambda g: np.repeat(np.repeat(g, 2, axis=1), 2, axis=2)


@wrong_op("kl_to_standard_normal", Kind.CONSTANT, rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
def kl_that_pulls_the_mean_half_as_much(mean, logvar):
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(axis=-1)

    def dmean(g):
        return 0.5 * g[:, None] * mean

    def dlogvar(g):
        return 0.5 * g[:, None] * (np.exp(logvar) - 1)

    return kl, dmean, dlogvar


@wrong_op("softsign", Kind.SLOPE, spread(3, 4))
def softsign_without_its_square(x):
    size = 1 + np.abs(x)
    return x / size, lambda g: g / size


@wrong_op("glu", Kind.SLOPE, rng.normal(size=(3, 4)), rng.normal(size=(3, 4)))
def glu_with_a_gate_that_never_closes(a, b):
    s = sigmoid(b)
    return a * s, lambda g: g * s, lambda g: g * a * s


NOISE = np.array([[0.7, -1.2, 0.4], [-0.3, 1.6, -0.8]])


@wrong_op("reparameterize", Kind.SLOPE, rng.normal(size=(2, 3)), rng.normal(size=(2, 3)))
def sample_whose_log_variance_is_taken_for_sigma(mean, logvar):
    z = mean + np.exp(0.5 * logvar) * NOISE
    return z, lambda g: g, lambda g: g * NOISE


@wrong_op("tanh_log_det", Kind.SLOPE, rng.normal(size=(3, 2)))
def squashed_policy_derived_by_the_action(u):
    """log(1 - tanh² u) in its stable form; the rule is the derivative by tanh u."""
    t = np.tanh(u)
    y = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
    return y, lambda g: -2 * g * t / (1 - t * t)


@wrong_op("normalize", Kind.TERM, rng.normal(size=(3, 4)))
def unit_vectors_with_a_constant_length(x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return x / length, lambda g: g / length


@wrong_op("gram", Kind.TERM, rng.normal(size=(2, 3, 4)))
def style_matrix_from_the_left_only(features):
    n = features.shape[-1]
    y = features @ features.swapaxes(1, 2) / n
    return y, lambda g: g @ features / n


@wrong_op("weighted_mean", Kind.TERM, rng.normal(size=(4, 5)), rng.uniform(0.3, 2.0, size=5))
def pooling_whose_weights_are_not_normalized_on_the_way_back(x, weight):
    total = weight.sum()
    return x @ weight / total, lambda g: np.outer(g, weight) / total, lambda g: g @ x / total


@wrong_op("entropy", Kind.TERM, rng.uniform(0.05, 0.9, size=(3, 4)))
def entropy_without_the_one(p):
    return -(p * np.log(p)).sum(axis=-1), lambda g: -g[:, None] * np.log(p)


@wrong_op("bce_with_logits", Kind.TERM, spread(3, 4), np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0]]))
def stable_bce_without_its_logarithm(x, labels):
    y = np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))
    return y, lambda g: g * ((x > 0) - labels)


@wrong_op("embedding_bag", Kind.SUM, rng.normal(size=(6, 3)), np.array([[0, 2, 2], [5, 2, 1], [4, 4, 0]]))
def bags_in_which_a_word_counts_once(table, ids):
    def dtable(g):
        d = np.zeros_like(table)
        d[ids] += g[:, None, :]
        return d

    return table[ids].sum(axis=1), dtable


HANN = np.hanning(8)[1:-1]


@wrong_op("frames", Kind.SUM, rng.normal(size=15))
def frames_that_overwrite_their_overlap(signal):
    starts = range(0, len(signal) - 5, 3)
    y = np.stack([signal[s : s + 6] * HANN for s in starts])

    def dsignal(g):
        d = np.zeros_like(signal)
        for frame, s in zip(g, starts, strict=True):
            d[s : s + 6] = frame * HANN
        return d

    return y, dsignal


@wrong_op("softmax", Kind.SUM, rng.normal(size=(4, 4)))
def softmax_normalized_by_column_on_the_way_back(scores):
    p = softmax(scores)
    return p, lambda g: p * (g - (g * p).sum(axis=0, keepdims=True))


@wrong_op("upsample_nearest", Kind.SUM, rng.normal(size=(2, 2, 3)))
def upsampling_that_hears_of_one_corner(x):
    y = x.repeat(2, axis=1).repeat(2, axis=2)
    return y, lambda g: g[:, ::2, ::2]


@wrong_op("roll", Kind.PLACE, rng.normal(size=(2, 7)))
def shifted_windows_shifted_twice(x):
    return np.roll(x, 2, axis=1), lambda g: np.roll(g, 2, axis=1)


@wrong_op("solve", Kind.PLACE, rng.normal(size=(4, 4)) + 3 * np.eye(4), rng.normal(size=4))
def solve_with_the_same_matrix_both_ways(a, b):
    y = np.linalg.solve(a, b)

    def da(g):
        return -np.outer(np.linalg.solve(a.T, g), y)

    return y, da, lambda g: np.linalg.solve(a, g)


ORDER = np.array([3, 0, 4, 1, 5, 2])


@wrong_op("permute", Kind.PLACE, rng.normal(size=(2, 6)))
def channels_shuffled_again(x):
    return x[:, ORDER], lambda g: g[:, ORDER]


@wrong_op("circular_conv", Kind.PLACE, rng.normal(size=(2, 8)), rng.normal(size=8))
def long_convolution_without_a_conjugate(x, kernel):
    fx, fk = np.fft.rfft(x, axis=-1), np.fft.rfft(kernel)

    def dx(g):
        return np.fft.irfft(np.fft.rfft(g, axis=-1) * fk, n=8, axis=-1)

    def dkernel(g):
        return np.fft.irfft((np.fft.rfft(g, axis=-1) * fx.conj()).sum(axis=0), n=8)

    return np.fft.irfft(fx * fk, n=8, axis=-1), dx, dkernel


@wrong_op("pixel_shuffle", Kind.PLACE, rng.normal(size=(1, 8, 2, 3)))
def pixels_shuffled_back_with_rows_for_columns(x):
    y = x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 4, 6)

    def dx(g):
        return g.reshape(1, 2, 2, 2, 3, 2).transpose(0, 1, 5, 3, 2, 4).reshape(1, 8, 2, 3)

    return y, dx


@wrong_op("relu6", Kind.MASK, np.array([-3.0, -0.5, 0.4, 2.0, 5.5, 6.7, 8.1, 3.3]))
def relu6_without_its_ceiling(x):
    return np.clip(x, 0, 6), lambda g: g * (x > 0)


@wrong_op("hinge", Kind.MASK, np.array([0.4, -0.6, 1.7, -2.0, 0.2, 0.8]), np.array([1, 1, 1, -1, -1, 1]))
def hinge_that_is_content_inside_the_margin(scores, side):
    margin = side * scores
    wrong = margin < 0
    return np.maximum(0, 1 - margin).mean(), lambda g: -g * wrong * side / len(side)


@wrong_op("masked_mean", Kind.MASK, rng.normal(size=(3, 5, 2)), np.array([2, 5, 3]))
def pooled_sentence_whose_padding_learns(x, lengths):
    there = (np.arange(5) < lengths[:, None])[:, :, None]
    y = (x * there).sum(axis=1) / lengths[:, None]

    def dx(g):
        return np.broadcast_to((g / lengths[:, None])[:, None, :], x.shape)

    return y, dx


@wrong_op("sparsemax", Kind.MASK, np.array([[0.9, 0.2, -1.0, 0.5, -0.3], [2.0, 1.7, 1.1, -0.4, 0.1]]))
def sparsemax_outside_of_its_support(z):
    z_sorted = -np.sort(-z, axis=-1)
    rank = np.arange(1, z.shape[-1] + 1)
    excess = np.cumsum(z_sorted, axis=-1) - 1
    size = (z_sorted * rank > excess).sum(axis=-1, keepdims=True)
    tau = np.take_along_axis(excess, size - 1, axis=-1) / size
    y = np.maximum(z - tau, 0)

    def dz(g):
        return g - (g * (y > 0)).sum(axis=-1, keepdims=True) / size

    return y, dz


@wrong_op("mse", Kind.COTANGENT, rng.normal(size=(3, 2)), rng.normal(size=(3, 2)))
def mse_that_is_always_the_whole_loss(prediction, target):
    d = prediction - target
    return (d * d).mean(), lambda g: 2 * d / d.size, lambda g: -2 * d / d.size


@wrong_op("logsumexp", Kind.COTANGENT, rng.normal(size=(4, 3)))
def energy_that_averages_over_the_batch_on_the_way_back(scores):
    """Written for a mean of energies, where all rows get the same."""
    top = scores.max(axis=-1)
    y = top + np.log(np.exp(scores - top[:, None]).sum(axis=-1))
    return y, lambda g: g.mean() * softmax(scores)


@wrong_op("hardtanh", Kind.STATE, np.array([-1.8, -0.7, -0.2, 0.3, 0.6, 1.4]))
def hardtanh_that_saves_an_array(x):
    np.clip(x, -1, 1, out=x)
    return x.copy(), lambda g: g * (np.abs(x) < 1)


@wrong_op("exprel", Kind.NAN, np.array([-1.3, -0.4, 0.0, 0.8, 2.1]))
def relative_exponential_at_zero(x):
    """(exp(x) - 1) / x, as in exponential integrators."""
    y = np.where(x == 0, 1.0, np.expm1(x) / np.where(x == 0, 1.0, x))
    return y, lambda g: g * (x * np.exp(x) - np.expm1(x)) / x**2
