"""Loading texts without a network, and cutting them into batches."""

import hashlib
import io
import os
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from http.client import IncompleteRead
from pathlib import Path

import numpy as np
import pytest

from tinygen.data import DataError, load_text, random_batch, train_val_split
from tinygen.data import text as module

FOLDER = os.environ.get("TINYGEN_DATA")
SHAKESPEARE = "First Citizen:\nBefore we proceed any further, hear me speak.\n"


class Network:
    """A replacement for `urllib.request.urlopen`: no test goes online."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: bytes | Exception = OSError("no route to host")

    def urlopen(self, url: str, timeout: float) -> io.BytesIO:
        assert timeout > 0
        self.asked.append(url)
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """An empty home, no TINYGEN_DATA, a short Shakespeare, and no way out."""
    fake = Network()
    monkeypatch.setattr(urllib.request, "urlopen", fake.urlopen)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    source = module.SOURCES["shakespeare"]
    short = replace(source, sha256=hashlib.sha256(SHAKESPEARE.encode()).hexdigest())
    monkeypatch.setitem(module.SOURCES, "shakespeare", short)
    return fake


# -- by name ---------------------------------------------------------------------------------------


def test_topics_needs_nothing(network: Network) -> None:
    text = load_text("topics")
    assert 400_000 < len(text) < 600_000
    assert text.startswith('The "assert" statement')  # the first of the sorted sections
    assert network.asked == []


def test_topics_are_sorted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydoc_data.topics.topics", {"b": "two", "a": "one"})
    assert load_text("topics") == "one\ntwo"


@pytest.mark.parametrize("file", ["tinyshakespeare.txt", "input.txt"])
def test_the_chosen_folder_comes_first(
    file: str, network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / file).write_bytes(SHAKESPEARE.encode())
    cache = tmp_path / "home/.cache/tinygen"
    cache.mkdir(parents=True)
    (cache / "tinyshakespeare.txt").write_bytes(b"not looked at")
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    assert load_text("shakespeare") == SHAKESPEARE
    assert network.asked == []


def test_the_network_comes_last_and_once(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))  # where it is not
    network.answer = SHAKESPEARE.encode()
    assert load_text("shakespeare") == load_text("shakespeare") == SHAKESPEARE
    assert network.asked == [module.SOURCES["shakespeare"].url]
    cache = tmp_path / "home/.cache/tinygen"
    assert [path.name for path in cache.iterdir()] == ["tinyshakespeare.txt"]


@pytest.mark.parametrize("failure", [OSError("no route to host"), IncompleteRead(b"half")])
def test_offline_the_error_says_what_to_do(network: Network, failure: Exception) -> None:
    network.answer = failure
    with pytest.raises(DataError) as caught:
        load_text("shakespeare")
    for needed in ("tinyshakespeare.txt", ".cache/tinygen", "TINYGEN_DATA", "https://", "topics"):
        assert needed in str(caught.value)
    assert str(caught.value).startswith("tinyshakespeare.txt is not here")
    assert "put it as tinyshakespeare.txt into a folder" in str(caught.value)


def test_a_wrong_download_is_refused_and_not_kept(network: Network, tmp_path: Path) -> None:
    network.answer = b"<html>Please log in</html>"
    with pytest.raises(DataError, match="is not the published file: its SHA-256 is"):
        load_text("shakespeare")
    assert not (tmp_path / "home").exists()


def test_a_damaged_file_is_refused(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(SHAKESPEARE[:-1].encode())
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"input\.txt is not the published file"):
        load_text("shakespeare")
    assert network.asked == []


def test_the_names_are_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    if FOLDER is not None:
        monkeypatch.setenv("TINYGEN_DATA", FOLDER)
    try:
        names = load_text("names").split()
    except DataError as error:
        pytest.skip(str(error))
    assert len(names) == 32_033
    assert names[:2] == ["emma", "olivia"]


# -- by path ---------------------------------------------------------------------------------------


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("eins\r\nzwölf\r".encode())
    assert load_text(path) == load_text(str(path)) == "eins\r\nzwölf\r"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no file '.*own\.txt'.*: topics, shakespeare, names"),
        (b"", "is empty"),
        (b"zw\xf6lf", r"is not UTF-8: the byte 0xf6 at 2 "),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "own.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_text(path)


def test_a_terabyte_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "long").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DataError, match="too long: expected at most 1000000000 bytes"):
        load_text(tmp_path / "long")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nul\0"):
        with pytest.raises(DataError, match="there is no file"):
            load_text(tmp_path / name)


def test_a_long_file_in_the_place_of_a_published_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "names.txt").open("wb") as file:
        file.truncate(2**40)
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="too long"):
        load_text("names")


def test_nobody_s_home(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(DataError, match=r"Could not determine home directory\. Set HOME or TINYGEN_DATA"):
        load_text("shakespeare")
    (tmp_path / "input.txt").write_bytes(SHAKESPEARE.encode())
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    assert load_text("shakespeare") == SHAKESPEARE


# -- splits and batches ----------------------------------------------------------------------------


def test_the_split_keeps_the_order() -> None:
    train, val = train_val_split(np.arange(11))
    assert train.tolist() == [*range(9)]
    assert val.tolist() == [9, 10]
    assert len(train_val_split(np.arange(11), fraction=0.5)[0]) == 5


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_the_fraction_is_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 1, got {fraction}"):
        train_val_split(np.arange(11), fraction)


def test_no_part_is_empty() -> None:
    with pytest.raises(ValueError, match=r"1 tokens cannot be split at 0\.9"):
        train_val_split(np.arange(1))


def test_y_is_x_one_token_later() -> None:
    ids = np.random.default_rng(0).integers(0, 1000, 200)
    x, y = random_batch(ids, block_size=7, batch_size=50, rng=np.random.default_rng(1))
    assert x.shape == y.shape == (50, 7)
    assert (x[:, 1:] == y[:, :-1]).all()
    windows = {tuple(ids[i : i + 8]) for i in range(200 - 7)}
    assert all((*row, last) in windows for row, last in zip(x, y[:, -1], strict=True))


def uniform(batches: Callable[[np.random.Generator], np.ndarray], places: int) -> bool:
    """Whether starts (N,) may be uniform over `places`: Chernoff's bound, false alarm <= 1e-7."""
    starts = batches(np.random.default_rng(0))
    if starts.max() >= places:
        return False
    n, p = len(starts), 1 / places
    q = np.bincount(starts, minlength=places) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.nan_to_num(q * np.log(q / p)) + (1 - q) * np.log((1 - q) / (1 - p))
    return bool((n * kl < np.log(2 * places / 1e-7)).all())


