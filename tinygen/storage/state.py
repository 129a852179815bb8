"""The state of a run as a tree of numbers, texts, arrays, lists and dicts; and a run put back into a state.

What changes in a run are modules, optimizers, averages of weights, generators of random numbers, and plain
values. `state_of` makes a tree of a dict of these; `restore` puts others of the same kinds where the first
ones were. `flatten` takes the arrays out of a tree, so that the rest of it is JSON.
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
from tinygen.storage.files import CheckpointError, short
from tinygen.types import NumpyArray

ARRAY = "$array"
"""In a flattened tree, {ARRAY: path} stands for an array."""


def state_of(thing: Any) -> Any:
    """A tree from which `restore` puts `thing` back as it is now. Arrays in it may be `thing`'s own."""
    if isinstance(thing, Module):
        tensors = [*thing.named_parameters(), *thing.named_buffers()]  # tied ones once
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
"""How often `snapshot` looks for a moment in which nothing changes."""


def snapshot(thing: Any) -> Any:
    """`state_of(thing)` as a copy, which stays as it is while training goes on: another thread may save it.

    Take it in the thread that trains, between two steps. Where other threads run, they get the time to go on
    with what they may be in the middle of, and the copy is compared with what is there then; CheckpointError
    when an array has changed, each time of several."""
    for _ in range(TRIES):
        try:
            state = copied(state_of(thing))
            if threading.active_count() == 1:
                return state
            time.sleep(2 * sys.getswitchinterval())
            if same(state, state_of(thing)):
                return state
        except RuntimeError:  # a dict that has got another size meanwhile
            if threading.active_count() == 1:
                raise
    raise CheckpointError(
        "state", "changes while it is copied", "a moment between two steps", "a thread at work"
    )


def copied(tree: Any) -> Any:
    """A tree with copies of its arrays; tuples become lists."""
    if isinstance(tree, np.ndarray):
        return np.array(tree)
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    return [copied(value) for value in tree] if isinstance(tree, list | tuple) else tree


def same(a: Any, b: Any) -> bool:
    """Whether the arrays of two trees have the same bits. What else is in them, a clock say, may go on."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and all(map(same, a, b))
    return True


def restore(thing: Any, state: Any) -> None:
    """Put `thing` back as it was when `state_of` was asked. Of a dict, every item is put back that can be;
    plain values cannot: read them from `state`.

    Raises CheckpointError when `state` is of another kind or size; nothing has changed then."""
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
    """Continue from `state`. Raises ValueError for one that no generator comes to: NumPy would take it, and
    read beyond its memory (a position outside of the table) or draw zeros for ever (a table of zeros)."""
    kind, inner = state["bit_generator"], state["state"]
    sound = True
    if kind == "MT19937":
        sound = 0 <= inner["pos"] <= 624 and bool(np.any(inner["key"]))
    elif kind == "Philox":
        sound = 0 <= state["buffer_pos"] <= 4
    elif kind.startswith("PCG64"):
        sound = inner["inc"] % 2 == 1
    if not sound:
        raise ValueError(f"no {kind} is ever in the state {short(dict(state))}")
    trial = copy.deepcopy(rng.bit_generator)  # NumPy notices some faults when it has taken half of a state
    trial.state = state
    rng.bit_generator.state = trial.state


def flatten(value: Any, path: str, arrays: dict[str, NumpyArray]) -> Any:
    """`value` as JSON; its arrays go into `arrays` by their paths. Tuples become lists, NumPy's numbers
    Python's. Raises TypeError, with the path, for what has no place in a tree."""
    if isinstance(value, np.ndarray):
        if path in arrays:
            raise TypeError(f"two arrays of the state are called {path!r}: leave / out of the keys")
        arrays[path] = value
        return {ARRAY: path}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value) or ARRAY in value:
            raise TypeError(f"keys are texts, and not {ARRAY!r}; {path!r} has {short(list(value))}")
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
