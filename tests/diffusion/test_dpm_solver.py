"""DPM-Solver++ on Gaussian data, whose probability flow is known, and beside diffusers' scheduler."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from tools.gaussian_flow import M, S, X, even_in_lambda, exact, order_of

from tinygen.diffusion import (
    Process,
    cosine_schedule,
    ddim,
    dpm_solver,
    evenly_spaced,
    last_state,
    linear_schedule,
    rescale_zero_terminal_snr,
    sigma_schedule,
    sqrt_linear_schedule,
)
from tinygen.diffusion.dpm_solver import integral

KINDS = ("eps", "x0", "v")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("given", "order"), [({"order": 1}, 1), ({}, 2), ({"heun": True}, 2), ({"order": 3}, 2)]
)
def test_the_order_of_convergence_is_2(kind, given, order):
    """With twice as many steps the error is a quarter, of DDIM's it is a half: the orders are 2 and 1, each
    within 0.1. (From 80 to 320 steps: 4.5e-4 to 2.8e-5, and 2.2e-2 to 5.5e-3.) 3M takes half of the second
    derivative, and is of order 2, too."""
    np.testing.assert_allclose(order_of(partial(dpm_solver, **given), kind), order, atol=0.1)


def test_of_order_1_it_is_ddim():
    process = Process(even_in_lambda(9))
    model = exact(process, M, S)
    for ours, theirs in zip(dpm_solver(process, model, X, order=1), ddim(process, model, X), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_integral_of_a_constant_and_a_line():
    """Beside Gauss's quadrature, which is exact here: of a constant, a line, and the polynomial of 3M."""
    lam, (a, b, c) = np.array([1.7, 0.9, 0.5, -0.8]), np.array([0.3, -1.2, 2.0])
    nodes, weights = np.polynomial.legendre.leggauss(30)
    u, h = (nodes + 1) / 2, lam[0] - lam[1]  # the part of the step that is done

    def over_the_step(values):
        return np.sum(weights / 2 * h * np.exp(h * (u - 1)) * values)

    slope, before = (a - b) / (lam[1] - lam[2]) * h, (b - c) / (lam[2] - lam[3]) * h
    second = (slope - before) / (lam[1] - lam[3]) * h
    third = a + (slope + second * (lam[1] - lam[2]) / h) * u + second * u**2 / 2
    np.testing.assert_allclose(integral([a], lam), over_the_step(a), rtol=1e-12)
    np.testing.assert_allclose(integral([a, b], lam, heun=True), over_the_step(a + slope * u), rtol=1e-12)
    np.testing.assert_allclose(integral([a, b], lam), over_the_step(a + slope / 2), rtol=1e-12)
    np.testing.assert_allclose(integral([a, b, c], lam), over_the_step(third), rtol=1e-12)


