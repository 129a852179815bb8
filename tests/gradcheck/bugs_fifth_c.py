"""The fifth set: mistakes inside layers and small models, of images, words and codes. One kind each, by the
table of docs/gradcheck.md alone; written before the checker was asked."""

import numpy as np
from users_planting import wrong_function

import tinygen
from tinygen import nn, ops
from tinygen.gradcheck import Kind
from tinygen.nn import Parameter

rng = np.random.default_rng(5303)


def normal(*shape):
    return rng.normal(size=shape)


@tinygen.op
def add_positions(x, positions):
    return x + positions, lambda g: g, lambda g: g[0]


@wrong_function("position_embedding", Kind.SUM, normal(3, 4, 2), culprit="add_positions")
class TokensWithPositions(nn.Module):
    def __init__(self):
        self.positions, self.w = Parameter(normal(4, 2)), Parameter(normal(2, 5))

    def forward(self, x):
        return ops.silu(add_positions(x, self.positions) @ self.w).mean(axis=1)


@tinygen.op
def heads_apart(x):
    b, t, d = x.shape
    return x.reshape(b, t, 2, d // 2).transpose(0, 2, 1, 3), lambda g: g.reshape(b, t, d)


@wrong_function("split_heads", Kind.PLACE, normal(2, 3, 4), culprit="heads_apart")
class SelfAttention(nn.Module):
    def __init__(self):
        self.w = Parameter(normal(4, 4))

    def forward(self, x):
        q = heads_apart(x @ self.w)
        return ops.softmax(q @ q.swapaxes(2, 3)) @ q


@tinygen.op
def conv_same(x, w):
    """(B, C, T) and (O, C, 3)."""
    t = x.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    windows = np.stack([padded[:, :, k : k + t] for k in range(3)], axis=-1)

    def dx(g):
        around = np.pad(g, ((0, 0), (0, 0), (1, 1)))
        return sum(np.einsum("bot,oc->bct", around[:, :, k : k + t], w[:, :, k]) for k in range(3))

    return np.einsum("bctk,ock->bot", windows, w), dx, lambda g: np.einsum("bot,bctk->ock", g, windows)


@wrong_function("conv1d", Kind.PLACE, normal(2, 2, 6), culprit="conv_same")
class SmallConvNet(nn.Module):
    def __init__(self):
        self.first, self.second = Parameter(normal(3, 2, 3)), Parameter(normal(2, 3, 3))

    def forward(self, x):
        return conv_same(np.tanh(conv_same(x, self.first)), self.second).mean(axis=2)


@tinygen.op
def bounded(logvar):
    return np.clip(logvar, -1.5, 1.5), lambda g: g


@wrong_function("vae", Kind.MASK, 2 * normal(4, 3), culprit="bounded")
class EncoderLoss(nn.Module):
    def __init__(self):
        self.mean, self.logvar = Parameter(normal(3, 2)), Parameter(normal(3, 2))

    def forward(self, x):
        mean, logvar = x @ self.mean, bounded(x @ self.logvar)
        return (0.5 * (mean * mean + np.exp(logvar) - 1 - logvar)).sum(axis=1)


@tinygen.op
def padded_embedding(table, ids):
    there = (ids != 0)[..., None]

    def dtable(g):
        d = np.zeros_like(table)
        np.add.at(d, ids, g)
        return d

    return table[ids] * there, dtable


@wrong_function("embedding", Kind.MASK, np.array([[2, 1, 4, 0], [3, 1, 0, 0]]), culprit="padded_embedding")
class SentenceClassifier(nn.Module):
    def __init__(self):
        self.table, self.head = Parameter(normal(5, 3)), Parameter(normal(3, 2))

    def forward(self, ids):
        return np.tanh(padded_embedding(self.table, ids)).sum(axis=1) @ self.head


@tinygen.op
def value_head(h, w):
    def dh(g):
        return g.mean(axis=1, keepdims=True) * w.sum(axis=1)

    return h @ w, dh, lambda g: h.T @ g


@wrong_function("linear", Kind.COTANGENT, normal(4, 3), culprit="value_head")
class ActionValues(nn.Module):
    """What comes back to a state is the gradient of the sum of its values."""

    def __init__(self):
        self.body, self.head = Parameter(normal(3, 5)), Parameter(normal(5, 3))

    def forward(self, x):
        q = value_head(np.tanh(x @ self.body), self.head)
        return q - q.mean(axis=1, keepdims=True)


@tinygen.op
def with_temperature(scores, log_t):
    t = np.exp(log_t)
    return scores * t, lambda g: g * t, lambda g: np.zeros_like(log_t)


@wrong_function("clip_loss", Kind.DETACHED, normal(4, 3), normal(4, 3), culprit="with_temperature")
class PicturesAndWords(nn.Module):
    def __init__(self):
        self.log_t = Parameter(np.array([0.4]))

    def forward(self, pictures, words):
        p = ops.softmax(with_temperature(pictures @ words.T, self.log_t))
        return -np.log(p[np.arange(4), np.arange(4)]).mean()


@wrong_function("adain", Kind.DETACHED, normal(2, 3, 5), normal(2, 3, 5))
def style_whose_deviation_is_a_number(content, style):
    centered = content - content.mean(axis=2, keepdims=True)
    deviation = style.numpy().std(axis=2, keepdims=True)
    return centered * deviation + style.mean(axis=2, keepdims=True)


@wrong_function("rnn", Kind.DETACHED, normal(4, 2, 3))
class TruncatedTooEarly(nn.Module):
    def __init__(self):
        self.w, self.u = Parameter(normal(3, 4)), Parameter(normal(4, 4) / 2)

    def forward(self, x):
        h = np.tanh(x[0] @ self.w)
        for t in range(1, 4):
            h = np.tanh(x[t] @ self.w + h.detach() @ self.u)
        return h


BUFFER = np.empty((3, 4))


@tinygen.op
def squared_in_a_buffer(x):
    np.multiply(x, 2, out=BUFFER)
    return x * x, lambda g: g * BUFFER


@wrong_function("square", Kind.STATE, normal(3, 4), culprit="squared_in_a_buffer")
def fourth_powers_with_one_buffer(x):
    return np.sqrt(1 + squared_in_a_buffer(squared_in_a_buffer(x)))


@wrong_function("denoising", Kind.STATE, normal(4, 3))
class NoisyTarget(nn.Module):
    def __init__(self):
        self.w = Parameter(normal(3, 3))

    def forward(self, x):
        noise = np.random.default_rng().normal(size=(4, 3))
        return ((np.tanh((x + 0.3 * noise) @ self.w) - x) ** 2).mean()


CODES = normal(6, 2)


@tinygen.op
def nearest_code(z):
    distance = ((z[:, None] - CODES) ** 2).sum(axis=-1)
    return CODES[distance.argmin(axis=1)], lambda g: g


@wrong_function("vq", Kind.STEPS, normal(4, 3), culprit="nearest_code")
class DiscreteAutoencoder(nn.Module):
    def __init__(self):
        self.encoder, self.decoder = Parameter(normal(3, 2)), Parameter(normal(2, 3))

    def forward(self, x):
        return np.tanh(nearest_code(x @ self.encoder) @ self.decoder)
