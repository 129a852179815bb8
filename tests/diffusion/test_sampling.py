"""Samplers on Gaussian data, whose exact denoiser is known: every step is an affine map plus known noise,
so the result has a closed form. Also shapes and errors."""

import inspect
import math

import numpy as np
import pytest

from tinygen import Tensor, diffusion, nn
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    ancestral_step,
    cosine_schedule,
    ddim,
    ddim_encode,
    ddim_step,
    evenly_spaced,
    last_state,
    linear_schedule,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)

SCHEDULES = [linear_schedule(30), sqrt_linear_schedule(30), cosine_schedule(30)]
KINDS = ("eps", "x0", "v")


def exact(process, m, s):
    """The best model if the data is N(m, s²): E[x0 | x_t] by Gaussian conditioning, converted to the
    prediction of the process. It looks up ᾱ by the step number, as a network would."""
    bars = dict(zip(process.schedule.timesteps.tolist(), process.schedule.alpha_bar.tolist(), strict=True))

    def model(x, t):
        assert t.shape == (len(x),)
        bar = bars[t[0]]
        a, n = math.sqrt(bar), math.sqrt(1 - bar)
        x0 = m + a * s**2 / (a**2 * s**2 + n**2) * (x - a * m)
        eps = (x - a * x0) / n
        return {"eps": eps, "x0": x0, "v": a * eps - n * x0}[process.predicts]

    return model


class Constant(np.random.Generator):
    """A generator whose every draw is `value`."""

    def __init__(self, value):
        super().__init__(np.random.PCG64(0))
        self.value = value

    def standard_normal(self, shape, dtype):
        return np.full(shape, self.value, dtype)


def affine(step):
    """(slope, shift, sigma) of a step(x, rng) that is slope·x + shift + sigma·noise."""
    x = np.array([[0.0], [1.0]])
    (shift, end), (noisy, _) = (step(x, Constant(noise))[:, 0].tolist() for noise in (0.0, 1.0))
    return end - shift, shift, noisy - shift


def carried(steps, mean=0.0, variance=1.0):
    """Mean and variance after affine steps, from the mean and variance of the initial noise."""
    for slope, shift, sigma in steps:
        mean, variance = slope * mean + shift, slope**2 * variance + sigma**2
    return mean, variance


def ancestral_steps(process, m, s, variance):
    model = exact(process, m, s)
    return [
        affine(lambda x, rng, t=t: ancestral_step(process, model, x, t, rng=rng, variance=variance))
        for t in range(len(process.schedule), 0, -1)
    ]


def ddim_steps(process, m, s, eta):
    model = exact(process, m, s)
    return [
        affine(lambda x, rng, t=t: ddim_step(process, model, x, t, eta=eta, rng=rng))
        for t in range(len(process.schedule), 0, -1)
    ]


# -- one step --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_step_is_gaussian_conditioning(schedule, kind):
    """For data N(m, s²), x_{t-1} given x_t is normal. The step has its mean; and its variance when s = 0,
    where it is the small one, and when s = 1, where it is β."""
    bars = schedule.alpha_bar
    for m, s, variance in [(0.7, 0.0, "small"), (0.7, 1.0, "large"), (-1.5, 0.4, "small")]:
        steps = ancestral_steps(Process(schedule, kind), m, s, variance)[::-1]
        for t, (slope, shift, sigma) in enumerate(steps, 1):
            before, after = (bars[u] * s**2 + 1 - bars[u] for u in (t - 1, t))  # Var x_{t-1}, Var x_t
            covariance = math.sqrt(1 - schedule.beta[t]) * before
            wanted = covariance / after
            assert slope == pytest.approx(wanted, abs=1e-9)
            assert shift == pytest.approx(
                math.sqrt(bars[t - 1]) * m - wanted * math.sqrt(bars[t]) * m, abs=1e-9
            )
            if t == 1:
                assert sigma == 0  # the last step adds no noise
            elif s in (0.0, 1.0):
                assert sigma**2 == pytest.approx(before - covariance**2 / after, rel=1e-8)


