"""The graph of a tensor: its texts and drawings, and that showing it changes nothing."""

import re
import shutil
import subprocess
from itertools import groupby
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, ops

SVG = "{http://www.w3.org/2000/svg}"


def leaf(*shape, seed=0, dtype=np.float32):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tg.Tensor(values.astype(dtype), requires_grad=True)


def small():
    x, y = tg.Tensor(2.0, requires_grad=True), tg.Tensor(3.0, requires_grad=True)
    return x, y, x * y + np.sin(x)


def body(graph):
    """The text without where each op was called."""
    return [re.sub(r"\s+test_graph\.py:\d+$", "", line) for line in str(graph).splitlines()]


# -- text ------------------------------------------------------------------------------------------


def test_text_is_one_line_per_vertex_oldest_first():
    x, y, z = small()
    assert body(tg.graph(z, names={"x": x, "y": y})) == [
        "x = leaf             float32 ()",
        "y = leaf             float32 ()",
        "%1 = multiply(x, y)  float32 ()",
        "%2 = sin(x)          float32 ()",
        "%3 = add(%1, %2)     float32 ()",
    ]


def test_text_with_values_and_gradients():
    x, y, z = small()
    text = body(tg.graph(z, values=True, gradients=True, names={"x": x, "y": y, "z": z}))
    assert text == [
        "x = leaf             float32 ()",
        "    value       2",
        "    gradient    2.584",  # y + cos(2)
        "y = leaf             float32 ()",
        "    value       3",
        "    gradient    2",
        "%1 = multiply(x, y)  float32 ()",
        "    value       6",
        "    gradient    1",
        "%2 = sin(x)          float32 ()",
        "    value       0.9093",
        "    gradient    1",
        "z = add(%1, %2)      float32 ()",
        "    value       6.909",
        "    gradient    1",
    ]


def test_each_op_says_where_it_was_called():
    _, _, z = small()
    line = small.__code__.co_firstlineno + 2
    assert str(tg.graph(z)).splitlines()[-1].endswith(f"  test_graph.py:{line}")


def test_arguments_that_are_no_tensors_are_written_out():
    x = leaf(3, 4)
    y = np.sum(2.0 * np.reshape(x, (4, 3))[1:, ::2], axis=0, keepdims=True)
    calls = [line.split("  ")[0] for line in body(tg.graph(y, names={"x": x}))]
    assert calls[1:] == [
        "%1 = reshape(x, shape=(4, 3))",
        "%2 = getitem(%1, index=(1:, ::2))",
        "%3 = multiply(2, %2)",
        "%4 = sum(%3, axis=0, keepdims=True)",
    ]


def test_arguments_left_at_their_defaults_are_not_written():
    x = leaf(3, 4)
    assert "= sum(x) " in str(tg.graph(np.sum(x, axis=None, keepdims=False), names={"x": x}))


def test_constants_are_vertices_when_they_are_arrays_and_words_when_they_are_numbers():
    x, c, mask = tg.Tensor([1.0, 1.0, 0.0], requires_grad=True), tg.Tensor([1.0, 2.0, 3.0]), np.arange(3) > 0
    y = np.where(mask, x + c, tg.Tensor(0.5))
    assert body(tg.graph(y, values=True, names={"x": x, "mask": mask})) == [
        "x = leaf                   float32 (3,)",
        "    value       [1, 1, 0]",
        "%1 = constant              float32 (3,)",
        "    value       [1, 2, 3]",
        "%2 = add(x, %1)            float32 (3,)",
        "    value       [2, 3, 3]",
        "mask = constant            bool (3,)",
        "    value       [False,  True,  True]",
        "%3 = where(mask, %2, 0.5)  float32 (3,)",
        "    value       [0.5, 3, 3]",
    ]


