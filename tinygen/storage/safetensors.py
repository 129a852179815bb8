"""The safetensors format: a file of named arrays that contains no code.

    8 bytes     n, the length of the header, little-endian
    n bytes     the header, JSON in UTF-8, padded with spaces:
                {"__metadata__": {"key": "text", ...},
                 "wte.weight": {"dtype": "F32", "shape": [65, 128], "data_offsets": [0, 33280]}, ...}
    the rest    the arrays, little-endian, in C order, without gaps

Unlike a pickle, it contains nothing that is executed, and every length is known before an array is allocated.
Hugging Face defines the format (github.com/huggingface/safetensors, README, "Format") and its rules: arrays
leave no holes and do not overlap. It has no checksum; `tinygen/storage/checkpoints.py` adds one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygen.storage.files import (
    CheckpointError,
    disk_errors,
    open_plain,
    read_array,
    replace_file,
    require_memory,
    short_repr,
    size_of,
)
from tinygen.types import NumpyArray

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
"""The format's dtype names, and NumPy's. NumPy has no bfloat16, so its bits are read as integers."""

NAMES = {np.dtype(numpy): name for name, numpy in DTYPES.items() if name != "BF16"}
METADATA = "__metadata__"

HEADER_LIMIT = 10_000_000
"""In bytes: enough for 50,000 arrays. The format allows ten times as much, but parsed JSON can take thirty
times the memory of its text, and an untrusted file must not fill the memory."""

AXES_LIMIT = 64
"""The most axes that a NumPy array can have."""

# -- writing ---------------------------------------------------------------------------------------


def save_file(
    path: str | Path, arrays: Mapping[str, NumpyArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays (of any strides and byte order) or Tensors, and metadata, to a safetensors file.

    The write is atomic: at any instant, even at a power cut, `path` is the complete old file or the complete
    new one. Raises CheckpointError if an array or a name cannot be stored, or if the disk fails."""
    header, ordered = layout(path, arrays, metadata)
    with disk_errors(path):
        replace_file(Path(path), pieces(header, ordered))


def layout(
    path: str | Path, arrays: Mapping[str, NumpyArray], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, NumpyArray]]:
    """The bytes before the first array (length and header), and the arrays in the order of the file. Arrays
    with larger items come first, so that each starts at a multiple of its item size. `path` is for errors."""
    ordered = {name: np.asarray(a.numpy() if hasattr(a, "numpy") else a) for name, a in arrays.items()}
    ordered = dict(sorted(ordered.items(), key=lambda pair: -pair[1].itemsize))
    metadata = dict(metadata or {})
    header: dict[str, Any] = {METADATA: metadata} if metadata else {}
    end = 0
    for name, array in ordered.items():
        dtype = NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise CheckpointError(path, "no such dtype", ", ".join(DTYPES), array.dtype, name)
        if name == METADATA:
            raise CheckpointError(path, "this name is taken", "another", name, name)
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [begin, end]}
    if not all_texts([*header, *metadata, *metadata.values()]):
        raise CheckpointError(
            path, "names and metadata are texts", "Unicode", short_repr([*header, metadata])
        )
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays, too, start at a multiple of 8
    if len(text) > HEADER_LIMIT:
        raise CheckpointError(path, "too many names", f"a header of {HEADER_LIMIT} bytes", len(text))
    return len(text).to_bytes(8, "little") + text, ordered


def pieces(header: bytes, ordered: Mapping[str, NumpyArray]) -> Iterator[Any]:
    """The content of the file: the header, then the bytes of each array."""
    yield header
    for array in ordered.values():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # copies if not in C order
        yield little.reshape(-1).view(np.uint8)


def all_texts(values: Iterable[Any]) -> bool:
    """Whether all are strings that UTF-8 can encode (half a surrogate pair cannot be)."""
    try:
        return all(isinstance(text, str) and text.encode() is not None for text in values)
    except UnicodeEncodeError:
        return False


