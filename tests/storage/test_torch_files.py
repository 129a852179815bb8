"""PyTorch's files are read without PyTorch, and what a pickle would run does not run."""

import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tinygen.storage.files import CheckpointError
from tinygen.storage.pickles import PickleReader
from tinygen.storage.torch_files import MAGIC, VERSION, load_torch

# -- files written here, instruction by instruction --------------------------------------------------


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def called(name, arguments):
    module, function = name.rsplit(".", 1)
    return b"c" + f"{module}\n{function}\n".encode() + b"(" + arguments + b"tR"


def tensor(shape=(2, 3), strides=(3, 1), offset=0, length=6, kind="FloatStorage", call="_rebuild_tensor_v2"):
    """The instructions that leave a tensor on the stack."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cpu")
    counts = [b"(" + b"".join(map(number, row)) + b"t" for row in (shape, strides)]
    arguments = storage + number(length) + b"tQ" + number(offset) + counts[0] + counts[1] + b"\x89"
    return called(f"torch._utils.{call}", arguments + called("collections.OrderedDict", b""))


def named(value, name="a"):
    return b"\x80\x02}(" + text(name) + value + b"u."


NUMBERS = np.arange(6, dtype="<f4")
RAW = NUMBERS.tobytes()


def zipped(path, program, numbers=RAW, how=zipfile.ZIP_STORED, **more):
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/data/0", numbers)
        for name, content in more.items():
            file.writestr(f"archive/{name}", content)
    return path


def old(program, numbers=RAW, length=6, keys=("0",), magic=MAGIC):
    sizes = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(value, 2) for value in (magic, VERSION, sizes))
    return head + program + pickle.dumps(list(keys), 2) + struct.pack("<q", length) + numbers


def test_a_file_by_hand(tmp_path):
    program = named(tensor() + text("b.c") + tensor((3,), (2,), 1))
    (tmp_path / "old").write_bytes(old(program))
    for path in (zipped(tmp_path / "new", program, byteorder=b"little"), tmp_path / "old"):
        found = load_torch(path)
        assert list(found) == ["a", "b.c"]
        np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]], strict=False)
        np.testing.assert_array_equal(found["b.c"], [1, 3, 5])
        assert found["a"].dtype == np.float32
        assert list(load_torch(path, prefix="b.")) == ["b.c"]


def test_halves_become_floats(tmp_path):
    program = named(tensor(kind="HalfStorage"))
    found = load_torch(zipped(tmp_path / "x", program, NUMBERS.astype("<f2").tobytes()))["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), NUMBERS)


def test_the_first_pytorch_had_another_call(tmp_path):
    program = named(tensor(call="_rebuild_tensor"))
    np.testing.assert_array_equal(load_torch(zipped(tmp_path / "x", program))["a"].ravel(), NUMBERS)


# -- hostile pickles -----------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch RAN",)


class Builds:
    def __setstate__(self, state):
        raise AssertionError("this ran")


SYSTEM = b"cos\nsystem\n"
HOSTILE = {
    "REDUCE of os.system": (named(SYSTEM + b"(" + text("touch RAN") + b"tR"), "os.system"),
    "pickled by Python": (pickle.dumps({"a": Evil()}, 2), "posix.system|nt.system"),
    "builtins.eval": (named(called("builtins.eval", text("1"))), "builtins.eval"),
    "a dotted name": (named(called("torch._utils.os.system", text("1"))), "torch._utils.os.system"),
    "another name of torch": (named(called("torch._utils._rebuild_parameter", b"")), "_rebuild_parameter"),
    "STACK_GLOBAL": (named(text("os") + text("system") + b"\x93(tR"), "STACK_GLOBAL"),
    "protocol 4": (pickle.dumps({"a": Evil()}, 4), "FRAME"),
    "INST": (named(b"(" + text("touch RAN") + b"ios\nsystem\n"), "INST"),
    "OBJ": (named(b"(" + SYSTEM + text("touch RAN") + b"o"), "OBJ"),
    "NEWOBJ": (pickle.dumps({"a": Builds()}, 2), "NEWOBJ"),
    "NEWOBJ_EX": (named(SYSTEM + b")}\x92"), "NEWOBJ_EX"),
    "EXT1": (named(b"\x82\x01"), "EXT1"),
    "BUILD of a name": (named(SYSTEM + b"}b"), "in the place of a dict"),
    "BUILD of a tensor": (named(tensor() + b"}b"), "in the place of a dict"),
    "POP": (named(SYSTEM + b"q\x000h\x00(tR"), "instruction POP"),
    "a name from the memo": (named(SYSTEM + b"q\x01" + text("b") + b"h\x01(tR"), "os.system"),
    "a memo that is empty": (named(b"h\x05"), "5"),
    "REDUCE of a text": (named(text("os.system") + b"(tR"), "no name"),
    "REDUCE of a dict": (named(b"}(tR"), "no name"),
    "arguments of OrderedDict": (named(called("collections.OrderedDict", SYSTEM)), "collections.OrderedDict"),
    "a name alone": (named(SYSTEM), "names and tensors"),
    "a persistent id in text": (named(b"Pstorage\n"), "PERSID"),
    "another storage": (named(tensor(kind="QUInt8Storage")), "QUInt8Storage"),
    "a storage of os": (named(tensor().replace(b"torch\nFloat", b"os\nFloat")), "os.FloatStorage"),
    "a list as a name": (b"\x80\x02}(]" + tensor() + b"u.", "unhashable"),
    "a number as a name": (b"\x80\x02}(K\x01" + tensor() + b"u.", "names and tensors"),
    "no dict": (b"\x80\x02].", "state_dict"),
    "an empty stack": (b"\x80\x02.", "unpack"),
    "no mark": (b"\x80\x02}u.", "empty list"),
    "a mark in a tuple": (b"\x80\x02((\x85.", "too few"),
    "no STOP": (named(tensor())[:-1], "exhausted"),
    "nothing": (b"", "exhausted"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("is_old", [False, True])
def test_hostile_pickles_are_refused_by_name(name, is_old, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, why = HOSTILE[name]
    if is_old:
        (tmp_path / "x").write_bytes(old(program))
    else:
        zipped(tmp_path / "x", program)
    with pytest.raises(CheckpointError) as caught:
        load_torch(tmp_path / "x")
    message = str(caught.value)
    assert "\n" not in message
    assert is_old or any(part in message for part in why.split("|")), message
    assert os.listdir(tmp_path) == ["x"]


def test_python_itself_would_run_it(tmp_path, monkeypatch):
    """The files above are not harmless."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["pickled by Python"][0])
    assert os.listdir(tmp_path) == ["RAN"]


