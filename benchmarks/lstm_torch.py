"""The LSTM in PyTorch, for `lstm.py`."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.lstm import BETAS, DECAY, EPS, LR, VOCAB, WIDTH, Step, batches, weights
from benchmarks.paired import THREADS


class Model(nn.Module):
    def __init__(self, characters: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.embedding = nn.Embedding(VOCAB, WIDTH) if characters else None
        self.head = nn.Linear(WIDTH, VOCAB) if characters else None
        first = {name.replace("lstm.layers.0.", "lstm."): array for name, array in weights().items()}
        for name, p in self.named_parameters():
            p.data = torch.from_numpy(first[name.removesuffix("_l0")])

    def forward(self, x: Tensor, target: Tensor) -> Any:
        y, _ = self.lstm(x if self.embedding is None else self.embedding(x))
        if self.head is None:
            return F.mse_loss(y, target)
        return F.cross_entropy(self.head(y).view(-1, VOCAB), target.reshape(-1))


def training_step(case: str) -> Step:
    torch.set_num_threads(THREADS)
    model = Model(case == "characters")
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    data = cycle([(torch.tensor(x), torch.tensor(target)) for x, target in batches(case)])

    def step() -> Any:
        loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
