"""The logic of several processes, in threads of one: no MPI is needed."""

import sys
from pathlib import Path

import pytest
from thread_processes import run_processes

sys.path.insert(0, str(Path(__file__).parent))
from checks import CHECKS

sys.path.pop(0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_in_threads(check):
    run_processes(3, check)  # of 7 rows they have 3, 2 and 2
