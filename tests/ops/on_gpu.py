"""Every op on a GPU beside the CPU, value and gradients, for `python tests/gpu/gpu_check.py`.

The table of cases is the same as in `test_every_op.py`. The CPU computes the definitions; the GPU runs a
kernel if one supports the case, or else the definition on CuPy. Inputs have the same memory layout on the
GPU as here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from cases import CASES, WITHOUT_GRADIENT, op_of
from cases_complex import COMPLEX
from cases_fourier import FOURIER
from cases_matrices import MATRICES
from cases_numpy import NUMPY
from optable import Case, in_dtype, is_float, outputs, strided_like, total
from parts import Case as Whole
from parts import join_parts, parts

from tinygen import Tensor, kernels, ops
from tinygen.arrays import to_device

LIMITS = {"float32": 3e-5, "float64": 1e-11}
"""Of an error, in units of the largest entry, or of 1 where all are smaller."""
NOT_ON_CARD = ("eig-", "eigvals", "phase", "det-singular")
"""CuPy computes no eigenvectors of matrices that are not symmetric; singular ones are not looked for;
phases of complex vectors are its own."""


def in_parts(case: Whole) -> Case:
    """As a function of real numbers, to real numbers."""

    def f(*numbers: Any) -> Any:
        return parts(case.f(*join_parts(list(numbers), case.inputs)))

    return Case(case.name, f, parts(case.inputs))


EVERY = [
    *CASES,
    *NUMPY,
    *(in_parts(case) for case in (*COMPLEX, *FOURIER, *MATRICES) if not case.name.startswith(NOT_ON_CARD)),
    *(Case(name, getattr(ops, name), inputs) for name, inputs in WITHOUT_GRADIENT.items()),
]


def figures(device: str, dtype: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(op, the largest error of its cases, and which; or the first that failed) in turn."""
    of_op: dict[str, list[Case]] = {}
    for case in EVERY:
        of_op.setdefault(op_of(case.name), []).append(case)
    for name, cases in of_op.items():
        yield name, worst(cases, device, dtype) | {"limit": LIMITS[dtype]}


def worst(cases: list[Case], device: str, dtype: str) -> dict[str, Any]:
    errors = {}
    for case in cases:
        try:
            errors[case.name] = error_of(case, device, dtype)
        except Exception as error:
            return {"failed": f"{case.name}: {error!r}"}
    name = max(errors, key=lambda name: errors[name])
    return {"error": errors[name], "worst": name, "cases": len(cases)}


def error_of(case: Case, device: str, dtype: str) -> float:
    with kernels("off"):
        expected = computed(case, "cpu", dtype)
    pairs = zip(computed(case, device, dtype), expected, strict=True)
    return max(distance(found, reference) for found, reference in pairs)


def computed(case: Case, device: str, dtype: str) -> list[np.ndarray]:
    """The values, then the gradients of the inputs that have one, brought back to the CPU."""
    rng = np.random.default_rng(1)
    inputs = [moved(in_dtype(x, dtype), device) for x in case.inputs]
    values = outputs(case.f(*inputs))
    arrays = [v.data for v in values]
    if any(v.requires_grad for v in values):
        weights = [rng.uniform(0.5, 1.5, v.shape).astype(dtype) for v in values]
        total(values, [to_device(w, device) for w in weights]).backward()
        arrays += [x.grad for x in inputs if x.requires_grad]
    return [to_device(array, "cpu") for array in arrays]


def moved(x: Any, device: str) -> Tensor:
    """On the device as it lies in memory here. Floats are leaves, which get gradients."""
    there = to_device(x, device)
    return Tensor(there if device == "cpu" else strided_like(x, there), requires_grad=is_float(x))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return float("inf")
    if found.dtype.kind != "f":
        return float((found != expected).any())
    return float(np.abs(found - expected).max(initial=0) / np.abs(expected).max(initial=1))
