"""Translation on one page: "Attention is all you need" (Vaswani et al. 2017, arXiv:1706.03762).

An encoder reads the source, a decoder writes the target. In each layer, with the layer norm LN:

    x = LN(x + attention(x, x)),  x = LN(x + FFN(x))      the encoder, first x = √C E[source] + positions
    y = LN(y + attention(y, y)),  y = LN(y + attention(y, x)),  y = LN(y + FFN(y))      the decoder
    p(next token) = softmax(y Eᵀ)
    attention(x, m): softmax(q kᵀ / √d) v, with q from x, and k, v from m;  FFN(x) = max(0, x fc) out

In attention(y, y) a position looks only at itself and earlier ones, and nobody looks at padding.
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, S and T positions, C channels, H heads, d = C / H, V vocabulary of both languages.
"""

import math

import numpy as np

from tinygen import Tensor, ops

PAD, BEGIN, END = 0, 1, 2
SUBLAYERS = ("encoder.attn", "encoder.mlp", "decoder.attn", "decoder.cross", "decoder.mlp")


def init(V, layers, C, hidden, rng):
    """Each matrix from N(0, 1 / rows), and the embedding E from N(0, 1 / C)."""
    p = {"E": rng.standard_normal((V, C)) / math.sqrt(C)}  # (V, C)
    attention, mlp = [("q", C, C), ("kv", C, 2 * C), ("proj", C, C)], [("fc", C, hidden), ("out", hidden, C)]
    for name in [f"{sublayer}.{i}" for sublayer in SUBLAYERS for i in range(layers)]:
        for w, rows, columns in mlp if "mlp" in name else attention:
            p[f"{name}.{w}"] = rng.standard_normal((rows, columns)) / math.sqrt(rows)  # (rows, columns)
        p[f"{name}.norm"] = np.ones(C)  # (C,)
    return p


def add_attention(p, name, x, m, mask, H):
    """LN(x + attention(x, m)): x (B, T, C) looks at the positions of m (B, S, C) where the mask is True."""
    (B, T, C), S = x.shape, m.shape[1]
    q = (x @ p[f"{name}.q"]).reshape(B, T, H, C // H).transpose(0, 2, 1, 3)  # (B, H, T, C/H)
    k, v = (m @ p[f"{name}.kv"]).reshape(B, S, 2, H, C // H).transpose(2, 0, 3, 1, 4)  # each (B, H, S, C/H)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(C // H)  # (B, H, T, S)
    heads = ops.softmax(np.where(mask, scores, -np.inf)) @ v  # (B, H, T, C/H)
    attention = heads.transpose(0, 2, 1, 3).reshape(B, T, C) @ p[f"{name}.proj"]  # (B, T, C)
    return ops.layer_norm(x + attention, p[f"{name}.norm"])  # (B, T, C)


def add_ffn(p, name, x):
    """LN(x + FFN(x)) for x (B, T, C)."""
    ffn = ops.relu(x @ p[f"{name}.fc"]) @ p[f"{name}.out"]  # (B, T, C)
    return ops.layer_norm(x + ffn, p[f"{name}.norm"])  # (B, T, C)


def embed(p, tokens):
    """√C E[tokens], plus sines and cosines of the positions, for tokens (B, T)."""
    T, C = tokens.shape[1], p["E"].shape[1]
    angles = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, C, 2) / C)  # (T, C/2)
    positions = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(T, C)  # (T, C)
    return p["E"][tokens] * math.sqrt(C) + positions  # (B, T, C)


def encode(p, source, layers, H):
    """Vectors (B, S, C) of source (B, S)."""
    x, mask = embed(p, source), (source != PAD)[:, None, None]  # (B, S, C), (B, 1, 1, S)
    for i in range(layers):
        x = add_attention(p, f"encoder.attn.{i}", x, x, mask, H)  # (B, S, C)
        x = add_ffn(p, f"encoder.mlp.{i}", x)  # (B, S, C)
    return x


def decode(p, target, x, source, layers, H):
    """Logits (B, T, V) of the token after each of target (B, T); x (B, S, C) is the encoded source (B, S)."""
    y, mask = embed(p, target), (source != PAD)[:, None, None]  # (B, T, C), (B, 1, 1, S)
    earlier = np.tri(target.shape[1], dtype=bool) & (target != PAD)[:, None, None]  # (B, 1, T, T)
    for i in range(layers):
        y = add_attention(p, f"decoder.attn.{i}", y, y, earlier, H)  # (B, T, C)
        y = add_attention(p, f"decoder.cross.{i}", y, x, mask, H)  # (B, T, C)
        y = add_ffn(p, f"decoder.mlp.{i}", y)  # (B, T, C)
    return y @ p["E"].T  # (B, T, V)


def smoothed_cross_entropy(logits, labels, eps):
    """The mean of -Σ q log p for logits (B, T, V), labels (B, T): q is 1 - eps at the label plus eps / V."""
    q = (1 - eps) * np.eye(logits.shape[-1])[labels] + eps / logits.shape[-1]  # (B, T, V)
    losses = -np.sum(q * ops.log_softmax(logits), axis=-1)  # (B, T)
    return np.sum(losses * (labels != PAD)) / np.sum(labels != PAD)  # ()


def train_step(params, source, target, layers, H, eps, update):
    """One step on source (B, S) and target (B, T): after each token the decoder is to write the next."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    logits = decode(p, target[:, :-1], encode(p, source, layers, H), source, layers, H)  # (B, T - 1, V)
    loss = smoothed_cross_entropy(logits, target[:, 1:], eps)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def translate(p, source, n, layers, H):
    """The n most probable tokens, one after the other, for source (B, S); those after END mean nothing."""
    x, target = encode(p, source, layers, H), np.full((len(source), 1), BEGIN)  # (B, S, C), (B, 1)
    for t in range(1, n + 1):
        logits = decode(p, target, x, source, layers, H)[:, -1]  # (B, V)
        target = np.append(target[:, :t], np.argmax(logits, axis=-1)[:, None], axis=1)  # (B, t + 1)
    return target[:, 1:]  # (B, n)
