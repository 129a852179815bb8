"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen.arrays import to_device
from tinygen.nn.module import Module
from tinygen.optim import fused
from tinygen.optim.state import require_count
from tinygen.tensor import Array


class EMA:
    """The exponential moving average of a model's parameters: average = d·average + (1 - d)·p at each
    update (Polyak & Juditsky 1992 averaged uniformly). Samples with the averaged weights are better than
    samples with the last weights.

    With `warmup`, d = min(decay, (1 + n)/(10 + n)) at the n-th update (n = 1, 2, ...), so that the initial
    weights are soon forgotten. Buffers are not averaged.

    Eq.: θ̄ ← d θ̄ + (1 - d) θ  (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, section 2)
    Held by: tests/optim/test_optim.py::test_ema_without_warmup_is_a_geometric_sum
    """

    def __init__(self, model: Module, decay: float = 0.9999, warmup: bool = True) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.params = dict(model.named_parameters())
        self.average: dict[str, Array] = {name: p.data.copy() for name, p in self.params.items()}
        self.decay = decay
        self.warmup = warmup
        self.updates = 0
        self.flats = fused.Flats()

    def update(self) -> None:
        """Average the model's present weights in: call it after each `optimizer.step()`."""
        self.updates = n = self.updates + 1
        d = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        averages, values = list(self.average.values()), [p.data for p in self.params.values()]
        for average, p in fused.pairs(self.flats, averages, values):
            average += (1 - d) * (p - average)  # = d·average + (1 - d)·p
        self.average = {name: averages[i] for i, name in enumerate(self.average)}

    def copy_to(self, model: Module) -> None:
        """Write the average into the parameters of `model`. Raises ValueError, with nothing changed, when
        names or shapes differ."""
        targets = dict(model.named_parameters())
        self.check(targets)
        for name, p in targets.items():
            p.data = self.average[name].astype(p.dtype)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """A context in which the model has the averaged weights; after it, the model has its own again."""
        own = {name: p.data for name, p in self.params.items()}
        for name, p in self.params.items():
            p.data = self.average[name].copy()
        try:
            yield
        finally:
            for name, p in self.params.items():
                p.data = own[name]

    def state_dict(self) -> dict[str, Any]:
        """{"updates": n, "average": {name: NumPy array}}."""
        average = {name: np.array(to_device(a, "cpu")) for name, a in self.average.items()}
        return {"updates": self.updates, "average": average}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Raises ValueError, with nothing changed, when something is missing,
        or names, shapes or kinds of numbers differ."""
        if lost := {"updates", "average"} - saved.keys():
            raise ValueError(f"this is no state of an EMA: {sorted(lost)} is missing, it has {list(saved)}")
        require_count("updates", saved["updates"], 0)
        self.check(saved["average"])
        for name, a in saved["average"].items():
            if a.dtype.kind != "f":
                raise ValueError(f"the average {name} is of {a.dtype}, not of floating-point numbers")
        new = {
            name: to_device(np.array(saved["average"][name], dtype=p.dtype), p.device)
            for name, p in self.params.items()
        }
        self.updates = int(saved["updates"])
        self.average.update(new)

    def check(self, values: Mapping[str, Any]) -> None:
        """Raises ValueError unless `values` has the names and shapes of the average."""
        ours, theirs = ({(name, np.shape(a)) for name, a in d.items()} for d in (self.average, values))
        if ours != theirs:
            raise ValueError(f"the average has {sorted(ours - theirs)}, but got {sorted(theirs - ours)}")
