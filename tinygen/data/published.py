"""Published files with a known checksum: read from a folder, or downloaded once."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from tinygen.storage.files import CheckpointError, make_folder, read_small, replace_file

TIMEOUT = 20  # seconds
LIMIT = 300_000_000  # bytes of a published file: the largest has 170 million


class DataError(Exception):
    """Data is missing, damaged or cannot be downloaded; the message says how to get it."""


def read_data(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; DataError if it is missing or longer."""
    try:
        return read_small(path, limit)
    except CheckpointError as error:
        raise DataError(str(error)) from error


def folders() -> Iterator[Path]:
    """The folders to search for files; downloads go into the last one. DataError if there is none."""
    if chosen := os.environ.get("TINYGEN_DATA"):
        yield Path(chosen)
    try:
        yield Path.home() / ".cache" / "tinygen"
    except RuntimeError as error:  # nobody's home
        raise DataError(f"{error} Set HOME or TINYGEN_DATA to a folder") from error


@dataclass(frozen=True)
class Published:
    """A published file: its address, its names and its checksum."""

    url: str
    sha256: str
    files: tuple[str, ...]  # its possible names in a folder, the usual name first
    advice: str  # another way to get it, for the error if it is missing
    own: str  # advice for a user's own file of the same name

    def read(self) -> bytes:
        """The file's content: from the folder TINYGEN_DATA, from ~/.cache/tinygen, or else downloaded into
        the latter. Raises DataError if its SHA-256 is wrong, or if the download fails."""
        for folder in folders():
            for file in self.files:
                if (folder / file).is_file():
                    return self.verify(read_data(folder / file, LIMIT), str(folder / file))
        path = folder / self.files[0]
        try:
            with urllib.request.urlopen(self.url, timeout=TIMEOUT) as response:
                content = self.verify(response.read(LIMIT), self.url)
            make_folder(path.parent)
            replace_file(path, [content])
        except (OSError, HTTPException) as error:
            raise DataError(
                f"{self.files[0]} is not here and could not be downloaded to {path} ({error}). "
                f"Download {self.url} elsewhere and save it as {path}, or put it as {self.files[0]} into a "
                f"folder and set TINYGEN_DATA to that folder. {self.advice}".rstrip()
            ) from error
        return content

    def verify(self, content: bytes, where: str) -> bytes:
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise DataError(
                f"{where} is not the published file: its SHA-256 is {digest}, not {self.sha256}. "
                f"If it is a damaged file, delete it and load again; if it is your own, {self.own}"
            )
        return content
