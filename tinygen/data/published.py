"""Files that somebody has published and that never change: found in a folder, or downloaded once."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

TIMEOUT = 20  # seconds


class DataError(Exception):
    """Data is missing, damaged or out of reach; the message says what to do."""


@dataclass(frozen=True)
class Published:
    """Where a file is, and how to know that it is the one."""

    url: str
    sha256: str
    files: tuple[str, ...]  # what it may be called in a folder, the usual name first
    advice: str  # what else to do, where it is missing
    own: str  # what to do with a file of one's own that is called so

    def read(self) -> bytes:
        """Its content: from the folder that TINYGEN_DATA names, from ~/.cache/tinygen, or from the network
        and into that, in this order. DataError when its SHA-256 is another, or the download fails."""
        cache = Path.home() / ".cache" / "tinygen"
        chosen = os.environ.get("TINYGEN_DATA")
        for folder in [Path(chosen), cache] if chosen else [cache]:
            for file in self.files:
                if (folder / file).is_file():
                    return self.verified((folder / file).read_bytes(), str(folder / file))
        path = cache / self.files[0]
        try:
            with urllib.request.urlopen(self.url, timeout=TIMEOUT) as response:
                content = self.verified(response.read(), self.url)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written aside and renamed, so that a run that is cut short leaves no half file behind.
            aside = path.with_name(f"{path.name}.{os.getpid()}")
            aside.write_bytes(content)
            aside.replace(path)
        except (OSError, HTTPException) as error:
            raise DataError(
                f"{self.files[0]} is not here and could not be downloaded to {path} ({error}). "
                f"Download {self.url} elsewhere and save it as {path}, or put it as {self.files[0]} into a "
                f"folder and set TINYGEN_DATA to that folder. {self.advice}".rstrip()
            ) from error
        return content

    def verified(self, content: bytes, where: str) -> bytes:
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise DataError(
                f"{where} is not the published file: its SHA-256 is {digest}, not {self.sha256}. "
                f"If it is a damaged file, delete it and load again; if it is your own, {self.own}"
            )
        return content
