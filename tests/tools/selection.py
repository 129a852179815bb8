"""Selects the tests that judge a mutant.

Each test runs once without a mutant, all tests of a file in one fork. The lines of the mutated files that a
test executes, and its time, are recorded. A mutant is judged by the tests that execute its lines. In the head
of a function (its arguments and their defaults) it is judged also by the tests that ask for the function's
signature: they need not execute it. These notes are kept in a file beside the results. The notes on a file of
tests are valid until it changes; all notes become invalid if another file of the project changes.
"""

import ast
import contextlib
import hashlib
import importlib
import inspect
import itertools
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest
from _pytest.runner import runtestprotocol
from mutants import first_line

ROOT = Path(__file__).parents[2]
SIGNATURE = inspect.signature.__code__
RECORDS = "tests/arguments/test_frozen.py"  # uses all files, and need not execute a line of them
MEMORY = 6 * 2**30  # bytes that a test may take beside what is there


class Test(NamedTuple):
    """A test without a mutant."""

    seconds: float  # of CPU time
    lines: dict[str, set[int]]  # of each file, those that it executes
    heads: dict[str, set[int]]  # the first lines of functions whose signature it asks for; 0 for a class


def watch_all(items: dict[str, pytest.Item], files: list[str], notes: Path) -> dict[str, Test]:
    """Run each test, and record its lines and its time. Tests that fail or are skipped judge nothing, nor
    does a test that ends its process. If a test is the first to import a package, this process imports the
    package, too, for later forks."""
    watched = {str(ROOT / file): file for file in files}
    rows = [json.dumps(row) for row in valid_rows(notes, files) or []]
    notes.write_text("".join(f"{line}\n" for line in [json.dumps(state(files)), *rows]))

    def watch(names: list[str]) -> None:
        def child(say: Callable[[str], None]) -> int:
            before = set(sys.modules)
            for name in names:
                lines: dict[str, set[int]] = {}
                heads: dict[str, set[int]] = {}
                start = time.process_time()
                with watching(watched, lines, heads):
                    reports = runtestprotocol(items[name], log=False, nextitem=None)
                seconds = time.process_time() - start if all(r.passed for r in reports) else None
                found = [{file: sorted(there) for file, there in each.items()} for each in (lines, heads)]
                note(notes, name, seconds, *found)
            say(json.dumps(sorted(m for m in set(sys.modules) - before if is_package_of_others(m))))
            return PASSED

        status, said, _ = fork(child)
        for module in json.loads(said) if status == PASSED else ():
            with contextlib.suppress(Exception):
                importlib.import_module(module)

    known = {json.loads(row)[0] for row in rows}
    unknown = [name for name in items if name not in known]
    for number, (_, group) in enumerate(itertools.groupby(unknown, key=lambda name: name.split("::")[0])):
        names = list(group)
        watch(names)
        for name in [name for name in names if name not in names_in(notes)]:  # another one has ended the fork
            watch([name])
            if name not in names_in(notes):
                note(notes, name, None, {}, {})
        if number % 20 == 0:
            print(f"{number} files of tests watched", flush=True)
    tests = read_notes(notes, files)
    assert tests is not None
    judging = sum(name in tests for name in items)
    print(f"{judging} of {len(items)} tests judge, the others fail or are skipped", flush=True)
    return tests


def note(notes: Path, *row: Any) -> None:
    with notes.open("a") as f:
        f.write(f"{json.dumps(row)}\n")


def names_in(notes: Path) -> set[str]:
    """The tests that have a row."""
    return {json.loads(row)[0] for row in notes.read_text().splitlines()[1:]}


def is_package_of_others(module: str) -> bool:
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return "site-packages" in str(getattr(spec, "origin", ""))


def read_notes(notes: Path, files: list[str]) -> dict[str, Test] | None:
    """The notes on tests whose files have not changed."""
    if (rows := valid_rows(notes, files)) is None:
        return None
    return {
        name: Test(seconds, *({file: set(there) for file, there in each.items()} for each in found))
        for name, seconds, *found in rows
        if seconds is not None
    }


def valid_rows(notes: Path, files: list[str]) -> list[list[Any]] | None:
    """The valid rows of the notes. The first line of the notes has the states of the files, each other line
    is for one test. None if the mutated files, or files that all tests use, have changed."""
    then, *rows = map(json.loads, notes.read_text().splitlines()) if notes.exists() else [{}]
    today = state(files)
    if any(then.get(file) != today[file] for file in ["", *files]):
        return None
    same = {file for file in today if then.get(file) == today[file]}
    return [row for row in rows if row[0].split("::")[0] in same]


def state(files: list[str]) -> dict[str, str]:
    """A hash of each of these files, a hash of each file of tests, and one hash of all other files that
    tests use."""
    every = [p for f in ("tinygen", "tests", "examples") for p in sorted((ROOT / f).rglob("*.py"))]
    tests = [path for path in every if path.name.startswith("test_")]
    each = {str(path.relative_to(ROOT)): digest([path]) for path in tests}
    each |= {file: digest([ROOT / file]) for file in files}
    return {**each, "": digest(path for path in every if path not in set(tests))}


