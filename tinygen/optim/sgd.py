"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.optim import fused
from tinygen.optim.optimizer import Group, Optimizer, State
from tinygen.optim.state import require_names
from tinygen.tensor import Array, Tensor


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's momentum (Sutskever et al. 2013,
    section 2), in PyTorch's form: m is the momentum buffer, and starts at 0.

    Eq.: v ← μ v + g,  p ← p - lr v  (Sutskever et al. 2013, eq. 1 and 2, as PyTorch writes it)
    Held by: tests/optim/test_optim.py::test_sgd_momentum_and_nesterov_by_hand
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def new_state(self, p: Array, group: Group) -> State:
        return {"m": np.zeros_like(p)} if group["momentum"] else {}

    def update(self, p: Array, g: Array, state: State, group: Group) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if decay:
            g = g + decay * p
        if momentum:
            m = state["m"]
            m[...] = momentum * m + g
            g = g + momentum * m if group["nesterov"] else m
        p -= lr * g

    def update_group(
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        for param, grad, state in zip(params, grads, states, strict=True):
            for p, g, *m in fused.pieces(param, grad, *state.values()):
                self.update(p, g, {name: m[i] for i, name in enumerate(state)}, group)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        super().check_hyper(hyper)
        if hyper["nesterov"] and not hyper["momentum"]:
            raise ValueError("nesterov needs a momentum above 0")

    def check_state(self, where: str, state: Mapping[str, Any], param: Tensor) -> None:
        require_names(where, state, ("m",))
        super().check_state(where, state, param)
