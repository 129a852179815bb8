"""Writes and reads half a gigabyte of weights, the size of the smallest GPT-2: with
`tinygen.storage.safetensors` and `tinygen.storage.checkpoints`, and with the library `safetensors`, which is
written in Rust.

In memory (a file system without a disk) only the work itself is timed. On a disk both sides wait until the
file is on the disk (fsync of file and folder); the library leaves this to its user. A checkpoint also has a
SHA-256 of every array; it is compared with a plain file of the library.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

UNIT = "ms"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("safetensors",)
MODES = False
LAYERS, WIDTH, VOCAB, BLOCK = 12, 768, 50257, 1024


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of GPT-2's shapes: 124,439,808 numbers, 498 MB."""
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (VOCAB, WIDTH), "wpe.weight": (BLOCK, WIDTH)}
    for i in range(LAYERS):
        for name, rows, columns in ("qkv", 3, 1), ("proj", 1, 1), ("up", 4, 1), ("down", 1, 4):
            shapes[f"h.{i}.{name}.weight"] = (rows * WIDTH, columns * WIDTH)
            shapes[f"h.{i}.{name}.bias"] = (rows * WIDTH,)
    for name in ["ln_f", *(f"h.{i}.ln_{k}" for i in range(LAYERS) for k in (1, 2))]:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def build(side: str) -> dict[str, Callable[[], Any]]:
    arrays = weights()
    memory = TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    disk = TemporaryDirectory()
    in_memory, on_disk = Path(memory.name, "x"), Path(disk.name, "x")
    save: Callable[[Path], Any]
    save_durably: Callable[[Path], Any]
    load: Callable[[Path], Any]
    checkpoint: Callable[[], Any]
    restored: Callable[[], Any]
    if side == "tinygen":
        from tinygen.storage.checkpoints import Checkpoints
        from tinygen.storage.safetensors import load_file, save_file

        checkpoints = Checkpoints(Path(disk.name, "checkpoints"), keep=1)
        save = save_durably = lambda path: save_file(path, arrays)
        load = load_file
        checkpoint = lambda: checkpoints.save(1, {"model": arrays})
        restored = lambda: checkpoints.load().state["model"]
    else:
        library: Any = importlib.import_module("safetensors.numpy")  # it has no types

        save = lambda path: library.save_file(arrays, path)
        load = library.load_file

        def save_durably(path: Path) -> None:
            save(path)
            for name in path, path.parent:
                descriptor = os.open(name, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)

        checkpoint = lambda: save_durably(on_disk)
        restored = lambda: load(on_disk)
    save(in_memory)
    checkpoint()

    def some(step: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """The step. It returns a part of the arrays that were read, so that the sides can be compared."""

        def run() -> Any:
            found = step(*args)
            return found["wpe.weight"] if isinstance(found, dict) else 0

        run.folders = memory, disk  # type: ignore[attr-defined]  # as long as the steps are there
        return run

    return {
        "save_file, in memory": some(save, in_memory),
        "load_file, in memory": some(load, in_memory),
        "save_file, on a disk": some(save_durably, on_disk),
        "a checkpoint, saved on a disk": some(checkpoint),
        "a checkpoint, loaded": some(restored),
    }
