"""Right ops and layers of the same kinds."""

import numpy as np
from users_planting import right_function, right_op, sigmoid, spread

import tinygen
from tinygen import nn, ops
from tinygen.nn import Parameter

rng = np.random.default_rng(4707)


@right_op("focal_loss", 1.5 * rng.normal(size=6), np.array([1, 0, 1, 1, 0, 0]))
def binary_focal_loss(logits, labels):
    gamma, balance = 1.5, 0.3
    p = sigmoid(logits)
    pt = np.where(labels == 1, p, 1 - p)
    at = np.where(labels == 1, balance, 1 - balance)
    loss = -(at * (1 - pt) ** gamma * np.log(pt)).mean()

    def dlogits(g):
        dpt = gamma * (1 - pt) ** (gamma - 1) * np.log(pt) - (1 - pt) ** gamma / pt
        sign = np.where(labels == 1, 1.0, -1.0)
        return g * at * dpt * sign * p * (1 - p) / len(labels)

    return loss, dlogits


@right_op(
    "layer_norm", rng.normal(size=(3, 4, 5)), rng.uniform(0.5, 1.5, size=(4, 5)), rng.normal(size=(4, 5))
)
def layer_norm_of_maps(x, weight, bias):
    axes = (1, 2)
    centered = x - x.mean(axis=axes, keepdims=True)
    scale = np.sqrt((centered**2).mean(axis=axes, keepdims=True)) + 0.05
    xhat = centered / scale

    def dx(g):
        g = g * weight
        spread_of = scale - 0.05
        inner = (g * centered).mean(axis=axes, keepdims=True)
        return (g - g.mean(axis=axes, keepdims=True)) / scale - centered * inner / (spread_of * scale**2)

    return xhat * weight + bias, dx, lambda g: (g * xhat).sum(axis=0), lambda g: g.sum(axis=0)


