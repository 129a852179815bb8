"""One training step of a small GPT: forward, backward, AdamW.

4 layers, 4 heads, width 128, context 64, batch 12, 65 characters: nanoGPT's recipe for a laptop. The peer
is the same model in PyTorch, written as one would write it there, with its names of parameters equal to ours:
both start from the same weights and must arrive at the same loss.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.paired import THREADS

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("torch",)
LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCAB = 4, 4, 128, 64, 12, 65
LR, BETAS, DECAY = 1e-3, (0.9, 0.99), 0.1

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    return {f"{LAYERS} layers, width {WIDTH}": {"tinygen": tinygen_step, "torch": torch_step}[side]()}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Weights to start from, the same for the same names and shapes: N(0, 0.02), in layer norms about 1."""
    rng = np.random.default_rng(0)
    return {
        name: (0.02 * rng.standard_normal(shapes[name]) + (".ln" in f".{name}")).astype(np.float32)
        for name in sorted(shapes)
    }


def batches() -> list[tuple[Any, Any]]:
    """Characters (B, T) and the ones after them."""
    text = np.random.default_rng(1).integers(0, VOCAB, (8, BATCH, CONTEXT + 1))
    return [(t[:, :-1], t[:, 1:]) for t in text]


def tinygen_step() -> Step:
    from tinygen.models.gpt import GPT, GPTConfig
    from tinygen.optim import AdamW, decay_groups

    config = GPTConfig(VOCAB, CONTEXT, LAYERS, HEADS, WIDTH, dropout=0.0, bias=True)
    model = GPT(config, np.random.default_rng(0))
    parameters = dict(model.named_parameters())
    for name, array in weights({name: p.shape for name, p in parameters.items()}).items():
        parameters[name].data = array
    optimizer = AdamW(decay_groups(model, DECAY), lr=LR, betas=BETAS)
    data = cycle(batches())

    def step() -> Any:
        _, loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step


def torch_step() -> Step:
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(THREADS)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.proj = nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:  # (B, T, C)
            b, t, c = x.shape
            q, k, v = (a.view(b, t, HEADS, c // HEADS).transpose(1, 2) for a in self.qkv(x).split(c, dim=-1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(y.transpose(1, 2).reshape(b, t, c))

    class MLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(WIDTH, 4 * WIDTH)
            self.proj = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            return self.proj(F.gelu(self.fc(x)))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.attn = nn.LayerNorm(WIDTH), Attention()
            self.ln2, self.mlp = nn.LayerNorm(WIDTH), MLP()

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(VOCAB, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.h = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.ln_f = nn.LayerNorm(WIDTH)
            self.lm_head = nn.Linear(WIDTH, VOCAB, bias=False)
            self.lm_head.weight = self.wte.weight

        def forward(self, idx: Any, targets: Any) -> Any:
            x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
            for block in self.h:
                x = block(x)
            logits = self.lm_head(self.ln_f(x))
            return F.cross_entropy(logits.view(-1, VOCAB), targets.reshape(-1))

    model = GPT()
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in weights({name: tuple(p.shape) for name, p in parameters.items()}).items():
            parameters[name].copy_(torch.from_numpy(array))
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS)
    data = cycle([(torch.tensor(idx), torch.tensor(targets)) for idx, targets in batches()])

    def step() -> Any:
        loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
