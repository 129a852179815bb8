"""Adam, and AdamW: Adam with decoupled weight decay.

`Adam.update` is the algorithm, for one parameter. `fused.py` has faster ways to take the same step for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.optim import fused
from tinygen.optim.optimizer import Group, Optimizer, State
from tinygen.optim.state import require_names
from tinygen.tensor import Array, Tensor


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1).

    m and v are running means of the gradient g and of g². Both start at 0; m_hat and v_hat correct for that.
    t counts the steps in which this parameter had a gradient. `weight_decay` adds weight_decay·p to the
    gradient, which Adam then rescales: see `AdamW`.

    Eq.: p ← p - lr m̂ / (√v̂ + eps),  m̂ = m / (1 - β1^t),  v̂ = v / (1 - β2^t)
        (Kingma & Ba 2015, algorithm 1)
    Held by: tests/optim/test_optim.py::test_two_adam_steps_by_hand
    """

    decoupled = False  # whether the weight decay is AdamW's

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.flats = fused.Flats()

    def new_state(self, p: Array, group: Group) -> State:
        return {"step": 0, "m": np.zeros_like(p), "v": np.zeros_like(p)}

    def update(self, p: Array, g: Array, state: State, group: Group) -> None:
        lr, (beta1, beta2), eps, decay = (group[name] for name in ("lr", "betas", "eps", "weight_decay"))
        m, v = state["m"], state["v"]
        state["step"] = t = state["step"] + 1
        if self.decoupled:
            p *= 1 - lr * decay
        else:
            g = g + decay * p
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p -= lr * m_hat / (np.sqrt(v_hat) + eps)

    def update_group(
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        if not fused.update_by_adam(self, params, grads, states, group):
            super().update_group(params, grads, states, group)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        super().check_hyper(hyper)
        if np.shape(hyper["betas"]) != (2,):
            raise ValueError(f"betas must be two numbers, got {hyper['betas']}")
        if not np.all(np.asarray(hyper["betas"]) < 1):
            raise ValueError(f"betas must be below 1, got {hyper['betas']}")

    def check_state(self, where: str, state: Mapping[str, Any], param: Tensor) -> None:
        require_names(where, state, ("step", "m", "v"))
        super().check_state(where, state, param)
        if np.any(state["v"] < 0):
            raise ValueError(f"v of {where} is a mean of squares, and some of it is negative")


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by the factor 1 - lr·weight_decay at each step, whatever
    the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2, with lr = η_t α and
    weight_decay = λ/α, as in PyTorch).

    Eq.: p ← (1 - lr λ) p - lr m̂ / (√v̂ + eps)  (Loshchilov & Hutter 2019, algorithm 2)
    Held by: tests/optim/test_optim.py::test_adamw_decay_is_a_factor_whatever_the_gradient
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