@right_op("max_pool2d", spread(1, 2, 5, 5))
def overlapping_max_pool(x):
    """Windows of 3 by 3, two apart."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    flat = windows.reshape(*windows.shape[:4], 9)
    best = flat.argmax(axis=-1)
    y = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    n, c, i, j = np.indices(best.shape)
    place = (n, c, 2 * i + best // 3, 2 * j + best % 3)

    def dx(g):
        d = np.zeros_like(x)
        np.add.at(d, place, g)
        return d

    return y, dx


@right_op("conv_transpose1d", rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 2, 3)))
def transposed_conv_of_stride_two(x, w):
    """(N, C, T) and (C, O, K): (N, O, 2 T + 1)."""
    n, _, t = x.shape
    spread_out = np.einsum("nct,cok->nokt", x, w)
    y = np.zeros_like(x, shape=(n, 2, 2 * t + 1))
    for k in range(3):
        y[:, :, k : k + 2 * t - 1 : 2] += spread_out[:, :, k]

    def taps(g):
        return np.stack([g[:, :, k : k + 2 * t - 1 : 2] for k in range(3)], axis=2)

    def dx(g):
        return np.einsum("nokt,cok->nct", taps(g), w)

    def dw(g):
        return np.einsum("nokt,nct->cok", taps(g), x)

    return y, dx, dw


@right_op("linear_attention", rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2)))
def linear_attention_with_its_normalizer(q, k, v):
    fq, fk = (
        np.where(q > 0, q + 1, np.exp(np.minimum(q, 0))),
        np.where(k > 0, k + 1, np.exp(np.minimum(k, 0))),
    )
    kv, ks = fk.T @ v, fk.sum(axis=0)
    norm = (fq @ ks)[:, None]
    y = fq @ kv / norm

    def back(g):
        dtop = g / norm
        dnorm = -(g * y).sum(axis=1, keepdims=True) / norm
        dfq = dtop @ kv.T + dnorm * ks
        dkv, dks = fq.T @ dtop, (fq * dnorm).sum(axis=0)
        dfk = v @ dkv.T + dks
        dv = fk @ dkv
        return dfq * np.where(q > 0, 1.0, fq), dfk * np.where(k > 0, 1.0, fk), dv

    return y, back


@tinygen.op
def gated_step(pre, h, u):
    """A minimal gated unit (Zhou et al. 2016)."""
    f = sigmoid(pre[:, :3])
    mixed = f * h
    n = np.tanh(pre[:, 3:] + mixed @ u)
    y = (1 - f) * h + f * n

    def back(g):
        dn = g * f * (1 - n * n)
        dmixed = dn @ u.T
        df = (g * (n - h) + dmixed * h) * f * (1 - f)
        return np.concatenate([df, dn], axis=1), g * (1 - f) + dmixed * f, mixed.T @ dn

    return y, back


@right_function("gru", rng.normal(size=(4, 2, 5)))
class MinimalGatedLayer(nn.Module):
    def __init__(self):
        self.w = Parameter(rng.normal(size=(5, 6)) / 2)
        self.u = Parameter(rng.normal(size=(3, 3)) / 2)

    def forward(self, x):
        h = np.zeros((2, 3))
        out = []
        for t in range(4):
            h = gated_step(x[t] @ self.w, h, self.u)
            out.append(h)
        return np.stack(out)


@right_op("power_spectrum", rng.normal(size=(2, 9)))
def log_power_spectrum(frames):
    """Of odd length: only the first bin is its own mirror image."""
    n = frames.shape[-1]
    spectrum = np.fft.rfft(frames, axis=-1)
    power = spectrum.real**2 + spectrum.imag**2 + 0.01
    once = np.where(np.arange(n // 2 + 1) == 0, 1.0, 0.5)

    def dframes(g):
        return n * np.fft.irfft(2 * once * g / power * spectrum, n=n, axis=-1)

    return np.log(power), dframes


@right_op("gaussian_loglik", rng.normal(size=(3, 3)) + 2.5 * np.eye(3), rng.normal(size=3))
def gaussian_log_likelihood_by_its_triangle(lower, x):
    """-log N(x; 0, L Lᵀ) of what is on and below the diagonal of the first argument."""
    low = np.tril(lower)
    z = np.linalg.solve(low, x)
    nll = 0.5 * (z @ z) + np.log(np.abs(np.diagonal(low))).sum()

    def dlower(g):
        solved = np.linalg.solve(low.T, z)
        return g * np.tril(np.diag(1 / np.diagonal(low)) - np.outer(solved, z))

    return nll, dlower, lambda g: g * np.linalg.solve(low.T, z)


@right_op("volume_render", rng.uniform(0.1, 2.0, size=(3, 5)), rng.uniform(0, 1, size=(3, 5, 2)))
def rays_in_two_colors(density, color):
    optical = 0.4 * density
    light = np.exp(-(np.cumsum(optical, axis=-1) - optical))
    weights = light * (1 - np.exp(-optical))
    y = (weights[..., None] * color).sum(axis=1)

    def ddensity(g):
        shade = (g[:, None] * color).sum(axis=-1)
        later = np.cumsum((shade * weights)[:, ::-1], axis=-1)[:, ::-1] - shade * weights
        return 0.4 * (shade * light * np.exp(-optical) - later)

    return y, ddensity, lambda g: weights[..., None] * g[:, None]


@right_function("moe", rng.normal(size=(5, 4)))
class SoftlyRoutedExperts(nn.Module):
    """The two best of three experts, by a softmax over those two."""

    def __init__(self):
        self.router = Parameter(rng.normal(size=(4, 3)))
        self.experts = Parameter(rng.normal(size=(3, 4, 4)) / 2)

    def forward(self, x):
        scores = x @ self.router
        worst = scores.detach().numpy().argmin(axis=1)
        gates = ops.softmax(np.where(np.eye(3)[worst] > 0, -np.inf, scores))
        out = ops.silu(x) @ self.experts
        return (out * gates.T[:, :, None]).sum(axis=0)
