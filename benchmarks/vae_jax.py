"""The VAE in JAX, for `vae.py`: the whole step compiled by XLA."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.jax_adam import adamw
from benchmarks.vae import BETAS, EPS, LR, Step, batches, draw, noises, weights


def loss(w: dict[str, Any], x: Any, noise: Any) -> Any:
    def linear(name: str, x: Any) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    h = jax.nn.relu(linear("encoder.fc", x))
    mean, logvar = linear("encoder.mean", h), linear("encoder.logvar", h)
    z = mean + jnp.exp(0.5 * logvar) * noise
    logits = linear("decoder.out", jax.nn.relu(linear("decoder.fc", z)))
    reconstruction = (jax.nn.softplus(logits) - logits * x).sum()
    kl = -0.5 * (1 + logvar - mean**2 - jnp.exp(logvar)).sum()
    return (reconstruction + kl) / x.shape[0]


def training_step() -> Step:
    w = {name: jnp.array(array) for name, array in weights().items()}
    decay = dict.fromkeys(w, 0.0)
    state = w, *({name: jnp.zeros_like(array) for name, array in w.items()} for _ in range(2))
    data, rng = cycle([jnp.array(x) for x in batches()]), noises()

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, t: Any, x: Any, noise: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(state[0], x, noise)
        return adamw(state, gradient, t, LR, BETAS, EPS, decay), value

    t = 0

    def step() -> Any:
        nonlocal state, t
        t += 1
        state, value = update(state, t, next(data), draw(rng))
        return value.block_until_ready()

    return step
