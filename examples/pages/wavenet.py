"""WaveNet on one page: a sequence is predicted from its past by causal dilated convolutions.

van den Oord et al. 2016 (arXiv:1609.03499). A layer sees two inputs, x_t and x_{t-d}. The dilation d = 1, 2,
4, ... doubles from layer to layer, so a few layers reach far back. ⊙ is the product of entries, σ the
sigmoid, y_t a one-hot vector, the class of the token to come (the note that is played, a voice):

    z_t = tanh(W_f [x_{t-d}, x_t] + V_f y_t) ⊙ σ(W_g [x_{t-d}, x_t] + V_g y_t)
    x_t <- x_t + W_r z_t        the residual connection, to the next layer; the last one has none
    p(next) = softmax(W_2 relu(W_1 relu(Σ W_s z_t)))        the skip connections of all layers

For generation each layer keeps a queue of its last d inputs (Le Paine et al. 2016, arXiv:1611.09482).
Training is the same code: its queues are zeros, and all tokens come at once.

`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, T tokens, C channels, S skip channels, V vocabulary, L layers, N classes given.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(V, C, S, L, classes, rng):
    """N(0, 1) for the embeddings; the rest is uniform in ±1/√(number of inputs)."""
    uniform = lambda *shape: rng.uniform(-1, 1, shape) / math.sqrt(shape[0])
    params = {
        "wte": rng.standard_normal((V, C)),  # (V, C)
        "W_1": uniform(S, S),  # (S, S)
        "W_2": uniform(S, V),  # (S, V)
    }
    for layer in range(L):
        params[f"W{layer}"] = uniform(2 * C, 2 * C)  # (2C, 2C): W_f and W_g, for both inputs
        params[f"V{layer}"] = rng.standard_normal((classes, 2 * C))  # (classes, 2C): V_f and V_g
        params[f"W_s{layer}"] = uniform(C, S)  # (C, S)
        if layer < L - 1:
            params[f"W_r{layer}"] = uniform(C, C)  # (C, C)
    return params


def wavenet(p, tokens, y, queues):
    """Logits (B, T, V) of the token that follows each of tokens (B, T); y (B, T) has the classes of those
    that follow. queues has, for each layer, the d inputs (B, d, C) before them; they become the last d."""
    T = tokens.shape[1]
    x, skips = p["wte"][tokens], 0.0  # (B, T, C)
    for layer, queue in enumerate(queues):
        inputs = np.concatenate([queue, x], axis=1)  # (B, ..., C)
        queues[layer] = inputs[:, T:]  # (B, ..., C)
        both = np.concatenate([inputs[:, :T], x], axis=-1)  # (B, T, 2C)
        a = both @ p[f"W{layer}"] + p[f"V{layer}"][y]  # (B, T, 2C)
        f, g = np.split(a, 2, axis=-1)  # each (B, T, C)
        z = np.tanh(f) * ops.sigmoid(g)  # (B, T, C)
        skips = skips + z @ p[f"W_s{layer}"]  # (B, T, S)
        if layer < len(queues) - 1:
            x = x + z @ p[f"W_r{layer}"]  # (B, T, C)
    return ops.relu(ops.relu(skips) @ p["W_1"]) @ p["W_2"]  # (B, T, V)


def silence(B, C, L):
    """The queues before the first token: zeros (B, d, C) for d = 1, 2, 4, ..."""
    return [np.zeros((B, 2**layer, C)) for layer in range(L)]


def train_step(params, tokens, targets, y, L, update):
    """One step on tokens (B, T); targets (B, T) are the tokens after them, y (B, T) the targets' classes."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    logits = wavenet(p, tokens, y, silence(len(tokens), p["wte"].shape[1], L))  # (B, T, V)
    log_p = np.take_along_axis(ops.log_softmax(logits), targets[..., None], axis=-1)  # (B, T, 1)
    loss = -np.sum(log_p) / targets.size  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def sample(p, tokens, y, L, rng):
    """Continue tokens (B, T) to N + 1 tokens: y (B, N) has the classes of all tokens after the first."""
    queues, read = silence(len(tokens), p["wte"].shape[1], L), 0
    new = tokens  # (B, T)
    while tokens.shape[1] <= y.shape[1]:
        logits = wavenet(p, new, y[:, read : tokens.shape[1]], queues)[:, -1]  # (B, V)
        cdf = np.cumsum(ops.softmax(logits), axis=-1)  # (B, V)
        u = rng.random((len(tokens), 1)) * cdf[:, -1:]  # (B, 1)
        new, read = np.sum(cdf <= u, axis=-1, keepdims=True), tokens.shape[1]  # (B, 1)
        tokens = np.concatenate([tokens, new], axis=1)  # (B, ...)
    return tokens
