"""The kernels, also with one barrier removed."""

import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import tinygen_cuda

FILES = (
    *("reduce", "softmax", "layer_norm", "group_norm", "gelu", "cross_entropy"),
    *("embedding", "im2col", "adam", "philox", "flash", "attention"),
)  # those that others import first
FOLDER = Path(tinygen_cuda.__file__).parent
BARRIER = "cuda.syncthreads()"

KERNELS = types.SimpleNamespace(**{name: importlib.import_module(f"tinygen_cuda.{name}") for name in FILES})


def barriers() -> Iterator[tuple[str, int]]:
    """(file, line) of every barrier in the package."""
    for path in sorted(FOLDER.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip().startswith(BARRIER):
                yield path.stem, number


def without(file: str, line: int) -> types.SimpleNamespace:
    """The kernels, compiled from sources of which one lacks this barrier."""
    made = {}
    before = {name: sys.modules[f"tinygen_cuda.{name}"] for name in FILES}
    try:
        for name in FILES:
            rows = (FOLDER / f"{name}.py").read_text().splitlines()
            if name == file:
                assert BARRIER in rows[line - 1]
                rows[line - 1] = rows[line - 1].replace(BARRIER, "pass")
            module = types.ModuleType(f"tinygen_cuda.{name}")
            exec(compile("\n".join(rows), f"{name}.py without line {line}", "exec"), vars(module))
            sys.modules[module.__name__] = made[name] = module
    finally:
        sys.modules.update({f"tinygen_cuda.{name}": module for name, module in before.items()})
    return types.SimpleNamespace(**made)
