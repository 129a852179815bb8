"""Reads the weights in PyTorch's files, `.pth` and `.pt`, without PyTorch and without running code.

`torch.save(module.state_dict(), path)` writes a pickle of names and tensors. Each tensor has a storage (a row
of numbers), its place there, its shape and its strides. The numbers stand outside of the pickle:

    since PyTorch 1.6   a zip file: ARCHIVE/data.pkl is the pickle, ARCHIVE/data/KEY the numbers of a storage
    before              three pickles (a magic number, the version, the sizes of C's types), then the pickle,
                        a list of the storages' keys, and for each its length (8 bytes) and its numbers

The pickle is read by `PickleReader`, which knows the names below and no others. Every length is compared with
the size of the file before memory is taken.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinygen.storage.files import CheckpointError, open_plain, read_array, short_repr, size_of
from tinygen.storage.pickles import Name, PickleReader
from tinygen.types import NumpyArray

STORAGES = {"torch.FloatStorage": "<f4", "torch.DoubleStorage": "<f8", "torch.HalfStorage": "<f2"}
"""The kinds of storage, and NumPy's dtypes."""

TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
"""Calls that make a tensor of a storage, an offset, a shape, strides, and flags for training."""

ZIP = b"PK\x03\x04"
"""How a zip file begins."""

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""The first two pickles of the older format."""

PICKLE_LIMIT = 10_000_000
"""In bytes: the names and shapes of a hundred thousand tensors. Parsed, they take some ten times as much."""

AXES_LIMIT = 64
"""The most axes that a NumPy array can have."""


class Storage(NamedTuple):
    """A row of `length` numbers, which the file has under `key`."""

    key: str
    dtype: str
    length: int


class Stored(NamedTuple):
    """A tensor in a storage. Offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load_torch(path: str | Path, prefix: str = "") -> dict[str, NumpyArray]:
    """{name: array} of the tensors in PyTorch's file whose names begin with `prefix`, in the order of the
    file. The numbers of other tensors are not read. Arrays are read-only and may share one buffer; float16 is
    converted to float32, which is exact. Raises CheckpointError if the file is damaged, is no dict of names
    and tensors, or if its pickle needs a name that is not allowed."""
    with open_plain(path) as file:
        size = size_of(file)
        first = read_array(path, file, min(size, len(ZIP))).tobytes()
        file.seek(0)
        found = ZipFormat(path, file, size) if first == ZIP else OldFormat(path, file, size)
        tensors = checked(path, found.content, prefix)
        storages = {t.storage.key: t.storage for t in tensors.values()}
        if sum(s.length * np.dtype(s.dtype).itemsize for s in storages.values()) > size:
            raise CheckpointError(path, "storages are longer than the file", f"at most {size} bytes", "more")
        buffers = {key: found.numbers(storage) for key, storage in storages.items()}
    return {name: as_array(t, buffers[t.storage.key]) for name, t in tensors.items()}


def as_array(tensor: Stored, buffer: NumpyArray) -> NumpyArray:
    """The tensor as a view of its storage's numbers."""
    strides = [n * buffer.itemsize for n in tensor.strides]
    return as_strided(buffer[tensor.offset :], tensor.shape, strides, writeable=False)


# -- what the pickle says ----------------------------------------------------------------------------


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """The value of a call in the pickle. Raises ValueError for a name that is not allowed."""
    if name == "collections.OrderedDict" and arguments in ((), ([],)):
        return {}
    if name not in TENSORS:
        raise ValueError(f"it calls {short_repr(name)}")
    storage, offset, shape, strides = arguments[:4]
    counts = (offset, *shape, *strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else (-1,)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("a tensor needs a storage, an offset, a shape and strides")
    if len(shape) != len(strides) or len(shape) > AXES_LIMIT:
        raise ValueError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.length or (0 not in shape and last >= storage.length):
        raise ValueError(f"a tensor {short_repr(shape)} leaves its storage of {storage.length} numbers")
    return Stored(storage, offset, shape, strides)


def resolve(identity: tuple[Any, ...]) -> Storage:
    """The storage that a persistent id describes: ("storage", kind, key, device, length), and in the older
    format None behind them. Raises ValueError for another kind of storage."""
    what, kind, key, _, length, *view = identity
    if what != "storage" or not isinstance(kind, Name) or kind.text not in STORAGES:
        raise ValueError(f"the storage {short_repr(kind)}, and not one of {', '.join(STORAGES)}")
    if not isinstance(key, str) or type(length) is not int or length < 0 or view not in ([], [None]):
        raise ValueError(f"a storage is a key and a length, not {short_repr((type(key).__name__, length))}")
    return Storage(key, STORAGES[kind.text], length)


def checked(path: str | Path, content: Any, prefix: str) -> dict[str, Stored]:
    """The content of the pickle, if it is a dict of names and tensors: those whose name begins with
    `prefix`."""
    if not isinstance(content, dict):
        raise CheckpointError(path, "no dict of tensors", "a state_dict", type(content).__name__)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Stored):
            found = f"a {type(name).__name__} and a {type(value).__name__}"
            raise CheckpointError(path, "no dict of tensors", "names and tensors", found)
    return {name: tensor for name, tensor in content.items() if name.startswith(prefix)}


