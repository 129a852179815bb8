"""The record of a student's work: a small JSON file in the folder in which the commands run."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from tinygen.storage.files import CheckpointError, disk_errors, read_json, replace_file, short_repr

NAME = "tinygen_exercises.json"
LIMIT = 1_000_000  # bytes


class Record:
    """For each exercise that was checked: `checks`, how often, and `done`, the day on which it first passed,
    or None. Raises CheckpointError for a file that is damaged; it is not changed then."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.entries: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.entries = read_json(self.path, LIMIT)
            for name, entry in self.entries.items():
                if not is_entry(entry):
                    raise CheckpointError(
                        self.path,
                        f"the entry {name!r}",
                        '{"checks": 1, "done": null or a day}',
                        short_repr(entry),
                    )

    def is_done(self, name: str) -> bool:
        """Whether the exercise has passed once."""
        return self.entries.get(name, {}).get("done") is not None

    def add(self, name: str, done: bool) -> None:
        """Count a check, and write the file."""
        entry = self.entries.setdefault(name, {"checks": 0, "done": None})
        entry["checks"] += 1
        if done and entry["done"] is None:
            entry["done"] = datetime.date.today().isoformat()
        text = json.dumps(self.entries, indent=1, ensure_ascii=False) + "\n"
        with disk_errors(self.path):
            replace_file(self.path, [text.encode()])


def is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and type(entry.get("checks")) is int
        and (entry.get("done") is None or isinstance(entry["done"], str))
    )
