"""The registry: which kernels replace an op's definition, and the switch between them."""

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
"""For each mode, the requirements that its kernels may have. Kernels that need "cuda" are for arrays on a
GPU, the others for NumPy arrays."""

PACKAGES = {"numba": "tinygen.kernels.compiled", "cuda": "tinygen_cuda"}
"""The packages of the kernels that are imported at first use."""

LEAST = 2**13
"""The number of entries from which a compiled kernel is faster, and worth the import of Numba."""

WIDE = 2**9
"""The row length from which a compiled kernel is faster, for ops that take a dozen NumPy calls. Starting a
compiled kernel costs as much as one of these calls, so that one token's row in a large model is enough."""

PRODUCTS = 2**18
"""The number of multiplications from which a compiled matrix product is used: above this size OpenBLAS starts
its own threads, and the compiled kernels' threads would have to wait for them."""


class Kernel(NamedTuple):
    op: Op
    floor: str  # the package that it needs: "numpy", "numba" or "cuda"
    compute: Callable[..., Any]


def is_large(*args: Any) -> bool:
    """Whether the first or the second argument is a large array."""
    return args[0].size >= LEAST or (len(args) > 1 and getattr(args[1], "size", 0) >= LEAST)


def many_steps(x: Array, *rest: Any) -> bool:
    """For an op that takes a dozen NumPy calls: x is large, or has wide rows. The choice must not depend on
    whether Numba is loaded already: otherwise the first steps of a run, or of a resumed run, would round
    differently from later ones."""
    return bool(x.size >= LEAST or (x.ndim and x.shape[-1] >= WIDE))


def many_products(x: Array, weight: Array, *rest: Any) -> bool:
    """For x (..., k) times a weight with k rows or columns. A weight in float16 would first be converted by
    NumPy, so the kernel is faster already for one row."""
    least = LEAST if getattr(weight, "dtype", None) == np.float16 else PRODUCTS
    return bool(x.ndim) and bool(x.size * weight.size >= least * x.shape[-1])


def many_taps(x: Array, weight: Array, *rest: Any) -> bool:
    """For a convolution or its transpose: each position of x (N, C, ...) is multiplied by the whole
    weight."""
    return is_large(x, weight) or x.size * weight.size >= PRODUCTS * x.shape[1]


def many_pairs(x: Array, g: Array, kernel: tuple[int, ...], *rest: Any) -> bool:
    """For a weight's gradient: each entry of x is multiplied by all channels of g (N, C, ...) at every
    tap."""
    return is_large(x, g) or x.size * g.shape[1] * math.prod(kernel) >= PRODUCTS


def accept_any_size(*args: Any) -> bool:
    """On a GPU, one launch instead of several is always worth it."""
    return True


class LazyKernel:
    """A compiled kernel that is imported at first use: the function with the op's name in a module of
    PACKAGES. The first arguments for which `worth` is true import the module, and Numba with it. If the
    compiler cannot start, or fails, one warning says so, and the op runs without this kernel."""

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
        self.missing = ""  # why it cannot be used

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.worth(*args) or (self.function is None and not self.load()):
            return NotImplemented
        try:
            return self.function(*args, **kwargs)  # type: ignore[misc]
        except Exception as error:
            if self.floor != "numba" or not is_compiler_error(error):
                raise
            self.give_up(error)
            return NotImplemented

    def load(self) -> bool:
        """Import the kernel, and return whether it can be used; if not, `missing` says why."""
        if self.function is None and not self.missing:
            self.missing = self.troubles.get(self.floor, "")
        if self.function is None and not self.missing:
            try:
                if self.floor == "cuda":
                    importlib.import_module("cupy")
                self.function = getattr(importlib.import_module(self.__module__), self.__name__)
            except Exception as error:  # no Numba, CuPy or OpenBLAS, or one that cannot start
                self.give_up(error)
                if PACKAGES[self.floor] not in sys.modules:  # then no kernel of the package can be used
                    self.troubles[self.floor] = self.missing
        return self.function is not None

    def give_up(self, error: Exception) -> None:
        """Stop using this kernel. Warn once, unless a package is just not installed or has the wrong
        version."""
        self.function = None
        self.missing = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "warned" not in self.troubles and (not isinstance(error, ImportError) or is_compiler_error(error)):
            self.troubles["warned"] = self.missing
            text = f"compiled kernels cannot be used, NumPy computes instead: {self.missing}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error comes from inside of Numba, and not from a kernel that refuses its arguments."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(f.f_globals.get("__name__", "").partition(".")[0] in ("numba", "llvmlite") for f, _ in frames)


