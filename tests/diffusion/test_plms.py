"""PLMS on Gaussian data, whose probability flow is known, and on predictions whose integral is."""

from functools import partial

import numpy as np
import pytest
from tools.gaussian_flow import M, S, X, even_in_lambda, exact, order_of

from tinygen.diffusion import Process, cosine_schedule, ddim, plms, sigma_schedule


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_of_order_1_it_is_ddim(kind):
    process = Process(even_in_lambda(9), kind)
    model = exact(process, M, S)
    for ours, theirs in zip(plms(process, model, X, order=1), ddim(process, model, X), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_order_of_convergence_is_2():
    """As the paper proves; of DDIM it is 1."""
    for order, wanted in ((4, 2), (2, 2), (1, 1)):
        np.testing.assert_allclose(order_of(partial(plms, order=order), "eps"), wanted, atol=0.15)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_cubic_is_integrated_exactly(degree):
    """Where the levels are even in σ, x_t/α_t moves by the integral of ε: with four predictions exactly for a
    cubic in t, with three for a parabola, with two for a line, and the step that is made twice for a line."""
    schedule = sigma_schedule(np.arange(39.0, 30, -1), np.arange(9, 0, -1), 30.0)
    polynomial = np.polynomial.Polynomial(np.random.default_rng(0).standard_normal(degree + 1))
    states = list(plms(Process(schedule), lambda x, t: np.full_like(x, polynomial(t[0])), X))
    y = np.array(
        [
            X / schedule.alpha[9],
            *(x / schedule.alpha[t] for x, t in zip(states[1:], range(8, -1, -1), strict=True)),
        ]
    )
    moved, wanted = np.diff(y[:, 0, 0]), np.diff(polynomial.integ()(np.arange(9, -1, -1)))
    off = np.abs(moved - wanted) > 1e-9
    assert off.tolist() == [degree > n for n in (1, 1, 2, 3, 3, 3, 3, 3, 3)]


@pytest.mark.parametrize("kind", ["eps", "x0"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_point_is_reached_in_any_number_of_steps(kind, steps):
    process = Process(cosine_schedule(steps), kind)
    *_, data = plms(process, exact(process, M, 0.0), X)
    np.testing.assert_allclose(data, np.full_like(X, M), rtol=0, atol=1e-10)


def test_it_calls_the_model_once_more_than_there_are_steps():
    seen = []
    model = lambda x, t: seen.append(t[0]) or np.zeros_like(x)
    assert len(list(plms(Process(cosine_schedule(5)), model, X))) == 6
    assert seen == [4, 3, 3, 2, 1, 0]
    seen.clear()
    assert len(list(plms(Process(cosine_schedule(5)), model, X, order=1))) == 5
    assert seen == [4, 3, 2, 1, 0]


def test_some_steps_of_a_process_are_those_of_a_shorter_one():
    """Steps 2, 5 and 8 of 8, and again with the data taken to have the noise of step 1."""
    process = Process(cosine_schedule(8))
    model = exact(process, M, S)
    short = list(plms(process.respace([2, 5, 8]), model, X))
    chosen = list(plms(process, model, X, calls=[8, 5, 5, 2], stride=3))
    np.testing.assert_allclose(chosen, short, rtol=1e-10)
    *before, noisy = plms(process, model, X, calls=[8, 5, 5, 2], stride=3, last=1)
    np.testing.assert_array_equal(before, chosen[:-1])
    assert np.abs(noisy - chosen[-1]).max() > 1e-3


def test_an_order_that_is_not_there():
    for order in (0, 5):
        with pytest.raises(ValueError, match=f"order must be within 1 .. 4, got {order}"):
            next(plms(Process(cosine_schedule(5)), lambda x, t: x, X, order=order))


def test_float32():
    process = Process(cosine_schedule(5))
    states = list(plms(process, lambda x, t: 0.5 * x, X.astype(np.float32)))
    assert {state.dtype for state in states} == {np.dtype(np.float32)}
