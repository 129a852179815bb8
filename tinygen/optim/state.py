"""The states of optimizers: copied, checked and loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.arrays import to_device
from tinygen.tensor import Tensor

if TYPE_CHECKING:
    from tinygen.optim.optimizer import Optimizer, State


def copy_state(optimizer: Optimizer) -> dict[str, Any]:
    """{"groups": hyperparameters of each group, "state": the state of each parameter, in order}: copies, with
    NumPy arrays."""

    def as_numpy(x: Any) -> Any:
        return np.array(to_device(x, "cpu")) if hasattr(x, "shape") else x

    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.groups]
    state = [{k: as_numpy(v) for k, v in optimizer.state.get(p, {}).items()} for p in optimizer.params]
    return {"groups": groups, "state": state}


def load_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Put a state of `copy_state` into the optimizer. ValueError, having changed nothing, for the state of
    another one; arrays are cast to the dtype of their parameters."""
    if lost := {"groups", "state"} - saved.keys():
        raise ValueError(f"this is no state of an optimizer: {sorted(lost)} is missing, it has {list(saved)}")
    ours, theirs = len(optimizer.params), len(saved["state"])
    if ours != theirs or len(optimizer.groups) != len(saved["groups"]):
        raise ValueError(
            f"the state has {theirs} parameters in {len(saved['groups'])} groups, this optimizer "
            f"{ours} in {len(optimizer.groups)}"
        )
    hypers = [
        checked_hyper(optimizer, i, group, saved["groups"][i]) for i, group in enumerate(optimizer.groups)
    ]
    states: dict[Tensor, State] = {}
    for i, p in enumerate(optimizer.params):
        if not (state := saved["state"][i]):
            continue  # it has had no gradient yet
        optimizer.check_state(f"parameter {i}", state, p)
        states[p] = {
            k: to_device(np.array(x, p.dtype, order="C"), p.device) if hasattr(x, "shape") else x
            for k, x in state.items()
        }
    for i, group in enumerate(optimizer.groups):
        group.update(hypers[i])
    optimizer.state = states


def checked_hyper(
    optimizer: Optimizer, i: int, group: Mapping[str, Any], hyper: Mapping[str, Any]
) -> dict[str, Any]:
    """The saved hyperparameters of group i, with tuples for lists. ValueError if this group cannot have
    them."""
    if set(hyper) != set(group) - {"params"}:
        raise ValueError(f"{sorted(hyper)} are another optimizer's, not {type(optimizer).__name__}'s")
    for name, value in hyper.items():
        if np.shape(value) != np.shape(group[name]):
            raise ValueError(f"{name} of group {i} is {group[name]} here, {value!r} in the state")
    optimizer.check_hyper(hyper)
    return {k: tuple(x) if isinstance(x, list) else x for k, x in hyper.items()}


def require_numbers(hyper: Mapping[str, Any]) -> None:
    """ValueError for hyperparameters that are not finite numbers from 0 on."""
    for name, value in hyper.items():
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be a number, got {value!r}")
        if not np.all(numbers >= 0):
            raise ValueError(f"{name} must not be negative, got {value}")
        if not np.all(np.isfinite(numbers)):
            raise ValueError(f"{name} must be finite, got {value}")


def require_arrays(where: str, state: Mapping[str, Any], param: Tensor) -> None:
    """ValueError for arrays that have not the parameter's shape, or are not of floating-point numbers."""
    for key, x in state.items():
        if hasattr(x, "shape") and x.shape != param.shape:
            raise ValueError(f"{key} of {where} has shape {x.shape}, the parameter {param.shape}")
        if hasattr(x, "dtype") and x.dtype.kind != "f":
            raise ValueError(f"{key} of {where} is of {x.dtype}, not of floating-point numbers")


def require_names(where: str, state: Mapping[str, Any], names: Sequence[str]) -> None:
    """ValueError unless the state of a parameter has exactly these names: arrays, and the count `step`."""
    if set(state) != set(names):
        raise ValueError(f"the state of {where} should have {sorted(names)}, and has {sorted(state)}")
    for name in names:
        if name == "step":
            require_count(f"step of {where}", state[name], 1)
        elif not hasattr(state[name], "shape"):
            raise ValueError(f"{name} of {where} is no array, but {state[name]!r}")


def require_count(name: str, value: Any, least: int) -> None:
    """ValueError unless `value` is a whole number from `least` on."""
    if type(value) is bool or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}, got {value!r}")
