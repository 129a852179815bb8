"""np.linalg where it has an edge: singular matrices, kinks, equal eigenvalues, and what is refused."""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor
from tinygen.tensor import IMPLEMENTS

rng = np.random.default_rng(0)
LA = np.linalg


def leaf(*shape):
    return Tensor(rng.normal(size=shape), requires_grad=True)


def gradient(f, x):
    return tinygen.grad(f)(np.asarray(x, float)).numpy()


ZERO = Tensor(np.zeros((2, 2)), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: LA.inv(ZERO), LA.LinAlgError, r"inv\(float64 \(2, 2\)\): Singular matrix"),
        (lambda: LA.solve(ZERO, np.ones(2)), LA.LinAlgError, r"solve\(.*Singular matrix"),
        (lambda: LA.matrix_power(ZERO, -2), LA.LinAlgError, "inv.*Singular"),
        (lambda: LA.slogdet(ZERO)[1].backward(), LA.LinAlgError, "Singular matrix"),
        (lambda: LA.cholesky(-ZERO - np.eye(2)), LA.LinAlgError, "cholesky.* not positive definite"),
        (lambda: LA.inv(leaf(2, 3)), LA.LinAlgError, r"inv\(float64 \(2, 3\)\)"),
        (lambda: LA.det(leaf(3)), LA.LinAlgError, r"det\(float64 \(3,\)\)"),
        (lambda: LA.solve(leaf(2, 2), leaf(3)), ValueError, r"solve\(.*, float64 \(3, 1\)\)"),
        (lambda: LA.eigh(leaf(2, 2), "X"), ValueError, "eigh.*UPLO"),
        (lambda: LA.qr(leaf(3, 2), "raw"), ValueError, "mode 'raw' has no gradient rule"),
        (lambda: LA.qr(leaf(3, 2), "complete"), ValueError, "last 1 columns of Q are no function"),
        (lambda: LA.svd(leaf(3, 2))[0].sum().backward(), ValueError, "full_matrices=False"),
        (lambda: LA.svd(leaf(2, 3)).Vh.sum().backward(), ValueError, "full_matrices=False"),
        (lambda: LA.norm(leaf(2, 2, 2), 2), ValueError, "vectors .* or matrices .* got 3 axes"),
        (lambda: LA.norm(leaf(2), "fro"), ValueError, "'fro' is for matrices"),
        (lambda: LA.norm(leaf(2, 2), 3), ValueError, "ord 3 is for vectors"),
        (lambda: LA.norm(leaf(2, 2), axis=2), np.exceptions.AxisError, "axis 2 is out of bounds"),
        (lambda: LA.norm(leaf(2), dim=0), TypeError, "unexpected keyword argument 'dim'"),
        (lambda: LA.multi_dot([leaf(2, 2)]), ValueError, "at least 2 arrays"),
        (lambda: LA.multi_dot([leaf(2, 2), leaf(2), leaf(2, 2)]), LA.LinAlgError, "array 1 has shape"),
        (lambda: LA.tensorinv(leaf(2, 2), 0), ValueError, "ind must be positive"),
        (lambda: LA.tensorsolve(leaf(2, 3), leaf(2)), LA.LinAlgError, "no square matrix"),
        (lambda: LA.outer(leaf(2, 2), leaf(2)), ValueError, "see np.outer"),
        (lambda: LA.cross(leaf(2), leaf(3)), ValueError, "vectors of 3 entries, got shapes"),
        (lambda: LA.qr(leaf(2)), LA.LinAlgError, "a matrix is needed"),
        (lambda: LA.matrix_power(leaf(2, 2), 1.5), TypeError, "cannot be interpreted as an integer"),
        (lambda: LA.tensorsolve(leaf(2, 2), np.ones(3)), LA.LinAlgError, "no square matrix"),
        (lambda: np.fft.rfft(leaf(2), axis=1), np.exceptions.AxisError, "axis 1 is out of bounds"),
        (lambda: np.fft.fft2(leaf(2)), np.exceptions.AxisError, "axis -2 is out of bounds"),
        (lambda: np.fft.fftshift(leaf(2), 3), np.exceptions.AxisError, "axis 3 is out of bounds"),
        (lambda: np.fft.rfft(leaf(2) + 1j), TypeError, "these are complex: use np.fft.fft"),
        (lambda: np.fft.fft(leaf(2), norm="x"), ValueError, r"fft\(float64 \(2,\)\): Invalid norm value"),
        (lambda: np.fft.hfft(leaf(2), norm="x"), ValueError, "norm must be"),
        (lambda: np.fft.fftn(leaf(2), (2, 2), (0,)), ValueError, "2 sizes for 1 axes"),
        (lambda: np.fft.irfft(leaf(1)), ValueError, "Invalid number of FFT data points"),
        (lambda: LA.matrix_transpose(leaf(2)), ValueError, "a matrix is needed"),
        (lambda: LA.multi_dot([leaf(2, 2)] * 2, out=np.zeros((2, 2))), TypeError, "cannot write"),
        (lambda: np.matvec(leaf(2, 2), leaf(2), out=np.zeros(2)), TypeError, "cannot write"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_all_of_linalg_and_fft_is_there():
    names = {f"linalg.{name}": getattr(LA, name) for name in LA.__all__ if name != "LinAlgError"}
    names |= {f"fft.{name}": getattr(np.fft, name) for name in np.fft.__all__ if "freq" not in name}
    assert [name for name, function in names.items() if function not in IMPLEMENTS] == []


def test_results_have_numpys_names():
    x = leaf(3, 3)
    assert LA.slogdet(x).logabsdet.shape == ()
    assert LA.eigh(x).eigenvectors.shape == (3, 3)
    assert LA.eig(x).eigenvalues.shape == (3,)
    assert LA.svd(x).S.shape == (3,)
    assert LA.qr(x).R.shape == LA.qr(x, "complete").R.shape == (3, 3)
    assert LA.qr(Tensor(np.ones((3, 2))), "complete").Q.shape == (3, 3)


def test_plain_values():
    assert LA.matrix_rank(ZERO).item() == 0
    assert LA.matrix_rank(leaf(2, 3, 3)).numpy().tolist() == [3, 3]
    assert not LA.matrix_rank(leaf(2, 2), rtol=0.1).requires_grad
    assert np.einsum_path("ij,jk", leaf(2, 2), leaf(2, 2))[0][0] == "einsum_path"
    x = np.array([[1, -2], [3, 4]])
    for ord in (None, 1, 2, "nuc", np.inf):  # of ints: float32, as other functions here
        np.testing.assert_allclose(LA.norm(Tensor(x), ord).numpy(), LA.norm(x, ord), rtol=1e-6)


def test_least_squares_without_residuals():
    x, residuals, rank, values = LA.lstsq(leaf(2, 2), leaf(2))
    assert (x.shape, residuals.shape, rank, values.shape) == ((2,), (0,), 2, (2,))
    x, _, _, values = LA.lstsq(np.eye(2), leaf(2, 3))
    assert (x.requires_grad, values.tolist()) == (True, [1, 1])


def test_norms_at_their_kinks():
    """At a vector of zeros, and for entries that are 0: 0. Shared maxima share."""
    for ord in (None, 2, 1, 3, 0.5, -1, 0):
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(gradient(lambda x, p=ord: LA.norm(x, p), np.zeros(3)), 0)
    np.testing.assert_array_equal(gradient(LA.norm, [[0, 0], [0, 0]]), 0)
    np.testing.assert_allclose(gradient(LA.norm, [3, 0, -4]), [0.6, 0, -0.8])
    np.testing.assert_allclose(gradient(lambda x: LA.norm(x, 1), [3, 0, -4]), [1, 0, -1])
    np.testing.assert_allclose(gradient(lambda x: LA.norm(x, np.inf), [4, 0, -4]), [0.5, 0, -0.5])
    np.testing.assert_allclose(gradient(lambda x: LA.norm(x, 0), [3, 0, -4]), 0)
    hessian = tinygen.hessian(lambda x: LA.norm(x))(np.array([3.0, 4.0])).numpy()
    np.testing.assert_allclose(hessian, [[16 / 125, -12 / 125], [-12 / 125, 9 / 125]])
    np.testing.assert_array_equal(tinygen.hessian(lambda x: LA.norm(x))(np.zeros(2)).numpy(), 0)


def test_determinants_of_singular_matrices():
    """The cofactors, of any rank, and their own gradient: det is a polynomial."""
    np.testing.assert_array_equal(gradient(LA.det, [[1, 2], [2, 4]]), [[4, -2], [-2, 1]])
    np.testing.assert_array_equal(gradient(LA.det, np.diag([0.0, 2, 3])), np.diag([6.0, 0, 0]))
    np.testing.assert_array_equal(gradient(LA.det, np.zeros((3, 3))), 0)
    hessian = tinygen.hessian(LA.det)(np.zeros((2, 2))).numpy()  # of ad - bc
    expected = np.zeros((2, 2, 2, 2))
    expected[0, 0, 1, 1] = expected[1, 1, 0, 0] = 1
    expected[0, 1, 1, 0] = expected[1, 0, 0, 1] = -1
    np.testing.assert_array_equal(hessian, expected)


def test_equal_values():
    """Of values alone the gradient is finite; of one vector among equals it is not."""
    one = np.eye(3)
    np.testing.assert_allclose(gradient(lambda x: LA.eigvalsh(x).sum(), one), one)
    np.testing.assert_allclose(gradient(lambda x: LA.eigh(x).eigenvalues.sum(), one), one)
    np.testing.assert_allclose(gradient(lambda x: LA.svd(x).S.sum(), one), one)
    np.testing.assert_allclose(gradient(lambda x: LA.norm(x, "nuc"), one), one)
    with np.errstate(all="ignore"):
        assert not np.isfinite(gradient(lambda x: (LA.eigh(x).eigenvectors[0]).sum(), one)).all()


def test_one_triangle_is_read():
    """So the other one has the gradient 0, for NumPy's own value of a matrix that is not symmetric."""
    x = np.array([[2.0, 9.0], [0.5, 1.0]])
    for f in (lambda x: LA.cholesky(x).sum(), lambda x: LA.eigvalsh(x)[0], lambda x: LA.eigh(x)[0][1]):
        assert gradient(f, x)[0, 1] == 0
        assert gradient(f, x)[1, 0] != 0
    assert gradient(lambda x: LA.eigvalsh(x, "U")[0], x)[1, 0] == 0


def test_a_chain_of_products_costs_least():
    """(1000 x 2) (2 x 1000) (1000 x 1) from the right: no matrix of 1000 by 1000."""
    from tinygen.ops.matrices.solve import cheapest_cuts

    assert cheapest_cuts([1000, 2, 1000, 1]) == {(0, 1): 0, (1, 2): 1, (0, 2): 0}
    assert cheapest_cuts([1, 1000, 2, 1000])[0, 2] == 1


def test_known_gradients():
    """log det is the inverse, transposed; the trace of the inverse -A⁻²; a natural gradient by hand."""
    a = rng.normal(size=(3, 3)) + 3 * np.eye(3)
    np.testing.assert_allclose(gradient(lambda x: LA.slogdet(x).logabsdet, a), LA.inv(a).T)
    np.testing.assert_allclose(gradient(lambda x: LA.trace(LA.inv(x)), a), -LA.inv(a @ a).T)
    b = rng.normal(size=(4, 2))
    c = rng.normal(size=4)
    expected = LA.solve(b.T @ b, b.T)
    np.testing.assert_allclose(tinygen.jacobian(lambda c: LA.lstsq(b, c)[0])(c).numpy(), expected)
