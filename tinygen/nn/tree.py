"""What the attributes of a module hold: what the tree of modules can name, and what it would never find.

Lists, tuples and dicts are looked into at every walk, however they are nested and whenever they grow: what
they hold is called "blocks.0", "heads.left". Everything else that can hold a module or a parameter has no
name for it, or no order: that is refused. A function may close over a module, and keeps it out of the tree.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from tinygen.tensor import Tensor
from tinygen.types import DType


class Parameter(Tensor):
    """A tensor that is trained: a leaf that requires grad. It holds a copy of `data`, float32 unless
    `dtype` asks for another, since an optimizer writes into it."""

    __slots__ = ()

    def __init__(self, data: Any, dtype: DType = np.float32) -> None:
        super().__init__(np.array(data, dtype=dtype, order="C"), requires_grad=True)


class Buffer(Tensor):
    """A tensor that is part of a module's state but is not trained: running statistics, for one."""

    __slots__ = ()


class Branch:
    """What modules are to the tree: its attributes are looked into."""

    _checked: bool = False  # by `check`, at the first use


PLAIN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, np.ndarray, np.dtype}
"""Types that hold nothing of interest: long lists of them are passed by quickly."""


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def items_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """The items of a list, a tuple or a dict with their keys; nothing if they are all plain."""
    values = value.values() if isinstance(value, dict) else value
    if PLAIN.issuperset(map(type, values)):
        return iter(())
    return iter(list(value.items())) if isinstance(value, dict) else enumerate(value)


def parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """`value` under its name; of a list, a tuple or a dict all that is in it, each under its own."""
    if isinstance(value, list | tuple | dict):
        for key, item in items_of(value):
            yield from parts(item, f"{name}.{key}")
    elif type(value) not in PLAIN:
        yield name, value


def contents(value: Any) -> list[Any]:
    """What is in a thing that the tree does not look into."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, FunctionType | ModuleType | type | np.random.Generator):
        return []
    slots = [name for kind in type(value).__mro__ for name in slots_of(kind)]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def slots_of(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def hidden(value: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """Everything of these kinds within `value`, however deep."""
    seen, todo = {id(value)}, [value]
    for thing in todo:  # which grows meanwhile
        found = contents(thing)
        if PLAIN.issuperset(map(type, found)):
            continue
        for x in found:
            if isinstance(x, kinds):
                yield x
            elif type(x) not in PLAIN and id(x) not in seen:
                seen.add(id(x))
                todo.append(x)


def put(holder: Any, name: str, value: Any, path: str = "") -> None:
    """Put `value` where the tree has something by this name, below `holder` (attributes, a list, a dict).
    Raises TypeError in a tuple, KeyError where nothing is."""
    for key, item in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        here = joined(path, str(key))
        if here == name:
            if isinstance(holder, tuple):
                raise TypeError(f"{here} is in a tuple, where nothing can be replaced: make it a list")
            holder[key] = value
            break
        if name.startswith(here + ".") and isinstance(item, list | tuple | dict | Branch):
            put(vars(item) if isinstance(item, Branch) else item, name, value, here)
            break
    else:
        raise KeyError(name)


# -- modules ---------------------------------------------------------------------------------------


def held(module: Branch) -> Iterator[tuple[str, Any]]:
    """What the attributes of a module hold, those that are lists, tuples and dicts item by item, by name."""
    for name, value in vars(module).items():
        if isinstance(value, list | tuple | dict):
            yield from parts(value, name)
        elif type(value) not in PLAIN:
            yield name, value


def walk(module: Branch, path: str = "", above: tuple[Branch, ...] = ()) -> Iterator[tuple[str, Any]]:
    """A module and all below it, parents first. Raises TypeError for one that contains itself."""
    if any(module is m for m in above):
        raise TypeError(f"{path} is a {type(module).__name__} that contains itself: a tree has no circles")
    yield path, module
    for name, child in held(module):
        if isinstance(child, Branch):
            yield from walk(child, joined(path, name), (*above, module))


def check(module: Branch) -> None:
    """Raise TypeError, with the attribute's name, for a parameter or a module that would neither be trained
    nor saved. Done at a module's first call, and at every walk through the tree."""
    if not module._checked:
        for name, x in of_class(module):
            if isinstance(x, Branch | Parameter | Buffer):
                raise TypeError(
                    f"{type(module).__name__}.{name} is a {type(x).__name__} of the class or in its slots, "
                    f"which is not saved: assign self.{name} in __init__, as an attribute of its own"
                )
    for name, x in held(module):
        if isinstance(x, Tensor):
            refuse_raw(name, x)
        elif not isinstance(x, Branch):
            for lost in hidden(x, (Branch, Parameter)):
                if not contains(module, lost) and not (isinstance(lost, Branch) and contains(lost, module)):
                    raise TypeError(
                        f"self.{name} is a {type(x).__name__} that hides a {type(lost).__name__}, which "
                        "would neither be trained nor saved: hold it in an attribute, a list or a dict"
                    )
    vars(module)["_checked"] = True


def of_class(module: Branch) -> Iterator[tuple[str, Any]]:
    """What the module's own classes and its slots hold, which `vars(module)` does not show."""
    for kind in type(module).__mro__:
        if kind.__module__ != __name__:
            slots = {name: getattr(module, name, None) for name in slots_of(kind)}
            for name, value in {**vars(kind), **slots}.items():
                yield from parts(value, name)


def contains(module: Branch, thing: Any) -> bool:
    """Whether a module or a tensor is in the tree below `module`, or is that."""
    return any(thing is m or any(thing is x for _, x in held(m)) for _, m in walk(module))


def refuse_raw(name: str, t: Tensor) -> None:
    if t.requires_grad and t.node is None and not isinstance(t, Parameter):
        raise TypeError(
            f"self.{name} is a {type(t).__name__} that requires grad, and only a Parameter is trained and "
            f"saved: write self.{name} = nn.Parameter(array), or leave requires_grad off"
        )
