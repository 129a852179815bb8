"""Sampling in σ: schedules of chosen levels, and Euler's method beside DDIM."""

import warnings

import numpy as np
import pytest
from tools.gaussian_flow import M, S, X, even_in_lambda, exact

from tinygen.diffusion import (
    Process,
    cosine_schedule,
    ddim,
    karras_sigmas,
    last_state,
    rescale_zero_terminal_snr,
    sigma_euler,
    sigma_schedule,
)


@pytest.mark.parametrize("last", [0.0, 0.03])
def test_a_schedule_of_sigmas(last):
    """Also of one whose ᾱ_T is tiny: no digit is lost."""
    sigmas = np.array([4096.0, 14.0, 2.0, 0.1])
    schedule = sigma_schedule(sigmas, np.array([99.0, 41.5, 7.2, 0.0]), last)
    np.testing.assert_allclose(schedule.sigma / schedule.alpha, [last, 0.1, 2, 14, 4096], rtol=1e-14)
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, rtol=1e-15)
    np.testing.assert_array_equal(schedule.timesteps[1:], [0.0, 7.2, 41.5, 99.0])
    np.testing.assert_allclose((1 - schedule.beta).cumprod(), schedule.alpha_bar, rtol=1e-8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = schedule.respace([2, 3])
    np.testing.assert_allclose(short.alpha_bar, schedule.alpha_bar[[0, 2, 3]], rtol=1e-12)


@pytest.mark.parametrize(("sigmas", "last"), [([1.0, 2.0], 0.0), ([2.0, 1.0], 1.0), ([2.0, 1.0], -0.5)])
def test_sigmas_must_fall(sigmas, last):
    with pytest.raises(ValueError, match="sigmas must fall"):
        sigma_schedule(np.array(sigmas), np.arange(2), last)


def test_karras_sigmas():
    """Largest first, even in the roots of degree ρ."""
    levels = karras_sigmas(6, 0.1, 14.0)
    np.testing.assert_allclose(levels[[0, -1]], [14.0, 0.1], rtol=1e-12)
    np.testing.assert_allclose(np.diff(levels ** (1 / 7), n=2), 0, atol=1e-12)
    np.testing.assert_allclose(karras_sigmas(3, 1.0, 3.0, rho=1.0), [3.0, 2.0, 1.0], rtol=1e-12)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_euler_is_ddim(kind, eta):
    """The same states but for their scale, and the same new noise."""
    process = Process(even_in_lambda(9), kind)
    model, alpha = exact(process, M, S), process.schedule.alpha
    ys = sigma_euler(process, model, X, eta=eta, rng=0)
    xs = ddim(process, model, X, eta=eta, rng=0)
    for t, (y, x) in enumerate(zip(ys, xs, strict=True)):
        np.testing.assert_allclose(y * alpha[-2 - t], x, rtol=1e-10)


def test_a_step_by_hand():
    """y = x/α, and dy/dσ = ε."""
    process = Process(sigma_schedule(np.array([3.0, 1.0]), np.array([7, 2]), 0.5))
    said = {7: np.array([[2.0]]), 2: np.array([[-1.0]])}
    first, second = sigma_euler(process, lambda x, t: said[t[0]], np.array([[1.0]]))
    np.testing.assert_allclose(first, np.sqrt(10) + (1 - 3) * 2.0, rtol=1e-12)
    np.testing.assert_allclose(second, first + (0.5 - 1) * -1.0, rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_point_is_reached_in_any_number_of_steps(steps):
    process = Process(cosine_schedule(steps))
    data = last_state(sigma_euler(process, exact(process, M, 0.0), X))
    np.testing.assert_allclose(data, np.full_like(X, M), rtol=0, atol=1e-9)


def test_refusals():
    process, model = Process(cosine_schedule(5)), lambda x, t: x
    with pytest.raises(ValueError, match=r"eta must be within \[0, 1\], got 2"):
        next(sigma_euler(process, model, X, eta=2, rng=0))
    with pytest.raises(ValueError, match="adds noise: pass a generator"):
        next(sigma_euler(process, model, X, eta=0.5))
    with pytest.raises(ValueError, match=r"\(α_T = 0\) σ is infinite"):
        next(sigma_euler(Process(rescale_zero_terminal_snr(cosine_schedule(5)), "v"), model, X))
