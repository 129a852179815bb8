"""Untrusted files are refused before they are read if they are not regular files, too long, or not JSON.
Written files keep their mode, and nothing is left beside them."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from tinygen.storage import files
from tinygen.storage.files import CheckpointError, open_plain, parse_json, read_json, read_text, replace_file
from tinygen.storage.safetensors import load_file, save_file


def test_text_and_json_are_read(tmp_path):
    (tmp_path / "a.json").write_text('{"é": [1]}', "utf-8")
    os.symlink("a.json", tmp_path / "link.json")
    for name in ("a.json", "link.json"):
        assert read_text(tmp_path / name, 11) == '{"é": [1]}'  # é has two bytes
        assert read_json(str(tmp_path / name), 11) == {"é": [1]}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pipe", "none with this name: it is a pipe"),  # to open it would wait for ever
        (".", "none with this name: it is a folder"),
        ("/dev/zero", "none with this name: it is a device"),
        ("dangling", "none with this name"),
        ("none", "none with this name"),
        ("nul\0", "none with this name"),
        ("circle", "Too many levels"),
        ("x" * 5000, "File name too long"),
    ],
)
def test_only_plain_files_are_read(tmp_path, name, found):
    os.mkfifo(tmp_path / "pipe")
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("circle", tmp_path / "circle")
    for read in (lambda path: read_json(path, 10), lambda path: read_text(path, 10), open_plain):
        with pytest.raises(CheckpointError, match="cannot be read: expected a") as caught:
            read(tmp_path / name)
        assert found in str(caught.value.found)


def test_a_long_file_is_refused_by_its_size(tmp_path):
    """A terabyte that takes no place on the disk."""
    with (tmp_path / "long").open("wb") as file:
        file.truncate(2**40)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"too long: expected at most 10 bytes, found 1099511627776"):
        read_json(tmp_path / "long", 10)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff{}", "expected text in UTF-8, found .*byte 0xff"),
        (b"\xef\xbb\xbf{}", "expected JSON, found 'Unexpected UTF-8 BOM"),
        (b"", "expected JSON"),
        (b"[" * 100_000, "expected JSON, found 'maximum recursion"),
        (b'{"a":' * 100_000, "expected JSON, found 'maximum recursion"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "expected JSON, found 'Exceeds the limit"),
        (b"[1]", r"expected a JSON object, found \[1\]"),
        (b"null", "expected a JSON object, found None"),
        (json.dumps("x" * 1000).encode(), r"expected a JSON object, found 'x+\.\.\. \(1002 characters\)"),
    ],
)
def test_what_is_no_json_object(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"x\.json: cannot be read: {message}") as caught:
        read_json(tmp_path / "x.json", 1_000_000)
    assert "\n" not in str(caught.value)


def test_json_that_would_grow_too_much_is_not_read():
    """27 bytes of memory for each byte of text: 99 MB took 2.6 GB."""
    for text in ("[" + "[[]]," * 2_000_000 + "0]", '{"a":[' + '{"":0},' * 3_000_000 + "0]}"):
        tracemalloc.start()
        with pytest.raises(
            CheckpointError, match="too much JSON: expected at most 500000000 bytes of memory"
        ):
            parse_json("x", text)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()


def test_a_log_of_many_rows_is_read():
    rows = [{"step": i, "loss": i / 7, "val": None} for i in range(20_000)]
    assert parse_json("x", json.dumps({"rows": rows}))["rows"] == rows


# -- what is written -------------------------------------------------------------------------------


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_who_may_read_a_file_stays_as_it_was(tmp_path):
    path = tmp_path / "x"
    replace_file(path, [b"1"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # a new one follows the umask
    for mode in (0o600, 0o664, 0o444, 0o755):
        path.chmod(mode)
        replace_file(path, [b"2"])
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif("os.getuid() != 0", reason="only root gives files away")
def test_root_takes_nobody_s_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    os.chown(path, 1234, 1235)
    path.chmod(0o640)
    replace_file(path, [b"2"])
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 1235, 0o640)


def test_what_was_private_is_never_open_while_it_is_written(tmp_path):
    path, seen = tmp_path / "x", []
    path.write_bytes(b"1")
    path.chmod(0o600)

    def pieces():
        seen.extend(stat.S_IMODE((tmp_path / name).stat().st_mode) for name in os.listdir(tmp_path))
        yield b"2"

    replace_file(path, pieces())
    assert seen == [0o600, 0o600]


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        names = [f".x.{dead.pid}", f".x.{dead.pid}.140", f".x.{10**30}"]
        kept = [
            f".x.{other.pid}",
            f".x.{other.pid}.7",
            ".x.y",
            f".xy.{dead.pid}",
            f"x.{dead.pid}",
            ".x.1.2.3",
        ]
        for name in (*names, *kept):
            (tmp_path / name).write_bytes(b"")
        save_file(tmp_path / "x", {"a": np.ones(2)})
        assert sorted(os.listdir(tmp_path)) == sorted(["x", *kept])
        other.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_ends_no_save(tmp_path, monkeypatch, code):
    def fsync(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.os, "fsync", fsync)
    save_file(tmp_path / "x", {"a": np.ones(2)})
    assert load_file(tmp_path / "x")["a"].tolist() == [1, 1]


def test_a_folder_that_may_be_written_and_not_read_ends_no_save(tmp_path, monkeypatch):
    original = os.open

    def refused(path, flags, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, flags, *args, **kwargs)

    monkeypatch.setattr(files.os, "open", refused)
    save_file(tmp_path / "x", {"a": np.ones(2)})
    assert load_file(tmp_path / "x")["a"].tolist() == [1, 1]


def test_a_sync_that_fails_is_said(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save_file(tmp_path / "x", {"a": np.ones(2)})
    assert os.listdir(tmp_path) == []
