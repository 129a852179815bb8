"""MNIST and CIFAR-10 from files made here: every byte is in its place, and damaged files raise an error."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import tracemalloc
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tinygen.data import DataError
from tinygen.data import published_pictures as module
from tinygen.data.published_pictures import load_cifar10, load_mnist, read_cifar10, read_idx, scale_pixels

FOLDER = os.environ.get("TINYGEN_DATA")
BATCHES = [f"data_batch_{i}.bin" for i in (1, 2, 3, 4, 5)]


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def draw(*shape, seed=0, high=256):
    return np.random.default_rng(seed).integers(high, size=shape, dtype=np.uint8)


@pytest.fixture
def mnist(tmp_path):
    """A folder with the four files, small; and what is in them."""
    arrays = {}
    for i, (part, n) in enumerate((("train", 12), ("t10k", 5))):
        arrays[f"{part}-images-idx3-ubyte"] = draw(n, 28, 28, seed=i)
        arrays[f"{part}-labels-idx1-ubyte"] = draw(n, seed=10 + i, high=10)
    for name, array in arrays.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return tmp_path, arrays


@pytest.fixture
def cifar(tmp_path):
    """A folder with the six files, of two pictures each; and what is in them."""
    records = {}
    for i, name in enumerate([*BATCHES, "test_batch.bin"]):
        records[name] = draw(2, 3073, seed=i)
        records[name][:, 0] %= 10
        (tmp_path / name).write_bytes(records[name].tobytes())
    return tmp_path, records


@pytest.fixture(autouse=True)
def network(monkeypatch, tmp_path):
    """An empty home, no TINYGEN_DATA, and a network that answers with what is put here."""
    answers = {}

    def urlopen(url, timeout):
        if url not in answers:
            raise OSError("no route to host")
        return io.BytesIO(answers[url])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    return answers


# -- what is in the files --------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(7,), (3, 4, 5), (0, 28, 28), (2, 3, 4, 5)])
def test_idx(shape, pack):
    array = draw(*shape)
    np.testing.assert_array_equal(read_idx(pack(idx(array)), "x"), array)


def test_idx_by_hand():
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255])
    np.testing.assert_array_equal(read_idx(content, "x"), [[1, 2, 3], [4, 5, 255]])


WHOLE = idx(draw(3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x is not an IDX file of bytes: it begins with nothing, not"),
        (b"\x89PNG\r\n", "x is not an IDX file of bytes: it begins with 89 50 4e 47, not"),
        (b"\0\0\x0d\x01" + bytes(8), "begins with 00 00 0d 01"),  # of floats
        (WHOLE[:3], "begins with 00 00 08, not"),
        (WHOLE[:9], "x is cut short: 9 bytes, of 12 in its header"),
        (WHOLE[:-1], r"x should have 24 bytes for an array of \(3, 4\), but has 23"),
        (WHOLE + b"\0", r"x should have 24 bytes for an array of \(3, 4\), but has 25"),
        (gzip.compress(WHOLE)[:-9], "x is damaged, it cannot be unpacked"),
        (gzip.compress(WHOLE)[:-8] + bytes(8), "x is damaged, it cannot be unpacked"),
        (b"\x1f\x8b" + bytes(30), "x is damaged, it cannot be unpacked"),
    ],
    ids=["empty", "PNG", "floats", "magic", "header", "short", "long", "gz-short", "gz-checksum", "gz-none"],
)
def test_idx_that_is_none(content, message):
    with pytest.raises(DataError, match=message):
        read_idx(content, "x")


def test_what_unpacks_into_too_much_is_unpacked_no_further(monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 3 * module.PIECE)
    bomb = gzip.compress(bytes(40 * module.PIECE), 1)
    assert len(bomb) < module.PIECE
    tracemalloc.start()
    with pytest.raises(DataError, match="x is too long: more than 3145728 bytes, unpacked"):
        read_idx(bomb, "x")
    assert tracemalloc.get_traced_memory()[1] < 15 * module.PIECE
    tracemalloc.stop()


def test_a_terabyte_in_a_folder_is_not_read(mnist):
    folder, _ = mnist
    with (folder / "train-images-idx3-ubyte.gz").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(
        DataError, match=r"ubyte\.gz: too long: expected at most 1000000000 bytes, found 1099"
    ):
        load_mnist(folder)


def test_sizes_beyond_64_bits_are_not_believed():
    with pytest.raises(DataError, match="should have"):
        read_idx(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(4), "x")


def test_cifar_record():
    """Its class, then the planes of red, green and blue, row by row."""
    content = bytes([7]) + bytes(range(256)) * 12
    pictures, labels = read_cifar10(content, "x")
    assert labels.tolist() == [7]
    for channel, row, column in ((0, 0, 1), (1, 2, 3), (2, 31, 31)):
        assert pictures[0, channel, row, column] == (1024 * channel + 32 * row + column) % 256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x should be pictures of 3073 bytes each, but has 0 bytes"),
        (bytes(3072), "but has 3072 bytes"),
        (bytes([10]) + bytes(3072), "x is not CIFAR-10: its classes end at 9, and here is a 10"),
    ],
)
def test_cifar_that_is_none(content, message):
    with pytest.raises(DataError, match=message):
        read_cifar10(content, "x")


def test_scaled():
    found = scale_pixels(np.arange(256, dtype=np.uint8))
    assert found.dtype == np.float32
    assert (found[0], found[255]) == (-1, 1)
    np.testing.assert_allclose((found + 1) * 127.5, np.arange(256), atol=1e-4)


# -- a folder of one's own -------------------------------------------------------------------------


def check_mnist(parts, arrays):
    for part, name in zip(parts, ("train", "t10k"), strict=True):
        np.testing.assert_array_equal(part.pictures[:, 0], arrays[f"{name}-images-idx3-ubyte"])
        np.testing.assert_array_equal(part.labels, arrays[f"{name}-labels-idx1-ubyte"])
        assert part.pictures.shape[1:] == (1, 28, 28)
        assert part.labels.dtype == np.int64


def test_mnist_from_a_folder(mnist):
    folder, arrays = mnist
    check_mnist(load_mnist(folder), arrays)
    for name, array in arrays.items():
        (folder / f"{name}.gz").unlink()
        (folder / name).write_bytes(idx(array))
    check_mnist(load_mnist(str(folder)), arrays)


def test_mnist_that_lacks_a_file(mnist):
    folder, _ = mnist
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte\.gz or t10k-labels-idx1-ubyte in '"):
        load_mnist(folder)


@pytest.mark.parametrize("labels", [draw(11), draw(12, 1)])
def test_mnist_with_other_labels(mnist, labels):
    folder, _ = mnist
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    with pytest.raises(
        DataError,
        match=r"^train-images-idx3-ubyte\.gz must be \(N, H, W\) and train-labels-idx1-ubyte\.gz \(N,\), "
        r"but they are \(12, 28, 28\) and",
    ):
        load_mnist(folder)


def check_cifar(parts, records):
    train, test = parts
    expected = np.concatenate([records[name] for name in BATCHES])
    np.testing.assert_array_equal(train.labels, expected[:, 0])
    np.testing.assert_array_equal(train.pictures.reshape(10, -1), expected[:, 1:])
    np.testing.assert_array_equal(test.labels, records["test_batch.bin"][:, 0])
    assert train.pictures.shape == (10, 3, 32, 32)
    assert test.pictures.shape == (2, 3, 32, 32)


def test_cifar_from_a_folder(cifar):
    folder, records = cifar
    check_cifar(load_cifar10(folder), records)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"no data_batch_3\.bin in '"):
        load_cifar10(folder)


# -- the published files ---------------------------------------------------------------------------


@pytest.fixture
def published_mnist(mnist, monkeypatch):
    """The files in the folder have the published checksums."""
    folder, arrays = mnist
    for name in module.MNIST_SHA256:
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        monkeypatch.setitem(module.MNIST_SHA256, name, digest)
    return folder, arrays


def test_mnist_from_the_chosen_folder(published_mnist, monkeypatch):
    folder, arrays = published_mnist
    monkeypatch.setenv("TINYGEN_DATA", str(folder))
    check_mnist(load_mnist(), arrays)


def test_mnist_from_the_network_once(published_mnist, network, tmp_path):
    folder, arrays = published_mnist
    network.update({module.MNIST_URL + name: (folder / name).read_bytes() for name in module.MNIST_SHA256})
    check_mnist(load_mnist(), arrays)
    network.clear()
    check_mnist(load_mnist(), arrays)
    cache = tmp_path / "home/.cache/tinygen"
    assert {path.name for path in cache.iterdir()} == set(module.MNIST_SHA256)


def test_offline_the_error_says_what_to_do():
    with pytest.raises(DataError) as caught:
        load_mnist()
    for needed in ("train-images-idx3-ubyte.gz", ".cache/tinygen", "TINYGEN_DATA", "https://", "no route"):
        assert needed in str(caught.value)


def test_a_wrong_download_is_refused_and_not_kept(network, tmp_path):
    network[module.CIFAR10_URL + module.CIFAR10_FILE] = b"<html>Please log in</html>"
    with pytest.raises(DataError, match="is not the published file: its SHA-256 is"):
        load_cifar10()
    assert not (tmp_path / "home").exists()


def test_other_files_of_the_same_name_need_a_folder(mnist, monkeypatch):
    folder, _ = mnist
    monkeypatch.setenv("TINYGEN_DATA", str(folder))
    with pytest.raises(DataError, match="if it is your own, say in which `folder` it is"):
        load_mnist()


def test_cifar_from_the_archive(cifar, monkeypatch, network):
    folder, records = cifar
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name in records:
            tar.add(folder / name, f"cifar-10-batches-bin/{name}")
    network[module.CIFAR10_URL + module.CIFAR10_FILE] = archive.getvalue()
    monkeypatch.setattr(module, "CIFAR10_SHA256", hashlib.sha256(archive.getvalue()).hexdigest())
    check_cifar(load_cifar10(), records)


def test_mnist_is_the_published_one(monkeypatch):
    if FOLDER is not None:
        monkeypatch.setenv("TINYGEN_DATA", FOLDER)
    try:
        train, test = load_mnist()
    except DataError as error:
        pytest.skip(str(error))
    assert train.pictures.shape == (60_000, 1, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
