"""Latent diffusion on one page: pictures from text (Rombach et al. 2022, arXiv:2112.10752).

1. An autoencoder: E encodes a picture x as a small code z, and D decodes it: E(x) = N(μ, σ²), D(z) ≈ x. Its
   loss is ‖x - D(z)‖² + λ KL(E(x) ‖ N(0, 1)) with a tiny λ. It is trained first, then frozen. 2. A
   diffusion of codes z_0 = scale · μ (`ddpm.py`, t = 1 … T); the scale makes their variance 1. The network
   ε_θ(z_t, t, y) learns to predict the noise ε in z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε. It sees the text y by
   cross-attention. 3. Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6): in training a
   tenth of the texts is replaced by the empty text ∅; in sampling, ε = (1 + w) ε_θ(z_t, t, y) - w ε_θ(z_t,
   t, ∅). 4. DDIM (Song et al. 2020, arXiv:2010.02502, eq. 12) samples in few steps, each from t to an
   earlier s: z_s = √ᾱ_s (z_t - √(1 - ᾱ_t) ε) / √ᾱ_t + √(1 - ᾱ_s) ε.

ε_θ is one Transformer block over the positions of the code; the paper has a UNet instead. A text is L word
ids; id 0 means "no word", so ∅ is L zeros. `params` is a dict of NumPy arrays; `update(params, grads)`
changes it: gradient descent, or `adamw.py`. Letters in shapes: B pictures, Q their channels, X pixels along
a side; a code has S = X/f positions along a side, N = S² in all, and Z numbers at each; C channels of the
networks, V words, L words in a text, T steps.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def uniform(n, *shape, rng):
    """Initial weights of a layer with n inputs: uniform in ±1/√n."""
    return rng.uniform(-1, 1, shape) / math.sqrt(n)  # (...)


# -- 1. the autoencoder ----------------------------------------------------------------------------


def init_autoencoder(Q, f, C, Z, rng):
    """Two convolutions each for E and D; one position of a code encodes f × f pixels."""
    return {
        "E1": uniform(Q * f * f, C, Q, f, f, rng=rng),  # (C, Q, f, f)
        "E2": uniform(C, 2 * Z, C, 1, 1, rng=rng),  # (2Z, C, 1, 1)
        "D1": uniform(Z, C, Z, 1, 1, rng=rng),  # (C, Z, 1, 1)
        "D2": uniform(C, C, Q, f, f, rng=rng),  # (C, Q, f, f)
    }


def encode(p, x):
    """E(x) for pictures x (B, Q, X, X): μ and log σ² of their codes."""
    f = p["E1"].shape[-1]
    h = ops.silu(ops.conv2d(x, p["E1"], stride=f))  # (B, C, X/f, X/f)
    mu, logvar = ops.split(ops.conv2d(h, p["E2"]), 2, axis=1)  # each (B, Z, X/f, X/f)
    return mu, logvar


def decode(p, z):
    """D(z), the pictures of codes z (B, Z, S, S)."""
    f = p["D2"].shape[-1]
    h = ops.silu(ops.conv2d(z, p["D1"]))  # (B, C, S, S)
    return ops.conv_transpose2d(h, p["D2"], stride=f)  # (B, Q, S * f, S * f)


def autoencoder_loss(p, x, eps, lam=1e-6):
    """‖x - D(z)‖² + λ KL, the mean over pictures x (B, Q, X, X); noise eps (B, Z, S, S)."""
    mu, logvar = encode(p, x)  # each (B, Z, S, S)
    z = mu + np.exp(0.5 * logvar) * eps  # (B, Z, S, S)
    kl = 0.5 * np.sum(mu * mu + np.exp(logvar) - 1 - logvar)  # ()
    return (np.sum((x - decode(p, z)) ** 2) + lam * kl) / len(x)  # ()


# -- 2. the diffusion of codes ---------------------------------------------------------------------


def init_diffusion(V, L, N, Z, C, rng):
    """Embeddings of words and positions, and one Transformer block with cross-attention."""
    names = ("time", "q1", "k1", "v1", "o1", "q2", "k2", "v2", "o2")
    p = {name: uniform(C, C, C, rng=rng) for name in names}
    return p | {
        "word": rng.standard_normal((V, C)),  # (V, C)
        "place": rng.standard_normal((L, C)),  # (L, C)
        "position": rng.standard_normal((N, C)),  # (N, C)
        "in": uniform(Z, Z, C, rng=rng),  # (Z, C)
        "ln1": np.ones(C),  # (C,)
        "ln2": np.ones(C),  # (C,)
        "ln3": np.ones(C),  # (C,)
        "fc1": uniform(C, C, 4 * C, rng=rng),  # (C, 4C)
        "fc2": uniform(4 * C, 4 * C, C, rng=rng),  # (4C, C)
        "out": np.zeros((C, Z)),  # (C, Z): ε_θ starts as 0
    }


def time_embedding(t, C):
    """Cosines and sines of t (B,), at frequencies from 1 to almost 1/10000."""
    frequencies = 10000.0 ** (-np.arange(C // 2) / (C // 2))  # (C/2,)
    angles = t[:, None] * frequencies  # (B, C/2)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)  # (B, C)


def attention(q, k, v):
    """softmax(q kᵀ / √C) v for q (B, N, C), k and v (B, M, C)."""
    weights = ops.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]))  # (B, N, M)
    return weights @ v  # (B, N, C)


def eps_theta(p, z, t, y):
    """The noise in codes z (B, Z, S, S) at steps t (B,) with texts y (B, L)."""
    h = z.reshape(*z.shape[:2], -1).swapaxes(1, 2) @ p["in"] + p["position"]  # (B, N, C)
    h = h + (time_embedding(t, h.shape[-1]) @ p["time"])[:, None]  # (B, N, C)
    text = p["word"][y] + p["place"]  # (B, L, C)
    n = ops.layer_norm(h, p["ln1"])  # (B, N, C)
    h = h + attention(n @ p["q1"], n @ p["k1"], n @ p["v1"]) @ p["o1"]  # (B, N, C): sees all positions
    n = ops.layer_norm(h, p["ln2"])  # (B, N, C)
    h = h + attention(n @ p["q2"], text @ p["k2"], text @ p["v2"]) @ p["o2"]  # (B, N, C): sees the text
    n = ops.layer_norm(h, p["ln3"])  # (B, N, C)
    h = h + ops.gelu(n @ p["fc1"]) @ p["fc2"]  # (B, N, C)
    return (h @ p["out"]).swapaxes(1, 2).reshape(z.shape)  # (B, Z, S, S)


def schedule(T):
    """ᾱ_0 = 1, ᾱ_1, …, ᾱ_T, where √β_t rises linearly."""
    beta = np.linspace(math.sqrt(1.5 / T), math.sqrt(19.5 / T), T) ** 2  # (T,)
    return np.append(1.0, np.cumprod(1 - beta))  # (T + 1,)


def diffusion_loss(p, z_0, y, t, eps, alpha_bar):
    """The mean squared error of the noise; z_0, eps (B, Z, S, S), y (B, L), t (B,)."""
    a = alpha_bar[t][:, None, None, None]  # (B, 1, 1, 1)
    z_t = np.sqrt(a) * z_0 + np.sqrt(1 - a) * eps  # (B, Z, S, S)
    return np.mean((eps - eps_theta(p, z_t, t, y)) ** 2)  # ()


# -- training: first the autoencoder, then the diffusion -------------------------------------------


def descend(f, params, update):
    """One training step on f, a function from a dict of Tensors to a loss."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    loss = f(p)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def train_autoencoder(params, x, code_shape, rng, update):
    """One step on pictures x (B, Q, X, X)."""
    eps = rng.standard_normal(code_shape)  # (B, Z, S, S)
    return descend(lambda p: autoencoder_loss(p, x, eps), params, update)


