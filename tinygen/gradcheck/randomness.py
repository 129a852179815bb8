"""The same random numbers in every run of a function: its generators are found, and rewound before each call.

Found are the generators in the module tree, in the arguments, in what the function closes over, in its
defaults and among the globals that it names; NumPy's global state is rewound too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen.gradcheck.reach import reachable


class Randomness:
    """The generators within reach of some objects, and their states now."""

    def __init__(self, *roots: Any) -> None:
        within_reach = (x for _, x in reachable([("", x) for x in roots]))
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
    def rewinding(self) -> Iterator[None]:
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
