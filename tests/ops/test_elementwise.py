"""Elementwise ops and activations: kinks, extremes, accuracy, and what has no gradient."""

import math

import numpy as np
import pytest

from tinygen import Tensor, grad, hessian, no_grad, ops


def slope(f, *xs, by=0):
    """The gradient of the sum of f by one of its arguments."""
    return grad(lambda *xs: f(*xs).sum(), by)(*map(np.asarray, xs)).numpy().tolist()


# -- kinks: one element of the subdifferential -----------------------------------------------------


def test_slopes_at_kinks():
    x = [-1.0, 0.0, 1.0]
    assert slope(np.abs, x) == [-1, 0, 1]
    assert slope(ops.relu, x) == [0, 0, 1]
    assert slope(ops.leaky_relu, x) == [0.01, 0.01, 1]
    assert slope(np.sign, x) == [0, 0, 0]
    assert slope(lambda x: np.clip(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0, 1, 1, 1, 0]


def test_ties_share_the_gradient():
    a, b = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    assert slope(np.maximum, a, b) == [0.5, 0, 1]
    assert slope(np.maximum, a, b, by=1) == [0.5, 1, 0]
    assert slope(np.minimum, a, b) == [0.5, 1, 0]
    assert slope(np.minimum, a, b, by=1) == [0.5, 0, 1]
    assert slope(lambda x: np.maximum(x, x), a) == [1, 1, 1]
    assert slope(lambda x, y: 3 * np.maximum(x, y), a, b) == [1.5, 0, 3]


def test_slopes_of_leaky_relu_are_exact_in_float64():
    """In the second order too, where the definition runs on Tensors."""
    x = Tensor(np.array([-1.0]), requires_grad=True)
    g = Tensor(np.array([1.0]), requires_grad=True)
    (grad(lambda x: (ops.leaky_relu(x) * g).sum())(x) * 1.0).sum().backward()
    assert g.grad.tolist() == [0.01]


# -- extremes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_overflows(dtype):
    x = Tensor(np.array([-1e4, -100.0, 100.0, 1e4], dtype), requires_grad=True)
    with np.errstate(over="raise", invalid="raise"):
        for f, values, slopes in [
            (ops.sigmoid, [0, 0, 1, 1], [0, 0, 0, 0]),
            (ops.softplus, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (ops.log_sigmoid, [-1e4, -100, 0, 0], [1, 1, 0, 0]),
            (np.tanh, [-1, -1, 1, 1], [0, 0, 0, 0]),
            (ops.erf, [-1, -1, 1, 1], [0, 0, 0, 0]),
            (ops.silu, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (ops.gelu, [0, 0, 100, 1e4], [0, 0, 1, 1]),
            (ops.softmax, [0, 0, 0, 1], None),
            (ops.logsumexp, [1e4], [0, 0, 0, 1]),
            (ops.log_softmax, [-2e4, -10100, -9900, 0], None),
        ]:
            x.grad = None
            y = f(x)
            np.testing.assert_allclose(y.numpy().ravel(), values, atol=1e-40)
            y.sum().backward()
            if slopes is not None:
                np.testing.assert_allclose(x.grad, slopes, atol=1e-40)
            assert np.isfinite(x.grad).all()


def test_tails_keep_their_relative_accuracy():
    x = np.array([-30.0, -300.0])
    np.testing.assert_allclose(ops.sigmoid(x), np.exp(x), rtol=1e-12)
    np.testing.assert_allclose(ops.softplus(x), np.exp(x), rtol=1e-12)
    np.testing.assert_allclose(ops.log_sigmoid(-x), -np.exp(x), rtol=1e-12)


def test_log_sigmoid_of_1e8():
    x = Tensor(np.array([-1e8, -1.0, 0.0, 1.0, 40.0, 1e8]), requires_grad=True)
    y = ops.log_sigmoid(x)
    middle = [math.log(1 / (1 + math.e)), -math.log(2), math.log(1 / (1 + 1 / math.e))]
    np.testing.assert_allclose(y.numpy(), [-1e8, *middle, -np.exp(-40), 0], rtol=1e-15)
    slopes = grad(lambda x: ops.log_sigmoid(x).sum())
    np.testing.assert_allclose(
        slopes(x).numpy(), [1, *1 / (1 + np.exp([-1.0, 0.0, 1.0, 40.0])), 0], rtol=1e-15
    )
    np.testing.assert_array_equal(ops.log_sigmoid(x.numpy()), -ops.softplus(-x.numpy()))


def test_the_third_derivative_of_log_sigmoid_squared_at_0():
    """Its definition has kinks there, the function has none: 6 σ(-x) d/dx σ(-x) = -3/4."""
    f = lambda x: (ops.log_sigmoid(x) ** 2).sum()
    third = grad(lambda x: grad(lambda x: grad(f)(x).sum())(x).sum())
    x = Tensor(np.array([0.0]), requires_grad=True)
    np.testing.assert_allclose(third(x).numpy(), [-0.75], rtol=1e-14)


def test_where_keeps_nan_out_of_its_own_gradient():
    x = np.array([-1.0, 4.0])
    harmless = lambda x: np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0)
    assert slope(harmless, x) == [0, 0.25]


def test_softmax_of_nothing_to_choose_from():
    x = Tensor(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]), requires_grad=True)
    y = ops.softmax(x)
    assert y.numpy().tolist() == [[0, 0], [0, 1]]
    (y * np.array([1.0, 2.0])).sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0]]


