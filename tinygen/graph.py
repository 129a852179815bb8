"""The graph behind a tensor, to look at: as text, as Graphviz source, as an SVG drawing.

The graph is the tape: each op that `y` was computed by, oldest first, and the leaves and constants that
entered. Values are computed again from the leaves, since the tape keeps only the arrays that gradients
need. Gradients come from a backward pass that writes no `.grad`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygen.arrays import to_device
from tinygen.backward import backward, topological_order
from tinygen.drawing import Box, Source, svg
from tinygen.node import PICK, Node
from tinygen.rerun import rerun, run_on_arrays
from tinygen.tensor import Tensor

__all__ = ["Graph", "graph"]


def graph(y: Tensor, values: bool = False, gradients: bool = False, names: Any = None) -> Graph:
    """The graph that `y` was computed by; on request with values and with the gradients of `y` by each.

    `names` gives names to tensors and arrays: {"w": w, ...}, or a module, for its parameters.

    Raises RuntimeError when `y` has no graph or `backward()` has freed it, ValueError when gradients are
    asked for and `y` is not one number."""
    if not y.requires_grad:
        raise RuntimeError(
            "this tensor has no graph: nothing that it was computed from requires grad, or it was computed "
            "inside no_grad()"
        )
    if gradients and y.size != 1:
        raise ValueError(
            f"gradients need one number to start from, and this tensor has shape {y.shape}: "
            "draw the graph of its .sum() or .mean(), or leave gradients off"
        )
    order = topological_order([y])
    items = (
        names.items() if isinstance(names, Mapping) else names.named_parameters() if names is not None else ()
    )
    known = {}
    for name, x in items:
        known[id(x)] = name
        if isinstance(x, Tensor):
            known[id(x._data)] = known[id(x.node or x)] = name
    reader = Reader(
        known,
        rerun(order, lambda node, inputs: run_on_arrays(node, inputs)[0]) if values else None,
        gradients_of(y, order) if gradients else {},
    )
    for node in order:
        reader.read(node)
    reader.source(y.node or y)
    return Graph(reader.vertices)


def gradients_of(y: Tensor, order: Sequence[Node]) -> dict[Any, Any]:
    """The gradient of `y` by each node and leaf."""
    wanted = {id(x): x for node in order for x in node.inputs if isinstance(x, Tensor) and x.requires_grad}
    for node in order:
        if type(node.dtype) is not tuple:
            wanted[id(node)] = inner = Tensor(0.0)  # in place of the node's value, which may have been freed
            inner.node = node
    return backward([y], [np.ones_like(y._data)], list(wanted.values()), retain_graph=True)


# -- reading the tape ------------------------------------------------------------------------------


@dataclass
class Vertex:
    """An op, or a leaf or constant that entered."""

    kind: str  # "op", "leaf" or "constant"
    op: str
    arguments: list[Source | str]  # each an output of a vertex, or other arguments as text
    outputs: list[str]  # names, like "w" or "%3"
    types: list[tuple[str, str]]  # dtype and shape of each output
    where: str = ""
    notes: list[tuple[str, list[str]]] = field(default_factory=list)  # values and gradients, in lines

    @property
    def inputs(self) -> list[Source]:
        return [a for a in self.arguments if not isinstance(a, str)]

    @property
    def name(self) -> str:
        unnamed = len(self.outputs) > 1 and all(name.startswith("%") for name in self.outputs)
        return self.outputs[0].removesuffix("[0]") if unnamed else ", ".join(self.outputs)

    @property
    def title(self) -> str:
        """For a box: the op with the arguments that have no arrow, or the name of a leaf."""
        name = "" if self.name.startswith("%") else self.name
        if self.kind != "op":
            return name or self.kind
        dots = any(isinstance(a, str) and "=" not in a for a in self.arguments)
        words = [a if isinstance(a, str) else "·" for a in self.arguments if dots or isinstance(a, str)]
        return (f"{name} = " if name else "") + self.op + (f"({', '.join(words)})" if words else "")

    def type(self, everyday: str = "") -> str:
        """Dtype and shape of each output; the `everyday` dtype is left out."""
        types = [shape if dtype == everyday else f"{dtype} {shape}" for dtype, shape in self.types]
        same = len(types) > 1 and len(set(types)) == 1
        return f"{len(types)} × {types[0]}" if same else ", ".join(types)


class Reader:
    """Makes vertices of nodes, leaves and constants, in the order in which they are met."""

    def __init__(self, names: dict[int, str], values: dict[Node, Any] | None, gradients: dict[Any, Any]):
        self.names = names
        self.values = values
        self.gradients = gradients
        self.vertices: list[Vertex] = []
        self.sources: dict[int, Source] = {}  # by the id of a node, Tensor or array
        self.numbers = 0

    def read(self, node: Node) -> None:
        if node.op is PICK:
            v, i = self.sources[id(node.inputs[0])][0], node.kwargs["i"]
            self.sources[id(node)] = v, i
            self.vertices[v].outputs[i] = self.names.get(id(node), self.vertices[v].outputs[i])
            self.note(v, f"gradient[{i}]", self.gradients.get(node))
            return
        several = type(node.dtype) is tuple
        types = list(zip(node.dtype, node.shape, strict=True)) if several else [(node.dtype, node.shape)]
        v = self.add(node, "op", node.name, self.arguments(node), types)
        self.vertices[v].where = os.path.basename(node.where)
        if self.values is not None:
            for i, value in enumerate(self.values[node] if several else (self.values[node],)):
                self.note(v, f"value[{i}]" if several else "value", value)
        self.note(v, "gradient", self.gradients.get(node))

    def arguments(self, node: Node) -> list[Source | str]:
        signature = inspect.signature(node.op.body)
        found: list[Source | str] = []
        for name, value in signature.bind(*node.inputs, **node.kwargs).arguments.items():
            p = signature.parameters[name]
            starred = p.kind is p.VAR_POSITIONAL
            for x in value if starred else (value,):
                if (source := self.source(x)) is not None:
                    found.append(source)
                elif type(x) is not type(p.default) or x != p.default:
                    mathematical = starred or len(name) == 1  # multiply(x, 2), but sum(x, axis=0)
                    found.append(short_text(x) if mathematical else f"{name}={short_text(x)}")
        return found

    def source(self, x: Any) -> Source | None:
        """Where the arrow from `x` starts; None if `x` has no arrow and is written into the op."""
        if id(x) in self.sources:
            return self.sources[id(x)]
        leaf = isinstance(x, Tensor) and x.requires_grad
        if not hasattr(x, "__array_function__") or not (leaf or id(x) in self.names or x.size != 1):
            return None
        v = self.add(x, "leaf" if leaf else "constant", "", [], [(x.dtype, x.shape)])
        if self.values is not None:
            self.note(v, "value", x._data if isinstance(x, Tensor) else x)
        self.note(v, "gradient", self.gradients.get(x) if leaf else None)
        return v, 0

    def add(self, x: Any, kind: str, op: str, arguments: list[Source | str], types: list[Any]) -> int:
        name = self.names.get(id(x))
        if name is None:
            self.numbers += 1
            name = f"%{self.numbers}"
        outputs = [name] if len(types) == 1 else [f"{name}[{i}]" for i in range(len(types))]
        shown = [(str(dtype), str(shape)) for dtype, shape in types]
        self.vertices.append(Vertex(kind, op, arguments, outputs, shown))
        self.sources[id(x)] = len(self.vertices) - 1, 0
        return len(self.vertices) - 1

    def note(self, v: int, what: str, x: Any) -> None:
        if x is not None:
            x = np.asarray(x) if isinstance(x, np.generic) else to_device(x, "cpu")
            self.vertices[v].notes.append((what, summary(x)))


def short_text(x: Any) -> str:
    """An argument as a short text."""
    if isinstance(x, (tuple, list)):
        return f"({', '.join(map(short_text, x))}{',' if len(x) == 1 else ''})"
    if isinstance(x, slice):
        return ":".join("" if i is None else str(i) for i in (x.start, x.stop, x.step)).removesuffix(":")
    if hasattr(x, "shape") and x.size == 1:
        x = x.item()
    if hasattr(x, "shape"):
        return f"{x.dtype} {x.shape}"
    text = "..." if x is ... else f"{x:.4g}" if isinstance(x, float) else getattr(x, "__name__", repr(x))
    return text if len(text) <= 40 else text[:39] + "…"


def summary(x: np.ndarray[Any, Any]) -> list[str]:
    """A small array in full, a larger one as four numbers."""
    if x.size == 0:
        return ["empty"]
    if x.size <= 12 and x.ndim <= 2 and x.shape[-1:] <= (6,):
        form: Any = {"float_kind": "{:.4g}".format}
        return np.array2string(x, separator=", ", formatter=form).splitlines()
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):  # infinities have no std
        return [f"mean {x.mean():<9.3g}  std {x.std():.3g}", f"min  {x.min():<9.3g}  max {x.max():.3g}"]


# -- showing it ------------------------------------------------------------------------------------


DRAWN = 1000  # boxes; a larger drawing is unreadable


@dataclass(repr=False)
class Graph:
    """What `tinygen.graph` returns. It prints itself as text; in a notebook it is drawn."""

    vertices: list[Vertex]

    def __repr__(self) -> str:
        return self.text()

    def _repr_svg_(self) -> str | None:
        return self.svg() if len(self.vertices) <= DRAWN else None

    def lines(self) -> list[tuple[str, str, str]]:
        """For each vertex: its name, its dtype and shape, and the line that called it."""
        found = []
        for vertex in self.vertices:
            words = [a if isinstance(a, str) else self.vertices[a[0]].outputs[a[1]] for a in vertex.arguments]
            call = f"{vertex.op}({', '.join(words)})" if vertex.kind == "op" else vertex.kind
            found.append((f"{vertex.name} = {call}", vertex.type(), vertex.where))
        return found

    def text(self) -> str:
        """One line per vertex, oldest first; below it, indented, its value and gradient."""
        rows = self.lines()
        widths = [min(max(len(row[i]) for row in rows), 64) for i in range(2)]
        text = []
        for vertex, (call, types, where) in zip(self.vertices, rows, strict=True):
            text.append(f"{call:{widths[0]}}  {types:{widths[1]}}  {where}".rstrip())
            for what, lines in vertex.notes:
                text += [f"    {'' if i else what:11} {line}" for i, line in enumerate(lines)]
        return "\n".join(text)

    def boxes(self) -> list[Box]:
        """The boxes of the drawing, and from where arrows lead to each."""
        found = []
        for vertex, hint in zip(self.vertices, self.lines(), strict=True):
            lines = [("title", vertex.title), ("type", vertex.type("float32"))]
            width = max((len(what) for what, _ in vertex.notes if what.startswith("value")), default=4)
            for what, note in vertex.notes:
                kind, label = what.partition("[")[0], what.replace("gradient", "grad")
                lines += [(kind, f"{'' if i else label:{width}} {line}") for i, line in enumerate(note)]
            arrows = [(source, self.port(*source)) for source in vertex.inputs]
            found.append(Box(vertex.kind, lines, arrows, "  ".join(hint)))
        return found

    def port(self, v: int, k: int) -> str:
        """The label of an arrow from output k of vertex v, when there are several."""
        outputs = self.vertices[v].outputs
        return "" if len(outputs) == 1 else f"[{k}]" if outputs[k].startswith("%") else outputs[k]

    def svg(self) -> str:
        """A drawing, arrows downwards: into each op from its arguments, in their order from the left.

        Raises ValueError for more than 1,000 boxes."""
        if len(self.vertices) > DRAWN:
            raise ValueError(
                f"{len(self.vertices)} boxes are too many to read in one drawing: use .text(), or draw "
                "the graph of a tensor further inside"
            )
        return svg(self.boxes())

    def dot(self) -> str:
        """Source for Graphviz: `dot -Tsvg`."""

        def escape(text: str) -> str:
            return text.replace("\\", "\\\\").replace('"', '\\"')

        text = ["digraph {", '  node [shape=box, fontname="monospace", fontsize=11]']
        styles = {"op": "solid", "leaf": "rounded", "constant": "rounded,dashed"}
        for v, box in enumerate(self.boxes()):
            label = "".join(escape(line) + "\\l" for _, line in box.lines)
            text.append(f'  {v} [label="{label}", style="{styles[box.kind]}"]')
            for (u, _), port in box.arrows:
                text.append(f"  {u} -> {v}" + (f' [taillabel="{escape(port)}"]' if port else ""))
        return "\n".join([*text, "}"])


graph.Graph = Graph  # type: ignore[attr-defined]  # also found on the function, which `tinygen.graph` is
