"""An LSTM language model on one page: it reads a text token by token, and carries a state.

Hochreiter & Schmidhuber 1997 with forget gates, as Zaremba et al. 2014 (arXiv:1409.2329) train it. Gates
decide what is written to the cell c, kept there and read; σ is the sigmoid, ⊙ the product of entries:

    (i, f, g, o) = x_t W + h_{t-1} U + b        x_t = wte[token]
    c_t = σ(f) ⊙ c_{t-1} + σ(i) ⊙ tanh(g)
    h_t = σ(o) ⊙ tanh(c_t)
    p(next token) = softmax(h_t W_y + b_y)

Truncated backpropagation through time (Williams & Peng 1990): a long text is cut into segments of T
tokens. The state goes on from one segment to the next, the gradient does not.

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, T tokens, C channels, V vocabulary.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, C, rng):
    """N(0, 1) for the embedding; the rest is uniform in ±1/√C."""
    uniform = lambda *shape: rng.uniform(-1, 1, shape) / math.sqrt(C)
    return {
        "wte": rng.standard_normal((V, C)),  # (V, C)
        "W": uniform(C, 4 * C),  # (C, 4C)
        "U": uniform(C, 4 * C),  # (C, 4C)
        "b": uniform(4 * C),  # (4C,)
        "W_y": uniform(C, V),  # (C, V)
        "b_y": uniform(V),  # (V,)
    }


def cell(p, x, h, c):
    """h and c (B, C) after the input x (B, C)."""
    a = x @ p["W"] + (h @ p["U"] + p["b"])  # (B, 4C)
    i, f, g, o = np.split(a, 4, axis=-1)  # each (B, C)
    c = ops.sigmoid(f) * c + ops.sigmoid(i) * np.tanh(g)  # (B, C)
    return ops.sigmoid(o) * np.tanh(c), c  # each (B, C)


def lstm(p, tokens, h, c):
    """Logits (B, T, V) of the token that follows each of tokens (B, T), and the last h and c (B, C)."""
    x = p["wte"][tokens]  # (B, T, C)
    hs = []
    for t in range(tokens.shape[1]):
        h, c = cell(p, x[:, t], h, c)  # each (B, C)
        hs.append(h)
    return np.stack(hs, axis=1) @ p["W_y"] + p["b_y"], h, c  # (B, T, V), (B, C), (B, C)


def cross_entropy(logits, targets):
    """The mean of -log p(target), for logits (B, T, V) and targets (B, T)."""
    log_p = ops.log_softmax(logits)  # (B, T, V)
    log_p = np.take_along_axis(log_p, targets[..., None], axis=-1)  # (B, T, 1)
    return -np.sum(log_p) / targets.size  # ()


def train_step(params, tokens, targets, h, c, update):
    """One step on a segment of tokens (B, T), from the state h, c (B, C) of the segment before it; targets
    (B, T) are the same text, one token later. Returns the loss and the last state, as arrays."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    logits, h, c = lstm(p, tokens, h, c)  # (B, T, V), (B, C), (B, C)
    loss = cross_entropy(logits, targets)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item(), h.numpy(), c.numpy()  # (B, C), (B, C)


def sample(p, tokens, n, rng, temperature=1.0):
    """Continue tokens (B, T) by n tokens, each drawn from softmax(logits / temperature)."""
    h = c = np.zeros((len(tokens), len(p["U"])))  # (B, C)
    new = tokens  # (B, T)
    for _ in range(n):
        logits, h, c = lstm(p, new, h, c)  # (B, ..., V), (B, C), (B, C)
        cdf = np.cumsum(ops.softmax(logits[:, -1] / temperature), axis=-1)  # (B, V)
        u = rng.random((len(tokens), 1)) * cdf[:, -1:]  # (B, 1)
        new = np.sum(cdf <= u, axis=-1, keepdims=True)  # (B, 1): the first whose cdf is above u
        tokens = np.concatenate([tokens, new], axis=1)  # (B, ...)
    return tokens