def test_lower_orders_at_the_end():
    """The last step takes one x_0 and the one before two, also where some noise is left."""
    schedule = sigma_schedule(np.geomspace(10.0, 0.2, 6), np.arange(6)[::-1], 0.1)
    process = Process(schedule, "x0")
    x0s = np.random.default_rng(0).standard_normal((6, 3, 1))
    model = lambda x, t: x0s[t[0]]
    plain, lower = (list(dpm_solver(process, model, X, order=3, lower_order_final=f)) for f in (False, True))
    lam = np.log(schedule.alpha / schedule.sigma)
    ratio, alpha = schedule.sigma[:-1] / schedule.sigma[1:], schedule.alpha
    np.testing.assert_array_equal(plain[:4], lower[:4])
    np.testing.assert_allclose(
        lower[4], ratio[1] * lower[3] + alpha[1] * integral(x0s[1:3], lam[1:4]), rtol=1e-12
    )
    np.testing.assert_allclose(lower[5], ratio[0] * lower[4] + alpha[0] * integral(x0s[:1], lam), rtol=1e-12)
    assert np.abs(plain[4] - lower[4]).max() > 1e-3
    with pytest.raises(ValueError, match="order must be 1, 2 or 3, got 4"):
        next(dpm_solver(process, model, X, order=4))


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), sqrt_linear_schedule(1000), cosine_schedule(1000)]
)
@pytest.mark.parametrize("n", [10, 20, 40, 100])
def test_nearer_to_the_data_than_ddim_in_as_many_steps(schedule, n):
    """The flow takes N(0, 1) to N(m, s²) by m + s·x, but for the little that x_T shows of the data. With the
    cosine schedule 20 steps are off by 0.003 at most, and 100 of DDIM by 0.016."""
    process, wanted = Process(schedule), M + S * X
    model = exact(process, M, S)
    short = process.respace(evenly_spaced(1000, n))
    ours, theirs = (np.abs(last_state(f(short, model, X)) - wanted).max() for f in (dpm_solver, ddim))
    assert ours < theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_point_is_reached_in_any_number_of_steps(kind, steps):
    """Its x_0 is the same at every step, so every line through two of them is flat."""
    process = Process(cosine_schedule(50), kind)
    states = dpm_solver(process.respace(evenly_spaced(50, steps)), exact(process, M, 0.0), X)
    np.testing.assert_allclose(last_state(states), np.full_like(X, M), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_zero_terminal_snr(kind):
    """λ_T = -∞: nothing is divided by 0, and the flow starts at exactly N(0, 1)."""
    process = Process(rescale_zero_terminal_snr(cosine_schedule(1000)), kind)
    model = exact(process, M, S)
    with np.errstate(all="raise"):
        errors = [
            np.abs(
                last_state(dpm_solver(process.respace(evenly_spaced(1000, n)), model, X)) - M - S * X
            ).max()
            for n in (20, 100, 500)
        ]
    assert errors[0] < 0.02
    assert errors[2] < errors[1] < errors[0]


def test_the_first_two_steps_by_hand():
    """DDIM's, then the line through the last two x_0."""
    schedule = even_in_lambda(4)
    process, x0s = Process(schedule, "x0"), np.array([[[1.0]], [[3.0]], [[2.0]], [[0.0]], [[5.0]]])
    x = np.array([[0.5]])
    states = list(dpm_solver(process, lambda x, t: x0s[t[0]], x))
    alpha, sigma = schedule.alpha, schedule.sigma
    decay = math.exp(-7 / 4)  # λ rises by 7/4 in each step, so r is 1
    first = sigma[4] / sigma[5] * x + alpha[4] * (1 - decay) * 5.0
    np.testing.assert_allclose(states[0], first, rtol=1e-10)
    second = sigma[3] / sigma[4] * first + alpha[3] * (1 - decay) * (1.5 * 0.0 - 0.5 * 5.0)
    np.testing.assert_allclose(states[1], second, rtol=1e-10)
    np.testing.assert_allclose(states[4], 1.0, rtol=1e-12)  # x_0 of the last step alone


def test_float32_and_clip():
    process, x = Process(linear_schedule(100)).respace([20, 60, 100]), np.ones((2, 3), np.float32)
    model = lambda x, t: np.full_like(x, -7.0)
    assert all(state.dtype == np.float32 for state in dpm_solver(process, model, x))
    np.testing.assert_array_equal(last_state(dpm_solver(process, model, x, clip=0.5)), np.full_like(x, 0.5))


SPACINGS = [
    (linear_schedule(1000), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    (
        sqrt_linear_schedule(1000),
        {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    ),
]


@pytest.mark.parametrize(("schedule", "config"), SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [2, 20])
def test_against_diffusers(schedule, config, kind, steps, monkeypatch):
    """All states of DPMSolverMultistepScheduler, which keeps its coefficients and states in float32: here it
    gets float64 for both."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers.schedulers import scheduling_dpmsolver_multistep as there

    monkeypatch.setattr(there, "torch", SimpleNamespace(**{**vars(torch), "float32": torch.float64}))
    scheduler = there.DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        prediction_type={"eps": "epsilon", "x0": "sample", "v": "v_prediction"}[kind],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        **config,
    )
    scheduler.set_timesteps(steps)
    process = Process(schedule, kind).respace(evenly_spaced(1000, steps))
    s = process.schedule
    np.testing.assert_array_equal(s.timesteps[:0:-1], scheduler.timesteps.numpy())
    sigmas = torch.tensor((s.sigma / s.alpha)[::-1].copy())
    np.testing.assert_allclose(scheduler.sigmas.numpy(), sigmas.numpy(), rtol=1e-4)
    scheduler.sigmas = sigmas
    x, said = np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    theirs = torch.tensor(x)
    states = dpm_solver(process, lambda x, t: 0.3 * x + said, x)
    for t, ours in zip(scheduler.timesteps, states, strict=True):
        theirs = scheduler.step(0.3 * theirs + torch.tensor(said), t, theirs).prev_sample
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10, atol=1e-10)
