"""The GPT in PyTorch, for `gpt.py` and `generate.py`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gpt import BETAS, DECAY, EPS, LR, Size, Step, batches, weights
from benchmarks.paired import THREADS

Cache = tuple[Tensor, Tensor]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: Cache | None = None, start: int = 0) -> Tensor:  # (B, T, C)
        b, t, c = x.shape
        q, k, v = (a.view(b, t, self.heads, -1).transpose(1, 2) for a in self.qkv(x).split(c, dim=-1))
        if cache is None:
            rate = self.dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        else:  # one token, which sees all that is cached
            keys, values = cache  # (B, H, T, d)
            keys[:, :, start : start + t], values[:, :, start : start + t] = k, v
            y = F.scaled_dot_product_attention(q, keys[:, :, : start + t], values[:, :, : start + t])
        out: Tensor = self.proj(y.transpose(1, 2).reshape(b, t, c))
        return F.dropout(out, self.dropout, self.training)


class MLP(nn.Module):
    def __init__(self, width: int, gelu: str, dropout: float) -> None:
        super().__init__()
        self.gelu, self.dropout = gelu, dropout
        self.fc = nn.Linear(width, 4 * width)
        self.proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj(F.gelu(self.fc(x), approximate=self.gelu))
        return F.dropout(y, self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, gelu: str, dropout: float) -> None:
        super().__init__()
        self.ln1, self.attn = nn.LayerNorm(width), Attention(width, heads, dropout)
        self.ln2, self.mlp = nn.LayerNorm(width), MLP(width, gelu, dropout)

    def forward(self, x: Tensor, cache: Cache | None = None, start: int = 0) -> Tensor:
        x = x + self.attn(self.ln1(x), cache, start)
        y: Tensor = x + self.mlp(self.ln2(x))
        return y


class GPT(nn.Module):
    def __init__(self, size: Size, gelu: str = "none", dropout: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.wte, self.wpe = nn.Embedding(size.vocab, size.width), nn.Embedding(size.context, size.width)
        self.h = nn.ModuleList([Block(size.width, size.heads, gelu, dropout) for _ in range(size.layers)])
        self.ln_f = nn.LayerNorm(size.width)
        self.lm_head = nn.Linear(size.width, size.vocab, bias=False)
        self.lm_head.weight = self.wte.weight
        parameters = dict(self.named_parameters())
        with torch.no_grad():
            for name, array in weights({name: tuple(p.shape) for name, p in parameters.items()}):
                parameters[name].copy_(torch.from_numpy(array))

    def forward(self, idx: Tensor, targets: Tensor) -> Tensor:
        positions = torch.arange(idx.shape[1], device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(positions))  # (B, T, C)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def next_logits(self, token: Tensor, caches: list[Cache], position: int) -> Tensor:
        """(B, V) after the one token (B, 1) at this position, whose keys and values go into the caches."""
        x = self.wte(token) + self.wpe.weight[position]
        for block, cache in zip(self.h, caches, strict=True):
            x = block(x, cache, position)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits[:, -1]


def training_step(size: Size, compiled: bool, device: str = "cpu", dropout: float = 0.0) -> Step:
    torch.set_num_threads(THREADS)
    module = GPT(size, dropout=dropout).to(device)
    model = torch.compile(module) if compiled else module
    groups = [
        {"params": [p for p in module.parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in module.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    data = cycle([[torch.tensor(ids, device=device) for ids in batch] for batch in batches(size)])

    def step() -> Any:
        loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def generating_step(
    size: Size,
    text: Iterator[tuple[int, Any]],
    positions: int,
    temperature: float,
    top_k: int,
    device: str = "cpu",
) -> Step:
    """The logits after the next token of the text, and a draw from the `top_k` most probable ones."""
    torch.set_num_threads(THREADS)
    model = GPT(size, gelu="tanh").to(device).eval()
    shape = (1, size.heads, positions, size.width // size.heads)
    caches = [(torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in model.h]

    @torch.inference_mode()
    def step() -> Any:
        position, token = next(text)
        logits = model.next_logits(torch.from_numpy(token).to(device), caches, position)  # (1, V)
        top, ids = logits.topk(top_k)
        ids.gather(-1, torch.multinomial(F.softmax(top / temperature, dim=-1), 1))
        return logits

    return step
