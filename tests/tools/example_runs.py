"""Runs the examples as users do, in their own process; or as modules in the process of the test, where they
start at once."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.safetensors import load_file

EXAMPLES = Path(__file__).parents[2] / "examples"
ALONE = {
    **os.environ,
    "NUMBA_NUM_THREADS": "1",
}  # small sizes: threads would only wait
AS_TEXT = {"encoding": "utf-8", "env": ALONE}


def path_of(example):
    """The path of the example with this file name: examples are in folders by subject."""
    (path,) = EXAMPLES.rglob(example)
    return path


def command(example, *flags):
    return [sys.executable, str(path_of(example)), *map(str, flags)]


def run(example, *flags):
    """Run the example. Returns its output and its exit code, as a CompletedProcess."""
    return subprocess.run(command(example, *flags), capture_output=True, timeout=300, check=False, **AS_TEXT)


def stopped(kind, when, example, *flags):
    """Start the example, and send the signal `kind` as soon as `when()` is true. Returns its output and its
    exit code."""
    process = subprocess.Popen(
        command(example, *flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's "&" has it ignored
        **AS_TEXT,
    )
    deadline = time.monotonic() + 300
    while not when():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.send_signal(kind)
    stdout, stderr = process.communicate(timeout=300)  # kernels may be compiled first
    return stdout, stderr, process.returncode


def saved(folder, step):
    """Whether there is a checkpoint of this step, or of a later one."""
    return any(int(p.name.split("-")[-1]) >= step for p in Checkpoints(folder / "checkpoints").paths())


def outcome(out):
    """The results in a run's folder. They must be the same to the last bit if the run was stopped and
    resumed."""
    result = json.loads((out / "result.json").read_text())
    figures = {n: x for n, x in result.items() if n not in ("run", "flags") and "second" not in n}
    return (out / "metrics.csv").read_text(), (out / "model.safetensors").read_bytes(), figures


def require_same_from(step, out, example, *flags):
    """Take the finished run in the folder `out` back to its checkpoint of this step, as if it had been killed
    there, and resume it with the same flags. The results must be the same to the last bit."""
    whole = outcome(out)
    checkpoints = Checkpoints(out / "checkpoints")
    for path in checkpoints.paths():
        if int(path.name.split("-")[-1]) > step:
            shutil.rmtree(path)
    assert checkpoints.load().step == step
    (out / "result.json").unlink()
    done = run(example, *flags, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(out) == whole


def require_average(out):
    """The model that a run keeps has the averaged weights of its last checkpoint."""
    average = Checkpoints(out / "checkpoints").load().state["things"]["ema"]["average"]
    model = load_file(out / "model.safetensors")
    assert model.keys() == average.keys()
    for name, value in model.items():
        np.testing.assert_array_equal(value, average[name])


def require_pictures(out, *names):
    for name in names:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# -- in this process -------------------------------------------------------------------------------


def module(example):
    """The script as a module. It finds its helpers: the files beside it, and shared/."""
    before, path = list(sys.path), path_of(example)
    sys.path[:0] = [str(path.parent), str(EXAMPLES)]
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    finally:
        sys.path[:] = before
    return found


def run_here(monkeypatch, example, *flags, stop_after=None, at_step=None):
    """Run the module with these flags in this process, and return its exit code. After `stop_after` steps
    of its loop, Ctrl-C is simulated. `at_step(run)` is called before the first step and after each step."""
    run_type = sys.modules["shared.run"].Run
    remember = run_type.remember
    steps = -1  # of this process

    def watched(run):
        nonlocal steps
        steps += 1
        if steps == stop_after:
            run.stop.ask(signal.SIGINT, None)
        if at_step:
            at_step(run)
        return remember(run)

    with monkeypatch.context() as patch:
        patch.setattr(run_type, "remember", watched)
        patch.setattr(sys, "argv", [f"{example.__name__}.py", *map(str, flags)])
        try:
            example.start(example.parse_args, example.main)
        except SystemExit as end:
            return end.code
    return 0
