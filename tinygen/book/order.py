"""The chapter of each file.

A file belongs to the chapter with the longest pattern that it matches. The last chapter takes all files that
no other pattern names; if a chapter uses one of them, it comes there. Within a chapter, a file comes after
those that it imports.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from functools import cache

from tinygen.book.chapters import CHAPTERS, Chapter


def places(uses: Mapping[str, Collection[str]], chapters: tuple[Chapter, ...] = CHAPTERS) -> dict[str, int]:
    """From each file to the number of its chapter; `uses` has the files whose definitions a file uses."""
    found = {path: chapter_of(path, chapters) for path in uses}
    last = len(chapters) - 1
    named = {path for path in uses if found[path] < last or path in chapters[last].files}
    moved = True
    while moved:
        moved = False
        for path, used in uses.items():
            for other in set(used) - named:
                if found[path] < found[other]:
                    found[other], moved = found[path], True
    return found


@cache
def chapter_of(path: str, chapters: tuple[Chapter, ...] = CHAPTERS) -> int:
    """The number, from 0, of the chapter with the longest pattern that a file matches.
    The `__init__.py` of a folder comes after all that is in the folder, if no pattern names it.

    Raises ValueError if there is none."""
    patterns = [(i, p) for i, c in enumerate(chapters) for p in (*c.pages, *c.files, *c.examples)]
    folder = path.removesuffix("__init__.py")
    doors = [i for i, p in patterns if path != folder and p.endswith("*") and p.startswith(folder)]
    doors = [i for i, p in patterns if p == path] or doors
    found = [(len(p), -i) for i, p in patterns if fnmatch(path, p)]
    if not found:
        raise ValueError(f"{path} is in no chapter: give it a place in tinygen/book/chapters.py")
    return max(doors) if doors else -max(found)[1]
