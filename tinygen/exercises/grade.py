"""Grading: a student's function beside the source's, one check after the other, up to the first that
fails.

A check of values compares what both return. A check of a gradient asks `gradcheck`, which compares the tape
with differences of the student's own function. If the results are exactly those of a mistake that the
exercise knows, the report says which.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygen.exercises.difference import difference, plain
from tinygen.exercises.exercise import Exercise, Gradient, Mistake, Values
from tinygen.exercises.source import solution, source_of, with_mistake
from tinygen.gradcheck import Report, Verdict, gradcheck
from tinygen.gradcheck.arguments import weights
from tinygen.gradcheck.subject import Function
from tinygen.gradcheck.time_limit import run_within

LIMIT = 20.0
"""The most seconds for one run of a student's code."""

WIDTH = 110

Check = Values | Gradient


class Problem(Exception):
    """What is wrong with a student's function, in words."""


class Grade(NamedTuple):
    """The result of grading a file."""

    exercise: Exercise
    passed: int  # checks
    problem: str  # of the first check that fails, or of the file; empty if all pass
    known: str = ""  # the mistake that gives the same results, if the exercise knows it

    @property
    def done(self) -> bool:
        return not self.problem

    def __str__(self) -> str:
        checks = self.exercise.checks
        lines = [f"{self.exercise.name}: {self.passed} of {len(checks)} checks pass"]
        lines += [f"  right  {title(check)}" for check in checks[: self.passed]]
        if self.problem:
            what = title(checks[self.passed]) if self.passed < len(checks) else ""
            lines += [f"  wrong  {what}", *map(fold, self.problem.split("\n"))]
        lines += [f"This comes out if {self.known}."] if self.known else []
        if self.done:
            lines.append(f"Done. The source is {source_of(self.exercise).place}: compare yours with it.")
        return "\n".join(lines)


def fold(line: str) -> str:
    """A line of a problem, indented, and folded where it is long."""
    return textwrap.fill(line, WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9)


def title(check: Check) -> str:
    return check.code if isinstance(check, Values) else f"the gradient of {check.code} by {check.by}"


def grade(exercise: Exercise, text: str, path: str) -> Grade:
    """Grade the text of a student's file; `path` is its name in errors."""
    try:
        function = load(exercise, text, path)
    except Problem as error:
        return Grade(exercise, 0, str(error))
    passed = 0
    for check in exercise.checks:
        try:
            problem = problem_of(exercise, check, function, path)
        except Problem as error:
            problem = str(error)
        if problem:
            return Grade(exercise, passed, problem, known_mistake(exercise, function, passed))
        passed += 1
    return Grade(exercise, passed, "")


# -- a student's code --------------------------------------------------------------------------------


def load(exercise: Exercise, text: str, path: str) -> Callable[..., Any]:
    """Run a file and return its function. Raises Problem when that fails."""
    try:
        code = compile(text, path, "exec")
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        source = f"\n    {(error.text or '').strip()}" if isinstance(error, SyntaxError) else ""
        raise Problem(f"{path}{line}: {getattr(error, 'msg', error)}{source}") from None
    namespace: dict[str, Any] = {"__name__": "student", "__file__": path}
    run(lambda: exec(code, namespace), path)
    function = namespace.get(exercise.function)
    if not callable(function):
        raise Problem(f"{path} has no function {exercise.function}")
    return function


def run(call: Callable[[], Any], path: str) -> Any:
    """What `call` returns. Raises Problem for any exception, and when it takes more than LIMIT seconds."""
    try:
        return run_within(call, LIMIT)
    except TimeoutError:
        raise Problem(f"no result within {LIMIT:g} s: does a loop end?") from None
    except NotImplementedError as error:
        where = place_of(error, path).partition(", `")[0]
        raise Problem(f"{where}: there is no code yet" if where else str(error)) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too
        where = place_of(error, path)
        raise Problem(f"{where + ': ' if where else ''}{type(error).__name__}: {error}") from None


def place_of(error: BaseException, path: str) -> str:
    """The last line of the file that an error came through, as "softmax.py, line 12, `y = x @ w`"; empty if
    there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if not frames:
        return ""
    line = f", `{frames[-1].line}`" if frames[-1].line else ""
    return f"{path}, line {frames[-1].lineno}{line}"


def evaluate(exercise: Exercise, code: str, function: Callable[..., Any], names: dict[str, Any]) -> Any:
    """The value of a check's code: statements, and at the end an expression."""
    tree = ast.parse(code)
    last = tree.body.pop()
    assert isinstance(last, ast.Expr)
    namespace = {"np": np, **names, exercise.function: function}
    with np.errstate(all="ignore"):  # the result shows what is not finite
        exec(compile(tree, "<check>", "exec"), namespace)
        return eval(compile(ast.Expression(last.value), "<check>", "eval"), namespace)


