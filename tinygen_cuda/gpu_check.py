"""Everything that can only be known on a card, in one run of at most nine minutes:

    python -m tinygen_cuda.gpu_check --out runs/gpu

Stages come one after the other, each with its own budget; after each, report.json in --out has what is known
so far, so that a run that is cut short has still measured something. A stage that fails is in the report with
its error, and the next one begins. Nothing is downloaded. Without a card it says so, in one line."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygen import Tensor, kernels, ops
from tinygen.models.gpt import GPT, GPTConfig
from tinygen.ops.window import Geometry
from tinygen.optim import AdamW
from tinygen_cuda.checks import CHECKS, Put

FAMILIES = (
    *("reduce", "softmax", "layer_norm", "group_norm", "gelu", "cross_entropy"),
    *("embedding", "im2col", "adam", "philox", "flash", "attention"),
)
CLOSE = 1e-4  # of the largest entry: sums of thousands of float32 numbers

SAME = Geometry((1, 1), (1, 1), (1, 1), 1)
SIZES: dict[str, tuple[Any, ...]] = {
    "reduce": (4096, 4097),
    "softmax": (4096, 1000),
    "layer_norm": (4096, 768),
    "group_norm": (16, 32, 4, 1024),
    "gelu": (2**20 + 1,),
    "cross_entropy": (512, 50257),
    "embedding": (8192, 768, 65),
    "columns": ((8, 64, 32, 32), (3, 3), SAME),
    "convolutions": ((8, 64, 32, 32), 128, (3, 3), SAME),
    "adam": (2**20 + 1,),
    "philox": (2**20 + 1,),
    "attention": (24, 200, 256, 64, True),
}
"""Of the checks: as models have them, and odd ones, that no block divides."""

Report = dict[str, Any]


def versions(cupy: Any) -> Report:
    """What is installed, and the card's ceilings: copying, and products of matrices."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "cupy": cupy.__version__}
    for name in ("numba", "numba_cuda", "torch"):
        try:
            found[name] = importlib.import_module(name).__version__
        except ImportError:
            found[name] = "missing"
    found["card"] = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    found["driver"] = str(cupy.cuda.runtime.driverGetVersion())
    x = cupy.ones(2**29, np.float32)
    y = cupy.empty_like(x)
    seconds = timed(cupy, lambda: cupy.copyto(y, x))
    a = cupy.ones((8192, 8192), np.float32)
    product = timed(cupy, lambda: a @ a)
    return {**found, "copy GB/s": 2 * x.nbytes / seconds / 1e9, "GEMM TFLOP/s": 2 * 8192**3 / product / 1e12}


def timed(cupy: Any, function: Callable[[], Any], repeats: int = 20) -> float:
    """The median time of a call in seconds, by the card's clock, after a warm-up."""
    from cupyx.profiler import benchmark

    return float(np.median(benchmark(function, n_repeat=repeats, n_warmup=5).gpu_times))


def agreement(families: Any, put: Put, sizes: dict[str, tuple[Any, ...]] = SIZES) -> Report:
    """Every kernel beside its definition in float64 on the CPU: {check: largest error}."""
    errors = {}
    for name, check in CHECKS.items():
        results = check(families, put, np.random.default_rng(0), *sizes[name])
        errors[name] = max(r.error for r in results)
    wrong = sorted(name for name, error in errors.items() if not error < CLOSE)
    return {"error": errors, "wrong": wrong}


def training(device: str, config: GPTConfig, batch: int, steps: int = 10) -> list[float]:
    """The losses of a small GPT's first steps."""
    model = GPT(config, np.random.default_rng(0)).to(device)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    rng, losses = np.random.default_rng(1), []
    for _ in range(steps):
        ids = rng.integers(config.vocab_size, size=(batch, config.block_size + 1))
        _, loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def parity(device: str) -> Report:
    """Ten steps of training on the CPU and on the card."""
    config = GPTConfig(65, 32, n_layer=2, n_head=2, n_embd=64)
    here, there = training("cpu", config, 4), training(device, config, 4)
    return {"cpu": here, device: there, "largest difference": float(np.abs(np.subtract(here, there)).max())}


