"""Whether complex steps may replace differences: they may if every op on the tape is an analytic function.

Ops whose body has an absolute value, a maximum, a choice or a conversion of dtype are not in the list, and
neither are ops of users, since nothing is known about them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.gradcheck.compare import Tape
from tinygen.gradcheck.numeric import central_differences, complex_step, line, random_probes
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.subject import Subject
from tinygen.ops.activation import apply_dropout
from tinygen.ops.einsum import contract
from tinygen.ops.index import entries
from tinygen.ops.loss import token_losses
from tinygen.ops.shape import join, pad

FUNCTIONS: list[Any] = [
    *(ops.add, ops.subtract, ops.multiply, ops.divide, ops.negative, ops.square, ops.reciprocal, ops.power),
    *(ops.exp, ops.expm1, ops.log, ops.log1p, ops.sqrt, ops.rsqrt, ops.tanh, ops.sin, ops.cos, ops.gelu),
    *(
        ops.sum,
        ops.mean,
        ops.cumsum,
        ops.softmax,
        ops.logsumexp,
        ops.log_softmax,
        apply_dropout,
        token_losses,
    ),
    *(ops.matmul, ops.linear, contract, ops.attention),
    *(ops.layer_norm, ops.rms_norm, ops.group_norm, ops.batch_norm),
    *(ops.reshape, ops.transpose, ops.swapaxes, ops.moveaxis, ops.flip, ops.roll, ops.broadcast_to, join),
    *(ops.split, pad, ops.repeat, ops.tile, ops.tril, ops.triu, entries, ops.scatter_add, ops.embedding),
]
ANALYTIC = {function.op for function in FUNCTIONS}


def is_analytic(steps: Sequence[Step]) -> bool:
    return bool(steps) and all(step.node.op in ANALYTIC and not is_exception(step) for step in steps)


def is_exception(step: Step) -> bool:
    """Whether this call is not analytic: GELU by the error function, or a power with a base that may be
    negative and an exponent that may not be whole."""
    op, arrays = step.node.op, step.arrays
    if op is ops.gelu.op:  # type: ignore[attr-defined]
        return not any(isinstance(x, str) and x == "tanh" for x in [*arrays, *step.node.kwargs.values()])
    if op is ops.power.op:  # type: ignore[attr-defined]
        return not (isinstance(arrays[1], (int, np.integer)) or np.all(np.asarray(arrays[0]) > 0))
    return False


def agrees(subject: Subject, tape: Tape, k: int, rng: np.random.Generator) -> bool:
    """Whether a complex step gives the right slope in one random direction. Code that is not on the tape
    (np.abs of an array) may drop the imaginary part, or raise an error for complex numbers."""
    phi = line(subject, random_probes(subject.points, k, 1, rng)[0])
    real = central_differences(phi, tape.cotangents, tape.noise)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = complex_step(phi, tape.cotangents, tape.noise).value
    except Exception:
        return False
    slack = 10 * real.bar + 1e-7 * np.abs(real.value).max(initial=0.0)
    return bool((np.abs(value - real.value) <= slack).all())
