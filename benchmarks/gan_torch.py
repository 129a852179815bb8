"""The conditional GAN in PyTorch, for `gan.py`; its weights have the names of our networks'."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.gan import BATCH, BETAS, CHANNELS, CLASSES, COLORS, EPS, GAMMA, LATENT, LR, Step, batches
from benchmarks.paired import THREADS
from benchmarks.unet import weights

WIDTH = 2 * CHANNELS  # of the feature maps of 4 × 4


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(LATENT, WIDTH * 16)
        self.label = nn.Embedding(CLASSES, WIDTH * 16)
        widths = [(WIDTH, CHANNELS), (CHANNELS, CHANNELS)]
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, padding=1) for a, b in widths)
        self.out = nn.Conv2d(CHANNELS, COLORS, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Any:
        h = F.relu(self.start(z) + self.label(labels)).view(-1, WIDTH, 4, 4)
        for up in self.ups:
            h = F.relu(up(h))
        return torch.tanh(self.out(h))


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths = [(COLORS, CHANNELS), (CHANNELS, WIDTH)]
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, padding=1) for a, b in widths)
        self.out = nn.Linear(WIDTH * 16, 1)
        self.label = nn.Embedding(CLASSES, WIDTH * 16)

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        for down in self.downs:
            x = F.leaky_relu(down(x), 0.2)
        h = x.flatten(1)
        return self.out(h)[:, 0] + (self.label(labels) * h).sum(1)


def fill_weights(model: Any) -> Any:
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights(shapes)})
    return model


def training_step(case: str) -> Step:
    torch.set_num_threads(THREADS)
    generator, discriminator = fill_weights(Generator()), fill_weights(Discriminator())
    trained = generator if case == "generator" else discriminator
    optimizer = torch.optim.Adam(trained.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data = cycle([[torch.from_numpy(a) for a in batch] for batch in batches()])

    def step() -> Any:
        real, fake, z, labels = next(data)
        if case == "generator":
            loss: Any = F.softplus(-discriminator(generator(z, labels), labels)).mean()
        else:
            on_fake = F.softplus(discriminator(fake, labels)).mean()
            loss = F.softplus(-discriminator(real, labels)).mean() + on_fake
        if case == "discriminator with R1":
            points = real.requires_grad_()
            value = discriminator(points, labels).sum()
            (slope,) = torch.autograd.grad(value, points, create_graph=True)
            loss = loss + GAMMA * 0.5 * slope.square().sum() / BATCH
            real.requires_grad_(False)
        trained.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
