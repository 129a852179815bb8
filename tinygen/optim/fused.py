"""Faster ways to take the steps that `Adam.update`, `SGD.update`, `EMA.update` and `clip_grad_norm` define.

An update treats every entry of a parameter in the same way. So it may process a large array in pieces that
fit into the processor's cache; or all parameters in one call of a compiled kernel; or, on a GPU, one flat
array with all parameters in one launch. Pieces give the same bits as the definition. Adam's fast step
agrees with `Adam.update` up to rounding (`tests/optim/test_fused.py`); under `tinygen.kernels("off")`,
`Adam.update` itself runs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen.arrays import device_of
from tinygen.kernels import kernels
from tinygen.kernels.registry import LEAST
from tinygen.node import Op
from tinygen.tensor import Array, Tensor

if TYPE_CHECKING:
    from tinygen.optim.adam import Adam

PIECE = 1 << 15
"""The number of entries of each array that an update processes at a time. Its intermediate results then
stay in the processor's cache, which is 1.5 times as fast on large matrices and allocates no full-size
temporaries."""


def are_on_gpu(arrays: Sequence[Array]) -> bool:
    return bool(arrays) and device_of(arrays[0]) == "cuda"


def as_contiguous(a: Array) -> Array:
    return a if a.flags.c_contiguous else a.copy()


def pieces(*arrays: Array) -> Iterator[list[Array]]:
    """Flat views of the arrays (contiguous and of one size), piece by piece; on a GPU all at once."""
    (n,) = {a.size for a in arrays}
    flat = [a.reshape(n) for a in arrays]
    size = max(n, 1) if are_on_gpu(flat) else PIECE
    return ([a[i : i + size] for a in flat] for i in range(0, n, size))


# -- arrays side by side, for a GPU ----------------------------------------------------------------


class Flat:
    """Arrays of one dtype copied side by side into one: `whole` (N,), and its `parts`, views in the shapes
    that the arrays had. On a GPU, an operation on the whole is one launch instead of one for each part.
    Raises TypeError for several dtypes."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.whole: Array = np.concatenate(
            [a.reshape(a.size) for a in arrays], dtype=arrays[0].dtype, casting="no"
        )
        self.parts: list[Array] = []
        end = 0
        for a in arrays:
            start, end = end, end + a.size
            self.parts.append(self.whole[start:end].reshape(a.shape))

    def holds(self, arrays: Sequence[Array]) -> bool:
        """Whether `arrays` are exactly its parts."""
        return len(arrays) == len(self.parts) and all(map(operator.is_, arrays, self.parts))


class Flats:
    """The `Flat`s of an optimizer or an average, by name: they are made at the first step, and used again as
    long as their parts are."""

    def __init__(self) -> None:
        self.known: dict[Any, Flat] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"known": {}}  # in a copy, the parts would be no views of the whole

    def join(self, name: Any, arrays: list[Array]) -> Array:
        """The whole of `arrays`, which are replaced by its parts."""
        flat = self.known.get(name)
        if flat is None or not flat.holds(arrays):
            flat = self.known[name] = Flat(arrays)
            arrays[:] = flat.parts
        return flat.whole


# -- Adam ------------------------------------------------------------------------------------------


def adam(
    *arrays: Array,
    rates: Sequence[float],
    epsilons: Sequence[float],
    keep: float,
    decay: float,
    betas: tuple[float, float],
) -> tuple[None]:
    """Adam's step for many parameters, in place. `arrays` are p, g, m, v of each parameter in turn.

    p shrinks to keep·p, decay·p adds to g, and p -= rate·m / (sqrt(v) + epsilon): with √(1 - β2^t) multiplied
    into numerator and denominator, bias correction costs no operation on arrays."""
    beta1, beta2 = betas
    each = zip(arrays[::4], arrays[1::4], arrays[2::4], arrays[3::4], rates, epsilons, strict=True)
    for *four, rate, epsilon in each:
        for p, g, m, v in pieces(*four):
            if keep != 1:
                p *= keep
            if decay:
                g = g + decay * p
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * g * g
            p -= rate * m / (np.sqrt(v) + epsilon)
    return (None,)


ADAM = Op(adam)  # never on the tape; as an op it can have compiled kernels
kernels.register_compiled(ADAM, "adam", worth=lambda *arrays: True)  # see `update_by_adam`
kernels.register_gpu(ADAM, "adam")


def update_by_adam(
    optimizer: Adam,
    params: list[Array],
    grads: Sequence[Array],
    states: Sequence[dict[str, Any]],
    group: Mapping[str, Any],
) -> bool:
    """Take `Adam.update`'s step for all parameters of a group; False if kernels are off."""
    if kernels.mode == "off":
        return False
    lr, (beta1, beta2), eps, decay = (group[name] for name in ("lr", "betas", "eps", "weight_decay"))
    rates, epsilons = [], []
    for state in states:
        t = state["step"] = state["step"] + 1
        root = math.sqrt(1 - beta2**t)
        rates.append(lr * root / (1 - beta1**t))
        epsilons.append(eps * root)
    if are_on_gpu(params) and len(set(rates)) == 1 and len({p.dtype for p in params}) == 1:
        arrays = join_group(optimizer.flats, params, grads, states, id(group))
        rates, epsilons = rates[:1], epsilons[:1]
    else:
        fours = zip(params, grads, states, strict=True)
        arrays = [a for p, g, state in fours for a in (p, g, state["m"], state["v"])]
    keep, decay = (1 - lr * decay, 0.0) if optimizer.decoupled else (1.0, decay)
    step = ADAM.compute if params and optimizer.size >= LEAST else ADAM.body
    step(*arrays, rates=rates, epsilons=epsilons, keep=keep, decay=decay, betas=(beta1, beta2))
    return True


def join_group(
    flats: Flats,
    params: list[Array],
    grads: Sequence[Array],
    states: Sequence[dict[str, Any]],
    group: int,
) -> list[Array]:
    """p, g, m and v of a whole group as one array each, so that one launch updates all. Parameters and
    means move there at the first step, and stay; gradients, which are new in every step, are copied."""
    p = flats.join((group, "p"), params)
    means, squares = ([state[name] for state in states] for name in "mv")
    m, v = flats.join((group, "m"), means), flats.join((group, "v"), squares)
    for i, state in enumerate(states):
        state.update(m=means[i], v=squares[i])
    return [p, Flat(grads).whole, m, v]


# -- averages and clipping -------------------------------------------------------------------------


def pairs(flats: Flats, averages: list[Array], values: Sequence[Array]) -> Iterator[list[Array]]:
    """(average, value) in pieces, or on a GPU all arrays of one dtype as one pair: `averages` are then
    replaced by parts of one array."""
    if are_on_gpu(averages) and len({a.dtype for a in averages}) == 1:
        yield [flats.join("average", averages), Flat(values).whole]
        return
    for average, value in zip(averages, values, strict=True):
        yield from pieces(average, as_contiguous(value))


def clip_on_gpu(params: Sequence[Tensor], max_norm: float) -> Tensor:
    """`clip_grad_norm` in a few launches for all gradients, which become parts of one array."""
    flat = Flat([p.grad for p in params])
    norm = np.sqrt(np.vdot(flat.whole, flat.whole))
    scale = np.minimum(max_norm / (norm + 1e-6), 1.0)
    flat.whole *= np.where(np.isfinite(norm), scale, 1.0).astype(flat.whole.dtype)
    for i, p in enumerate(params):
        p.grad = flat.parts[i]
    return Tensor(norm)
