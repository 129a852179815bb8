"""Optimizers, learning-rate schedule, gradient clipping, and the average of the weights.

An optimizer is built on parameters, reads their `.grad` and writes their `.data`:

    optimizer = AdamW(decay_groups(model, 0.1), lr=3e-4)
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, 3e-4, 3e-5, warmup=100, decay_steps=steps)
        optimizer.zero_grad()
        loss(model, batch()).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen.kernels import kernels
from tinygen.kernels.registry import LEAST
from tinygen.nn.module import Module
from tinygen.tape import Op
from tinygen.tensor import Array, Tensor, device_of, to_device

Group = dict[str, Any]
State = dict[str, Any]

PIECE = 1 << 15
"""How many numbers of each array an update takes at a time. Its intermediate results then stay in the
processor's cache, which is half as fast again on large matrices and takes no memory."""


def contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous else a.copy()


def pieces(*arrays: Array) -> Iterator[list[Array]]:
    """Flat views of the arrays (contiguous and of one size), piece by piece; on a GPU all at once."""
    flat = [a.reshape(-1) for a in arrays]
    n = flat[0].size
    size = PIECE if device_of(flat[0]) == "cpu" else max(n, 1)
    return ([a[i : i + size] for a in flat] for i in range(0, n, size))


class Optimizer:
    """What the optimizers share: parameters in groups, each group with its own hyperparameters.

    `params` are tensors, or groups `[{"params": [...], "weight_decay": 0.1}, ...]`, which may set any
    hyperparameter for themselves. `state` holds what is remembered of each parameter.

    Raises ValueError when there are no parameters, the same one twice, one that is no leaf, or a
    hyperparameter that is unknown or negative."""

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], **hyper: Any) -> None:
        items: list[Any] = list(params)
        groups = items if items and isinstance(items[0], dict) else [{"params": items}]
        self.groups: list[Group] = [{**hyper, **g, "params": list(g["params"])} for g in groups]
        self.state: dict[Tensor, State] = {}
        self.params: list[Tensor] = [p for g in self.groups for p in g["params"]]
        if not self.params:
            raise ValueError("no parameters to optimize (a generator can be read only once)")
        if len(set(self.params)) < len(self.params):
            raise ValueError("a parameter comes twice: each may be in one group, once")
        for group in self.groups:
            if unknown := set(group) - set(hyper) - {"params"}:
                raise ValueError(f"{type(self).__name__} knows no {sorted(unknown)}; it has {sorted(hyper)}")
            for name in hyper:
                if not np.all(np.asarray(group[name]) >= 0):
                    raise ValueError(f"{name} must not be negative, got {group[name]}")
        for p in self.params:
            if not isinstance(p, Tensor) or p.node is not None:
                raise ValueError(
                    f"only leaves can be optimized, not what was computed or is no tensor: {p!r}"
                )
        self.size = sum(p.size for p in self.params)

    @property
    def lr(self) -> float:
        """The learning rate of the first group. Assigning sets that of all groups."""
        return self.groups[0]["lr"]  # type: ignore[no-any-return]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = float(value)

    def step(self) -> None:
        """Update, in place, every parameter that has a gradient. Raises RuntimeError when none has, and
        ValueError for a gradient of another shape; then nothing has changed."""
        if all(p.grad is None for p in self.params):
            raise RuntimeError("no parameter has a gradient: call backward() on the loss before step()")
        for p in self.params:
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(f"a gradient of shape {p.grad.shape} for a parameter of {p.shape}")
        for group in self.groups:
            params = [p for p in group["params"] if p.grad is not None]
            arrays = [contiguous(p.data) for p in params]
            grads = [contiguous(p.grad) for p in params]
            self.update_all(arrays, grads, [self.state.setdefault(p, {}) for p in params], group)
            for p, array in zip(params, arrays, strict=True):
                p.data = array  # tells the tape

    def update_all(
        self, params: Sequence[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        """`update` each parameter of a group; for optimizers that do it for all in one call to replace."""
        for each in zip(params, grads, states, strict=True):
            self.update(*each, group)

    def update(self, param: Array, grad: Array, state: State, group: Group) -> None:
        """Write new values into the array `param`, whose gradient is `grad`."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """{"groups": hyperparameters of each group, "state": of each parameter, in order}: copies, with
        arrays as NumPy's."""

        def saved(x: Any) -> Any:
            return np.array(to_device(x, "cpu")) if hasattr(x, "shape") else x

        groups = [{k: v for k, v in group.items() if k != "params"} for group in self.groups]
        state = [{k: saved(v) for k, v in self.state.get(p, {}).items()} for p in self.params]
        return {"groups": groups, "state": state}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an optimizer of this kind with the same groups and shapes. Raises
        ValueError on any other, and has then changed nothing."""
        ours, theirs = len(self.params), len(saved["state"])
        if ours != theirs or len(self.groups) != len(saved["groups"]):
            raise ValueError(
                f"the state has {theirs} parameters in {len(saved['groups'])} groups, this optimizer "
                f"{ours} in {len(self.groups)}"
            )
        for group, hyper in zip(self.groups, saved["groups"], strict=True):
            if set(hyper) != set(group) - {"params"}:
                raise ValueError(f"{sorted(hyper)} are another optimizer's, not {type(self).__name__}'s")
        for i, (p, state) in enumerate(zip(self.params, saved["state"], strict=True)):
            for key, x in state.items():
                if hasattr(x, "shape") and x.shape != p.shape:
                    raise ValueError(f"{key} of parameter {i} has shape {x.shape}, the parameter {p.shape}")
        for group, hyper in zip(self.groups, saved["groups"], strict=True):
            group.update(hyper)
        self.state = {}
        for p, state in zip(self.params, saved["state"], strict=True):
            if state:
                self.state[p] = {
                    k: to_device(np.array(x, order="C"), p.device) if hasattr(x, "shape") else x
                    for k, x in state.items()
                }


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
        if any(group["nesterov"] and not group["momentum"] for group in self.groups):
            raise ValueError("nesterov needs a momentum above 0")

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
        if any(beta >= 1 for group in self.groups for beta in group["betas"]):
            raise ValueError("betas must be below 1")

    def update_all(
        self, params: Sequence[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        lr, (beta1, beta2), eps, decay = (group[k] for k in ("lr", "betas", "eps", "weight_decay"))
        arrays: list[Array] = []
        rates, epsilons = [], []
        for param, grad, state in zip(params, grads, states, strict=True):
            if not state:
                state.update(step=0, m=np.zeros_like(param), v=np.zeros_like(param))
            state["step"] += 1
            arrays += [param, grad, state["m"], state["v"]]
            root = math.sqrt(1 - beta2 ** state["step"])  # m̂ / (sqrt(v̂) + eps), times root above and below
            rates.append(lr * root / (1 - beta1 ** state["step"]))
            epsilons.append(eps * root)
        keep, decay = (1 - lr * decay, 0.0) if self.decoupled else (1.0, decay)
        adam = ADAM.compute if params and self.size >= LEAST else ADAM.body
        adam(*arrays, rates=rates, epsilons=epsilons, keep=keep, decay=decay, betas=(beta1, beta2))


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


def decay_groups(model: Module, weight_decay: float) -> list[Group]:
    """Two groups: what has two axes or more (matrices, embeddings, kernels) decays, biases and the weights
    of norms do not. Frozen parameters are left out. GPT-2's training in nanoGPT splits so."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]


def warmup_cosine(step: int, lr: float, min_lr: float, warmup: int, decay_steps: int) -> float:
    """The learning rate at `step` (0, 1, ...): lr·(step + 1)/(warmup + 1) during the first `warmup` steps,
    then half a cosine down to `min_lr` at `decay_steps` (Loshchilov & Hutter 2016, arXiv:1608.03983,
    eq. 5), and `min_lr` from there on."""
    if not 0 <= warmup < decay_steps:
        raise ValueError(f"warmup must be in [0, decay_steps), got {warmup} and {decay_steps}")
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step > decay_steps:
        return min_lr
    progress = (step - warmup) / (decay_steps - warmup)
    return min_lr + 0.5 * (1 + math.cos(math.pi * progress)) * (lr - min_lr)


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients, in place, by max_norm / (norm + 1e-6) if that is below 1 (Pascanu et al. 2012,
    arXiv:1211.5063, Algorithm 1), the norm being that of all of them as one vector.

    Returns the norm before clipping. One that is inf or nan is not an error here: check it."""
    grads = [p.grad for p in params if p.grad is not None]
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:  # nan too
        for g in grads:
            g *= scale
    return norm


class EMA:
    """The exponential moving average of a model's parameters: average = d·average + (1 - d)·p at each
    update (Polyak & Juditsky 1992 averaged uniformly). It samples better than the last weights.

    With `warmup`, d = min(decay, (1 + n)/(10 + n)) at the n-th update (n = 1, 2, ...), so that the initial
    weights are soon forgotten. Buffers are not averaged."""

    def __init__(self, model: Module, decay: float = 0.9999, warmup: bool = True) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.params = dict(model.named_parameters())
        self.average: dict[str, Array] = {name: p.data.copy() for name, p in self.params.items()}
        self.decay = decay
        self.warmup = warmup
        self.updates = 0

    def update(self) -> None:
        """Take in the model's present weights: call it after each `optimizer.step()`."""
        self.updates += 1
        n = self.updates
        d = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        for name, p in self.params.items():
            for average, value in pieces(self.average[name], contiguous(p.data)):
                average += (1 - d) * (value - average)

    def copy_to(self, model: Module) -> None:
        """Write the average into the parameters of `model`. Raises ValueError when its names or shapes are
        others, and has then changed nothing."""
        targets = dict(model.named_parameters())
        self.check(targets)
        for name, p in targets.items():
            p.data = self.average[name].astype(p.dtype)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """`with ema.swapped():` the model has the averaged weights; after it, its own again."""
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
        """Continue from `state_dict()`. Raises ValueError when names or shapes are others."""
        self.check(saved["average"])
        self.updates = saved["updates"]
        for name, p in self.params.items():
            self.average[name] = to_device(np.array(saved["average"][name], dtype=p.dtype), p.device)

    def check(self, values: Mapping[str, Any]) -> None:
        ours, theirs = ({(name, a.shape) for name, a in d.items()} for d in (self.average, values))
        if ours != theirs:
            raise ValueError(
                f"the average has {sorted(ours - theirs)}, and there stand {sorted(theirs - ours)}"
            )
