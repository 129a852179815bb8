"""The loss of a GPT that is trained on a GPU: tiny Shakespeare with nanoGPT's settings for one GPU."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from gpu_stage import Figures, Skipped

from tinygen import DeviceGenerator, no_grad
from tinygen.data import load_text, random_batch, train_val_split
from tinygen.data.text import SOURCES
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine
from tinygen.text import CharTokenizer

PUBLISHED = 1.4697
"""nanoGPT's README, for config/train_shakespeare_char.py: the best loss on the text held back."""

STEPS, WARMUP, BATCH, EVERY = 5000, 100, 64, 250
CONTEXT, LAYERS, HEADS, WIDTH = 256, 6, 6, 384


def shakespeare(device: str) -> Figures:
    """That recipe, for as long as there is time. Every 250 steps, the loss on all of the text held back, in
    pieces of the context's length; nanoGPT draws pieces of it."""
    folder = Path(os.environ.get("TINYGEN_DATA", ""))
    if not any((folder / file).is_file() for file in SOURCES["shakespeare"].files):
        raise Skipped("needs tiny Shakespeare: put tinyshakespeare.txt into a folder that TINYGEN_DATA names")
    text = load_text("shakespeare")
    tokenizer = CharTokenizer(text)
    train, held_back = train_val_split(tokenizer.encode(text))
    config = GPTConfig(tokenizer.vocab_size, CONTEXT, LAYERS, HEADS, WIDTH, dropout=0.2, bias=False)
    rng = DeviceGenerator(1337)
    model = GPT(config, rng=rng).to(device)
    optimizer = AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))
    best, start = math.inf, time.perf_counter()
    for step in range(STEPS):
        optimizer.lr = warmup_cosine(step, 1e-3, 1e-4, WARMUP, STEPS)
        _, loss = model(*random_batch(train, CONTEXT, BATCH, rng))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0:
            best = min(best, held_back_loss(model, held_back))
            figures = {"batch": loss.item(), "best held back": best, "published": PUBLISHED}
            yield f"step {step + 1}", {**figures, "seconds": time.perf_counter() - start}


def held_back_loss(model: GPT, ids: Any, at_once: int = 64) -> float:
    """Nats a token: of the tokens that are left when the text is cut into pieces."""
    context = model.config.block_size
    count = (len(ids) - 1) // context
    x, y = ids[: count * context].reshape(count, -1), ids[1 : count * context + 1].reshape(count, -1)
    total = 0.0
    model.eval()
    with no_grad():
        for i in range(0, count, at_once):
            total += len(x[i : i + at_once]) * model(x[i : i + at_once], y[i : i + at_once])[1].item()
    model.train()
    return total / count