# -- reading ---------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One array of the header; its bytes are [begin, end), counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def load_file(path: str | Path, keep_half: bool = False) -> dict[str, NumpyArray]:
    """{name: array} of a safetensors file, in the order of the file. BF16 is converted to float32, which is
    exact, and so is F16 unless `keep_half`. Raises CheckpointError if the file is invalid."""
    with open_plain(path) as file:
        arrays = read_arrays(path, file)
    if not keep_half:
        for name, array in arrays.items():  # one by one, so that few are there in both dtypes
            arrays[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return arrays


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file, {} if it has none. The arrays are not read."""
    with open_plain(path) as file:
        header, size = read_header(path, file)
    return parse_header(path, header, size)[1]


def parse(path: str | Path, content: bytes) -> dict[str, NumpyArray]:
    """The arrays in the content of a file, for example a downloaded one; `path` is its name in errors."""
    return read_arrays(path, BytesIO(content))


def read_arrays(path: str | Path, file: BytesIO | FileIO) -> dict[str, NumpyArray]:
    """The arrays in an open file, each with memory of its own: who drops one frees its memory."""
    header, size = read_header(path, file)
    entries, _ = parse_header(path, header, size)  # in the order of their bytes, without gaps
    require_memory(path, size)
    return {e.name: as_array(path, e, read_array(path, file, e.end - e.begin)) for e in entries}


def read_header(path: str | Path, file: BytesIO | FileIO) -> tuple[bytes, int]:
    """The header of an open file, and the number of bytes after it. The file's position is then at the first
    array; the arrays are read only after the header has been checked."""
    size = size_of(file)
    n = header_length(path, read_array(path, file, min(size, 8)).tobytes(), size)
    return read_array(path, file, n).tobytes(), size - 8 - n


def as_array(path: str | Path, entry: Entry, raw: NumpyArray) -> NumpyArray:
    """The array that `entry` describes, from its bytes `raw` (uint8)."""
    if entry.dtype == "BOOL" and raw.size and raw.max() > 1:
        raise CheckpointError(path, "a bool is neither 0 nor 1", "0 or 1", raw.max(), entry.name)
    array = raw.view(DTYPES[entry.dtype]).reshape(entry.shape)
    if entry.dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if array.flags.aligned else array.copy()


def header_length(path: str | Path, first: bytes, size: int) -> int:
    if size < 8:
        raise CheckpointError(path, "truncated", "at least 8 bytes", size)
    n = int.from_bytes(first, "little")
    if n > HEADER_LIMIT:
        raise CheckpointError(path, "the header is too long", f"at most {HEADER_LIMIT} bytes", n)
    if n > size - 8:
        raise CheckpointError(path, "truncated in the header", f"{8 + n} bytes or more", size)
    return n


def parse_header(path: str | Path, text: bytes, size: int) -> tuple[list[Entry], dict[str, str]]:
    """The entries in the order of their bytes, and the metadata. `size`: the number of bytes after the
    header."""

    def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(
                    path, "a name comes twice in the header", "one of each", short_repr(key)
                )
            found[key] = value
        return found

    if not text.startswith(b"{"):
        raise CheckpointError(path, "the header is no JSON object", "b'{' first", short_repr(text[:20]))
    try:
        header = json.loads(text.decode(), object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, of too many digits or levels
        raise CheckpointError(
            path, "the header is no JSON", "JSON in UTF-8", short_repr(str(error))
        ) from error
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all_texts([*header, *metadata, *metadata.values()]):
        raise CheckpointError(path, "names and metadata are texts", "Unicode", short_repr(metadata))
    entries = [parse_entry(path, name, value, size) for name, value in header.items()]
    entries.sort(key=lambda e: (e.begin, e.end))
    end = 0
    for e in entries:
        if e.begin != end:
            problem = "overlaps the one before" if e.begin < end else "comes after a hole"
            raise CheckpointError(path, problem, f"its begin at {end}", e.begin, e.name)
        end = e.end
    if end != size:
        raise CheckpointError(path, "bytes after the last array", f"{end} bytes of arrays", size)
    return entries, metadata


def parse_entry(path: str | Path, name: str, value: Any, size: int) -> Entry:
    """One array of the header; checks everything but its position among the others."""

    def wrong(problem: str, expected: object, found: object) -> CheckpointError:
        return CheckpointError(path, problem, expected, found, name)

    fields = ["data_offsets", "dtype", "shape"]
    if not isinstance(value, dict) or sorted(value) != fields:
        raise wrong("not described as an array", fields, short_repr(value))
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise wrong("unknown dtype", f"one of {', '.join(DTYPES)}", short_repr(dtype))
    if not all_counts(shape) or len(shape) > AXES_LIMIT:
        raise wrong("impossible shape", f"at most {AXES_LIMIT} numbers from 0", short_repr(shape))
    if not all_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise wrong("impossible data_offsets", f"0 <= begin <= end <= {size}", short_repr(offsets))
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    if math.prod(n for n in shape if n) * itemsize > np.iinfo(np.intp).max:  # also where another n is 0
        raise wrong("impossible shape", "what fits into memory", short_repr(shape))
    begin, end = offsets
    if math.prod(shape) * itemsize != end - begin:
        needed = f"{math.prod(shape) * itemsize} bytes for {dtype} of shape {short_repr(shape)}"
        raise wrong("data_offsets do not fit the shape", needed, f"{end - begin} bytes")
    return Entry(name, dtype, tuple(shape), begin, end)


def all_counts(values: Any) -> bool:
    """Whether this is a list of integers >= 0; JSON's true does not count as 1."""
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)
