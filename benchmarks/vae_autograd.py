"""The VAE in HIPS autograd, for `vae.py`: autograd traces NumPy code. Adam is written here."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import autograd.numpy as np
from autograd import value_and_grad

from benchmarks.vae import BETAS, EPS, LR, Step, batches, draw, noises, weights

Weights = dict[str, Any]


def loss(w: Weights, x: Any, noise: Any) -> Any:
    def linear(name: str, x: Any) -> Any:
        return np.dot(x, w[f"{name}.weight"].T) + w[f"{name}.bias"]

    h = np.maximum(linear("encoder.fc", x), 0)
    mean, logvar = linear("encoder.mean", h), linear("encoder.logvar", h)
    z = mean + np.exp(0.5 * logvar) * noise
    logits = linear("decoder.out", np.maximum(linear("decoder.fc", z), 0))
    reconstruction = np.sum(np.logaddexp(logits, 0) - logits * x)
    kl = -0.5 * np.sum(1 + logvar - mean**2 - np.exp(logvar))
    return (reconstruction + kl) / x.shape[0]


def adam(w: Weights, gradient: Weights, m: Weights, v: Weights, t: int) -> None:
    """Adam's step t = 1, 2, ..., in place."""
    b1, b2 = BETAS
    for k, g in gradient.items():
        m[k] += (1 - b1) * (g - m[k])
        v[k] += (1 - b2) * (g * g - v[k])
        w[k] -= LR * (m[k] / (1 - b1**t)) / (np.sqrt(v[k] / (1 - b2**t)) + EPS)


def training_step() -> Step:
    w = weights()
    m, v = ({name: np.zeros_like(array) for name, array in w.items()} for _ in range(2))
    slope = value_and_grad(loss)
    data, rng = cycle(batches()), noises()
    t = 0

    def step() -> Any:
        nonlocal t
        t += 1
        value, gradient = slope(w, next(data), draw(rng))
        adam(w, gradient, m, v, t)
        return value

    return step
