"""The fifth set: mistakes in ten more ops, and inside layers with attention, gates and memories. One kind
each, by the table of docs/gradcheck.md alone; written before the checker was asked."""

import numpy as np
from users_planting import attention_back, sigmoid, softmax, wrong_function, wrong_op

import tinygen
from tinygen import nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter

rng = np.random.default_rng(5202)


def normal(*shape):
    return rng.normal(size=shape)


EXPONENTIAL = -np.log(np.array([0.2, 0.55, 0.8, 0.05]))


@wrong_op("weibull", Kind.SLOPE, rng.uniform(0.5, 2, size=4), rng.uniform(0.7, 3, size=4))
def weibull_sample_by_its_shape(scale, shape):
    power = EXPONENTIAL ** (1 / shape)
    return scale * power, lambda g: g * power, lambda g: -g * scale * power / shape**2


@wrong_op("standardize", Kind.TERM, rng.normal(size=8))
def returns_divided_by_a_constant_deviation(returns):
    deviation = returns.std() + 1e-6
    return (returns - returns.mean()) / deviation, lambda g: (g - g.mean()) / deviation


@wrong_op("cumsum", Kind.SUM, rng.normal(size=(4, 4)))
def log_survival_summed_back_along_the_batch(hazard):
    return -np.cumsum(hazard, axis=1), lambda g: -np.cumsum(g[::-1], axis=0)[::-1]


ANGLE = np.arange(5)[:, None] * np.array([1.0, 0.1])


@wrong_op("rope", Kind.PLACE, rng.normal(size=(5, 4)))
def rotary_positions_turned_further(x):
    def turned(a):
        u, v, c, s = a[:, :2], a[:, 2:], np.cos(ANGLE), np.sin(ANGLE)
        return np.concatenate([u * c - v * s, u * s + v * c], axis=1)

    return turned(x), lambda g: turned(g)


@wrong_op("causal_linear_attention", Kind.MASK, *(rng.normal(size=(4, 3)) for _ in range(3)))
def linear_attention_whose_keys_see_the_past(q, k, v):
    def dk(g):
        return (g @ v.T).T @ q

    return np.tril(q @ k.T) @ v, lambda g: np.tril(g @ v.T) @ k, dk, lambda g: np.tril(q @ k.T).T @ g


@wrong_op("tanh", Kind.COTANGENT, rng.normal(size=(2, 3)))
def activation_with_a_gradient_of_length_one(x):
    y = np.tanh(x)

    def dx(g):
        d = g * (1 - y * y)
        return d / (np.linalg.norm(d) + 1e-8)

    return y, dx


@wrong_op("moments", Kind.DETACHED, rng.normal(size=(3, 5)))
def moments_of_which_one_counts(x):
    mean, std = x.mean(axis=1), x.std(axis=1)

    def back(gs):
        gmean, _ = gs
        return np.broadcast_to(gmean[:, None] / 5, x.shape)

    return (mean, std), back


@wrong_op("quantize", Kind.STEPS, rng.normal(size=(3, 3)))
def weights_in_sixteenths(w):
    return np.round(w * 16) / 16, lambda g: g


@wrong_op("dropout", Kind.STATE, rng.normal(size=(4, 6)))
def dropout_with_a_second_draw(x):
    generator = np.random.default_rng(11)
    y = x * (generator.random(x.shape) < 0.5) * 2
    return y, lambda g: g * (generator.random(x.shape) < 0.5) * 2


@wrong_op("add_bias", Kind.SHAPE, rng.normal(size=(4, 3)), rng.normal(size=(1, 3)))
def row_of_biases_that_loses_its_axis(x, bias):
    return x + bias, lambda g: g, lambda g: g.sum(axis=0)


@tinygen.op
def low_rank(x, a, b):
    scale = 16 / 2
    return (
        x @ a @ b * scale,
        lambda g: g @ b.T @ a.T * scale,
        lambda g: x.T @ g @ b.T,
        lambda g: (x @ a).T @ g * scale,
    )


@wrong_function("lora", Kind.CONSTANT, normal(5, 4), culprit="low_rank")
class AdaptedLayer(nn.Module):
    def __init__(self):
        self.w, self.a, self.b = Parameter(normal(4, 3)), Parameter(normal(4, 2)), Parameter(normal(2, 3) / 9)

    def forward(self, x):
        return np.tanh(x @ self.w + low_rank(x, self.a, self.b))


@tinygen.op
def scaled_embedding(table, ids):
    def dtable(g):
        d = np.zeros_like(table)
        np.add.at(d, ids, g)
        return d

    return table[ids] * np.sqrt(table.shape[1]), dtable


@wrong_function("embedding", Kind.CONSTANT, np.array([[0, 3, 3], [1, 4, 0]]), culprit="scaled_embedding")
class BagOfScaledWords(nn.Module):
    def __init__(self):
        self.table, self.head = Parameter(normal(5, 4)), Parameter(normal(4, 2))

    def forward(self, ids):
        return np.log(ops.softmax(scaled_embedding(self.table, ids).mean(axis=1) @ self.head))


