"""Checkpoints: kept whole through kills, power cuts, full disks and damage, or refused with the reason."""

import hashlib
import json
import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import crashes
import numpy as np
import pytest

import tinygen
from tinygen.storage.checkpoint import ARRAYS, MANIFEST, seal, to_sealed_json
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.files import CheckpointError
from tinygen.storage.safetensors import load_file, save_file
from tinygen.storage.versions import versions

STATE = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "half": np.array([1.5, -2], dtype=np.float16),
    "n": np.array(7),
    "none": np.zeros((0, 2), dtype=bool),
    "rest": {"loss": 0.1, "name": "é", "list": [1, None, 2**100]},
}


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def saved(checkpoints):
    """The folder of one checkpoint."""
    return checkpoints.save(5, STATE, score=1.25)


def same(a, b):
    return crashes.equal(a, b)


# -- what is saved ---------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(checkpoints, saved):
    loaded = checkpoints.load()
    assert loaded[:3] == (saved, 5, 1.25)
    assert same(loaded.state, STATE)
    assert saved.name == "000001-step-5"
    assert sorted(os.listdir(saved)) == [ARRAYS, MANIFEST]


def test_views_are_saved_as_they_are_read(checkpoints):
    a = np.arange(24.0).reshape(4, 6)
    views = {
        "every other": np.arange(6.0)[::2],
        "backwards": a[0, ::-1],
        "column": a[:, 0],
        "diagonal": a.diagonal(),
        "broadcast": np.broadcast_to(np.float32(3), (2, 3)),
        "bools": (a > 7)[::2, ::-1],
        "bytes": np.arange(40, dtype=np.uint8).reshape(5, 8)[::-2, 1::3],
        "none": a[:0, ::2],
        "no axes": np.array(2.5),
        "Fortran": np.asfortranarray(a),
        "big-endian": np.arange(3, dtype=">i4")[::-1],
    }
    for view in views.values():
        view.flags.writeable = False
    checkpoints.save(1, views)
    state = checkpoints.load().state
    assert state.keys() == views.keys()
    for name, view in views.items():
        expected = view.astype(view.dtype.newbyteorder("="))
        np.testing.assert_array_equal(state[name], expected, strict=True)


def test_any_tool_can_read_and_check_it(saved):
    manifest = json.loads((saved / MANIFEST).read_text())
    content = (saved / ARRAYS).read_bytes()
    assert manifest["files"] == {
        ARRAYS: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    }
    assert manifest["arrays"]["w"]["shape"] == [3, 2]
    assert manifest["arrays"]["half"]["dtype"] == "F16"
    assert manifest["versions"]["numpy"] == np.__version__
    assert load_file(saved / ARRAYS).keys() == {"w", "half", "n", "none"}
    body, seal = (saved / MANIFEST).read_bytes().split(b',\n"seal"')
    assert hashlib.sha256(body).hexdigest().encode() in seal


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    scores = [None, 3, float("nan"), 1, 2, 1, np.float32(5), None]
    kept = []
    for step, score in enumerate(scores):
        checkpoints.save(step, {"step": step}, score)
        kept.append([int(path.name.split("-")[-1]) for path in checkpoints.paths()])
    assert kept == [[0], [0, 1], [1, 2], [2, 3], [3, 4], [3, 4, 5], [3, 5, 6], [3, 6, 7]]
    assert checkpoints.load(checkpoints.best_checkpoint()).state == {"step": 3}
    assert checkpoints.load().state == {"step": 7}
    assert sorted(os.listdir(tmp_path)) == [path.name for path in checkpoints.paths()]


def test_the_last_is_the_last_that_was_written(checkpoints):
    """Also when a run went back and did some steps again."""
    for step in (10, 20, 10):
        checkpoints.save(step, {"x": step})
    assert [path.name for path in checkpoints.paths()] == [
        "000001-step-10",
        "000002-step-20",
        "000003-step-10",
    ]
    assert checkpoints.load().step == 10


def test_other_things_in_the_folder_are_left_alone(checkpoints, saved):
    for name in ("notes", "000001-step-", "1-step-2", "000009-step-1.bak", "x000009-step-1"):
        (checkpoints.folder / name).mkdir()
    assert checkpoints.paths() == [saved]
    checkpoints.save(6, STATE)
    assert len(os.listdir(checkpoints.folder)) == 7


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (1e3, TypeError), (True, TypeError), (np.True_, TypeError), ("5", TypeError), (None, TypeError),
        (np.float32(2), TypeError), (np.array([1]), TypeError), (-5, ValueError), (np.int64(-1), ValueError),
    ],
)  # fmt: skip
def test_a_step_that_is_none_is_refused_at_the_door(checkpoints, step, error):
    """`000001-step-1000.0` would never be found again."""
    with pytest.raises(error, match="step must be"):
        checkpoints.save(step, STATE)
    assert not checkpoints.folder.exists()


