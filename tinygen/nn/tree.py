"""The tree of a module: finding the modules, parameters and buffers in its attributes, and refusing the
places where they would be overlooked.

Lists, tuples and dicts are searched at every walk through the tree, so they may be nested and may grow. Their
items are named by index or key: "blocks.0", "heads.left". Everything else that can hold a module or a
parameter, such as a set, has no name for it, or no order; such a module or parameter is refused. A function
is not searched: a module that a function closes over stays out of the tree.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from tinygen.nn.init import SKIPPED
from tinygen.tensor import Tensor
from tinygen.types import DType


class Parameter(Tensor):
    """A tensor that is trained: a leaf that requires grad. It copies `data`, because optimizers write into
    it; the copy is float32 unless `dtype` says otherwise. In `init.skipped` it is zeros instead."""

    __slots__ = ()

    def __init__(self, data: Any, dtype: DType = np.float32) -> None:
        if SKIPPED.get():
            array = np.broadcast_to(np.zeros((), dtype), np.shape(data))
        else:
            array = np.array(data, dtype=dtype, order="C")
        super().__init__(array, requires_grad=True)


class Buffer(Tensor):
    """A tensor that is part of a module's state but is not trained: running statistics, for one."""

    __slots__ = ()


class Branch:
    """The base class of Module, as far as the tree is concerned: an object whose attributes are searched."""

    _checked: bool = False  # `check` sets it at the first use


PLAIN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis), slice, np.ndarray, np.dtype}
"""Types that cannot hold a module or a parameter, so that long lists of them are skipped quickly."""


def join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def items_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """(key, item) for each item of a list, a tuple or a dict; nothing if all items have plain types."""
    values = value.values() if isinstance(value, dict) else value
    if PLAIN.issuperset(map(type, values)):
        return iter(())
    return iter(list(value.items())) if isinstance(value, dict) else enumerate(value)


def parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """`value` with its name. For a list, a tuple or a dict: each item in it, at any depth, with its own
    name."""
    if isinstance(value, list | tuple | dict):
        for key, item in items_of(value):
            yield from parts(item, f"{name}.{key}")
    elif type(value) not in PLAIN:
        yield name, value


def contents(value: Any) -> list[Any]:
    """The values inside an object that the tree does not search, in order to refuse hidden modules."""
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


def find_inside(value: Any, kinds: tuple[type, ...]) -> Iterator[Any]:
    """All objects of these kinds inside `value`, at any depth."""
    seen, todo = {id(value)}, [value]
    for thing in todo:  # the loop below appends to it
        found = contents(thing)
        if PLAIN.issuperset(map(type, found)):
            continue
        for x in found:
            if isinstance(x, kinds):
                yield x
            elif type(x) not in PLAIN and id(x) not in seen:
                seen.add(id(x))
                todo.append(x)


def replace_item(holder: Any, name: str, value: Any, path: str = "") -> None:
    """Replace the item of this name in the tree below `holder` (attributes, a list, a dict) by `value`.
    Raises TypeError if the item is in a tuple, KeyError if there is no such item."""
    for key, item in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        here = join_path(path, str(key))
        if here == name:
            if isinstance(holder, tuple):
                raise TypeError(f"{here} is in a tuple, where nothing can be replaced: make it a list")
            holder[key] = value
            break
        if name.startswith(here + ".") and isinstance(item, list | tuple | dict | Branch):
            replace_item(vars(item) if isinstance(item, Branch) else item, name, value, here)
            break
    else:
        raise KeyError(name)


# -- modules ---------------------------------------------------------------------------------------


def attribute_items(module: Branch) -> Iterator[tuple[str, Any]]:
    """(name, value) for the attributes of a module; lists, tuples and dicts give each of their items."""
    for name, value in vars(module).items():
        if isinstance(value, list | tuple | dict):
            yield from parts(value, name)
        elif type(value) not in PLAIN:
            yield name, value


def walk(module: Branch, path: str = "", above: tuple[Branch, ...] = ()) -> Iterator[tuple[str, Any]]:
    """A module and all below it, parents first. Raises TypeError for one that contains itself."""
    if any(module is m for m in above):
        raise TypeError(f"{path} is a {type(module).__name__} that contains itself: a tree has no cycles")
    yield path, module
    for name, child in attribute_items(module):
        if isinstance(child, Branch):
            yield from walk(child, join_path(path, name), (*above, module))


def check(module: Branch) -> None:
    """Raise TypeError, with the attribute's name, for a parameter or a module that would neither be trained
    nor saved. It runs at a module's first call, and at every walk through the tree."""
    if not module._checked:
        for name, x in class_items(module):
            if isinstance(x, Branch | Parameter | Buffer):
                raise TypeError(
                    f"{type(module).__name__}.{name} is a {type(x).__name__} of the class or in its slots, "
                    f"which is not saved: assign self.{name} in __init__, as an attribute of its own"
                )
    for name, x in attribute_items(module):
        if isinstance(x, Tensor):
            refuse_raw(name, x)
        elif not isinstance(x, Branch):
            for lost in find_inside(x, (Branch, Parameter)):
                if not contains(module, lost) and not (isinstance(lost, Branch) and contains(lost, module)):
                    raise TypeError(
                        f"self.{name} is a {type(x).__name__} that hides a {type(lost).__name__}, which "
                        "would neither be trained nor saved: hold it in an attribute, a list or a dict"
                    )
    vars(module)["_checked"] = True


def class_items(module: Branch) -> Iterator[tuple[str, Any]]:
    """(name, value) for attributes of the module's classes and for its slots: `vars(module)` lacks both."""
    for kind in type(module).__mro__:
        if kind.__module__ != __name__:
            slots = {name: getattr(module, name, None) for name in slots_of(kind)}
            for name, value in {**vars(kind), **slots}.items():
                yield from parts(value, name)


def contains(module: Branch, thing: Any) -> bool:
    """Whether a module or a tensor is `module` itself, or is in the tree below it."""
    return any(thing is m or any(thing is x for _, x in attribute_items(m)) for _, m in walk(module))


def refuse_raw(name: str, t: Tensor) -> None:
    if t.requires_grad and t.node is None and not isinstance(t, Parameter):
        raise TypeError(
            f"self.{name} is a {type(t).__name__} that requires grad, and only a Parameter is trained and "
            f"saved: write self.{name} = nn.Parameter(array), or leave requires_grad off"
        )
