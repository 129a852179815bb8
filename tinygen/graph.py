"""The graph behind a tensor, to look at: as text, as Graphviz source, as an SVG drawing.

The graph is the tape: each op that `y` was computed by, oldest first, and the leaves and constants that
entered. Values are computed again from the leaves, since the tape keeps only the arrays that gradients
need. Gradients come from a backward pass that writes no `.grad`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen.backward import backward, topological_order
from tinygen.drawing import Box, svg
from tinygen.node import Node
from tinygen.rerun import rerun, run_on_arrays
from tinygen.tensor import Tensor
from tinygen.vertices import Reader, Vertex

__all__ = ["Graph", "graph"]


def graph(y: Tensor, values: bool = False, gradients: bool = False, names: Any = None) -> Graph:
    """The graph that `y` was computed by; on request with values and with the gradients of `y` by each.

    `names` gives names to tensors and arrays: {"w": w, ...}, or a module, for its parameters. A drawing
    groups what one module did, if `names` is a module, and otherwise what one function did.

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
    modules = names.named_modules() if hasattr(names, "named_modules") else ()
    reader = Reader(
        known,
        [(name or type(m).__name__, m) for name, m in modules],
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
        found: list[Box] = []
        scopes = self.scopes()
        everyday = self.vertices[-1].types[0][0]  # left out: the dtype of the result
        for vertex, hint, scope in zip(self.vertices, self.lines(), scopes, strict=True):
            lines = [("title", vertex.title), ("type", vertex.type(everyday))]
            width = max((len(what) for what, _ in vertex.notes if what.startswith("value")), default=4)
            for what, note in vertex.notes:
                kind, label = what.partition("[")[0], what.replace("gradient", "grad")
                lines += [(kind, f"{'' if i else label:{width}} {line}") for i, line in enumerate(note)]
            arrows = [(source, self.port(*source)) for source in vertex.inputs]
            found.append(Box(vertex.kind, lines, arrows, "  ".join(hint), scope))
        return found

    def scopes(self) -> list[str]:
        """The scope of each vertex: that of the op, or of the first op that uses a leaf or constant."""
        found, scope = [], ""
        for vertex in reversed(self.vertices):
            scope = vertex.scope if vertex.kind == "op" else scope
            found.append(scope)
        return found[::-1]

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
