"""Drawings of directed graphs: boxes with text, arrows down from each to those that use it, as SVG.

Sugiyama, Tagawa & Toda 1981, in four steps. Boxes go into rows so that every arrow points down; an
arrow past several rows gets an invisible cell in each, so that boxes make way for it. Each row is
sorted by the places of its neighbors, which leaves few crossings, and then shifted until most arrows
are straight.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

GAP = 22.0  # px, between neighbours of a row
FALL = 34.0  # between rows
PORT = 13.0  # between the arrows that enter one box
LINE, LETTER, MARGIN = 16.0, 7.3, 9.0  # height of a line, width of a letter, space around text in a box

STYLE = """
.tinygen-graph text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
.tinygen-graph .title { font-weight: bold }
.tinygen-graph .type { font-weight: normal; fill: #59636e }
.tinygen-graph .value { fill: #0a5bb5 }
.tinygen-graph .gradient { fill: #b3261e }
.tinygen-graph rect { fill: #ffffff; stroke: #6e7781; stroke-width: 1.2 }
.tinygen-graph .leaf rect { fill: #fff3d1; stroke: #b7811f }
.tinygen-graph .constant rect { fill: #eff2f5; stroke-dasharray: 4 3 }
.tinygen-graph .last rect { stroke-width: 2.4 }
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
}
"""

Point = tuple[float, float]
Source = tuple[int, int]
"""Where an arrow starts: a box, by its number, and which of the box's outputs."""


class Box(NamedTuple):
    kind: str  # "op", "leaf", "constant": CSS classes, as are the kinds of lines
    lines: Sequence[tuple[str, str]]  # (kind, text)
    arrows: Sequence[tuple[Source, str]]  # that come in, in order from the left, and their labels
    hint: str  # shown when the mouse is on it


def svg(boxes: Sequence[Box]) -> str:
    """The drawing. Boxes are sorted: arrows go from a lower number to a higher one."""
    outputs = [1] * len(boxes)
    widths = [max(LETTER * max(len(t) for _, t in b.lines), PORT * (len(b.arrows) + 1)) for b in boxes]
    for box in boxes:
        for (u, k), label in box.arrows:
            outputs[u] = max(outputs[u], k + 1)
            widths[u] = max(widths[u], (2 * LETTER * len(label) + 8) * outputs[u])
    heights = [LINE * len(box.lines) + 2 * MARGIN - 4 for box in boxes]
    sizes = [(w + 2 * MARGIN, h) for w, h in zip(widths, heights, strict=True)]
    centers, routes = layout(sizes, [[source for source, _ in box.arrows] for box in boxes], outputs)
    parts = [part for (v, i), points in routes.items() for part in arrow(points, boxes[v].arrows[i][1])]
    ends = [point for points in routes.values() for point in points]
    for v, (box, (w, h), (x, y)) in enumerate(zip(boxes, sizes, centers, strict=True)):
        last = " last" if v == len(boxes) - 1 else ""
        parts.append(f'<g class="{box.kind}{last}"><title>{escape(box.hint)}</title>')
        parts += [*box_parts(box, x - w / 2, y - h / 2, w, h), "</g>"]
        ends.append((x + w / 2, y + h / 2))
    right, bottom = max(x for x, _ in ends) + 16, max(y for _, y in ends) + 16
    place = f'width="{right:.0f}" height="{bottom:.0f}" viewBox="-8 -8 {right:.1f} {bottom:.1f}"'
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


# -- the layout -------------------------------------------------------------------------------------


def layout(
    sizes: Sequence[Point], inputs: Sequence[Sequence[Source]], outputs: Sequence[int]
) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
    """The center of each box, from sizes (width, height), where the arrows into each come from, and how
    many outputs each has; and the points along which the arrow into input i of box v goes down, by (v, i)."""
    cells = Cells(sizes, inputs)
    cells.sort_rows()
    cells.shift_rows()
    return cells.places(outputs)


class Cells:
    """The boxes, and after them the places where arrows pass a row. Cells have numbers."""

    def __init__(self, sizes: Sequence[Point], inputs: Sequence[Sequence[Source]]) -> None:
        self.sizes = list(sizes)
        self.inputs = inputs
        self.row = rows_of([[u for u, _ in sources] for sources in inputs])
        self.above: list[list[int]] = [[] for _ in sizes]
        self.below: list[list[tuple[int, float]]] = [[] for _ in sizes]  # (cell, place of the arrow on it)
        self.paths: dict[tuple[int, int], list[int]] = {}
        passing: dict[tuple[Source, int], int] = {}  # arrows from one output pass a row together
        for v, sources in enumerate(inputs):
            for i, source in enumerate(sources):
                path = [source[0]]
                for r in range(self.row[source[0]] + 1, self.row[v]):
                    if (source, r) not in passing:
                        passing[source, r] = self.add_passage(r)
                        self.join(path[-1], passing[source, r], 0.0)
                    path.append(passing[source, r])
                self.join(path[-1], v, (i + 1) / (len(sources) + 1) - 0.5)
                self.paths[v, i] = [*path, v]
        self.rows = self.rows_from_last()

    def add_passage(self, row: int) -> int:
        self.sizes.append((0.0, 0.0))
        self.row.append(row)
        self.above.append([])
        self.below.append([])
        return len(self.row) - 1

    def join(self, upper: int, lower: int, place: float) -> None:
        self.below[upper].append((lower, place))
        self.above[lower].append(upper)

    def rows_from_last(self) -> list[list[int]]:
        """Rows in the order of a depth-first search upwards from the last box, first arguments first."""
        rows: list[list[int]] = [[] for _ in range(max(self.row) + 1)]
        seen = set()
        stack = list(range(len(self.inputs)))
        while stack:
            c = stack.pop()
            if c not in seen:
                seen.add(c)
                rows[self.row[c]].append(c)
                stack.extend(reversed(self.above[c]))
        return rows

    # -- the order in each row ---------------------------------------------------------------------

    def sort_rows(self, sweeps: int = 16) -> None:
        """Sort each row by the mean place of its neighbors above, then below, and so on; keep the best."""
        place = [0.0] * len(self.row)
        best, fewest = self.rows, self.crossings()
        for sweep in range(sweeps):
            if fewest == 0:
                break
            down = sweep % 2 == 0
            rows = []
            for row in self.rows if down else reversed(self.rows):
                key = {}
                for i, c in enumerate(row):
                    ends = (
                        [place[u] for u in self.above[c]]
                        if down
                        else [place[v] + p for v, p in self.below[c]]
                    )
                    key[c] = sum(ends) / len(ends) if ends else float(i)
                row = sorted(row, key=key.__getitem__)
                for i, c in enumerate(row):
                    place[c] = float(i)
                rows.append(row)
            self.rows = rows if down else rows[::-1]
            if (now := self.crossings()) < fewest:
                best, fewest = self.rows, now
        self.rows = best

    def crossings(self) -> int:
        place = {c: i for row in self.rows for i, c in enumerate(row)}
        total = 0
        for row in self.rows:
            ends = [(place[c], place[v] + p) for c in row for v, p in self.below[c]]
            total += sum(a < c and b > d for a, b in ends for c, d in ends)
        return total

    # -- where in the row --------------------------------------------------------------------------

    def shift_rows(self, sweeps: int = 300) -> None:
        """Minimise the weighted sum of how far arrows go sideways, by reweighted least squares.

        (The sum of the squares would rather have many small bends than one large one.)"""
        self.x = [0.0] * len(self.row)
        gaps = [[(self.sizes[a][0] + self.sizes[b][0]) / 2 + GAP for a, b in pairwise(r)] for r in self.rows]
        pulls: list[list[tuple[int, float]]] = [[] for _ in self.row]
        for c, ends in enumerate(self.below):
            for v, _ in ends:
                pulls[c].append((v, self.weight(c, v)))
                pulls[v].append((c, self.weight(c, v)))
        for sweep in range(sweeps):
            near = 100 * 0.98**sweep + 1  # distances below it count by their squares: at first nearly all
            order = range(len(self.rows))
            for r in order if sweep % 2 == 0 else reversed(order):
                wanted, weights = [], []
                for c in self.rows[r]:
                    terms = [(self.x[d], w / max(abs(self.x[d] - self.x[c]), near)) for d, w in pulls[c]]
                    total = sum(w for _, w in terms)
                    wanted.append(sum(x * w for x, w in terms) / total if total else self.x[c])
                    weights.append(total or 1.0)
                for c, x in zip(self.rows[r], separate(wanted, weights, gaps[r]), strict=True):
                    self.x[c] = x

    def weight(self, upper: int, lower: int) -> float:
        """How important it is that this arrow is straight: most of all when it passes rows, then in a
        chain, less where several arrows meet or part, least from a leaf."""
        if not self.above[upper]:
            return 0.01
        passing = (upper >= len(self.inputs)) + (lower >= len(self.inputs))
        meeting = sum(u >= len(self.inputs) or len(self.above[u]) > 0 for u in self.above[lower])
        return 4.0**passing / (meeting * len(self.below[upper]))

    # -- the result --------------------------------------------------------------------------------

    def places(self, outputs: Sequence[int]) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
        left = min(x - w / 2 for x, (w, _) in zip(self.x, self.sizes, strict=True))
        x = [x - left for x in self.x]
        tops, bottoms, y = [], [], 0.0
        for row in self.rows:
            tops.append(y)
            bottoms.append(y + max(self.sizes[c][1] for c in row))
            y = bottoms[-1] + FALL
        middle = [(tops[r] + bottoms[r]) / 2 for r in self.row]
        routes = {}
        for v, sources in enumerate(self.inputs):
            count, (w, h) = len(sources), self.sizes[v]
            entries = separate([x[self.paths[v, i][-2]] for i in range(count)], [1.0] * count, [PORT] * count)
            for i, (u, k) in enumerate(sources):
                start = x[u] + ((k + 1) / (outputs[u] + 1) - 0.5) * self.sizes[u][0]
                points = [(start, middle[u] + self.sizes[u][1] / 2), (start, bottoms[self.row[u]])]
                for c in self.paths[v, i][1:-1]:
                    points += [(x[c], tops[self.row[c]]), (x[c], bottoms[self.row[c]])]
                leftmost, rightmost = x[v] - w / 2 + PORT * (i + 1), x[v] + w / 2 - PORT * (count - i)
                end = min(max(entries[i], leftmost), rightmost)
                routes[v, i] = [*points, (end, tops[self.row[v]]), (end, middle[v] - h / 2)]
        return list(zip(x, middle, strict=True))[: len(self.inputs)], routes


def rows_of(inputs: Sequence[Sequence[int]]) -> list[int]:
    """The row of each box: just below the lowest of its inputs. A box whose inputs nobody else uses (or
    that has none) moves down, to just above the first box that uses it."""
    row = [0] * len(inputs)
    users: list[list[int]] = [[] for _ in inputs]
    for v, sources in enumerate(inputs):
        row[v] = max((row[u] + 1 for u in sources), default=0)
        for u in sources:
            users[u].append(v)
    for v in reversed(range(len(inputs))):
        if users[v] and all(len(users[u]) == 1 for u in inputs[v]):
            row[v] = min(row[w] for w in users[v]) - 1
    return row


def separate(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to those `wanted` (weighted least squares) that are in order, at least `gaps` apart.

    After subtracting the gaps, the places must not decrease: neighbors that do are pooled, and each pool is
    placed at its mean (Ayer et al. 1955)."""
    offsets = list(accumulate(gaps[: len(wanted) - 1], initial=0.0))
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for x, w, offset in zip(wanted, weights, offsets, strict=False):
        mean, weight, count = x - offset, w, 1
        while pools and pools[-1][0] > mean:
            m, v, n = pools.pop()
            mean, weight, count = (m * v + mean * weight) / (v + weight), v + weight, n + count
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
