"""The safetensors format: written to the byte, read as its library does, and no harm from strangers."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from foreign_files import BASES, JSON_FILE, described, mutated, packed
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.nn import Parameter
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import HEADER_LIMIT, NAMES, load_file, parse, read_metadata, save_file
from tinygen.tensor import Tensor

RNG = np.random.default_rng(0)
EVERY_DTYPE = {
    name: RNG.integers(0, 2 if name == "BOOL" else 100, (3, 5)).astype(dtype) for dtype, name in NAMES.items()
}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# -- exact -----------------------------------------------------------------------------------------


def test_the_bytes_of_a_file(tmp_path):
    arrays = {"b": np.array([1, 255], dtype=np.uint8), "a": np.array([[1.0, -2.0]], dtype=np.float32)}
    save_file(tmp_path / "x", arrays, {"format": "é"})
    header = (
        '{"__metadata__":{"format":"é"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
        '"b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    data = bytes.fromhex("0000803f000000c001ff")
    assert (tmp_path / "x").read_bytes() == len(header).to_bytes(8, "little") + header + data


def test_an_empty_file_of_arrays(tmp_path):
    save_file(tmp_path / "x", {})
    assert (tmp_path / "x").read_bytes() == b"\x08\0\0\0\0\0\0\0{}      "
    assert load_file(tmp_path / "x") == {}
    assert read_metadata(tmp_path / "x") == {}


VIEWS = {
    "transposed": lambda a: a.T,
    "every other column": lambda a: a[:, ::2],
    "backwards": lambda a: a[::-1],
    "Fortran order": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a[0], (4, 5)),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "a number": lambda a: a[0, 0],
    "no axes": lambda a: np.array(a[0, 0]),
    "no rows": lambda a: a[:0],
    "a gap in a buffer": lambda a: np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_written_is_read(tmp_path, view):
    arrays = {name: VIEWS[view](a) for name, a in EVERY_DTYPE.items()}
    before = {name: np.array(a) for name, a in arrays.items()}
    save_file(tmp_path / "x", arrays)
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == arrays.keys()
    for name, a in before.items():
        expected = a.astype(np.float32 if name == "F16" else a.dtype.newbyteorder("="))
        assert same(loaded[name], expected), name
        assert np.array_equal(arrays[name], a)
        loaded[name][...] = 0  # it is the caller's own


@st.composite
def views(draw):
    """A view of an array of any dtype: rows, columns, single places and steps of both signs, turned axes, a
    diagonal, what was broadcast, read-only, foreign byte order; from no axes to three, sizes from 0."""
    dtype = np.dtype(draw(st.sampled_from(list(NAMES))))
    shape = draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    a = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    a = np.asfortranarray(a) if draw(st.booleans()) else a
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(["slices", "turned", "diagonal", "broadcast", "bytes"]))
        if kind == "slices":
            steps = st.builds(slice, st.none(), st.none(), st.sampled_from([1, 2, 3, -1, -2]))
            a = a[tuple(draw(st.one_of(steps, st.just(0)) if n else steps) for n in a.shape)]
        elif kind == "turned":
            a = a.transpose(draw(st.permutations(range(a.ndim))))
        elif kind == "diagonal" and a.ndim > 1:
            a = a.diagonal()
        elif kind == "broadcast":
            a = np.broadcast_to(a, (draw(st.integers(0, 3)), *a.shape))
        elif kind == "bytes" and a.flags.c_contiguous and a.ndim:
            a = a.view(np.uint8)[..., :: draw(st.sampled_from([1, 2, -1]))]
    a = np.asarray(a)
    swapped = a.astype(a.dtype.newbyteorder("S")) if draw(st.booleans()) else a
    swapped.flags.writeable = False
    return swapped


@given(st.lists(views(), min_size=1, max_size=3))
def test_views_of_any_strides_are_written_as_they_are_read(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "views"
    given_names = {f"a{i}": a for i, a in enumerate(arrays)}
    save_file(path, given_names)
    loaded = load_file(path)
    for name, a in given_names.items():
        native = np.array(a, a.dtype.newbyteorder("="), order="C")
        assert same(loaded[name], native.astype(np.float32) if native.dtype == np.float16 else native)


def test_tensors_memmaps_and_lists_are_written_too(tmp_path):
    on_disk = np.memmap(tmp_path / "map", np.int16, "w+", shape=(4, 3))
    on_disk[:] = np.arange(12).reshape(4, 3)
    arrays = {"p": Parameter(np.ones((2, 2))), "t": Tensor(np.arange(4.0))[::-2], "m": on_disk.T, "l": [1, 2]}
    save_file(tmp_path / "x", arrays)
    loaded = load_file(tmp_path / "x")
    assert loaded["p"].tolist() == [[1, 1], [1, 1]]
    assert loaded["t"].tolist() == [3, 1]
    assert same(loaded["m"], np.arange(12, dtype=np.int16).reshape(4, 3).T)
    assert loaded["l"].tolist() == [1, 2]


def test_special_values_keep_their_bits(tmp_path):
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], dtype=np.uint32)  # a nan, -inf, -0, the least
    save_file(tmp_path / "x", {"x": bits.view(np.float32)})
    assert np.array_equal(load_file(tmp_path / "x")["x"].view(np.uint32), bits)


def test_float16_is_widened_or_kept(tmp_path):
    arrays = {"half": np.array([0.1, 6e4], np.float16), "single": np.array([0.1], np.float32)}
    save_file(tmp_path / "a", arrays)
    assert {array.dtype.name for array in load_file(tmp_path / "a").values()} == {"float32"}
    kept = load_file(tmp_path / "a", keep_half=True)
    assert all(same(kept[name], array) for name, array in arrays.items())


def test_each_array_has_memory_of_its_own(tmp_path):
    save_file(tmp_path / "a", {name: np.zeros(1000, np.float32) for name in "abc"})
    for array in load_file(tmp_path / "a").values():
        assert array.base is None or array.base.nbytes == array.nbytes


def test_bfloat16_is_widened(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x8000, 0x0001], dtype="<u2")
    (tmp_path / "x").write_bytes(packed({"x": described("BF16", [5], 0, 10)}, bits.tobytes()))
    loaded = load_file(tmp_path / "x")["x"]
    assert same(loaded, np.array([1, -2, np.inf, -0.0, 2.0**-133], dtype=np.float32))


def test_arrays_that_are_not_aligned_are_copied():
    header = {"a": described("U8", [1], 0, 1), "b": described("F64", [2], 1, 17)}
    content = np.frombuffer(packed(header, b"\1" + np.array([3.0, 4.0]).tobytes()), dtype=np.uint8)
    loaded = parse("x", content)
    assert loaded["b"].flags.aligned
    assert loaded["b"].tolist() == [3, 4]


def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path):
    save_file(tmp_path / "x", {"a": np.ones(3)})
    old = (tmp_path / "x").read_bytes()
    for arrays in ({"a": np.ones(3, dtype=complex)}, {"a": np.array(["text"])}, {"a": np.array([None])}):
        with pytest.raises(CheckpointError, match=r"x: tensor 'a': no such dtype: expected F64, .* found"):
            save_file(tmp_path / "x", arrays)
    for name in ("__metadata__", "\ud800", 7):
        with pytest.raises(CheckpointError):
            save_file(tmp_path / "x", {name: np.ones(3)})
    with pytest.raises(CheckpointError, match="texts"):
        save_file(tmp_path / "x", {}, {"steps": 3})
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_file(tmp_path / "none" / "x", {})
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == old


def test_more_names_than_a_header_may_hold(tmp_path):
    with pytest.raises(CheckpointError, match=f"at most|header of {HEADER_LIMIT} bytes"):
        save_file(tmp_path / "x", {}, {"long": "x" * HEADER_LIMIT})


# -- parity ----------------------------------------------------------------------------------------


def test_the_library_reads_ours_and_we_read_its(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {**EVERY_DTYPE, "none": np.zeros((0, 3)), "é/.": np.ones((2, 1, 2), np.float32)}
    save_file(tmp_path / "ours", arrays, {"format": "np"})
    library.save_file(arrays, tmp_path / "theirs", {"format": "np"})
    for theirs in library.load_file(tmp_path / "ours"), library.load_file(tmp_path / "theirs"):
        assert theirs.keys() == arrays.keys()
        assert all(same(theirs[name], a) for name, a in arrays.items())
    ours = load_file(tmp_path / "theirs")
    assert read_metadata(tmp_path / "theirs") == {"format": "np"}
    assert ours.keys() == arrays.keys()
    assert all(same(ours[n], a.astype(np.float32) if n == "F16" else a) for n, a in arrays.items())


def test_the_strides_that_the_library_forgets(tmp_path):
    """safetensors 0.8.0 writes an array's memory as it lies, whatever its strides (its issue 825)."""
    library = pytest.importorskip("safetensors.numpy")
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file(tmp_path / "x", {"a": a.T})
    assert np.array_equal(library.load_file(tmp_path / "x")["a"], a.T)


