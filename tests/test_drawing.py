"""Drawings: nothing overlaps, arrows point down and run beside boxes, text fits."""

import re
from itertools import groupby, pairwise
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import drawing, layout, ops

SVG = "{http://www.w3.org/2000/svg}"


class Rect(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def rectangles(svg):
    return [
        Rect(x, y, x + w, y + h)
        for x, y, w, h in (
            [float(r.get(name)) for name in ("x", "y", "width", "height")]
            for r in ElementTree.fromstring(svg).iter(SVG + "rect")
        )
    ]


def curves(svg):
    """For each arrow, points along it."""
    for path in ElementTree.fromstring(svg).iter(SVG + "path"):
        if path.get("class") != "arrow":
            continue
        points = []
        for command, numbers in re.findall(r"([MVC])([^MVC]*)", path.get("d")):
            v = [float(n) for n in numbers.split()]
            if command == "M":
                points.append((v[0], v[1]))
                continue
            p0 = points[-1]
            p1, p2, p3 = [(p0[0], v[0])] * 3 if command == "V" else zip(v[::2], v[1::2], strict=True)
            for t in np.linspace(0, 1, 25)[1:]:
                s = 1 - t
                a, b, c, d = s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t
                points.append(tuple(a * p0[i] + b * p1[i] + c * p2[i] + d * p3[i] for i in (0, 1)))
        yield points


def check(svg, count):
    """Boxes are apart from each other, inside the picture, and no arrow runs over one; arrows go down."""
    rects = rectangles(svg)
    assert len(rects) == count
    for i, a in enumerate(rects):
        for b in rects[:i]:
            assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top, (a, b)
    x, y, w, h = map(float, re.search(r'viewBox="([^"]*)"', svg).group(1).split())
    for r in rects:
        assert x <= r.left < r.right <= x + w
        assert y <= r.top < r.bottom <= y + h
    for points in curves(svg):
        assert all(b[1] >= a[1] - 0.2 for a, b in pairwise(points))
        assert any(abs(points[0][1] - r.bottom) < 0.2 and r.left <= points[0][0] <= r.right for r in rects)
        assert any(abs(points[-1][1] - r.top) < 0.2 and r.left <= points[-1][0] <= r.right for r in rects)
        for px, py in points:
            assert x <= px <= x + w
            for r in rects:
                inside = r.left + 0.2 < px < r.right - 0.2 and r.top + 0.2 < py < r.bottom - 0.2
                assert not inside, ((px, py), r)


def tensor(*shape):
    values = np.random.default_rng(len(shape)).standard_normal(shape)
    return tg.Tensor(values.astype(np.float32), requires_grad=True)


def mlp():
    x, targets = np.ones((8, 4), np.float32), np.arange(8) % 3
    w1, b1, w2, b2 = tensor(16, 4), tensor(16), tensor(3, 16), tensor(3)
    return ops.cross_entropy(ops.linear(np.tanh(ops.linear(tg.Tensor(x), w1, b1)), w2, b2), targets)


def block(x):
    b, t, c = x.shape
    h = ops.layer_norm(x, tensor(c), tensor(c))
    qkv = np.split(ops.linear(h, tensor(3 * c, c), tensor(3 * c)), 3, axis=-1)
    q, k, v = (a.reshape(b, t, 2, c // 2).swapaxes(1, 2) for a in qkv)
    h = ops.attention(q, k, v, None, True).swapaxes(1, 2).reshape(b, t, c)
    x = x + ops.linear(h, tensor(c, c), tensor(c))
    h = ops.gelu(ops.linear(ops.layer_norm(x, tensor(c), tensor(c)), tensor(4 * c, c), tensor(4 * c)))
    return x + ops.linear(h, tensor(c, 4 * c), tensor(c))


@pytest.mark.parametrize("notes", [False, True])
@pytest.mark.parametrize(
    "make", [mlp, lambda: block(block(tensor(2, 3, 8))).sum()], ids=["mlp", "gpt blocks"]
)
def test_nothing_overlaps(make, notes):
    graph = tg.graph(make(), values=notes, gradients=notes)
    check(graph.svg(), len(graph.vertices))


@st.composite
def boxes(draw):
    """Any graph: each box takes arrows from earlier ones, from one of up to three outputs."""
    found = []
    for v in range(draw(st.integers(1, 14))):
        sources = st.tuples(st.integers(0, v - 1), st.integers(0, 2)) if v else st.nothing()
        arrows = draw(st.lists(sources, max_size=4)) if v else []
        lines = [("title", "x" * draw(st.integers(1, 30)))] * draw(st.integers(1, 5))
        found.append(drawing.Box("op", lines, [(s, f"[{s[1]}]") for s in arrows], ""))
    return found


def bands(svg):
    """Top and bottom of each band, from top to bottom."""
    paths = re.findall(r'class="band" d="M\S+ (\S+?)h\S+?v(\S+?)h', svg)
    return [(float(top), float(top) + float(height)) for top, height in paths]


@given(boxes(), st.one_of(st.just("a" * 14), st.text("ab", min_size=14, max_size=14)))
def test_nothing_overlaps_in_any_graph(found, names):
    found = [box._replace(group=name) for box, name in zip(found, names, strict=False)]
    svg = drawing.svg(found)
    check(svg, len(found))
    runs = [len(list(run)) for _, run in groupby(box.group for box in found)]
    assert len(bands(svg)) == (len(runs) if len(runs) > 1 else 0)
    assert all(a[1] < b[0] for a, b in pairwise(bands(svg)))
    if len(runs) > 1:  # each box stands in its band
        of_box = [i for i, n in enumerate(runs) for _ in range(n)]
        for rect, i in zip(rectangles(svg), of_box, strict=True):
            assert bands(svg)[i][0] < rect.top < rect.bottom < bands(svg)[i][1]


def test_an_arrow_from_a_low_box_clears_the_high_one_beside_it():
    low, high = [("title", "low")], [("title", "a wide and high one")] * 30
    found = [drawing.Box("op", low, [], ""), drawing.Box("op", high, [], ""), drawing.Box("op", low, [], "")]
    found.append(drawing.Box("op", low, [((u, 0), "") for u in (0, 1, 2)], ""))
    found.append(drawing.Box("op", high, [((0, 0), ""), ((3, 0), "")], ""))
    check(drawing.svg(found), 5)


@given(boxes())
def test_arrows_enter_in_the_order_of_the_arguments(found):
    inputs = [[s for s, _ in box.arrows] for box in found]
    _, routes = layout.layout([(60.0, 20.0)] * len(found), inputs, [3] * len(found))
    for v, sources in enumerate(inputs):
        ends = [routes[v, i][-1][0] for i in range(len(sources))]
        assert all(b - a >= layout.PORT - 1e-6 for a, b in pairwise(ends))


def test_text_fits_into_its_box():
    graph = tg.graph(mlp(), values=True, gradients=True)
    for rect, box in zip(rectangles(graph.svg()), graph.boxes(), strict=True):
        assert rect.right - rect.left >= 7.25 * max(len(text) for _, text in box.lines)  # 12 px monospace
        assert rect.bottom - rect.top >= 15 * len(box.lines)


def test_few_crossings():
    cells = layout.Cells(*zip(*[((10.0, 10.0), ())] * 4, strict=True))  # four boxes and no arrows
    assert cells.crossings() == 0
    twisted = [[], [], [(1, 0)], [(0, 0)], [(2, 0), (3, 0)]]  # drawn in order, two arrows cross
    cells = layout.Cells([(10.0, 10.0)] * 5, twisted)
    cells.rows = [[0, 1], [2, 3], [4]]
    assert cells.crossings() == 1
    cells.sort_rows()
    assert cells.crossings() == 0


def test_a_chain_is_straight():
    centers, _ = layout.layout([(10.0, 10.0), (90.0, 10.0), (30.0, 10.0)], [[], [(0, 0)], [(1, 0)]], [1] * 3)
    assert np.ptp([x for x, _ in centers]) < 1e-3


def test_rows_are_below_their_inputs_and_leaves_just_above_their_use():
    assert layout.rows_of([[], [0], [1], [], [2, 3]]) == [0, 1, 2, 2, 3]


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(0.1, 10), st.floats(0, 30)), min_size=1, max_size=8),
    st.integers(0, 1000),
)
def test_separate_is_the_nearest_that_is_in_order(cells, seed):
    wanted, weights, gaps = zip(*cells, strict=True)
    places = layout.separate(wanted, weights, gaps[1:])
    assert all(b - a >= g - 1e-9 for a, b, g in zip(places, places[1:], gaps[1:], strict=False))

    def cost(x):
        return sum(w * (a - b) ** 2 for a, b, w in zip(x, wanted, weights, strict=True))

    rng = np.random.default_rng(seed)
    for _ in range(20):  # no feasible place nearby is better
        moved = list(np.add(places, rng.normal(0, 1, len(places))))
        for i in range(1, len(moved)):
            moved[i] = max(moved[i], moved[i - 1] + gaps[i])
        assert cost(places) <= cost(moved) + 1e-6
