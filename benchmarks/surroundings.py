"""What surrounds a measurement: the instruction set that all sides may use, and other programs at work.

Numba, OpenBLAS, NumPy, MKL, oneDNN, PyTorch and XLA each choose their code for the processor when they are
loaded, and each has an environment variable that limits the choice. `what_runs` asks a new process what has
been chosen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

ISAS = ("avx2",)
OWN_CHOICES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""A machine may set them for some reason of its own; for a measurement OpenBLAS chooses by itself."""
WIDE = ("avx512", "avx-512", "skylakex", "sapphirerapids", "cooperlake", "x86_v4")
"""Names of AVX-512, and of OpenBLAS's and NumPy's code that uses it."""

LIMITS = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}

ASK_NUMPY = """
import numpy as np
from numpy._core import _multiarray_umath as core
used = [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]
try:
    from threadpoolctl import threadpool_info
    found = [x for x in threadpool_info() if x["user_api"] == "blas"]
    blas = [x["internal_api"] + " " + x.get("architecture", "") for x in found]
except ImportError:
    blas = ["BLAS not known"]
print(f"NumPy with {' '.join(used[-1:]) or 'its baseline'}, {', '.join(blas)}", end="")
"""
ASK = {
    "numpy": ASK_NUMPY,
    "tinygen": ASK_NUMPY
    + """
try:
    from tinygen.kernels.compiled import tile
    print(f"; Numba with {'AVX-512' if tile.LANES == 16 else f'vectors of {tile.LANES} floats'}", end="")
except ImportError:
    print("; no compiled kernels", end="")
""",
    "torch": """
import torch
x, w = torch.ones(4, 64, 16, 16), torch.ones(64, 64, 3, 3)
torch.ones(64, 64) @ torch.ones(64, 64)
torch.nn.functional.conv2d(x, w)
print("ATen " + torch.backends.cpu.get_cpu_capability())
""",
}
"""Programs that tell what they use. Of PyTorch, the libraries themselves tell it (VERBOSE)."""
VERBOSE = {"MKL_VERBOSE": "1", "ONEDNN_VERBOSE": "1"}


def limits(isa: str) -> dict[str, str]:
    """The environment in which no side uses wider instructions than `isa`. RuntimeError if this processor
    does not have them."""
    core: Any = import_module("numpy._core._multiarray_umath")
    if not core.__cpu_features__.get(isa.upper()):
        raise RuntimeError(f"this processor has no {isa.upper()}")
    wide = [name for name in core.__cpu_dispatch__ if name == "X86_V4" or name.startswith("AVX512")]
    found = {**LIMITS, "NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    try:
        from llvmlite import binding
    except ImportError:  # then nothing is compiled
        return found
    features = binding.get_host_cpu_features()
    for name in features:
        features[name] &= not name.startswith("avx512")
    return {
        **found,
        "NUMBA_CPU_NAME": binding.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": features.flatten(),
    }


def set_up(isa: str | None) -> None:
    """Change the environment of this process, and so of the workers that it will start."""
    for name in OWN_CHOICES:
        os.environ.pop(name, None)
    os.environ.update(limits(isa) if isa else {})


def what_runs(package: str) -> str:
    """The instruction sets that a package and its libraries have chosen; "" if they do not tell."""
    if package not in ASK:
        return ""
    command = [sys.executable, "-c", ASK[package]]
    told = subprocess.run(command, env={**os.environ, **VERBOSE}, capture_output=True, text=True, check=False)
    if package != "torch":
        return told.stdout
    found = []
    for line in told.stdout.splitlines():
        if line.startswith("MKL_VERBOSE") and "build" in line:
            found.append("MKL for " + line.partition("architecture ")[2].partition(",")[0])
        elif "info,cpu,isa:" in line:
            found.append("oneDNN " + line.rpartition("isa:")[2])
        elif line.startswith("ATen"):
            found.append(line)
    return ", ".join(found)


def is_wide(told: str) -> bool:
    """Whether a package told that it uses AVX-512."""
    return any(name in told.lower() for name in WIDE)


@contextmanager
def load(count: int) -> Iterator[None]:
    """Other programs at work: `count` processes that spin. They end with the block, and by themselves if this
    process dies."""
    code = f"import os\nwhile os.getppid() == {os.getpid()}:\n    for _ in range(10**6): pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