@pytest.mark.parametrize("step", [0, np.int64(1000), np.uint8(7), np.array(3), 2**70])
def test_a_step_of_any_kind_of_int_is_found_again(checkpoints, step):
    path = checkpoints.save(step, STATE)
    assert path.name == f"000001-step-{int(step)}"
    loaded = checkpoints.load().step
    assert (loaded, type(loaded)) == (int(step), int)


def test_a_score_that_is_none_is_refused_at_the_door(checkpoints):
    with pytest.raises((TypeError, ValueError)):
        checkpoints.save(1, STATE, score="low")
    assert not checkpoints.folder.exists()


def test_other_versions_and_threads_are_said_in_one_line(checkpoints, saved, capsys):
    checkpoints.load()
    assert capsys.readouterr().err == ""
    crafted(saved, lambda m: m["versions"].update(numpy="1.26.0", threads="64", more="x"))
    checkpoints.load()
    now = versions()
    assert capsys.readouterr().err == (
        f"tinygen: {saved} was saved with numpy 1.26.0 (now {np.__version__}), "
        f"threads 64 (now {now['threads']})\n"
    )
    crafted(
        saved, lambda m: m.update(versions={"python": ["x"] * 99})
    )  # of an older tinygen, or a stranger's
    checkpoints.load()
    assert len(capsys.readouterr().err) < 300 + len(str(saved))


def test_a_closed_console_ends_no_resume(checkpoints, saved, monkeypatch):
    crafted(saved, lambda m: m["versions"].update(numpy="1.26.0"))
    with open(os.devnull, "w") as closed:
        monkeypatch.setattr(sys, "stderr", closed)
    assert checkpoints.load().step == 5
    monkeypatch.setattr(sys, "stderr", None)
    assert checkpoints.load().step == 5


def test_a_folder_that_may_not_be_read(checkpoints, saved, monkeypatch):
    def listdir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(CheckpointError, match=r"checkpoints: cannot be read: .* Permission denied"):
        checkpoints.load()


def test_no_checkpoint(tmp_path, checkpoints):
    assert checkpoints.paths() == []
    assert checkpoints.best_checkpoint() is None
    with pytest.raises(CheckpointError, match="no checkpoint: expected one called 000001-step"):
        checkpoints.load()
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_what_cannot_be_saved_changes_nothing(checkpoints, saved):
    for things, error in (
        ({"x": object()}, TypeError),
        ({"x": np.array([1j])}, CheckpointError),
        ({"x": "\ud800", "y": np.ones(2), "\ud800": np.ones(2)}, CheckpointError),
    ):
        with pytest.raises(error):
            checkpoints.save(6, things)
        assert os.listdir(checkpoints.folder) == [saved.name]


def test_the_functions_name_is_not_taken():
    """`tinygen.checkpoint` computes again what was not kept. A module of that name would hide it."""
    assert callable(tinygen.checkpoint)


# -- kills and power cuts --------------------------------------------------------------------------

NAMES = list(crashes.scenarios(1))