@tinygen.op
def attend(q, k, v):
    scale = 1 / np.sqrt(q.shape[-1])
    p = softmax(q @ k.T * scale)

    def back(g):
        dq, dk, dv = attention_back(g, q, k, v, p, scale)
        return dq, dk / scale, dv

    return p @ v, back


@wrong_function("attention", Kind.CONSTANT, normal(3, 4), normal(5, 4), culprit="attend")
class CrossAttention(nn.Module):
    def __init__(self):
        self.wq, self.wk, self.wv = (Parameter(normal(4, 4) / 2) for _ in range(3))

    def forward(self, x, memory):
        return x + attend(x @ self.wq, memory @ self.wk, memory @ self.wv)


@tinygen.op
def lstm_step(pre, c):
    i, f, o = (sigmoid(pre[:, 3 * j : 3 * j + 3]) for j in range(3))
    n = np.tanh(pre[:, 9:])
    new = f * c + i * n
    t = np.tanh(new)

    def back(gs):
        gh, gc = gs
        dnew = gc + gh * o * (1 - t * t)
        parts = [dnew * n * i * (1 - i), dnew * c * f * (1 - f), gh * t, dnew * i * (1 - n * n)]
        return np.concatenate(parts, axis=1), dnew * f

    return (o * t, new), back


@wrong_function("lstm", Kind.SLOPE, normal(3, 2, 4), culprit="lstm_step")
class ShortMemory(nn.Module):
    """The output gate has no slope."""

    def __init__(self):
        self.w, self.u = Parameter(normal(4, 12) / 2), Parameter(normal(3, 12) / 2)

    def forward(self, x):
        h, c = np.zeros((2, 3)), np.zeros((2, 3))
        for t in range(3):
            h, c = lstm_step(x[t] @ self.w + h @ self.u, c)
        return h


@tinygen.op
def tanh_gelu(x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (
        1 + t
    ), lambda g: g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 0.044715 * x**2))


@wrong_function("gelu", Kind.SLOPE, normal(4, 3), culprit="tanh_gelu")
class FeedForward(nn.Module):
    def __init__(self):
        self.up, self.down = Parameter(normal(3, 6)), Parameter(normal(6, 3))

    def forward(self, x):
        return x + tanh_gelu(ops.layer_norm(x, np.ones(3), np.zeros(3)) @ self.up) @ self.down


@tinygen.op
def gru_step(zr, xn, h, u):
    z, r = sigmoid(zr[:, :3]), sigmoid(zr[:, 3:])
    n = np.tanh(xn + (r * h) @ u)

    def back(g):
        dn = g * z * (1 - n * n)
        drh = dn @ u.T
        dzr = np.concatenate([g * (n - h) * z * (1 - z), drh * h * r * (1 - r)], axis=1)
        return dzr, dn, g * (1 - z), (r * h).T @ dn

    return (1 - z) * h + z * n, back


@wrong_function("gru", Kind.TERM, normal(3, 2, 4), normal(2, 3), culprit="gru_step")
class ForgetfulEncoder(nn.Module):
    """The state acts through the candidate as well."""

    def __init__(self):
        self.w, self.v, self.u = (Parameter(normal(*s) / 2) for s in ((4, 6), (4, 3), (3, 3)))

    def forward(self, x, h):
        for t in range(3):
            h = gru_step(x[t] @ self.w, x[t] @ self.v, h, self.u)
        return h


@tinygen.op
def residual_layer(x, w):
    h = np.tanh(x @ w)
    return x + h, lambda g: (g * (1 - h * h)) @ w.T, lambda g: x.T @ (g * (1 - h * h))


@wrong_function("residual", Kind.TERM, normal(3, 4), culprit="residual_layer")
class DeepNetwork(nn.Module):
    def __init__(self):
        self.w = [Parameter(normal(4, 4) / 2) for _ in range(3)]

    def forward(self, x):
        for w in self.w:
            x = residual_layer(x, w)
        return (x * x).mean(axis=1)


@tinygen.op
def multi_query(q, k, v):
    """(H, T, d) with one k and one v of (T, d) for all heads."""
    scale = q.shape[-1] ** -0.5
    p = softmax(q @ k.T * scale)

    def back(g):
        dq, dv = np.empty_like(q), np.zeros_like(v)
        for h in range(len(q)):
            dq[h], dk, dvh = attention_back(g[h], q[h], k, v, p[h], scale)
            dv += dvh
        return dq, dk, dv

    return p @ v, back


@wrong_function("attention", Kind.SUM, normal(4, 6), culprit="multi_query")
class SharedKeys(nn.Module):
    def __init__(self):
        self.wq, self.wk, self.wv = (
            Parameter(normal(2, 6, 3)),
            Parameter(normal(6, 3)),
            Parameter(normal(6, 3)),
        )

    def forward(self, x):
        return multi_query(x @ self.wq, x @ self.wk, x @ self.wv).sum(axis=0)
