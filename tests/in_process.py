"""Examples run in the test's own process, where they start at once and can be asked to stop at any step."""

import importlib.util
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    """The example as a module."""
    sys.path.insert(0, str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(monkeypatch, example, *flags, stop_after=None):
    """The example from its command line; it is asked to stop after so many steps of its loop."""

    class Stop(example.Stop):
        looks = 0

        @property
        def asked(self):
            type(self).looks += 1
            return stop_after is not None and self.looks > stop_after

    monkeypatch.setattr(example, "Stop", Stop)
    monkeypatch.setattr(sys, "argv", [f"{example.__name__}.py", *map(str, flags)])
    example.main()
