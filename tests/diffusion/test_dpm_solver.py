"""DPM-Solver++(2M) on Gaussian data, whose probability flow is known, and beside diffusers' scheduler."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tinygen.diffusion import (
    Process,
    Schedule,
    cosine_schedule,
    ddim,
    dpm_solver,
    evenly_spaced,
    last_state,
    linear_schedule,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)

KINDS = ("eps", "x0", "v")


def exact(process, m, s):
    """The best model for data N(m, s²), of the process and of those respaced from it: E[x_0 | x_t] by
    Gaussian conditioning, put as the process wants it. Networks count from 0."""
    schedule = process.schedule

    def model(x, t):
        alpha, sigma = schedule.alpha[t[0] + 1], schedule.sigma[t[0] + 1]
        x0 = m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m)
        return process.target(x0, process.eps_of(x0, x, t + 1), t + 1)

    return model


def even_in_lambda(n, first=3.0, last=-4.0):
    """A schedule of n + 1 steps whose λ_1 ... λ_{n+1} go evenly from `first` to `last`."""
    alpha_bar = 1 / (1 + np.exp(-2 * np.linspace(first, last, n + 1)))
    return Schedule(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))


X = np.array([[-2.0], [-0.3], [1.1]])
M, S = 0.7, 0.5


def error_at_1(sampler, schedule, kind):
    """How far x_1 is from where the probability flow takes x_T: (x_t - α_t m) / sqrt(α_t² s² + σ_t²) stays as
    it is."""
    process = Process(schedule, kind)
    x = list(sampler(process, exact(process, M, S), X))[-2]
    mean, std = schedule.alpha * M, np.sqrt(schedule.alpha**2 * S**2 + schedule.sigma**2)
    return np.abs(x - mean[1] - std[1] * (X - mean[-1]) / std[-1]).max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_convergence_is_2(kind):
    """With twice as many steps the error is a quarter, of DDIM's it is a half: the orders are 2 and 1, each
    within 0.1. (From 80 to 320 steps: 4.5e-4 to 2.8e-5, and 2.2e-2 to 5.5e-3.)"""
    for sampler, order in ((dpm_solver, 2), (ddim, 1)):
        errors = [error_at_1(sampler, even_in_lambda(n), kind) for n in (80, 160, 320)]
        measured = np.log2(np.array(errors[:-1]) / errors[1:])
        np.testing.assert_allclose(measured, order, atol=0.1)


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
