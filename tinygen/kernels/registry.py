"""The registry: which kernel stands in for which op, and the switch."""

from __future__ import annotations

import importlib
import math
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tinygen.node import Op
from tinygen.tensor import Array

FLOORS = {"off": (), "numpy": ("numpy",), "auto": ("numpy", "numba", "cuda")}
"""What the kernels may need that each mode takes. Those that need "cuda" are for arrays on a GPU, the others
for NumPy's."""

PACKAGES = {"numba": "tinygen.kernels.compiled", "cuda": "tinygen_cuda"}
"""Where the kernels are that are imported when they are wanted."""

LEAST = 2**13
"""How many entries an array must have for a compiled kernel to be worth a thread, or the import of Numba."""

WIDE = 2**9
"""How many entries a row must have for ops that take NumPy a dozen steps: one token's row in a large model is
worth a compiled kernel, whose start costs as much as one of the steps."""

PRODUCTS = 2**18
"""How many multiplications a matrix product must have: beyond as many, OpenBLAS takes its own threads, which
the compiled kernels' would have to wait for."""


class Kernel(NamedTuple):
    op: Op
    floor: str  # what it needs: "numpy", "numba" or "cuda"
    compute: Callable[..., Any]


def large(*args: Any) -> bool:
    """Whether the first or the second argument is a large array."""
    return args[0].size >= LEAST or (len(args) > 1 and getattr(args[1], "size", 0) >= LEAST)


def many_steps(x: Array, *rest: Any) -> bool:
    """For an op that takes NumPy a dozen steps: x is large, or has wide rows. That Numba has been loaded must
    not count: a step would have other bits at the start of a run, or when resumed, than later in it."""
    return bool(x.size >= LEAST or (x.ndim and x.shape[-1] >= WIDE))


def many_products(x: Array, weight: Array, *rest: Any) -> bool:
    """For x (..., k) times a weight with k rows or columns."""
    return bool(x.ndim) and bool(x.size * weight.size >= PRODUCTS * x.shape[-1])


def many_taps(x: Array, weight: Array, *rest: Any) -> bool:
    """For a convolution, or its transpose: each position of x (N, C, ...) meets all numbers of the weight."""
    return large(x, weight) or x.size * weight.size >= PRODUCTS * x.shape[1]


def many_pairs(x: Array, g: Array, kernel: tuple[int, ...], *rest: Any) -> bool:
    """For a weight's gradient: each entry of x meets all channels of g (N, C, ...) at every tap."""
    return large(x, g) or x.size * g.shape[1] * math.prod(kernel) >= PRODUCTS


def any_size(*args: Any) -> bool:
    """On a GPU, one launch instead of several is always worth it."""
    return True


