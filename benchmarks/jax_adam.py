"""AdamW for the peers in JAX, in the form of `tinygen.optim.AdamW`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp


def adamw(
    state: Any, gradient: Any, t: Any, lr: float, betas: tuple[float, float], eps: float, decay: Any
) -> Any:
    """The state after step t = 1, 2, ... `state` has three dictionaries by name: the weights, the running
    means of the gradients, and the running means of their squares. `decay` has the weight decay of each
    weight."""
    b1, b2 = betas
    w, m, v = state
    m = {k: b1 * m[k] + (1 - b1) * g for k, g in gradient.items()}
    v = {k: b2 * v[k] + (1 - b2) * g * g for k, g in gradient.items()}

    def new_weight(k: str) -> Any:
        step = m[k] / (1 - b1**t) / (jnp.sqrt(v[k] / (1 - b2**t)) + eps)
        return w[k] * (1 - lr * decay[k]) - lr * step

    return {k: new_weight(k) for k in w}, m, v
