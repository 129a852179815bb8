"""What is checked: something with several arrays in, several out, and a gradient that claims to belong to it.

The checker sees `Subject` and nothing else: names, points, `evaluate` (the value alone) and `record` (the
value, and the gradient in question). `Function` is the subject that users hand in: a function on Tensors, an
op, a Module. Others are a function of torch tensors (`torch_function.py`), one op of the tape at its actual
inputs (`steps.py`), and the `Gradient` of any of these, for the second order.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tinygen.backward import backward
from tinygen.gradcheck.randomness import Randomness
from tinygen.modes import enable_grad, no_grad
from tinygen.tensor import Tensor

Array = np.ndarray[Any, Any]
Pull = Callable[[Sequence[Array]], list[Array | None]]
"""Takes one cotangent per output; returns one gradient per variable, None where nothing arrives."""


class Subject(Protocol):
    names: list[str]
    """What to call each variable: "input x", "parameter blocks.0.weight"."""
    points: list[Array]
    """The variables' values, in float64: where the gradient is checked."""

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs at `arrays` (one per variable), always with the same random numbers."""
        ...

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        """The outputs, and what sends cotangents of them back."""
        ...


class Recorded(Protocol):
    """A subject that computes with tensors of a library, so that its gradient can be differentiated again."""

    names: list[str]
    points: list[Array]

    def leaf(self, array: Array) -> Any:
        """A tensor that requires grad."""
        ...

    def values(self, tensor: Any) -> Array: ...

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        """The variables and the outputs, as tensors on record."""
        ...

    def sent(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        """The gradient of Σ <output, cotangent> by each variable, None where nothing arrives: arrays, or with
        `again` tensors on record."""
        ...

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]: ...


class Function:
    """`f(*inputs)` for an `f` on Tensors. Its variables are the floating-point inputs and, where `f` is a
    Module or a method of one, the parameters of a float64 copy of it; the rest is passed as it is.

    A parameter whose entries are all equal (the ones of a norm, a zero initialisation) is moved by a tenth at
    random: at such a point mistakes cancel or are multiplied by 0. `moved` has their names.

    Raises TypeError when there is nothing to check."""

    def __init__(self, f: Any, inputs: Sequence[Any]) -> None:
        self.f, self.module = copied(f)
        self.inputs = list(inputs)
        self.positions = [i for i, x in enumerate(inputs) if is_float(x)]
        named = argument_names(f.forward if is_module(f) else f, len(inputs))
        self.names = [f"input {named[i]}" for i in self.positions]
        self.points = [as_float64(inputs[i]) for i in self.positions]
        self.parameters: list[Tensor] = []
        self.state: list[tuple[Tensor, Array]] = []  # buffers and the like: each run finds them as they were
        self.moved: list[str] = []
        if self.module is not None:
            self.find_parameters(self.module)
        if not self.points:
            raise TypeError(
                "gradcheck: none of the inputs is a floating-point array, and there are no parameters: there "
                "is nothing to check"
            )
        self.randomness = Randomness(self.f, self.module, *self.inputs)
        self.runs = 0

    def find_parameters(self, module: Any) -> None:
        for name, p in module.named_parameters():
            if p.requires_grad:
                point, moved = moved_off(p.numpy())
                self.moved += [name] if moved else []
                self.names.append(f"parameter {name}")
                self.points.append(point)
                self.parameters.append(p)
        ours = {id(p) for p in self.parameters}
        others = {id(t): t for _, t in module.named_tensors(Tensor) if t.node is None and id(t) not in ours}
        self.state = [(t, t.numpy().copy()) for t in others.values()]

    def run(self, arrays: Sequence[Array], requires_grad: bool) -> tuple[list[Tensor], list[Any]]:
        """The variables at `arrays`, and the outputs."""
        self.runs += 1
        args = list(self.inputs)
        variables: list[Tensor] = []
        for i, x in zip(self.positions, arrays, strict=False):
            args[i] = Tensor(x, requires_grad=requires_grad)
            variables.append(args[i])
        self.put(arrays[len(self.positions) :], arrays[0].dtype)
        with self.randomness.rewound():
            return [*variables, *self.parameters], flat(self.f(*args))

    def put(self, parameters: Sequence[Array], dtype: Any) -> None:
        """Set the module's parameters, and everything else in it to what it was. It goes past `.data`, which
        would tell the tape that what it has recorded is out of date: those arrays are not written into."""
        for p, x in zip(self.parameters, parameters, strict=True):
            p._data = x
        for t, x in self.state:
            t._data = x.astype(dtype) if x.dtype.kind == dtype.kind == "f" else x.copy()

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        with no_grad():
            outputs = [self.values(y) for y in self.run(arrays, False)[1]]
        self.put(self.points[len(self.positions) :], np.dtype(np.float64))  # a checkpoint may read them later
        return outputs

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        return recorded(self, arrays)

    def leaf(self, array: Array) -> Tensor:
        return Tensor(array, requires_grad=True)

    def values(self, tensor: Any) -> Array:
        return tensor.numpy() if isinstance(tensor, Tensor) else np.asarray(tensor)

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        with enable_grad():
            variables, outputs = self.run(arrays, True)
        return list(variables), outputs

    def sent(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        return through_the_tape(outputs, cotangents, variables, again)


def through_the_tape(
    outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
) -> list[Any]:
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if getattr(y, "requires_grad", False)]
    ys, gs = [y for y, _ in pairs], [g for _, g in pairs]
    with enable_grad():
        grads = backward(ys, gs, variables, retain_graph=True, create_graph=again)
    return [grads.get(v.node or v) for v in variables]


def recorded(subject: Recorded, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
    variables, outputs = subject.call(arrays)

    def pull(cotangents: Sequence[Array]) -> list[Array | None]:
        grads = subject.sent(outputs, cotangents, variables, False)
        return [None if g is None else np.array(g) for g in grads]

    return [subject.values(y) for y in outputs], pull


class Gradient:
    """The gradient of a subject as a subject of its own: (cotangents, variables) -> gradients. What is pulled
    back through it is the second order."""

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

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        given, points = self.split(arrays)
        variables, outputs = self.base.call(points)
        leaves = [self.base.leaf(g) for g in given]
        gradients = self.base.sent(outputs, leaves, variables, True)
        gradients = [gradients[i] for i in self.reached]

        def pull(cotangents: Sequence[Array]) -> list[Array | None]:
            grads = self.base.sent(gradients, cotangents, [*leaves, *variables], False)
            return [None if g is None else np.array(g) for g in grads]

        return [self.base.values(g) for g in gradients], pull


# -- reading the arguments -------------------------------------------------------------------------


def copied(f: Any) -> tuple[Any, Any]:
    """`f` and its Module, in float64 and apart from the caller's, if it is one or a method of one."""
    owner: Any = f.__self__ if inspect.ismethod(f) else f
    if not is_module(owner):
        return f, None
    module = copy.deepcopy(owner).astype(np.float64)
    return (getattr(module, f.__name__) if inspect.ismethod(f) else module), module


