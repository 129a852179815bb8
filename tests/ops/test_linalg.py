"""Products: shapes that do not fit, and conventions of vectors."""

import numpy as np
import pytest

from tinygen import Tensor, ops

rng = np.random.default_rng(0)
A, B, V = Tensor(rng.normal(size=(2, 3))), Tensor(rng.normal(size=(3, 4))), Tensor(rng.normal(size=3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: A @ A, ValueError, r"matmul\(float64 \(2, 3\), float64 \(2, 3\)\)"),
        (lambda: A @ 2.0, ValueError, r"matmul\(float64 \(2, 3\), 2.0\)"),
        (lambda: ops.linear(A, B), ValueError, r"linear\(float64 \(2, 3\), float64 \(3, 4\)\)"),
        (lambda: np.tensordot(A, A, 1), ValueError, "tensordot: axes"),
        (lambda: np.einsum("ii->i", A), ValueError, r"einsum 'ii->i': 'i' has the sizes 2 and 3"),
        (lambda: np.einsum("ii->i", A[:1]), ValueError, r"'i' has the sizes 1 and 3"),
        (lambda: np.einsum("ij,jk->ik", A), ValueError, r"einsum 'ij,jk->ik': names 2 operands, got 1"),
        (lambda: np.einsum("ij,jk->ik", A, A), ValueError, "has the sizes 3 and 2, shapes"),
        (lambda: np.einsum("ij,kj", A, B), ValueError, r"'j' has the sizes 3 and 4"),
        (lambda: np.einsum("...,...", A, B), ValueError, r"'...' has the sizes 2 and 3"),
        (lambda: np.einsum("ij->k", A), ValueError, "'k' is in no operand"),
        (lambda: np.einsum("ij->ii", A), ValueError, "'i' comes twice in the result"),
        (lambda: np.einsum("i", A), ValueError, "operand 0 has 2 axes, 'i' names 1"),
        (lambda: np.einsum("ijk", A), ValueError, "operand 0 has 2 axes, 'ijk' names 3"),
        (lambda: np.einsum("...i->i", A), ValueError, "must stand in the result too"),
        (lambda: np.einsum("i.j", A), ValueError, "'i.j' is not made of letters"),
        (lambda: np.einsum("i1", A), ValueError, "'i1' is not made of letters"),
        (lambda: np.einsum("...i...", A), ValueError, "not made of letters and at most one"),
        (lambda: np.einsum("ij->->i", A), ValueError, "not made of letters"),
        (lambda: np.einsum(A, [0, 52]), ValueError, "an int from 0 to 51"),
        (lambda: np.einsum(A, ["a", "b"]), ValueError, "an int from 0 to 51"),
        (lambda: np.einsum(A, A), TypeError, "operands and lists of ints in turn"),
        (lambda: np.einsum("ij->i", A, out=V.data), TypeError, "out="),
    ],
)  # fmt: skip
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_products_agree_with_numpys():
    a, b, v = A.data, B.data, V.data
    for found, expected in [
        (A @ B, a @ b),
        (A @ V, a @ v),
        (V @ V, v @ v),
        (np.dot(A, B), a @ b),
        (ops.dot(V, V), v @ v),
        (np.outer(V, A), np.outer(v, a)),
        (np.tensordot(A, B, ((1,), (0,))), a @ b),
        (np.einsum("ij,jk", A, B), a @ b),
        (np.einsum(" i j , j k -> k i ", A, B), (a @ b).T),
        (np.einsum("ij,j->i", A, V, optimize=False), a @ v),
        (np.einsum("ba", A), a.T),
        (np.einsum("Ba", A), a),
        (np.einsum(A, [30, 2]), np.einsum(a, [30, 2])),
        (np.einsum("ij,->ij", A, 2.0), 2 * a),
        (np.einsum(",i", 2, V, dtype=np.float64), 2 * v),
        (ops.linear(A, B.data.T), a @ b),
    ]:
        assert isinstance(found, Tensor)
        np.testing.assert_allclose(found.numpy(), expected)


def test_on_arrays():
    a, v = A.data, V.data
    assert type(ops.linear(a, a)) is np.ndarray
    np.testing.assert_array_equal(ops.outer(v, v), np.outer(v, v))
    np.testing.assert_allclose(ops.tensordot(a, v, 1), a @ v)
    np.testing.assert_allclose(ops.einsum("ij,j->i", a, v), a @ v)


def test_linear_is_matmul_plus_bias():
    x, w, b = rng.normal(size=(2, 5, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)
    np.testing.assert_allclose(ops.linear(x, w, b), x @ w.T + b)


def test_the_gradient_of_one_matrix_for_many_rows_is_one_product():
    """It is summed over the batch inside the product, not afterwards: (3, 2) comes out at once."""
    from tinygen.backward import topological_order

    a, b = Tensor(rng.normal(size=(5, 4, 3))), Tensor(rng.normal(size=(3, 2)), requires_grad=True)
    y = a @ b
    (node,) = topological_order([y])
    assert node.rules[1](np.ones(y.shape)).shape == (3, 2)
