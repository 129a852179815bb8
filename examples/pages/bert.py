"""BERT on one page: an encoder that fills in masked words (Devlin et al. 2019, arXiv:1810.04805).

A Transformer (Vaswani et al. 2017) of post-norm blocks, which reads in both directions; LN is layer norm:

    x = LN(wte[token] + wpe[position])
    x = LN(x + attention(x)),  x = LN(x + gelu(x W_fc + b_fc) W_out + b_out)      n times
    p(hidden token) = softmax(LN(gelu(x W_head + b_head)) wteᵀ + b)
    attention: softmax(q kᵀ / √d) v, where each token looks at all real tokens, and at no padding

Of all tokens 15 % are chosen, and only these are predicted. 80 % of them become [MASK], 10 % become a random
token, and 10 % stay. The library has segments and the next-sentence loss as well.

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, T positions, C channels, H heads, d = C / H, F channels inside the perceptron,
V vocabulary.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, block_size, n, C, F, rng):
    """N(0, 0.02²) for matrices, 0 for biases; layer norms begin with weight 1 and bias 0."""
    p = {
        "wte": 0.02 * rng.standard_normal((V, C)),  # (V, C)
        "wpe": 0.02 * rng.standard_normal((block_size, C)),  # (block_size, C)
        "b": np.zeros(V),  # (V,)
    }
    block = {"qkv": (C, 3 * C), "proj": (C, C), "norm1": (C,), "fc": (C, F), "out": (F, C), "norm2": (C,)}
    layers = {f"{i}.{name}": shape for i in range(n) for name, shape in block.items()}
    for name, shape in {"norm": (C,), **layers, "head": (C, C), "head_norm": (C,)}.items():
        p[f"{name}.W"] = 0.02 * rng.standard_normal(shape) if len(shape) == 2 else np.ones(shape)  # (...)
        p[f"{name}.b"] = np.zeros(shape[-1])  # (...)
    return p


def linear(p, name, x):
    """x W + b."""
    return x @ p[f"{name}.W"] + p[f"{name}.b"]  # (...)


def norm(p, name, x):
    """LN(x)."""
    return ops.layer_norm(x, p[f"{name}.W"], p[f"{name}.b"], 1e-12)  # (B, T, C)


def attention(q, k, v, real):
    """softmax(q kᵀ / √d) v for q, k, v (B, H, T, d) and real (B, T)."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])  # (B, H, T, T)
    scores = np.where(real[:, None, None, :], scores, -np.inf)  # (B, H, T, T)
    return ops.softmax(scores) @ v  # (B, H, T, d)


def block(p, i, x, real, H):
    """x (B, T, C) after block i: attention, then a perceptron, with a norm after each sum."""
    B, T, C = x.shape
    qkv = linear(p, f"{i}.qkv", x).reshape(B, T, 3, H, C // H)  # (B, T, 3, H, C/H)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each (B, H, T, C/H)
    heads = attention(q, k, v, real).transpose(0, 2, 1, 3).reshape(B, T, C)  # (B, T, C)
    x = norm(p, f"{i}.norm1", x + linear(p, f"{i}.proj", heads))  # (B, T, C)
    return norm(p, f"{i}.norm2", x + linear(p, f"{i}.out", ops.gelu(linear(p, f"{i}.fc", x))))  # (B, T, C)


def bert(p, tokens, real, n, H):
    """Logits (B, T, V) of the token at each position; real (B, T) is False at padding."""
    x = norm(p, "norm", p["wte"][tokens] + p["wpe"][: tokens.shape[1]])  # (B, T, C)
    for i in range(n):
        x = block(p, i, x, real, H)  # (B, T, C)
    return norm(p, "head_norm", ops.gelu(linear(p, "head", x))) @ p["wte"].T + p["b"]  # (B, T, V)


def hide(tokens, real, V, MASK, rng):
    """Tokens (B, T) with holes, and which tokens are to be predicted."""
    chosen = (rng.random(tokens.shape) < 0.15) & real  # (B, T)
    u, words = rng.random(tokens.shape), rng.integers(0, V, tokens.shape)  # (B, T), (B, T)
    holes = np.where(u < 0.8, MASK, np.where(u >= 0.9, words, tokens))  # (B, T)
    return np.where(chosen, holes, tokens), chosen  # (B, T), (B, T)


def masked_loss(p, holes, tokens, chosen, real, n, H):
    """The mean of -log p(token) over the chosen tokens; all are (B, T)."""
    log_p = ops.log_softmax(bert(p, holes, real, n, H))  # (B, T, V)
    log_p = np.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]  # (B, T)
    return -np.sum(np.where(chosen, log_p, 0.0)) / np.sum(chosen)  # ()


def train_step(params, tokens, real, MASK, n, H, rng, update):
    """One step on tokens (B, T); real (B, T) is False at padding."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    holes, chosen = hide(tokens, real, len(params["wte"]), MASK, rng)  # (B, T), (B, T)
    loss = masked_loss(p, holes, tokens, chosen, real, n, H)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()
