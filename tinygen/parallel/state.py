"""The state of a run in several processes: one start, the same bits afterwards, one order of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygen.parallel.communicator import Communicator, from_first, gather
from tinygen.storage.state import copy_arrays, restore, state_of
from tinygen.types import Ids


def broadcast(thing: Any, comm: Communicator | None) -> None:
    """Set `thing` in all processes to its state in process 0: a module, an optimizer, an average, a
    generator, or a dict of these."""
    if comm is not None:
        state = copy_arrays(state_of(thing))  # in all: a divided optimizer gathers its state
        restore(thing, from_first(lambda: state, comm))


def fingerprint(thing: Any) -> str:
    """The SHA-256 of the state of `thing`: all its arrays and numbers, and their names."""
    digest = hashlib.sha256()

    def read(tree: Any) -> None:
        if isinstance(tree, Mapping):
            for key, value in tree.items():
                digest.update(f"{key}:".encode())
                read(value)
        elif isinstance(tree, list | tuple):
            for value in tree:
                read(value)
        elif isinstance(tree, np.ndarray):
            digest.update(f"{tree.dtype}{tree.shape}".encode() + tree.tobytes())
        else:
            digest.update(f"{tree!r};".encode())

    read(state_of(thing))
    return digest.hexdigest()


def require_same(thing: Any, comm: Communicator | None) -> None:
    """Raises RuntimeError, with the ranks, when the state of `thing` is not the same in all processes, to the
    last bit."""
    prints = gather(fingerprint(thing), comm)
    others = [rank for rank, found in enumerate(prints) if found != prints[0]]
    if others:
        raise RuntimeError(
            f"the state of process {', '.join(map(str, others))} is not that of process 0: all must begin "
            "with broadcast(), draw the same numbers, and take the same steps"
        )


class Epochs:
    """The numbers 0 to n - 1 in a new random order in each epoch, `batch` at a time. A batch may have the end
    of one epoch and the start of the next, so that all are of one size.

    `next_batch()` is the whole batch, the same in all processes, and each takes its rows of it. So the order
    is that of one process; and the state is the same in all processes, and continues with another number
    of them."""

    def __init__(self, n: int, batch: int, rng: np.random.Generator) -> None:
        if not 1 <= batch <= n:
            raise ValueError(f"batch must be from 1 to the {n} examples, got {batch}")
        self.n, self.batch, self.rng = n, batch, rng
        self.order: Ids = rng.permutation(n)
        self.position = 0

    def next_batch(self) -> Ids:
        """The numbers (batch,) of the next examples."""
        start, end = self.position, self.position + self.batch
        chosen, self.position = self.order[start:end], end
        if end >= self.n:
            self.order, self.position = self.rng.permutation(self.n), end - self.n
            chosen = np.concatenate([chosen, self.order[: self.position]])
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """The order of this epoch, the position in it, and the generator of the next orders."""
        state = {"order": self.order.copy(), "position": self.position}
        return {**state, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`. Raises ValueError for another number of examples."""
        if len(saved["order"]) != self.n:
            raise ValueError(f"{self.n} examples here, {len(saved['order'])} in the state")
        self.order, self.position = saved["order"].copy(), int(saved["position"])
        self.rng.bit_generator.state = saved["rng"]
