"""Rooms: a page for each folder of the source, with what its files are about, their equations and minutes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from tinygen.book.pages import Equation, Page


def room_of(path: str) -> str:
    """The name of the page of the folder in which a file lies."""
    return "room-" + str(PurePosixPath(path).parent).replace("/", "-") + ".html"


def room_pages(pages: Iterable[Page], equations: Iterable[Equation]) -> list[Page]:
    """A page for each folder that has files among the `pages`, which are in reading order. It opens with the
    first sentence of the folder's `__init__.py`, if there is one."""
    rooms: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        rooms[str(PurePosixPath(page.path).parent)].append(page)
    of_file: dict[str, list[Equation]] = defaultdict(list)
    for equation in equations:
        of_file[equation.path].append(equation)
    found = []
    for room, files in sorted(rooms.items()):
        about = next((page.about for page in files if page.path == f"{room}/__init__.py"), "")
        inner = [other for other in sorted(rooms) if str(PurePosixPath(other).parent) == room]
        content = {
            "files": [(page, of_file[page.path]) for page in files],
            "inner": [(other, room_of(f"{other}/x")) for other in inner],
            "count": sum(len(of_file[page.path]) for page in files),
        }
        minutes = sum(page.minutes for page in files)
        found.append(Page(room_of(f"{room}/x"), f"{room}/", about, "", minutes, "room.html", content))
    return found