def launches(cupy: Any) -> Report:
    """What a launch of almost nothing costs the CPU, in microseconds."""
    from tinygen_cuda.adam import adam
    from tinygen_cuda.gelu import gelu

    x = cupy.ones(256, np.float32)
    numbers: Any = {"rates": [0.1], "epsilons": [0.1], "keep": 1.0, "decay": 0.0, "betas": (0.9, 0.99)}
    plain = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x + 1", "plus_one")
    calls = {
        "Numba, 2 arrays": lambda: gelu(x),
        "Numba, 4 arrays": lambda: adam(x, x, x, x, **numbers),
        "CuPy, 1 array": lambda: plain(x),
    }
    return {name: 1e6 * host_seconds(cupy, call) for name, call in calls.items()}


def host_seconds(cupy: Any, call: Callable[[], Any], times: int = 1000) -> float:
    for _ in range(10):
        call()
    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def speed(cupy: Any) -> Report:
    """Milliseconds of some ops forward and backward, through the kernels and through the definitions on CuPy;
    and of a training step of nanoGPT's GPT for Shakespeare."""
    rng = np.random.default_rng(0)

    def on_card(*shape: int) -> Tensor:
        return Tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True).to("cuda")

    x, weight, wide = on_card(16384, 384), on_card(384), on_card(16384, 1536)
    scores, q = on_card(384 * 256, 256), on_card(64, 6, 256, 64)
    calls: dict[str, Callable[[], Tensor]] = {
        "layer_norm": lambda: ops.layer_norm(x, weight, weight),
        "gelu": lambda: ops.gelu(wide),
        "softmax": lambda: ops.softmax(scores),
        "attention": lambda: ops.attention(q, q, q, causal=True),
    }
    found: Report = {}
    for name, call in calls.items():
        g = cupy.ones_like(call().data)
        for mode in ("auto", "off"):
            with kernels(mode):
                both = lambda call=call, g=g: call().backward(g)
                found[f"{name}, kernels {mode}"] = 1e3 * timed(cupy, both)
    config = GPTConfig(65, 256, n_layer=6, n_head=6, n_embd=384, bias=False)
    training("cuda", config, 64, 3)
    start = time.perf_counter()
    training("cuda", config, 64, 10)  # each step ends with loss.item(), which waits for the card
    found["GPT step"] = 1e3 * (time.perf_counter() - start) / 10
    found["memory MB"] = cupy.get_default_memory_pool().total_bytes() / 1e6
    return found


def run(stages: dict[str, Callable[[], Report]], folder: Path, budget: float) -> Report:
    """Each stage's report, or its error, written to report.json as they come; none begins beyond the
    budget."""
    folder.mkdir(parents=True, exist_ok=True)
    report: Report = {}
    began = time.perf_counter()
    for name, stage in stages.items():
        start = time.perf_counter()
        if start - began > budget:
            report[name] = {"skipped": f"after {budget:g} s"}
        else:
            try:
                report[name] = stage()
            except Exception as error:
                report[name] = {"failed": repr(error), "where": traceback.format_exc().splitlines()[-6:]}
            report[name]["seconds"] = time.perf_counter() - start
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        print(f"{name}: {json.dumps(report[name])}", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description="measure tinygen on a card")
    parser.add_argument("--out", default="runs/gpu", help="folder for report.json")
    parser.add_argument("--budget", type=float, default=480, help="seconds after which no stage begins")
    args = parser.parse_args()
    try:
        import cupy
    except ImportError:
        sys.exit('no card found: CuPy is missing (pip install "tinygen[cuda13]")')
    if not cupy.cuda.is_available():
        sys.exit("no card found: CuPy sees none (nvidia-smi lists them)")

    def families() -> Any:
        modules = {name: importlib.import_module(f"tinygen_cuda.{name}") for name in FAMILIES}
        return SimpleNamespace(**modules)

    stages = {
        "versions and ceilings": lambda: versions(cupy),
        "kernels": lambda: agreement(families(), cupy.asarray),
        "parity": lambda: parity("cuda"),
        "launches": lambda: launches(cupy),
        "speed": lambda: speed(cupy),
    }
    report = run(stages, Path(args.out), args.budget)
    failed = [name for name, found in report.items() if "failed" in found or found.get("wrong")]
    sys.exit(f"wrong or failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
