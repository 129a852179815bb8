"""Parts of work on all threads: each part runs once, also if a helper is late, asleep or slow; the machine
code is kept for each processor."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tinygen import kernels

pytest.importorskip("numba")
compile_ = pytest.importorskip("tinygen.kernels.compiled.compile")

from tinygen.kernels.compiled import helpers  # noqa: E402
from tinygen.kernels.compiled.linear import column_sums  # noqa: E402


@pytest.fixture(autouse=True)
def two_threads():
    before = kernels.threads(compile_.PARTS)
    yield
    kernels.threads(before)


@compile_.parallel
def note(part, weight, some, numbers, counts):
    counts[part] += numbers[0] * some[part] + (numbers[1] if weight else 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 4097])
def test_each_part_is_done_once(count):
    some, counts = np.arange(5000.0), np.zeros(5000)
    for weight, more in ((True, 7), (False, 0)):
        note(count, weight, some, (3, 7), counts[:])
        np.testing.assert_array_equal(counts, np.where(np.arange(5000) < count, 3 * some + more, 0))
        counts[:] = 0


@pytest.mark.parametrize(("length", "unit"), [(1, 1), (1, 16), (100, 1), (100, 16), (4097, 4), (3, 2)])
def test_parts_cover_all_and_overlap_nowhere(length, unit):
    count, size = compile_.divide_work(length, unit)
    assert (count - 1) * size < length <= count * size
    assert count <= compile_.PARTS
    assert size % unit == 0


def test_what_kernels_call_can_be_called_from_python_too():
    """Without what Numba needs for it, such a call would end the process."""

    @compile_.inner
    def double(x):
        for i in range(x.size):
            x[i] *= 2

    x = np.arange(3.0)
    double(x)
    assert x.tolist() == [0, 2, 4]


CODE = """
import numpy as np
from tinygen import Tensor, ops
rng = np.random.default_rng(0)
x = Tensor(rng.standard_normal((16, 16, 8, 8), dtype=np.float32), requires_grad=True)
scale, shift = (Tensor(rng.standard_normal(16, dtype=np.float32), requires_grad=True) for _ in range(2))
y = ops.gelu(ops.group_norm(x, 4, scale, shift))
y.backward(rng.standard_normal(y.shape, dtype=np.float32))
print(*(t.grad.tobytes().hex() for t in (x, scale, shift)))
"""


def test_machine_code_is_kept_for_each_processor(tmp_path):
    """In processes of their own: the first on each processor says that it compiles, the next do not have to.
    All on one processor get the same bits: the sums of group norm once had others in the process that
    compiled them. (For a plain processor, of the same kind but without its features, it is another code.)"""
    found = {}
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    for given in ({}, plain, {}, {"NUMBA_NUM_THREADS": "2"}, plain):
        environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "NUMBA_CACHE_DIR": str(tmp_path), **given}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        same = found.setdefault("NUMBA_CPU_NAME" in given, [])
        assert done.stderr.count("compiling kernels") == (not same)
        same.append(done.stdout)
    assert [len(set(same)) for same in found.values()] == [1, 1]


# -- helpers -----------------------------------------------------------------------------------------


@compile_.parallel
def chain(part, lengths, x):
    """Takes about 1 ns times the part's length."""
    y = 0.0
    for i in range(lengths[part]):
        y = y * 0.5 + 1 / (i + 1)
    x[part] = y


def end_of_chain(length):
    y = 0.0
    for i in range(max(0, length - 99), length):
        y = y * 0.5 + 1 / (i + 1)
    return y


@pytest.mark.parametrize("pause", [0, 0.002])
@pytest.mark.parametrize("lengths", [(1, 1), (1_500_000, 3_000_000), (3_000_000, 1_500_000)])
def test_the_caller_waits_for_a_slow_part_and_wakes_a_helper_that_sleeps(lengths, pause):
    """The helper takes the last part. It sleeps after a pause; the caller sleeps if its own part is short."""
    for _ in range(10):
        time.sleep(pause)
        x = np.zeros(2)
        chain(2, lengths, x)
        np.testing.assert_allclose(x, [end_of_chain(n) for n in lengths], rtol=1e-12)


def test_many_jobs_one_after_the_other():
    """A helper may come when the job is over and the next one has begun."""
    rng, counts = np.random.default_rng(0), np.zeros(300)
    some = np.arange(300.0)
    for count in rng.integers(0, 300, 5000):
        note(count, True, some, (3, 7), counts[:])
        done = np.flatnonzero(counts)
        assert len(done) == count
        assert counts[:count].sum() == 3 * some[:count].sum() + 7 * count
        counts[:] = 0


def test_a_second_caller_computes_alone():
    helpers.SHARED[helpers.BUSY] = 1  # as if a kernel were running
    try:
        x = np.zeros(2)
        chain(2, (1, 1), x)
        assert x.tolist() == [1, 1]
        assert helpers.SHARED[helpers.BUSY] == 1
    finally:
        helpers.SHARED[helpers.BUSY] = 0


LATE = """
import _thread
started = []
_thread.start_new_thread = lambda *call: started.append(call)  # a helper that never gets a processor
import numpy as np
from tinygen import kernels, ops, Tensor
x = np.linspace(-2, 2, 2**18, dtype=np.float32)
y = np.tanh(Tensor(x)).numpy()
assert kernels.threads() == 2 and len(started) == 1, started
assert np.allclose(y, np.tanh(x), atol=1e-6)
"""


def test_nobody_waits_for_a_helper_that_is_late():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_the_number_of_threads():
    """It makes no difference to the bits: the parts are the same."""
    found = []
    for count in (1, compile_.PARTS):
        kernels.threads(count)
        assert kernels.threads() == count
        said = kernels.table().splitlines()[-1]
        assert said.startswith(f"{count} of {compile_.PARTS} threads; Numba for ")
        x = np.linspace(-2, 2, 2**15, dtype=np.float32)
        total, block = np.zeros(2**5), np.zeros(2**5, np.float32)
        column_sums(compile_.PARTS, x.reshape(-1, 2**5), block, total, -(-(2**5) // compile_.PARTS))
        found.append(total.tobytes())
    assert found[0] == found[1]
    for count in (0, compile_.PARTS + 1):
        with pytest.raises(ValueError, match=rf"threads\({count}\): from 1 to {compile_.PARTS}, "):
            kernels.threads(count)
    assert kernels.threads() == compile_.PARTS
