"""Names of a package that are imported when they are first used (PEP 562). So `import tinygen` is quick, and
everything can be reached from it: `tinygen.models.GPT`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, modules: Sequence[str] = (), names: Mapping[str, Sequence[str]] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package.

    `modules` are modules of the package; `names` has, for a module of the package, the names that the package
    takes from it. mypy cannot see this, so the package imports the same names under `if TYPE_CHECKING:`;
    `tests/test_import.py` compares the two lists."""
    home = {name: module for module, inside in (names or {}).items() for name in inside}

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package]
            )
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)  # from now on it is found without this function
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *home})

    return get, list_names, sorted([*modules, *home])
