"""The defaults of the public functions and classes of the upper floors.

python tests/arguments/defaults.py > tests/arguments/defaults.txt
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

FLOORS = ("align", "diffusion", "models", "nn", "optim", "text", "data", "density", "judges")


def arguments() -> Iterator[tuple[str, Any]]:
    """("floor.file.function argument", default) of all that has a default."""
    for floor in FLOORS:
        package = importlib.import_module(f"tinygen.{floor}")
        for file in pkgutil.walk_packages(package.__path__, f"tinygen.{floor}."):
            module = importlib.import_module(file.name)
            for name, thing in vars(module).items():
                if not name.startswith("_") and getattr(thing, "__module__", "") == module.__name__:
                    yield from of(f"{file.name.removeprefix('tinygen.')}.{name}", thing)


def of(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    parts = {path: thing}
    if inspect.isclass(thing):
        methods = {n: f.__func__ if isinstance(f, classmethod) else f for n, f in vars(thing).items()}
        parts |= {f"{path}.{n}": f for n, f in methods.items() if n[0] != "_" and inspect.isfunction(f)}
    for name, part in parts.items():
        if callable(part):
            try:
                signature = inspect.signature(part)
            except (TypeError, ValueError):
                continue
            for p in signature.parameters.values():
                if p.default is not p.empty:
                    yield f"{name} {p.name}", p.default


def lines() -> list[str]:
    return sorted(f"{name} = {getattr(default, '__name__', repr(default))}" for name, default in arguments())


if __name__ == "__main__":
    print(*lines(), sep="\n")
