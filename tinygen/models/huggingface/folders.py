"""Reads and writes folders in the format of Hugging Face's libraries: a JSON file with the options of a
model, and its weights in safetensors, in one file or in several files that an index lists.

Each format (`gpt2.py`, `clip.py`, `diffusers.py`, …) gives the names of its files and its own rules. This
file reads and writes, and makes the checks that all formats need. It reads only JSON and safetensors, never a
pickle, because a pickle can run any program. Weights must be floating-point numbers. Quantized weights are
refused: they are integers, and a rule in the options turns them into the real weights. Read as plain numbers,
they would give a model that computes nonsense without an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinygen.storage.files import (
    CheckpointError,
    disk_errors,
    make_folder,
    read_json,
    replace_file,
    short_repr,
)
from tinygen.storage.safetensors import load_file, save_file
from tinygen.types import NumpyArray

CONFIG, ADAPTERS = "config.json", "adapter_config.json"
CONFIG_LIMIT, INDEX_LIMIT = 1_000_000, 10_000_000
"""In bytes: far more than the largest models need."""

LISTED = 10
"""How many differences an error lists."""

LANGUAGE_MODEL = "model.safetensors"
"""The weights of a language model (GPT-2, Llama)."""

CONVERT_LANGUAGE_MODEL = (
    ": download that, or convert this one where you trust it, with transformers: "
    "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)"
)
"""What to do with a folder that has the weights in another file."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
PICKLE = "a pickle, which can run any program when it is loaded, and is never read here"

FLOATS = "float32, float16, bfloat16 or float64: quantized weights are not read"


# -- reading ---------------------------------------------------------------------------------------


def read_options(path: Path) -> dict[str, Any]:
    """The options in a config.json. Raises CheckpointError if they say that the weights are quantized."""
    options = read_json(path, CONFIG_LIMIT)
    quantized = options.get("quantization_config")
    if quantized is not None:
        raise CheckpointError(
            path, "the option quantization_config", f"none, and {FLOATS}", short_repr(quantized)
        )
    return options


