"""Recurrent layers: modules that hold the weights for the ops in `ops/recurrent.py`. They can be stacked, and
run in both directions (Schuster & Paliwal 1997, *Bidirectional recurrent neural networks*).

Shapes: B batch, T time steps, C input_size, H hidden_size, D directions (1 or 2), L layers, G gates. The
batch is the first axis, as in all layers here; PyTorch's recurrent layers need `batch_first=True` for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinygen import ops
from tinygen.nn import init
from tinygen.nn.containers import ModuleList
from tinygen.nn.dropout import Dropout
from tinygen.nn.module import Module, Parameter, cast, widen
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, TensorLike


class OneDirection(Module):
    """One layer that reads the sequence in one direction. weight_ih (G·H, C) projects the input, weight_hh
    (G·H, H) the state; both biases have shape (G·H). All are initialized uniformly in ±1/sqrt(H), as in
    PyTorch."""

    def __init__(
        self,
        op: Callable[..., Any],
        shape: tuple[int, int, int],
        bias: bool,
        reverse: bool,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        gates, hidden, channels = shape
        rows = gates * hidden
        self.op = op
        self.reverse = reverse
        self.weight_ih = Parameter(init.fan_in_uniform((rows, channels), hidden, rng=rng))
        self.weight_hh = Parameter(init.fan_in_uniform((rows, hidden), hidden, rng=rng))
        self.bias_ih = Parameter(init.fan_in_uniform((rows,), hidden, rng=rng)) if bias else None
        self.bias_hh = Parameter(init.fan_in_uniform((rows,), hidden, rng=rng)) if bias else None

    def forward(self, x: TensorLike, state: tuple[Any, ...], lengths: Array | None) -> Any:
        """x (B, T, C) and a state of arrays (B, H) -> the outputs h of all steps (B, T, H), and the last
        state."""
        outside, inside = widen(self.bias_ih), widen(self.bias_hh)
        if outside is not None and inside is not None and self.op is not ops.gru:
            # RNN and LSTM add both biases to one sum; the GRU multiplies part of the second by its gate r
            outside, inside = None, outside + inside
        x = ops.linear(cast(x, self.weight_ih), widen(self.weight_ih), outside)
        state = tuple(cast(s, self.weight_hh) for s in state)
        return self.op(x, widen(self.weight_hh), inside, *state, lengths, self.reverse)

    def extra_repr(self) -> str:
        return "reverse" if self.reverse else ""


class Recurrent(Module):
    """The base class of RNN, LSTM and GRU.

    A `bidirectional` layer has two halves with their own weights: one reads the sequence forwards, one in
    reverse, and their outputs are concatenated. Each layer after the first reads the output of the layer
    below, with `dropout` in training. The list `layers` holds all halves in order: the forward half of a
    layer, then its reverse half."""

    op: ClassVar[Callable[..., Any]]
    gates: ClassVar[int]
    states: ClassVar[int] = 1  # the number of arrays in the state

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        if layers < 1:
            raise ValueError(f"{type(self).__name__} needs at least one layer, got {layers}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.directions = 2 if bidirectional else 1
        self.layers = ModuleList()
        for i in range(layers):
            channels = self.directions * hidden_size if i else input_size
            shape = (self.gates, hidden_size, channels)
            for reverse in (False, True)[: self.directions]:
                self.layers.append(OneDirection(self.op, shape, bias, reverse, rng=rng))
        self.dropout = Dropout(dropout, rng=rng)

    def forward(self, x: TensorLike, state: Any = None, lengths: Array | None = None) -> tuple[Tensor, Any]:
        """x (B, T, C) -> the last layer's output (B, T, D·H), and the last state of all layers: one array
        (L·D, B, H), or two for an LSTM, (h, c).

        `state` is the initial state, zeros by default. `lengths` (B) gives the number of time steps of each
        sequence when shorter sequences are padded at the end. The padding has no effect, and the output is 0
        there. The last state is then the state after the last real step of each sequence; in the reverse
        direction, after its first step. Raises ValueError for shapes or lengths that do not fit."""
        if x.ndim != 3 or x.shape[2] != self.input_size:
            raise ValueError(f"x must be (B, T, {self.input_size}), got {x.shape}")
        first = self.first_state(x, state)
        lengths = None if lengths is None else on_device_of(x, check_lengths(lengths, x.shape))
        last: list[list[Any]] = []
        h: Any = x  # (B, T, C), then the output of each layer (B, T, D·H)
        for i in range(0, len(self.layers), self.directions):
            h = self.dropout(h) if i else h
            ys = []
            for layer in self.layers.items()[i : i + self.directions]:
                y, *end = layer(h, tuple(s[len(last)] for s in first), lengths)
                ys.append(y)
                last.append(end)
            forwards, *backwards = ys
            h = np.concatenate(ys, axis=-1) if backwards else forwards
        after, *more = (np.stack([end[i] for end in last]) for i in range(self.states))
        return h, (after, *more) if more else after

    def first_state(self, x: TensorLike, state: Any) -> tuple[Any, ...]:
        """The arrays (L·D, B, H) of the initial state: zeros if `state` is None."""
        shape = (len(self.layers), x.shape[0], self.hidden_size)
        if state is None:
            return (np.zeros_like(next(iter(self.parameters())).data, shape=shape),) * self.states
        arrays = tuple(state) if self.states > 1 else (state,)
        found = [np.shape(s) for s in arrays]
        if found != [shape] * self.states:
            wanted = "an array" if self.states == 1 else f"{self.states} arrays"
            raise ValueError(f"the state must be {wanted} of shape {shape}, got {', '.join(map(str, found))}")
        return arrays

    def extra_repr(self) -> str:
        layers = len(self.layers) // self.directions
        parts = [f"{self.input_size}, {self.hidden_size}"] + [f"layers={layers}"] * (layers > 1)
        return ", ".join(parts + ["bidirectional"] * (self.directions > 1))


def check_lengths(lengths: Ids, shape: tuple[int, ...]) -> Array:
    """`lengths` as an array. Raises ValueError unless they are whole numbers in [0, T], one a sequence."""
    array = lengths.numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.dtype.kind not in "iu" or array.shape != shape[:1]:
        raise ValueError(f"lengths must be {shape[0]} whole numbers, got {array.dtype} {array.shape}")
    wrong = array[(array < 0) | (array > shape[1])]
    if wrong.size:
        raise ValueError(f"lengths must be in [0, {shape[1]}], got {int(wrong[0])}")
    return array


class RNN(Recurrent):
    """The simple recurrent network: h_t = tanh(W x_t + U h_{t-1} + b) (Elman 1990, with the logistic
    function, whose values lie between 0 and 1; libraries use tanh)."""

    op = staticmethod(ops.rnn)
    gates = 1


class LSTM(Recurrent):
    """Long short-term memory: gates decide what enters, stays in and leaves the cell c (`ops.lstm`)."""

    op = staticmethod(ops.lstm)
    gates = 4
    states = 2


class GRU(Recurrent):
    """The gated recurrent unit: an update gate mixes the old state and a candidate (`ops.gru`). This is
    PyTorch's variant: the reset gate acts after the matrix product, r ⊙ (U h + b). In Cho et al.'s paper it
    acts before, U (r ⊙ h)."""

    op = staticmethod(ops.gru)
    gates = 3