@pytest.fixture
def in_memory(tmp_path):
    """A folder in memory, where the system has one: the disk is a model here, and thousands of files are slow
    on a real one."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_point(in_memory, name):
    answers = crashes.in_a_small_process(crashes.kill_at_every_point, 20, name, in_memory)
    assert answers["lost"] == 0
    assert answers["new"] > 0
    assert answers["old"] + answers["none"] >= 40  # header and 20 arrays: two points each


@pytest.mark.parametrize("name", NAMES)
def test_a_power_cut_at_any_point(in_memory, name):
    answers = crashes.cut_power_at_every_point(crashes.scenarios(2)[name], in_memory, 14)
    assert answers["lost"] == 0
    assert answers["new"] >= 14


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_kills_and_power_cuts(in_memory, name):
    (in_memory / "kill").mkdir()
    (in_memory / "cut").mkdir()
    kills = crashes.in_a_small_process(crashes.kill_at_every_point, 100, name, in_memory / "kill")
    cuts = crashes.in_a_small_process(crashes.cut_power_at_every_point, 100, name, in_memory / "cut", 20)
    assert kills["lost"] == cuts["lost"] == 0
    assert sum(kills.values()) > 200
    assert sum(cuts.values()) > 2000


# -- disks that refuse -----------------------------------------------------------------------------


def refused_at(monkeypatch, call, number, error):
    """The `number`-th of these system calls fails from now on."""
    original, count = getattr(os, call), iter(range(10**9))

    def failing(*args, **kwargs):
        if next(count) >= number:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(os, call, failing)


FULL, READ_ONLY = OSError(28, "No space left on device"), OSError(30, "Read-only file system")
CALLS = [("mkdir", 0), *(("write", n) for n in range(5)), *(("fsync", n) for n in range(4)), ("rename", 0)]


@pytest.mark.parametrize("error", [FULL, READ_ONLY], ids=str)
@pytest.mark.parametrize(("call", "number"), CALLS)
def test_a_disk_that_refuses(monkeypatch, checkpoints, saved, call, number, error):
    with monkeypatch.context() as patch:
        refused_at(patch, call, number, error)
        with pytest.raises(CheckpointError, match=f"checkpoints: cannot be written: .*{error.strerror}"):
            checkpoints.save(6, STATE)
    assert [name for name in os.listdir(checkpoints.folder) if name.startswith(".")] == []
    assert checkpoints.load().step in (5, 6)
    assert checkpoints.load(saved).step == 5
    checkpoints.save(7, STATE)
    assert checkpoints.load().step == 7


def test_a_write_that_takes_a_part_only(monkeypatch, checkpoints):
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: original(fd, bytes(data)[:7]))
    checkpoints.save(5, STATE)
    assert same(checkpoints.load().state, STATE)


def test_a_file_that_may_not_grow(checkpoints, saved):
    """The limit of the system, as a full disk or a quota gives it, in a process of its own."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            checkpoints.save(6, {"x": np.ones(100_000)})
        except CheckpointError as error:
            os._exit(0 if "File too large" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.listdir(checkpoints.folder) == [saved.name]
    assert same(checkpoints.load().state, STATE)


def test_a_folder_that_may_not_be_written(tmp_path):
    """/proc takes no folders from anybody, not even from root."""
    for folder in ("/proc/checkpoints", tmp_path / "file" / "checkpoints"):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match="checkpoints: cannot be written"):
            Checkpoints(folder).save(1, STATE)


# -- damage ----------------------------------------------------------------------------------------


def test_a_flipped_bit_in_any_byte(checkpoints, saved):
    """Of the header, of the arrays and of the manifest: found, and said in which file."""
    rng = random.Random(0)
    tensors = set()
    for name in (ARRAYS, MANIFEST):
        content = (saved / name).read_bytes()
        with (saved / name).open("r+b", buffering=0) as file:
            for at, byte in enumerate(content):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), at)
                with pytest.raises(CheckpointError) as caught:
                    checkpoints.load()
                assert caught.value.file == str(saved / name)
                tensors.add(caught.value.tensor)
                os.pwrite(file.fileno(), bytes([byte]), at)
    assert tensors == {None, "w", "half", "n"}
    assert same(checkpoints.load().state, STATE)


def test_the_damaged_array_is_named(checkpoints, saved):
    content = bytearray((saved / ARRAYS).read_bytes())
    content[-1] ^= 1  # the arrays of the smallest items come last
    (saved / ARRAYS).write_bytes(content)
    sha = json.loads((saved / MANIFEST).read_text())["files"][ARRAYS]["sha256"]
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load()
    message = str(caught.value)
    assert message.startswith(f"{saved / ARRAYS}: tensor 'half': damaged: expected {{'dtype': 'F16', ")
    assert f"'sha256_to_here': '{sha}'}}, found {{'dtype': 'F16'" in message


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
def test_a_truncated_or_longer_file(checkpoints, saved, name):
    content = (saved / name).read_bytes()
    for length in reversed(range(0, len(content), 5)):
        os.truncate(saved / name, length)
        with pytest.raises(CheckpointError, match=name):
            checkpoints.load()
    (saved / name).write_bytes(content + b"\n")
    with pytest.raises(CheckpointError, match=name):
        checkpoints.load()
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read: expected a file, found none"):
        checkpoints.load()


def test_the_one_before_can_be_loaded(checkpoints, saved):
    last = checkpoints.save(6, STATE)
    (last / MANIFEST).write_bytes(b"")
    with pytest.raises(CheckpointError, match="000002-step-6"):
        checkpoints.load()
    assert checkpoints.load(saved).step == 5
    checkpoints.save(7, STATE, score=9)  # and training is not stopped by it
    assert checkpoints.best_checkpoint() == saved
    shutil.rmtree(last)
    assert checkpoints.load().step == 7


