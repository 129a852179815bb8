"""A step with complex numbers as a step with real numbers: each complex array becomes two arrays, its real
and its imaginary part.

As in PyTorch, the real part of a complex gradient is the gradient by the real part, and its imaginary part is
the gradient by the imaginary part. So both are gradients by real variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.gradcheck.arguments import Array
from tinygen.gradcheck.steps import Step
from tinygen.gradcheck.subject import Pull, Subject


def real_subject(step: Step) -> Subject:
    """The step as a subject of real variables; the step itself if it has no complex numbers."""
    complex_ones = any(x.dtype.kind == "c" for x in [*step.points, *step.outputs])
    return RealParts(step) if complex_ones else step


def parts(x: Any) -> list[Array]:
    """The real and the imaginary part of a complex array; a real array as it is."""
    return [np.array(x.real), np.array(x.imag)] if x.dtype.kind == "c" else [x]


def join_parts(arrays: Sequence[Array], like: Sequence[Array]) -> list[Array]:
    """The arrays that have these parts, with the dtypes of `like`."""
    rest = iter(arrays)
    return [np.asarray(next(rest) + 1j * next(rest)) if x.dtype.kind == "c" else next(rest) for x in like]


class RealParts:
    """`step` as a subject of real variables and outputs."""

    def __init__(self, step: Step) -> None:
        self.step = step
        both = (" (real part)", " (imaginary part)")
        pairs = zip(step.names, step.points, strict=True)
        self.names = [name + w for name, x in pairs for w in (both if x.dtype.kind == "c" else ("",))]
        self.points = [p for x in step.points for p in parts(x)]
        self.imaginary = [
            p for y in step.outputs for p in ((False, True) if y.dtype.kind == "c" else (False,))
        ]

    def evaluate(self, arrays: Sequence[Array]) -> list[Array]:
        return [p for y in self.step.evaluate(join_parts(arrays, self.step.points)) for p in parts(y)]

    def record(self, arrays: Sequence[Array]) -> tuple[list[Array], Pull]:
        outputs, pull = self.step.record(join_parts(arrays, self.step.points))

        def pull_parts(cotangents: Sequence[Array]) -> list[Array | None]:
            found = pull([np.conj(g) for g in join_parts(cotangents, outputs)])  # rules pass on conjugates
            return [p for d in found for p in parts(np.conj(np.asarray(d)))]

        return [p for y in outputs for p in parts(y)], pull_parts
