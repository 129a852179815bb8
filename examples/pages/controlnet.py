"""ControlNet on one page: a trained diffusion is steered by hints (Zhang et al. 2023, arXiv:2302.05543).

The trained network ε_θ has two halves, as a UNet has: an encoder makes feature maps of x_t, a decoder makes
the predicted noise of them. It is frozen. A copy of the encoder, which also sees the hint c, is trained:

    y = F(x; Θ) + Z(F(x + E(c); Θ_c))                                                eq. 2
    loss = ‖ε - ε_θ(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t, c)‖²                                 eq. 3

Here F is the encoder with weights Θ, the copy has Θ_c = Θ at first, and Z is a zero convolution for each
feature map: a convolution of 1×1 whose weights and biases start as 0. So at first y = F(x; Θ). Its gradient
is not 0, though: Z(m) = w m + b has ∂Z/∂w = m. Then w is no longer 0, and the copy learns, too. E is a small
network for the hint; its last convolution starts as 0, too.

The halves are arguments: encoder(params, x, t, more) returns a list of feature maps, the first of them with
`more` added to it, and decoder(params, maps, t) returns the predicted noise. `base` has the weights of
both. `params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B pictures, D their channels, Q those of hints, X and Y their sides, K channels of E, C
channels of a feature map, N of the first.
"""

import numpy as np

from tinygen import Tensor, ops


def init(encoder_params, channels, Q, K, rng):
    """The copy, E and zero convolutions, for feature maps with these channels; the first is as large as x."""
    p = {f"copy.{name}": w.copy() for name, w in encoder_params.items()}
    p["E1"] = rng.uniform(-1, 1, (K, Q, 3, 3)) / np.sqrt(9 * Q)  # (K, Q, 3, 3)
    p["b1"] = np.zeros(K)  # (K,)
    p["E2"] = np.zeros((channels[0], K, 3, 3))  # (N, K, 3, 3)
    p["b2"] = np.zeros(channels[0])  # (N,)
    for i, C in enumerate(channels):
        p[f"w{i}"] = np.zeros((C, C, 1, 1))  # (C, C, 1, 1)
        p[f"z{i}"] = np.zeros(C)  # (C,)
    return p


def hint_map(p, c):
    """E(c) for hints c (B, Q, X, Y)."""
    h = ops.silu(ops.conv2d(c, p["E1"], p["b1"], padding=1))  # (B, K, X, Y)
    return ops.conv2d(h, p["E2"], p["b2"], padding=1)  # (B, N, X, Y)


def residuals(p, encoder, x, t, c):
    """Z(F(x + E(c); Θ_c)), one for each feature map; x (B, D, X, Y), t (B,), c (B, Q, X, Y)."""
    copy = {name[5:]: w for name, w in p.items() if name.startswith("copy.")}
    maps = encoder(copy, x, t, hint_map(p, c))
    return [ops.conv2d(m, p[f"w{i}"], p[f"z{i}"]) for i, m in enumerate(maps)]


def eps_theta(base, p, encoder, decoder, x, t, c, strength=1.0):
    """The noise in x (B, D, X, Y) at steps t (B,), for hints c (B, Q, X, Y)."""
    maps = encoder(base, x, t, 0.0)
    added = residuals(p, encoder, x, t, c)
    return decoder(base, [m + strength * r for m, r in zip(maps, added, strict=True)], t)  # (B, D, X, Y)


def loss(base, p, encoder, decoder, x_0, t, c, eps, alpha_bar):
    """The mean squared error of the noise in x_t; x_0, eps (B, D, X, Y), t (B,), c (B, Q, X, Y)."""
    a = alpha_bar[t][:, None, None, None]  # (B, 1, 1, 1)
    x_t = np.sqrt(a) * x_0 + np.sqrt(1 - a) * eps  # (B, D, X, Y)
    return np.mean((eps - eps_theta(base, p, encoder, decoder, x_t, t, c)) ** 2)  # ()


def train_step(base, params, encoder, decoder, x_0, c, alpha_bar, rng, update):
    """One step on pictures x_0 (B, D, X, Y) with hints c (B, Q, X, Y). `base` does not change."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    t = rng.integers(1, len(alpha_bar), size=len(x_0))  # (B,)
    eps = rng.standard_normal(x_0.shape)  # (B, D, X, Y)
    value = loss(base, p, encoder, decoder, x_0, t, c, eps, alpha_bar)  # ()
    value.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return value.item()


def sample(base, p, encoder, decoder, c, shape, alpha_bar, rng, strength=1.0):
    """Pictures of this shape along hints c (B, Q, X, Y), by DDIM."""
    x = rng.standard_normal(shape)  # (B, D, X, Y)
    for t in range(len(alpha_bar) - 1, 0, -1):
        a, s = alpha_bar[t], alpha_bar[t - 1]  # each ()
        eps = eps_theta(base, p, encoder, decoder, x, np.full(len(x), t), c, strength)  # (B, D, X, Y)
        x_0 = (x - np.sqrt(1 - a) * eps) / np.sqrt(a)  # (B, D, X, Y)
        x = np.sqrt(s) * x_0 + np.sqrt(1 - s) * eps  # (B, D, X, Y)
    return x