@pytest.mark.parametrize("schedule", [*SCHEDULES, linear_schedule(100).respace([1, 4, 51, 99, 100])])
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_with_eta_1_is_ancestral_sampling(schedule, kind):
    process = Process(schedule, kind)
    steps = np.array(ddim_steps(process, 0.7, 0.4, 1.0))
    np.testing.assert_allclose(steps, ancestral_steps(process, 0.7, 0.4, "small"), rtol=0, atol=1e-9)
    variances = schedule.posterior_variance[:0:-1]
    np.testing.assert_allclose(steps[:, 2] ** 2, variances, rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_step_is_the_exact_affine_map(eta, kind):
    """sqrt(ᾱ')·x0 + sqrt(1 - ᾱ' - σ²)·ε + σz with σ of eq. 16, for steps that are not evenly spaced; ᾱ' is
    the value for the step before in the list, 1 before the first."""
    whole, kept, m, s = cosine_schedule(100), [1, 4, 51, 99, 100], 0.7, 0.4
    steps = ddim_steps(Process(whole.respace(kept), kind), m, s, eta)[::-1]
    bars = [1.0, *whole.alpha_bar[kept]]
    for bar, after, (slope, shift, sigma) in zip(bars[:-1], bars[1:], steps, strict=True):
        a, variance = math.sqrt(after), after * s**2 + 1 - after
        gain = a * s**2 / variance  # of x0 by x
        wanted = eta * math.sqrt((1 - bar) / (1 - after)) * math.sqrt(1 - after / bar)
        left = math.sqrt(1 - bar - wanted**2) / math.sqrt(1 - after)
        x0_shift = m - gain * a * m
        assert slope == pytest.approx(math.sqrt(bar) * gain + left * (1 - a * gain), abs=1e-11)
        assert shift == pytest.approx((math.sqrt(bar) - left * a) * x0_shift, abs=1e-11)
        assert sigma == pytest.approx(wanted, abs=1e-12)


def test_clip_bounds_the_data_and_gives_the_noise_that_fits():
    process, x = Process(linear_schedule(100)), np.array([[0.3, -4.0, 5.0]])
    model = lambda x, t: np.zeros_like(x)  # x0 = x / alpha
    s, t = process.schedule, 61
    x0 = np.clip(x / s.alpha[t], -1, 1)
    assert np.abs(x / s.alpha[t]).max() > 1
    eps = (x - s.alpha[t] * x0) / s.sigma[t]
    np.testing.assert_allclose(
        ddim_step(process, model, x, t, clip=1.0), s.alpha[t - 1] * x0 + s.sigma[t - 1] * eps, rtol=1e-12
    )
    mean = ancestral_step(process, model, x, t, rng=Constant(0.0), clip=1.0)
    np.testing.assert_allclose(mean, process.posterior(x0, x, t)[0], rtol=1e-12)


# -- all steps: where samples end ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_ancestral_sampling_of_a_point_ends_there(kind):
    process = Process(linear_schedule(50), kind)
    x = np.random.default_rng(0).standard_normal((5, 2))
    got = last_state(ancestral_sampling(process, exact(process, 0.7, 0.0), x, rng=np.random.default_rng(1)))
    np.testing.assert_allclose(got, 0.7, atol=1e-10)


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), sqrt_linear_schedule(1000), cosine_schedule(1000)]
)
def test_ancestral_sampling_of_unit_variance_ends_in_the_data(schedule):
    """With the large variance each step is exact for N(m, 1), but for β_1 at the end, which is not added, and
    what x_T has of the mean, which noise has not."""
    steps = ancestral_steps(Process(schedule), 0.7, 1.0, "large")
    mean, variance = carried(steps, mean=schedule.alpha[-1] * 0.7)
    assert mean == pytest.approx(0.7, abs=1e-9)
    assert variance == pytest.approx(1 - schedule.beta[1], abs=1e-9)
    assert carried(steps)[0] == pytest.approx(0.7, abs=schedule.alpha[-1])


@pytest.mark.parametrize("schedule", [linear_schedule, sqrt_linear_schedule, cosine_schedule])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling_comes_to_the_data_with_more_steps(schedule, variance):
    """Either variance is right to the first order of β: with four times as many steps, the error goes toward
    a quarter (0.37 to 0.25 of it here). The mean is off by what x_T has of it, which noise has not."""
    m, s = 0.7, 0.5
    schedules = [schedule(n) for n in (100, 400, 1600)]
    means, variances = np.transpose([carried(ancestral_steps(Process(c), m, s, variance)) for c in schedules])
    assert np.all(np.abs(means - m) < [c.alpha[-1] for c in schedules])
    errors = np.abs(variances - s**2)
    assert np.all(errors[1:] < 0.4 * errors[:-1])


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), sqrt_linear_schedule(1000), cosine_schedule(1000)]
)
def test_ddim_is_the_map_of_noise_to_the_data(schedule):
    """The flow takes N(0, 1) to N(m, s²) by m + s·x; steps come near it."""
    mean, variance = carried(ddim_steps(Process(schedule), 0.7, 0.5, 0.0))
    assert mean == pytest.approx(0.7, abs=0.02)
    assert math.sqrt(variance) == pytest.approx(0.5, abs=0.01)
    process = Process(schedule)
    x = np.array([[-2.0], [0.0], [1.0]])
    got = last_state(ddim(process, exact(process, 0.7, 0.5), x))
    np.testing.assert_allclose(got, mean + math.sqrt(variance) * x, rtol=1e-10)


