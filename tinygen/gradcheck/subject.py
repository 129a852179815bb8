"""The subject of a check: a function from several arrays to several arrays, with a gradient to be checked.

The checker only uses the interface `Subject`: names, points, `evaluate` (the value) and `record` (the value
and the gradient). `Function` is the subject for users: a function on Tensors, an op, or a Module. Other
subjects are a function of torch tensors (`torch_function.py`), one op of the tape at its actual inputs
(`steps.py`), and the `Gradient` of any of these, for the second order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tinygen.backward import backward
from tinygen.gradcheck.arguments import (
    Array,
    argument_names,
    is_module,
    move_off_constant,
    points_of,
    replace_variables,
    split_module,
    unread_arrays,
    variables,
    weights,
)
from tinygen.gradcheck.module_state import ModuleState
from tinygen.gradcheck.randomness import Randomness
from tinygen.modes import enable_grad, no_grad
from tinygen.tensor import Tensor

Pull = Callable[[Sequence[Array]], list[Array | None]]
"""Takes one cotangent per output; returns one gradient per variable, None where nothing arrives."""


class Subject(Protocol):
    names: list[str]
    """The name of each variable: "input x", "parameter blocks.0.weight"."""
    points: list[Array]
    """The values of the variables, in float64, at which the gradient is checked."""

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs at `arrays` (one per variable), always with the same random numbers."""
        ...

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        """The outputs, and a function that pulls cotangents back."""
        ...


class Recorded(Protocol):
    """A subject that computes with the tensors of a library, so that its gradient is differentiable again."""

    names: list[str]
    points: list[Array]

    def leaf(self, array: Array) -> Any:
        """A tensor that requires grad."""
        ...

    def values(self, tensor: Any) -> Array: ...

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        """The variables and the outputs, as tensors on the tape."""
        ...

    def send_back(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        """The gradient of Σ <output, cotangent> by each variable, None where nothing arrives: arrays, or with
        `again` tensors on the tape."""
        ...

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]: ...


class Function:
    """`f(*inputs, **kwargs)` for an `f` on Tensors. Its variables are the floating-point arrays among the
    inputs and, if `f` is a Module or a method of one, the parameters of a float64 copy of it. Everything else
    is passed unchanged.

    A parameter whose entries are all equal (the ones of a norm, a zero initialization) is moved by about 0.1
    at random, since at such a point mistakes cancel or are multiplied by 0. `moved` has the names of these.

    Raises TypeError when there is nothing to check."""

    def __init__(self, f: Any, inputs: Sequence[Any], kwargs: dict[str, Any] | None = None) -> None:
        self.f, self.module = split_module(f)
        self.inputs, self.kwargs = list(inputs), kwargs or {}
        names = argument_names(f.forward if is_module(f) else f, len(inputs))
        found = [pair for name, x in zip(names, inputs, strict=True) for pair in variables(x, name)]
        points = [(f"input {name}{part}", point) for name, x in found for part, point in points_of(x)]
        self.names = [name for name, _ in points]
        self.points = [point for _, point in points]
        self.sizes = [len(points_of(x)) for _, x in found]  # 2 for a complex one
        self.count = len(points)  # the variables among the inputs; the parameters come after them
        self.overlooked = [n for name, x in zip(names, inputs, strict=True) for n in unread_arrays(x, name)]
        self.parameters: list[Tensor] = []
        self.moved: list[str] = []
        if self.module is not None:
            self.find_parameters(self.module)
        if not self.points:
            raise TypeError(nothing_to_check(names, inputs))
        roots = [("", self.f), *zip(names, inputs, strict=True), *self.kwargs.items()]
        given = [x for _, x in found if isinstance(x, Tensor)]
        self.held = ModuleState(roots, [*self.parameters, *given])
        self.randomness = Randomness(self.f, self.module, *self.inputs, self.kwargs)
        self.runs = 0
        self.recorded: list[Tensor] = []  # the variables of the latest run
        self.stand_in: Callable[[Sequence[Array]], list[Array]] | None = (
            None  # evaluated instead of f: see declarations
        )

    def find_parameters(self, module: Any) -> None:
        for name, p in module.named_parameters():
            if p.requires_grad:
                point, moved = move_off_constant(p.numpy())
                self.moved += [name] if moved else []
                self.names.append(f"parameter {name}")
                self.points.append(point)
                self.parameters.append(p)

    def run(self, arrays: Sequence[Array], requires_grad: bool) -> tuple[list[Tensor], list[Any]]:
        """The variables at `arrays`, and the outputs."""
        self.runs += 1
        leaves = [Tensor(x, requires_grad=requires_grad) for x in arrays[: self.count]]
        rest = iter(leaves)
        new = (next(rest) if n == 1 else next(rest) + 1j * next(rest) for n in self.sizes)
        args = [replace_variables(x, new) for x in self.inputs]
        self.held.restore(arrays[0].dtype)
        self.put(arrays[self.count :])
        with self.randomness.repeat_draws():
            self.recorded = [*leaves, *self.parameters]
            outputs = flatten(self.f(*args, **self.kwargs))
        if not any(x.dtype.kind == "c" for x in arrays):  # else these are complex steps
            outputs = [part for y in outputs for part in real_numbers(y)]
        return self.recorded, outputs

    def put(self, parameters: Sequence[Array]) -> None:
        """Set the parameters of the module, without `.data`, which would tell the tape that its arrays are
        out of date. Here no array is overwritten."""
        for p, x in zip(self.parameters, parameters, strict=True):
            p._data = x

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        return self.values_at(arrays) if self.stand_in is None else self.stand_in(arrays)

    def values_at(self, arrays: Sequence[Array]) -> list[Array]:
        with no_grad():
            outputs = [self.values(y) for y in self.run(arrays, False)[1]]
        self.put(self.points[self.count :])  # a checkpoint may read them later
        self.held.put_back()
        return outputs

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        return record_gradient(self, arrays)

    def leaf(self, array: Array) -> Tensor:
        return Tensor(array, requires_grad=True)

    def values(self, tensor: Any) -> Array:
        return tensor.numpy() if isinstance(tensor, Tensor) else np.asarray(tensor)

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        with enable_grad():
            variables, outputs = self.run(arrays, True)
        self.held.remember()
        return list(variables), outputs

    def leave(self) -> None:
        """Restore the state from before the check."""
        self.held.leave()
        self.randomness.rewind()

    def send_back(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        return pull_through_tape(outputs, cotangents, variables, again)


def pull_through_tape(
    outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
) -> list[Any]:
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if getattr(y, "requires_grad", False)]
    ys, gs = [y for y, _ in pairs], [g for _, g in pairs]
    with enable_grad():
        grads = backward(ys, gs, variables, retain_graph=True, create_graph=again)
    return [grads.get(v.node or v) for v in variables]


