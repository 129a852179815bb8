"""The VAE in PyTorch, for `vae.py`."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.paired import THREADS
from benchmarks.vae import BETAS, EPS, LAYERS, LR, Step, batches, draw, noises, weights


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        for name, (out, into) in LAYERS.items():
            half, layer = name.split(".")
            self.get_submodule(half).add_module(layer, nn.Linear(into, out))
        self.load_state_dict({name: torch.from_numpy(array) for name, array in weights().items()})

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h = F.relu(self.encoder["fc"](x))
        mean, logvar = self.encoder["mean"](h), self.encoder["logvar"](h)
        z = mean + torch.exp(0.5 * logvar) * noise
        logits = self.decoder["out"](F.relu(self.decoder["fc"](z)))
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
        return (reconstruction + kl) / x.shape[0]


def training_step(compiled: bool) -> Step:
    torch.set_num_threads(THREADS)
    module = VAE()
    model = torch.compile(module) if compiled else module
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data, rng = cycle([torch.tensor(x) for x in batches()]), noises()

    def step() -> Any:
        loss = model(next(data), torch.from_numpy(draw(rng)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
