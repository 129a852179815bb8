"""The registry: which kernel stands in for which op, and the switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from tinygen.tape import Op
from tinygen.tensor import Tensor

MODES = ("off", "numpy", "auto")


class Kernel(NamedTuple):
    op: Op
    floor: str  # what it needs: "numpy"
    compute: Callable[..., Any]


class Switch:
    """`tinygen.kernels(mode)` sets the mode for the whole process; as `with tinygen.kernels(mode):` it is
    set back at the end."""

    __name__ = (
        "tinygen.kernels"  # it stands where the package would: `import tinygen.kernels.gelu` looks here
    )

    def __init__(self) -> None:
        self.mode = "auto"
        self.entries: list[Kernel] = []

    def __call__(self, mode: str) -> Restore:
        if mode not in MODES:
            raise ValueError(f"kernels are {', '.join(map(repr, MODES))}, not {mode!r}")
        before, self.mode = self.mode, mode
        for op in {entry.op for entry in self.entries}:
            self.connect(op)
        return Restore(self, before)

    def register(self, function: Callable[..., Tensor], floor: str = "numpy") -> Callable[..., Any]:
        """Decorate a kernel of the op `function`; the latest that is registered is tried first."""

        def add(compute: Callable[..., Any]) -> Callable[..., Any]:
            op: Op = function.op  # type: ignore[attr-defined]
            self.entries.append(Kernel(op, floor, compute))
            self.connect(op)
            return compute

        return add

    def live(self, op: Op) -> list[Callable[..., Any]]:
        """The kernels that the mode allows for `op`, best first."""
        floors = {"off": (), "numpy": ("numpy",)}.get(self.mode)
        found = [e.compute for e in self.entries if e.op is op and (floors is None or e.floor in floors)]
        return found[::-1]

    def connect(self, op: Op) -> None:
        found = self.live(op)
        op.compute = tried(found, op.body) if found else op.body

    def table(self) -> str:
        """One line per kernel: the op, what it needs, where it stands, whether it is in use."""
        rows = [("op", "needs", "kernel", "in use")]
        for e in self.entries:
            used = "yes" if e.compute in self.live(e.op) else "no"
            rows.append((e.op.name, e.floor, f"{e.compute.__module__}.{e.compute.__name__}", used))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)


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


def tried(candidates: Sequence[Callable[..., Any]], definition: Callable[..., Any]) -> Callable[..., Any]:
    """The first candidate that takes the arguments, else the definition. Kernels see float32 arrays only."""

    def compute(*args: Any, **kwargs: Any) -> Any:
        if not (type(args[0]) is np.ndarray and args[0].dtype == np.float32 and args[0].size):
            return definition(*args, **kwargs)
        for candidate in candidates:
            result = candidate(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return definition(*args, **kwargs)

    return compute


def float32(*arrays: Any) -> bool:
    """Whether all of them (None left out) are NumPy arrays of float32."""
    return all(x is None or (type(x) is np.ndarray and x.dtype == np.float32) for x in arrays)


kernels = Switch()
