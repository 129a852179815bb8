"""Training written a second time, in NumPy and by the papers' formulas. Tests compare the loops of the
examples with it: from the same weights and the same random numbers, both must reach the same weights.

Models are in float64, so that rounding cannot hide a mistake: Adam's first step divides each gradient by
its own size, which makes small rounding errors large."""

import copy
import math
import sys
from contextlib import contextmanager

import numpy as np

from tinygen import Tensor


class Loop:
    """A replacement for an example's Run. It runs the steps, and records all calls: the rows that are
    logged, the losses shown, the lines printed, the stages entered, and the models saved."""

    comm = None  # one process

    def __init__(self, steps, path=None):
        self.steps, self.path = steps, path
        self.rows, self.lines, self.shown, self.stages, self.kept = [], [], [], [], {}
        self.things, self.score = {}, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def loop(self, things, stage="training"):
        self.things = things
        yield from range(self.steps)

    @contextmanager
    def share(self, *batch):
        yield batch

    def backward(self, loss, *modules):
        loss.backward()
        return self.mean(loss)

    def mean(self, loss):
        return loss.item()

    def enter(self, stage):
        self.stages.append(stage)

    def log(self, **row):
        self.rows.append(row)

    def show(self, loss, note=""):
        self.shown.append((loss, note))

    def say(self, line):
        self.lines.append(line)

    def model(self, state, name="model"):
        self.kept[name] = {key: x.copy() for key, x in state.items()}

    def column(self, name):
        return [row[name] for row in self.rows if name in row]

    def losses(self):
        return [loss for loss, _ in self.shown]


def flags(monkeypatch, example, **given):
    """The example's arguments from a command line."""
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setattr(sys, "argv", [f"{example.__name__}.py", *words])
    return example.parse_args()


def exact(model):
    """The model in float64, and a copy of it."""
    model = model.astype(np.float64)
    return model, copy.deepcopy(model)


# -- the parts of a loop ---------------------------------------------------------------------------


def warmup_cosine(step, high, low, warmup, steps):
    if step < warmup:
        return high * (step + 1) / (warmup + 1)
    return low + (high - low) * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


class Training:
    """Adam with decoupled weight decay, after clipping; and the average of the weights."""

    def __init__(self, model, betas=(0.9, 0.999), eps=1e-8, clip=math.inf, decay=lambda p: 0.0, average=None):
        self.params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.betas, self.eps, self.clip, self.decay, self.t = betas, eps, clip, decay, 0
        self.m = dict.fromkeys(self.params, 0.0)
        self.v = dict.fromkeys(self.params, 0.0)
        self.remembered = average
        self.average = {name: p.data.copy() for name, p in self.params.items()}

    def step(self, loss, rate):
        """One step down `loss`, a Tensor. Returns its value."""
        for p in self.params.values():
            p.grad = None
        loss.backward()
        grads = {name: p.grad for name, p in self.params.items() if p.grad is not None}
        norm = math.sqrt(sum(np.sum(g * g) for g in grads.values()))
        self.t += 1
        (b1, b2), t = self.betas, self.t
        for name, g in grads.items():
            p = self.params[name]
            g = g * min(1.0, self.clip / (norm + 1e-6))
            self.m[name] = b1 * self.m[name] + (1 - b1) * g
            self.v[name] = b2 * self.v[name] + (1 - b2) * g**2
            move = self.m[name] / (1 - b1**t) / (np.sqrt(self.v[name] / (1 - b2**t)) + self.eps)
            p.data = p.data - rate * self.decay(p) * p.data - rate * move
        if self.remembered is not None:
            d = min(self.remembered, (1 + t) / (10 + t))
            for name, p in self.params.items():
                self.average[name] = d * self.average[name] + (1 - d) * p.data
        return loss.item()


def same(ours, wanted, tolerance=1e-9):
    """Assert that two modules, or two {name: array}, are equal."""
    a, b = (
        x if isinstance(x, dict) else {name: p.data for name, p in x.named_parameters()}
        for x in (ours, wanted)
    )
    assert a.keys() == b.keys()
    for name, x in a.items():
        np.testing.assert_allclose(x, b[name], rtol=tolerance, atol=tolerance, err_msg=name)


# -- losses ----------------------------------------------------------------------------------------


def log_softmax(logits):
    """Log-softmax over the last axis, by its definition. No maximum is subtracted, as the logits are small
    here."""
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def log_p(logits, ids):
    """ln of the probability that logits (..., V) give to each of the ids (...)."""
    return (log_softmax(logits) * np.eye(logits.shape[-1])[ids]).sum(axis=-1)


def constant(x):
    """The value of a Tensor, off the tape."""
    return np.array(x.data) if isinstance(x, Tensor) else x


def kl_to_standard(mean, logvar):
    """Σ KL(N(mean, exp(logvar)) ‖ N(0, 1))."""
    return 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum()
