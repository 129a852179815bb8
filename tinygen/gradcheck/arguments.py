"""Reading the arguments: which are variables, what to call each, how to put others in their place.

Variables are the floating-point arrays and Tensors, also those inside dicts, lists, tuples and dataclasses.
A complex one is two variables, its real and its imaginary part.
Python's and NumPy's single numbers are not: they are options (an eps, a pair of betas), as integers are. A
number becomes a variable as `np.array(3.0)`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.reach import reachable
from tinygen.tensor import Tensor

Array = np.ndarray[Any, Any]


def is_variable(x: Any) -> bool:
    """Whether `x` is a floating-point array: NumPy's, a Tensor, or whatever else makes one."""
    if isinstance(x, Tensor | np.ndarray):
        return bool(x.dtype.kind in "fc")
    if not hasattr(x, "__array__") or isinstance(x, np.generic) or callable(x):
        return False
    return bool(np.asarray(x).dtype.kind in "fc")


def points_of(x: Any) -> list[tuple[str, Array]]:
    """What the variable `x` adds to its name, and its values in float64; of a complex one, of both parts."""
    values = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if values.dtype.kind != "c":
        return [("", np.array(values, dtype=np.float64))]
    parts = ((" (real part)", values.real), (" (imaginary part)", values.imag))
    return [(words, np.array(part, dtype=np.float64)) for words, part in parts]


def items(x: Any) -> Iterator[tuple[str, Any]]:
    """What a container holds, each with the words that pick it: "['q']", "[0]", ".mask"."""
    if isinstance(x, dict):
        yield from ((f"[{key!r}]", value) for key, value in x.items())
    elif isinstance(x, tuple) and hasattr(x, "_fields"):
        yield from ((f".{name}", value) for name, value in zip(x._fields, x, strict=True))
    elif isinstance(x, list | tuple):
        yield from ((f"[{i}]", value) for i, value in enumerate(x))
    elif dataclasses.is_dataclass(x) and not isinstance(x, type) and not callable(x):
        yield from ((f".{f.name}", getattr(x, f.name)) for f in dataclasses.fields(x) if hasattr(x, f.name))


def variables(x: Any, name: str, is_one: Callable[[Any], bool] = is_variable) -> Iterator[tuple[str, Any]]:
    """Every variable in `x`, with its name: "batch['q'][0]"."""
    if is_one(x):
        yield name, x
        return
    for words, inner in items(x):
        yield from variables(inner, name + words, is_one)


def replaced(x: Any, new: Iterator[Any], is_one: Callable[[Any], bool] = is_variable) -> Any:
    """`x` with its variables, in the same order, replaced by what `new` yields."""
    if is_one(x):
        return next(new)
    values = [replaced(inner, new, is_one) for _, inner in items(x)]
    if isinstance(x, dict):
        other = copy.copy(x)
        other.update(zip(x, values, strict=True))
        return other
    if isinstance(x, tuple):
        return type(x)(*values) if hasattr(x, "_fields") else tuple(values)
    if isinstance(x, list):
        return values
    if values:  # a dataclass, which may be frozen
        other = copy.copy(x)
        for (words, _), value in zip(items(x), values, strict=True):
            object.__setattr__(other, words[1:], value)
        return other
    return x


def overlooked(x: Any, name: str) -> Iterator[str]:
    """The objects of other classes in `x` that hold floating-point arrays, which are not looked for there."""
    if is_variable(x) or is_module(x):
        return
    inside = list(items(x))
    for words, inner in inside:
        yield from overlooked(inner, name + words)
    held = vars(x).values() if not inside and hasattr(x, "__dict__") and not callable(x) else ()
    if any(is_variable(y) for y in held):
        yield f"{name} (a {type(x).__name__})"


def argument_names(f: Any, n: int) -> list[str]:
    """The names of the first n positional arguments by the signature; numbers where there is none."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return [str(i) for i in range(n)]
    names: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(n - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [*names, *(str(i) for i in range(len(names), n))][:n]


# -- modules ---------------------------------------------------------------------------------------


def is_module(f: Any) -> bool:
    """Known by what it answers to: the checker stands below `tinygen.nn`."""
    return (
        callable(f)
        and not isinstance(f, type)
        and hasattr(f, "named_tensors")
        and hasattr(f, "named_parameters")
    )


def copied(f: Callable[..., Any]) -> tuple[Any, Any]:
    """`f` and its Module, in float64 and apart from the caller's, if it is one or a method of one."""
    owner: Any = f.__self__ if inspect.ismethod(f) else f
    if not is_module(owner):
        return f, None
    module = copy_of(owner).astype(np.float64)
    return (getattr(module, f.__name__) if inspect.ismethod(f) else module), module


def copy_of(module: Any) -> Any:
    """A deep copy; what cannot be copied (the library as an attribute, an open file, a lock) is shared."""
    shared: dict[int, Any] = {}
    try:
        return copy.deepcopy(module)
    except Exception:
        for _, x in reachable([("", module)]):
            if not (is_module(x) or isinstance(x, dict | list | tuple | set)) and not copyable(x):
                shared[id(x)] = x
    return copy.deepcopy(module, shared)


def copyable(x: Any) -> bool:
    try:
        copy.deepcopy(x)
    except Exception:
        return False
    return True


def moved_off(x: Array) -> tuple[Array, bool]:
    """A copy of a parameter, a little off where all its entries are equal; and whether they were."""
    equal = bool(x.size and (x == x.flat[0]).all())
    return (x + 0.1 * weights(x.shape, np.random.default_rng(x.size)) if equal else np.array(x)), equal


def weights(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Random, none near zero, no two equal, of both signs."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