def test_an_op_with_several_values():
    x = tg.Tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], requires_grad=True)
    a, b, _ = np.split(x, 3)
    y = (a * b).sum()
    assert body(tg.graph(y, True, True, names={"x": x}))[3:10] == [
        "%1 = split(x, indices_or_sections=3)  3 × float32 (2,)",
        "    value[0]    [1, 2]",
        "    value[1]    [3, 4]",
        "    value[2]    [5, 6]",
        "    gradient[0] [3, 4]",
        "    gradient[1] [1, 2]",
        "%2 = multiply(%1[0], %1[1])           float32 (2,)",
    ]
    assert "q, %1[1], %1[2] = split(x, indices_or_sections=3)" in str(tg.graph(y, names={"x": x, "q": a}))
    assert "multiply(q, %1[1])" in str(tg.graph(y, names={"x": x, "q": a}))


@pytest.mark.parametrize(
    ("array", "shown"),
    [
        (np.float32(0.1) * np.arange(4, dtype=np.float32), ["[0, 0.1, 0.2, 0.3]"]),
        (np.eye(2, dtype=np.float32), ["[[1, 0],", " [0, 1]]"]),
        (np.arange(13, dtype=np.float32), ["mean 6          std 3.74", "min  0          max 12"]),
        (np.array([np.nan] * 20, np.float32), ["mean nan        std nan", "min  nan        max nan"]),
        (np.array([np.inf] * 20, np.float32), ["mean inf        std nan", "min  inf        max inf"]),
        (np.zeros((0, 3), np.float32), ["empty"]),
    ],
)
def test_values_small_in_full_and_large_as_four_numbers(array, shown):
    x = tg.Tensor(array, requires_grad=True)
    vertex = tg.graph(np.exp(x), values=True).vertices[0]
    assert vertex.notes == [("value", shown)]


def test_dtypes_other_than_float32_are_in_the_boxes():
    assert tg.graph(np.exp(leaf(2, 3, dtype=np.float64))).vertices[1].type("float32") == "float64 (2, 3)"
    assert tg.graph(np.exp(leaf(2, 3))).vertices[1].type("float32") == "(2, 3)"


def test_names_from_a_module():
    class Scale:  # nn.Module has this method
        def __init__(self):
            self.weight = leaf(3)

        def named_parameters(self):
            return [("scale.weight", self.weight)]

    module = Scale()
    assert "multiply(scale.weight, scale.weight)" in str(
        tg.graph(module.weight * module.weight, names=module)
    )


def test_a_leaf_alone():
    assert body(tg.graph(leaf(3))) == ["%1 = leaf  float32 (3,)"]


# -- values and gradients are the right ones, and looking changes nothing ---------------------------


def everything():
    """A function with broadcasting, an op of several values, a leaf used twice and a checkpoint."""
    x, w, b = leaf(4, 6), leaf(3, 6, seed=1), leaf(3, seed=2)

    def loss():
        h = tg.checkpoint(lambda x: np.tanh(ops.linear(x, w, b)), x)
        first, _, last = np.split(h, 3, axis=1)
        return ops.mse(first * last, np.ones((4, 1), np.float32)) + (x * x).mean()

    return (x, w, b), loss


def test_gradients_are_those_of_backward_and_no_grad_is_written(monkeypatch):
    leaves, loss = everything()
    seen = {}
    note = tg.graph.__globals__["Reader"].note
    monkeypatch.setattr(
        tg.graph.__globals__["Reader"],
        "note",
        lambda self, v, what, x: (seen.__setitem__((v, what), x), note(self, v, what, x))[1],
    )
    y = loss()
    drawn = tg.graph(y, values=True, gradients=True, names=dict(zip("xwb", leaves, strict=True)))
    assert all(t.grad is None for t in leaves)
    y.backward()  # the graph is still there
    for v, vertex in enumerate(drawn.vertices):
        if vertex.kind == "leaf":
            t = dict(zip("xwb", leaves, strict=True))[vertex.name]
            np.testing.assert_array_equal(seen[v, "gradient"], t.grad)
            assert seen[v, "value"] is t.data
    np.testing.assert_array_equal(seen[len(drawn.vertices) - 1, "value"], y.data)
    inner = [what for (v, what), x in seen.items() if drawn.vertices[v].kind == "op" and x is not None]
    assert inner.count("value") == inner.count("gradient") > 5
    assert inner.count("value[1]") == 1


