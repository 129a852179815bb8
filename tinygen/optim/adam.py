"""Adam, and AdamW, whose weight decay is apart from the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.kernels import kernels
from tinygen.kernels.registry import LEAST
from tinygen.optim.optimizer import Flat, Group, Optimizer, State, pieces, require_names
from tinygen.tape import Op
from tinygen.tensor import Array, Tensor, device_of


def adam(
    *arrays: Array,
    rates: Sequence[float],
    epsilons: Sequence[float],
    keep: float,
    decay: float,
    betas: tuple[float, float],
) -> tuple[None]:
    """Adam's step, in place. `arrays` are p, g, m, v of each parameter in turn: itself, its gradient, the
    running means of g and g². p shrinks to keep·p, decay·p adds to g, p -= rate·m / (sqrt(v) + epsilon)."""
    beta1, beta2 = betas
    each = zip(arrays[::4], arrays[1::4], arrays[2::4], arrays[3::4], rates, epsilons, strict=True)
    for *four, rate, epsilon in each:
        for p, g, m, v in pieces(*four):
            if keep != 1:
                p *= keep
            if decay:
                g = g + decay * p
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            p -= rate * m / (np.sqrt(v) + epsilon)
    return (None,)


ADAM = Op(adam)  # never on the tape, but a definition that has a kernel
kernels.later(ADAM, "adam", worth=lambda *arrays: True)  # see `Adam.update_all`
kernels.on_gpu(ADAM, "adam")


class Adam(Optimizer):
    """Adam (Kingma & Ba 2014, arXiv:1412.6980, Algorithm 1): m and v are running means of g and g²;
    p -= lr·m̂ / (sqrt(v̂) + eps), where m̂ = m / (1 - β1^t) and v̂ = v / (1 - β2^t) make up for starting at 0.
    t counts the steps in which this parameter had a gradient.

    `weight_decay` adds weight_decay·p to the gradient, which Adam then rescales: see `AdamW`."""

    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.flats: dict[tuple[int, str], Flat] = {}  # on a card, by group and "p", "m", "v"

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

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "flats": {}}  # the copies of views would be no views

    def update_all(
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        lr, (beta1, beta2), eps, decay = (group[k] for k in ("lr", "betas", "eps", "weight_decay"))
        rates, epsilons = [], []
        for param, state in zip(params, states, strict=True):
            if not state:
                state.update(step=0, m=np.zeros_like(param), v=np.zeros_like(param))
            state["step"] += 1
            root = math.sqrt(1 - beta2 ** state["step"])  # m̂ / (sqrt(v̂) + eps), times root above and below
            rates.append(lr * root / (1 - beta1 ** state["step"]))
            epsilons.append(eps * root)
        alike = len(set(rates)) == 1 and len({p.dtype for p in params}) == 1
        if alike and device_of(params[0]) == "cuda":
            arrays = self.side_by_side(params, grads, states, id(group))
            rates, epsilons = rates[:1], epsilons[:1]
        else:
            fours = zip(params, grads, states, strict=True)
            arrays = [a for p, g, state in fours for a in (p, g, state["m"], state["v"])]
        keep, decay = (1 - lr * decay, 0.0) if self.decoupled else (1.0, decay)
        adam = ADAM.compute if params and self.size >= LEAST else ADAM.body
        adam(*arrays, rates=rates, epsilons=epsilons, keep=keep, decay=decay, betas=(beta1, beta2))

    def side_by_side(
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: int
    ) -> list[Array]:
        """p, g, m and v of a whole group as one array each, so that one launch updates all. Parameters and
        means move there at the first step, and stay; gradients, which are new in every step, are copied."""

        def flat(name: str, arrays: Sequence[Array]) -> Flat:
            known = self.flats.get((group, name))
            if known is None or not known.holds(arrays):  # the first step, or somebody has put in others
                known = self.flats[group, name] = Flat(arrays)
            return known

        p, m, v = flat("p", params), *(flat(name, [s[name] for s in states]) for name in "mv")
        params[:] = p.parts
        for state, mean, square in zip(states, m.parts, v.parts, strict=True):
            state.update(m=mean, v=square)
        return [p.whole, Flat(grads).whole, m.whole, v.whole]


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by the factor 1 - lr·weight_decay at each step, whatever
    the gradient (Loshchilov & Hutter 2017, arXiv:1711.05101, Algorithm 2, in PyTorch's form)."""

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
