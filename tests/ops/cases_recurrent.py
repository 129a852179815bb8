"""Cases of the recurrent ops. In torch the input is projected inside: by the identity, here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from optable import Case, normal

from tinygen import ops

try:
    import torch
except ImportError:
    torch = None

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def in_torch(name: str, lengths: np.ndarray | None, reverse: bool) -> Callable[..., Any]:
    """torch's layer with these weights. For the reverse direction, each sequence of the batch is flipped,
    by its length."""

    def flipped(x: Any) -> Any:
        ends = torch.full((x.shape[0],), x.shape[1]) if lengths is None else torch.tensor(lengths)
        return torch.stack([torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x, ends, strict=True)])

    def run(x: Any, weight: Any, bias: Any, *state: Any) -> Any:
        width, hidden = weight.shape
        layer = getattr(torch.nn, name.upper())(width, hidden, batch_first=True, dtype=x.dtype)
        weights = {
            "weight_ih_l0": torch.eye(width, dtype=x.dtype),
            "bias_ih_l0": 0 * x.sum((0, 1)),
            "weight_hh_l0": weight,
            "bias_hh_l0": bias,
        }
        first = [s[None].contiguous() for s in state]
        x = flipped(x) if reverse else x
        if lengths is not None:
            x = torch.nn.utils.rnn.pack_padded_sequence(
                x, torch.tensor(lengths), batch_first=True, enforce_sorted=False
            )
        y, last = torch.func.functional_call(
            layer, weights, (x, tuple(first) if name == "lstm" else first[0])
        )
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
        last = last if name == "lstm" else (last,)
        return (flipped(y) if reverse else y, *(s[0] for s in last))

    return run


def recurrent(
    name: str, what: str, x: np.ndarray, hidden: int, lengths: Any = None, reverse: bool = False
) -> Case:
    f = getattr(ops, name)
    gates, states = GATES[name], 2 if name == "lstm" else 1
    lengths = None if lengths is None else np.array(lengths)
    return Case(
        f"{name}-{what}",
        lambda *xs: f(
            *xs, lengths if lengths is None else np.asarray(lengths, like=array_of(xs[0])), reverse
        ),
        (
            x,
            normal(gates * hidden, hidden),
            normal(gates * hidden),
            *(normal(x.shape[0], hidden) for _ in range(states)),
        ),
        in_torch(name, lengths, reverse),
    )


def array_of(x: Any) -> Any:
    return getattr(x, "data", x) if not isinstance(x, np.ndarray) else x


def without_bias(name: str) -> Case:
    f, gates = getattr(ops, name), GATES[name]
    states = [normal(2, 2) for _ in range(2 if name == "lstm" else 1)]
    return Case(
        f"{name}-without bias",
        lambda x, w, *state: f(x, w, None, *state),
        (normal(2, 3, gates * 2), normal(gates * 2, 2), *states),
    )


RECURRENT = [
    case
    for name, g in GATES.items()
    for case in [
        recurrent(name, "one step", normal(1, 1, g), 1),
        recurrent(name, "several", normal(2, 3, 2 * g), 2),
        recurrent(name, "reverse", normal(2, 3, 2 * g), 2, reverse=True),
        recurrent(name, "lengths", normal(3, 3, g), 1, [1, 3, 2]),
        recurrent(name, "lengths reverse", normal(3, 3, g), 1, [2, 1, 3], reverse=True),
        recurrent(name, "strides", normal(2 * g, 3, 2).T[:, ::-1], 2),
        without_bias(name),
    ]
]  # fmt: skip
