"""Experiments for language models: small GPTs on a source whose entropy is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from ablations.experiments.engine import curve

from tinygen import nn, ops
from tinygen.data import random_batch
from tinygen.data.markov import MarkovSource, zipf_source
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import Adam, AdamW, clip_grad_norm, warmup_cosine
from tinygen.text.decoding import filtered_probs

V, T = 8, 24


def source_and_text(seed: int) -> tuple[MarkovSource, Any]:
    """A source in which the next token depends on the last two, and a text of 20,000 tokens of it."""
    source = zipf_source(V, 2, 1.5, rng=seed)
    return source, source.sample(20_000, rng=seed)


def train(model: GPT, text: Any, rng: Any, steps: int, lr: float, optimizer: Any = None) -> list[float]:
    """The losses of `steps` steps, each on 16 pieces of the text."""
    optimizer, losses = optimizer or AdamW(model.parameters()), []
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, lr, lr / 10, 20, steps)
        _, loss = model(*random_batch(text, T, 16, rng))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def markov_gpt(seed: int) -> dict[str, Any]:
    """A GPT of one block learns a source, and writes 256 texts. Their distance from the source is the total
    variation of pairs of tokens, from 0 to 1. No honest model has a loss below the entropy."""
    rng = np.random.default_rng(seed)
    source, text = source_and_text(seed)
    model = GPT(GPTConfig(V, T, 1, 2, 32), rng=rng)
    losses, entropy = train(model, text, rng, 250, 1e-2), source.entropy_rate()
    written = model.sample(text[:256, None], T - 1, rng=rng)
    pairs = np.zeros((V, V))
    np.add.at(pairs, (written[:, :-1], written[:, 1:]), 1 / written[:, 1:].size)
    figures = {
        "its own texts: distance from the source": float(0.5 * np.abs(pairs - source.block(2)).sum()),
        "loss in training above the entropy": float(np.mean(losses[-20:]) - entropy),
    }
    levels = {"entropy": entropy, "guess": np.log(V)}
    return {"figures": figures, "curve": curve(losses, "loss in training, nats a token", levels=levels)}


def echo_gpt(seed: int) -> dict[str, Any]:
    """A GPT of one block learns texts in which each token repeats the one six places before it, nine times in
    ten."""
    rng = np.random.default_rng(seed)
    text, back, keep = rng.integers(V, size=20_000), 6, 0.9
    again = rng.random(len(text)) < keep
    for i in range(back, len(text)):
        text[i] = text[i - back] if again[i] else text[i]
    model = GPT(GPTConfig(V, T, 1, 2, 32), rng=rng)
    losses = train(model, text, rng, 400, 1e-2)
    starts = text[: 64 * 20].reshape(64, 20)[:, : back + 2]
    written = model.sample(starts, T - starts.shape[1], rng=rng)[:, starts.shape[1] - back :]
    repeats = float(np.mean(written[:, back:] == written[:, :-back]))
    figures = {"its own texts: tokens that repeat": repeats, "loss in training": float(np.mean(losses[-20:]))}
    p = keep + (1 - keep) / V
    least = -p * np.log(p) - (1 - p) * np.log((1 - p) / (V - 1))
    least = (least * (T - back) + np.log(V) * back) / T
    levels = {"entropy": float(least), "guess": np.log(V)}
    return {"figures": figures, "curve": curve(losses, "loss, nats a token", levels=levels)}


def deep_gpt(seed: int) -> dict[str, Any]:
    """A narrow GPT of eight blocks learns a source at a large learning rate."""
    rng = np.random.default_rng(seed)
    source, text = source_and_text(seed)
    model = GPT(GPTConfig(V, T, 8, 2, 16), rng=rng)
    losses, entropy = train(model, text, rng, 120, 3e-2), source.entropy_rate()
    figures = {"loss above the entropy": float(np.mean(losses[-20:]) - entropy)}
    levels = {"entropy": entropy, "guess": np.log(V)}
    return {"figures": figures, "curve": curve(losses, "loss, nats a token", levels=levels)}


def plain_adam(seed: int) -> dict[str, Any]:
    """A GPT of two blocks learns a source by Adam, at a constant rate from the first step on."""
    rng = np.random.default_rng(seed)
    source, text = source_and_text(seed)
    model = GPT(GPTConfig(V, T, 2, 2, 32), rng=rng)
    losses, optimizer = [], Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        _, loss = model(*random_batch(text, T, 16, rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    entropy = source.entropy_rate()
    figures = {"loss above the entropy": float(np.mean(losses[-20:]) - entropy)}
    levels = {"entropy": entropy, "guess": np.log(V)}
    return {"figures": figures, "curve": curve(losses, "loss, nats a token", levels=levels)}


def look_up(seed: int) -> dict[str, Any]:
    """One head of width 256 learns to find, among 16 random keys, the one that its query is a rotated copy
    of, and to return its value."""
    rng = np.random.default_rng(seed)
    d, t = 256, 16
    hidden = np.linalg.qr(rng.standard_normal((d, d)))[0]
    wq, wk = (nn.Linear(d, d, bias=False, rng=rng) for _ in range(2))
    for layer in (wq, wk):
        layer.weight.data = (rng.standard_normal((d, d)) / d**0.5).astype(np.float32)
    optimizer, losses = Adam([wq.weight, wk.weight], lr=1e-3), []
    for _ in range(200):
        keys = rng.standard_normal((32, t, d)).astype(np.float32)
        which = rng.integers(t, size=32)
        queries = (keys[np.arange(32), which] @ hidden).astype(np.float32)[:, None]
        values = np.broadcast_to(np.eye(t, dtype=np.float32), (32, t, t))
        p = ops.attention(wq(queries), wk(keys), values)[:, 0]
        loss: Any = -np.mean(np.log(p[np.arange(32), which] + 1e-9))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    figures = {"loss of the last 20 steps": float(np.mean(losses[-20:]))}
    return {"figures": figures, "curve": curve(losses, "loss, nats", levels={"guess": np.log(t)})}


def temperatures(seed: int) -> dict[str, Any]:
    """Texts of a source's own probabilities, drawn at temperatures from 0.25 to 4."""
    rng = np.random.default_rng(seed)
    source, _ = source_and_text(seed)
    heats, nats = np.geomspace(0.25, 4, 9), []
    for heat in heats:
        rows = rng.integers(V, size=(500, 2))
        for _ in range(30):
            probs = filtered_probs(np.log(source.table[rows[:, -2], rows[:, -1]]), heat)
            drawn = (probs.cumsum(axis=1) > rng.random((500, 1))).argmax(axis=1)
            rows = np.concatenate([rows, drawn[:, None]], axis=1)
        nats.append(float(-np.mean([source.log_prob(row[10:])[2:] for row in rows])))
    figures = {"temperature 0.25: nats a token": nats[0], "temperature 4: nats a token": nats[-1]}
    levels = {"entropy": source.entropy_rate()}
    picture = {
        "x": heats.tolist(),
        "y": nats,
        "xlabel": "temperature",
        "ylabel": "nats a token",
        "levels": levels,
    }
    return {"figures": figures, "curve": picture}
