"""Every public name has a docstring: names in the `__all__` of a module, and the public methods of classes.

A method that overrides a documented one may leave its docstring to that."""

import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable
from importlib.util import find_spec

import pytest

import tinygen

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)


def public_modules():
    """The names of all modules of tinygen that have an `__all__`."""
    names = ["tinygen", *(m.name for m in pkgutil.walk_packages(tinygen.__path__, "tinygen."))]
    needs_more = ["tinygen.kernels.compiled", "tinygen.kernels.__main__"]  # Numba; a program
    needs_more += [] if find_spec("einops") else ["tinygen.einops_backend"]
    modules = (n for n in names if not n.startswith(tuple(needs_more)) and not n.endswith(".page"))
    return [name for name in modules if hasattr(importlib.import_module(name), "__all__")]


def without_docstring(name, value):
    """The names in `value`, itself among them, that have none."""
    if hasattr(value, "__origin__") or not (isinstance(value, FUNCTIONS) or callable(value)):
        return []  # a number, a table, an alias of a type: a comment or a string below it says what it is
    found = [] if value.__doc__ and value.__doc__.strip() else [name]
    if inspect.isclass(value) and value.__module__.startswith("tinygen"):
        for member, raw in vars(value).items():
            method = isinstance(raw, (types.FunctionType, property, classmethod, staticmethod))
            bases = [vars(base)[member] for base in value.__mro__ if member in vars(base)]
            if method and not member.startswith("_") and not any(base.__doc__ for base in bases):
                found.append(f"{name}.{member}")
    return found


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_has_a_docstring(module):
    here = importlib.import_module(module)
    assert here.__doc__
    values = {f"{module}.{name}": getattr(here, name) for name in here.__all__}
    assert [missing for name, value in values.items() for missing in without_docstring(name, value)] == []


def test_a_missing_docstring_is_seen():
    class Documented:
        """Yes."""

        def method(self):
            """Yes."""

        def other(self): ...
        def _private(self): ...

        @property
        def value(self):
            return 1

    Documented.__module__ = "tinygen.somewhere"

    class Heir(Documented):
        """Yes."""

        def method(self): ...
        def another(self): ...

    Heir.__module__ = "tinygen.somewhere"
    assert without_docstring("D", Documented) == ["D.other", "D.value"]
    assert without_docstring("H", Heir) == ["H.another"]
    assert without_docstring("f", lambda x: x) == ["f"]
    assert without_docstring("N", 3) == []
    assert without_docstring("A", Callable[[int], int]) == []
