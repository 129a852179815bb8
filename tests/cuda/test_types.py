"""The kernels are compiled without a GPU, for the arguments that their ops pass. So their types are
correct, which the simulator does not check, and they compute nothing in float64, which on most GPUs takes
64 times as long."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kernels import FOLDER


def compiled(to):
    """{kernel: lines with float64} from a process of its own, in which Numba is no simulator."""
    folder = Path(__file__).parent
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, sys.path)])
    command = [sys.executable, "-W", "ignore", str(folder / "compiled.py"), to]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if to == "ptx" and ("NvvmSupportError" in done.stderr or "libNVVM cannot be found" in done.stderr):
        pytest.skip("there is no NVVM: pip install numba-cuda[cu13], or a CUDA toolkit")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("to", ["llvm", "ptx"])
def test_no_float64_and_all_kernels(to):
    found = compiled(to)
    assert found.pop("__main__.leaks") != []
    assert {name: lines for name, lines in found.items() if lines} == {}
    text = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    assert len(found) == text.count("@cuda.jit\n")  # device functions are compiled with what calls them


def test_what_numba_cuda_misses_in_numpy_is_there(monkeypatch):
    """Numba's own compiler, which compiles above, does not ask for it: as if with NumPy 2.5."""
    monkeypatch.delattr(np, "row_stack", raising=False)
    runpy.run_path(str(FOLDER / "simt.py"))
    assert vars(np)["row_stack"] is np.vstack
