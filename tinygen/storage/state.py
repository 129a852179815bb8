"""The state of a run as a tree of numbers, strings, arrays, lists and dicts, and its restoration.

A run consists of modules, optimizers, weight averages, random generators and plain values. `state_of` returns
the state of a dict of these as a tree; `restore` sets objects of the same kinds to a saved state. `flatten`
moves the arrays out of a tree, so that the rest of it is JSON.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygen.nn.module import Module
from tinygen.storage.files import CheckpointError, short_repr
from tinygen.types import NumpyArray

ARRAY = "$array"
"""In a flattened tree, {ARRAY: path} stands for an array."""


def state_of(thing: Any) -> Any:
    """The state of `thing` as a tree, for `restore`. Arrays in it may share memory with `thing`."""
    if isinstance(thing, Module):
        tensors = [*thing.named_parameters(), *thing.named_buffers()]  # tied parameters appear once
        generators = {name: rng.bit_generator.state for name, rng in thing.named_generators()}
        return {"tensors": {name: t.numpy() for name, t in tensors}, "generators": generators}
    if isinstance(thing, np.random.Generator):
        return thing.bit_generator.state
    if hasattr(thing, "state_dict"):
        return thing.state_dict()
    if isinstance(thing, Mapping):
        return {key: state_of(value) for key, value in thing.items()}
    return thing


TRIES = 10
"""The number of times that `snapshot` tries to copy the state without a change during the copy."""


def snapshot(thing: Any) -> Any:
    """A copy of `state_of(thing)` that does not change while training continues: another thread may save it.

    Call it in the training thread, between two steps. If other threads are running, `snapshot` waits a moment
    and compares the copy with the state at that time. It raises CheckpointError if arrays have changed in
    each of TRIES attempts."""
    for _ in range(TRIES):
        try:
            state = copy_arrays(state_of(thing))
            if threading.active_count() == 1:
                return state
            time.sleep(2 * sys.getswitchinterval())
            if same_arrays(state, state_of(thing)):
                return state
        except RuntimeError:  # a dict changed its size meanwhile
            if threading.active_count() == 1:
                raise
    raise CheckpointError(
        "state", "changes while it is copied", "a moment between two steps", "a thread at work"
    )


def copy_arrays(tree: Any) -> Any:
    """A tree with copies of its arrays; tuples become lists."""
    if isinstance(tree, np.ndarray):
        return np.array(tree)
    if isinstance(tree, Mapping):
        return {key: copy_arrays(value) for key, value in tree.items()}
    return [copy_arrays(value) for value in tree] if isinstance(tree, list | tuple) else tree


def same_arrays(a: Any, b: Any) -> bool:
    """Whether the arrays of two trees are bitwise equal. Other values, such as a clock, may differ."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Mapping):
        return (
            isinstance(b, Mapping) and a.keys() == b.keys() and all(same_arrays(a[key], b[key]) for key in a)
        )
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and all(map(same_arrays, a, b))
    return True


def restore(thing: Any, state: Any) -> None:
    """Set `thing` to a state that `state_of` returned. In a dict, every object with a state is restored;
    plain values cannot be: read them from `state`.

    Raises CheckpointError if `state` is of another kind or size; `thing` is then unchanged."""
    before = snapshot(thing)
    try:
        put_back(thing, state)
    except Exception as error:
        put_back(thing, before)
        if not isinstance(error, LookupError | TypeError | ValueError | AttributeError | ArithmeticError):
            raise
        expected, found = f"the state of such a {type(thing).__name__}", f"{type(error).__name__}: {error}"
        raise CheckpointError("state", "does not fit", expected, found) from error


def put_back(thing: Any, state: Any) -> None:
    if isinstance(thing, Module):
        generators = dict(thing.named_generators())
        if generators.keys() != state["generators"].keys():
            raise ValueError(f"it has the generators {list(generators)}, not {list(state['generators'])}")
        thing.load_state_dict(state["tensors"])
        for name, rng in generators.items():
            set_generator(rng, state["generators"][name])
    elif isinstance(thing, np.random.Generator):
        set_generator(thing, state)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(state)
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            put_back(value, state[key])


def set_generator(rng: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Set the generator's state. Raises ValueError for a state that no generator can reach: NumPy would
    accept it, and then read beyond its memory (a position outside the table) or draw zeros forever (a table
    of zeros)."""
    kind, inner = state["bit_generator"], state["state"]
    sound = True
    if kind == "MT19937":
        sound = 0 <= inner["pos"] <= 624 and bool(np.any(inner["key"]))
    elif kind == "Philox":
        sound = 0 <= state["buffer_pos"] <= 4
    elif kind.startswith("PCG64"):
        sound = inner["inc"] % 2 == 1
    if not sound:
        raise ValueError(f"no {kind} is ever in the state {short_repr(dict(state))}")
    # NumPy detects some faults only after it has set a part of the state: try it on a copy first.
    trial = copy.deepcopy(rng.bit_generator)
    trial.state = state
    rng.bit_generator.state = trial.state


def flatten(value: Any, path: str, arrays: dict[str, NumpyArray]) -> Any:
    """`value` as JSON; its arrays are stored in `arrays` by their paths. Tuples become lists, NumPy numbers
    Python numbers. Raises TypeError, with the path, for a value of an unsupported type."""
    if isinstance(value, np.ndarray):
        if path in arrays:
            raise TypeError(f"two arrays of the state are called {path!r}: leave / out of the keys")
        arrays[path] = value
        return {ARRAY: path}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or ARRAY in value:
            raise TypeError(f"keys are texts, and not {ARRAY!r}; {path!r} has {short_repr(list(value))}")
        return {key: flatten(x, f"{path}/{key}" if path else key, arrays) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [flatten(x, f"{path}/{i}" if path else str(i), arrays) for i, x in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{path!r} is a {type(value).__name__}: a state has numbers, texts, arrays, lists, dicts, "
        "generators, and what has state_dict() and load_state_dict()"
    )


def unflatten(value: Any, arrays: Mapping[str, NumpyArray]) -> Any:
    """The tree that was flattened into `value` and `arrays`."""
    if isinstance(value, dict):
        if ARRAY in value:
            return arrays[value[ARRAY]]
        return {key: unflatten(x, arrays) for key, x in value.items()}
    return [unflatten(x, arrays) for x in value] if isinstance(value, list) else value