class Later:
    """A compiled kernel, the function of the op's name in a module of one of the PACKAGES. That is imported,
    and Numba with it, when the first arguments come that are worth it. Where the compiler cannot start, or
    fails, one warning says so, and the op does without."""

    def __init__(
        self,
        op: Op,
        module: str,
        worth: Callable[..., bool],
        floor: str,
        troubles: dict[str, str] | None = None,
    ) -> None:
        self.__module__ = f"{PACKAGES[floor]}.{module}"
        self.__name__ = op.name
        self.worth = worth
        self.floor = floor
        self.troubles = {} if troubles is None else troubles  # shared with the others
        self.function: Callable[..., Any] | None = None
        self.missing = ""  # why it cannot be had

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.worth(*args) or (self.function is None and not self.load()):
            return NotImplemented
        try:
            return self.function(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            if self.floor != "numba" or not of_compiler(error):
                raise
            self.give_up(error)
            return NotImplemented

    def load(self) -> bool:
        """Whether the kernel is there; if it isn't, `missing` says why."""
        if self.function is None and not self.missing:
            self.missing = self.troubles.get(self.floor, "")
        if self.function is None and not self.missing:
            try:
                if self.floor == "cuda":
                    importlib.import_module("cupy")
                self.function = getattr(importlib.import_module(self.__module__), self.__name__)
            except Exception as error:  # no Numba, CuPy or OpenBLAS, or one that cannot start
                self.give_up(error)
                if PACKAGES[self.floor] not in sys.modules:  # then none of them can be had
                    self.troubles[self.floor] = self.missing
        return self.function is not None

    def give_up(self, error: Exception) -> None:
        """Do without. That a package is not installed, or is no right one, is no reason for a warning."""
        self.function = None
        self.missing = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "warned" not in self.troubles and (not isinstance(error, ImportError) or of_compiler(error)):
            self.troubles["warned"] = self.missing
            text = f"compiled kernels cannot be used, NumPy computes instead: {self.missing}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def of_compiler(error: BaseException) -> bool:
    """Whether an error comes from inside of Numba, and not from a kernel that refuses its arguments."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(f.f_globals.get("__name__", "").partition(".")[0] in ("numba", "llvmlite") for f, _ in frames)


class Switch:
    """`tinygen.kernels(mode)` sets the mode for the whole process; as `with tinygen.kernels(mode):` it is
    set back at the end."""

    __name__ = (
        "tinygen.kernels"  # it stands where the package would: `import tinygen.kernels.gelu` looks here
    )

    def __init__(self) -> None:
        self.mode = "auto"
        self.entries: list[Kernel] = []
        self.troubles: dict[str, str] = {}
        """Why no kernel of a floor can be had, by the floor; and by "warned", what somebody was warned of."""

    def __call__(self, mode: str) -> Restore:
        if mode not in FLOORS:
            raise ValueError(f"kernels are {', '.join(map(repr, FLOORS))}, not {mode!r}")
        before, self.mode = self.mode, mode
        for op in {entry.op for entry in self.entries}:
            self.connect(op)
        return Restore(self, before)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"tinygen.kernels is the switch between kernels, which has no {name!r}; a module of that name: "
            f"from tinygen.kernels import {name}"
        )

    def register(self, function: Callable[..., Any] | Op, floor: str = "numpy") -> Callable[..., Any]:
        """Decorate a kernel of the op `function`; the latest that is registered is tried first."""

        def add(compute: Callable[..., Any]) -> Callable[..., Any]:
            op = op_of(function)
            self.entries.append(Kernel(op, floor, compute))
            self.connect(op)
            return compute

        return add

    def later(
        self, function: Callable[..., Any] | Op, module: str, worth: Callable[..., bool] = large
    ) -> None:
        """Let the op `function` have the compiled kernel of its name in `kernels/compiled/MODULE.py`, for
        arguments of which `worth` is true."""
        self.register(function, "numba")(Later(op_of(function), module, worth, "numba", self.troubles))

    def on_gpu(self, function: Callable[..., Any] | Op, module: str) -> None:
        """Let the op `function` have, for arrays on a GPU, the kernel of its name in
        `tinygen_cuda/MODULE.py`."""
        self.register(function, "cuda")(Later(op_of(function), module, any_size, "cuda", self.troubles))

    def enabled(self, op: Op, *floors: str) -> list[Callable[..., Any]]:
        """The kernels that need one of `floors` and that the mode allows for `op`, best first."""
        allowed = [floor for floor in floors if floor in FLOORS[self.mode]]
        return [e.compute for e in self.entries if e.op is op and e.floor in allowed][::-1]

    def connect(self, op: Op) -> None:
        found = {"cpu": self.enabled(op, "numpy", "numba"), "cuda": self.enabled(op, "cuda")}
        op.compute = dispatch(found, op.body) if any(found.values()) else op.body

    def table(self) -> str:
        """One line per kernel: the op, what it needs, where it stands, whether it is in use."""
        rows = [("op", "needs", "kernel", "in use")]
        for e in sorted(self.entries, key=lambda e: e.op.name):
            used = "yes" if e.compute in self.enabled(e.op, e.floor) else "no"
            if used == "yes" and isinstance(e.compute, Later) and not e.compute.load():
                used = f"no: {e.compute.missing}"
            rows.append((e.op.name, e.floor, f"{e.compute.__module__}.{e.compute.__name__}", used))
        widths = [max(len(row[i]) for row in rows) for i in range(3)] + [0]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)


def op_of(function: Callable[..., Any] | Op) -> Op:
    return function if isinstance(function, Op) else function.op  # type: ignore[attr-defined]


class Restore:
    """What `kernels(mode)` returns: leaving it as a context sets the mode from before."""

    def __init__(self, switch: Switch, before: str) -> None:
        self.switch = switch
        self.before = before

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch(self.before)


def dispatch(
    found: Mapping[str, Sequence[Callable[..., Any]]], definition: Callable[..., Any]
) -> Callable[..., Any]:
    """The first kernel for the first argument's device that takes the arguments, else the definition. Kernels
    see float32 arrays only."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        candidates = found.get(place(args[0]), ())
        if not (candidates and args[0].dtype == np.float32 and args[0].size):
            return definition(*args, **kwargs)
        for candidate in candidates:
            result = candidate(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return definition(*args, **kwargs)

    return compute


def place(x: Any) -> str:
    """Which kernels can be for x: "cpu" for NumPy's arrays, "cuda" for CuPy's; "" for anything else."""
    if type(x) is np.ndarray:
        return "cpu"
    return "cuda" if type(x).__module__.partition(".")[0] == "cupy" else ""


def float32(*arrays: Any) -> bool:
    """Whether all of them (None left out) are NumPy arrays of float32."""
    return all(x is None or (type(x) is np.ndarray and x.dtype == np.float32) for x in arrays)


kernels = Switch()
