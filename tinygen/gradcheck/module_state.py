"""The state that a function keeps from one call to the next; it is restored before each run.

Batch norm updates its running mean, a cache is filled at the first call, a module counts its calls.
Differences compare two runs, so each run has to start from the same state. This state consists of the
reachable tensors that are not variables (buffers, for example), and of the attributes of modules with the
lists, dicts and arrays in them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.gradcheck.arguments import is_module
from tinygen.gradcheck.reach import reachable_objects
from tinygen.tensor import Tensor


class Content(NamedTuple):
    """A tensor's array and version, as they were found."""

    tensor: Tensor
    array: Any
    version: int


class ModuleState:
    """The state within reach of the named `roots`, without the tensors in `variables`."""

    def __init__(self, roots: Sequence[tuple[str, Any]], variables: Collection[Tensor]) -> None:
        ours = {id(t) for t in variables}
        found = [(path, x) for path, x in reachable_objects(roots) if id(x) not in ours]
        self.tensors = [(path, x) for path, x in found if isinstance(x, Tensor) and x.node is None]
        self.first = contents(t for _, t in self.tensors)
        self.arrays = [{c.array.dtype: np.array(c.array)} for c in self.first]  # one for each dtype asked for
        modules = [x for _, x in found if is_module(x)]
        self.attributes = [(vars(m), {k: copy_attribute(v) for k, v in vars(m).items()}) for m in modules]
        self.last = self.first  # as the last run on record has left them

    def restore(self, dtype: Any) -> None:
        """Restore the first state, floating-point tensors in `dtype`. The arrays are new, since the tape may
        still use the old ones."""
        for now, before in self.attributes:
            if now.keys() != before.keys() or any(now[k] is not v[0] for k, v in before.items()):
                now.clear()
                now.update((k, v[0]) for k, v in before.items())
            for name, (value, inside) in before.items():
                if inside is not None and not is_unchanged(value, inside):
                    now[name] = refill(value, inside)
        for c, known in zip(self.first, self.arrays, strict=True):
            wanted = dtype if c.array.dtype.kind == dtype.kind == "f" else c.array.dtype
            if wanted not in known:
                known[wanted] = known[c.array.dtype].astype(wanted)
            x = known[wanted]
            c.tensor._data = x if c.tensor.requires_grad else x.copy()  # weights are only read, and large
            c.tensor.version = c.version

    def remember(self) -> None:
        """Store the arrays that the tensors have after a run that was recorded."""
        self.last = contents(c.tensor for c in self.first)

    def put_back(self, last: Sequence[Content] | None = None) -> None:
        """Give the tensors the arrays that they had after a recorded run (the last one, or the one that
        `last` comes from), since its gradient may read them."""
        for t, array, version in self.last if last is None else last:
            t._data, t.version = array, version

    def leave(self) -> None:
        """Give the tensors the arrays that they had before the check."""
        self.restore(np.dtype(np.float64))
        for t, array, version in self.first:
            t._data, t.version = array, version


def contents(tensors: Any) -> list[Content]:
    return [Content(t, t._data, t.version) for t in tensors]


def copy_attribute(value: Any) -> tuple[Any, Any]:
    """An attribute's value, and a copy of its content if the function may write into it, else None."""
    if isinstance(value, dict | list | set):
        return value, value.copy()
    return value, np.array(value) if isinstance(value, np.ndarray) else None


def is_unchanged(value: Any, inside: Any) -> bool:
    if isinstance(value, np.ndarray):
        return np.array_equal(value, inside, equal_nan=value.dtype.kind == "f")
    if len(value) != len(inside):
        return False
    if isinstance(value, dict):
        return all(k in value and value[k] is v for k, v in inside.items())
    return isinstance(value, set) or all(a is b for a, b in zip(value, inside, strict=True))


def refill(value: Any, inside: Any) -> Any:
    """The container with its old content; for an array, a new one."""
    if isinstance(value, np.ndarray):
        return np.array(inside)
    value.clear()
    value.extend(inside) if isinstance(value, list) else value.update(inside)
    return value
