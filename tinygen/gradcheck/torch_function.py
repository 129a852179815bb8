"""Functions of torch tensors as a subject: the same checks for gradients that torch computes.

torch is not imported here, since a caller who has a torch tensor has imported it.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.arguments import Array, argument_names, move_off_constant, replace_variables, variables
from tinygen.gradcheck.randomness import Randomness
from tinygen.gradcheck.subject import Pull, record_gradient


def is_torch(f: Any, inputs: Sequence[Any]) -> bool:
    """Whether `f` is a torch module, or one of the inputs a torch tensor."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and (
        isinstance(owner_of(f), torch.nn.Module) or any(isinstance(x, torch.Tensor) for x in inputs)
    )


def owner_of(f: Any) -> Any:
    return f.__self__ if inspect.ismethod(f) else f


class TorchFunction:
    """`f(*inputs)` for an `f` on torch tensors: as `subject.Function`, with torch's autograd instead of the
    tape."""

    def __init__(self, f: Any, inputs: Sequence[Any], kwargs: dict[str, Any] | None = None) -> None:
        torch: Any = sys.modules["torch"]
        self.torch = torch
        self.f = f
        self.inputs, self.kwargs = list(inputs), kwargs or {}
        module = owner_of(f)
        forward = module.forward if module is f and isinstance(f, torch.nn.Module) else f
        names = argument_names(forward, len(inputs))
        pairs = zip(names, inputs, strict=True)
        found = [pair for name, x in pairs for pair in variables(x, name, self.is_float)]
        self.names = [f"input {name}" for name, _ in found]
        self.devices = [x.device for _, x in found]
        self.points = [np.array(x.detach().cpu().numpy(), dtype=np.float64) for _, x in found]
        self.count = len(found)
        self.overlooked: list[str] = []
        self.parameters: list[Any] = []
        self.state: list[tuple[Any, Any]] = []
        self.moved: list[str] = []
        if isinstance(module, torch.nn.Module):
            module = copy.deepcopy(module).double()
            self.f = getattr(module, f.__name__) if inspect.ismethod(f) else module
            self.find_parameters(module)
        if not self.points:
            raise TypeError(
                "gradcheck: no floating-point tensor among the inputs, and no parameters: nothing to check"
            )
        self.randomness = Randomness(self.f, self.inputs, self.kwargs)
        self.seed = torch.random.get_rng_state()
        self.runs = 0

    def is_float(self, x: Any) -> bool:
        return isinstance(x, self.torch.Tensor) and x.is_floating_point()

    def find_parameters(self, module: Any) -> None:
        for name, p in module.named_parameters():
            if p.requires_grad:
                point, moved = move_off_constant(p.detach().cpu().numpy())
                self.moved += [name] if moved else []
                self.names.append(f"parameter {name}")
                self.points.append(point)
                self.parameters.append(p)
        self.state = [(b, b.clone()) for b in module.buffers()]

    def run(self, arrays: Sequence[Array], requires_grad: bool) -> tuple[list[Any], list[Any]]:
        torch = self.torch
        self.runs += 1
        places = zip(self.devices, arrays, strict=False)
        leaves = [self.tensor(x, device).requires_grad_(requires_grad) for device, x in places]
        new = iter(leaves)
        args = [replace_variables(x, new, self.is_float) for x in self.inputs]
        for p, x in zip(self.parameters, arrays[self.count :], strict=True):
            p.data = self.tensor(x, p.device)
        for b, value in self.state:
            b.data = value.clone()
        torch.random.set_rng_state(self.seed)
        with self.randomness.repeat_draws():
            value = self.f(*args, **self.kwargs)
        torch.random.set_rng_state(self.seed)
        return [*leaves, *self.parameters], [y for y in self.flatten(value) if y.is_floating_point()]

    def leave(self) -> None:
        """Restore the random generators."""
        self.randomness.rewind()

    def flatten(self, value: Any) -> list[Any]:
        if isinstance(value, (tuple, list)):
            return [y for v in value for y in self.flatten(v)]
        if isinstance(value, dict):
            return self.flatten(list(value.values()))
        return [value] if isinstance(value, self.torch.Tensor) else []

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        with self.torch.no_grad():
            return [self.values(y) for y in self.run(arrays, False)[1]]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        return record_gradient(self, arrays)

    def leaf(self, array: Array) -> Any:
        return self.tensor(array).requires_grad_()

    def tensor(self, array: Array, device: Any = "cpu") -> Any:
        """A copy, in Fortran's order if the array is; torch knows no negative strides."""
        return self.torch.from_numpy(np.array(array)).to(device)

    def values(self, tensor: Any) -> Array:
        return np.array(tensor.detach().cpu().numpy())

    def call(self, arrays: Sequence[Array]) -> tuple[list[Any], list[Any]]:
        with self.torch.enable_grad():
            return self.run(arrays, True)

    def send_back(
        self, outputs: Sequence[Any], cotangents: Sequence[Any], variables: Sequence[Any], again: bool
    ) -> list[Any]:
        pairs = [
            (y, g) for y, g in zip(outputs, cotangents, strict=True) if y is not None and y.requires_grad
        ]
        if not pairs:
            return [None] * len(variables)
        with self.torch.enable_grad():
            given = [g if again else self.tensor(g, y.device) for y, g in pairs]
            grads = self.torch.autograd.grad(
                [y for y, _ in pairs],
                variables,
                given,
                retain_graph=True,
                create_graph=again,
                allow_unused=True,
            )
        return list(grads) if again else [None if g is None else self.values(g) for g in grads]
