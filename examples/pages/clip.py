"""CLIP on one page: one space for pictures and texts (Radford et al. 2021, arXiv:2103.00020).

Two encoders make a vector of each picture and of each text. In a batch of B pairs, each picture should be
nearest to its own text among all B, and each text to its own picture; I and T are matrices of B vectors of
length 1:

    z = I Tᵀ exp(t),  t is learned, and exp(t) ≤ 100
    loss = ½ (cross entropy of the rows of z + cross entropy of its columns), row and column i in the class i

The image encoder is a Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): tokens are patches of
the picture, read at a learned first token. The text encoder is a causal Transformer, read at the end token,
the only one that sees the whole text. Both are without biases here.

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B pictures with Q channels and X pixels along a side, in N = (X/P)² patches; M texts of S
ids, M = B in training; V ids, the last one is the end token; C channels of the encoders, H heads, d = C / H;
D numbers of a vector; W positions of either encoder.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, S, N, Q, P, n, C, D, rng):
    """Queries, keys, values N(0, 1/C); 1/(2nC) for matrices whose outputs are added to the stream."""
    normal = lambda *shape, std: std * rng.standard_normal(shape)
    p = {
        "t": np.array(-math.log(0.07)),  # ()
        "token": normal(V, C, std=0.02),  # (V, C)
        "text.place": normal(S, C, std=0.01),  # (S, C)
        "image.place": normal(N + 1, C, std=0.01),  # (N + 1, C)
        "patch": normal(C, Q, P, P, std=1 / math.sqrt(3 * Q * P * P)),  # (C, Q, P, P)
        "first": normal(C, std=1 / math.sqrt(C)),  # (C,)
        "first_norm": np.ones(C),  # (C,)
    }
    for tower in ("image", "text"):
        for i in range(n):
            p[f"{tower}.{i}.ln1"] = np.ones(C)  # (C,)
            p[f"{tower}.{i}.qkv"] = normal(C, 3 * C, std=1 / math.sqrt(C))  # (C, 3C)
            p[f"{tower}.{i}.proj"] = normal(C, C, std=1 / math.sqrt(2 * n * C))  # (C, C)
            p[f"{tower}.{i}.ln2"] = np.ones(C)  # (C,)
            p[f"{tower}.{i}.fc"] = normal(C, 4 * C, std=1 / math.sqrt(2 * C))  # (C, 4C)
            p[f"{tower}.{i}.out"] = normal(4 * C, C, std=1 / math.sqrt(2 * n * C))  # (4C, C)
        p[f"{tower}.norm"] = np.ones(C)  # (C,)
        p[f"{tower}.projection"] = normal(C, D, std=1 / math.sqrt(C))  # (C, D)
    return p


def block(p, name, x, H, seen):
    """x (B, W, C) -> (B, W, C): attention to the positions `seen`, then a perceptron; x σ(1.702 x) for
    GELU."""
    B, W, C = x.shape
    qkv = ops.layer_norm(x, p[f"{name}.ln1"]) @ p[f"{name}.qkv"]  # (B, W, 3C)
    q, k, v = qkv.reshape(B, W, 3, H, C // H).transpose(2, 0, 3, 1, 4)  # each (B, H, W, d)
    scores = np.where(seen, q @ k.swapaxes(-1, -2) / math.sqrt(C // H), -np.inf)  # (B, H, W, W)
    y = (ops.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(B, W, C)  # (B, W, C)
    x = x + y @ p[f"{name}.proj"]  # (B, W, C)
    h = ops.layer_norm(x, p[f"{name}.ln2"]) @ p[f"{name}.fc"]  # (B, W, 4C)
    return x + (h * ops.sigmoid(1.702 * h)) @ p[f"{name}.out"]  # (B, W, C)


def encode_images(p, x, n, H):
    """The vectors (B, D) of pictures x (B, Q, X, X)."""
    C, _, P, _ = p["patch"].shape
    h = ops.conv2d(x, p["patch"], stride=P).reshape(len(x), C, -1)  # (B, C, N)
    h = np.concatenate([np.broadcast_to(p["first"][:, None], (len(x), C, 1)), h], axis=2)  # (B, C, N + 1)
    h = ops.layer_norm(h.swapaxes(1, 2) + p["image.place"], p["first_norm"])  # (B, N + 1, C)
    for i in range(n):
        h = block(p, f"image.{i}", h, H, seen=True)  # (B, N + 1, C)
    return ops.layer_norm(h[:, 0], p["image.norm"]) @ p["image.projection"]  # (B, D)


def encode_texts(p, y, n, H):
    """The vectors (M, D) of texts y (M, S), read at their first end token."""
    h = p["token"][y] + p["text.place"]  # (M, S, C)
    for i in range(n):
        h = block(p, f"text.{i}", h, H, seen=np.tri(y.shape[1], dtype=bool))  # (M, S, C)
    h = h[np.arange(len(y)), np.argmax(y == len(p["token"]) - 1, axis=1)]  # (M, C)
    return ops.layer_norm(h, p["text.norm"]) @ p["text.projection"]  # (M, D)


def logits(p, x, y, n, H):
    """z (B, M) of pictures x (B, Q, X, X) and texts y (M, S); the largest of a row is the nearest text."""
    unit = lambda a: a / np.sqrt(np.sum(a * a, axis=-1, keepdims=True))
    return unit(encode_images(p, x, n, H)) @ unit(encode_texts(p, y, n, H)).T * np.exp(p["t"])  # (B, M)


def train_step(params, x, y, n, H, update):
    """One step on pictures x (B, Q, X, X) and their texts y (B, S)."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    z = logits(p, x, y, n, H)  # (B, B)
    loss = -sum(np.mean(np.diagonal(ops.log_softmax(z, axis))) for axis in (0, 1)) / 2  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    params["t"] = np.minimum(params["t"], math.log(100))  # ()
    return loss.item()
