"""The examples as people run them, in a process of their own, and as modules, for what they measure."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
ALONE = {**os.environ, "NUMBA_NUM_THREADS": "1"}  # at the tests' sizes threads only wait for one another


def command(example, *flags):
    return [sys.executable, str(EXAMPLES / example), *map(str, flags)]


def run(example, *flags):
    """What a process prints, and how it ends."""
    return subprocess.run(
        command(example, *flags), capture_output=True, text=True, timeout=300, check=False, env=ALONE
    )


def module(example):
    """The script as a module, which finds those beside it."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec = importlib.util.spec_from_file_location(example.removesuffix(".py"), EXAMPLES / example)
        found = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    finally:
        sys.path.remove(str(EXAMPLES))
    return found


def outcome(out):
    """What a run has left in its folder that must be the same to the last bit if it was stopped midway."""
    result = json.loads((out / "result.json").read_text())
    figures = {name: x for name, x in result.items() if name not in ("seconds", "flags")}
    return (out / "metrics.csv").read_text(), (out / "model.safetensors").read_bytes(), figures
