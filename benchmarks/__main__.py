"""The command line of the benchmarks, and their table.

python -m benchmarks                        # all of them, with PyTorch beside where it is installed
python -m benchmarks ops --peers            # one, without peers
python -m benchmarks gpt-small --json out.json
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from benchmarks import paired
from benchmarks.paired import OURS, Report, Spread

WORKLOADS = {"ops": "ops", "import": "imports", "gpt-small": "gpt_small"}
KNOWN_PEERS = ("torch",)


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="The same work on tinygen and beside it, in processes that take turns.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all if none is")
    parser.add_argument(
        "--peers", nargs="*", choices=KNOWN_PEERS, default=list(KNOWN_PEERS), help="beside us"
    )
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each side")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a block")
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")
    return parser


def main(arguments: Sequence[str]) -> None:
    parser = flags()
    args = parser.parse_args(arguments)
    if unknown := set(args.names) - set(WORKLOADS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: there are {', '.join(WORKLOADS)}")
    if args.rounds < 1 or args.seconds <= 0:
        parser.error("at least one round, of more than no time")
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    date = datetime.now().strftime("%Y-%m-%d %H:%M")
    print(f"{date}  {command}\n{paired.machine()}, {paired.THREADS} threads a side")
    found: dict[str, Any] = {}
    for name in args.names or WORKLOADS:
        workload = f"benchmarks.{WORKLOADS[name]}"
        module = importlib.import_module(workload)
        sides = [*module.BESIDE, *(peer for peer in args.peers if peer in module.PEERS)]
        run = getattr(module, "measure", paired.measure)
        report: Report = run(workload, sides, args.rounds, args.seconds)
        print(f"\n{table(name, report, getattr(module, 'SHOWN', 'ratios'))}", flush=True)
        found[name] = asdict(report)
    if args.json:
        facts = {"date": date, "command": command, "machine": paired.machine(), "threads": paired.THREADS}
        with open(args.json, "w") as file:
            json.dump({**facts, "results": found}, file, indent=1)


def table(name: str, report: Report, shown: str) -> str:
    """A row per case: the median of each side, and how tinygen compares, as median (quartiles)."""
    others = [side for side in report.versions if side != OURS]
    sign = {"ratios": "/", "differences": "−"}[shown]
    rows = [[report.unit, *report.versions, *(f"{OURS} {sign} {side}" for side in others)]]
    for comparison in report.comparisons:
        compared: dict[str, Spread] = getattr(comparison, shown)
        medians = [f"{comparison.times[side].median:.2f}" for side in report.versions]
        spreads = [f"{s.median:.2f} ({s.low:.2f} to {s.high:.2f})" for s in compared.values()]
        rows.append([comparison.case, *medians, *spreads])
    if report.memory:
        rows.append(
            ["peak memory, MB", *(f"{m / 1e6:.0f}" for m in report.memory.values()), *("" for _ in others)]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"== {name} ({', '.join(f'{side} {v}' for side, v in report.versions.items())})"]
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    lines += [f"{package} is not installed, and was left out" for package in report.missing]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
