"""Exercises on NumPy's functions with gradients, and on kernels.

Numba decides at its first import whether kernels run on a GPU or in its simulator: here in the simulator.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

INVERSE = Exercise(
    "inverse",
    "tinygen.ops.matrices.solve:inv",
    "the inverse of a matrix, and its rule",
    hints=(
        "A⁻¹ A = I does not change when A does. What does the product rule say?",
        "d(A⁻¹) = -A⁻¹ dA A⁻¹. In the gradient, both factors are transposed.",
        "y = np.linalg.inv(a); return y, lambda g: -(swap_last(y) @ g @ swap_last(y)).",
    ),
    given=lambda: {"a": numbers(3, 3), "stack": numbers(2, 2, 2)},
    checks=(Values("inv(a)"), Gradient("inv(a)", by="a"), Gradient("inv(stack)", by="stack")),
    mistakes=(
        Mistake(
            "-(swap_last(y) @ g", "(swap_last(y) @ g", "wrong sign", "the minus of d(1/x) = -dx/x² is missing"
        ),
        Mistake(
            "(swap_last(y) @ g @ swap_last(y))",
            "(y @ g @ y)",
            "axes 0 and 1 exchanged",
            "the inverse is not transposed",
        ),
        Mistake(
            "(swap_last(y) @ g @ swap_last(y))",
            "(swap_last(y) @ g)",
            "lacks a term",
            "one of the two factors A⁻¹ is missing",
        ),
    ),
)

SOLVE = Exercise(
    "solve",
    "tinygen.ops.matrices.solve:solve",
    "A x = b, and the rules of A and b",
    hints=(
        "x is linear in b. And a change of A changes x as a change of b by -dA x would.",
        "The gradient by b is A⁻ᵀ g. That by A is minus the outer product of it and x.",
        "x = np.linalg.solve(a, b); da: -(np.linalg.solve(swap_last(a), g) @ swap_last(x)); db: "
        "np.linalg.solve(swap_last(a), g).",
    ),
    given=lambda: {"a": numbers(3, 3), "b": numbers(3, 2)},
    checks=(Values("solve(a, b)"), Gradient("solve(a, b)", by="a b")),
    mistakes=(
        Mistake(
            "return -(np.linalg.solve",
            "return (np.linalg.solve",
            "wrong sign",
            "the gradient by A lacks its minus",
        ),
        Mistake(
            "@ swap_last(x))",
            "@ swap_last(b))",
            "wrong slope or wrong term",
            "the outer product is with b instead of x",
        ),
        Mistake(
            "lambda g: np.linalg.solve(swap_last(a), g)",
            "lambda g: np.linalg.solve(a, g)",
            "axes 0 and 1 exchanged",
            "A is not transposed in the gradient by b",
        ),
    ),
)

CUMPROD = Exercise(
    "cumprod",
    "tinygen.ops.numpy.running:running_product",
    "running products, with a gradient that survives zeros",
    hints=(
        "y_k / x_i is the product without x_i, but not where x_i is 0. How do you leave out a factor without "
        "dividing?",
        "The gradient by x_i is the product before i, times s_i = g_i + x_{i+1} s_{i+1}: Horner's scheme "
        "from the right.",
        "s = [g[..., -1]]; for i from n - 2 down to 0: s.append(g[..., i] + x[..., i + 1] * s[-1]); then "
        "product_before(x) * np.stack(s[::-1], axis=-1).",
    ),
    given=lambda: {"x": numbers(2, 4), "zeros": numbers(4) * [1, 0, 1, 1]},
    checks=(
        Values("running_product(x)"),
        Gradient("running_product(x)", by="x"),
        Gradient("running_product(zeros)", by="zeros"),
    ),
    mistakes=(
        Mistake(
            "g[..., i] + x[..., i + 1] * s[-1]",
            "x[..., i + 1] * s[-1]",
            "wrong sum",
            "the gradient that comes in at i is not added",
        ),
        Mistake(
            "x[..., i + 1] * s[-1]",
            "x[..., i] * s[-1]",
            "right in other places",
            "the factor is x_i, which should be left out",
        ),
        Mistake(
            "np.stack(s[::-1], axis=-1)",
            "np.stack(s, axis=-1)",
            "wrong term or wrong slope",
            "the sums are in the order in which they were computed, from the right",
        ),
    ),
)

WINOGRAD = Exercise(
    "winograd",
    "tinygen.kernels.winograd:transforms",
    "the matrices of a convolution with a quarter of the products",
    hints=(
        "The product of two polynomials is known from its values at enough points, one product for each. "
        "Then a polynomial with these values is found by Lagrange's formula.",
        "Row p of G: p^k / Π (p - q) over the other points q, k = 0, 1, 2. Row p of Bᵀ: the coefficients of "
        "the polynomial that is 0 at the other points, the lowest first. Row k of Aᵀ: p^k. For ∞: the "
        "highest power.",
        "values = [p**k / np.prod([p - q for q in rest])], zeros = [*np.poly(rest)[::-1], 0], powers; with "
        "∞ they are [0, 0, 1], np.poly(POINTS)[::-1] and int(k == 3). In two dimensions np.kron(m, m), "
        "float32.",
    ),
    given=dict,
    checks=(
        Values("transforms()[0]", within=1e-5),
        Values("transforms()[1]", within=1e-5),
        Values("transforms()[2]", within=1e-5),
    ),
    mistakes=(
        Mistake(
            "/ np.prod([p - q for q in rest])",
            "/ 1",
            "",
            "the denominators of Lagrange's formula are missing",
        ),
        Mistake(
            "[[*np.poly(rest)[::-1], 0]",
            "[[*np.poly(rest), 0]",
            "in other places",
            "the coefficients begin with the highest power",
        ),
        Mistake(
            "int(k == 3)",
            "int(k == 0)",
            "in other places",
            "the point ∞ gives the lowest power instead of the highest",
        ),
    ),
)


def sums_of_rows(kernel: Any, x: Any) -> Any:
    """What a kernel writes for the rows of x: one block for each."""
    from tinygen_cuda.simt import THREADS, launch

    y = np.zeros(len(x), np.float32)
    launch(kernel, len(x), THREADS, x.astype(np.float32), y)
    return y


ROW_SUMS = Exercise(
    "row_sums",
    "tinygen_cuda.reduce:row_sums",
    "a kernel for a GPU: y[i] = the sum of row i of x",
    hints=(
        "All threads of all blocks run this function at once. A block has the row cuda.blockIdx.x: how do "
        "its threads share the entries?",
        "Thread t = cuda.threadIdx.x adds the entries t, t + THREADS, t + 2 THREADS, …. `block_sum(buffer, "
        "value)` adds the values of all threads of a block; it needs shared memory of THREADS entries.",
        "buffer = cuda.shared.array(THREADS, float32); mine = the sum of x[row, j] for j in range(t, "
        "x.shape[1], THREADS); total = block_sum(buffer, mine); thread 0 writes y[row] = total.",
    ),
    given=lambda: {"sums_of_rows": sums_of_rows, "x": numbers(2, 11), "narrow": numbers(3, 2)},
    checks=(
        Values("sums_of_rows(row_sums, x)", within=1e-5),
        Values("sums_of_rows(row_sums, narrow)", within=1e-5),
    ),
    mistakes=(
        Mistake(
            "range(t, x.shape[1], THREADS)",
            "range(t, x.shape[1])",
            "",
            "each thread adds all entries from its first one on, and they are counted several times",
        ),
        Mistake(
            "block_sum(buffer, mine)",
            "mine",
            "",
            "the first thread writes its own sum, not that of its block",
        ),
        Mistake(
            "cuda.blockIdx.x, cuda.threadIdx.x",
            "0, cuda.threadIdx.x",
            "1 of 2 entries are wrong",
            "all blocks add up the first row",
        ),
    ),
)

CHAPTER = Chapter("Arrays and kernels", (INVERSE, SOLVE, CUMPROD, WINOGRAD, ROW_SUMS))
