"""Each barrier of each kernel is removed in turn, and then a check must fail: every barrier is needed, and
the tests would notice a missing one. docs/gpu.md has the table."""

import numpy as np
import pytest
from kernel_checks import CHECKS
from kernels import FOLDER, KERNELS, barriers, without
from schedule import ORDERS, scheduled

CASES = {
    "reduce": [("reduce", (1, 9)), ("softmax", (2, 9)), ("layer_norm", (2, 9))],
    "layer_norm": [("layer_norm", (4, 3))],
    "embedding": [("embedding", (7, 3, 2))],
    "flash": [("attention", (1, 7, 7, 4, True))],
}


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NaN, which is looked for


def wrong(kernels, order, name, sizes):
    with scheduled(order):
        try:
            results = CHECKS[name](kernels, np.asarray, np.random.default_rng(0), *sizes)
        except (ValueError, ArithmeticError):  # of math.log and math.exp, which on a GPU give NaN or inf
            return True
    return any(not r.error < 1e-4 for r in results)


def noticed(kernels, file):
    """In which order a check of this file's kernels is wrong, if in any."""
    runs = ((order, *case) for order in ORDERS for case in CASES[file])
    return next((order for order, name, sizes in runs if wrong(kernels, order, name, sizes)), None)


@pytest.mark.parametrize("file", CASES)
def test_with_all_barriers_nothing_is_wrong(file):
    assert noticed(KERNELS, file) is None


@pytest.mark.parametrize(("file", "line"), list(barriers()))
def test_without_a_barrier_something_is_wrong(file, line):
    assert noticed(without(file, line), file), (FOLDER / f"{file}.py").read_text().splitlines()[line - 1]


def test_there_are_barriers():
    assert {file for file, _ in barriers()} == set(CASES)