def digest(paths: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


@contextlib.contextmanager
def watching(files: dict[str, str], lines: dict[str, set[int]], heads: dict[str, set[int]]) -> Iterator[None]:
    """Record the lines of these files that are executed, and the first lines of their functions whose
    signature is asked for. Libraries do not count: Hypothesis asks for every signature that it meets."""

    def entered(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is SIGNATURE and frame.f_back and asks(frame.f_back):
            path, line = place_of(frame.f_locals["obj"])
            if path in files:
                heads.setdefault(files[path], set()).add(line)
        file = files.get(frame.f_code.co_filename)
        if file is None:
            return None
        there = lines.setdefault(file, set())

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            there.add(frame.f_lineno)
            return line

        there.add(frame.f_lineno)
        return line

    threading.settrace(entered)
    sys.settrace(entered)
    try:
        yield
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]


def asks(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(f"{ROOT / 'tests'}/")


def place_of(thing: Any) -> tuple[str, int]:
    """The file of a function, of a class's `__init__` or of an op's body, and its first line. Of a class
    whose `__init__` is not written there, such as a dataclass, it is line 0."""
    function = thing.__init__ if inspect.isclass(thing) else getattr(thing, "body", thing)
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    if code is None or code.co_filename == "<string>":
        return str(getattr(sys.modules.get(getattr(thing, "__module__", "")), "__file__", "")), 0
    return code.co_filename, code.co_firstlineno


# -- the order ---------------------------------------------------------------------------------------


class Order:
    """Chooses the tests that judge a mutant, and their order."""

    def __init__(self, tests: dict[str, Test], paths: Callable[[str], list[str]]) -> None:
        self.tests = tests
        self.paths = paths  # of a file: the tests that may judge it
        self.kills: Counter[tuple[str, str]] = Counter()
        self.statements: dict[str, list[tuple[int, int, bool]]] = {}

    def note(self, file: str, outcome: str) -> None:
        if outcome.startswith("killed"):
            self.kills[file, outcome.split(" ")[-1]] += 1

    def of(self, change: dict[str, Any]) -> list[str]:
        """The tests that execute a line of the changed statement; for the head of a function also the tests
        that ask for its signature. Tests that are likely to find the fault in little time come first."""
        file = change["file"]
        first, last, is_head = self.statement(file, change["line"])

        def meets(name: str, test: Test) -> bool:
            return any(first <= n <= last for n in test.lines.get(file, ()))

        def sees(test: Test) -> bool:
            return is_head and first in test.heads.get(file, ())

        return self.sorted(file, meets, sees)

    def all(self, file: str) -> list[str]:
        """All tests that use a file, for a mutant in code that runs when the file is imported."""
        own = f"/test_{Path(file).stem}"
        return self.sorted(
            file,
            lambda name, t: file in t.lines or own in name or name.startswith(RECORDS),
            lambda t: file in t.heads,
        )

    def sorted(
        self, file: str, meets: Callable[[str, Test], bool], sees: Callable[[Test], bool]
    ) -> list[str]:
        """Tests of the file's floor that meet its code, and tests of any floor that see a signature."""
        paths, own = tuple(self.paths(file)), f"/test_{Path(file).stem}"

        def cost(name: str) -> float:
            test = self.tests[name]
            promise = 1 + 3 * (own in name) + 10 * self.kills[file, name] + 100 * sees(test)
            return test.seconds / promise

        judging = (n for n, t in self.tests.items() if (n.startswith(paths) and meets(n, t)) or sees(t))
        return sorted(judging, key=cost)

    def statement(self, file: str, line: int) -> tuple[int, int, bool]:
        """The lines of the smallest statement around a line, and whether it is a function, whose head has the
        arguments and their defaults. For another statement with a body, the lines of its head only."""
        if file not in self.statements:
            tree = ast.parse((ROOT / file).read_text())
            self.statements[file] = [span(n) for n in ast.walk(tree) if isinstance(n, ast.stmt)]
        around = [s for s in self.statements[file] if s[0] <= line <= s[1]]
        return min(around, key=lambda s: s[1] - s[0], default=(line, line, False))


def span(node: ast.stmt) -> tuple[int, int, bool]:
    is_function = isinstance(node, ast.FunctionDef)
    body = None if is_function else getattr(node, "body", None)
    first, last = first_line(node), first_line(body[0]) - 1 if body else node.end_lineno or 0
    return first, max(first, last), is_function


# -- in a fork ---------------------------------------------------------------------------------------

PASSED, FAILED, UNREACHED, CRASHED = 0, 1, 70, 71


def fork(work: Callable[[Callable[[str], None]], int]) -> tuple[int, str, float]:
    """Run the work in a child process. Returns its exit status, its last line, and its CPU seconds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = CRASHED
        try:
            os.close(reader)
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
            status = work(lambda line: void(os.write(writer, f"{line}\n".encode())))
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    _, wait_status, usage = os.wait4(child, 0)
    seconds = usage.ru_utime + usage.ru_stime
    return os.waitstatus_to_exitcode(wait_status), lines[-1] if lines else "", seconds


def void(_: Any) -> None:
    """Nothing."""
