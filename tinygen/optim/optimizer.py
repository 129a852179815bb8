"""The base class of all optimizers: parameters in groups, the state of each parameter, and the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.nn.module import Module
from tinygen.optim.fused import as_contiguous
from tinygen.optim.state import copy_state, load_state, require_arrays, require_numbers
from tinygen.tensor import Array, Tensor

Group = dict[str, Any]
State = dict[str, Any]


class Optimizer:
    """Parameters in groups, each group with its own hyperparameters; and the state of each parameter: the
    numbers that the optimizer keeps from step to step.

    An optimizer is a subclass with `update`, the algorithm for one parameter, and `new_state` if it remembers
    anything. `params` are tensors, or groups `[{"params": [...], "weight_decay": 0.1}, ...]`, which may set
    any hyperparameter for themselves.

    Raises ValueError when there are no parameters, the same one twice, one that is no leaf, or a
    hyperparameter that is unknown, negative or not finite."""

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
            self.check_hyper({name: group[name] for name in hyper})
        for p in self.params:
            require_real_leaf(p)
        self.size = sum(p.size for p in self.params)

    def step(self) -> None:
        """Update, in place, every parameter that has a gradient. Raises RuntimeError when none has one, and
        ValueError for a gradient of the wrong shape; in both cases nothing has changed."""
        if all(p.grad is None for p in self.params):
            raise RuntimeError("no parameter has a gradient: call backward() on the loss before step()")
        for p in self.params:
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(f"a gradient of shape {p.grad.shape} for a parameter of {p.shape}")
        for group in self.groups:
            params = [p for p in group["params"] if p.grad is not None]
            arrays = [as_contiguous(p.data) for p in params]
            grads = [as_contiguous(p.grad) for p in params]
            states = [self.state.setdefault(p, {}) for p in params]
            for i, state in enumerate(states):
                if not state:
                    state.update(self.new_state(arrays[i], group))
            self.update_group(arrays, grads, states, group)
            for p, array in zip(params, arrays, strict=True):
                p.data = array  # tells the tape

    def new_state(self, p: Array, group: Group) -> State:
        """The state of the parameter p before its first step."""
        return {}

    def update(self, p: Array, g: Array, state: State, group: Group) -> None:
        """Write new values into the parameter p, whose gradient is g, and into its state."""
        raise NotImplementedError

    def update_group(
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        """`update` each parameter of a group. An optimizer with a faster way (`fused.py`) replaces this; it
        may put other arrays into `params`, which become the parameters' data."""
        for each in zip(params, grads, states, strict=True):
            self.update(*each, group)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.params:
            p.grad = None

    @property
    def lr(self) -> float:
        """The learning rate of the first group. Assigning it sets the rate of all groups."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = float(value)

    def __repr__(self) -> str:
        """Like "SGD(lr=0.1, momentum=0.9; 12 parameters, 3,072 numbers)", a line for each group."""
        lines = []
        for group in self.groups:
            hyper = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            size = sum(p.size for p in group["params"])
            lines.append(
                f"{type(self).__name__}({hyper}; {len(group['params'])} parameters, {size:,} numbers)"
            )
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """{"groups": hyperparameters of each group, "state": the state of each parameter, in order}: copies,
        with NumPy arrays."""
        return copy_state(self)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of an optimizer of this kind with the same groups and shapes; arrays
        are cast to the dtype of their parameters. Raises ValueError, with nothing changed, for any other."""
        load_state(self, saved)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Raises ValueError for hyperparameters that no optimizer of this kind can have."""
        require_numbers(hyper)

    def check_state(self, where: str, state: Mapping[str, Any], param: Tensor) -> None:
        """Raises ValueError for a state that this kind of optimizer never has: an array of another shape, or
        not of floating-point numbers. `where` is what errors call the parameter."""
        require_arrays(where, state, param)


def require_real_leaf(p: Any) -> None:
    """ValueError for anything but a Tensor without history, TypeError for complex or float16 parameters."""
    if not isinstance(p, Tensor) or p.node is not None:
        raise ValueError(f"only leaves can be optimized, not what was computed or is no tensor: {p!r}")
    if p.dtype.kind == "c":
        raise TypeError(
            "optimizers take real parameters, one of these is complex: keep the real and the "
            "imaginary part as two parameters, and compute with real + 1j * imag"
        )
    if p.dtype == np.float16:
        raise TypeError(
            "a parameter is float16, in which small steps round to nothing: train in float32, "
            "model.astype(np.float32), or train adapters on it (LoRA)"
        )


def decay_groups(model: Module, weight_decay: float) -> list[Group]:
    """Two groups, as in nanoGPT: parameters with two axes or more (matrices, embeddings, kernels) decay,
    biases and the weights of norms do not. Frozen parameters are left out."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
