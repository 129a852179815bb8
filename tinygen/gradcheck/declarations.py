"""Gradients that are meant to differ from the derivative, and how everything else is still checked.

A straight-through gradient passes the cotangent on, although rounding has the derivative 0; gradient reversal
passes on its negative; a stop-gradient treats a value as a constant. They are declared at the op,

    @declare_intended("straight-through: rounding has no gradient of use")
    @op
    def rounded(x): ...

or in the call: `gradcheck(f, x, intended=[rounded, "detach"])`. Then the differences are taken of a modified
function: a declared op is replaced by the linear function that its own rules describe (its tangent), and with
"detach" every detached value is a constant. The gradient has to agree with that function. The decorator is in
`intended.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen.backward import topological_order, unbroadcast
from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.report import short_place
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.subject import Function
from tinygen.modes import no_grad
from tinygen.node import Node, Op
from tinygen.rerun import array_of, rerun
from tinygen.tensor import Tensor

DETACH = "detach"
LARGEST = 4096  # outputs of a declared op, at most: its tangent takes one backward pass for each


class Declarations:
    """The declarations in a call and at the ops that ran: which steps, and why."""

    def __init__(self, given: Any, steps: Sequence[Step]) -> None:
        given = list(given) if isinstance(given, list | tuple | set) else [given]
        self.detach = DETACH in given
        names = {}
        for x in given:
            name = x if isinstance(x, str) else getattr(getattr(x, "op", None), "name", None)
            if name is None:
                raise TypeError(f'gradcheck: intended= takes ops, names of ops and "detach", not {x!r}')
            names[name] = "declared in this call"
        names.pop(DETACH, None)
        self.why = {s: s.node.op.intended or names.get(s.node.name, "") for s in steps}
        self.steps = [s for s in steps if self.why[s]]
        self.missing = set(names) - {s.node.name for s in self.steps}

    def __bool__(self) -> bool:
        return self.detach or bool(self.steps)

    def notes(self) -> Iterator[str]:
        seen = set()
        for s in self.steps:
            place = (s.node.name, short_place(s.node.where))
            if place not in seen:
                seen.add(place)
                yield (
                    f"meant to differ and not compared: the gradient of `{place[0]}`, called at {place[1]} "
                    f"({self.why[s]})"
                )
        if self.detach:
            yield "taken as a constant, as declared: whatever was detached on the way"
        for name in sorted(self.missing):
            yield f"declared as intended, but not on the tape: `{name}`"

    def stand_in(self, base: Function) -> Callable[[Sequence[Array]], list[Array]]:
        """The function whose differences are taken, instead of `base.evaluate`."""
        tangents: dict[Op, list[Tangent]] = {}
        for s in self.steps:
            tangents.setdefault(s.node.op, []).append(Tangent(s))
        if self.detach:
            return Program(base, {t.step.node: t for ts in tangents.values() for t in ts}).evaluate

        def evaluate(arrays: Sequence[Array]) -> list[Array]:
            with with_tangents(tangents):
                return base.values_at(arrays)

        return evaluate


class Tangent:
    """An op as the linear function that its rules describe at this step: y + J (x - x0)."""

    def __init__(self, step: Step) -> None:
        self.step = step
        size = sum(y.size for y in step.outputs)
        if size > LARGEST:
            raise ValueError(
                f"gradcheck: `{step.node.name}`, whose gradient is declared as intended, has {size:,} "
                f"outputs here, more than {LARGEST:,}: check at smaller shapes"
            )
        ends = np.cumsum([y.size for y in step.outputs])[:-1]
        rows = []
        for unit in np.eye(size):
            parts = zip(np.split(unit, ends), step.outputs, strict=True)
            g = step.pack([part.reshape(y.shape).astype(y.dtype) for part, y in parts])
            found = step.raw_gradients(step.rules, g)
            rows.append([np.ravel(unbroadcast(d, x)) for d, x in zip(found, step.points, strict=True)])
        self.jacobians = [np.array([row[i] for row in rows]) for i in range(len(step.points))]
        self.ends = ends

    def value(self, arrays: Sequence[Any]) -> Any:
        step = self.step
        moved = np.concatenate([np.ravel(y) for y in step.outputs])
        for i, x, jacobian in zip(step.wanted, step.points, self.jacobians, strict=True):
            moved = moved + jacobian @ np.ravel(arrays[i] - x)
        parts = zip(np.split(moved, self.ends), step.outputs, strict=True)
        values = [part.reshape(y.shape) for part, y in parts]
        return tuple(values) if type(step.output) is tuple else values[0]


@contextmanager
def with_tangents(tangents: dict[Op, list[Tangent]]) -> Iterator[None]:
    """Inside this context each of these ops computes its tangents: the first call the first one, and so
    on."""
    before = {op: op.compute for op in tangents}
    try:
        for op, of_op in tangents.items():
            rest = iter(of_op)

            def compute(*arrays: Any, rest: Any = rest, op: Op = op, **kwargs: Any) -> Any:
                tangent = next(rest, None)
                return before[op](*arrays, **kwargs) if tangent is None else (tangent.value(arrays),)

            op.compute = compute
        yield
    finally:
        for op, was in before.items():
            op.compute = was


class Program:
    """The tape of a function at its points, run again at other points with the same constants."""

    def __init__(self, base: Function, tangents: dict[Node, Tangent]) -> None:
        self.base = base
        self.variables, self.outputs = base.call([np.array(x) for x in base.points])
        tracked = [y for y in self.outputs if isinstance(y, Tensor) and y.requires_grad]
        self.nodes = topological_order(tracked)
        known = iter(tangents.values())  # matched by order: this is another tape of the same program
        declared = {t.step.node.op for t in tangents.values()}
        self.tangents = {n: next(known) for n in self.nodes if n.op in declared}
        places = {id(v): k for k, v in enumerate(self.variables)}
        self.leaves = {n: [places.get(id(x)) for x in n.inputs] for n in self.nodes}

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        self.base.runs += 1

        def run(node: Node, inputs: list[Any]) -> Any:
            places = self.leaves[node]
            given = [array_of(x) if k is None else arrays[k] for x, k in zip(inputs, places, strict=True)]
            tangent = self.tangents.get(node)
            return node.op.compute(*given, **node.kwargs)[0] if tangent is None else tangent.value(given)

        with no_grad(), self.base.randomness.repeat_draws():
            values = rerun(self.nodes, run)
        return [np.asarray(self.output(y, arrays, values)) for y in self.outputs]

    def output(self, y: Any, arrays: Sequence[Array], values: dict[Node, Any]) -> Any:
        """One output: computed on the tape, a variable itself, or a constant."""
        if getattr(y, "node", None) is not None:
            return values[y.node]
        place = next((k for k, v in enumerate(self.variables) if v is y), None)
        return self.base.values(y) if place is None else arrays[place]
