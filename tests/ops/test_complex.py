"""Complex numbers: their convention, by hand, and what refuses them."""

import numpy as np
import pytest
from parts import waves

import tinygen
import tinygen.optim
from tinygen import Tensor, ops

pytestmark = pytest.mark.filterwarnings("error")  # NumPy warns where an imaginary part is lost


def test_a_step_against_the_gradient_finds_the_nearest_number():
    z, target = Tensor(np.array(3.0 + 4.0j)), 1.0 - 2.0j
    for _ in range(50):
        z = Tensor(z.data - 0.25 * tinygen.grad(lambda z: np.square(np.abs(z - target)))(z).data)
    np.testing.assert_allclose(z.numpy(), target, rtol=1e-12)


def test_gradients_by_hand():
    """|z|² has the gradient 2 z; Re z has 1, Im z has i; |z| at 0 has 0."""
    z = Tensor(np.array([3.0 - 4.0j, 0.0]), requires_grad=True)
    for f, expected in [
        (lambda z: np.real(z * np.conj(z)), [6 - 8j, 0]),
        (np.real, [1, 1]),
        (np.imag, [1j, 1j]),
        (np.abs, [0.6 - 0.8j, 0]),
        (np.angle, [(4 + 3j) / 25, 0]),
        (np.sign, [(0.64 + 0.48j) / 5, 0]),  # the radius stays, the angle turns
    ]:
        z.grad = None
        np.real(f(z)).sum().backward()
        np.testing.assert_allclose(z.grad, expected, atol=1e-15)


def test_real_inputs_have_real_gradients():
    """|1 + ix| is the square root of 1 + x²."""
    x = Tensor(np.array([0.5, -2.0, 0.0]), requires_grad=True)
    np.abs(1j * x + 1).sum().backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad, x.data / np.sqrt(1 + x.data**2))


def test_vectors_and_numbers_on_the_way():
    z = waves(3)
    f = lambda z: np.exp(z) * np.conj(z)
    t = waves(3)
    value, tangent = tinygen.jvp(f, [z], [t])
    step = 1e-6
    np.testing.assert_allclose(tangent.numpy(), (f(z + step * t) - f(z - step * t)) / (2 * step), rtol=1e-8)
    energy = lambda z: np.square(np.abs(z * z)).sum()
    slope = tinygen.grad(energy)
    difference = (slope(z + step * t).numpy() - slope(z - step * t).numpy()) / (2 * step)
    np.testing.assert_allclose(tinygen.hvp(energy, z, t).numpy(), difference, rtol=1e-7)
    through = tinygen.vjp(f, z)[1](value)[0].numpy()
    again = tinygen.vjp(lambda z: tinygen.checkpoint(f, z), z)[1](value)[0].numpy()
    np.testing.assert_array_equal(through, again)


def test_python_numbers_and_lists():
    assert Tensor([1j, 2.0]).dtype == np.complex64
    assert complex(Tensor(2j)) == 2j
    assert (Tensor([1.0]) * 1j).dtype == np.complex64
    assert (Tensor([1.0]) * np.complex128(1j)).dtype == np.complex64
    assert np.abs(Tensor([3 + 4j])).dtype == np.float32
    x = Tensor(np.ones(2), requires_grad=True)
    assert (x.astype(np.complex128).real, x.conj(), x.imag)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda z: np.maximum(z, z), TypeError, "`maximum` has no gradient for complex numbers: take np.abs"),
        (lambda z: ops.softmax(z), TypeError, "`softmax` has no gradient for complex"),
        (lambda z: np.clip(np.real(z), 1j, 2), TypeError, "`clip` has no gradient for complex"),
        (lambda z: z[0].backward(), ValueError, "needs a real number to start from"),
        (lambda z: tinygen.jacobian(lambda z: z * z)(z), TypeError, "complex values"),
        (lambda z: twice(z), TypeError, "`twice` has no gradient for complex .* docs/arrays.md"),
        (lambda z: tinygen.optim.SGD([z], lr=1.0), TypeError, "optimizers take real parameters"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(waves(3), requires_grad=True))


@tinygen.op
def twice(z):
    return 2 * z, lambda g: 2 * g


def test_an_op_of_ones_own():
    @tinygen.op
    def cube(z):
        return z * z * z, lambda g: 3 * g * z * z

    cube.op.complex = True
    z = Tensor(waves(3), requires_grad=True)
    np.real(cube(z)).sum().backward()
    np.testing.assert_allclose(z.grad, np.conj(3 * z.data**2))


def test_values_without_a_gradient_are_numpys():
    z = waves(4)
    for f in (np.maximum, np.add, np.equal, np.var):
        found = f(Tensor(z)) if f is np.var else f(Tensor(z), Tensor(z[::-1].copy()))
        np.testing.assert_allclose(found.numpy(), f(z) if f is np.var else f(z, z[::-1]))


def test_not_a_number_is_found():
    z = Tensor(np.array([0j]), requires_grad=True)
    with (
        tinygen.anomaly(),
        np.errstate(all="ignore"),
        pytest.raises(tinygen.AnomalyError, match="reciprocal"),
    ):
        np.reciprocal(z)
