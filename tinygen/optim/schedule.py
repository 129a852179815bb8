"""The learning rate over the steps."""

from __future__ import annotations

import math


def warmup_cosine(step: int, lr: float, min_lr: float, warmup: int, decay_steps: int) -> float:
    """The learning rate at `step` (0, 1, ...): lr·(step + 1)/(warmup + 1) during the first `warmup` steps,
    then half a cosine down to `min_lr` at `decay_steps` (Loshchilov & Hutter 2016, arXiv:1608.03983,
    eq. 5), and `min_lr` from there on.

    Eq.: lr_t = lr_min + (lr - lr_min) (1 + cos(π t/T)) / 2  (Loshchilov & Hutter 2017, eq. 5)
    Held by: tests/optim/test_optim.py::test_warmup_cosine_at_its_corners
    """
    if not 0 <= warmup < decay_steps:
        raise ValueError(f"warmup must be in [0, decay_steps), got {warmup} and {decay_steps}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    progress = min((step - warmup) / (decay_steps - warmup), 1.0)
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (lr - min_lr)


def noam(step: int, channels: int, warmup: int = 4000) -> float:
    """The learning rate of the first Transformer at `step` (0, 1, ...): it grows linearly during the first
    `warmup` steps, and falls from there with 1/sqrt(step). At its highest it is 1/sqrt(channels · warmup).
    Named after Noam Shazeer, as in the authors' own code.

    The paper counts steps n = 1, 2, ..., so n = step + 1. Raises ValueError if warmup is below 1.

    Eq.: lr = d_model^-0.5 min(n^-0.5, n · warmup^-1.5)  (Vaswani et al. 2017, eq. 3)
    Held by: tests/optim/test_optim.py::test_noam_is_its_formula
    """
    if warmup < 1:
        raise ValueError(f"warmup must be at least 1 step, got {warmup}")
    n = step + 1
    return float(channels**-0.5 * min(n**-0.5, n * warmup**-1.5))