def test_inner_values_and_gradients():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    y = (np.exp(x * x) * 0.5).sum()  # nobody holds the tensors in between
    notes = {v.op: dict(v.notes) for v in tg.graph(y, values=True, gradients=True).vertices}
    assert notes["exp"] == {"value": ["[2.718, 54.6]"], "gradient": ["[0.5, 0.5]"]}
    assert notes["sum"] == {"value": ["28.66"], "gradient": ["1"]}


def test_a_checkpoint_is_drawn_and_still_works():
    leaves, loss = everything()
    loss().backward()
    expected = [t.grad for t in leaves]
    for t in leaves:
        t.grad = None
    y = loss()
    str(tg.graph(y, values=True, gradients=True))
    y.backward()
    for t, g in zip(leaves, expected, strict=True):
        np.testing.assert_array_equal(t.grad, g)


def test_values_with_dropout_are_those_that_were_computed():
    x = leaf(50, 50)
    y = ops.dropout(x, 0.5, np.random.default_rng(0)).sum()
    assert tg.graph(y, values=True).vertices[-1].notes == [("value", [f"{y.item():.4g}"])]


# -- groups ----------------------------------------------------------------------------------------


def groups(graph):
    """The groups of the boxes, from top to bottom, and the titles in each."""
    runs = groupby(graph.boxes(), key=lambda box: box.group)
    return [(name, [box.lines[0][1] for box in found]) for name, found in runs]


def test_groups_are_the_functions_that_called_the_ops():
    w = leaf(2)

    def half(x):
        return (lambda: x / 2)()  # a lambda counts as the function around it

    def both(x):
        return half(x * w) + 1

    assert groups(tg.graph(both(leaf(2, seed=1)), names={"w": w})) == [
        ("both", ["leaf", "w", "multiply"]),
        ("half", ["divide(·, 2)"]),
        ("both", ["add(·, 1)"]),
    ]


class Twice(nn.Module):
    def __init__(self):
        self.layers = [nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0)]

    def forward(self, x):
        return self.layers[1](np.tanh(self.layers[0](x))) + x


def test_groups_are_the_modules_that_did_it():
    """A constant belongs to the first that uses it."""
    model = Twice()
    graph = tg.graph(np.exp(model(np.ones((1, 2), np.float32))), names=model)
    assert groups(graph) == [
        ("layers.0", ["constant", "layers.0.weight", "layers.0.bias", "linear"]),
        ("Twice", ["tanh"]),
        ("layers.1", ["layers.1.weight", "layers.1.bias", "linear"]),
        ("Twice", ["add"]),
        ("", ["exp"]),  # after the call
    ]


def test_only_the_last_call_of_a_module_is_known():
    model = Twice()
    model.layers[1] = model.layers[0]
    names = [name for name, _ in groups(tg.graph(model(np.ones((1, 2), np.float32)), names=model))]
    assert names == ["Twice", "layers.0", "Twice"]


def test_a_drawing_has_a_band_for_each_group():
    model = Twice()
    svg = tg.graph(model(np.ones((1, 2), np.float32)), names=model).svg()
    assert svg.count('class="band"') == 4
    assert re.findall(r'class="group"[^>]*>([^<]+)<', svg) == ["layers.0", "Twice", "layers.1", "Twice"]
    assert "band" not in re.sub("<style>.*</style>", "", tg.graph(small()[2]).svg(), flags=re.DOTALL)


# -- errors ----------------------------------------------------------------------------------------


