"""Experiments for autoencoders: digits of 8 × 8 pixels, and texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from ablations.experiments.engine import curve

from tinygen import nn, no_grad, ops
from tinygen.data import digits
from tinygen.models.pictures.vae import VAE, Posterior
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.optim import Adam


def pixels() -> tuple[Any, Any]:
    """Digits (N, 64) in [0, 1], for training and for testing."""
    train, test = digits.load()
    return tuple((x.pictures.reshape(-1, 64) + 1) / 2 for x in (train, test))  # type: ignore[return-value]


def digits_vae(seed: int, kind: str = "bernoulli") -> dict[str, Any]:
    """A VAE of digits: its bound, and how much its codes say of a picture."""
    rng = np.random.default_rng(seed)
    train, test = pixels()
    model = VAE(64, 64, 8, pixels=kind, rng=rng)
    optimizer, losses = Adam(model.parameters(), lr=3e-3), []
    for _ in range(800):
        loss = model.loss(train[rng.integers(len(train), size=64)], rng=rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with no_grad():
        found = model.losses(test, rng=rng)
        error = np.mean((model(test).numpy() - test) ** 2)
    figures = {
        "bound, nats a picture": found.total.item(),
        "KL, nats a picture": found.kl.item(),
        "squared error of the reconstruction": float(error),
    }
    return {"figures": figures, "curve": curve(losses, "loss, nats a picture")}


def gaussian_vae(seed: int) -> dict[str, Any]:
    """A VAE of digits, whose pixels are Gaussian variables with one learned variance."""
    outcome = digits_vae(seed, "gaussian")
    order = "squared error of the reconstruction", "KL, nats a picture"
    return {**outcome, "figures": {name: outcome["figures"][name] for name in order}}


def kl_weight(step: int, warmup: int) -> float:
    """The weight of the KL at `step` (0, 1, ...): it rises from 0 to 1 in the first `warmup` steps (Bowman et
    al. 2016, section 3.1)."""
    return min(1.0, step / warmup)


def text_vae(seed: int) -> dict[str, Any]:
    """A VAE of texts in 8 languages. The code could say which; but the decoder also sees which pairs of
    tokens came before, and can find out by itself."""
    rng = np.random.default_rng(seed)
    v, t, z = 8, 16, 8
    tables = rng.dirichlet(np.full(v, 0.3), size=(8, v))
    encoder, head = nn.Embedding(v * v, 32, rng=rng), nn.Linear(32, 2 * z, rng=rng)
    before, past = nn.Embedding(v, 64, rng=rng), nn.Embedding(v * v, 64, rng=rng)
    code, out = nn.Linear(z, 64, rng=rng), nn.Linear(64, v, rng=rng)
    params = [p for module in (encoder, head, before, past, code, out) for p in module.parameters()]
    optimizer, kls = Adam(params, lr=3e-3), []
    for step in range(600):
        language = rng.integers(8, size=64)
        x = np.zeros((64, t + 1), np.int64)
        for i in range(t):
            p = tables[language, x[:, i]].cumsum(axis=1)
            x[:, i + 1] = (p > rng.random((64, 1)) * p[:, -1:]).argmax(axis=1)
        pairs = x[:, :-1] * v + x[:, 1:]
        h = head(np.tanh(np.mean(encoder(pairs), axis=1)))
        q = Posterior(h[:, :z], h[:, z:])
        earlier = np.cumsum(past(pairs), axis=1)[:, :-1] / np.arange(1, t)[:, None]  # (B, t - 1, 64)
        earlier = np.concatenate([np.zeros((64, 1, 64), np.float32), earlier], axis=1)
        hidden = ops.relu(before(x[:, :-1]) + earlier + code(q.sample(rng=rng))[:, None])
        nll = ops.cross_entropy(out(hidden), x[:, 1:], reduction="sum") / 64
        kl = ops.kl_gaussian(q.mean, q.logvar, "sum") / 64
        loss = nll + kl_weight(step, 300) * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kls.append(kl.item())
    figures = {"KL, nats a text": float(np.mean(kls[-50:])), "bound": nll.item() + kl.item()}
    return {"figures": figures, "curve": curve(kls, "KL, nats a text")}


def digits_vq(seed: int) -> dict[str, Any]:
    """A VQ-VAE of digits: 2 × 2 codes of 32 for each."""
    rng = np.random.default_rng(seed)
    train, test = (2 * x.reshape(-1, 1, 8, 8) - 1 for x in pixels())
    model = VQVAE(1, 16, 8, 32, rng=rng)
    optimizer, errors = Adam(model.parameters(), lr=3e-3), []
    for step in range(200):
        x = train[rng.integers(len(train), size=32)]
        if step == 20:
            model.restart(x, np.inf, rng=rng)
        found = model.losses(x)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        errors.append(found.reconstruction.item())
    with no_grad():
        error = np.mean((model(test).numpy() - test) ** 2)
    used = len(np.unique(model.encode(test)))
    figures = {"squared error of unseen digits": float(error), "codes in use": used}
    return {"figures": figures, "curve": curve(errors, "squared error of the reconstruction")}