def is_module(f: Any) -> bool:
    """Known by what it answers to: the checker stands below `tinygen.nn`."""
    return callable(f) and hasattr(f, "named_tensors") and hasattr(f, "named_parameters")


def is_float(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.dtype.kind == "f"
    return not callable(x) and np.asarray(x).dtype.kind == "f"


def as_float64(x: Any) -> Array:
    return np.array(x.numpy() if isinstance(x, Tensor) else x, dtype=np.float64)


def argument_names(f: Any, n: int) -> list[str]:
    """The names of the first n positional arguments by the signature; numbers where there is none."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return [str(i) for i in range(n)]
    names: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(n - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [*names, *(str(i) for i in range(len(names), n))][:n]


def moved_off(x: Array) -> tuple[Array, bool]:
    """A copy of a parameter, a little off where all its entries are equal; and whether they were."""
    equal = bool(x.size and (x == x.flat[0]).all())
    return (x + 0.1 * weights(x.shape, np.random.default_rng(x.size)) if equal else np.array(x)), equal


def flat(value: Any) -> list[Any]:
    """The floating-point tensors and arrays in what a function returns, however they are nested."""
    if isinstance(value, (tuple, list)):
        return [y for v in value for y in flat(v)]
    if isinstance(value, dict):
        return flat(list(value.values()))
    if isinstance(value, (float, complex)):
        value = np.asarray(value)
    return [value] if isinstance(value, (Tensor, np.ndarray, np.generic)) and value.dtype.kind in "fc" else []


def weights(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """Random, none near zero, no two equal, of both signs."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
