"""How the kernels are compiled, and where the machine code is kept.

`@parallel` compiles a function of one part of the work, to be run for many on all threads; `@inner` compiles
one that is called from inside, `@inner_sum` one that sums there. (`@kernel`, for a function with loops over
`prange`, takes the compiler twice as long.) Compiling takes a quarter of a second to two seconds a kernel,
once: the machine code goes to a folder whose name is a hash of all sources here, so that a changed file never
meets code compiled from an older one (Numba itself looks at the file that a function stands in, and not at
those that it calls into).
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event
from numba.core.registry import CPUDispatcher

from tinygen.kernels.compiled.threads import on_threads
from tinygen.tensor import Array

F = TypeVar("F", bound=Callable[..., Any])

PARTS: int = numba.config.NUMBA_NUM_THREADS
"""How many parts work is cut into: one for each thread that there can be. Kernels take it as an argument,
since as a global it would be compiled into code that is kept."""
PART = 2**12  # entries of a long array that make a part

EXACT = {"contract"}
"""Products may be fused into sums; otherwise as written: exp and log depend on it."""
IN_LANES = EXACT | {"reassoc", "nsz"}
"""Long sums may be split into several that run side by side. NaN and infinity keep their meaning."""

LOOPS_ONLY = dict.fromkeys(
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
)


@functools.cache
def folder() -> str:
    """Where the machine code is kept: NUMBA_CACHE_DIR if that is set, else beside the sources, else in the
    user's cache."""
    here = Path(__file__).parent
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    cache = here / "__pycache__"
    if not os.access(cache if cache.exists() else here, os.W_OK):
        cache = Path.home() / ".cache" / "tinygen"
    return numba.config.CACHE_DIR or str(cache / f"numba-{sources.hexdigest()[:12]}")


def compiled(function: F, signature: str | None, **options: Any) -> F:
    """`function`, to be compiled for the types that it is called with, or at once for a signature's."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder()
    try:
        made: F = numba.njit(signature, cache=True, error_model="numpy", **options)(function)
    finally:
        numba.config.CACHE_DIR = before
    return made


def kernel(function: F, signature: str | None = None) -> F:
    return compiled(function, signature, fastmath=IN_LANES, parallel={**LOOPS_ONLY, "prange": True})


class Inside(CPUDispatcher):
    """A function that becomes a part of the kernels that call it. What a call from Python needs is not
    compiled, since that takes as long as a small function does: Python runs it as Python."""

    def __call__(self, *args: Any) -> Any:
        return self.py_func(*args)


def inside(function: Callable[..., Any], fastmath: set[str], **options: bool) -> Any:
    options |= dict.fromkeys(("no_cpython_wrapper", "no_cfunc_wrapper"), True)
    made = numba.njit(error_model="numpy", fastmath=fastmath, **options)(function)
    made.__class__ = Inside
    return made


inner = functools.partial(inside, fastmath=EXACT)
inner_sum = functools.partial(inside, fastmath=IN_LANES)


def parallel(function: Callable[..., None], signature: str | None = None) -> Any:
    """A kernel from a function of one part of the work: what is called as `kernel(count, *args)` runs
    `function(part, *args)` for part = 0, ..., count - 1 on all threads."""
    name, (_, *others) = function.__name__, inspect.signature(function).parameters
    args = ", ".join(others)
    source = f"def {name}(count, {args}):\n    on_threads(body, count, ({args},))"
    # Inlined: else the process that compiles it would run it as it was compiled by itself, and those that
    # find it compiled as it was optimised once more with what calls it. Sums may be split otherwise then.
    body = inner_sum(function, forceinline=True)
    scope = {"on_threads": on_threads, "body": body, "__name__": function.__module__}
    # Not a closure: the machine code of those is not found again by the next process.
    exec(compile(source, function.__code__.co_filename, "exec"), scope)
    return compiled(scope[name], signature, no_cfunc_wrapper=True)


@inner
def share(x, part):
    """The entries of a part."""
    return x[part * PART : (part + 1) * PART]


def shares(x: Array) -> int:
    """How many parts a long array has."""
    return int(-(-x.size // PART))


def in_parts(length: int, unit: int) -> tuple[int, int]:
    """How many parts something is cut into, one for each thread, and their size: a multiple of `unit`."""
    size = -(-length // (PARTS * unit)) * unit
    return -(-length // size), size


def by_address(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` of arguments of these types, for a kernel to be given as an argument and to call by its
    address. One that the kernel named itself would be compiled again with it, up to four times."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder()
    try:
        signature = numba.types.void(*arguments)
        return numba.cfunc(signature, cache=True, error_model="numpy", fastmath=EXACT)(function)
    finally:
        numba.config.CACHE_DIR = before


@functools.cache
def say() -> None:
    print(f"tinygen: compiling kernels, this once (kept in {folder()})", file=sys.stderr, flush=True)


class Notice(event.Listener):
    """Says, once, that kernels are being compiled, since that takes seconds."""

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"].py_func.__module__.startswith(__package__):
            say()

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", Notice())


def contiguous(x: Array) -> Array:
    """x, or a copy, that kernels need not be compiled anew for: contiguous, and not read-only."""
    return x if x.flags.c_contiguous and x.flags.writeable else x.copy(order="C")
