"""Complex numbers: their parts, and the list of ops whose gradients are right for them.

A real L changes by dL = Re(g dz) when a complex z changes by dz. The rules pass this g = ∂L/∂x - i ∂L/∂y on
(z = x + iy): for an analytic op w = f(z) it is g f'(z), the rule that is written for real numbers, with no
conjugate anywhere. The user sees its conjugate ∂L/∂x + i ∂L/∂y (`.grad`, `tinygen.grad`), as in PyTorch: a
step against it makes L smaller. `backward.py` conjugates at both ends, and takes the real part for real
inputs. Kreutz-Delgado, *The Complex Gradient Operator and the CR-Calculus* (arXiv:0906.4835, 2009).

The parts below are not analytic; their rules follow from dL = Re(g dz). An op that is not in the lists at the
end refuses complex numbers when a gradient is wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.ops import choices, elementwise, fourier, index, linalg, reduce, shape
from tinygen.ops.einsum import contract
from tinygen.ops.elementwise import conjugate
from tinygen.ops.matrices import decompositions, norms, solve
from tinygen.ops.numpy import elementwise as trigonometry
from tinygen.ops.numpy import running
from tinygen.ops.numpy.calculus import full_convolution
from tinygen.ops.numpy.order import put_in_order
from tinygen.ops.numpy.shape import copy_array
from tinygen.tape import implements, op
from tinygen.tensor import Array
from tinygen.types import ValueAndRules

__all__ = ["angle", "imag", "real"]


@implements(np.real)
@op
def real(z: Array) -> ValueAndRules:
    """The real part; a real z as it is. For a real g, g d(Re z) = Re(g dz)."""
    return np.real(z), lambda g: g


@implements(np.imag)
@op
def imag(z: Array) -> ValueAndRules:
    """The imaginary part; zeros for a real z. For a real g, g d(Im z) = Re(-i g dz)."""
    if z.dtype.kind != "c":
        return np.zeros_like(z), lambda g: np.zeros_like(g)
    return np.imag(z), lambda g: -1j * g


@implements(np.angle)
@op
def angle(z: Array, deg: bool = False) -> ValueAndRules:
    """The angle to the positive real axis in (-π, π], or in degrees: Im log z. Its slope at 0
    is taken to be 0."""
    y = np.angle(z, deg)
    if z.dtype.kind != "c":
        return y, lambda g: np.zeros_like(g)
    unit = 180 / np.pi if deg else 1.0

    def dz(g: Array) -> Array:
        there = z != 0
        return np.where(there, -1j * unit * g / np.where(there, z, 1), 0)

    return y, dz


ANALYTIC: tuple[Any, ...] = (
    *(elementwise.add, elementwise.subtract, elementwise.multiply, elementwise.divide, elementwise.negative),
    *(elementwise.positive, elementwise.square, elementwise.reciprocal, elementwise.power, elementwise.exp),
    *(elementwise.expm1, elementwise.log, elementwise.log1p, elementwise.sqrt, elementwise.rsqrt),
    *(elementwise.tanh, elementwise.sin, elementwise.cos, choices.where, elementwise.astype),
    *(trigonometry.log2, trigonometry.log10, trigonometry.exp2, trigonometry.tan, trigonometry.sinh),
    *(trigonometry.cosh, trigonometry.arcsin, trigonometry.arccos, trigonometry.arctan, trigonometry.arcsinh),
    *(trigonometry.arccosh, trigonometry.arctanh, running.product, running.running_product),
    *(full_convolution, put_in_order, copy_array),
    *(reduce.sum, reduce.mean, reduce.cumsum),
    *(linalg.matmul, linalg.linear, contract),
    *(shape.reshape, shape.transpose, shape.swapaxes, shape.moveaxis, shape.flip, shape.roll, shape.pad),
    *(shape.broadcast_to, shape.join, shape.split, shape.repeat, shape.tile, shape.tril, shape.triu),
    *(solve.inv, solve.solve, solve.det),
    *(fourier.fft, fourier.ifft, fourier.rfft, fourier.irfft),
    *(index.entries, index.scatter_add),
)
"""Ops whose rule for real numbers is also right for complex numbers."""

PARTS: tuple[Any, ...] = (
    *(real, imag, angle, conjugate, choices.absolute, choices.sign, reduce.var),
    *(norms.length, norms.power_norm, norms.nonzeros),
    *(solve.slogdet, solve.pinv, solve.lstsq),
    *(decompositions.cholesky, decompositions.eigh, decompositions.eigvalsh),
    *(decompositions.eig, decompositions.qr),
    *(decompositions.svd, decompositions.svdvals),
)
"""Ops that are not analytic, with rules for complex numbers."""

for function in (*ANALYTIC, *PARTS):
    function.op.complex = True