SIZES = {
    "a shape beyond the storage": tensor((2, 4), (3, 1)),
    "an offset beyond it": tensor(offset=1),
    "strides beyond it": tensor(strides=(4, 1)),
    "a stride of 0 that multiplies it": tensor((2_000_000_000,), (0,)),
    "a negative stride": tensor(strides=(-3, 1)),
    "a negative offset": tensor(offset=-1),
    "a huge storage": tensor((2_000_000_000,), (1,), length=2_000_000_000),
    "one axis too few": tensor(strides=(1,)),
    "65 axes": tensor((1,) * 65, (1,) * 65),
    "a short storage": tensor((2,), (1,), length=5),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("is_old", [False, True])
def test_sizes_are_checked_before_memory_is_taken(name, is_old, tmp_path):
    if is_old:
        (tmp_path / "x").write_bytes(old(named(SIZES[name])))
    else:
        zipped(tmp_path / "x", named(SIZES[name]))
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        load_torch(tmp_path / "x")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_memo_at_a_huge_place_takes_no_memory():
    """Python's own machine makes a list of that length."""
    program = b"\x80\x02}r\xff\xff\xff\x7f."
    tracemalloc.start()
    assert PickleReader("x", io.BytesIO(program), None, None).read() == {}
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_tensors_that_share_a_storage_take_no_memory(tmp_path):
    """A thousand names for one storage of a megabyte: they are views of it."""
    length = 250_000
    one = tensor((length,), (1,), length=length)
    many = b"".join(text(str(i)) + b"h\x01" for i in range(1000))
    path = zipped(tmp_path / "x", named(one + b"q\x01" + many), bytes(4 * length))
    tracemalloc.start()
    assert len(load_torch(path)) == 1001
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_damaged_files(tmp_path):
    """A file cut at any place, and a file with any byte changed, is read or refused."""
    new, rng = zipped(tmp_path / "new", named(tensor())).read_bytes(), np.random.default_rng(0)
    for whole in (new, old(named(tensor()))):
        for end in range(0, len(whole), 17):
            (tmp_path / "x").write_bytes(whole[:end])
            with pytest.raises(CheckpointError):
                load_torch(tmp_path / "x")
        for _ in range(40):
            changed = bytearray(whole)
            changed[rng.integers(len(whole))] = rng.integers(256)
            (tmp_path / "x").write_bytes(changed)
            with contextlib.suppress(CheckpointError):
                load_torch(tmp_path / "x")


def test_zip_files_that_are_none_of_pytorchs(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w") as file:
        file.writestr("x", b"")
    cases = {
        "one data.pkl": tmp_path / "a",
        "not compressed": zipped(tmp_path / "b", named(tensor()), how=zipfile.ZIP_DEFLATED),
        "24 bytes": zipped(tmp_path / "c", named(tensor()), bytes(20)),
        "at most 24 bytes": zipped(tmp_path / "d", named(tensor()), bytes(28)),
        "little": zipped(tmp_path / "e", named(tensor()), byteorder=b"big"),
        "data/9": zipped(tmp_path / "f", named(tensor().replace(text("0"), text("9")))),
    }
    for why, path in cases.items():
        with pytest.raises(CheckpointError, match=why):
            load_torch(path)


def test_old_files_that_do_not_fit(tmp_path):
    program = named(tensor())
    cases = {
        "its older format": old(program, magic=1),
        "keys of the storages": old(program, keys=("0", "1")),
        "expected 6, found 7": old(program, length=7),
        "truncated": old(program, RAW[:-1]),
        "neither": b"hello",
    }
    for why, content in cases.items():
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError, match=why):
            load_torch(tmp_path / "x")


# -- parity --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_zip", [True, False])
def test_files_of_pytorch(is_zip, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(3, 2))
    state = module.state_dict()
    x = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(**state, transposed=x.T, part=x[1:, ::2], half=x.half(), empty=x[:0], number=x[1, 1])
    state["double"] = x.double()
    torch.save(state, tmp_path / "x", _use_new_zipfile_serialization=is_zip)
    found = load_torch(tmp_path / "x")
    assert list(found) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.numpy())
    assert list(load_torch(tmp_path / "x", "0.")) == ["0.weight", "0.bias"]
    torch.save(module, tmp_path / "x", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError):
        load_torch(tmp_path / "x")
