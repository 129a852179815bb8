"""Mistakes in norms, attention, convolutions and pooling, written to improve the diagnosis on."""

import numpy as np
from users_planting import attention_back, normal, positive, softmax, spread, standardized, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("weight_norm", (Kind.TERM, Kind.DETACHED), normal(3, 4), positive(3))
def weight_norm_without_its_projection(v, scale):
    length = np.sqrt((v * v).sum(axis=1, keepdims=True))
    u = v / length
    return scale[:, None] * u, lambda g: scale[:, None] * g / length, lambda g: (g * u).sum(axis=1)


@wrong_op("layer_norm", (Kind.TERM, Kind.DETACHED), normal(3, 6))
def layer_norm_with_both_statistics_constant(x):
    xhat, inv = standardized(x, -1)
    return xhat, lambda g: inv * g


@wrong_op("rms_norm", (Kind.SUM, Kind.PLACE), normal(4, 4))
def rms_norm_with_its_projection_along_columns(x):
    inv = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True))
    y = x * inv
    return y, lambda g: inv * (g - y * (g * y).mean(axis=0, keepdims=True))


@wrong_op("batch_norm", (Kind.CONSTANT, Kind.TERM), normal(6, 3))
def batch_norm_that_adds_its_mean(x):
    xhat, inv = standardized(x, 0)
    return xhat, lambda g: inv * (g + g.mean(axis=0) - xhat * (g * xhat).mean(axis=0))


@wrong_op("group_norm", (Kind.SUM, Kind.PLACE), normal(2, 4, 3))
def group_norm_with_interleaved_groups_in_the_backward(x):
    """Groups of neighbors forward, of every other channel backward."""
    xhat, inv = standardized(x.reshape(2, 2, 6), -1)

    def dx(g):
        turn = lambda z: z.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(2, 2, 6)
        g, h = turn(g), turn(xhat)
        d = g - g.mean(axis=-1, keepdims=True) - h * (g * h).mean(axis=-1, keepdims=True)
        return turn(d).reshape(2, 2, 6).__mul__(inv).reshape(x.shape)

    return xhat.reshape(x.shape), dx


@wrong_op("attention", Kind.MASK, normal(4, 3), normal(4, 3), normal(4, 2))
def causal_attention_with_all_its_weights_in_the_backward(q, k, v):
    scores = q @ k.T
    p = softmax(np.where(np.tri(4, dtype=bool), scores, -1e9))
    full = softmax(scores)
    return p @ v, lambda g: attention_back(g, q, k, v, full, 1.0)


@wrong_op("attention", Kind.SUM, normal(2, 3, 4), normal(3, 4))
def multi_query_scores_with_keys_of_the_first_head(q, k):
    return q @ k.T, lambda g: g @ k, lambda g: g[0].T @ q[0]


@wrong_op("attention", (Kind.TERM, Kind.DETACHED), normal(3, 4), normal(5, 4), normal(5, 2))
def attention_that_takes_its_sum_for_a_constant(q, k, v):
    """exp(s) / Z, with the gradient of exp(s) alone."""
    p = softmax(q @ k.T)

    def scores(g):
        return p * (g @ v.T)

    return p @ v, lambda g: scores(g) @ k, lambda g: scores(g).T @ q, lambda g: p.T @ g


@wrong_op("attention", Kind.PLACE, normal(3, 4), normal(3, 4), normal(3, 4))
def attention_with_keys_and_values_exchanged(q, k, v):
    p = softmax(q @ k.T / 2)

    def back(g):
        dq, dk, dv = attention_back(g, q, k, v, p, 0.5)
        return dq, dv, dk

    return p @ v, back


@wrong_op("alibi", Kind.PLACE, normal(3, 4, 4), positive(3))
def alibi_slopes_in_the_reverse_order(scores, slope):
    distance = np.arange(4)[:, None] - np.arange(4)
    return (
        scores - slope[:, None, None] * distance,
        lambda g: g,
        lambda g: -(g * distance).sum(axis=(1, 2))[::-1],
    )