def state_restorer(subject: Recorded) -> Callable[[], None]:
    """A function that restores the buffers as they are now, after a recorded run. The gradient of that run
    may read them, and other runs may change them before."""
    held: ModuleState | None = getattr(subject, "held", None)
    return (lambda: None) if held is None else functools.partial(held.put_back, held.last)


def record_gradient(subject: Recorded, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
    variables, outputs = subject.call(arrays)
    back = state_restorer(subject)

    def pull(cotangents: Sequence[Array]) -> list[Array | None]:
        back()
        grads = subject.send_back(outputs, cotangents, variables, False)
        return [None if g is None else np.array(g) for g in grads]

    return [subject.values(y) for y in outputs], pull


class Gradient:
    """The gradient of a subject as a function of its own, (cotangents, variables) -> gradients. Its gradient
    is the second order."""

    def __init__(self, base: Recorded, rng: np.random.Generator) -> None:
        self.base = base
        outputs, pull = base.record(base.points)
        given = [weights(y.shape, rng) for y in outputs]
        self.reached = [i for i, g in enumerate(pull(given)) if g is not None]
        numbers = [f" {i}" for i in range(len(outputs))] if len(outputs) > 1 else [""]
        self.names = [*(f"cotangent{i}" for i in numbers[: len(outputs)]), *base.names]
        self.points = given + base.points

    def split(self, arrays: Sequence[Array]) -> tuple[Sequence[Array], Sequence[Array]]:
        n = len(self.points) - len(self.base.points)
        return arrays[:n], arrays[n:]

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        given, points = self.split(arrays)
        gradients = self.base.record(points)[1]([np.array(g) for g in given])
        return [np.zeros_like(points[i]) if gradients[i] is None else gradients[i] for i in self.reached]  # type: ignore[misc]

    def run_on_tape(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        """The variables, cotangents first, and the gradients, all of them on the tape."""
        given, points = self.split(arrays)
        variables, outputs = self.base.call(points)
        leaves = [self.base.leaf(g) for g in given]
        gradients = self.base.send_back(outputs, leaves, variables, True)
        return [*leaves, *variables], [gradients[i] for i in self.reached]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        variables, gradients = self.run_on_tape(arrays)
        back = state_restorer(self.base)

        def pull(cotangents: Sequence[Array]) -> list[Array | None]:
            back()
            grads = self.base.send_back(gradients, cotangents, variables, False)
            return [None if g is None else np.array(g) for g in grads]

        return [self.base.values(g) for g in gradients], pull


# -- inputs and outputs ------------------------------------------------------------------------------


def nothing_to_check(names: Sequence[str], inputs: Sequence[Any]) -> str:
    """The text of the error when there is no variable."""
    numbers = [n for n, x in zip(names, inputs, strict=True) if isinstance(x, float | np.floating)]
    if numbers:
        return (
            f"gradcheck: {', '.join(numbers)}: single numbers are taken as constants, so there is nothing to "
            "check; pass np.array(3.0) to check by a number"
        )
    return (
        "gradcheck: none of the inputs is a floating-point array, and there are no parameters: there is "
        "nothing to check"
    )


def real_numbers(y: Any) -> list[Any]:
    """The real and the imaginary part of a complex output."""
    return [np.real(y), np.imag(y)] if y.dtype.kind == "c" else [y]


def flatten(value: Any) -> list[Any]:
    """The floating-point tensors and arrays in what a function returns, however they are nested."""
    if isinstance(value, (tuple, list)):
        return [y for v in value for y in flatten(v)]
    if isinstance(value, dict):
        return flatten(list(value.values()))
    if isinstance(value, (float, complex)):
        value = np.asarray(value)
    return [value] if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.dtype.kind in "fc" else []
