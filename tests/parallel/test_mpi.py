"""The same checks in processes, by MPI; and what happens when one of them fails, is killed, or hangs."""

import time
from pathlib import Path

import pytest
from mpi import mpi

pytest.importorskip("mpi4py")
HERE = Path(__file__).parent


@pytest.mark.parametrize("size", [2, 4])
def test_all_checks(size):
    done = mpi(size, HERE / "checks.py", timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("check_") == 7


# -- faults ----------------------------------------------------------------------------------------

FAULT = """
import os, sys, time
import numpy as np
from tinygen.parallel import world, sum_over_processes
comm = world()
for step in range(1000):
    if step == 3 and comm.rank == 1:
        {fault}
    sum_over_processes(np.ones(10), comm)
    time.sleep(0.01)
"""


@pytest.fixture
def faulty(tmp_path):
    def write(fault):
        (tmp_path / "faulty.py").write_text(FAULT.format(fault=fault))
        return tmp_path / "faulty.py"

    return write


@pytest.mark.parametrize("module", [True, False], ids=["python -m mpi4py", "python"])
def test_an_exception_in_one_process_ends_all(faulty, module):
    began = time.monotonic()
    done = mpi(2, faulty("raise ZeroDivisionError('planted')"), module=module)
    assert done.returncode != 0
    assert "ZeroDivisionError: planted" in done.stderr
    assert "in process 1 of 2" in done.stderr
    assert time.monotonic() - began < 30


def test_a_killed_process_ends_all(faulty):
    began = time.monotonic()
    done = mpi(2, faulty("os.kill(os.getpid(), 9)"))
    assert done.returncode != 0
    assert time.monotonic() - began < 30


def test_a_process_that_hangs_is_named(faulty):
    done = mpi(4, faulty("time.sleep(1000)"), TINYGEN_PATIENCE="3")
    assert done.returncode != 0
    assert "process 1 of 4 has not come to a sum over the batch for 3 s" in done.stderr
    assert "process 0, 2, 3 waits there" in done.stderr