@wrong_op("conv1d", (Kind.SUM, Kind.TERM, Kind.MASK), normal(2, 6), normal(3))
def conv_weight_from_its_last_tap_position(x, w):
    """The weight's gradient is that of the last position of each row."""
    taps = [x[:, t : t + 4] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in range(3):
            d[:, t : t + 4] += w[t] * g
        return d

    return (
        sum(w[t] * taps[t] for t in range(3)),
        dx,
        lambda g: np.array([(g * tap)[:, -1].sum() for tap in taps]),
    )


@wrong_op("conv1d", (Kind.TERM, Kind.SUM, Kind.MASK), normal(2, 6), normal(3))
def conv_that_forgets_its_middle_tap(x, w):
    taps = [x[:, t : t + 4] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in (0, 2):
            d[:, t : t + 4] += w[t] * g
        return d

    return sum(w[t] * taps[t] for t in range(3)), dx, lambda g: np.array([(g * tap).sum() for tap in taps])


@wrong_op("conv1d", Kind.PLACE, normal(2, 3, 5), normal(3, 3, 2))
def conv_with_its_channels_exchanged_in_the_backward(x, w):
    y = sum(np.einsum("ncl,oc->nol", x[:, :, t : t + 4], w[:, :, t]) for t in range(2))

    def dx(g):
        d = np.zeros_like(x)
        for t in range(2):
            d[:, :, t : t + 4] += np.einsum("nol,co->ncl", g, w[:, :, t])
        return d

    def dw(g):
        return np.stack([np.einsum("nol,ncl->oc", g, x[:, :, t : t + 4]) for t in range(2)], axis=-1)

    return y, dx, dw


@wrong_op("avg_pool1d", (Kind.MASK, Kind.SLOPE), normal(2, 7))
def avg_pool_with_a_short_last_window(x):
    """Windows of 3; the last one has a single entry, which the rule divides by 3 as well."""
    y = np.stack([x[:, :3].mean(axis=1), x[:, 3:6].mean(axis=1), x[:, 6]], axis=1)
    return y, lambda g: g.repeat(3, axis=1)[:, :7] / 3


@wrong_op("max_pool1d", (Kind.PLACE, Kind.MASK), spread(2, 8))
def max_pool_with_the_other_of_each_pair(x):
    pairs = x.reshape(2, 4, 2)
    mask = np.arange(2) == pairs.argmax(axis=2)[:, :, None]
    return pairs.max(axis=2), lambda g: (g[:, :, None] * ~mask).reshape(x.shape)


@wrong_op("lrn", (Kind.TERM, Kind.DETACHED), normal(3, 5))
def local_response_norm_without_its_neighbors(x):
    """Each is divided by the energy of itself and its neighbors; the rule takes that for a constant."""
    q = np.pad(x * x, ((0, 0), (1, 1)))
    n = 1 + q[:, :-2] + q[:, 1:-1] + q[:, 2:]
    return x / n, lambda g: g / n


@wrong_op("upsample_linear", (Kind.MASK, Kind.TERM, Kind.SUM), normal(2, 5))
def interpolation_that_loses_its_last_knot(x):
    y = (x[:, :-1] + 2 * x[:, 1:]) / 3

    def dx(g):
        d = np.zeros_like(x)
        d[:, :-1] += g / 3
        d[:, 1:-1] += 2 * g[:, :-1] / 3
        return d

    return y, dx


@wrong_op("swish", Kind.SLOPE, normal(3, 4), positive(4))
def swish_whose_beta_forgets_its_input(x, beta):
    """y = x sigmoid(beta x): d/dbeta = x² s (1 - s), here x s (1 - s)."""
    s = 1 / (1 + np.exp(-beta * x))
    return (
        x * s,
        lambda g: g * (s + x * beta * s * (1 - s)),
        lambda g: (g * x * s * (1 - s)).sum(axis=0),
    )


@wrong_op("film", Kind.PLACE, normal(3, 4), normal(3, 8))
def modulation_with_scale_and_shift_exchanged(x, both):
    scale, shift = both[:, :4], both[:, 4:]
    return x * scale + shift, lambda g: g * scale, lambda g: np.concatenate([g, g * x], axis=1)


@wrong_op("glu", (Kind.TERM, Kind.MASK, Kind.DETACHED), normal(3, 6))
def glu_whose_gate_gets_nothing(x):
    a, b = x[:, :3], x[:, 3:]
    s = 1 / (1 + np.exp(-b))
    return a * s, lambda g: np.concatenate([g * s, 0 * g], axis=1)


@wrong_op("residual", Kind.TERM, normal(3, 4))
def residual_whose_skip_counts_twice(x):
    h = np.tanh(x)
    return x + h, lambda g: g * (2 + 1 - h * h)
