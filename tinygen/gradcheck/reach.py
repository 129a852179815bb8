"""The objects that a function can reach: its closure, its defaults, the globals that it names."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.tensor import Tensor

DEPTH = 8  # how deep objects are searched
PLAIN = (type, types.ModuleType, np.ndarray, np.generic, str, bytes, int, float, complex)


def reachable_objects(roots: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Every object within reach of the named `roots`, once, as (path, object): ("model.fc.weight", ...)."""
    seen: set[int] = set()
    for name, x in roots:
        yield from walk(name, x, seen, DEPTH)


def walk(path: str, x: Any, seen: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    if id(x) in seen or depth < 0:
        return
    seen.add(id(x))
    yield path, x
    for name, inner in members(x):
        yield from walk(join_path(path, name), inner, seen, depth - 1)


def join_path(path: str, name: str) -> str:
    return path + name if not path or not name or name.startswith("[") else f"{path}.{name}"


def members(x: Any) -> list[tuple[str, Any]]:
    """The objects in `x`: items, attributes, closure, defaults, named globals, the arguments of a partial."""
    if isinstance(x, PLAIN):
        return []
    if isinstance(x, dict):
        return [(f"[{key!r}]", value) for key, value in x.items()]
    if isinstance(x, list | tuple | set):
        return [(f"[{i}]", value) for i, value in enumerate(x)]
    if isinstance(x, functools.partial):
        return [("", x.func), ("", x.args), ("", x.keywords)]
    if isinstance(x, types.MethodType):
        return [("", x.__self__), ("", x.__func__)]
    if isinstance(x, types.FunctionType):
        cells = zip(x.__code__.co_freevars, x.__closure__ or (), strict=True)
        closed = [(name, c.cell_contents) for name, c in cells if is_filled(c)]
        named = [(name, x.__globals__.get(name)) for name in x.__code__.co_names]
        return [
            *closed,
            ("", x.__defaults__),
            ("", x.__kwdefaults__),
            *((n, g) for n, g in named if is_searched(g)),
        ]
    return list(vars(x).items()) if hasattr(x, "__dict__") else []


def is_searched(x: Any) -> bool:
    """Whether a global is searched: generators, functions, tensors and Modules are."""
    if isinstance(x, np.random.Generator | types.FunctionType | Tensor):
        return True
    return not isinstance(x, type) and hasattr(type(x), "named_parameters")


def is_filled(cell: Any) -> bool:
    """Whether a closure's cell has been filled."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
