"""Optimizers, learning-rate schedules, gradient clipping, and the moving average of the weights.

An optimizer is built on parameters, reads their `.grad` and writes their `.data`:

    optimizer = AdamW(decay_groups(model, 0.1), lr=3e-4)
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, 3e-4, 3e-5, warmup=100, decay_steps=steps)
        optimizer.zero_grad()
        loss(model, batch()).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
"""

from tinygen.optim.adam import Adam, AdamW
from tinygen.optim.clip import clip_grad_norm
from tinygen.optim.ema import EMA
from tinygen.optim.optimizer import Optimizer, decay_groups
from tinygen.optim.schedule import noam, warmup_cosine
from tinygen.optim.sgd import SGD

__all__ = [
    "EMA",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "clip_grad_norm",
    "decay_groups",
    "noam",
    "warmup_cosine",
]
