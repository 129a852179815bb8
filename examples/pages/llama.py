"""Llama on one page: today's decoder, which predicts the next token (Touvron et al. 2023, arXiv:2302.13971).

GPT with rotary positions (Su et al. 2021), RMS norms (Zhang & Sennrich 2019), a gate in the perceptron
(Shazeer 2020), and fewer heads of keys and values than of queries (Ainslie et al. 2023); RMS is the norm:

    x = wte[token]
    x = x + attention(RMS(x)),  x = x + (silu(RMS(x) W_gate) · RMS(x) W_up) W_down      n times
    p(next token) = softmax(RMS(x) W_head)
    attention: softmax(q kᵀ / √d) v, where position t looks at positions 0 … t only,
    and pair i of q and k at position t is rotated by the angle t · base^(-2i/d)

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, T positions, C channels, H heads of queries, K of keys and values, d = C / H,
F channels inside the perceptron, V vocabulary.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, n, C, H, K, F, rng):
    """N(0, 0.02²), and 0.02² / 2n for the 2n matrices whose outputs are added to x."""
    normal = lambda *shape, std=0.02: std * rng.standard_normal(shape)
    d, last = C // H, 0.02 / math.sqrt(2 * n)
    p = {
        "wte": normal(V, C),  # (V, C)
        "norm": np.ones(C),  # (C,)
        "head": normal(C, V),  # (C, V)
    }
    for i in range(n):
        p[f"{i}.norm1"] = np.ones(C)  # (C,)
        p[f"{i}.q"] = normal(C, H * d)  # (C, H*d)
        p[f"{i}.k"] = normal(C, K * d)  # (C, K*d)
        p[f"{i}.v"] = normal(C, K * d)  # (C, K*d)
        p[f"{i}.proj"] = normal(H * d, C, std=last)  # (H*d, C)
        p[f"{i}.norm2"] = np.ones(C)  # (C,)
        p[f"{i}.gate"] = normal(C, F)  # (C, F)
        p[f"{i}.up"] = normal(C, F)  # (C, F)
        p[f"{i}.down"] = normal(F, C, std=last)  # (F, C)
    return p


def rotary(x, base=10_000.0):
    """x (..., T, d) with the pair (x_i, x_{i + d/2}) at position t rotated by t · base^(-2i/d)."""
    T, d = x.shape[-2:]
    angle = np.arange(T)[:, None] * base ** (-np.arange(0, d, 2) / d)  # (T, d/2)
    cos, sin = np.cos(angle), np.sin(angle)  # each (T, d/2)
    a, b = x[..., : d // 2], x[..., d // 2 :]  # each (..., T, d/2)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)  # (..., T, d)


def attention(p, i, x, H, K):
    """x (B, T, C) -> (B, T, C), by H heads of queries and K of keys and values."""
    B, T, C = x.shape
    heads = lambda w, n: (x @ p[f"{i}.{w}"]).reshape(B, T, n, C // H).transpose(0, 2, 1, 3)
    q, k = rotary(heads("q", H)), rotary(heads("k", K))  # (B, H, T, d), (B, K, T, d)
    v = heads("v", K)  # (B, K, T, d)
    k, v = np.repeat(k, H // K, axis=1), np.repeat(v, H // K, axis=1)  # each (B, H, T, d)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // H)  # (B, H, T, T)
    scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)  # (B, H, T, T): key position <= query position
    y = ops.softmax(scores) @ v  # (B, H, T, d)
    return y.transpose(0, 2, 1, 3).reshape(B, T, C) @ p[f"{i}.proj"]  # (B, T, C)


def llama(p, tokens, n, H, K):
    """Logits (B, T, V) of the token that follows each of tokens (B, T)."""
    x = p["wte"][tokens]  # (B, T, C)
    for i in range(n):
        x = x + attention(p, i, ops.rms_norm(x, p[f"{i}.norm1"], 1e-5), H, K)  # (B, T, C)
        h = ops.rms_norm(x, p[f"{i}.norm2"], 1e-5)  # (B, T, C)
        x = x + (ops.silu(h @ p[f"{i}.gate"]) * (h @ p[f"{i}.up"])) @ p[f"{i}.down"]  # (B, T, C)
    return ops.rms_norm(x, p["norm"], 1e-5) @ p["head"]  # (B, T, V)


def train_step(params, tokens, targets, n, H, K, update):
    """One step on tokens (B, T); targets (B, T) are the same text, one token later."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    log_p = ops.log_softmax(llama(p, tokens, n, H, K))  # (B, T, V)
    loss = -np.sum(np.take_along_axis(log_p, targets[..., None], axis=-1)) / targets.size  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def sample(p, tokens, steps, n, H, K, rng, temperature=1.0):
    """Continue tokens (B, T) by so many tokens, each drawn from softmax(logits / temperature)."""
    for _ in range(steps):
        cdf = np.cumsum(ops.softmax(llama(p, tokens, n, H, K)[:, -1] / temperature), axis=-1)  # (B, V)
        u = rng.random((len(tokens), 1)) * cdf[:, -1:]  # (B, 1)
        token = np.sum(cdf <= u, axis=-1, keepdims=True)  # (B, 1): the first whose cdf is above u
        tokens = np.concatenate([tokens, token], axis=1)  # (B, ...)
    return tokens
