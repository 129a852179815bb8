"""Settings for all tests: the Hypothesis profile, the paths to the helpers in tools/ and gpu/, Numba's CUDA
simulator, and the division of the suite among processes.

Hypothesis draws the same examples in every run, and no test fails because a machine is slow. Numba decides
at its first import whether CUDA kernels run on a GPU or in its simulator: here in the simulator.

`pytest` without arguments runs the files in several processes, if pytest-xdist is installed; with selected
tests, or with `-n 0`, it uses one process. If there are several processes, each computes on one thread:
more threads would wait for each other.
"""

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
sys.path[:0] = [str(Path(__file__).parent / folder) for folder in ("", "tools", "gpu")]

settings.register_profile(
    "tinygen",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tinygen")

# -- processes ---------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    option = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:  # this is a process of several already
        return
    whole = config.args_source is config.ArgsSource.TESTPATHS and not (option.keyword or option.collectonly)
    whole = whole and not getattr(option, "cov_source", None)  # pytest-cov must know from the beginning: -n 2
    if (
        whole
        and config.pluginmanager.hasplugin("xdist")
        and option.numprocesses is None
        and not option.usepdb
    ):
        option.numprocesses, option.dist = min(os.cpu_count() or 1, 8), "loadfile"
    if getattr(option, "numprocesses", None):
        os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="2")


def pytest_collection_finish(session):
    """The compiled kernels still share their work out in two parts, but one thread does both."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from tinygen import kernels

        with contextlib.suppress(ImportError, RuntimeError):  # there are no compiled kernels
            kernels.threads(1)


ENGINE = {Path(__file__).parent, Path(__file__).parent / "ops"}
"""The tests in these folders run the lines of the engine, whose coverage is measured. While the other tests
run, coverage.py is off, since it makes each call of a function slower."""


# -- what needs a library that is not there ------------------------------------------------------------


def pytest_addoption(parser):
    group = parser.getgroup("tinygen")
    group.addoption("--write-skipped", metavar="FILE", help="write the tests that were skipped into FILE")
    group.addoption("--only-skipped", metavar="FILE", help="run those of a run with --write-skipped")


def pytest_configure(config):
    if config.option.write_skipped and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Skipped(Path(config.option.write_skipped)))


def pytest_collection_modifyitems(config, items):
    if config.pluginmanager.hasplugin("_cov"):  # of pytest-cov
        for item in items:
            if item.path.parent not in ENGINE:
                item.add_marker("no_cover")
    if config.option.only_skipped:
        skipped = set(Path(config.option.only_skipped).read_text().splitlines())
        chosen = [item for item in items if not skipped.isdisjoint((item.nodeid, item.nodeid.split("::")[0]))]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        items[:] = chosen


class Skipped:
    """Collects the names of tests, and of whole files, that skip themselves."""

    def __init__(self, path):
        self.path = path
        self.names = set()

    def pytest_runtest_logreport(self, report):
        if report.skipped:
            self.names.add(report.nodeid)

    def pytest_collectreport(self, report):
        if report.skipped:
            self.names.add(report.nodeid)

    def pytest_sessionfinish(self):
        self.path.write_text("\n".join(sorted(self.names)))
