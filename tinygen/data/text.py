"""Texts for training, and training batches from a text.

One text is always available: the help pages of the Python language that every CPython contains in
`pydoc_data.topics`, about 450,000 characters of real English. Two others are the usual texts for
character models: tiny Shakespeare (char-rnn, Karpathy 2015) and 32,033 first names (makemore,
Karpathy 2022). `load_text` looks for them in folders first, and downloads them last.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinygen.data.published import DataError, Published, read_data
from tinygen.types import Ids

# -- where texts come from -------------------------------------------------------------------------


LIMIT = 1_000_000_000  # bytes of a text: as a str it may take four times as many
OWN = "give load_text its path"
ADVICE = "The text 'topics' needs no network."
SOURCES = {
    "shakespeare": Published(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ("tinyshakespeare.txt", "input.txt"),
        ADVICE,
        OWN,
    ),
    "names": Published(
        "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        ("names.txt",),
        ADVICE,
        OWN,
    ),
}


def load_text(name_or_path: str | Path) -> str:
    """A text by name, or the content of a UTF-8 file with unchanged line ends.

    "topics" is the text in `pydoc_data.topics`: its sections sorted by name, joined by newlines. It
    differs a little from one Python to the next, so compare results only within one.
    "shakespeare" (1,115,394 characters) and "names" (32,033 names) are read from the folder in the
    environment variable TINYGEN_DATA, or else from ~/.cache/tinygen, or else downloaded into the
    latter; their SHA-256 is always checked. To read a file of your own with such a name, write
    "./names".

    DataError if there is no such file; if it is empty, not UTF-8 or longer than a gigabyte; if its
    SHA-256 is wrong; or if the download fails.
    """
    if name_or_path == "topics":
        from pydoc_data.topics import topics

        return "\n".join(topics[section] for section in sorted(topics))
    if isinstance(name_or_path, str) and name_or_path in SOURCES:
        return SOURCES[name_or_path].read().decode()
    path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(["topics", *SOURCES])
        raise DataError(f"there is no file {str(path)!r}, and the only named texts are: {known}")
    content = read_data(path, LIMIT)
    if not content:
        raise DataError(f"the file {str(path)!r} is empty")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file {str(path)!r} is not UTF-8: the byte 0x{content[error.start]:02x} at "
            f"{error.start} does not fit; convert it first, e.g. with iconv -t utf-8"
        ) from None


# -- batches for a model ---------------------------------------------------------------------------


def train_val_split(ids: Ids, fraction: float = 0.9) -> tuple[Ids, Ids]:
    """The first `fraction` of `ids` (N,) for training, the rest for validation, without shuffling.

    A text predicts its neighbouring characters, so only a single cut keeps the two parts independent.
    ValueError if `fraction` is not between 0 and 1, or if a part would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
    cut = int(fraction * len(ids))
    if cut == 0:
        raise ValueError(f"{len(ids)} tokens cannot be split at {fraction}: one part has none")
    return ids[:cut], ids[cut:]


def random_batch(ids: Ids, block_size: int, batch_size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Random pieces x (B, T) of `ids` (N,), and their targets y (B, T): y[b, t] is the token after x[b, t].

    B is `batch_size`, T `block_size`. The start of each piece is drawn uniformly and with
    replacement, as in nanoGPT's `get_batch`. ValueError when N is below T + 1.
    """
    if block_size < 1 or batch_size < 1:
        raise ValueError(f"block_size and batch_size must be at least 1, got {block_size} and {batch_size}")
    if len(ids) < block_size + 1:
        raise ValueError(
            f"the text has {len(ids)} tokens, but a block of {block_size} and the token after it "
            f"need {block_size + 1}: take a longer text or a smaller block_size"
        )
    starts = rng.integers(len(ids) - block_size, size=(batch_size, 1))
    x = starts + np.arange(block_size)  # (B, T)
    return ids[x], ids[x + 1]
