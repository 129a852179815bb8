"""Files of strangers: what is no plain file, is too long, or is no JSON is refused before it is read."""

import json
import os
import tracemalloc

import pytest

from tinygen.files import CheckpointError, read_bytes, read_json, read_text


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
    for read in (lambda path: read_json(path, 10), lambda path: read_text(path, 10), read_bytes):
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