def train_diffusion(params, z_0, y, alpha_bar, rng, update):
    """One step on codes z_0 (B, Z, S, S) with texts y (B, L)."""
    dropped = rng.random(len(y)) < 0.1  # (B,)
    y = np.where(dropped[:, None], 0, y)  # (B, L)
    t = rng.integers(1, len(alpha_bar), size=len(y))  # (B,)
    eps = rng.standard_normal(z_0.shape)  # (B, Z, S, S)
    return descend(lambda p: diffusion_loss(p, z_0, y, t, eps, alpha_bar), params, update)


# -- drawing: 3. guidance, 4. DDIM -----------------------------------------------------------------


def sample(p, p_autoencoder, scale, y, code_shape, alpha_bar, rng, steps=20, w=2.0):
    """A picture for each of the texts y (B, L)."""
    z = rng.standard_normal(code_shape)  # (B, Z, S, S)
    times = np.linspace(0, len(alpha_bar) - 1, steps + 1).round().astype(int)  # (steps + 1,): 0 … T
    for t, s in zip(times[:0:-1], times[-2::-1], strict=True):
        now = np.full(len(z), t)  # (B,)
        eps = (1 + w) * eps_theta(p, z, now, y) - w * eps_theta(p, z, now, np.zeros_like(y))  # (B, Z, S, S)
        z_0 = (z - np.sqrt(1 - alpha_bar[t]) * eps) / np.sqrt(alpha_bar[t])  # (B, Z, S, S)
        z = np.sqrt(alpha_bar[s]) * z_0 + np.sqrt(1 - alpha_bar[s]) * eps  # (B, Z, S, S)
    return decode(p_autoencoder, z / scale)  # (B, Q, X, X)
