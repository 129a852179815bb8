"""`python -m tinygen check FILE`: grade an exercise, and keep a record of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tinygen.exercises.command import Refused, find, refuse
from tinygen.exercises.exercise import Exercise
from tinygen.exercises.grade import grade
from tinygen.exercises.record import Record
from tinygen.exercises.source import MARK
from tinygen.storage.files import CheckpointError, read_text

LIMIT = 1_000_000  # bytes of a student's file


def main(arguments: Sequence[str]) -> int:
    """`python -m tinygen check FILE`: grade a file, and keep a record of it. Returns the exit code: 0 if the
    exercise is done, 1 if not, 2 for a file that is no exercise."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygen check",
        description="Say whether the exercise in FILE is done, or what is wrong.",
    )
    parser.add_argument("file", help="a file that `python -m tinygen exercise NAME` has written")
    path = parser.parse_args(arguments).file
    try:
        record = Record(Path())  # first: a damaged one is refused before any work
        text = read_text(path, LIMIT)
        exercise = exercise_in(path, text)
        result = grade(exercise, text, path)
        print(result)
        record.add(exercise.name, result.done)
    except (Refused, CheckpointError, ModuleNotFoundError) as error:
        return refuse(error)
    return 0 if result.done else 1


def exercise_in(path: str, text: str) -> Exercise:
    """The exercise whose name is in the first line of a file."""
    first = text.partition("\n")[0]
    if not first.startswith(MARK):
        raise Refused(f"{path} is no exercise: its first line must be `{MARK}NAME`")
    return find(first.removeprefix(MARK).strip())
