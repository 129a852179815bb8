"""Module: parameters, and the layers that hold them, as one tree.

A module finds its parts in its attributes; nothing has to be registered. A `Parameter` is trained and
saved. A `Buffer` is saved. A plain Tensor is a constant: `to` and `astype` convert it, and it is not saved.
A `Module` is a branch of the tree. Lists, tuples and dicts may hold all of these (`tree.py`). Any other
value is ignored; if it contains a module or a parameter, it is refused, because these would be neither
trained nor saved. There is nothing to set up, so `super().__init__()` may be left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import numpy as np

from tinygen.arrays import to_device
from tinygen.memory import CLOCK
from tinygen.nn.tree import (
    Branch,
    Buffer,
    Parameter,
    attribute_items,
    check,
    join_path,
    refuse_raw,
    replace_item,
    walk,
)
from tinygen.tensor import Array, Tensor
from tinygen.types import DType, TensorLike

__all__ = ["Buffer", "Module", "Parameter"]

T = TypeVar("T")
OptionalTensor = TypeVar("OptionalTensor", Tensor, Tensor | None)
FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)


class Module(Branch):
    """A part of a network: parameters, and the computation with them.

    A subclass assigns Parameters and Modules to attributes in `__init__` and computes in `forward`;
    calling the module calls `forward`. Names are paths: "blocks.0.attn.qkv.weight"."""

    training: bool = True
    _called: tuple[int, int] = (0, 0)
    """When its last call began and ended, by the tape's clock: `graph` finds in it what the module did."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output for its inputs. Every layer and model defines it; `layer(x)` calls it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._checked:
            check(self)
        begun = next(CLOCK)
        output = self.forward(*args, **kwargs)
        vars(self)["_called"] = begun, next(CLOCK)
        return output

    def __setattr__(self, name: str, value: Any) -> None:
        held = vars(self).get(name)
        if isinstance(held, Parameter | Buffer) and not (value is None or isinstance(value, type(held))):
            kind = type(held).__name__
            raise TypeError(
                f"self.{name} is a {kind}, and a {type(value).__name__} in its place would be none: "
                f"write into it with self.{name}.data = array, or assign a new {kind}"
            )
        if isinstance(value, Tensor) and not self._checked:
            refuse_raw(name, value)
        super().__setattr__(name, value)

    def replace_module(self, name: str, module: Module) -> None:
        """Replace the module of this name in the tree (an attribute, or an item of a list or a dict) by
        `module`. Raises TypeError for an item of a tuple, KeyError when there is no module of this name."""
        replace_item(vars(self), name, module)

    def register_buffer(self, name: str, value: Any) -> None:
        """Assign `value`, an array or a Tensor, as the Buffer `self.<name>`."""
        setattr(self, name, Buffer(value.data if isinstance(value, Tensor) else value))

    # -- the tree ----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules right under this one."""
        return ((name, value) for name, value in attribute_items(self) if isinstance(value, Module))

    def paths(self) -> Iterator[tuple[str, Module]]:
        """This module and all below it, each checked; a shared module appears under each of its paths."""
        for path, module in walk(self):
            check(module)
            yield path, module

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, named "", and all below it, each once."""
        return unique(self.paths())

    def named_tensors(self, *kinds: type[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The tensors of these kinds in the tree; a shared tensor appears under each of its names."""
        for path, module in self.paths():
            for name, value in attribute_items(module):
                if isinstance(value, kinds):
                    yield join_path(path, name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter in the tree with its name; a shared one (tied weights) once, under its first
        name."""
        return unique(self.named_tensors(Parameter))  # type: ignore[arg-type]

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter in the tree, each once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer in the tree with its name, each once."""
        return unique(self.named_tensors(Buffer))  # type: ignore[arg-type]

    def named_generators(self) -> Iterator[tuple[str, np.random.Generator]]:
        """Every random generator in the tree (dropout draws from them), with its name, each once."""
        pairs = ((path, *item) for path, module in self.paths() for item in attribute_items(module))
        return unique(
            (join_path(path, name), x) for path, name, x in pairs if isinstance(x, np.random.Generator)
        )

    def num_parameters(self) -> int:
        """The number of trained numbers in the tree; tied weights count once."""
        return sum(p.size for p in self.parameters())

    # -- changing all of it ------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Training mode: dropout drops, batch norm uses and records the batch's statistics."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Evaluation mode: the same output for the same input, every time."""
        return self.train(False)

    @contextmanager
    def eval_mode(self) -> Iterator[Self]:
        """`with model.eval_mode(): ...` runs the block in evaluation mode. Afterwards, also after an error,
        each module is in its earlier mode again."""
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield self
        finally:
            for module, mode in modes:
                module.training = mode

    def freeze(self) -> Self:
        """Stop training these parameters: `requires_grad` becomes False, and existing gradients are
        discarded."""
        for p in self.parameters():
            p.requires_grad, p.grad = False, None
        return self

    def unfreeze(self) -> Self:
        """Train these parameters again: set `requires_grad` to True."""
        for p in self.parameters():
            p.requires_grad = True
        return self

    def zero_grad(self) -> None:
        """Set the gradient of every parameter to None."""
        for p in self.parameters():
            p.grad = None

    def to(self, device: str) -> Self:
        """Move every tensor in the tree to "cpu" or "cuda", in place; gradients are dropped."""
        return self.convert(lambda array: to_device(array, device))

    def astype(self, dtype: DType) -> Self:
        """Cast every floating-point tensor in the tree, in place; gradients are dropped.

        With np.float16 the model needs half of float32's memory, and writes text in little more than half of
        its time; layers still compute in float32 (`computing_dtype`). It is for models that are trained: an
        optimizer refuses float16. Raises ValueError, and changes nothing, for a number that is too large for
        the dtype."""
        require_range(self, np.dtype(dtype))
        return self.convert(lambda array: array.astype(dtype) if array.dtype.kind == "f" else array)

    def convert(self, function: Callable[[Array], Array]) -> Self:
        """Replace the array of every parameter and buffer by `function(array)`; gradients are dropped."""
        for _, t in unique(self.named_tensors(Tensor)):
            if t.node is None:
                t.replace(function(t.data))
                t.grad = None
        return self

    # -- saving and loading ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """{name: a copy as a NumPy array} for parameters and buffers; a shared one is under each of its
        names."""
        return {name: np.array(t.numpy()) for name, t in self.named_state().items()}

    def named_state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name; a shared one is under each of its names. Raises ValueError when two
        have the same name."""
        state: dict[str, Tensor] = {}
        for name, t in self.named_tensors(Parameter, Buffer):
            if state.setdefault(name, t) is not t:
                raise ValueError(f"two tensors are called {name}: give the keys of dicts other names")
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Load the arrays of `state`, cast to each tensor's dtype and moved to its device.

        Returns two lists of names: missing in `state`, and unexpected in it. Raises ValueError if something
        does not fit, and then changes nothing. The error lists every mismatch: the missing and unexpected
        names (unless `strict` is False), arrays of the wrong shape or kind of numbers, tied weights with two
        different values. For a tied weight, one of its names is enough."""
        ours = self.named_state()
        arrays = {name: np.asarray(state[name]) for name in ours if name in state}
        first: dict[Tensor, str] = {}
        for name in arrays:
            first.setdefault(ours[name], name)
        missing = [name for name, t in ours.items() if t not in first]
        unexpected = [name for name in state if name not in ours]
        problems = []
        if strict:
            problems += [f"missing: {name} {ours[name].shape}" for name in missing]
            problems += [f"unexpected: {name} {np.shape(state[name])}" for name in unexpected]
        for name, array in arrays.items():
            t = ours[name]
            if array.shape != t.shape:
                problems.append(f"wrong shape: {name} is {t.shape} here, {array.shape} in the state")
            elif not holds(t.dtype, array):
                problems.append(f"wrong dtype: {name} is {t.dtype} here, {array.dtype} in the state")
            elif name != first[t] and not np.array_equal(array, arrays[first[t]], equal_nan=True):
                problems.append(f"two values: {name} is tied to {first[t]} here, and differs in the state")
        if problems:
            raise ValueError(
                f"the state does not fit this {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        new = {t: to_device(np.array(arrays[n], t.dtype, order="C"), t.device) for t, n in first.items()}
        for t, array in new.items():
            t.data = array
        return missing, unexpected

    # -- printing ----------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """The text between the parentheses of the printed layer: its most important arguments."""
        return ""

    def __repr__(self) -> str:
        """The tree as text, with the number of parameters in and below each module. A shared parameter counts
        at each of its places, and once in the total."""
        (text, _), *below = self.lines()
        rows = [(text, f"{self.num_parameters():,} parameters"), *below]
        width = max(len(text) for text, _ in rows)
        return "\n".join(f"{text:<{width}}  {count}".rstrip() for text, count in rows)

    def lines(self) -> list[tuple[str, str]]:
        """(text, count) of this module and all below; equal neighbours share a line."""
        blocks: list[tuple[str, list[tuple[str, str]]]] = []
        inner = any(True for _ in self.named_children())
        for name, value in attribute_items(self):
            if isinstance(value, Module):
                blocks.append((name, value.lines()))
            elif inner and isinstance(value, Parameter):
                blocks.append((name, [(f"Parameter{value.shape}", f"{value.size:,}")]))
            elif name.isdigit():
                blocks.append((name, [(getattr(value, "__name__", repr(value)), "")]))
        extra, count = self.extra_repr(), self.num_parameters()
        rows = [(type(self).__name__ + (f"({extra})" if extra else ""), f"{count:,}" if count else "")]
        for (_, (first, *below)), same in itertools.groupby(
            blocks, key=lambda item: (item[0].rpartition(".")[0], item[1])
        ):
            names = [name for name, _ in same]
            times = f"{len(names)} × " if len(names) > 1 else ""
            label = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            rows.append((f"  {label}: {times}{first[0]}", times + first[1]))
            rows += [("  " + text, number) for text, number in below]
        return rows


def require_range(model: Module, dtype: np.dtype[Any]) -> None:
    """Raise ValueError for a tensor with a finite number that would be infinite in the dtype."""
    for name, t in model.named_tensors(Tensor):
        if dtype.kind == "f" and t.dtype.kind == "f" and t.dtype.itemsize > dtype.itemsize and t.size:
            largest = float(np.max(np.where(np.isfinite(t.data), np.abs(t.data), 0)))
            if largest > float(np.finfo(dtype).max):
                raise ValueError(f"{name} has a number of size {largest:.3g}, too large for {dtype}")


def computing_dtype(weight: Tensor) -> np.dtype[Any]:
    """The dtype in which a layer with this weight computes: the weight's own, but float32 for float16. NumPy
    and CPUs have no fast arithmetic in float16, and its sums round too much; it only saves memory."""
    return FLOAT32 if weight.dtype is FLOAT16 else weight.dtype


def cast(x: TensorLike, weight: Tensor) -> TensorLike:
    """`x` in the dtype in which a layer with this weight computes. NumPy makes float64 arrays by default, and
    in float64 all following ops would take several times as long. Complex numbers are not cast: gradcheck's
    complex steps need them."""
    wanted = computing_dtype(weight)
    if weight.dtype is FLOAT16 and not isinstance(x, Tensor):
        x = Tensor(x)  # beside an array, the weight alone would decide the dtype of a result
    dtype = getattr(x, "dtype", wanted)
    if dtype is wanted or dtype.kind == "c":
        return x
    return x.astype(wanted)


def widen(weight: OptionalTensor) -> OptionalTensor:
    """A weight (or None) in the dtype in which its layer computes: itself, unless it is kept in float16."""
    return weight if weight is None or weight.dtype is not FLOAT16 else weight.astype(FLOAT32)


def holds(dtype: np.dtype[Any], array: Array) -> bool:
    """Whether a tensor of this dtype can hold these numbers without losing an imaginary part or a
    fraction."""
    if array.dtype.kind == "c":
        return bool(dtype.kind == "c")
    return not (dtype.kind in "biu" and array.dtype.kind == "f" and np.any(array % 1))


def unique(pairs: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """The pairs, without those whose value (by identity) has appeared already."""
    seen = set()
    for name, value in pairs:
        if id(value) not in seen:
            seen.add(id(value))
            yield name, value
