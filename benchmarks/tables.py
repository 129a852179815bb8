"""Reports as tables: as text, and in Markdown for `docs/performance.md`.

python -m benchmarks.tables FILE.json …      # from files that `python -m benchmarks --json FILE.json` wrote

prints the tables; with `--into docs/performance.md` they replace the text between the lines START and END
there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import GEMM, Comparison, Report, Spread
from benchmarks.worker import OURS

START, END = "<!-- tables: start -->", "<!-- tables: end -->"
SIGNS = {"ratios": "/", "differences": "−"}
PAIRS = {
    "tinygen / tinygen-off": "/ definition",
    "tinygen / tinygen-numpy": "/ floor",
    "tinygen / numpy": "/ NumPy",
    "tinygen / torch": "/ torch",
    "tinygen-numpy / torch": "floor / torch",
}
"""The ratios in a compact table."""
Rows = list[list[str]]


def rows(report: Report) -> Rows:
    """A title row, then a row for each case and side: the median time, tinygen's ratio to this side as median
    (quartiles), and the other figures. Empty columns are left out."""
    if report.compact:
        return ratio_rows(report)
    sign = SIGNS[report.shown]
    ours = [side for side in report.versions if side.partition("-")[0] == OURS]
    columns = [f"{a} {sign} it" for a in ours]
    found = [["", "", report.unit, *columns, f"{report.items} a second", "of GEMM", "peak MB"]]
    for comparison in report.comparisons:
        case = comparison.case
        compared: dict[str, Spread] = getattr(comparison, report.shown)
        for side, took in comparison.times.items():
            spreads = [compared.get(f"{a} {sign} {side}") for a in ours]
            rate, part = comparison.rates.get(side), comparison.of_peak.get(side)
            memory = report.memory.get(side) if comparison is report.comparisons[-1] else None
            found.append(
                [
                    *(case, side, f"{took.median:.2f}"),
                    *(f"{s.median:.2f} ({s.low:.2f} to {s.high:.2f})" if s else "" for s in spreads),
                    f"{rate.median:.4g}" if rate else "",
                    f"{part.median:.0%}" if part else "",
                    f"{memory / 1e6:.0f}" if memory else "",
                ]
            )
            case = ""
    used = [i for i, cells in enumerate(zip(*found, strict=True)) if any(cells[1:])]
    return [[row[i] for i in used] for row in found]


def ratio_rows(report: Report) -> Rows:
    """A row for each case: tinygen's median time, and the median ratios."""
    found = [["", "", report.unit, *PAIRS.values()]]
    for comparison in report.comparisons:
        layer, _, case = comparison.case.partition(": ")
        ratios = [comparison.ratios.get(pair) for pair in PAIRS]
        took = f"{comparison.times[OURS].median:.3f}"
        found.append([layer, case, took, *(f"{r.median:.2f}" if r else "" for r in ratios)])
    used = [i for i, cells in enumerate(zip(*found, strict=True)) if any(cells[1:])]
    return [[row[i] for i in used] for row in found]


def means(report: Report) -> list[str]:
    """For each column of `ratio_rows`, and for the faster one of definition and floor, the geometric mean and
    the worst case."""
    found = {
        name: {c.case: c.ratios[pair].median for c in report.comparisons if pair in c.ratios}
        for pair, name in PAIRS.items()
    }
    off, floor = found["/ definition"], found["/ floor"]
    found["/ the faster of the two"] = {case: max(off[case], floor[case]) for case in off if case in floor}
    lines = []
    for name, ratios in found.items():
        if ratios:
            worst = max(ratios, key=lambda case: ratios[case])
            mean = np.exp(np.mean(np.log(list(ratios.values()))))
            lines.append(f"{name}: geometric mean {mean:.2f}, worst {ratios[worst]:.2f} ({worst})")
    return lines


def notes(report: Report) -> list[str]:
    """The notes below the table."""
    found = means(report) if report.compact else []
    found += [f"{package} is not installed, and was left out" for package in report.missing]
    if report.gemm:
        n, peak = GEMM[2].partition("×")[0], report.gemm.median / 1e9
        found.insert(0, f"GEMM, {n} × {n} by {n} × {n} in NumPy: {peak:.0f} GFLOP/s")
    return found