# -- accuracy --------------------------------------------------------------------------------------


def test_erf():
    x = np.concatenate([np.linspace(-6.5, 6.5, 20_001), [0.46875, -0.46875, 1e-300, 0.0]])
    exact = np.array([math.erf(v) for v in x])
    assert (np.abs(ops.erf(x) - exact) <= 4 * np.spacing(np.abs(exact))).all()
    assert (np.abs(ops.erf(x.astype(np.float32)) - exact) <= 4e-7 * np.abs(exact) + 1e-37).all()
    np.testing.assert_array_equal(ops.erf(-x), -ops.erf(x))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(ops.erf(np.array([np.inf, -np.inf, np.nan])), [1, -1, np.nan])


def test_the_two_gelus_differ_by_at_most_5e_4():
    x = np.linspace(-6, 6, 2001)
    difference = np.abs(ops.gelu(x) - ops.gelu(x, "tanh")).max()
    assert 4e-4 < difference < 5e-4
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", got \'fast\''):
        ops.gelu(x, "fast")


def test_gelu_and_silu_are_x_times_a_distribution_function():
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(ops.gelu(x) - ops.gelu(-x), x, atol=1e-15)  # Φ(x) + Φ(-x) = 1
    np.testing.assert_allclose(ops.silu(x) - ops.silu(-x), x, atol=1e-15)


# -- powers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-7, -3, -2, -1, 0, 1, 2, 3, 5, 8, 13])
def test_integer_powers(n):
    x = np.array([-2.0, 0.5, 3.0])
    np.testing.assert_allclose((Tensor(x) ** n).numpy(), x**n, rtol=1e-14)
    np.testing.assert_allclose((Tensor(x) ** np.int64(n)).numpy(), x**n, rtol=1e-14)
    np.testing.assert_allclose(slope(lambda x: x**n, x), n * x ** (n - 1.0), rtol=1e-13)


def test_powers_at_zero():
    assert slope(lambda x: x**0, [0.0, 2.0]) == [0, 0]
    assert slope(lambda x: x**1, [0.0, 2.0]) == [1, 1]
    assert slope(lambda x: x**2, [0.0]) == [0]
    assert slope(lambda x: x**2.0, [0.0, -3.0]) == [0, -6]
    assert slope(lambda x, p: x**p, [0.0, 2.0], [2.0, 2.0], by=1) == [0, 4 * math.log(2)]
    with np.errstate(divide="ignore", invalid="ignore"):
        assert slope(lambda x, p: x**p, [0.0, 2.0], [0.0, 0.0]) == [0, 0]
    assert slope(lambda x, p: x**p, [2.0, 2.0], [-1.0, 1.0]) == [-0.25, 1]
    with np.errstate(all="raise"):  # real powers of negative numbers are none: no logarithm is taken
        assert slope(lambda x, p: x**p, [-2.0, -0.5, 0.0], [2.0, 2.0, 2.0], by=1) == [0, 0, 0]


def test_integer_powers_of_ints():
    assert (Tensor([2, 3]) ** 3).numpy().tolist() == [8, 27]
    assert (Tensor([2, 4]) ** -1).numpy().tolist() == [0.5, 0.25]


# -- no gradient -----------------------------------------------------------------------------------


def test_tests_give_bools_off_the_tape():
    x = Tensor(np.array([1.0, np.nan, np.inf]), requires_grad=True)
    for f in (np.isnan, np.isfinite):
        assert f(x).dtype == bool
        assert not f(x).requires_grad
        np.testing.assert_array_equal(f(x).numpy(), f(x.data))
    a, b = Tensor([True, False]), np.array([True, True])
    for f in (np.logical_and, np.logical_or, np.equal, np.not_equal):
        np.testing.assert_array_equal(f(a, b).numpy(), f(a.data, b))
    np.testing.assert_array_equal(np.logical_not(a).numpy(), [False, True])