@pytest.mark.parametrize("sampler", ["small", "large", "eta 0.5"])
def test_moments_of_samples(sampler):
    """Mean and variance of 40,000 samples of N(0.7, 0.25) against the closed recursion of their steps, each
    within 5.5 of its standard deviations: 4e-8 each, 2.3e-7 for these six together."""
    process, m, s, n = Process(linear_schedule(50), "v"), 0.7, 0.5, 40_000
    rng = np.random.default_rng(7)
    x, model = rng.standard_normal((n, 1)), exact(process, m, s)
    if sampler == "eta 0.5":
        states, steps = ddim(process, model, x, eta=0.5, rng=rng), ddim_steps(process, m, s, 0.5)
    else:
        states = ancestral_sampling(process, model, x, rng=rng, variance=sampler)
        steps = ancestral_steps(process, m, s, sampler)
    got, (mean, variance) = last_state(states), carried(steps)
    assert abs(got.mean() - mean) < 5.5 * math.sqrt(variance / n)
    assert abs(got.var() - variance) < 5.5 * variance * math.sqrt(2 / n)


# -- fewer steps, and back -------------------------------------------------------------------------


def test_a_respaced_sampler_asks_about_the_steps_it_keeps():
    asked = []

    def model(x, t):
        asked.append(t)
        return np.zeros_like(x)

    process = Process(linear_schedule(100)).respace([1, 42, 100])
    list(ddim(process, model, np.ones((2, 3))))
    list(ancestral_sampling(process, model, np.ones((2, 3)), rng=np.random.default_rng(0)))
    np.testing.assert_array_equal(asked, [[99, 99], [41, 41], [0, 0]] * 2)  # networks count from 0


@pytest.mark.parametrize("kind", KINDS)
def test_encode_then_decode_returns(kind):
    """The plain encoder returns up to the length of a step; solved to the end, it is the inverse."""
    whole, x = Process(linear_schedule(1000), kind), np.array([[-0.5], [0.7], [1.6]])
    model = exact(whole, 0.7, 0.5)
    errors = []
    for n in (50, 100, 200):
        process = whole.respace(evenly_spaced(1000, n))
        there_and_back = last_state(ddim(process, model, ddim_encode(process, model, x)))
        errors.append(np.abs(there_and_back - x).max())
    process = whole.respace(evenly_spaced(1000, 50))
    solved = ddim_encode(process, model, x, iterations=60)
    np.testing.assert_allclose(last_state(ddim(process, model, solved)), x, atol=1e-9)
    assert errors[0] < 0.1
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_encode_of_noise_that_does_not_depend_on_x():
    """Then one iteration solves it."""
    process, x = Process(cosine_schedule(20)), np.array([[-0.5, 0.7]])
    model = lambda x, t: np.full_like(x, 0.3) + 0.01 * t[:, None]
    got = last_state(ddim(process, model, ddim_encode(process, model, x)))
    np.testing.assert_allclose(got, x, rtol=1e-11)


# -- zero-terminal SNR -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_samplers_start_from_pure_noise(kind):
    """Where α_T = 0 nothing is divided by 0, and samples start from exactly x_T: DDIM is the map of noise to
    the data, and ancestral sampling ends in a point."""
    process, x = (
        Process(rescale_zero_terminal_snr(cosine_schedule(1000)), kind),
        np.array([[-2.0], [0.0], [1.0]]),
    )
    with np.errstate(all="raise"):
        mean, variance = carried(ddim_steps(process, 0.7, 0.5, 0.0))
        assert mean == pytest.approx(0.7, abs=0.002)
        assert math.sqrt(variance) == pytest.approx(0.5, abs=0.005)
        got = last_state(ancestral_sampling(process, exact(process, 0.7, 0.0), x, rng=1))
    np.testing.assert_allclose(got, 0.7, atol=1e-10)


def test_pure_noise_cannot_be_encoded():
    process, x = Process(rescale_zero_terminal_snr(cosine_schedule(20)), "v"), np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"zero-terminal SNR \(α_T = 0\) DDIM cannot be inverted"):
        ddim_encode(process, lambda x, t: x, x)


# -- states ----------------------------------------------------------------------------------------


