"""ZeRO, stage 1: the optimizer's state is divided among the processes (Rajbhandari et al. 2020,
arXiv:1910.02054, section 5.1).

Adam keeps two numbers for each parameter. With K processes that hold all parameters, each of these
numbers is there K times. Here every parameter has an owner: only the owner keeps its state and takes its
step, and then sends the new values to the others. The steps are the same to the last bit, and the state
of the optimizer takes a K-th of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygen.arrays import to_device
from tinygen.optim.optimizer import Optimizer
from tinygen.optim.state import copy_state
from tinygen.parallel.communicator import Communicator, gather, wait
from tinygen.tensor import Array, Tensor


class ShardedOptimizer:
    """An optimizer whose state is divided among the processes of `comm`; used like the optimizer itself.

    `optimizer` is new, and the same in all processes, which call `step`, `state_dict` and `load_state_dict`
    together. The state is that of the optimizer in one process, so that a run continues with any number of
    processes. ValueError if the optimizer has a state already."""

    def __init__(self, optimizer: Optimizer, comm: Communicator | None) -> None:
        if optimizer.state:
            raise ValueError("the optimizer has taken steps already: shard a new one, then load its state")
        self.optimizer, self.comm = optimizer, comm
        self.owners = owners(optimizer.params, 1 if comm is None else comm.size)

    @property
    def lr(self) -> float:
        """The learning rate, as of the optimizer."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer.lr = value

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Update the own parameters, and get the others from their owners."""
        if self.comm is None:
            self.optimizer.step()
            return
        grads = {p: p.grad for p in self.optimizer.params}
        own = [p for p in grads if self.owners[p] == self.comm.rank]
        for p in grads:
            if self.owners[p] != self.comm.rank:
                p.grad = None  # the optimizer takes no step where there is no gradient
        if any(p.grad is not None for p in own):
            self.optimizer.step()
        for p, g in grads.items():
            p.grad = g
        wait(self.comm.Ibarrier(), self.comm, "the new parameters")
        for owner in range(self.comm.size):
            params = [p for p in grads if self.owners[p] == owner and grads[p] is not None]
            send_values(params, owner, self.comm)

    def state_dict(self) -> dict[str, Any]:
        """The state of the whole optimizer, gathered from all processes."""
        state = copy_state(self.optimizer)
        for theirs in gather(state["state"], self.comm):
            state["state"] = [there or here for there, here in zip(theirs, state["state"], strict=True)]
        return state

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Keep the own part of the state of a whole optimizer."""
        self.optimizer.load_state_dict(saved)
        if self.comm is not None:
            for p in [p for p in self.optimizer.state if self.owners[p] != self.comm.rank]:
                del self.optimizer.state[p]


def owners(params: list[Tensor], size: int) -> dict[Tensor, int]:
    """The owner of each parameter: the largest first, each to the process that has least."""
    load, found = [0] * size, {}
    for p in sorted(params, key=lambda p: -p.size):
        found[p] = load.index(min(load))
        load[found[p]] += p.size
    return found


def send_values(params: list[Tensor], owner: int, comm: Communicator) -> None:
    """Give all processes the values that the parameters have in process `owner`."""
    for dtype in sorted({str(p.dtype) for p in params}):
        same = [p for p in params if str(p.dtype) == dtype]
        flat: Array = np.concatenate([to_device(p.data, "cpu").reshape(-1) for p in same])
        comm.Bcast(flat, owner)
        if owner == comm.rank:
            continue
        at = 0
        for p in same:
            value = flat[at : at + p.size].reshape(p.shape)
            p.data = to_device(value.copy(), p.device)
            at += p.size
