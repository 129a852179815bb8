"""The state of a run as a tree of numbers, texts, arrays, lists and dicts; and a run put back into a state.

What changes in a run are modules, optimizers, averages of weights, generators of random numbers, and plain
values. `state_of` makes a tree of a dict of these; `restore` puts others of the same kinds where the first
ones were. `flatten` takes the arrays out of a tree, so that the rest of it is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygen.files import Array, CheckpointError, short
from tinygen.nn.module import Module

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


def restore(thing: Any, state: Any) -> None:
    """Put `thing` back as it was when `state_of` was asked. Of a dict, every item is put back that can be;
    plain values cannot: read them from `state`.

    Raises CheckpointError when `state` is of another kind or size; in a dict, the items before are then
    put back already."""
    try:
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
                restore(value, state[key])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        expected = f"the state of such a {type(thing).__name__}"
        raise CheckpointError(
            "state", "does not fit", expected, f"{type(error).__name__}: {error}"
        ) from error


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
    rng.bit_generator.state = state


def flatten(value: Any, path: str, arrays: dict[str, Array]) -> Any:
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


def unflatten(value: Any, arrays: Mapping[str, Array]) -> Any:
    """The tree that was flattened into `value` and `arrays`."""
    if isinstance(value, dict):
        if ARRAY in value:
            return arrays[value[ARRAY]]
        return {key: unflatten(x, arrays) for key, x in value.items()}
    return [unflatten(x, arrays) for x in value] if isinstance(value, list) else value
