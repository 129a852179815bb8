"""What is checked: a function, an op or a Module at its inputs, as something to evaluate and to pull back.

The rest of the checker sees this and nothing else: names, points, `evaluate` (the value alone) and `record`
(the value, and the gradient that is being checked). Functions of torch tensors are another such subject
(`adapter.py`); so is a single op of the tape at its actual inputs (`locate.py`).
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tinygen.backward import backward
from tinygen.gradcheck.randomness import Randomness
from tinygen.tape import enable_grad, no_grad
from tinygen.tensor import Tensor

Array = np.ndarray[Any, Any]
Pull = Callable[[Sequence[Any]], list[Any]]
"""Takes one cotangent per output; returns one gradient per variable, None where nothing arrives."""


class Subject(Protocol):
    """Several arrays in, several out, and a gradient that claims to belong to it."""

    names: list[str]
    """What to call each variable: "input x", "parameter blocks.0.weight"."""
    points: list[Array]
    """The variables' values, in float64: where the gradient is checked."""

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs at `arrays` (one per variable), always with the same random numbers."""
        ...

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        """The outputs, and the function that sends cotangents of them back."""
        ...


class Function:
    """`f(*inputs)` for an `f` on Tensors. Its variables are the floating-point inputs and, where `f` is a
    Module or a method of one, the parameters of a copy of it; the rest is passed as it is.

    Raises TypeError when there is nothing to check."""

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any]) -> None:
        self.f, self.module = copied(f)
        self.inputs = list(inputs)
        self.positions = [i for i, x in enumerate(inputs) if is_float(x)]
        named = argument_names(f, len(inputs))
        self.names = [f"input {named[i]}" for i in self.positions]
        self.points = [as_float64(inputs[i]) for i in self.positions]
        self.parameters: list[Tensor] = []
        self.state: list[tuple[Tensor, Array]] = []  # buffers: each run finds them as they were
        if self.module is not None:
            for name, p in self.module.named_parameters():
                if p.requires_grad:
                    self.names.append(f"parameter {name}")
                    self.points.append(np.array(p.numpy()))
                    self.parameters.append(p)
            ours = {id(p) for p in self.parameters}
            tensors = {id(t): t for _, t in self.module.named_tensors(Tensor) if t.node is None}
            self.state = [(t, t.numpy().copy()) for i, t in tensors.items() if i not in ours]
        if not self.points:
            raise TypeError(
                "gradcheck: none of the inputs is a floating-point array, and there are no parameters: there "
                "is nothing to check"
            )
        self.randomness = Randomness(self.f, self.module, *self.inputs)

    def call(self, arrays: Sequence[Array], requires_grad: bool) -> tuple[list[Tensor], list[Any]]:
        """The variables at `arrays`, and the outputs."""
        args = list(self.inputs)
        variables = []
        dtype = arrays[0].dtype
        for i, x in zip(self.positions, arrays, strict=False):
            args[i] = Tensor(x, requires_grad=requires_grad)
            variables.append(args[i])
        for p, x in zip(self.parameters, arrays[len(self.positions) :], strict=True):
            p.data = x
            variables.append(p)
        for t, x in self.state:
            t.data = x.astype(dtype) if x.dtype.kind == "f" and dtype.kind == "f" else x.copy()
        with self.randomness.rewound():
            return variables, flat(self.f(*args))

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        with no_grad():
            return [values(y) for y in self.call(arrays, False)[1]]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        with enable_grad():
            variables, outputs = self.call(arrays, True)

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            grads = sent(outputs, cotangents, variables)
            return [None if g is None else np.array(g) for g in grads]

        return [values(y) for y in outputs], pull

    def tape(self, arrays: Sequence[Array]) -> list[Any]:
        """The outputs as they come: Tensors with their graph."""
        with enable_grad():
            return self.call(arrays, True)[1]


class Gradient:
    """The gradient of a Function as a function of its own: (cotangents, variables) -> gradients. What is
    pulled back through it is the second order."""

    def __init__(self, base: Function) -> None:
        self.base = base
        outputs, pull = base.record(base.points)
        self.outputs = len(outputs)
        self.reached = [g is not None for g in pull(outputs)]
        rng = np.random.default_rng(1)
        self.names = [f"cotangent {i}" for i in range(len(outputs))] if len(outputs) > 1 else ["cotangent"]
        self.names += base.names
        self.points = [weights(y.shape, rng) for y in outputs] + base.points

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        pull = self.base.record(arrays[self.outputs :])[1]
        return [g for g in pull(arrays[: self.outputs]) if g is not None]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        with enable_grad():
            variables, outputs = self.base.call(arrays[self.outputs :], True)
            given = [Tensor(g, requires_grad=True) for g in arrays[: self.outputs]]
            gradients = [g for g in sent(outputs, given, variables, create_graph=True) if g is not None]

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            grads = sent(gradients, cotangents, [*given, *variables])
            return [None if g is None else np.array(g) for g in grads]

        return [values(g) for g in gradients], pull


def sent(
    outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Tensor], create_graph: bool = False
) -> list[Any]:
    """What arrives at each variable, None where nothing does."""
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if getattr(y, "requires_grad", False)]
    ys, gs = [y for y, _ in pairs], [g for _, g in pairs]
    grads = backward(ys, gs, variables, retain_graph=True, create_graph=create_graph)
    return [grads.get(v.node or v) for v in variables]


# -- reading the arguments -------------------------------------------------------------------------


def copied(f: Any) -> tuple[Any, Any]:
    """`f` and its Module, in float64 and apart from the caller's: of a Module or a method of one."""
    owner = getattr(f, "__self__", None)
    if is_module(f):
        module = copy.deepcopy(f).astype(np.float64)
        return module, module
    if inspect.ismethod(f) and is_module(owner):
        module = copy.deepcopy(owner).astype(np.float64)
        return getattr(module, f.__name__), module
    return f, None


def is_module(f: Any) -> bool:
    return callable(f) and hasattr(f, "named_tensors") and hasattr(f, "named_parameters")


def is_float(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.dtype.kind == "f"
    return not callable(x) and np.asarray(x).dtype.kind == "f"


def as_float64(x: Any) -> Array:
    """A copy of `x`; its strides stay as they are where they can."""
    x = x.numpy() if isinstance(x, Tensor) else np.asarray(x)
    return np.asarray(x, dtype=np.float64) if x.dtype != np.float64 else x


def argument_names(f: Any, n: int) -> list[str]:
    """The names of the first n positional arguments, by the signature; numbers where there is none."""
    try:
        parameters = inspect.signature(f.forward if is_module(f) else f).parameters.values()
    except (TypeError, ValueError):
        return [str(i) for i in range(n)]
    names: list[str] = []
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}[{i}]" for i in range(n - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return [*names, *(str(i) for i in range(len(names), n))][:n]


def flat(value: Any) -> list[Any]:
    """The floating-point Tensors and arrays in what a function returns, however they are nested."""
    if isinstance(value, (tuple, list)):
        return [y for v in value for y in flat(v)]
    if isinstance(value, dict):
        return flat(list(value.values()))
    if isinstance(value, (float, complex)):
        value = np.asarray(value)
    return [value] if hasattr(value, "dtype") and value.dtype.kind in "fc" else []


def values(y: Any) -> Array:
    return y.numpy() if isinstance(y, Tensor) else np.asarray(y)


def weights(shape: Sequence[int], rng: np.random.Generator) -> Array:
    """A random cotangent: none of its entries near zero, no two equal, of both signs."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