# -- the checks --------------------------------------------------------------------------------------


def problem_of(exercise: Exercise, check: Check, function: Callable[..., Any], path: str) -> str:
    """What is wrong with the function in this check; empty if nothing is."""
    if isinstance(check, Values):
        found = run(lambda: evaluate(exercise, check.code, function, exercise.given()), path)
        wrong = difference(found, expected_value(exercise, check), check.within, exercise.given())
        return f"{shapes_of(exercise, check)}{wrong}" if wrong else ""
    subject, inputs = differentiable(exercise, check, function)
    report = run(lambda: gradcheck(subject, *inputs, max_seconds=LIMIT), path)
    return "" if report else words_of(report)


@functools.cache
def expected_value(exercise: Exercise, check: Values) -> Any:
    """The value with the source's own function."""
    with warnings.catch_warnings(action="ignore"):  # the student's own are shown
        return evaluate(
            exercise, check.code, load(exercise, solution(exercise), "the source"), exercise.given()
        )


def shapes_of(exercise: Exercise, check: Check) -> str:
    """ "with x (2, 3): ", the shapes of the arrays in a check."""
    names = {n.id for n in ast.walk(ast.parse(check.code)) if isinstance(n, ast.Name)}
    given = ((name, plain(value)) for name, value in exercise.given().items() if name in names)
    found = [f"{name} {value.shape}" for name, value in given if isinstance(value, np.ndarray) and value.ndim]
    return f"with {', '.join(found)}: " if found else ""


def differentiable(
    exercise: Exercise, check: Gradient, function: Callable[..., Any]
) -> tuple[Callable[..., Any], list[Any]]:
    """The code of a check as a function of some of its names, and the arrays to call it with."""
    names, given = check.by.split(), exercise.given()

    def f(*xs: Any) -> Any:
        return evaluate(exercise, check.code, function, {**given, **dict(zip(names, xs, strict=True))})

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
    f.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # gradcheck shows these names
    return f, [given[name] for name in names]


def words_of(report: Report) -> str:
    """What gradcheck found, without its costs."""
    rows = [
        f"{r.name} {r.shape}: {r.details}"
        for r in report.results
        if r.verdict is not Verdict.OK and r.details
    ]
    return "\n".join([*rows, *(str(finding) for finding in report.findings)])


# -- known mistakes ----------------------------------------------------------------------------------


def known_mistake(exercise: Exercise, function: Callable[..., Any], passed: int) -> str:
    """What is wrong, if a planted mistake gives the same results in all checks up to the first that fails."""
    checks = exercise.checks[: passed + 1]
    found = results(exercise, checks, function)
    for mistake in exercise.mistakes:
        if found is not None and same(found, results_of(exercise, checks, mistake)):
            return mistake.means
    return ""


@functools.cache
def results_of(exercise: Exercise, checks: tuple[Check, ...], mistake: Mistake) -> Any:
    try:
        function = load(exercise, with_mistake(exercise, mistake), "a known mistake")
    except Problem:
        return None
    return results(exercise, checks, function)


def results(exercise: Exercise, checks: Sequence[Check], function: Callable[..., Any]) -> list[Any] | None:
    """The values and gradients in the checks, or the kind of error; None if it takes too long."""
    found: list[Any] = []
    for check in checks:
        try:
            with warnings.catch_warnings(action="ignore"):
                found.append(run_within(functools.partial(result, exercise, check, function), LIMIT))
        except TimeoutError:
            return None
        except (Exception, SystemExit) as error:
            found.append(f"raises {type(error).__name__}: {error}")
    return found


def result(exercise: Exercise, check: Check, function: Callable[..., Any]) -> Any:
    if isinstance(check, Values):
        return evaluate(exercise, check.code, function, exercise.given())
    f, inputs = differentiable(exercise, check, function)
    subject = Function(f, inputs)
    outputs, pull = subject.record(subject.points)
    rng = np.random.default_rng(0)
    return [outputs, pull([weights(y.shape, rng) for y in outputs])]


def same(found: Any, other: Any) -> bool:
    try:
        return other is not None and difference(found, other, 1e-9) is None
    except Exception:
        return False
