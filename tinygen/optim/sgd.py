"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tinygen.optim.optimizer import Group, Optimizer, State, pieces, require_names
from tinygen.tensor import Array, Tensor


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013,
    section 2), in PyTorch's form: g += weight_decay·p; m = momentum·m + g; p -= lr·m, or with `nesterov`
    p -= lr·(g + momentum·m)."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        super().check_hyper(hyper)
        if hyper["nesterov"] and not hyper["momentum"]:
            raise ValueError("nesterov needs a momentum above 0")

    def check_state(self, where: str, state: Mapping[str, Any], param: Tensor) -> None:
        require_names(where, state, ("m",))
        super().check_state(where, state, param)

    def update(self, param: Array, grad: Array, state: State, group: Group) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if momentum and not state:
            state["m"] = np.zeros_like(param)
        for p, g, m in pieces(param, grad, state.get("m", grad)):
            if decay:
                g = g + decay * p
            if momentum:
                m *= momentum
                m += g
                g = g + momentum * m if group["nesterov"] else m
            p -= lr * g
