"""What all optimizers share: parameters in groups, their state, and the clipping of gradients."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygen.nn.module import Module
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


class Flat:
    """Arrays of one dtype copied side by side into one: `whole` (N,), and its `parts`, views in the shapes
    that the arrays had. On a card, what is done to the whole is one launch instead of one for each part.
    Raises TypeError for several dtypes."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.whole: Array = np.concatenate(
            [a.reshape(-1) for a in arrays], dtype=arrays[0].dtype, casting="no"
        )
        self.parts: list[Array] = []
        end = 0
        for a in arrays:
            start, end = end, end + a.size
            self.parts.append(self.whole[start:end].reshape(a.shape))

    def holds(self, arrays: Sequence[Array]) -> bool:
        """Whether these are its parts, and nobody has put others in their places."""
        return len(arrays) == len(self.parts) and all(map(operator.is_, arrays, self.parts))


class Optimizer:
    """What the optimizers share: parameters in groups, each group with its own hyperparameters.

    `params` are tensors, or groups `[{"params": [...], "weight_decay": 0.1}, ...]`, which may set any
    hyperparameter for themselves. `state` holds what is remembered of each parameter.

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
            if not isinstance(p, Tensor) or p.node is not None:
                raise ValueError(
                    f"only leaves can be optimized, not what was computed or is no tensor: {p!r}"
                )
            if p.dtype.kind == "c":
                raise TypeError(
                    "optimizers take real parameters, one of these is complex: keep the real and the "
                    "imaginary part as two parameters, and compute with real + 1j * imag"
                )
        self.size = sum(p.size for p in self.params)

    def check_hyper(self, hyper: Mapping[str, Any]) -> None:
        """Raises ValueError for hyperparameters that no optimizer of this kind can have."""
        for name, value in hyper.items():
            numbers = np.asarray(value)
            if numbers.dtype.kind not in "biuf":
                raise ValueError(f"{name} must be a number, got {value!r}")
            if not np.all(numbers >= 0):
                raise ValueError(f"{name} must not be negative, got {value}")
            if not np.all(np.isfinite(numbers)):
                raise ValueError(f"{name} must be finite, got {value}")

    def check_state(self, where: str, state: Mapping[str, Any], param: Tensor) -> None:
        """Raises ValueError for what this kind of optimizer never remembers of a parameter: an array of
        another shape, or not of floating-point numbers. `where` is what errors call the parameter."""
        for key, x in state.items():
            if hasattr(x, "shape") and x.shape != param.shape:
                raise ValueError(f"{key} of {where} has shape {x.shape}, the parameter {param.shape}")
            if hasattr(x, "dtype") and x.dtype.kind != "f":
                raise ValueError(f"{key} of {where} is of {x.dtype}, not of floating-point numbers")

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

    @property
    def lr(self) -> float:
        """The learning rate of the first group. Assigning sets that of all groups."""
        return self.groups[0]["lr"]

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
        self, params: list[Array], grads: Sequence[Array], states: Sequence[State], group: Group
    ) -> None:
        """`update` each parameter of a group; for optimizers that do it for all in one call to replace. They
        may put other arrays into `params`, which become the parameters' data."""
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
        """Continue from `state_dict()` of an optimizer of this kind with the same groups and shapes; arrays
        are cast to the dtype of their parameters. Raises ValueError on any other, and has then changed
        nothing."""
        if lost := {"groups", "state"} - saved.keys():
            raise ValueError(
                f"this is no state of an optimizer: {sorted(lost)} is missing, it has {list(saved)}"
            )
        ours, theirs = len(self.params), len(saved["state"])
        if ours != theirs or len(self.groups) != len(saved["groups"]):
            raise ValueError(
                f"the state has {theirs} parameters in {len(saved['groups'])} groups, this optimizer "
                f"{ours} in {len(self.groups)}"
            )
        hypers = []
        for i, (group, hyper) in enumerate(zip(self.groups, saved["groups"], strict=True)):
            if set(hyper) != set(group) - {"params"}:
                raise ValueError(f"{sorted(hyper)} are another optimizer's, not {type(self).__name__}'s")
            for name, value in hyper.items():
                if np.shape(value) != np.shape(group[name]):
                    raise ValueError(f"{name} of group {i} is {group[name]} here, {value!r} in the state")
            self.check_hyper(hyper)
            hypers.append({k: tuple(x) if isinstance(x, list) else x for k, x in hyper.items()})
        states: dict[Tensor, State] = {}
        for i, (p, state) in enumerate(zip(self.params, saved["state"], strict=True)):
            if not state:
                continue  # it has had no gradient yet
            self.check_state(f"parameter {i}", state, p)
            states[p] = {
                k: to_device(np.array(x, p.dtype, order="C"), p.device) if hasattr(x, "shape") else x
                for k, x in state.items()
            }
        for group, hyper in zip(self.groups, hypers, strict=True):
            group.update(hyper)
        self.state = states


def require_names(where: str, state: Mapping[str, Any], names: Sequence[str]) -> None:
    """ValueError unless these, and no others, are in the state of a parameter: arrays, and a count `step`."""
    if set(state) != set(names):
        raise ValueError(f"the state of {where} should have {sorted(names)}, and has {sorted(state)}")
    for name in names:
        if name == "step":
            require_count(f"step of {where}", state[name], 1)
        elif not hasattr(state[name], "shape"):
            raise ValueError(f"{name} of {where} is no array, but {state[name]!r}")


def require_count(name: str, value: Any, least: int) -> None:
    if type(value) is bool or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")


def decay_groups(model: Module, weight_decay: float) -> list[Group]:
    """Two groups: what has two axes or more (matrices, embeddings, kernels) decays, biases and the weights
    of norms do not. Frozen parameters are left out. GPT-2's training in nanoGPT splits so."""
    params = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float | Tensor:
    """Scale all gradients, in place, by max_norm / (norm + 1e-6) if that is below 1 (Pascanu et al. 2012,
    arXiv:1211.5063, Algorithm 1), the norm being that of all of them as one vector.

    Returns the norm before clipping. If it is nan or inf, there is nothing to scale by: the gradients stay as
    they are, and it is for the caller to see that and not to take the step. On a GPU the norm is a Tensor
    there, for which nothing has waited until somebody looks at it: float(norm) does."""
    params = [p for p in params if p.grad is not None]
    grads: list[Array] = [p.grad for p in params]
    if grads and device_of(grads[0]) == "cuda":
        flat = Flat(grads)  # a copy, but three launches for all of them instead of three for each
        square = np.vdot(flat.whole, flat.whole)
        length = np.sqrt(square)
        scale = np.minimum(max_norm / (length + 1e-6), 1.0)
        flat.whole *= np.where(np.isfinite(length), scale, 1.0).astype(flat.whole.dtype)
        for p, g in zip(params, flat.parts, strict=True):
            p.grad = g
        return Tensor(length)
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads))
    if math.isinf(norm):  # a square is beyond float32's range from 2e19 on, in float64 it is not
        norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in grads))
    scale = max_norm / (norm + 1e-6)
    if math.isfinite(norm) and scale < 1:
        for g in grads:
            g *= scale
    return norm
