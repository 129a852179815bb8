"""The arguments of a function: which are variables, their names, and how to replace their values.

Variables are the floating-point arrays and Tensors, also those inside dicts, lists, tuples and dataclasses. A
complex array is two variables, its real part and its imaginary part. Single numbers of Python and NumPy are
not variables but options (an eps, a pair of betas), and so are integers. To check the gradient by a number,
pass it as `np.array(3.0)`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.reach import reachable_objects
from tinygen.tensor import Tensor

Array = np.ndarray[Any, Any]


def is_variable(x: Any) -> bool:
    """Whether `x` is a floating-point array of NumPy, a Tensor, or another object that converts to an
    array."""
    if isinstance(x, Tensor | np.ndarray):
        return bool(x.dtype.kind in "fc")
    if not hasattr(x, "__array__") or isinstance(x, np.generic) or callable(x):
        return False
    return bool(np.asarray(x).dtype.kind in "fc")


def points_of(x: Any) -> list[tuple[str, Array]]:
    """The values of the variable `x` in float64, with the ending of their name; two such pairs for a complex
    one."""
    values = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    if values.dtype.kind != "c":
        return [("", np.array(values, dtype=np.float64))]
    parts = ((" (real part)", values.real), (" (imaginary part)", values.imag))
    return [(words, np.array(part, dtype=np.float64)) for words, part in parts]


def items(x: Any) -> Iterator[tuple[str, Any]]:
    """The elements of a container, each with the text that selects it: "['q']", "[0]", ".mask"."""
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


def replace_variables(x: Any, new: Iterator[Any], is_one: Callable[[Any], bool] = is_variable) -> Any:
    """`x` with its variables replaced by the elements of `new`, in the same order."""
    if is_one(x):
        return next(new)
    values = [replace_variables(inner, new, is_one) for _, inner in items(x)]
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


def unread_arrays(x: Any, name: str) -> Iterator[str]:
    """The names of objects in `x` that hold floating-point arrays, but whose class is not searched for
    them."""
    if is_variable(x) or is_module(x):
        return
    inside = list(items(x))
    for words, inner in inside:
        yield from unread_arrays(inner, name + words)
    held = vars(x).values() if not inside and hasattr(x, "__dict__") and not callable(x) else ()
    if any(is_variable(y) for y in held):
        yield f"{name} (a {type(x).__name__})"


def argument_names(f: Any, n: int) -> list[str]:
    """The names of the first n positional arguments in the signature; numbers if there is no signature."""
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
    """Whether `f` is a Module. It is recognized by its methods, since the checker must not import
    `tinygen.nn`."""
    return (
        callable(f)
        and not isinstance(f, type)
        and hasattr(f, "named_tensors")
        and hasattr(f, "named_parameters")
    )


def split_module(f: Callable[..., Any]) -> tuple[Any, Any]:
    """`f` and its Module, if `f` is a Module or a method of one: both of a copy in float64; else `f` and
    None."""
    owner: Any = f.__self__ if inspect.ismethod(f) else f
    if not is_module(owner):
        return f, None
    module = copy_of(owner).astype(np.float64)
    return (getattr(module, f.__name__) if inspect.ismethod(f) else module), module


def copy_of(module: Any) -> Any:
    """A deep copy. Objects that cannot be copied (a library as an attribute, an open file, a lock) are
    shared."""
    shared: dict[int, Any] = {}
    try:
        return copy.deepcopy(module)
    except Exception:
        for _, x in reachable_objects([("", module)]):
            if not (is_module(x) or isinstance(x, dict | list | tuple | set)) and not is_copyable(x):
                shared[id(x)] = x
    return copy.deepcopy(module, shared)


def is_copyable(x: Any) -> bool:
    try:
        copy.deepcopy(x)
    except Exception:
        return False
    return True


def move_off_constant(x: Array) -> tuple[Array, bool]:
    """A copy of a parameter, moved a little if all its entries are equal; and whether they were equal."""
    equal = bool(x.size and (x == x.flat[0]).all())
    return (x + 0.1 * weights(x.shape, np.random.default_rng(x.size)) if equal else np.array(x)), equal


def weights(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Random numbers of both signs, none of them near zero."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
