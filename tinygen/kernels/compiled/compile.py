"""Compile the kernels, and cache their machine code on disk.

`@parallel` compiles a function that computes one part of the work, and runs it for all parts on all
threads. `@inner` compiles a function that kernels call, `@inner_sum` one that computes long sums.
Compiling a kernel takes a quarter of a second to two seconds, once. The machine code goes to a folder whose
name is a hash of all sources in this package, so that a changed file is never combined with code compiled
from an older one.
(Numba itself checks only the file of the function, and not the files of the functions that it calls, and
the processor with its instruction sets.)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import event, sigutils
from numba.core.ccallback import CFunc
from numba.core.registry import CPUDispatcher

from tinygen.kernels.compiled.cache import MachineCode, copy_code
from tinygen.kernels.compiled.threads import run_on_threads
from tinygen.tensor import Array

F = TypeVar("F", bound=Callable[..., Any])

PARTS: int = numba.config.NUMBA_NUM_THREADS
"""The number of parts of the work: one for each possible thread. Kernels take it as an argument, since a
global would become a constant in the cached machine code."""
PART = 2**12  # the entries of a long array in one part

EXACT = {"contract"}
"""The compiler may fuse products into sums. Otherwise it must compute as written: exp and log depend on
it."""
IN_LANES = EXACT | {"reassoc", "nsz"}
"""The compiler may also split a long sum into several parallel ones. NaN and infinity keep their meaning."""


@functools.cache
def folder() -> str:
    """The folder for the machine code: in NUMBA_CACHE_DIR if that is set, else beside the sources, else in
    the user's cache. It gets the code that is in a better place already, if that place is read-only now.
    RuntimeError if none of them can be written."""
    here, given = Path(__file__).parent, numba.config.CACHE_DIR
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    name = f"numba-{sources.hexdigest()[:12]}"
    places = [lambda: here / "__pycache__" / name, lambda: Path.home() / ".cache" / "tinygen" / name]
    problems, sealed = [], []
    for place in [lambda: Path(given), *places] if given else places:
        try:
            path = place()
            sealed.append(path)
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except (OSError, RuntimeError) as error:  # read-only, or no home folder
            problems.append(str(error))
            continue
        for better in sealed[:-1]:
            copy_code(better, path)
        return str(path)
    raise RuntimeError(f"machine code can be kept nowhere, set NUMBA_CACHE_DIR to a folder: {problems}")


def compile_function(function: F, signature: str | None, **options: Any) -> F:
    """`function`, compiled when it is first called, for the types of its arguments; or at once for a
    signature."""
    made = numba.njit(error_model="numpy", **options)(function)
    made._cache = machine_code_of(function)
    if signature:
        made.compile(signature)
        made.disable_compile()
    return made


class InnerFunction(CPUDispatcher):
    """A function that becomes a part of the kernels that call it. No wrapper for calls from Python is
    compiled, since this would take as long as compiling a small function: a call from Python runs the
    Python function."""

    def __call__(self, *args: Any) -> Any:
        return self.py_func(*args)


def compile_inner(function: Callable[..., Any], fastmath: set[str], **options: bool) -> Any:
    options |= dict.fromkeys(("no_cpython_wrapper", "no_cfunc_wrapper"), True)
    made = numba.njit(error_model="numpy", fastmath=fastmath, **options)(function)
    made.__class__ = InnerFunction
    return made


inner = functools.partial(compile_inner, fastmath=EXACT)
inner_sum = functools.partial(compile_inner, fastmath=IN_LANES)


def parallel(function: Callable[..., None], signature: str | None = None) -> Any:
    """A kernel from a function that computes one part of the work: `kernel(count, *args)` runs
    `function(part, *args)` for part = 0, ..., count - 1 on all threads."""
    _, *others = inspect.signature(function).parameters
    args = ", ".join(others)
    # Always inline. Otherwise the process that compiles the function would run it as compiled alone, but
    # processes that load it from the cache would run it optimized again together with its caller: their sums
    # might be split, and rounded, differently.
    body = inner_sum(function, forceinline=True)

    scope = {"run_on_threads": run_on_threads, "body": body, "__name__": function.__module__}
    # Not a closure: the next process could not find the cached machine code of a closure.
    code = f"def {function.__name__}(count, {args}):\n    run_on_threads(body, count, ({args},))"
    exec(compile(code, function.__code__.co_filename, "exec"), scope)
    return compile_function(scope[function.__name__], signature, no_cfunc_wrapper=True)


@inner
def share(x, part):
    """The entries of a part."""
    return x[part * PART : (part + 1) * PART]


def number_of_parts(x: Array) -> int:
    """The number of parts of a long array."""
    return int(-(-x.size // PART))


def divide_work(length: int, unit: int) -> tuple[int, int]:
    """The number of parts of `length` entries, at most one for each thread, and their size, a multiple of
    `unit`."""
    size = -(-length // (PARTS * unit)) * unit
    return -(-length // size), size


def compile_callback(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function`, compiled for arguments of these types. A kernel gets it as an argument and calls it by
    its address. If the kernel's code named the function, it would be compiled again with the kernel, up to
    four times."""
    signature = sigutils.normalize_signature(numba.types.void(*arguments))
    made: Any = CFunc(function, signature, {}, {"error_model": "numpy", "fastmath": EXACT})
    made._cache = machine_code_of(function)
    made.compile()
    return made


@functools.cache
def announce_compiling() -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no stderr, or a closed one
        line = f"tinygen: compiling kernels, this once: some 10 to 20 s (they are kept in {folder()})"
        print(line, file=sys.stderr, flush=True)


def machine_code_of(function: Callable[..., Any]) -> MachineCode:
    """The cache for the machine code of a function."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder()
    try:
        return MachineCode(function)
    finally:
        numba.config.CACHE_DIR = before


class Notice(event.Listener):
    """Prints once that kernels are being compiled, since this takes seconds."""

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"].py_func.__module__.startswith(__package__):
            announce_compiling()

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", Notice())


def as_contiguous(x: Array) -> Array:
    """x, or a copy of it, contiguous and not read-only: for other arrays the kernels would be compiled
    again."""
    return x if x.flags.c_contiguous and x.flags.writeable else x.copy(order="C")