def versions(report: Report) -> str:
    return ", ".join(f"{side} {version}" for side, version in report.versions.items())


def text(name: str, report: Report) -> str:
    found = rows(report)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    lines = [f"== {name} ({versions(report)})"]
    for row in found:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines + notes(report))


# -- Markdown --------------------------------------------------------------------------------------


def grid(found: Rows) -> str:
    """Rows as a Markdown table. The first row is its title; two columns are aligned left, the others
    right."""
    rule = [":--" if i < 2 else "--:" for i in range(len(found[0]))]
    return "\n".join(f"| {' | '.join(row)} |" for row in [found[0], rule, *found[1:]])


def markdown(name: str, report: Report) -> str:
    below = "".join(f"\n\n{note}." for note in notes(report))
    return f"### {name}\n\n{grid(rows(report))}{below}"


def summary(reports: dict[str, Report]) -> str:
    """One row for each case in reports that include PyTorch: the important ratios, and memory."""
    found = [["benchmark", "case", "tinygen", "/ torch", "/ torch.compile", "/ JAX"]]
    found[0] += ['`kernels("numpy")` / torch', "peak MB, tinygen", "torch"]
    for name, report in reports.items():
        if "torch" not in report.versions or report.shown != "ratios" or report.compact:
            continue
        for comparison in report.comparisons:
            pairs = ("tinygen / torch", "tinygen / torch-compile", "tinygen / jax", "tinygen-numpy / torch")
            ratios = [comparison.ratios.get(pair) for pair in pairs]
            took = f"{comparison.times[OURS].median:.2f} {report.unit}"
            memory = [f"{report.memory[side] / 1e6:.0f}" for side in (OURS, "torch")]
            found.append([name, comparison.case, took, *(f"{r.median:.2f}" if r else "" for r in ratios)])
            found[-1] += memory if comparison is report.comparisons[-1] else ["", ""]
    return grid(found)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Report]]:
    """The date, machine and command of a run, and its reports by the names of the benchmarks."""
    facts = json.loads(Path(path).read_text())
    return facts, {name: report_of(values) for name, values in facts.pop("results").items()}


def report_of(values: dict[str, Any]) -> Report:
    """The report from its `dataclasses.asdict`."""

    def spreads(found: dict[str, Any]) -> dict[str, Spread]:
        return {name: Spread(**spread) for name, spread in found.items()}

    def comparison(found: dict[str, Any]) -> Comparison:
        case = found.pop("case")
        return Comparison(case, **{name: spreads(of) for name, of in found.items()})

    comparisons = [comparison(dict(found)) for found in values["comparisons"]]
    gemm = Spread(**values["gemm"]) if values["gemm"] else None
    return Report(**{**values, "comparisons": comparisons, "gemm": gemm})


def document(paths: Sequence[str | Path]) -> str:
    """The tables of these files, the summary first."""
    everything: dict[str, Report] = {}
    parts = []
    for path in paths:
        facts, reports = read(path)
        runs = "".join(f" {package}: {told}." for package, told in facts.get("runs", {}).items())
        parts.append(f"{facts['date']}, {facts['machine']}, {facts['threads']} threads a side.{runs}")
        parts.append(f"```bash\n{facts['command']}\n```")
        parts += [markdown(name, report) for name, report in reports.items()]
        everything.update(reports)
    return "\n\n".join([summary(everything), *parts])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.json", help="of `python -m benchmarks --json`")
    parser.add_argument("--into", metavar="FILE.md", help="replace the tables that stand there")
    args = parser.parse_args()
    tables = document(args.files)
    if not args.into:
        print(tables)
        return
    page = Path(args.into)
    before, _, rest = page.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} has no lines {START} and {END} for the tables to stand between")
    page.write_text(f"{before}{START}\n\n{tables}\n\n{END}{after}")


if __name__ == "__main__":
    main()