def test_a_sampler_yields_its_states():
    """One after every step, as its steps make them; nothing happens before the first is asked for."""
    process, rng = Process(cosine_schedule(20)), np.random.default_rng
    model, x = exact(process, 0.7, 0.5), rng(0).standard_normal((4, 3))
    for states, step in (
        (ddim(process, model, x), lambda x, t, _: ddim_step(process, model, x, t)),
        (
            ddim(process, model, x, eta=0.5, rng=rng(1), clip=1.0),
            lambda x, t, draws: ddim_step(process, model, x, t, eta=0.5, rng=draws, clip=1.0),
        ),
        (
            ancestral_sampling(process, model, x, rng=rng(1), variance="large"),
            lambda x, t, draws: ancestral_step(process, model, x, t, rng=draws, variance="large"),
        ),
    ):
        film, now, draws = list(states), x, rng(1)
        assert len(film) == 20
        for t, state in zip(range(20, 0, -1), film, strict=True):
            now = step(now, t, draws)
            np.testing.assert_array_equal(state, now)
    np.testing.assert_array_equal(last_state(ddim(process, model, x)), list(ddim(process, model, x))[-1])


# -- models, dtypes, seeds, errors -----------------------------------------------------------------


def test_a_module_is_a_model():
    """Its Tensors are taken as arrays, nothing is recorded, and float32 stays."""
    layer = nn.Linear(3, 3, rng=np.random.default_rng(0))
    seen = []

    def model(x, t):
        seen.append(layer(x))
        return seen[-1]

    process, x = (
        Process(linear_schedule(30)),
        np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32),
    )
    for got in (
        last_state(ancestral_sampling(process, model, x, rng=np.random.default_rng(2))),
        last_state(
            ancestral_sampling(process, model, x, rng=np.random.default_rng(2), variance="large", clip=1.0)
        ),
        last_state(ddim(process, model, x, eta=0.5, rng=np.random.default_rng(2))),
        ddim_encode(process, model, x),
    ):
        assert isinstance(got, np.ndarray)
        assert got.dtype == np.float32
    assert all(isinstance(y, Tensor) and y.node is None for y in seen)


def test_the_seed_decides():
    process, x = Process(linear_schedule(30)), np.random.default_rng(1).standard_normal((4, 3))
    model = exact(process, 0.7, 0.5)
    draw = lambda seed: last_state(ancestral_sampling(process, model, x, rng=np.random.default_rng(seed)))
    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.any(draw(0) != draw(1))
    np.testing.assert_array_equal(list(ddim(process, model, x)), list(ddim(process, model, x)))


def test_an_int_is_the_seed_of_one_generator_for_all_steps():
    process, x = Process(linear_schedule(30)), np.random.default_rng(1).standard_normal((4, 3))
    model = exact(process, 0.7, 0.5)
    for sampler in (ancestral_sampling, lambda *args, rng: ddim(*args, eta=0.5, rng=rng)):
        wanted = last_state(sampler(process, model, x, rng=np.random.default_rng(5)))
        np.testing.assert_array_equal(last_state(sampler(process, model, x, rng=5)), wanted)
    step = lambda rng: ancestral_step(process, model, x, 9, rng=rng)
    np.testing.assert_array_equal(step(5), step(np.random.default_rng(5)))
    step = lambda rng: ddim_step(process, model, x, 9, eta=0.5, rng=rng)
    np.testing.assert_array_equal(step(5), step(np.random.default_rng(5)))


def test_errors():
    process, x = Process(linear_schedule(30)), np.zeros((4, 3))
    same = lambda x, t: x
    with pytest.raises(ValueError, match=r"the model made \(4, 6\) of x \(4, 3\): it must keep the shape"):
        last_state(ddim(process, lambda x, t: np.zeros((4, 6)), x))
    with pytest.raises(ValueError, match=r"eta must be within \[0, 1\], got 1\.5"):
        last_state(ddim(process, same, x, eta=1.5))
    with pytest.raises(ValueError, match=r"eta=0\.5 adds noise: pass a generator"):
        last_state(ddim(process, same, x, eta=0.5))
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        ddim_encode(process, same, x, iterations=0)
    with pytest.raises(ValueError, match='variance must be "small", "large" or "learned", got \'medium\''):
        last_state(ancestral_sampling(process, same, x, rng=np.random.default_rng(0), variance="medium"))
    with pytest.raises(IndexError, match=r"t must be within 1 \.\. 30, got 0"):
        ddim_step(process, same, x, 0)


def test_options_of_a_sampler_are_given_by_name():
    """What a sampler can do without: `clip`, `eta`, a generator."""
    found = {
        name: inspect.signature(getattr(diffusion, name)) for name in diffusion.__all__ if name[0].islower()
    }
    samplers = {name: s for name, s in found.items() if s.return_annotation == "Iterator[Array]"}
    assert len(samplers) == 9
    for name, signature in samplers.items():
        for p in signature.parameters.values():
            if p.default is not p.empty or p.name == "rng":
                assert p.kind is p.KEYWORD_ONLY, f"{name} {p.name}"
