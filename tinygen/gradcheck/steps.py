"""The tape as a list of steps: each recorded op with its actual input arrays, so that it can be checked
alone.

The program runs once more on arrays, as in `graph` and `checkpoint`, with the `compute` of each op, which the
tape ran too.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.backward import topological_order, unbroadcast
from tinygen.checks import signature
from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.randomness import Randomness
from tinygen.gradcheck.subject import Function, Pull, pull_through_tape
from tinygen.modes import enable_grad, no_grad
from tinygen.node import PICK, Node
from tinygen.rerun import array_of, rerun, with_recorded_dtype
from tinygen.tensor import Tensor


def steps_of(outputs: Sequence[Any]) -> list[Step]:
    """The ops that `outputs` were computed by, in the order in which they were executed."""
    on_tape = [y for y in outputs if isinstance(y, Tensor) and y.requires_grad]
    steps: list[Step] = []

    def run(node: Node, inputs: list[Any]) -> Any:
        if node.op is PICK:
            return inputs[0][node.kwargs["i"]]
        wanted = [i for i, x in enumerate(node.inputs) if getattr(x, "requires_grad", False)]
        steps.append(Step(node, list(map(array_of, inputs)), wanted))
        return steps[-1].output

    rerun(topological_order(on_tape), run)
    return steps


def steps_at(base: Function, points: Sequence[Array]) -> list[Step]:
    """The steps of a function at `points`. These stay unchanged even if an op writes into its inputs."""
    variables, outputs = base.call([np.array(x) for x in points])
    for v, x in zip(variables, points, strict=True):
        v._data = np.array(x)
    return steps_of(outputs)


class Step:
    """One executed op as a Subject. Its variables are the arguments that want a gradient."""

    def __init__(self, node: Node, arrays: Sequence[Any], wanted: Sequence[int]) -> None:
        self.node = node
        self.arrays = list(arrays)
        self.wanted = list(wanted)
        self.call_text = signature(node.op, arrays)
        self.randomness = Randomness(node.op.body, arrays, node.kwargs)
        before = [np.array(x) if isinstance(x, np.ndarray) else x for x in arrays]
        value, *self.rules = node.op.compute(*arrays, **node.kwargs)
        pairs = [(x, y) for x, y in zip(arrays, before, strict=True) if isinstance(x, np.ndarray)]
        self.mutates = not all(np.array_equal(x, y, equal_nan=x.dtype.kind == "f") for x, y in pairs)
        self.raw = value
        self.output = with_recorded_dtype(value, node)
        self.outputs = list(self.output) if type(self.output) is tuple else [self.output]
        self.arguments = names_of(node)
        self.names = [f"argument {self.arguments[i]}" for i in wanted]
        self.points = [arrays[i] for i in wanted]
        self.constants = {
            f"argument {self.arguments[i]}": i
            for i, x in enumerate(arrays)
            if i not in wanted and isinstance(x, np.ndarray) and x.dtype.kind == "f"
        }

    @property
    def integers(self) -> list[Array]:
        """The integer arrays among the arguments, also those within an index."""
        inside = [y for x in self.arrays for y in (x if isinstance(x, tuple) else (x,))]
        return [x for x in inside if isinstance(x, np.ndarray) and x.dtype.kind in "iu"]

    def with_constant(self, i: int, array: Array) -> Step:
        """This step with another array for argument `i`, which wants no gradient."""
        return Step(self.node, [array if j == i else x for j, x in enumerate(self.arrays)], self.wanted)

    def all_arguments(self, arrays: Sequence[Any]) -> list[Any]:
        """All arguments, with `arrays` in place of the variables."""
        found = list(self.arrays)
        for i, x in zip(self.wanted, arrays, strict=True):
            found[i] = x
        return found

    def run_with(self, arrays: Sequence[Array]) -> tuple[Any, Sequence[Any]]:
        """The value and the rules of the op, with `arrays` in place of the variables."""
        with no_grad(), self.randomness.repeat_draws():
            value, *rules = self.node.op.compute(*self.all_arguments(arrays), **self.node.kwargs)
        return value, rules

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        value = self.run_with(arrays)[0]
        return [np.asarray(y) for y in (value if type(value) is tuple else (value,))]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        if all(x is y for x, y in zip(arrays, self.points, strict=True)):
            outputs, rules = self.outputs, self.rules
        else:
            value, rules = self.run_with(arrays)
            outputs = [np.asarray(y) for y in (value if type(value) is tuple else (value,))]

        def pull(cotangents: Sequence[Array]) -> list[Array | None]:
            found = self.raw_gradients(rules, self.pack(cotangents))
            return [np.array(unbroadcast(g, x)) for g, x in zip(found, self.points, strict=True)]

        return outputs, pull

    def pack(self, cotangents: Sequence[Any]) -> Any:
        return tuple(cotangents) if type(self.output) is tuple else cotangents[0]

    def raw_gradients(self, rules: Sequence[Any], g: Any) -> list[Any]:
        """The results of the rules for the variables, before the tape sums and casts them."""
        with no_grad():
            return self.apply(rules, g)

    def apply(self, rules: Sequence[Any], g: Any) -> list[Any]:
        if len(rules) == 1 and rules[0] is not None:
            together = rules[0](g)
            together = together if type(together) is tuple else (together,)
            found = [together[i] if i < len(together) else None for i in self.wanted]
        else:
            found = [rules[i](g) if i < len(rules) and rules[i] is not None else None for i in self.wanted]
        for i, gx in zip(self.wanted, found, strict=True):
            if gx is None:
                raise TypeError(f"`{self.node.name}` has no gradient for its argument {i}")
        return found

    # -- with Tensors, for the second order --------------------------------------------------------

    def leaf(self, array: Array) -> Tensor:
        return Tensor(array, requires_grad=True)

    def values(self, tensor: Any) -> Array:
        return tensor.numpy() if isinstance(tensor, Tensor) else np.asarray(tensor)

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        """The op's body on Tensors, as a replay of the tape runs it: its rules stand in for the outputs."""
        variables = [self.leaf(x) for x in arrays]
        with enable_grad():
            value, *rules = self.node.op.body(*self.all_arguments(variables), **self.node.kwargs)
        outputs = list(value) if type(value) is tuple else [value]
        return list(variables), [Replayed(y, rules) for y in outputs]

    def send_back(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        if not (outputs and isinstance(outputs[0], Replayed)):
            return pull_through_tape(outputs, cotangents, variables, again)
        with enable_grad():
            found = self.apply(outputs[0].rules, self.pack(cotangents))
            return [unbroadcast(g, x) for g, x in zip(found, variables, strict=True)]


class Replayed:
    """An output of a replayed op, with the op's rules."""

    def __init__(self, value: Any, rules: Sequence[Any]) -> None:
        self.value = value
        self.rules = rules


def names_of(node: Node) -> list[str]:
    """The names of the op's positional arguments, by its signature."""
    names: list[str] = []
    for p in inspect.signature(node.op.body).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(len(node.inputs) - len(names))]
        else:
            names.append(p.name)
    return names
