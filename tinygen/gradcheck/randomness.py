"""The same random numbers in every run of a function: its generators are reset before each call.

The generators are looked for in the module tree, the arguments, the closure, the defaults and the globals
that the function names. NumPy's global state is reset too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen.gradcheck.reach import reachable_objects


class Randomness:
    """The generators within reach of some objects, and their present states."""

    def __init__(self, *roots: Any) -> None:
        within_reach = (x for _, x in reachable_objects([("", x) for x in roots]))
        drawn = (x for x in within_reach if isinstance(x, np.random.Generator))
        found = {id(g.bit_generator): g.bit_generator for g in drawn}
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
    def repeat_draws(self) -> Iterator[None]:
        """Start with the first states, and restore them at the end."""
        self.rewind()
        try:
            yield
        finally:
            if self.draws_globally is None:
                self.draws_globally = not is_same_state(self.legacy, np.random.get_state())  # noqa: NPY002
            self.rewind()


def is_same_state(before: Any, after: Any) -> bool:
    """Whether two states of NumPy's global generator (name, keys, position, ...) are one."""
    return bool(before[2:] == after[2:] and np.array_equal(before[1], after[1]))
