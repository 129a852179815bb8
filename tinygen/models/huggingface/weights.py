"""What every folder of Hugging Face's has: JSON with options, and weights, in one file or in several that an
index names. Here are the index, and the checks that all readers of such folders make.

Weights are floating-point numbers. Quantized ones stand for others, by a rule that is written elsewhere: they
are refused, since as plain numbers they would make a model that computes nonsense, and nothing would say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.storage.files import CheckpointError, read_json, short
from tinygen.storage.safetensors import load_file
from tinygen.types import NumpyArray

CONFIG = "config.json"
CONFIG_LIMIT, INDEX_LIMIT = 1_000_000, 10_000_000
"""Bytes: far more than the largest models need."""

LISTED = 10
"""How many differences an error lists."""

FLOATS = "float32, float16, bfloat16 or float64: quantized weights are not read"


def require_no_quantization(path: Path, options: Mapping[str, Any]) -> None:
    """CheckpointError where config.json says that the weights are quantized: the numbers in their file then
    stand for others, by a rule that is not known here."""
    found = options.get("quantization_config")
    if found is not None:
        raise CheckpointError(path, "the option quantization_config", f"none, and {FLOATS}", short(found))


def require_floats(path: Path, tensors: Mapping[str, NumpyArray]) -> None:
    """CheckpointError for the first tensor of integers, or of float64 numbers that float32 cannot hold."""
    for name, array in tensors.items():
        if array.dtype.kind != "f":
            raise CheckpointError(path, "not a weight", FLOATS, array.dtype, name)
        if array.dtype.itemsize > 4 and np.any(np.abs(array[np.isfinite(array)]) > np.finfo(np.float32).max):
            raise CheckpointError(path, "too large for float32", "numbers up to 3.4e38", "larger ones", name)


def require_same(
    path: Path,
    wanted: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    source: str = CONFIG,
) -> None:
    """CheckpointError that lists tensors that are missing, too many, or of another shape than in `source`."""
    if listed := differences(wanted, found, source):
        raise CheckpointError(path, "another model", f"the {len(wanted)} tensors of {source}", listed)


def differences(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> str:
    """What is missing, of another shape than `source` says, or too many, a line each; "" when all is well."""
    wrong = [f"{name} {wanted[name]} is missing" for name in wanted if name not in found]
    wrong += [
        f"{name} should be {wanted[name]} by {source}, and is {found[name]}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    wrong += [f"{short(name)} {found[name]} has no place in it" for name in found if name not in wanted]
    more = [f"and {len(wrong) - LISTED} more"] if len(wrong) > LISTED else []
    return "".join(f"\n  {line}" for line in [*wrong[:LISTED], *more])


def read_shards(index: Path) -> dict[str, NumpyArray]:
    places = read_json(index, INDEX_LIMIT).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(index, "no weight_map", "{tensor: file}", short(places))
    tensors: dict[str, NumpyArray] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):  # nothing outside of the folder
            raise CheckpointError(index, "not a file of this folder", "NAME.safetensors", short(name))
        tensors |= {
            tensor: a for tensor, a in load_file(index.parent / name).items() if places.get(tensor) == name
        }
    if lost := places.keys() - tensors.keys():
        tensor = min(lost)
        raise CheckpointError(index, "a file lacks a tensor", f"it in {places[tensor]}", "others", tensor)
    return tensors
