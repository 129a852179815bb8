"""Choices: where, clip, select, choose, piecewise; functions along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.ops.compose import as_operand, composition, constant, refuse_out, to_cpu
from tinygen.ops.index import axis_from_0, scatter_add
from tinygen.types import TensorLike


@composition("select")
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> TensorLike:
    """For each entry the choice of the first condition that holds."""
    if len(condlist) != len(choicelist):
        raise ValueError(f"{len(condlist)} conditions need as many choices, got {len(choicelist)}")
    y = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        y = np.where(condition, choice, y)
    return y


@composition("choose")
def choose(a: TensorLike, choices: TensorLike, out: Any = None, mode: str = "raise") -> TensorLike:
    """For each entry i of a, the entry of choices[i] at its place."""
    refuse_out(out)
    index = np.asarray(constant(a, "the choice"))
    xs = np.broadcast_arrays(index, *[as_operand(x) for x in choices])[1:]
    n = len(xs)
    if mode == "raise" and index.size and not (index.min() >= 0 and index.max() < n):
        raise ValueError(f"numbers in [0, {n}) are needed, got {index.min()} to {index.max()}")
    index = index % n if mode == "wrap" else np.clip(index, 0, n - 1)
    stacked = np.stack(list(xs))
    grid = np.indices(stacked.shape[1:], sparse=True)
    return stacked[(np.broadcast_to(index, stacked.shape[1:]), *grid)]


@composition("piecewise")
def piecewise(x: TensorLike, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> TensorLike:
    """Each function of the entries where its condition holds; one function more is for all the rest."""
    conditions = [to_cpu(c) for c in condlist] if isinstance(condlist, (list, tuple)) else to_cpu(condlist)
    if not isinstance(conditions, (list, tuple)) or np.ndim(conditions[0]) < np.ndim(x):
        conditions = [conditions] if np.ndim(conditions) == np.ndim(x) else list(conditions)
    masks = [np.broadcast_to(np.asarray(c, dtype=bool), x.shape) for c in conditions]
    if len(funclist) == len(masks) + 1:
        masks.append(~np.any(masks, axis=0))
    if len(funclist) != len(masks):
        raise ValueError(
            f"{len(masks)} conditions need {len(masks)} or {len(masks) + 1} functions, got {len(funclist)}"
        )
    taken = np.zeros(x.shape, dtype=bool)
    y = np.zeros_like(x)
    for mask, f in zip(reversed(masks), reversed(funclist), strict=True):  # the last that holds counts
        place, taken = np.nonzero(mask & ~taken), taken | mask
        if place[0].size:
            inside = x[place]
            value = f(inside, *args, **kw) if callable(f) else f
            y = y + scatter_add(np.zeros_like(inside) + value, place, x.shape)
    return y


@composition("apply_along_axis")
def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> TensorLike:
    """func1d of every 1-D slice, in a loop; its result takes the place of the axis."""
    axis = axis_from_0(axis, arr.ndim)
    last = np.moveaxis(arr, axis, -1)
    results = [as_operand(func1d(last[i], *args, **kwargs)) for i in np.ndindex(*last.shape[:-1])]
    if not results:
        raise ValueError(f"there is no slice along axis {axis} of shape {arr.shape}")
    inner = results[0].shape
    whole = np.reshape(np.stack(results), (*last.shape[:-1], *inner))
    n = len(inner)
    return np.moveaxis(whole, range(whole.ndim - n, whole.ndim), range(axis, axis + n)) if n else whole


@composition("apply_over_axes")
def apply_over_axes(func: Callable[..., Any], a: TensorLike, axes: Any) -> TensorLike:
    """func(a, axis) for one axis after the other; reduced axes stay, with size 1."""
    for axis in (axes,) if np.ndim(axes) == 0 else axes:
        axis = axis_from_0(axis, a.ndim)
        y = func(a, axis)
        a = y if y.ndim == a.ndim else np.expand_dims(y, axis)
    return a
