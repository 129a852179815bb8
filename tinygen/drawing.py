"""Drawings of directed graphs as SVG: boxes with text, and arrows, where `layout.py` has put them.

Boxes may be in groups, each a band across the drawing with its name on the left."""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from tinygen.layout import FALL, PORT, Point, Source, layout

LINE, LETTER, MARGIN = 16.0, 7.3, 9.0  # height of a line, width of a letter, space around text in a box

STYLE = """
.tinygen-graph text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
.tinygen-graph .title, .tinygen-graph .group { font-weight: bold }
.tinygen-graph .type { font-weight: normal; fill: #59636e }
.tinygen-graph .value { fill: #0a5bb5 }
.tinygen-graph .gradient { fill: #b3261e }
.tinygen-graph rect { fill: #ffffff; stroke: #6e7781; stroke-width: 1.2 }
.tinygen-graph .leaf rect { fill: #fff3d1; stroke: #b7811f }
.tinygen-graph .constant rect { fill: #eff2f5; stroke-dasharray: 4 3 }
.tinygen-graph .last rect { stroke-width: 2.4 }
.tinygen-graph .band { fill: #eaf1fb }
.tinygen-graph .group { fill: #3b5b85 }
.tinygen-graph .arrow { fill: none; stroke: #848d97; stroke-width: 1.3 }
.tinygen-graph .head { fill: #848d97 }
@media (prefers-color-scheme: dark) {
.tinygen-graph text { fill: #e6edf3 }
.tinygen-graph .type { fill: #9da7b3 }
.tinygen-graph .value { fill: #79b8ff }
.tinygen-graph .gradient { fill: #ff9a92 }
.tinygen-graph rect { fill: #1c2128; stroke: #8b949e }
.tinygen-graph .leaf rect { fill: #3b2f12; stroke: #d4a72c }
.tinygen-graph .constant rect { fill: #2a3038 }
.tinygen-graph .band { fill: #171d28 }
.tinygen-graph .group { fill: #9dbde8 }
}
"""


class Box(NamedTuple):
    kind: str  # "op", "leaf", "constant": CSS classes, as are the kinds of lines
    lines: Sequence[tuple[str, str]]  # (kind, text)
    arrows: Sequence[tuple[Source, str]]  # that come in, in order from the left, and their labels
    hint: str  # shown when the mouse is on it
    group: str = ""  # neighbors in one group share a band


def svg(boxes: Sequence[Box]) -> str:
    """The drawing. Boxes are sorted: arrows go from a lower number to a higher one."""
    groups = [(name, len(list(members))) for name, members in groupby(box.group for box in boxes)]
    bands = [i for i, (_, count) in enumerate(groups) for _ in range(count)]
    outputs = [1] * len(boxes)
    widths = [max(LETTER * max(len(t) for _, t in b.lines), PORT * (len(b.arrows) + 1)) for b in boxes]
    for box in boxes:
        for (u, k), label in box.arrows:
            outputs[u] = max(outputs[u], k + 1)
            widths[u] = max(widths[u], (2 * LETTER * len(label) + 8) * outputs[u])
    heights = [LINE * len(box.lines) + 2 * MARGIN - 4 for box in boxes]
    sizes = [(w + 2 * MARGIN, h) for w, h in zip(widths, heights, strict=True)]
    centers, routes = layout(sizes, [[source for source, _ in box.arrows] for box in boxes], outputs, bands)
    rows = [(y - h / 2, y + h / 2) for (_, y), (_, h) in zip(centers, sizes, strict=True)]
    parts = [part for (v, i), points in routes.items() for part in arrow(points, boxes[v].arrows[i][1])]
    ends = [point for points in routes.values() for point in points]
    for v, (box, (w, h), (x, y)) in enumerate(zip(boxes, sizes, centers, strict=True)):
        last = " last" if v == len(boxes) - 1 else ""
        parts.append(f'<g class="{box.kind}{last}"><title>{escape(box.hint)}</title>')
        parts += [*box_parts(box, x - w / 2, y - h / 2, w, h), "</g>"]
        ends.append((x + w / 2, y + h / 2))
    left, gap = 8.0, FALL / 3  # around a band
    right, bottom = max(x for x, _ in ends) + 8, max(y for _, y in ends) + 8
    if len(groups) > 1:
        left += LETTER * max(len(name) for name, _ in groups) + 2 * MARGIN
        for i, (name, _) in reversed(list(enumerate(groups))):
            members = [row for row, band in zip(rows, bands, strict=True) if band == i]
            top, low = min(y for y, _ in members) - gap, max(y for _, y in members) + gap
            parts[:0] = band_parts(name, 8 - left, top, left + right - 8, low - top)
        bottom += gap
    up = gap + 4 if len(groups) > 1 else 8
    place = f'width="{left + right:.0f}" height="{up + bottom:.0f}" '
    place += f'viewBox="{-left:.1f} {-up:.1f} {left + right:.1f} {up + bottom:.1f}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" class="tinygen-graph" {place}>'
    return "\n".join([start, f"<style>{STYLE}</style>", *parts, "</svg>"])


def box_parts(box: Box, x: float, y: float, w: float, h: float) -> list[str]:
    """The box with its left upper corner at (x, y); its first two lines are centered."""
    corner = 3 if box.kind == "op" else 14
    parts = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{corner}"/>']
    for i, (kind, line) in enumerate(box.lines):
        place = f'x="{x + w / 2:.1f}" text-anchor="middle"' if i < 2 else f'x="{x + MARGIN:.1f}"'
        words, bracket, rest = line.partition("(") if kind == "title" else (line, "", "")
        text = escape(words) + (f'<tspan class="type">{escape(bracket + rest)}</tspan>' if bracket else "")
        parts.append(f'<text class="{kind}" {place} y="{y + MARGIN + LINE * (i + 1) - 6:.1f}">{text}</text>')
    return parts


def band_parts(name: str, x: float, y: float, w: float, h: float) -> list[str]:
    """The band of a group from its left upper corner, with its name; nothing for a group without a name."""
    text = f'<text class="group" x="{x + MARGIN:.1f}" y="{y + LINE:.1f}">{escape(name)}</text>'
    return [f'<path class="band" d="M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"/>', text] if name else []


def arrow(points: list[Point], label: str) -> list[str]:
    """An arrow down along the points."""
    path = "M{:.1f} {:.1f}".format(*points[0])
    for (x0, y0), (x1, y1) in pairwise(points):
        y = (y0 + y1) / 2
        path += f"V{y1:.1f}" if x0 == x1 else f"C{x0:.1f} {y:.1f} {x1:.1f} {y:.1f} {x1:.1f} {y1:.1f}"
    (x, y), (end, tip) = points[0], points[-1]
    parts = [f'<path class="arrow" d="{path}"/>', f'<path class="head" d="M{end:.1f} {tip:.1f}l-3.5 -8h7z"/>']
    if label:
        place = f'x="{x - 4:.1f}" text-anchor="end"' if points[2][0] > x else f'x="{x + 4:.1f}"'
        parts.append(f'<text class="type" {place} y="{y + 12:.1f}">{escape(label)}</text>')
    return parts


def escape(text: str) -> str:
    """For XML, with spaces that stay."""
    return html.escape(text).replace(" ", "\u00a0")
