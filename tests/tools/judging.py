"""Runs the tests on mutants: each mutant gets a fork of one process in which the tests are already collected.

`Judge` is a plugin of pytest. It replaces pytest's loop over the tests by a loop over mutants: for each
mutant a fork swaps the mutated function in, and runs the tests that `selection.py` has chosen, until one
fails. If `hot_swap` cannot swap a mutant in, it is judged in a fork of a process that has collected
nothing, and imports everything again.

Limits are in CPU time, since the machine may be busy: ten times the time of the test without a mutant, and at
least ten seconds. A limit in real time ends only tests that wait forever, and these do not count as a kill.
"""

import contextlib
import gc
import importlib
import importlib.abc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hot_swap
import pytest
from _pytest.runner import runtestprotocol
from selection import CRASHED, FAILED, PASSED, ROOT, UNREACHED, Test, fork, watch_all

LEAST = 10.0  # the smallest limit of a test, in CPU seconds
TIMES = 10.0  # otherwise the limit is its usual CPU time, multiplied by this
WAIT = 600  # real seconds
BUDGET = 30.0  # CPU seconds after which no further test is begun: the mutant has survived
PARITY = "torch transformers diffusers peft trl tokenizers tiktoken regex safetensors.numpy einops gymnasium"
IMPORTS = [
    "numpy",
    "scipy.special",
    "scipy.linalg",
    "sklearn.datasets",
    "matplotlib.pyplot",
    "PIL.Image",
    "tqdm",
]
IMPORTS += ["hypothesis.extra.numpy", "hypothesis.internal.entropy", *PARITY.split()]
QUICK_BUDGET = 2.5  # the budget of a quick run
QUICK_TESTS = 60  # the number of tests of a mutant in a quick run, if everything is imported again for it


class NotInstalled(importlib.abc.MetaPathFinder):
    """Finds none of the reference libraries."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name in PARITY.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def prepare(quick: bool) -> None:
    """Import the libraries, which no mutant changes. In a quick run PyTorch and the other reference libraries
    are as if they were not installed: without them a fork costs much less."""
    os.environ.update(
        OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_ENABLE_CUDASIM="1", MPLBACKEND="Agg"
    )
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tools")]
    sys.dont_write_bytecode = False
    if quick:
        sys.meta_path.insert(0, NotInstalled())
    for name in IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def collect(paths: list[str], plugin: Any) -> int:
    os.chdir(ROOT)
    options = ["-q", "-s", "--tb=no", "--assert=plain", "-W", "ignore"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *paths], plugins=[plugin]))


class Collected:
    """The base class of both kinds of process. Definitions and NumPy's kernels compute, and Hypothesis
    stops at the first failing example."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        import tinygen

        tinygen.kernels("numpy")  # each fork would have to load compiled kernels
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("tinygen"), phases=phases, database=None)
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise pytest.UsageError("tests that cannot be collected")
        self.loop({item.nodeid: item for item in session.items})
        return True

    def loop(self, items: dict[str, pytest.Item]) -> None:
        raise NotImplementedError


class Judge(Collected):
    """The process in which the tests are collected. `answer(judge)` is called when it is ready."""

    def __init__(self, notes: Path, files: list[str]) -> None:
        self.notes = notes  # a file with the lines and times of the tests
        self.files = files
        self.answer: Callable[[Judge], None] = lambda judge: None

    def loop(self, items: dict[str, pytest.Item]) -> None:
        self.items = items
        self.live = hot_swap.functions()
        gc.freeze()  # if a fork's garbage collector visited present objects, their memory would be copied
        self.tests = watch_all(items, self.files, self.notes)
        self.answer(self)

    def judge(
        self, change: dict[str, Any], mutated: str, order: list[str], budget: float
    ) -> tuple[str, float] | None:
        """The outcome and the CPU seconds; None if the mutant cannot be swapped in."""
        path = str(ROOT / change["file"])
        original = Path(path).read_text()

        def child(say: Callable[[str], None]) -> int:
            hot_swap.import_as(path, mutated)
            if not hot_swap.swap(path, original, mutated, self.live):
                return UNREACHED
            chosen = [self.items[name] for name in order if name in self.items]
            return run_tests(chosen, self.tests, say, budget)

        status, said, seconds = fork(child)
        return None if status == UNREACHED else (outcome(status, said), seconds)


class Afresh(Collected):
    """Runs chosen tests, in order, in a process that has not imported the mutated file before."""

    def __init__(
        self, order: list[str], tests: dict[str, Test], say: Callable[[str], None], budget: float
    ) -> None:
        self.order, self.tests, self.say, self.budget = order, tests, say, budget
        self.status = CRASHED

    def loop(self, items: dict[str, pytest.Item]) -> None:
        chosen = [items[name] for name in self.order if name in items]
        self.status = run_tests(chosen, self.tests, self.say, self.budget)


def judge_afresh(
    change: dict[str, Any], mutated: str, order: list[str], tests: dict[str, Test], budget: float
) -> tuple[str, float]:
    files = list(dict.fromkeys(name.split("::")[0] for name in order))

    def child(say: Callable[[str], None]) -> int:
        hot_swap.import_as(str(ROOT / change["file"]), mutated)
        say("the import")
        plugin = Afresh(order, tests, say, budget)
        collect(files, plugin)
        return FAILED if plugin.status == CRASHED else plugin.status

    status, said, seconds = fork(child)
    return outcome(status, said), seconds


# -- in a fork ---------------------------------------------------------------------------------------


def outcome(status: int, said: str) -> str:
    """ "survived", "killed by TEST", "killed by the limit in TEST" or "waits in TEST"."""
    if status == PASSED:
        return "survived"
    how = {-signal.SIGPROF: "killed by the limit in", -signal.SIGALRM: "waits in"}.get(status, "killed by")
    return f"{how} {said}"


def run_tests(
    items: list[pytest.Item], tests: dict[str, Test], say: Callable[[str], None], budget: float
) -> int:
    start = time.process_time()
    for item in items:
        if time.process_time() - start > budget:
            break
        say(item.nodeid)
        limit = max(LEAST, TIMES * tests[item.nodeid].seconds)
        signal.setitimer(signal.ITIMER_PROF, limit)
        signal.alarm(WAIT)
        if not passes(item):
            return FAILED
    return PASSED


def passes(item: pytest.Item) -> bool:
    return not any(r.failed for r in runtestprotocol(item, log=False, nextitem=None))