class Switch:
    """`tinygen.kernels(mode)` sets the mode for the whole process; `with tinygen.kernels(mode):` restores the
    mode before at its end."""

    __name__ = (
        "tinygen.kernels"  # it stands where the package would: `import tinygen.kernels.gelu` looks here
    )

    def __init__(self) -> None:
        self.mode = "auto"
        self.entries: list[Kernel] = []
        self.troubles: dict[str, str] = {}
        """For each floor, the reason why its kernels cannot be used; under "warned", the text of the
        warning."""

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
        """A decorator for a kernel of the op `function`; the kernel registered last is tried first."""

        def add(compute: Callable[..., Any]) -> Callable[..., Any]:
            op = op_of(function)
            self.entries.append(Kernel(op, floor, compute))
            self.connect(op)
            return compute

        return add

    def register_compiled(
        self, function: Callable[..., Any] | Op, module: str, worth: Callable[..., bool] = is_large
    ) -> None:
        """Register the compiled kernel in `kernels/compiled/MODULE.py` that has the name of the op
        `function`. It is used for arguments for which `worth` is true."""
        self.register(function, "numba")(LazyKernel(op_of(function), module, worth, "numba", self.troubles))

    def register_gpu(self, function: Callable[..., Any] | Op, module: str) -> None:
        """Register the GPU kernel in `tinygen_cuda/MODULE.py` that has the name of the op `function`."""
        self.register(function, "cuda")(
            LazyKernel(op_of(function), module, accept_any_size, "cuda", self.troubles)
        )

    def enabled_kernels(self, op: Op, *floors: str) -> list[Callable[..., Any]]:
        """The kernels of `op` for one of `floors` that the mode allows, best first."""
        allowed = [floor for floor in floors if floor in FLOORS[self.mode]]
        return [e.compute for e in self.entries if e.op is op and e.floor in allowed][::-1]

    def connect(self, op: Op) -> None:
        found = {"cpu": self.enabled_kernels(op, "numpy", "numba"), "cuda": self.enabled_kernels(op, "cuda")}
        op.compute = dispatch(found, op.body) if any(found.values()) else op.body

    def table(self) -> str:
        """One line per kernel: the op, its requirement, its module and name, and whether it is in use. The
        last line, if compiled kernels are loaded, has the threads and the processor for which they are."""
        rows = [("op", "needs", "kernel", "in use")]
        for e in sorted(self.entries, key=lambda e: e.op.name):
            used = "yes" if e.compute in self.enabled_kernels(e.op, e.floor) else "no"
            if used == "yes" and isinstance(e.compute, LazyKernel) and not e.compute.load():
                used = f"no: {e.compute.missing}"
            rows.append((e.op.name, e.floor, f"{e.compute.__module__}.{e.compute.__name__}", used))
        widths = [max(len(row[i]) for row in rows) for i in range(3)] + [0]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        helpers = sys.modules.get(f"{PACKAGES['numba']}.helpers")
        if helpers and "numba" in FLOORS[self.mode]:
            lines.append(helpers.what_runs())
        return "\n".join(lines)

    def threads(self, count: int | None = None) -> int:
        """Set the number of threads on which compiled kernels run; returns the number before. Without an
        argument it only returns the number. The bits of results do not depend on it, but on
        NUMBA_NUM_THREADS in the environment, which is the largest number. Raises ValueError for a number
        outside this range, and ImportError where there are no compiled kernels."""
        before: int = importlib.import_module(f"{PACKAGES['numba']}.helpers").threads(count)
        return before


def op_of(function: Callable[..., Any] | Op) -> Op:
    return function if isinstance(function, Op) else function.op  # type: ignore[attr-defined]


class Restore:
    """The context manager that `kernels(mode)` returns: at its end, it restores the mode before."""

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
    """A function that runs the first kernel that supports its arguments, or else the definition. `found` has
    the kernels of each device; the first argument decides. Kernels get float32 arrays only."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        candidates = found.get(device_of(args[0]), ())
        if not (candidates and args[0].dtype == np.float32 and args[0].size):
            return definition(*args, **kwargs)
        for candidate in candidates:
            result = candidate(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return definition(*args, **kwargs)

    return compute


def device_of(x: Any) -> str:
    """The device whose kernels support x: "cpu" for NumPy arrays, "cuda" for CuPy's, "" for anything else."""
    if type(x) is np.ndarray:
        return "cpu"
    return "cuda" if type(x).__module__.partition(".")[0] == "cupy" else ""


def are_float32(*arrays: Any) -> bool:
    """Whether all of them (None is skipped) are NumPy arrays of float32."""
    return all(x is None or (type(x) is np.ndarray and x.dtype == np.float32) for x in arrays)


kernels = Switch()
