"""MNIST and CIFAR-10, from their files or from the network.

MNIST (LeCun et al. 1998): 70,000 digits of 28 × 28, in IDX files. CIFAR-10 (Krizhevsky 2009): 60,000
photographs of 32 × 32 in ten classes. This module reads its binary version: the version for Python is a
pickle, and opening a pickle can run any program in it.

Pictures stay bytes, (N, C, H, W) from 0 to 255, because all of them as float32 would fill half a gigabyte;
`scale_pixels` converts a batch for a model.
"""

from __future__ import annotations

import gzip
import io
import math
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinygen.data.published import DataError, Published, read_data

Bytes = NDArray[np.uint8]
LIMIT = 1_000_000_000
"""The most bytes of a file, uncompressed: MNIST has 47 million, CIFAR-10 31 million per file."""
PIECE = 1 << 20


class Labelled(NamedTuple):
    """Pictures (N, C, H, W) as bytes, and the class of each, labels (N,), int64."""

    pictures: Bytes
    labels: NDArray[np.int64]


def scale_pixels(pictures: Bytes) -> NDArray[np.float32]:
    """Bytes (any shape) scaled to [-1, 1]: 0 becomes -1, 255 becomes 1."""
    return pictures.astype(np.float32) / np.float32(127.5) - 1


# -- MNIST -----------------------------------------------------------------------------------------

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # the mirror that torchvision uses
MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def load_mnist(folder: str | Path | None = None) -> tuple[Labelled, Labelled]:
    """60,000 digits (N, 1, 28, 28) to train on and 10,000 to test.

    Without a `folder`, this reads the published files from the folder TINYGEN_DATA, or from
    ~/.cache/tinygen, or downloads them into the latter (11 MB); their SHA-256 is checked. With a `folder`,
    it reads the four files in it, `.gz` or unpacked, with any content: Fashion-MNIST and others have files
    of the same names.

    DataError if a file is missing, damaged or not an IDX file of bytes, or if the numbers of labels and
    pictures differ.
    """
    train, test = (idx_pair(part, folder) for part in ("train", "t10k"))
    return train, test


def idx_pair(part: str, folder: str | Path | None) -> Labelled:
    files = [f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"]
    images, labels = (
        read_idx(
            download_or_read(file, MNIST_URL, MNIST_SHA256[file])
            if folder is None
            else content_of(Path(folder), file, file.removesuffix(".gz")),
            file,
        )
        for file in files
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{files[0]} must be (N, H, W) and {files[1]} (N,), but they are {images.shape} and "
            f"{labels.shape}"
        )
    return Labelled(images[:, None], labels.astype(np.int64))


def read_idx(content: bytes, where: str) -> Bytes:
    """The array in an IDX file of unsigned bytes, compressed with gzip or not. `where` is its name in errors.

    Such a file begins with 0, 0, 8 (for bytes) and the number of axes, a byte each; then come the axes' sizes
    as big-endian 32-bit numbers, and the entries, the last axis running fastest."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gunzip(content)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{where} is damaged, it cannot be unpacked ({error}): get it again") from error
    if len(content) > LIMIT:
        raise DataError(f"{where} is too long: more than {LIMIT} bytes, unpacked")
    if content[:3] != b"\0\0\x08" or len(content) < 4:
        raise DataError(
            f"{where} is not an IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}, not "
            "with 00 00 08 and the number of axes"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{where} is cut short: {len(content)} bytes, of {start} in its header")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(content) != start + math.prod(shape):
        raise DataError(
            f"{where} should have {start + math.prod(shape)} bytes for an array of {shape}, but has "
            f"{len(content)}: get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def gunzip(content: bytes) -> bytes:
    """Decompress gzip data; stop soon after LIMIT bytes, since a megabyte can expand to a gigabyte of
    zeros."""
    pieces: list[bytes] = []
    with gzip.open(io.BytesIO(content)) as packed:
        while len(pieces) <= LIMIT // PIECE and (piece := packed.read(PIECE)):
            pieces.append(piece)
    return b"".join(pieces)


# -- CIFAR-10 --------------------------------------------------------------------------------------

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_FILE = "cifar-10-binary.tar.gz"
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR10_TEST = "test_batch.bin"


def load_cifar10(folder: str | Path | None = None) -> tuple[Labelled, Labelled]:
    """50,000 photographs (N, 3, 32, 32) to train on and 10,000 to test; `CIFAR10_CLASSES` names the classes.

    Without a `folder`, this reads the published archive of the binary version from the folder TINYGEN_DATA,
    or from ~/.cache/tinygen, or downloads it into the latter (170 MB); its SHA-256 is checked. With a
    `folder`, it reads the six `.bin` files in it.

    DataError if a file is missing or damaged.
    """
    if folder is not None:
        files = {file: content_of(Path(folder), file) for file in (*CIFAR10_TRAIN, CIFAR10_TEST)}
    else:
        files = untar(download_or_read(CIFAR10_FILE, CIFAR10_URL, CIFAR10_SHA256))
    train = [read_cifar10(files[f], f) for f in CIFAR10_TRAIN]
    pictures = np.concatenate([part.pictures for part in train])
    labels = np.concatenate([part.labels for part in train])
    return Labelled(pictures, labels), read_cifar10(files[CIFAR10_TEST], CIFAR10_TEST)


def read_cifar10(content: bytes, where: str) -> Labelled:
    """The pictures in a `.bin` file: for each picture its class, then 1024 bytes each of red, green and blue,
    row by row. `where` is the file's name in errors."""
    length = 1 + 3 * 32 * 32
    if not content or len(content) % length:
        raise DataError(
            f"{where} should be pictures of {length} bytes each, but has {len(content)} bytes: get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= len(CIFAR10_CLASSES):
        raise DataError(f"{where} is not CIFAR-10: its classes end at 9, and here is a {labels.max()}")
    return Labelled(records[:, 1:].reshape(-1, 3, 32, 32), labels)


def untar(archive: bytes) -> dict[str, bytes]:
    """The contents of the files in a tar archive, by file name without folders. Nothing is written to
    disk."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {Path(member.name).name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


# -- where files come from -------------------------------------------------------------------------


def content_of(folder: Path, *names: str) -> bytes:
    """The first file in the folder that has one of these names."""
    for name in names:
        if (folder / name).is_file():
            return read_data(folder / name, LIMIT)
    raise DataError(f"there is no {' or '.join(names)} in {str(folder)!r}")


def download_or_read(file: str, url: str, sha256: str) -> bytes:
    """The content of a file in the folder `url`."""
    return Published(url + file, sha256, (file,), "", "say in which `folder` it is").read()
