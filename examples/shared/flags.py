"""The flags of the examples: types, sizes, devices. They are checked before anything else."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NoReturn

import numpy as np

from tinygen import DeviceGenerator
from tinygen.arrays import to_device

for package in ("matplotlib", "tqdm"):
    if find_spec(package) is None:
        sys.exit(f'{package} is missing: pip install -e ".[examples]"')


SEEDS = 3  # of --full
FULL: dict[str, Any] = {"seed": 0}  # --full of an example with --seed

SIZES = {
    "quick": "seconds, for a first look and for CI; the expectation is to beat the trivial baseline",
    "full": f"{SEEDS} seeds, from --seed on, and the means of their figures",
}


class Flags(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2; every flag shows its default in --help. The
    arguments also have `error`, a function that ends the program with a message, and `size`.

    With `sizes` the example has three sizes: --quick, the default, and --full. `sizes["quick"]` and
    `sizes["full"]` replace the defaults; a flag on the command line overrides both. --full runs the example
    with three seeds (shared/full.py). `RunFolder.result` appends its result to `results`."""

    def __init__(self, doc: str | None, sizes: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__(
            description=(doc or "").split("\n")[0],  # `python -OO` leaves no docstrings
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )
        self.sizes = sizes or {}
        self.set_defaults(size="default")
        group = self.add_mutually_exclusive_group()
        for size, values in self.sizes.items():
            flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())
            text = f"{SIZES[size]}: {flags or 'the default size'}"
            always: dict[str, Any] = {"dest": "size", "action": "store_const", "default": argparse.SUPPRESS}
            group.add_argument(f"--{size}", const=size, help=text, **always)

    def parse_args(self, *given: Any) -> argparse.Namespace:  # type: ignore[override]
        chosen, _ = self.parse_known_args(*given)
        self.set_defaults(**self.sizes.get(chosen.size, {}))
        args: argparse.Namespace = super().parse_args(*given)
        args.error, args.results = self.error, []
        return args

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (--help lists the flags)\n")


def number(kind: type, low: float, high: float = math.inf, largest: float = 10**12) -> Callable[[str], Any]:
    """A flag's type: an int or a float within [low, high]. A number above `largest` must be a mistake."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        if value is not None and value > largest and high == math.inf:
            value, span = None, f"at most {largest:,}"
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be {'an' if kind is int else 'a'} {kind.__name__} {span}, not {text!r}"
            )
        return value

    return parse


def size(low: int, largest: int = 65_536) -> Callable[[str], Any]:
    """A flag's type: the size of something that is kept in memory."""
    return number(int, low, largest=largest)


def add_run_flags(parser: Flags, out: str, often: str) -> None:
    """Add the flags of a run that can be resumed, and --device. `often` is the default number of steps
    between checkpoints."""
    add = parser.add_argument
    add("--out", default=out, help="folder of the metrics, the curve, the result, the model, the checkpoints")
    add("--save-every", type=number(int, 1), help=f"steps between checkpoints; by default {often}")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out, with the same flags")
    add_device_flag(parser)


def add_from_flag(parser: Flags, stage: str) -> None:
    """Add --from, as `args.source`: the folder of another run that has finished the first stage already."""
    text = f"folder of a run whose {stage} this one takes, instead of training its own"
    parser.add_argument("--from", dest="source", metavar="RUN", help=text)


def device(text: str) -> str:
    """A flag's type: "cpu", or "cuda" if there is a GPU."""
    try:
        to_device(np.zeros(0), text)
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def add_device_flag(parser: Flags) -> None:
    parser.add_argument("--device", type=device, default="cpu", help="where to compute: cpu or cuda")


def generator(seed: int, device: str) -> np.random.Generator:
    """NumPy's generator; for a GPU, a generator that draws masks and noise there. All other numbers are the
    same as from NumPy's."""
    return np.random.default_rng(seed) if device == "cpu" else DeviceGenerator(seed)


def numpy_function(model: Any, device: str) -> Callable[..., Any]:
    """A model on the device as a function of NumPy arrays, for samplers and judges on the CPU."""
    return lambda x, *more: model(to_device(x, device), *more).numpy()
