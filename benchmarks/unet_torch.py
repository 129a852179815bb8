"""The UNet in PyTorch, for `unet.py`; its weights have the names of our model's."""

from __future__ import annotations

import math
from itertools import cycle, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import unet
from benchmarks.paired import THREADS
from benchmarks.unet import BETAS, CHANNELS, COLORS, DECAY, EPS, GROUPS, HEADS, LR, STEPS, Step

EMBEDDING = 4 * CHANNELS


class ResBlock(nn.Module):
    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, into)
        self.conv1 = nn.Conv2d(into, out, 3, padding=1)
        self.emb = nn.Linear(EMBEDDING, out)
        self.norm2 = nn.GroupNorm(GROUPS, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = None if into == out else nn.Conv2d(into, out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.emb(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.skip is None else self.skip(x))


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        layers = {"qkv": nn.Linear(channels, 3 * channels), "proj": nn.Linear(channels, channels)}
        self.attn = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, T, C)
        heads = self.attn["qkv"](tokens).view(b, h * w, 3, HEADS, c // HEADS)
        y = F.scaled_dot_product_attention(*heads.permute(2, 0, 3, 1, 4))  # (B, heads, T, d)
        y = self.attn["proj"](y.transpose(1, 2).reshape(b, h * w, c))
        return x + y.transpose(1, 2).reshape(b, c, h, w)


def named_conv(channels: int, stride: int) -> nn.ModuleDict:
    return nn.ModuleDict({"conv": nn.Conv2d(channels, channels, 3, stride, padding=1)})


class Level(nn.Module):
    def __init__(self, blocks: list[tuple[int, int]], attentions: int, down: bool, up: bool) -> None:
        super().__init__()
        out = blocks[-1][1]
        self.resnets: Any = nn.ModuleList(ResBlock(*block) for block in blocks)
        self.attentions: Any = nn.ModuleList(Attention(out) for _ in range(attentions))
        self.downsample: Any = named_conv(out, stride=2) if down else None
        self.upsample: Any = named_conv(out, stride=1) if up else None

    def step(self, i: int, x: Tensor, emb: Tensor) -> Tensor:
        x = self.resnets[i](x, emb)
        return self.attentions[i](x) if i < len(self.attentions) else x


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        widths, last = [CHANNELS * m for m in unet.MULTIPLIERS], len(unet.MULTIPLIERS) - 1
        self.conv_in = nn.Conv2d(COLORS, CHANNELS, 3, padding=1)
        first, second = nn.Linear(CHANNELS, EMBEDDING), nn.Linear(EMBEDDING, EMBEDDING)
        self.steps = nn.ModuleDict({"fc": first, "proj": second})
        self.down: Any = nn.ModuleList()
        self.up: Any = nn.ModuleList()
        kept, now, n = [CHANNELS], CHANNELS, unet.BLOCKS
        for i, out in enumerate(widths):
            blocks = list(pairwise([now] + [out] * n))
            self.down.append(Level(blocks, n * unet.ATTENTION[i], i < last, False))
            kept += [out] * (n + (i < last))
            now = out
        self.middle: Any = Level([(now, now)] * 2, 1, False, False)
        for i, out in reversed(list(enumerate(widths))):
            blocks = [(into + kept.pop(), out) for into in [now] + [out] * n]
            self.up.append(Level(blocks, (n + 1) * unet.ATTENTION[i], False, i > 0))
            now = out
        self.norm_out = nn.GroupNorm(GROUPS, now)
        self.conv_out = nn.Conv2d(now, COLORS, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = CHANNELS // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
        emb = self.steps["fc"](torch.cat([angles.cos(), angles.sin()], dim=1))
        emb = self.steps["proj"](F.silu(emb))
        x = self.conv_in(x)
        kept = [x]
        for level in self.down:
            for i in range(len(level.resnets)):
                x = level.step(i, x, emb)
                kept.append(x)
            if level.downsample is not None:
                x = level.downsample["conv"](x)
                kept.append(x)
        x = self.middle.step(1, self.middle.step(0, x, emb), emb)
        for level in self.up:
            for i in range(len(level.resnets)):
                x = level.step(i, torch.cat([x, kept.pop()], dim=1), emb)
            if level.upsample is not None:
                x = level.upsample["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(x)))


def model(nhwc: bool, device: str = "cpu") -> Any:
    torch.set_num_threads(THREADS)
    made: Any = UNet()
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    made.load_state_dict({name: torch.from_numpy(array) for name, array in unet.weights(shapes)})
    return made.to(device, memory_format=layout(nhwc))


def layout(nhwc: bool) -> Any:
    return torch.channels_last if nhwc else torch.contiguous_format


def alpha_bars() -> Tensor:
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), dim=0)


def training_step(size: int, nhwc: bool, device: str = "cpu") -> Step:
    network = model(nhwc, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    data = cycle([[torch.from_numpy(a).to(device) for a in batch] for batch in unet.batches(size)])
    kept = alpha_bars().to(device)

    def step() -> Any:
        x0, t, noise = next(data)
        bars = kept[t][:, None, None, None]
        x = bars.sqrt().float() * x0 + (1 - bars).sqrt().float() * noise
        loss: Any = F.mse_loss(network(x.contiguous(memory_format=layout(nhwc)), t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def sampling_step(size: int, nhwc: bool) -> Step:
    network = model(nhwc).eval()
    x = torch.from_numpy(unet.batches(size)[0][2]).contiguous(memory_format=layout(nhwc))
    numbers = np.linspace(-1, STEPS - 1, unet.JUMPS + 1)[1:].round().astype(int)  # of the steps done
    bars, before = (alpha_bars()[numbers[i]].item() for i in (unet.AT, unet.AT - 1))

    @torch.no_grad()
    def step() -> Any:
        eps = network(x, torch.full((len(x),), numbers[unet.AT]))
        x0 = (x - (1 - bars) ** 0.5 * eps) / bars**0.5
        return (before**0.5 * x0 + (1 - before) ** 0.5 * eps).contiguous()

    return step
