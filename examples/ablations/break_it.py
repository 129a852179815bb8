"""Break one line of the source, and see what follows.

    python examples/ablations/break_it.py  # the list
    python examples/ablations/break_it.py no_scale  # one of them: both figures, and a picture
    python examples/ablations/break_it.py no_scale --seeds 3 --out runs/mine
    python examples/ablations/break_it.py all --record  # three seeds of each, into docs/

An ablation changes the text of a file in a copy of the checkout (ablation.py) and runs a small experiment
twice, with the source as it is and with the change. The seeds are the same. `--record` writes
docs/results/break_it.json, the pictures in docs/pictures/, and docs/break_it.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ablations.ablation import Ablation, applied, copy_checkout, measure
from ablations.page import draw, figures_of, record, value_text, write_page
from ablations.table import ABLATIONS
from shared.flags import Flags, number, size

NAMES = [ablation.name for ablation in ABLATIONS]
Known = dict[tuple[str, int], Any]


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="without one: the list; all: all of them")
    add("--seeds", type=number(int, 1), help="runs with seeds 0, 1, ...; default: 1, with --record 3")
    add("--jobs", type=size(1), default=os.cpu_count() or 1, help="runs side by side, each on one core")
    add("--out", default="runs/break_it", help="folder of the pictures")
    add("--record", action="store_true", help="write results, pictures and the page into docs/")
    add("--page", action="store_true", help="write docs/break_it.md again from the results, and run nothing")
    args = parser.parse_args()
    if unknown := {*args.names} - {*NAMES, "all"}:
        args.error(f"there is no ablation {min(unknown)!r}; without a name, all are listed")
    args.seeds = args.seeds or (3 if args.record else 1)
    return args


def list_all() -> None:
    width, chapter = max(map(len, NAMES)), ""
    for each in ABLATIONS:
        if each.chapter != chapter:
            chapter = each.chapter
            print(f"\n{chapter}")
        print(f"    {each.name:{width}}  {each.title}")


def compare(ablation: Ablation, copies: Sequence[Path], args: argparse.Namespace, known: Known) -> Any:
    """The outcomes of the experiment for each seed: of the source as it is, and with the change, in two
    copies side by side. `known` has those of the source as it is that another ablation needed before."""
    good, broken = copies
    keys = [(ablation.experiment, seed) for seed in range(args.seeds)]
    with applied(ablation, broken), ThreadPoolExecutor(args.jobs) as pool:
        runs = {key: pool.submit(measure, ablation, good, key[1]) for key in keys if key not in known}
        after = [pool.submit(measure, ablation, broken, seed) for _, seed in keys]
        known |= {key: run.result() for key, run in runs.items()}
        return [known[key] for key in keys], [run.result() for run in after]


def show(ablation: Ablation, good: Any, broken: Any) -> None:
    """Print the change and the figures."""
    print(f"\n{ablation.title}\n\n{ablation.diff()}\n")
    width = max(map(len, good[0]["figures"]))
    print(f"    {'':{width}}  {'as it is':>12}  {'broken':>12}")
    for name, values in figures_of(good, broken).items():
        as_it_is, after = (value_text(values[which]) for which in ("good", "broken"))
        print(f"    {name:{width}}  {as_it_is:>12}  {after:>12}")
    print(f"\n{ablation.why}\n\nThe test that fails: {ablation.test}")


def main(args: argparse.Namespace) -> None:
    if args.page:
        write_page()
        return
    if not args.names:
        list_all()
        return
    chosen = [each for each in ABLATIONS if {each.name, "all"} & {*args.names}]
    out, known = Path(args.out), Known()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        copies = [copy_checkout(Path(temporary) / name) for name in ("as_it_is", "broken")]
        for ablation in chosen:
            good, broken = compare(ablation, copies, args, known)
            show(ablation, good, broken)
            picture = draw(out / f"{ablation.name}.png", ablation, good, broken)
            print(f"Picture: {picture}")
            if args.record:
                record(ablation, good, broken, picture)
    if args.record:
        write_page()


if __name__ == "__main__":
    start(parse_args, main)
