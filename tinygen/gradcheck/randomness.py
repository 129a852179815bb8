"""The same random numbers in every run of a function: its generators are found, and rewound before each call.

Found are the generators in the module tree, in the arguments, in what the function closes over, in its
defaults and among the globals that it names; NumPy's global state is rewound too.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

DEPTH = 8  # how deep objects are searched


class Randomness:
    """The generators within reach of some objects, and their states now."""

    def __init__(self, *roots: Any) -> None:
        found = {id(g.bit_generator): g.bit_generator for g in generators(roots, set(), DEPTH)}
        self.states = [(bits, bits.state) for bits in found.values()]
        self.legacy = np.random.get_state()  # noqa: NPY002 (user code may still draw from it)
        self.draws_globally: bool | None = (
            None  # not known before the first run; setting that state takes long
        )

    def rewind(self) -> None:
        for bits, state in self.states:
            bits.state = state
        if self.draws_globally is not False:
            np.random.set_state(self.legacy)  # noqa: NPY002

    @contextmanager
    def rewound(self) -> Iterator[None]:
        """Start from the states found at first; leave them behind for whoever comes after."""
        self.rewind()
        try:
            yield
        finally:
            if self.draws_globally is None:
                self.draws_globally = not unchanged(self.legacy, np.random.get_state())  # noqa: NPY002
            self.rewind()


def unchanged(before: Any, after: Any) -> bool:
    """Whether two states of NumPy's global generator (name, keys, position, ...) are one."""
    return bool(before[2:] == after[2:] and np.array_equal(before[1], after[1]))


def generators(x: Any, seen: set[int], depth: int) -> Iterator[Any]:
    """Every np.random.Generator that can be reached from `x`."""
    if id(x) in seen or depth < 0:
        return
    seen.add(id(x))
    if isinstance(x, np.random.Generator):
        yield x
        return
    for inner in within(x):
        yield from generators(inner, seen, depth - 1)


def within(x: Any) -> list[Any]:
    """What `x` holds: items, attributes, closure, defaults, named globals, the arguments of a partial."""
    if isinstance(x, dict):
        return list(x.values())
    if isinstance(x, (list, tuple, set)):
        return list(x)
    if isinstance(x, functools.partial):
        return [x.func, x.args, x.keywords]
    if isinstance(x, types.MethodType):
        return [x.__self__, x.__func__]
    if isinstance(x, types.FunctionType):
        cells = [c.cell_contents for c in x.__closure__ or () if filled(c)]
        named = [x.__globals__.get(name) for name in x.__code__.co_names]
        held = [g for g in named if isinstance(g, (np.random.Generator, types.FunctionType))]
        return [*cells, x.__defaults__, x.__kwdefaults__, *held]
    if isinstance(x, (type, types.ModuleType, np.ndarray, np.generic, str, bytes, int, float)):
        return []
    return list(vars(x).values()) if hasattr(x, "__dict__") else []


def filled(cell: Any) -> bool:
    """Whether a closure's cell has been filled."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
