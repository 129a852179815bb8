"""`python -m tinygen exercise`: the list of exercises, the file of one, and its hints."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from tinygen.exercises.chapters import CHAPTERS, all_exercises
from tinygen.exercises.exercise import Exercise
from tinygen.exercises.grade import WIDTH
from tinygen.exercises.record import Record
from tinygen.exercises.source import stub
from tinygen.storage.files import CheckpointError, disk_errors, replace_file


class Refused(Exception):
    """A request that cannot be met; the text is one line."""


def main(arguments: Sequence[str]) -> int:
    """`python -m tinygen exercise [NAME [--hint N]]`: list the exercises, write the file of one, or show a
    hint. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygen exercise",
        description="Without a name: the list of exercises. With a name: write NAME.py, the file to work in.",
    )
    parser.add_argument("name", nargs="?", help="an exercise of the list")
    parser.add_argument(
        "--hint", type=int, choices=(1, 2, 3), help="show a hint: 1 is a thought, 3 nearly the code"
    )
    given = parser.parse_args(arguments)
    try:
        if given.name is None:
            print(list_of_exercises(Record(Path())))
        elif given.hint is None:
            print(write_file(find(given.name)))
        else:
            print(textwrap.fill(find(given.name).hints[given.hint - 1], WIDTH))
    except (Refused, CheckpointError, ModuleNotFoundError) as error:
        return refuse(error)
    return 0


def refuse(error: Exception) -> int:
    """Say in one line why there is no result. Returns the exit code."""
    if isinstance(error, ModuleNotFoundError):
        error = Refused(f'this exercise needs {error.name}: pip install "tinygen[fast]"')
    print(f"tinygen: {error}", file=sys.stderr)
    return 2


# -- their parts -------------------------------------------------------------------------------------


def find(name: str) -> Exercise:
    """The exercise of this name. Raises Refused, with the nearest name, if there is none."""
    found = {e.name: e for e in all_exercises()}
    if name not in found:
        near = difflib.get_close_matches(name, found, 1, 0.4)
        hint = f"do you mean {near[0]}?" if near else "`python -m tinygen exercise` lists them"
        raise Refused(f"there is no exercise {name!r}: {hint}")
    return found[name]


def list_of_exercises(record: Record) -> str:
    """All exercises by chapter, with an x before those that are done."""
    lines = []
    for chapter in CHAPTERS:
        done = sum(record.is_done(e.name) for e in chapter.exercises)
        lines.append(f"{chapter.title} ({done} of {len(chapter.exercises)} done)")
        lines += [
            f"  {'x' if record.is_done(e.name) else '.'} {e.name:20} {e.about}" for e in chapter.exercises
        ]
    done = sum(record.is_done(e.name) for e in all_exercises())
    lines += ["", f"{done} of {sum(1 for _ in all_exercises())} are done."]
    lines += [
        "`python -m tinygen exercise NAME` writes NAME.py; `python -m tinygen check NAME.py` grades it."
    ]
    return "\n".join(lines)


def write_file(exercise: Exercise) -> str:
    """Write the file of an exercise into this folder. Raises Refused if there is another one in its place."""
    path, text = Path(f"{exercise.name}.py"), stub(exercise)
    if path.exists() and path.read_bytes() != text.encode():
        raise Refused(f"{path} is there already, and not as it was written: move or delete it to begin again")
    with disk_errors(path):
        replace_file(path, [text.encode()])
    return f"{path}: write the body of {exercise.function}, then `python -m tinygen check {path}`"
