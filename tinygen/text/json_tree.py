"""A JSON file as a tree whose fields are taken one by one. Fields that are left at the end are unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from tinygen.storage.files import CheckpointError, short_repr


class Tree:
    """A part of the file, and its place in the file. `take` removes one field after the other."""

    def __init__(self, path: Path, place: str, found: Any) -> None:
        self.path, self.place = path, place
        if not isinstance(found, dict):
            self.refuse("", "an object", found)
        self.left = dict(found)

    def refuse(self, field: str, expected: str, found: object) -> NoReturn:
        place = ".".join(name for name in (self.place, field) if name)
        raise CheckpointError(self.path, f"the field {place}", expected, short_repr(found))

    def take(self, field: str, *values: Any) -> Any:
        """The field, or None if it is missing. If values are given, it must be one of them."""
        found = self.left.pop(field, None)
        if values and not any(found == value and type(found) is type(value) for value in values):
            self.refuse(field, " or ".join(map(repr, values)), found)
        return found

    def subtree(self, field: str) -> Tree:
        return Tree(self.path, f"{self.place}.{field}" if self.place else field, self.take(field))

    def steps(self, field: str, inner: str) -> list[Tree]:
        """The steps in a field: none, one, or the list `inner` of a Sequence."""
        if self.left.get(field) is None:
            self.take(field)
            return []
        step = self.subtree(field)
        if step.left.get("type") != "Sequence":
            return [step]
        found = step.take(inner)
        if not isinstance(found, list):
            step.refuse(inner, "a list", found)
        return [Tree(self.path, f"{step.place}.{inner}[{i}]", x) for i, x in enumerate(found)]

    def end(self) -> None:
        for field, value in self.left.items():
            self.refuse(field, "no such field: tinygen does not know what it means", value)
