"""The command line of the benchmarks.

python -m benchmarks                        # all (ten minutes), compared with PyTorch if it is installed
python -m benchmarks ops --peers            # one, without peers
python -m benchmarks gpt-small vae --peers torch,torch-compile,jax --modes numpy --json out.json
python -m benchmarks gpt-small --isa avx2   # on a processor with AVX-512, all sides without it
python -m benchmarks gpt-small --busy 1     # while another program occupies a core
python -m benchmarks kernels --only conv2d  # only the cases whose names contain this
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from benchmarks import paired, surroundings
from benchmarks.paired import Report
from benchmarks.tables import text
from benchmarks.worker import OURS

WORKLOADS = {
    "ops": "ops",
    "import": "imports",
    "gemm": "gemm",
    "gpt-small": "gpt_small",
    "gpt-baby": "gpt_baby",
    "vae": "vae",
    "lstm": "lstm",
    "translation": "translation",
    "conv": "conv",
    "kernels": "kernels",
    "unet": "unet",
    "gan": "gan",
    "generate": "generate",
    "gpt2": "gpt2",
    "llama": "llama",
    "llama-generate": "llama_generate",
    "llama-f16": "llama_f16",
    "sd-unet": "sd_unet",
    "sd-picture": "sd_picture",
    "checkpoints": "checkpoints",
    "scaling": "scaling",
    "parallel": "parallel",
}
PEERS = (
    "torch",
    "torch-compile",
    "torch-nhwc",
    "jax",
    "autograd",
    "transformers",
    "diffusers",
    "safetensors",
)
MODES = ("numpy", "off", "alone")


def list_parser(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A parser of a list such as "torch,jax"; an unknown name is an error."""

    def names(text: str) -> list[str]:
        found = [name for name in text.split(",") if name]
        if unknown := sorted(set(found) - set(known)):
            raise argparse.ArgumentTypeError(
                f"there is no {', '.join(unknown)}: choose from {','.join(known)}"
            )
        return found

    return names


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="The same work on tinygen and beside it, in processes that take turns.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all if none is")
    parser.add_argument(
        "--peers",
        nargs="?",
        const="",
        default="torch",
        type=list_parser(PEERS),
        metavar="A,B",
        help=f"beside us, those that a benchmark has, of {','.join(PEERS)}; none if nothing follows",
    )
    parser.add_argument(
        "--modes",
        default="",
        type=list_parser(MODES),
        metavar="A,B",
        help=f"also tinygen with fewer kernels, or alone on one thread, of {','.join(MODES)}",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose names contain it")
    parser.add_argument("--rounds", type=int, help="blocks of each side; else 9, of kernels 3")
    parser.add_argument("--seconds", type=float, help="length of a block; else 0.3, of kernels 0.04")
    parser.add_argument(
        "--isa",
        choices=surroundings.ISAS,
        help="the widest instruction set for all sides; else the processor's",
    )
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes that spin beside")
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")
    return parser


def main(arguments: Sequence[str]) -> None:
    parser = flags()
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(WORKLOADS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(WORKLOADS)}")
    if any(value is not None and value <= 0 for value in (args.rounds, args.seconds)):
        parser.error("at least one round, of more than no time")
    if args.busy < 0:
        parser.error(f"--busy {args.busy}: a number of processes, 0 or more")
    try:
        surroundings.set_up(args.isa)
    except RuntimeError as error:
        parser.error(f"--isa {args.isa}: {error}")
    kept = [a for a, b in zip(arguments, ["", *arguments], strict=False) if "--json" not in (a, b)]
    command = shlex.join(["python", "-m", "benchmarks", *kept])  # whoever runs it again has files elsewhere
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    print(f"{date}  {command}\n{paired.machine()}, {paired.THREADS} threads a side")
    runs = {package: surroundings.what_runs(package) for package in (OURS, "numpy", *args.peers)}
    runs = {package: told for package, told in runs.items() if told}
    for package, told in runs.items():
        print(f"{package}: {told}")
        if args.isa and surroundings.is_wide(told):
            parser.error(f"--isa {args.isa} did not reach {package}: {told}")
    found: dict[str, Any] = {}
    with surroundings.load(args.busy):
        measure_all(args, found)
    if args.json:
        facts = {"date": date, "command": command, "machine": paired.machine(), "threads": paired.THREADS}
        with open(args.json, "w") as file:
            json.dump({**facts, "runs": runs, "results": found}, file, indent=1)


def measure_all(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Run and print the benchmarks; `found` gets their reports."""
    for name in args.names or WORKLOADS:
        workload = f"benchmarks.{WORKLOADS[name]}"
        module = importlib.import_module(workload)
        sides = [*module.BESIDE, *(peer for peer in args.peers if peer in module.PEERS)]
        if getattr(module, "MODES", True):
            sides += [f"{OURS}-{mode}" for mode in args.modes]
        run = getattr(module, "measure", paired.measure)
        rounds = args.rounds or getattr(module, "ROUNDS", 9)
        seconds = args.seconds or getattr(module, "SECONDS", 0.3)
        only = {"only": args.only} if args.only else {}
        if only and run is not paired.measure and not getattr(module, "ONLY", False):
            raise SystemExit(f"{name} measures its cases together: leave --only out")
        report: Report = run(workload, sides, rounds, seconds, **only)
        print(f"\n{text(name, report)}", flush=True)
        found[name] = asdict(report)


if __name__ == "__main__":
    main(sys.argv[1:])
