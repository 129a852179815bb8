"""The GPT in JAX, for `gpt.py`: functions of a dictionary of weights, the whole step compiled by XLA."""

from __future__ import annotations

import math
from functools import partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpt import Size, Step, batches, weights
from benchmarks.jax_adam import adamw

Weights = dict[str, Any]


def shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The shape of every weight, by its name in our model."""
    c = size.width
    found: dict[str, tuple[int, ...]] = {"wte.weight": (size.vocab, c), "wpe.weight": (size.context, c)}
    for i in range(size.layers):
        for name, (out, into) in {
            "attn.qkv": (3 * c, c),
            "attn.proj": (c, c),
            "mlp.fc": (4 * c, c),
            "mlp.proj": (c, 4 * c),
        }.items():
            found[f"h.{i}.{name}.weight"], found[f"h.{i}.{name}.bias"] = (out, into), (out,)
    for norm in ["ln_f", *(f"h.{i}.ln{j}" for i in range(size.layers) for j in (1, 2))]:
        found[f"{norm}.weight"] = found[f"{norm}.bias"] = (c,)
    return found


def linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w: Weights, name: str, x: Any) -> Any:
    centered = x - x.mean(-1, keepdims=True)
    inv = jax.lax.rsqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
    return centered * inv * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(w: Weights, name: str, x: Any, heads: int) -> Any:
    b, t, c = x.shape
    q, k, v = jnp.split(linear(w, f"{name}.qkv", x).reshape(b, t, 3 * heads, c // heads), 3, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(c // heads)
    p = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf))
    return linear(w, f"{name}.proj", jnp.einsum("bhqk,bkhd->bqhd", p, v).reshape(b, t, c))


def loss(w: Weights, idx: Any, targets: Any, size: Size) -> Any:
    x = w["wte.weight"][idx] + w["wpe.weight"]  # (B, T, C)
    for i in range(size.layers):
        x = x + attention(w, f"h.{i}.attn", layer_norm(w, f"h.{i}.ln1", x), size.heads)
        h = jax.nn.gelu(linear(w, f"h.{i}.mlp.fc", layer_norm(w, f"h.{i}.ln2", x)), approximate=False)
        x = x + linear(w, f"h.{i}.mlp.proj", h)
    logp = jax.nn.log_softmax(layer_norm(w, "ln_f", x) @ w["wte.weight"].T)
    return -jnp.take_along_axis(logp, targets[..., None], axis=-1).mean()


def training_step(size: Size) -> Step:
    from benchmarks.gpt import BETAS, DECAY, EPS, LR

    w = {name: jnp.array(array) for name, array in weights(shapes(size))}
    decay = {name: DECAY * (array.ndim >= 2) for name, array in w.items()}
    state = w, *({name: jnp.zeros_like(array) for name, array in w.items()} for _ in range(2))
    data = cycle([(jnp.array(idx), jnp.array(targets)) for idx, targets in batches(size)])

    @partial(jax.jit, donate_argnums=0)
    def update(state: Any, t: Any, idx: Any, targets: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(state[0], idx, targets, size)
        return adamw(state, gradient, t, LR, BETAS, EPS, decay), value

    t = 0

    def step() -> Any:
        nonlocal state, t
        t += 1
        state, value = update(state, t, *next(data))
        return value.block_until_ready()

    return step
