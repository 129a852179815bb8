"""The tape as vertices with names: what `graph.py` shows of each op, leaf and constant."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygen.arrays import to_device
from tinygen.layout import Source
from tinygen.node import PICK, Node
from tinygen.tensor import Tensor


@dataclass
class Vertex:
    """An op, or a leaf or constant that entered."""

    kind: str  # "op", "leaf" or "constant"
    op: str
    arguments: list[Source | str]  # each an output of a vertex, or other arguments as text
    outputs: list[str]  # names, like "w" or "%3"
    types: list[tuple[str, str]]  # dtype and shape of each output
    where: str = ""
    scope: str = ""  # the module or the function that called the op
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

    def __init__(
        self,
        names: dict[int, str],
        modules: Sequence[tuple[str, Any]],
        values: dict[Node, Any] | None,
        gradients: dict[Any, Any],
    ) -> None:
        self.names = names
        self.modules = modules
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
        self.vertices[v].scope = module_of(node, self.modules) if self.modules else function_of(node)
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


def module_of(node: Node, modules: Sequence[tuple[str, Any]]) -> str:
    """The path of the innermost module that was at work when the op ran. Of a module that was called more
    than once, only the last call is known."""
    inside = [(m._called[0], name) for name, m in modules if m._called[0] < node.seq < m._called[1]]
    return max(inside, default=(0, ""))[1]


def function_of(node: Node) -> str:
    """The function that called the op, like "gpt" or "Block.forward"; for a lambda, the one around it."""
    parts = [part for part in node.code.co_qualname.split(".<locals>.") if not part.startswith("<")]
    return parts[-1] if parts else ""


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
