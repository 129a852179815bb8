"""An ablation: one line of the source changed, an experiment that shows what follows, and the test that
notices.

The change is made in a copy of the checkout. So the library has no option for it, and the checkout stays as
it is.
"""

from __future__ import annotations

from shared.endings import MISTAKE, USER, Ended

import difflib
import importlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COPIED = ("tinygen", "tinygen_cuda", "examples", "tests", "pyproject.toml")
PROGRAM = """
import importlib, json, sys, time
import numpy as np
import tinygen
tinygen.kernels("off")  # the definitions compute, in which the line was changed
np.seterr(all="ignore")
module, name, seed = sys.argv[1:]
outcome = getattr(importlib.import_module(f"ablations.experiments.{module}"), name)(int(seed))
print(json.dumps({**outcome, "seconds": time.process_time()}))
"""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Change:
    """Text `old` in a file, which is there exactly once, and `new` in its place."""

    file: str  # from the root of the checkout
    old: str
    new: str


@dataclass(frozen=True)
class Ablation:
    """What is broken, and what shows it."""

    name: str
    chapter: str
    title: str
    change: Change
    experiment: str  # "MODULE.FUNCTION" in experiments/; its first figure is the one that the change spoils
    worse: str  # "higher" or "lower": where that figure goes
    why: str
    test: str  # "FILE::TEST", which fails with the change
    further: tuple[Change, ...] = ()  # what must change with it, so that the program still runs

    @property
    def changes(self) -> tuple[Change, ...]:
        return (self.change, *self.further)

    def diff(self) -> str:
        """The lines that the changes remove (-) and add (+)."""
        rows = []
        for file in dict.fromkeys(change.file for change in self.changes):
            before = after = (ROOT / file).read_text("utf-8")
            for change in self.changes:
                after = changed(after, change) if change.file == file else after
            found = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
            rows += [*found][2:]
        marked = [(row[0], row[1:]) for row in rows if row[0] in "+-"]
        texts = textwrap.dedent("\n".join(text for _, text in marked)).split("\n")
        return "\n".join(f"{sign} {text}".rstrip() for (sign, _), text in zip(marked, texts, strict=True))

    def about_experiment(self) -> str:
        """What the experiment does: the docstring of its function, in one line."""
        module, name = self.experiment.split(".")
        function = getattr(importlib.import_module(f"ablations.experiments.{module}"), name)
        return " ".join(function.__doc__.split())


# -- the copy --------------------------------------------------------------------------------------


def changed(text: str, change: Change) -> str:
    """The text with the change. Ended if `old` is not there exactly once."""
    found = text.count(change.old)
    if found != 1:
        where = "is not there" if found == 0 else f"is there {found} times"
        raise Ended(USER, f"error: {change.file}: the text to replace {where}: {change.old.strip()!r}")
    return text.replace(change.old, change.new)


def copy_checkout(folder: Path) -> Path:
    """A copy of the sources, in the new folder `folder`."""
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy(source, folder / name)
    return folder


@contextmanager
def applied(ablation: Ablation, folder: Path) -> Iterator[None]:
    """Make the changes in the copy; at the end, put the files of the checkout back."""
    texts: dict[str, str] = {}
    for change in ablation.changes:
        before = texts.get(change.file) or (folder / change.file).read_text("utf-8")
        texts[change.file] = changed(before, change)
    for file, text in texts.items():
        (folder / file).write_text(text, "utf-8")
    try:
        yield
    finally:
        for file in texts:
            shutil.copy(ROOT / file, folder / file)


# -- programs in the copy --------------------------------------------------------------------------


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, on one thread, with nothing of the checkout."""
    path = os.pathsep.join([str(folder), str(folder / "examples")])
    env = {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True)


def measure(ablation: Ablation, folder: Path, seed: int) -> dict[str, Any]:
    """The outcome of the experiment in the copy. Ended, with the last line of its error, if it fails."""
    done = run_in(folder, "-c", PROGRAM, *ablation.experiment.split("."), str(seed))
    if done.returncode:
        raise Ended(MISTAKE, f"{ablation.name}: {done.stderr.strip().splitlines()[-1]}")
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome
