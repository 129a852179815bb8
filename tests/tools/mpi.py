"""Starts a program in several processes, by MPI."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def mpi(size, *command, module=True, timeout=90, **environment):
    """Run a Python program in `size` processes. Returns its output and its exit code."""
    python = [sys.executable, *(["-m", "mpi4py"] if module else [])]
    env = {**os.environ, **ONE_THREAD, "TINYGEN_PATIENCE": "50", **environment}
    arguments = [str(Path(sys.executable).parent / "mpiexec"), "-n", str(size), *python, *map(str, command)]
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=timeout, check=False, env=env, cwd=ROOT
    )
