"""GPT on one page: a language model that predicts the next token (Radford et al. 2018 and 2019, "GPT-2").

A Transformer (Vaswani et al. 2017, arXiv:1706.03762) of pre-norm blocks; LN is layer norm:

    x = wte[token] + wpe[position]
    x = x + attention(LN(x)),  x = x + MLP(LN(x))      n_layer times
    p(next token) = softmax(LN(x) wteᵀ)
    attention: softmax(q kᵀ / √d) v, where position t looks at positions 0 … t only

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, T positions, C channels, H heads, d = C / H, V vocabulary.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, block_size, n_layer, C, rng):
    """N(0, 0.02²), and 0.02² / (2 n_layer) for the 2 n_layer matrices whose outputs are added to x."""
    normal = lambda *shape, std=0.02: std * rng.standard_normal(shape)
    p = {
        "wte": normal(V, C),  # (V, C)
        "wpe": normal(block_size, C),  # (block_size, C)
        "ln_f": np.ones(C),  # (C,)
    }
    for i in range(n_layer):
        p[f"{i}.ln1"] = np.ones(C)  # (C,)
        p[f"{i}.qkv"] = normal(C, 3 * C)  # (C, 3C)
        p[f"{i}.proj"] = normal(C, C, std=0.02 / math.sqrt(2 * n_layer))  # (C, C)
        p[f"{i}.ln2"] = np.ones(C)  # (C,)
        p[f"{i}.fc"] = normal(C, 4 * C)  # (C, 4C)
        p[f"{i}.out"] = normal(4 * C, C, std=0.02 / math.sqrt(2 * n_layer))  # (4C, C)
    return p


def causal_attention(q, k, v):
    """softmax(q kᵀ / √d) v for q, k, v (B, H, T, d)."""
    T, d = q.shape[-2:]
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(d)  # (B, H, T, T)
    causal_mask = np.tri(T, dtype=bool)  # (T, T): True where key position <= query position
    scores = np.where(causal_mask, scores, -np.inf)  # (B, H, T, T)
    return ops.softmax(scores) @ v  # (B, H, T, d)


def block(p, i, x, H):
    """x (B, T, C) after block i: attention, then a perceptron, each added to x."""
    B, T, C = x.shape
    qkv = ops.layer_norm(x, p[f"{i}.ln1"]) @ p[f"{i}.qkv"]  # (B, T, 3C)
    q, k, v = qkv.reshape(B, T, 3, H, C // H).transpose(2, 0, 3, 1, 4)  # each (B, H, T, C/H)
    heads = causal_attention(q, k, v)  # (B, H, T, C/H)
    x = x + heads.transpose(0, 2, 1, 3).reshape(B, T, C) @ p[f"{i}.proj"]  # (B, T, C)
    hidden = ops.gelu(ops.layer_norm(x, p[f"{i}.ln2"]) @ p[f"{i}.fc"])  # (B, T, 4C)
    return x + hidden @ p[f"{i}.out"]  # (B, T, C)


def gpt(p, tokens, n_layer, H):
    """Logits (B, T, V) of the token that follows each of tokens (B, T)."""
    x = p["wte"][tokens] + p["wpe"][: tokens.shape[1]]  # (B, T, C)
    for i in range(n_layer):
        x = block(p, i, x, H)  # (B, T, C)
    return ops.layer_norm(x, p["ln_f"]) @ p["wte"].T  # (B, T, V): the embedding is the output layer too


def cross_entropy(logits, targets):
    """The mean of -log p(target), for logits (B, T, V) and targets (B, T)."""
    log_p = ops.log_softmax(logits)  # (B, T, V)
    log_p = np.take_along_axis(log_p, targets[..., None], axis=-1)  # (B, T, 1)
    return -np.sum(log_p) / targets.size  # ()


def train_step(params, tokens, targets, n_layer, H, update):
    """One step on tokens (B, T); targets (B, T) are the same text, one token later."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    loss = cross_entropy(gpt(p, tokens, n_layer, H), targets)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def sample(p, tokens, n, n_layer, H, rng, temperature=1.0):
    """Continue tokens (B, T) by n tokens, each drawn from softmax(logits / temperature)."""
    T, block_size = tokens.shape[1], len(p["wpe"])
    for t in range(T, T + n):
        logits = gpt(p, tokens[:, max(0, t - block_size) :], n_layer, H)[:, -1]  # (B, V)
        cdf = np.cumsum(ops.softmax(logits / temperature), axis=-1)  # (B, V)
        u = rng.random((len(tokens), 1)) * cdf[:, -1:]  # (B, 1)
        token = np.sum(cdf <= u, axis=-1, keepdims=True)  # (B, 1): the first whose cdf is above u
        tokens = np.concatenate([tokens, token], axis=1)  # (B, t + 1)
    return tokens
