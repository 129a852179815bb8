"""A report of `gpu_check` as text: first the failures, then a table for each stage."""

from __future__ import annotations

import math
from typing import Any

Report = dict[str, Any]
MOST, SHOWN = 30, 8  # figures in a table, and how many of more than that


def problems(report: Report) -> list[str]:
    """One line for each failure, and for each figure that is further from its reference than allowed."""
    found = []
    for stage, result in report.items():
        if "failed" in result:
            found.append(f"{stage}: {result['failed']}")
        for name, figure in result["figures"].items():
            if isinstance(figure, dict) and "failed" in figure:
                found.append(f"{stage}, {name}: {figure['failed']}")
            elif wrong(figure):
                off = f"off by {figure['error']:.1e}, {figure['limit']:.0e} allowed"
                found.append(f"{stage}, {name}: {off} {figure.get('worst', '')}".rstrip())
    return found


def wrong(figure: Any) -> bool:
    """Whether its error is beyond the limit, or no number."""
    return isinstance(figure, dict) and "error" in figure and not figure["error"] < figure["limit"]


def text(report: Report) -> str:
    bad = problems(report)
    lines = [f"wrong or failed: {len(bad)}", *(f"  {line}" for line in bad)]
    for stage, result in report.items():
        notes = [f"{key}: {result[key]}" for key in ("skipped", "ended") if key in result]
        lines += ["", f"== {stage}, {result['seconds']:.0f} s{''.join(f', {note}' for note in notes)}"]
        lines += table(result["figures"], peaks(report, result["figures"]))
    return "\n".join(lines) + "\n"


def peaks(report: Report, figures: dict[str, Any]) -> dict[str, float]:
    """The GPU's practical peaks: measured in this stage, which may allow TF32, or else in the first stage."""
    found: dict[str, float] = {}
    for source in (report.get("versions", {"figures": {}})["figures"], figures):
        for name, unit in [("copy", "GB/s"), ("product of matrices", "TFLOP/s")]:
            if name in source and "failed" not in source[name]:
                found[unit] = source[name][unit]
    return found


def table(figures: dict[str, Any], peak: dict[str, float]) -> list[str]:
    """One row a figure; of many those that are nearest to their limits. Beside a rate stands how much of the
    GPU's ceiling that is."""
    lines = []
    if len(figures) > MOST:
        lines = [f"{len(figures)} figures, of which the least good:"]
        figures = dict(sorted(figures.items(), key=lambda item: -badness(item[1]))[:SHOWN])
    rows = {name: row(figure, peak) for name, figure in figures.items()}
    lines += [f"{name}  {cells['']}" for name, cells in rows.items() if "" in cells]
    rows = {name: cells for name, cells in rows.items() if "" not in cells}
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    grid = [["", *columns], *([name, *(cells.get(c, "") for c in columns)] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    for first, *others in grid if rows else []:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def badness(figure: Any) -> float:
    """How much of its limit an error is."""
    if not isinstance(figure, dict) or "failed" in figure or math.isnan(figure.get("error", 0.0)):
        return math.inf
    return float(figure.get("error", 0.0) / figure.get("limit", 1.0))


def row(figure: Any, peak: dict[str, float]) -> dict[str, str]:
    if not isinstance(figure, dict):
        return {"": shown(figure)}
    if "failed" in figure:
        return {"": f"FAILED: {figure['failed']}"}
    cells = {}
    for column, value in figure.items():
        if column == "limit":
            continue
        cells[column] = shown(value) + (" WRONG" if column == "error" and wrong(figure) else "")
        if column in peak:
            cells[f"of {'copy' if column == 'GB/s' else 'product'}"] = f"{value / peak[column]:.0%}"
    return cells


def shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < math.inf else f"{value:.3g}"
