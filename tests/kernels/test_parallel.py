"""Parts of work on all threads: each part runs once, with every pool of threads; the machine code is
cached."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")
compile_ = pytest.importorskip("tinygen.kernels.compiled.compile")


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


def test_machine_code_is_kept_and_serves_every_pool_of_threads(tmp_path):
    """In processes of their own: the first says that it compiles, the next do not have to. All get the same
    bits: the sums of group norm once had others in the process that compiled them."""
    found = []
    for layer in ("", "workqueue", "omp"):
        given = {"NUMBA_CACHE_DIR": str(tmp_path), **({"NUMBA_THREADING_LAYER": layer} if layer else {})}
        environment = {**os.environ, **given}
        done = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
        )
        if layer == "omp" and "No threading layer" in done.stderr:
            continue  # this Numba has none
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("compiling kernels") == (not found)
        found.append(done.stdout)
    assert len(set(found)) == 1
