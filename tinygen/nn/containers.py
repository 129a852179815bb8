"""Containers: `ModuleList` is a list of modules, `Sequential` applies them one after the other. A plain list
can take the place of `ModuleList`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tinygen.nn.module import Module
from tinygen.types import TensorLike


class ModuleList(Module):
    """A list of modules that is a module itself, with `to`, `eval` and so on."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Any) -> None:
        """Add a module at the end. Raises TypeError for anything else."""
        if not isinstance(module, Module):
            raise TypeError(f"a ModuleList holds modules, this is a {type(module).__name__}")
        setattr(self, str(len(self)), module)

    def items(self) -> list[Any]:
        """The modules, in order."""
        return [value for name, value in vars(self).items() if name.isdigit()]

    def __len__(self) -> int:
        return len(self.items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items())

    def __getitem__(self, index: int) -> Any:
        return self.items()[index]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, str(range(len(self))[index]), module)


class Sequential(ModuleList):
    """Applies modules in order: the output of each is the input of the next. Functions are allowed, too:
    `Sequential(Linear(2, 64, rng=rng), ops.silu, Linear(64, 2, rng=rng))`."""

    def __init__(self, *steps: Callable[..., Any]) -> None:
        super().__init__(steps)  # type: ignore[arg-type]

    def append(self, step: Any) -> None:
        if not callable(step):
            raise TypeError(f"a Sequential holds modules and functions, this is a {type(step).__name__}")
        setattr(self, str(len(self)), step)

    def forward(self, x: TensorLike) -> Any:
        for step in self:
            x = step(x)
        return x