def test_bfloat16_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    halves = {"BF16": bits.view(torch.bfloat16), "F16": bits.clone().view(torch.float16)}  # all there are
    library.save_file(halves, tmp_path / "x")
    loaded = load_file(tmp_path / "x")
    for name, half in halves.items():
        wide = half.float().numpy()
        assert loaded[name].dtype == np.float32
        assert np.array_equal(loaded[name], wide, equal_nan=True)
        finite = ~np.isnan(wide)
        assert np.array_equal(np.signbit(loaded[name][finite]), np.signbit(wide[finite]))


# -- files from strangers --------------------------------------------------------------------------

F = described("F32", [2], 0, 8)
EIGHT = bytes(8)
HOSTILE = {
    "nothing": (b"", "truncated: expected at least 8 bytes, found 0", None),
    "half a length": (b"\x02\0\0", "truncated", None),
    "a header beyond the file": (b"\x08\0\0\0\0\0\0\0{}", "truncated in the header: expected 16", None),
    "a header of exabytes": (b"\xff" * 8 + b"{}", "too long: expected at most 10000000 bytes", None),
    "no JSON": (packed(b"{this is not"), "no JSON: expected JSON in UTF-8", None),
    "no object": (packed(b"[1, 2]"), "no JSON object: expected b'{' first", None),
    "a space first": (packed(b" {}"), "no JSON object", None),
    "no UTF-8": (packed(b'{"\xff": 1}'), "no JSON: expected JSON in UTF-8, found \"'utf-8'", None),
    "half a surrogate pair": (packed({"\ud800": F}, EIGHT), "texts", None),
    "more levels than a stack": (packed(b'{"a":' + b"[" * 100_000), "no JSON", None),
    "more digits than Python reads": (packed(b'{"a": ' + b"9" * 5000 + b"}"), "no JSON", None),
    "two of a name": (packed(b'{"a": 1, "a": 2}'), "a name comes twice in the header: .* found 'a'", None),
    "two shapes": (
        packed(b'{"a": {"dtype": "U8", "shape": [8], "shape": [0], "data_offsets": [0, 8]}}', EIGHT),
        "twice in the header: .* found 'shape'",
        None,
    ),
    "metadata as a list": (packed({"__metadata__": ["x"]}), "texts", None),
    "a number in the metadata": (packed({"__metadata__": {"x": 1}}), "texts", None),
    "no description": (packed({"a": None}), "not described as an array", "a"),
    "a field missing": (packed({"a": {"dtype": "F32", "shape": []}}), "not described", "a"),
    "a field too many": (packed({"a": {**F, "url": "x"}}, EIGHT), "not described", "a"),
    "an unknown dtype": (packed({"a": {**F, "dtype": "F8_E4M3"}}, EIGHT), "unknown dtype: .*'F8_E4M3'", "a"),
    "a list as dtype": (packed({"a": {**F, "dtype": ["F32"]}}, EIGHT), "unknown dtype", "a"),
    "a negative axis": (packed({"a": {**F, "shape": [-2]}}, EIGHT), "impossible shape.*\\[-2\\]", "a"),
    "two negative axes": (packed({"a": {**F, "shape": [-1, -2]}}, EIGHT), "impossible shape", "a"),
    "true as an axis": (packed({"a": {**F, "shape": [2, True]}}, EIGHT), "impossible shape", "a"),
    "half an axis": (packed({"a": {**F, "shape": [2.0]}}, EIGHT), "impossible shape", "a"),
    "a shape of text": (packed({"a": {**F, "shape": "2"}}, EIGHT), "impossible shape", "a"),
    "65 axes": (packed({"a": {**F, "shape": [2] + 64 * [1]}}, EIGHT), "impossible shape", "a"),
    "a huge axis": (packed({"a": {**F, "shape": [2**62]}}, EIGHT), "what fits into memory", "a"),
    "axes that overflow to 8 bytes": (
        packed({"a": {**F, "shape": [2**33 + 1, 2**31 * 2]}}, EIGHT),
        "what fits into memory",
        "a",
    ),
    "nothing, of a huge axis": (packed({"a": described("F32", [0, 2**62], 0, 0)}), "fits into memory", "a"),
    "offsets in the wrong order": (packed({"a": {**F, "data_offsets": [8, 0]}}, EIGHT), "data_offsets", "a"),
    "an offset below 0": (packed({"a": {**F, "data_offsets": [-8, 0]}}, EIGHT), "data_offsets", "a"),
    "an end beyond the file": (packed({"a": {**F, "data_offsets": [0, 16]}}, EIGHT), "<= end <= 8", "a"),
    "three offsets": (packed({"a": {**F, "data_offsets": [0, 4, 8]}}, EIGHT), "data_offsets", "a"),
    "offsets of text": (packed({"a": {**F, "data_offsets": ["0", "8"]}}, EIGHT), "data_offsets", "a"),
    "more offsets than shape": (
        packed({"a": {**F, "shape": [1]}}, EIGHT),
        r"do not fit the shape: expected 4 bytes for F32 of shape \[1\], found 8 bytes",
        "a",
    ),
    "a truncated array": (packed({"a": F}, EIGHT[:7]), "0 <= begin <= end <= 7", "a"),
    "the same bytes twice": (packed({"a": F, "b": F}, EIGHT), "overlaps", "b"),
    "an overlap": (
        packed({"a": described("U8", [5], 0, 5), "b": described("U8", [4], 4, 8)}, EIGHT),
        "overlaps the one before: expected its begin at 5, found 4",
        "b",
    ),
    "a hole": (
        packed({"a": described("U8", [3], 0, 3), "b": described("U8", [4], 4, 8)}, EIGHT),
        "comes after a hole: expected its begin at 3, found 4",
        "b",
    ),
    "a hole at the start": (packed({"a": described("U8", [4], 4, 8)}, EIGHT), "hole", "a"),
    "bytes at the end": (packed({"a": F}, EIGHT + b"x"), "after the last array: expected 8 .* found 9", None),
    "bytes of nobody": (packed({}, b"x"), "bytes after the last array", None),
    "a bool of 2": (packed({"a": described("BOOL", [2], 0, 2)}, b"\1\2"), "0 or 1, found 2", "a"),
    "the name as a path": (packed({"../../etc/x": {**F, "dtype": "x"}}, EIGHT), "dtype", "../../etc/x"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file(tmp_path, case):
    content, message, tensor = HOSTILE[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_file(path)
    assert caught.value.file == str(path)
    assert caught.value.tensor == tensor
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 400 + len(str(path))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    for name in ("pipe", "none", ".", "nul\0"):
        for read in (load_file, read_metadata):
            with pytest.raises(CheckpointError, match="expected a file, found none with this name"):
                read(tmp_path / name)


def test_a_terabyte_that_takes_no_place_is_refused_before_it_is_read(tmp_path):
    """With a header of zeros, with another's, and with one that is right: then memory does not hold it."""
    sound = packed({"a": described("U8", [2**40], 0, 2**40)})
    for content, message in (
        (b"", "no JSON object"),
        (packed({}), "after the last"),
        (sound, "fits into mem"),
    ):
        with (tmp_path / "x").open("wb") as file:
            file.write(content)
            file.truncate(len(content) + 2**40)
        with pytest.raises(CheckpointError, match=message):
            load_file(tmp_path / "x")
        if content == sound:
            assert read_metadata(tmp_path / "x") == {}


def test_a_header_that_promises_much_costs_nothing():
    """An array of a terabyte, in a file of a hundred bytes; and a header said to be as long as the limit."""
    huge = packed({"a": described("F64", [2**37], 0, 2**40)})
    promised = HEADER_LIMIT.to_bytes(8, "little") + b"{}"
    for content in (huge, promised):
        tracemalloc.start()
        with pytest.raises(CheckpointError):
            parse("x", np.frombuffer(content, dtype=np.uint8))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000


def test_the_largest_header_is_read_in_bounded_memory():
    """JSON grows as it is read: HEADER_LIMIT keeps that below half a gigabyte."""
    content = np.frombuffer(packed(b'{"a":[' + b"[[]]," * (HEADER_LIMIT // 50)), dtype=np.uint8)
    tracemalloc.start()
    with pytest.raises(CheckpointError):
        parse("x", content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * content.size


# -- the fuzz --------------------------------------------------------------------------------------


def read_or_refused(content):
    """What `parse` gives for any bytes: arrays whose sizes are bounded by the file, or CheckpointError."""
    try:
        arrays = parse("fuzz", np.frombuffer(bytearray(content), dtype=np.uint8))
    except CheckpointError as refused:
        error = refused
    else:
        assert sum(a.nbytes for a in arrays.values()) <= 2 * len(content)  # bfloat16 doubles
        return arrays
    assert error.file == "fuzz"
    assert str(error).startswith("fuzz: ")
    return None


def agrees_with_the_library(content, arrays):
    """The library accepts every file that we accept, with the same bytes."""
    import safetensors

    theirs = dict(safetensors.deserialize(bytes(content)))
    assert theirs.keys() == arrays.keys()
    for name, tensor in theirs.items():
        assert list(arrays[name].shape) == tensor["shape"]
        if tensor["dtype"] != "BF16":
            assert arrays[name].tobytes() == bytes(tensor["data"])


CONTENTS = st.one_of(mutated(), mutated(), mutated(), JSON_FILE, st.binary(max_size=64))


@settings(max_examples=400)
@given(CONTENTS)
def test_fuzz(content):
    read_or_refused(content)


@pytest.mark.slow
@settings(max_examples=100_000)
@given(CONTENTS)
def test_fuzz_for_long(content):
    pytest.importorskip("safetensors")
    if (arrays := read_or_refused(content)) is not None:
        agrees_with_the_library(content, arrays)


def test_the_fuzz_reaches_both_ends():
    """Of the mutated files some are still sound and most are not, and the refusals are of many kinds."""
    sound, refusals = 0, set()

    @settings(max_examples=300, database=None)
    @given(CONTENTS)
    def count(content):
        nonlocal sound
        try:
            parse("fuzz", np.frombuffer(content, dtype=np.uint8))
            sound += 1
        except CheckpointError as error:
            refusals.add(str(error).split(": expected")[0].split(": ")[-1])

    count()
    assert sound > 20
    assert len(refusals) >= 10, refusals


def test_the_files_that_are_mutated_are_sound():
    for content in BASES:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert len(parse("x", np.frombuffer(content, dtype=np.uint8))) == len(
            header.keys() - {"__metadata__"}
        )