def test_every_start_is_equally_likely_up_to_the_very_last() -> None:
    ids = np.arange(10)  # so that a token is its place
    _, y = random_batch(ids, 3, 20_000, np.random.default_rng(0))
    assert y.max() == 9  # the last block ends with the text
    assert uniform(lambda rng: random_batch(ids, 3, 20_000, rng)[0][:, 0], places=7)
    # The same test finds a start that is never, or never again, drawn.
    assert not uniform(lambda rng: random_batch(ids[:-1], 3, 20_000, rng)[0][:, 0], places=7)
    assert not uniform(lambda rng: random_batch(ids, 2, 20_000, rng)[0][:, 0], places=7)


def test_the_shortest_text_has_one_block() -> None:
    for n in (1, 3):
        x, y = random_batch(np.arange(n + 1), n, 2, np.random.default_rng(0))
        assert x.tolist() == [[*range(n)]] * 2
        assert y.tolist() == [[*range(1, n + 1)]] * 2


def test_a_text_may_be_too_short() -> None:
    with pytest.raises(ValueError, match=r"3 tokens.* block of 3 .* need 4"):
        random_batch(np.arange(3), 3, 1, np.random.default_rng(0))


@pytest.mark.parametrize(("block_size", "batch_size"), [(0, 1), (1, 0)])
def test_sizes_are_positive(block_size: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {block_size} and {batch_size}"):
        random_batch(np.arange(9), block_size, batch_size, np.random.default_rng(0))
