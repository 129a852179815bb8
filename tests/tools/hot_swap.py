"""Puts a mutant into a running process: the functions of the mutated file get the mutant's code.

After that every reference to such a function, under any name, calls the mutant; nothing is imported again.
This works for the body of a function and for its defaults. It does not work for values that a file computes
at import (a constant, a field of a class, a decorator): then `swap` returns False, and the file must be
imported again.
"""

import ast
import gc
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Any

Functions = dict[tuple[str, str], list[FunctionType]]
"""By file and qualified name: a file can be loaded more than once."""


def functions() -> Functions:
    """All functions of this process, except those that `gc.freeze()` has put aside."""
    found: Functions = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType:
            found.setdefault((thing.__code__.co_filename, thing.__code__.co_qualname), []).append(thing)
    return found


def import_as(path: str, source: str) -> None:
    """From now on, every import of the file gets this source."""
    get_code = SourceFileLoader.get_code

    def get(loader: SourceFileLoader, name: str) -> CodeType | None:
        return compile(source, path, "exec") if loader.path == path else get_code(loader, name)

    SourceFileLoader.get_code = get  # type: ignore[method-assign]


def swap(path: str, original: str, mutated: str, live: Functions) -> bool:
    """Replace the code of all functions that differ. Returns whether this covers the whole difference."""
    old, new = (compile(source, path, "exec", dont_inherit=True) for source in (original, mutated))
    pairs = list(different(old, new))
    if not all(is_function(a) and is_function(b) for a, b in pairs):
        return swap_defaults(path, original, mutated, live)
    if not any(same_code(f, a) for a, _ in pairs for f in live.get((path, a.co_qualname), [])):
        return False
    for a, b in pairs:
        for function in live.get((path, a.co_qualname), []):
            if same_code(function, a):
                if a.co_freevars != b.co_freevars:
                    return False
                function.__code__ = b
    return True


def is_function(code: CodeType) -> bool:
    return bool(code.co_flags & 2)  # CO_NEWLOCALS: not the body of a file or class


def same_code(function: FunctionType, code: CodeType) -> bool:
    return function.__code__.co_firstlineno == code.co_firstlineno and not any(
        different(function.__code__, code)
    )


def different(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """(old, new) for the functions that differ, and for the functions around them. A file or a class counts
    only if its own code differs."""
    inner = nested(old), nested(new)
    alike = flat(old) == flat(new) and len(inner[0]) == len(inner[1])
    below = [pair for a, b in zip(*inner, strict=True) for pair in different(a, b)] if alike else []
    if not alike or (below and is_function(old)):
        yield old, new
    yield from below


def nested(code: CodeType) -> list[CodeType]:
    return [c for c in code.co_consts if isinstance(c, CodeType)]


def flat(code: CodeType) -> tuple[Any, ...]:
    """The code object as a tuple, without its inner functions. Constants are compared as text, since 1 ==
    1.0."""
    constants = [None if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_kwonlyargcount, code.co_flags, code.co_name)
    return (code.co_code, constants, *names, *counts, code.co_exceptiontable)


def swap_defaults(path: str, original: str, mutated: str, live: Functions) -> bool:
    """Replace the defaults of functions if the sources differ only in these. Returns whether they do."""
    loaded = [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == path]
    if not loaded:
        return False
    both = [defaults(original, loaded[0], path), defaults(mutated, loaded[0], path)]
    if both[0] is None or both[1] is None or both[0][0] != both[1][0]:
        return False
    changed = {name for name, value in both[1][1].items() if repr(value) != repr(both[0][1].get(name))}
    if len(changed) != 1 or (path, name := changed.pop()) not in live:
        return False
    for function in live[path, name]:
        function.__defaults__, function.__kwdefaults__ = both[1][1][name]
    return True


def defaults(source: str, module: ModuleType, path: str) -> tuple[str, dict[str, Any]] | None:
    """The source without defaults, and the defaults of its functions after running it; None if running it
    fails."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments):
            node.defaults = [ast.Constant(0)] * len(node.defaults)
            node.kw_defaults = [d and ast.Constant(0) for d in node.kw_defaults]
    again = ModuleType(module.__name__)
    vars(again).update(__file__=path, __package__=module.__package__, __spec__=module.__spec__)
    try:
        exec(compile(source, path, "exec", dont_inherit=True), vars(again))
    except Exception:
        return None
    made = [f for fs in functions().values() for f in fs if f.__globals__ is vars(again)]
    return ast.dump(tree), {f.__code__.co_qualname: (f.__defaults__, f.__kwdefaults__) for f in made}