def test_positive():
    assert np.positive(Tensor([-1.0, 2.0])).numpy().tolist() == [-1, 2]
    assert slope(lambda x: 2 * np.positive(x), [-1.0, 2.0]) == [2, 2]


def test_a_dtype_is_given_by_name():
    """The tape casts results to the dtype of what came in, unless it is told of another."""
    assert ops.astype(Tensor([1.0]), dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match="positional"):
        ops.astype(Tensor([1.0]), np.float64)


def test_the_same_function_on_arrays_is_numpys():
    x = np.array([0.5, 1.5])
    for f in (np.exp, np.log, np.tanh):
        assert type(f(x)) is np.ndarray
    assert type(ops.exp(x)) is np.ndarray
    assert type(ops.softmax(x)) is np.ndarray


# -- dropout ---------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean():
    rng = np.random.default_rng(0)
    y = ops.dropout(np.ones(100_000), 0.3, rng)
    assert set(np.unique(y)) == {0, np.float64(1 / 0.7)}
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.006)  # four standard deviations
    assert y.mean() == pytest.approx(1.0, abs=0.01)


def test_dropout_draws_from_the_generator_it_is_given():
    x = np.ones(50)
    a, b = (ops.dropout(x, 0.5, np.random.default_rng(s)) for s in (1, 1))
    np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(1)
    first, second = ops.dropout(x, 0.5, rng), ops.dropout(x, 0.5, rng)
    np.testing.assert_array_equal(first, a)
    assert (first != second).any()
    assert len({ops.dropout(x, 0.5, rng).tobytes() for _ in range(200)}) == 200


def test_dropout_of_a_seed():
    """One number of the generator seeds all draws, so that a run can be repeated for good."""
    seed = int(np.random.default_rng(7).integers(2**63))
    draws = np.random.Generator(np.random.SFC64(seed)).random(50, dtype=np.float32)
    p = float(np.sort(draws)[20])
    y = ops.dropout(np.ones(50), p, np.random.default_rng(7))
    assert (y == 0).sum() == 20  # the draws below p; one that equals p is kept, as [p, 1) is of length 1 - p
    np.testing.assert_array_equal(y != 0, draws >= np.float32(p))


def test_dropout_sends_the_gradient_through_the_same_entries():
    x = Tensor(np.ones(50), requires_grad=True)
    y = ops.dropout(x, 0.5, np.random.default_rng(0))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.numpy())


def test_dropout_of_nothing():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    x = Tensor([1.0])
    assert ops.dropout(x, 0.0, rng) is x
    assert rng.bit_generator.state == before
    for p in (1.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got"):
            ops.dropout(x, p, rng)


def test_nothing_is_recorded_of_constants():
    with no_grad():
        assert ops.gelu(Tensor([1.0], requires_grad=True)).node is None
    assert ops.gelu(Tensor([1.0])).node is None


# -- powers ----------------------------------------------------------------------------------------


def test_mixed_derivative_of_power_at_exponent_zero():
    """d²/dx dp of x^p is x^(p-1) (1 + p ln x): 1/x at p = 0."""
    mixed = grad(lambda x: grad(lambda p: np.power(x, p))(Tensor(np.array(0.0))))
    other = grad(lambda p: grad(lambda x: np.power(x, p))(Tensor(np.array(4.0))))
    assert mixed(Tensor(np.array(4.0))).item() == 0.25
    assert other(Tensor(np.array(0.0))).item() == 0.25


@pytest.mark.parametrize("order", range(6))
def test_derivatives_of_powers_at_zero(order):
    """The n-th derivative of x^p at 0 is p! where n = p, else 0, whatever kind of number p is."""
    derivative = lambda x, p: np.power(x, p)
    for _ in range(order):
        derivative = grad(derivative)
    for p in range(4):
        for exponent in (p, float(p), np.float64(p), np.array(p), np.array(float(p))):
            expected = math.factorial(p) if order == p else 0
            assert derivative(np.array(0.0), exponent).item() == expected, (p, type(exponent))


def test_hessian_of_a_polynomial_at_zero():
    found = hessian(lambda x: np.sum(x[:, None] ** np.arange(4)))(np.array([0.0, 1.0]))
    np.testing.assert_array_equal(found.numpy(), [[2, 0], [0, 8]])
