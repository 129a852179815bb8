"""The schedule in `schedule.py` detects a missing barrier, a barrier that some threads never reach, and
memory that nobody has written."""

import numpy as np
import pytest
from schedule import ORDERS, scheduled

from tinygen_cuda.simt import SIMULATED, cuda, float32


def test_the_tests_run_in_the_simulator():
    assert SIMULATED, "numba was imported before tests/conftest.py had asked for its simulator"


@cuda.jit
def neighbors(x, y):
    buffer = cuda.shared.array(4, float32)
    t = cuda.threadIdx.x
    buffer[t] = x[t]
    cuda.syncthreads()
    y[t] = buffer[(t + 1) % 4]


@cuda.jit
def hasty_neighbors(x, y):
    buffer = cuda.shared.array(4, float32)
    t = cuda.threadIdx.x
    buffer[t] = x[t]
    y[t] = buffer[(t + 1) % 4]


@cuda.jit
def some_wait(x, y):
    t = cuda.threadIdx.x
    if t < 2:
        cuda.syncthreads()
    y[t] = x[t]


@cuda.jit
def fails(x, y):
    t = cuda.threadIdx.x
    cuda.syncthreads()
    y[t] = x[t + 1]


def run(kernel, order):
    x, y = np.arange(4, dtype=np.float32), np.full(4, np.nan, np.float32)
    with scheduled(order):
        kernel[1, 4](x, y)
    return y


@pytest.mark.parametrize("order", ORDERS)
def test_barriers(order):
    np.testing.assert_array_equal(run(neighbors, order), [1, 2, 3, 0])
    assert np.isnan(run(hasty_neighbors, order)).any()


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_that_some_never_reach(order):
    with pytest.raises(RuntimeError, match="some threads of the block wait at a barrier, others have ended"):
        run(some_wait, order)


@pytest.mark.parametrize("order", ORDERS)
def test_an_index_that_is_too_large(order):
    with pytest.raises(IndexError):
        run(fails, order)
