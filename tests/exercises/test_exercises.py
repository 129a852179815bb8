"""Every exercise accepts its solution, the source, and refuses three mistakes, each with words that give it
away."""

import dataclasses
import re
from pathlib import Path

import pytest

from tinygen.exercises.chapters import CHAPTERS, all_exercises
from tinygen.exercises.exercise import Gradient, Values
from tinygen.exercises.grade import grade
from tinygen.exercises.page import page
from tinygen.exercises.source import MARK, solution, source_of, stub, with_mistake

EXERCISES = list(all_exercises())
BY_NAME = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


@BY_NAME
def test_the_source_is_the_solution(exercise):
    result = grade(exercise, solution(exercise), "solution.py")
    assert result.done, str(result)
    assert result.passed == len(exercise.checks)


@pytest.mark.filterwarnings("ignore:.* of the data is left in the last step")
@BY_NAME
def test_each_mistake_is_named(exercise):
    for mistake in exercise.mistakes:
        result = grade(exercise, with_mistake(exercise, mistake), "mistake.py")
        assert not result.done, f"accepted: {mistake.means}"
        assert mistake.says in result.problem, str(result)
        assert result.known == mistake.means, str(result)
        assert str(result).endswith(f"This comes out if {mistake.means}.")


@BY_NAME
def test_a_student_s_file(exercise):
    text = stub(exercise)
    assert text.startswith(f"{MARK}{exercise.name}\n")
    assert source_of(exercise).body not in text
    assert f"def {exercise.function}(" in text
    assert "Held by" not in text
    result = grade(exercise, text, "stub.py")
    assert result.passed == 0
    assert "there is no code yet" in result.problem
    assert not result.known


@BY_NAME
def test_the_words_of_an_exercise(exercise):
    assert all(hint.endswith((".", "?")) for hint in exercise.hints)
    assert not exercise.about.endswith(".")
    for mistake in exercise.mistakes:
        assert not mistake.means.endswith(".")
    assert len({m.means for m in exercise.mistakes}) == 3
    for check in exercise.checks:
        assert re.search(rf"\b{exercise.function}\b", check.code)
        assert isinstance(check, Values) or (
            isinstance(check, Gradient) and set(check.by.split()) <= set(exercise.given())
        )


def test_a_mistake_must_fit_the_source():
    exercise = EXERCISES[0]
    with pytest.raises(ValueError, match="occurs 0 times"):
        with_mistake(exercise, exercise.mistakes[0]._replace(old="nowhere"))


def test_an_exercise_must_fit_the_source():
    moved = dataclasses.replace(EXERCISES[0], source="tinygen.backward:nowhere")
    with pytest.raises(LookupError, match="nowhere is not in its file any more"):
        source_of(moved)


def test_names_are_different():
    assert len({e.name for e in EXERCISES}) == len(EXERCISES)
    assert all(e.name.isidentifier() for e in EXERCISES)


def test_there_are_forty_through_all_chapters():
    assert len(EXERCISES) >= 40
    assert all(len(chapter.exercises) >= 3 for chapter in CHAPTERS)


def test_the_results_alone_give_away_more_than_half_of_the_mistakes():
    mistakes = [m for e in EXERCISES for m in e.mistakes]
    assert sum(bool(m.says) for m in mistakes) > 0.5 * len(mistakes)


def test_the_page_is_of_today():
    docs = Path(__file__).parents[2] / "docs" / "exercises.md"
    assert docs.read_text() == page(), "python -m tinygen.exercises.page > docs/exercises.md"