def test_files_of_two_checkpoints_do_not_mix(checkpoints, saved):
    other = checkpoints.save(6, {**STATE, "w": STATE["w"] + 1})
    shutil.copy(other / ARRAYS, saved / ARRAYS)
    with pytest.raises(CheckpointError, match="tensor 'w': damaged"):
        checkpoints.load(saved)


# -- checkpoints from strangers --------------------------------------------------------------------


def crafted(saved, change):
    """A manifest that `change` has been at, with a seal that is right."""
    manifest = json.loads((saved / MANIFEST).read_text())
    del manifest["seal"]
    change(manifest)
    (saved / MANIFEST).write_bytes(to_sealed_json(manifest))


HOSTILE = {
    "another format": (lambda m: m.update(format=2), "of another version: expected format 1, found 2"),
    "no format": (lambda m: m.pop("format"), "no manifest"),
    "a path out of the folder": (
        lambda m: m["files"].update({"../../../etc/passwd": m["files"].pop(ARRAYS)}),
        "other files: expected arrays.safetensors, found {'../../../etc/passwd'",
    ),
    "one more file": (lambda m: m["files"].update(x={}), "other files"),
    "files as a list": (lambda m: m.update(files=[ARRAYS]), "no manifest: expected the fields of one"),
    "no files": (lambda m: m.pop("files"), "no manifest"),
    "no arrays": (lambda m: m.update(arrays={}), "no manifest"),
    "arrays as a number": (lambda m: m.update(arrays=7), "no manifest"),
    "another shape": (lambda m: m["arrays"]["w"].update(shape=[2, 3]), "tensor 'w': damaged: .*\\[2, 3\\]"),
    "another dtype": (lambda m: m["arrays"]["n"].update(dtype="F64"), "tensor 'n': damaged: .*'F64'"),
    "another size": (
        lambda m: m["files"][ARRAYS].update(bytes=10**15),
        "another size: expected 10{15} bytes",
    ),
    "a step of text": (lambda m: m.update(step="../../x"), "no manifest"),
    "an array that is not there": (lambda m: m["state"].update(x={"$array": "/etc"}), "no manifest"),
    "an array by a list": (lambda m: m["state"].update(x={"$array": ["w"]}), "no manifest"),
    "no versions": (lambda m: m.pop("versions"), "no manifest"),
    "versions of text": (lambda m: m.update(versions="1"), "no manifest"),
    "no state": (lambda m: m.pop("state"), "no manifest"),
    "a list for a format": (lambda m: m.update(format=[1]), r"of another version: .* found \[1\]"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest(checkpoints, saved, case):
    change, message = HOSTILE[case]
    crafted(saved, change)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load()
    checkpoints.best_checkpoint()


def test_a_manifest_that_is_no_manifest(checkpoints, saved):
    for body in (b"[1, 2", b'{"format": ' + b"[" * 100_000, b"\xff", b'{"format": ' + b"9" * 5000, b""):
        (saved / MANIFEST).write_bytes(body + seal(body))
        with pytest.raises(CheckpointError, match=r"no manifest|damaged"):
            checkpoints.load()


def test_files_that_are_none(checkpoints, saved):
    (saved / ARRAYS).unlink()
    os.mkfifo(saved / ARRAYS)
    with pytest.raises(CheckpointError, match="expected a file"):
        checkpoints.load()
    (saved / ARRAYS).unlink()
    (saved / ARRAYS).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="expected a file"):
        checkpoints.load()


def test_arrays_with_a_hostile_header_and_matching_checksums(checkpoints, saved):
    """Whoever can write the arrays can write the manifest too."""
    save_file(saved / ARRAYS, {"a": np.arange(4, dtype=np.uint8), "b": np.arange(4, dtype=np.uint8)})
    content = (saved / ARRAYS).read_bytes().replace(b"[4,8]", b"[0,4]")
    (saved / ARRAYS).write_bytes(content)
    sha = hashlib.sha256(content[: int.from_bytes(content[:8], "little") + 8]).hexdigest()
    crafted(saved, lambda m: m.update(header=sha, files={ARRAYS: {"bytes": len(content)}}))
    with pytest.raises(CheckpointError, match="tensor 'b': overlaps the one before"):
        checkpoints.load()


def test_a_leftover_that_points_elsewhere_is_not_followed(tmp_path, checkpoints, saved):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (checkpoints.folder / ".writing").symlink_to(tmp_path / "mine")
    with pytest.raises(CheckpointError, match="symbolic link"):
        checkpoints.save(6, STATE)
    assert (tmp_path / "mine" / "file").read_text() == "mine"
    assert checkpoints.load().step == 5
