"""The learning rate over the steps."""

from __future__ import annotations

import math


def warmup_cosine(step: int, lr: float, min_lr: float, warmup: int, decay_steps: int) -> float:
    """The learning rate at `step` (0, 1, ...): lr·(step + 1)/(warmup + 1) during the first `warmup` steps,
    then half a cosine down to `min_lr` at `decay_steps` (Loshchilov & Hutter 2016, arXiv:1608.03983,
    eq. 5), and `min_lr` from there on."""
    if not 0 <= warmup < decay_steps:
        raise ValueError(f"warmup must be in [0, decay_steps), got {warmup} and {decay_steps}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step > decay_steps:
        return min_lr
    progress = (step - warmup) / (decay_steps - warmup)
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (lr - min_lr)