# -- the two formats ---------------------------------------------------------------------------------


@contextmanager
def zip_errors(path: str | Path) -> Iterator[None]:
    """Turn the errors of a damaged zip file into a CheckpointError."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        why = short_repr(str(error))
        raise CheckpointError(path, "a damaged zip file", "one that is whole", why) from error


class ZipFormat:
    """The format since PyTorch 1.6."""

    def __init__(self, path: str | Path, file: FileIO, size: int) -> None:
        self.path, self.size = path, size
        with zip_errors(path):
            self.zip = zipfile.ZipFile(file)
        names = [name for name in self.zip.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise CheckpointError(path, "no file of PyTorch's", "one data.pkl", f"{len(names)} of them")
        self.folder = names[0].removesuffix("data.pkl")
        if self.folder + "byteorder" in self.zip.namelist():
            order = self.record("byteorder", 100)
            if order != b"little":
                raise CheckpointError(path, "another order of bytes", "little", short_repr(order))
        pickle = BytesIO(self.record("data.pkl", PICKLE_LIMIT))
        self.content = PickleReader(path, pickle, call, resolve).read()

    def record(self, name: str, limit: int) -> bytes:
        """The bytes of a file in the zip, at most `limit` of them."""
        with zip_errors(self.path):
            try:
                about = self.zip.getinfo(self.folder + name)
            except KeyError:
                raise CheckpointError(self.path, "a part is missing", name, "none of this name") from None
            limit, how = min(limit, self.size), about.compress_type
            if how != zipfile.ZIP_STORED or about.file_size > limit:
                found = f"{about.file_size} bytes, compression {how}"
                needed = f"at most {limit} bytes, not compressed"
                raise CheckpointError(self.path, f"{short_repr(name)} is too long", needed, found)
            return self.zip.read(about)

    def numbers(self, storage: Storage) -> NumpyArray:
        """The numbers of a storage, (length,)."""
        needed = storage.length * np.dtype(storage.dtype).itemsize
        content = self.record(f"data/{storage.key}", needed)
        if len(content) != needed:
            raise CheckpointError(
                self.path, f"storage {short_repr(storage.key)}", f"{needed} bytes", len(content)
            )
        return widened(np.frombuffer(content, storage.dtype))


class OldFormat:
    """The format before PyTorch 1.6. The numbers follow in the order of the keys."""

    def __init__(self, path: str | Path, file: FileIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        head = BytesIO(read_array(path, file, min(size, PICKLE_LIMIT)).tobytes())
        reader = PickleReader(path, head, call, resolve)
        if not head.getvalue().startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."):
            raise CheckpointError(path, "no file of PyTorch's", "a zip file, or its older format", "neither")
        if (first := (reader.read(), reader.read())) != (MAGIC, VERSION):
            raise CheckpointError(path, "another format", (MAGIC, VERSION), short_repr(first))
        sizes: Mapping[str, Any] = reader.read()
        if not isinstance(sizes, dict) or sizes.get("little_endian") is not True:
            raise CheckpointError(path, "another order of bytes", "little_endian", type(sizes).__name__)
        self.content = reader.read()
        keys = reader.read()
        self.begin = head.tell()
        self.keys: list[str] = keys if isinstance(keys, list) else []
        self.storages = {t.storage.key: t.storage for t in checked(path, self.content, "").values()}
        if sorted(self.storages) != sorted(map(str, self.keys)):
            raise CheckpointError(
                path, "keys of the storages", f"{len(self.storages)} of them", len(self.keys)
            )
        self.places = self.find_places()

    def find_places(self) -> dict[str, int]:
        """Where the numbers of each storage begin. Each has its length before it."""
        places, place = {}, self.begin
        for key in self.keys:
            storage = self.storages[key]
            self.file.seek(place)
            (length,) = struct.unpack("<q", read_array(self.path, self.file, min(8, self.size)).tobytes())
            if length != storage.length:
                raise CheckpointError(self.path, f"storage {short_repr(key)}", storage.length, length)
            places[key] = place + 8
            place += 8 + length * np.dtype(storage.dtype).itemsize
        if place > self.size:
            raise CheckpointError(self.path, "truncated", f"{place} bytes", self.size)
        return places

    def numbers(self, storage: Storage) -> NumpyArray:
        """The numbers of a storage, (length,)."""
        self.file.seek(self.places[storage.key])
        count = storage.length * np.dtype(storage.dtype).itemsize
        return widened(read_array(self.path, self.file, count).view(storage.dtype))


def widened(numbers: NumpyArray) -> NumpyArray:
    """float16 as float32, all others as they are."""
    return numbers.astype(np.float32) if numbers.dtype == np.float16 else numbers