def test_a_freed_graph_says_so():
    _, _, z = small()
    z.backward()
    with pytest.raises(RuntimeError, match=r"freed the graph.*retain_graph=True"):
        tg.graph(z)


def test_a_graph_that_was_kept_can_be_drawn():
    _, _, z = small()
    z.backward(retain_graph=True)
    assert len(tg.graph(z, True, True).vertices) == 5


def test_gradients_need_one_number():
    x = leaf(3)
    with pytest.raises(ValueError, match=r"gradients need one number to start from.*\(3,\)"):
        tg.graph(x * x, gradients=True)


def test_a_tensor_without_graph():
    x = leaf(3)
    with tg.no_grad():
        y = x * x
    with pytest.raises(RuntimeError, match="no graph"):
        tg.graph(y)


def test_a_leaf_written_into_since():
    x, _, z = small()
    x.data = np.float32(5)
    with pytest.raises(RuntimeError, match="written into"):
        tg.graph(z)


# -- drawings --------------------------------------------------------------------------------------


def test_svg_shows_each_vertex():
    x, y, z = small()
    root = ElementTree.fromstring(tg.graph(z, True, True, names={"x<": x, "y": y}).svg())
    spaced = {"".join(t.itertext()).replace("\u00a0", " ") for t in root.iter(SVG + "text")}
    assert {"x<", "y", "multiply", "sin", "add", "()", "value 6.909", "grad  2.584"} <= spaced
    assert len(list(root.iter(SVG + "rect"))) == 5
    assert [g.get("class") for g in root.iter(SVG + "g")] == ["leaf", "leaf", "op", "op", "op last"]
    assert sum(p.get("class") == "arrow" for p in root.iter(SVG + "path")) == 5
    assert any("\u00a0test_graph.py:" in t.text for t in root.iter(SVG + "title"))


def test_svg_labels_the_values_of_one_op():
    q, k = np.split(leaf(4), 2)
    svg = tg.graph((q * k).sum(), names={"q": q}).svg()
    assert ">q</text>" in svg
    assert ">[1]</text>" in svg


def test_a_tensor_used_twice_by_one_op_has_two_arrows():
    x = leaf(3)
    assert tg.graph(x * x).svg().count('class="arrow"') == 2


def test_dot_has_each_vertex_and_arrow():
    x, y, z = small()
    dot = tg.graph(z, values=True, names={'"x"\\': x, "y": y}).dot()
    arrows = re.findall(r"(\d) -> (\d)", dot)
    assert arrows == [("0", "2"), ("1", "2"), ("0", "3"), ("2", "4"), ("3", "4")]
    assert r'0 [label="\"x\"\\\l()\lvalue 2\l", style="rounded"]' in dot


def test_graphviz_reads_the_source():
    if not shutil.which("dot"):
        pytest.skip("needs Graphviz")
    q, k = np.split(leaf(4), 2)
    dot = tg.graph((q * k).sum(), True, True, names={'a "b" \\c': q}).dot()
    done = subprocess.run(["dot", "-Tplain"], input=dot, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert sum(line.startswith("edge") for line in done.stdout.splitlines()) == 4


def test_notebooks_draw_what_can_be_read_and_print_the_rest():
    x = leaf(2)
    y = x
    for _ in range(1200):
        y = y + x
    drawn = tg.graph(y)
    assert drawn._repr_svg_() is None
    assert repr(drawn) == drawn.text() == str(drawn)
    assert len(drawn.text().splitlines()) == 1201
    with pytest.raises(ValueError, match="1201 boxes are too many"):
        drawn.svg()
    assert tg.graph(x + x)._repr_svg_().startswith("<svg")


def test_deep_graphs_need_no_recursion():
    y = leaf(2)
    for _ in range(20_000):
        y = np.negative(y)
    assert tg.graph(y.sum(), values=True, gradients=True).vertices[-1].name == "%20002"
