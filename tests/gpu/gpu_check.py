"""Everything that only a GPU can show, in one run of at most nine minutes:

    python tests/gpu/gpu_check.py --out runs/gpu
    python tests/gpu/gpu_check.py --stages versions,kernels,ops,training,launches  # the first time
    python tests/gpu/gpu_check.py --stages shakespeare  # alone, it has all of the time

Each stage runs in its own process and has its own time limit, so that a stage that fails, hangs or corrupts
the GPU's state stops no other. Its measurements so far are kept: report.json in --out is written again
after each stage, and report.txt is the same for people. Nothing is downloaded.

`--device cpu` tests the check itself: tiny sizes, NumPy in place of the GPU, the kernels in the simulator.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpu_stage import CHECKOUT, Skipped
from gpu_tables import problems, text

Report = dict[str, Any]


class Stage(NamedTuple):
    """A function of the device that yields figures (`gpu_stage.py`), and how to run it."""

    function: str  # "module:name"
    budget: float  # seconds
    tf32: bool = False  # products of matrices round to TF32, which CuPy decides once in a process
    endless: bool = False  # it is no fault that its budget ends it


STAGES = {
    "versions": Stage("gpu_speed:versions", 40),
    "kernels": Stage("gpu_parity:agreement", 90),
    "ops": Stage("gpu_parity:every_op", 90),
    "training": Stage("gpu_parity:training", 60),
    "launches": Stage("gpu_launches:launches", 30),
    "speed": Stage("gpu_speed:ops_beside_torch", 75),
    "models": Stage("gpu_models:models_beside_torch", 75),
    "speed, TF32": Stage("gpu_speed:ops_beside_torch", 40, tf32=True),
    "models, TF32": Stage("gpu_models:models_beside_torch", 60, tf32=True),
    "ops, float64": Stage("gpu_parity:every_definition", 60),
    "shakespeare": Stage("gpu_shakespeare:shakespeare", math.inf, tf32=True, endless=True),
}
LEAST = 8.0
"""Seconds without which no stage begins: as long as it takes to import everything."""


def child(function: str, device: str, file: Path) -> None:
    """A stage, in this process: each figure is a line of the file as soon as it is known."""
    module, _, stage = function.partition(":")
    with open(file, "w", buffering=1) as lines:
        try:
            for name, figure in getattr(importlib.import_module(module), stage)(device):
                lines.write(json.dumps([name, figure]) + "\n")
        except Skipped as why:
            lines.write(json.dumps(["skipped", str(why)]) + "\n")


def measured(stage: Stage, device: str, seconds: float) -> Report:
    """The figures of a stage that has run in another process, for so many seconds at most."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "figures", Path(folder) / "log"
        file.touch()
        command = [sys.executable, str(Path(__file__)), "--device", device]
        command += ["--child", stage.function, str(file)]
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(stage, device))
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
                process.wait()
        lines = file.read_text().splitlines(keepends=True)
        tail = log.read_text(errors="replace").strip().splitlines()[-8:]
    report: Report = {"figures": dict(json.loads(line) for line in lines if line.endswith("\n"))}
    if "skipped" in report["figures"]:
        report["skipped"] = report["figures"].pop("skipped")
    if code is None:
        report["ended" if stage.endless else "failed"] = f"after {seconds:.0f} s, its budget"
    elif code:
        report["failed"] = " | ".join([f"exit code {code}", *tail])
    return {**report, "seconds": time.perf_counter() - start}


def environment(stage: Stage, device: str) -> dict[str, str]:
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "CUPY_TF32": str(int(stage.tf32)),
        "NUMBA_ENABLE_CUDASIM": str(int(device == "cpu")),
    }


def run(stages: dict[str, Stage], device: str, folder: Path, budget: float) -> Report:
    """Each stage's report, written as it comes. None begins when the budget is spent."""
    folder.mkdir(parents=True, exist_ok=True)
    report: Report = {}
    end = time.perf_counter() + budget
    for name, stage in stages.items():
        left = end - time.perf_counter()
        if left < LEAST:
            report[name] = {"figures": {}, "skipped": f"{budget:g} s are over", "seconds": 0.0}
        else:
            report[name] = measured(stage, device, min(stage.budget, left))
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (folder / "report.txt").write_text(text(report))
        print(f"{name}: {report[name]['seconds']:.0f} s", flush=True)
    return report


def listed(names: str) -> list[str]:
    """Stages by the first word of their names: "models" is both of them."""
    known = dict.fromkeys(name.partition(",")[0] for name in STAGES)
    wanted = names.split(",")
    if unknown := sorted(set(wanted) - set(known)):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}: choose from {', '.join(known)}")
    return [name for name in STAGES if name.partition(",")[0] in wanted]


def without_gpu() -> str:
    """Why there is no GPU to measure, or nothing."""
    try:
        import cupy
    except ImportError:
        return 'CuPy is missing (pip install "tinygen[cuda13]")'
    return "" if cupy.cuda.is_available() else "CuPy sees none (nvidia-smi lists them)"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="measure tinygen on a GPU", allow_abbrev=False)
    parser.add_argument("--out", default="runs/gpu", help="folder for report.json and report.txt")
    parser.add_argument("--stages", type=listed, default=list(STAGES), help="some of them: versions,kernels")
    parser.add_argument("--budget", type=float, default=520, help="seconds, of all stages")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tiny, without a GPU")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        function, file = args.child
        child(function, args.device, Path(file))
        return
    if args.device == "cuda" and (missing := without_gpu()):
        sys.exit(f"no GPU found: {missing}")
    report = run({name: STAGES[name] for name in args.stages}, args.device, Path(args.out), args.budget)
    print(text(report))
    sys.exit(1 if problems(report) else 0)


if __name__ == "__main__":
    main()
