"""The layout of a drawing of a directed graph, with arrows down from each box to those that use it.

Sugiyama, Tagawa & Toda 1981, in four steps. Boxes go into rows so that every arrow points down; an
arrow past several rows gets an invisible cell in each, so that boxes make way for it. Each row is
sorted by the places of its neighbors, which leaves few crossings, and then shifted until most arrows
are straight.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

GAP = 22.0  # px, between neighbours of a row
FALL = 34.0  # between rows
PORT = 13.0  # between the arrows that enter one box

Point = tuple[float, float]
Source = tuple[int, int]
"""Where an arrow starts: a box, by its number, and which of the box's outputs."""


def layout(
    sizes: Sequence[Point],
    inputs: Sequence[Sequence[Source]],
    outputs: Sequence[int],
    bands: Sequence[int] | None = None,
) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
    """The center of each box, from sizes (width, height), where the arrows into each come from, and how
    many outputs each has; and the points along which the arrow into input i of box v goes down, by (v, i).
    `bands` are numbers that never fall from box to box: boxes of a higher one stand in lower rows."""
    cells = Cells(sizes, inputs, bands)
    cells.sort_rows()
    cells.shift_rows()
    return cells.places(outputs)


class Cells:
    """The boxes, and after them the places where arrows pass a row. Cells have numbers."""

    def __init__(
        self,
        sizes: Sequence[Point],
        inputs: Sequence[Sequence[Source]],
        bands: Sequence[int] | None = None,
    ) -> None:
        self.sizes = list(sizes)
        self.inputs = inputs
        self.row = rows_of([[u for u, _ in sources] for sources in inputs], bands)
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

    def shift_rows(self, sweeps: int = 120) -> None:
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
            near = 100 * 0.95**sweep + 1  # distances below it count by their squares: at first nearly all
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


def rows_of(inputs: Sequence[Sequence[int]], bands: Sequence[int] | None = None) -> list[int]:
    """The row of each box: just below the lowest of its inputs. A box whose inputs nobody else uses (or
    that has none) moves down, to just above the first box that uses it, but not out of its band."""
    bands = bands or [0] * len(inputs)
    row = [0] * len(inputs)
    users: list[list[int]] = [[] for _ in inputs]
    first, last = 0, -1  # the first row of the band, and the last that is in use
    for v, sources in enumerate(inputs):
        first = last + 1 if v and bands[v] != bands[v - 1] else first
        row[v] = max((row[u] + 1 for u in sources), default=0)
        row[v] = max(row[v], first)
        last = max(last, row[v])
        for u in sources:
            users[u].append(v)
    for v in reversed(range(len(inputs))):
        near = [w for w in users[v] if bands[w] == bands[v]]
        if near and all(len(users[u]) == 1 for u in inputs[v]):
            row[v] = min(row[w] for w in near) - 1
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
