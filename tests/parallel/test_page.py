"""The page on all-reduce by MPI: its sums equal `Allreduce`, its step equals that of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mpi4py")
ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).parent / "mpiexec"
if not MPIEXEC.exists():
    pytest.skip("there is no mpiexec beside Python", allow_module_level=True)

PROGRAM = """
import importlib.util, sys
from types import SimpleNamespace
import numpy as np
from mpi4py import MPI

spec = importlib.util.spec_from_file_location("page", "examples/pages/all_reduce.py")
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)
comm, rng = MPI.COMM_WORLD, np.random.default_rng(0)
for N in (0, 1, 5, 1000, 300_000):  # the last ones are longer than what MPI sends without being asked for
    numbers = rng.integers(-999, 999, (comm.size, N)).astype(float)
    for reduce in (page.ring_all_reduce, page.tree_all_reduce):
        expected = np.empty(N)
        comm.Allreduce(numbers[comm.rank].copy(), expected)
        assert np.array_equal(reduce(numbers[comm.rank], comm), expected)
x, y = rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
rows, alone = np.array_split(np.arange(9), comm.size)[comm.rank], SimpleNamespace(rank=0, size=1)
mine, whole = (page.init(4, 2, np.random.default_rng(1)) for _ in range(2))
update = lambda params, grads: params.update({name: params[name] - 0.1 * g for name, g in grads.items()})
for reduce in (page.ring_all_reduce, page.tree_all_reduce) * 3:
    loss = page.train_step(mine, x[rows], y[rows], comm, update, reduce)
    assert abs(loss - page.train_step(whole, x, y, alone, update)) < 1e-14
assert max(np.abs(mine[name] - whole[name]).max() for name in whole) < 1e-14
assert len(set(comm.allgather(mine["W"].tobytes() + mine["b"].tobytes()))) == 1
print(f"process {comm.rank} is right")
"""


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_page_in_processes(size, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    command = [str(MPIEXEC), "-n", str(size), sys.executable, "-m", "mpi4py", str(tmp_path / "program.py")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **threads}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is right") == size