class Options:
    """The options in a config.json. Each method removes the option that it returns, so that `end` can refuse
    the options that nobody has read."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, ""
        self.left = read_options(path)

    def section(self, name: str) -> Options:
        """The option, an object, as options of its own; without options where it is null or missing."""
        found = self.left.pop(name, None)
        if not isinstance(found, dict | None):
            self.refuse(name, "null or an object", found)
        section = copy(self)
        section.place, section.left = f"{self.place}{name}.", dict(found or {})
        return section

    def refuse(self, name: str, expected: str, found: object) -> NoReturn:
        raise CheckpointError(self.path, f"the option {self.place}{name}", expected, short_repr(found))

    def choice(self, name: str, default: Any, *values: Any) -> Any:
        """The option, which must be one of `values`, or the default if no values are given."""
        found = self.left.pop(name, default)
        allowed = values or (default,)
        if found not in allowed:
            texts = " or ".join(json.dumps(value) for value in allowed)
            self.refuse(name, f"{texts}: tinygen's blocks can do nothing else", found)
        return found

    def flag(self, name: str, default: bool) -> bool:
        """The option, true or false."""
        found = self.left.pop(name, default)
        if type(found) is not bool:
            self.refuse(name, "true or false", found)
        return found

    def size(self, name: str, default: int) -> int:
        """The option, an integer >= 1."""
        return self.whole(name, self.left.pop(name, default))

    def size_or(self, name: str, default: int | None, instead: int) -> int:
        """The option, an integer >= 1, or `instead` where it is null."""
        found = self.left.pop(name, default)
        return instead if found is None else self.whole(name, found)

    def sizes(self, name: str, found: Any) -> list[int]:
        """`found`, which must be a list of integers >= 1."""
        if not isinstance(found, list) or not found:
            self.refuse(name, "a list of whole numbers", found)
        return [self.whole(name, n) for n in found]

    def whole(self, name: str, found: Any) -> int:
        """`found`, which must be an integer >= 1."""
        if type(found) is not int or not 1 <= found < 2**31:
            self.refuse(name, "a whole number from 1", found)
        return found

    def token(self, name: str, default: int, vocab_size: int) -> int:
        """The option, the id of a token of the vocabulary."""
        found = self.left.pop(name, default)
        if type(found) is not int or not 0 <= found < vocab_size:
            self.refuse(name, f"a token, from 0 to {vocab_size - 1}", found)
        return found

    def rate(self, name: str, default: float) -> float:
        """The option, a number in [0, 1)."""
        found = self.left.pop(name, default)
        if type(found) not in (int, float) or not 0 <= found < 1:
            self.refuse(name, "a number from 0, below 1", found)
        return float(found)

    def end(self) -> None:
        """Refuse the options that have not been read. Names that begin with an underscore are notes."""
        for name, value in self.left.items():
            if not name.startswith("_"):
                self.refuse(name, "no such option: tinygen does not know what it means", value)


def read_tensors(
    folder: Path, name: str, convert: str = "", keep_half: bool = False
) -> tuple[Path, dict[str, NumpyArray]]:
    """The path of the file that was found, for errors, and the weights {tensor: array}. They come from the
    file `name`, or from the files that the index `name`.index.json lists. float16 becomes float32, unless
    `keep_half`.

    Raises CheckpointError when neither exists. If there is a pickle instead, the error names it, and
    `convert` is its advice: how to make a file that can be read."""
    single, index = folder / name, folder / f"{name}.index.json"
    if single.exists():
        return single, load_file(single, keep_half)
    if index.exists():
        return index, read_shards(index, keep_half)
    pickles = sorted(path.name for end in PICKLES for path in folder.glob(f"*{end}"))
    if pickles:
        raise CheckpointError(folder / pickles[0], PICKLE, f"{name}{convert}", ", ".join(pickles))
    raise CheckpointError(folder, "no weights", f"{name} or {index.name}", "neither")


def read_shards(index: Path, keep_half: bool) -> dict[str, NumpyArray]:
    places = read_json(index, INDEX_LIMIT).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(index, "no weight_map", "{tensor: file}", short_repr(places))
    tensors: dict[str, NumpyArray] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):  # nothing outside of the folder
            raise CheckpointError(index, "not a file of this folder", "NAME.safetensors", short_repr(name))
        tensors |= {
            tensor: array
            for tensor, array in load_file(index.parent / name, keep_half).items()
            if places.get(tensor) == name
        }
    if lost := places.keys() - tensors.keys():
        tensor = min(lost)
        raise CheckpointError(index, "a file lacks a tensor", f"it in {places[tensor]}", "others", tensor)
    return tensors


# -- checks ----------------------------------------------------------------------------------------


def require_floats(path: Path, tensors: Mapping[str, NumpyArray]) -> None:
    """Raise CheckpointError for the first tensor of integers, or of float64 numbers that float32 cannot
    hold."""
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
    """Raise CheckpointError unless `found` has the tensors and shapes in `wanted`, which come from
    `source`."""
    if listed := differences(wanted, found, source):
        raise CheckpointError(path, "another model", f"the {len(wanted)} tensors of {source}", listed)


def differences(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: str
) -> str:
    """A line for each missing, unexpected or wrongly shaped tensor, "" when there is none."""
    wrong = [f"{name} {wanted[name]} is missing" for name in wanted if name not in found]
    wrong += [
        f"{name} should be {wanted[name]} by {source}, and is {found[name]}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    wrong += [f"{short_repr(name)} {found[name]} has no place in it" for name in found if name not in wanted]
    more = [f"and {len(wrong) - LISTED} more"] if len(wrong) > LISTED else []
    return "".join(f"\n  {line}" for line in [*wrong[:LISTED], *more])


# -- writing ---------------------------------------------------------------------------------------


def join_parts(parts: list[NumpyArray]) -> NumpyArray:
    """A parameter of which the file has parts, such as queries, keys and values: one below the other. One
    part alone is not copied."""
    first, *others = parts
    return np.concatenate(parts) if others else first


def as_weight(array: NumpyArray) -> NumpyArray:
    """The array of a parameter: float32, or float16 where it was kept. It is copied only if it is cast."""
    return array if array.dtype == np.float16 else np.asarray(array, np.float32)


def split_parts(parameter: NumpyArray, names: Sequence[str]) -> dict[str, NumpyArray]:
    """The parts of a parameter by their names, as `join_parts` takes them."""
    parts = np.split(parameter, len(names)) if len(names) > 1 else [parameter]
    return dict(zip(names, parts, strict=True))


def joined_shape(shape: tuple[int, ...], names: Sequence[str]) -> tuple[int, ...]:
    """The shape of a parameter whose parts have these names, and this shape."""
    return (len(names) * shape[0], *shape[1:]) if len(names) > 1 else shape


def json_file(options: Mapping[str, Any]) -> bytes:
    """The content of a config.json."""
    return f"{json.dumps(options, indent=2)}\n".encode()


def write_folder(
    folder: str | Path, name: str, tensors: Mapping[str, NumpyArray], files: Mapping[str, bytes]
) -> None:
    """Write the tensors to the file `name`, then `files` {name: content}. Raises CheckpointError when writing
    fails.

    The weights are written first: if the disk is full, they fail, and the other files are still the old
    ones."""
    folder = Path(folder)
    with disk_errors(folder):
        make_folder(folder)
    save_file(folder / name, tensors, {"format": "pt"})  # transformers and peft need this note
    for other, content in files.items():
        with disk_errors(folder / other):
            replace_file(folder / other, [content])
