"""Samplers with the exact score, on data that is not Gaussian: their samples must come from the mixture,
and common mistakes must be detected.

The only error is the error of finite steps. It is largest near the data, so the steps are finer there;
`test_what_finite_steps_cost` has the closed recursion for one Gaussian."""

import copy
import math

import numpy as np
import pytest

from tinygen.data.mixtures import Mixture, ring
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    cosine_schedule,
    ddim,
    guide,
    last_state,
    linear_schedule,
)

N = 4000
ALARM = 1e-8
"""The probability that one comparison of right samples fails; `complaints` makes 11 of a ring of eight."""
FINITE_STEPS = 0.025
"""How far finite steps may move a distribution function; the schedules here move it by less."""


def finer_toward_data(steps, n):
    """About n of the steps 1 ... `steps`, the last one among them."""
    return 1 + np.unique(np.round(np.linspace(0, math.sqrt(steps - 1), n) ** 2).astype(int))


WHOLE = Process(cosine_schedule(1000))
FINE = WHOLE.respace(finer_toward_data(1000, 200))  # 190 steps
EVEN = Process(cosine_schedule(300))


def exact(mixture, process=WHOLE):
    """The best model for this data. It is given a step's number in the whole process, from 0, as a network
    is."""
    s = process.schedule
    return lambda x, t: mixture.eps(x, s.alpha[t[0] + 1], s.sigma[t[0] + 1])


# -- the checker -----------------------------------------------------------------------------------

normal = np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)


def distance(values, distribution):
    """The largest distance of the values' distribution function from the true one (Kolmogorov & Smirnov)."""
    there = distribution(np.sort(values))
    n = len(there)
    return max(np.max(np.arange(1, n + 1) / n - there), np.max(there - np.arange(n) / n))


def complaints(x, mixture):
    """The signs that x (n, 2) is not from this mixture, whose components must be far apart and not at 0.

    The number of points in each component is binomial; by Chernoff's bound n·KL(share ‖ weight) exceeds
    ln(2/p) with probability p at most. Within the components, the deviations outward and sideways are
    N(0, s²) and their lengths Rayleigh; by the inequality of Dvoretzky, Kiefer & Wolfowitz (with the constant
    of Massart 1990) `distance` exceeds sqrt(ln(2/p)/2n) with probability p at most."""
    found, n = [], len(x)
    nearest = np.argmin(np.sum((x[:, None] - mixture.means) ** 2, axis=2), axis=1)
    for k, weight in enumerate(mixture.weights):
        share = np.mean(nearest == k)
        kl = sum(
            p * math.log(p / q) for p, q in ((share, weight), (1 - share, 1 - weight)) if p > 0 and q > 0
        )
        if n * kl > math.log(2 / ALARM):
            found.append(f"share of component {k}: {share:.3f}, not {weight:.3f}")
    away = (x - mixture.means[nearest]) / mixture.stds[nearest, None]
    out = (mixture.means / np.hypot(*mixture.means.T)[:, None])[nearest]
    bound = math.sqrt(math.log(2 / ALARM) / (2 * n)) + FINITE_STEPS
    for name, values, distribution in (
        ("outward", away[:, 0] * out[:, 0] + away[:, 1] * out[:, 1], normal),
        ("sideways", away[:, 1] * out[:, 0] - away[:, 0] * out[:, 1], normal),
        ("length", np.hypot(*away.T), lambda r: 1 - np.exp(-(r**2) / 2)),
    ):
        if (off := distance(values, distribution)) > bound:
            found.append(f"{name}: distribution off by {off:.3f}, more than {bound:.3f}")
    return found


def test_the_checker():
    """True samples pass; those with 15 % too much or too little spread, nearer to the middle by a fifth of a
    std, or with a third of one component in another, do not."""
    rng = np.random.default_rng(0)
    truth = ring()
    x = truth.sample(N, rng)
    assert complaints(x, truth) == []
    for wrong in (Mixture(truth.weights, truth.means, s * truth.stds) for s in (0.85, 1.15)):
        assert complaints(wrong.sample(N, rng), truth)[-1].startswith("length")
    assert complaints(x * (1 - 0.02 / math.sqrt(2)), truth)[0].startswith("outward")
    weights = truth.weights * [2 / 3, 4 / 3, 1, 1, 1, 1, 1, 1]
    assert len(complaints(Mixture(weights, truth.means, 0.1).sample(N, rng), truth)) == 2


def std_of_ddim(process, std, eta):
    """The std of what DDIM makes of noise when the data is N(0, std²): each step is linear in x."""
    s, variance = process.schedule, 1.0
    for t in range(len(s), 0, -1):
        gain = s.alpha[t] * std**2 / (s.alpha[t] ** 2 * std**2 + s.sigma[t] ** 2)  # x0 = gain·x
        eps = (1 - s.alpha[t] * gain) / s.sigma[t]
        left, new = s.alpha_bar[t - 1], eta**2 * s.posterior_variance[t]
        slope = math.sqrt(left) * gain + math.sqrt(1 - left - new) * eps
        variance = slope**2 * variance + new
    return math.sqrt(variance)


@pytest.mark.parametrize(("process", "eta"), [(FINE, 0.0), (FINE, 0.5), (FINE, 1.0), (EVEN, 0.0)])
def test_what_finite_steps_cost(process, eta):
    """The distributions of the lengths differ by less than is allowed for."""
    ratio = std_of_ddim(process, 0.1, eta) / 0.1
    r = np.linspace(0, 6, 1000)
    off = np.abs(np.exp(-(r**2) / 2) - np.exp(-((r / ratio) ** 2) / 2)).max()
    assert 0.005 < off < FINITE_STEPS


# -- right samplers --------------------------------------------------------------------------------

SAMPLERS = {
    "ancestral": lambda *args, rng: ancestral_sampling(*args, rng=rng),
    "ancestral, large variance": lambda *args, rng: ancestral_sampling(*args, rng=rng, variance="large"),
    "DDIM": lambda *args, rng: ddim(*args),
    "DDIM, η = 1/2": lambda *args, rng: ddim(*args, eta=0.5, rng=rng),
    "DDIM, η = 1": lambda *args, rng: ddim(*args, eta=1.0, rng=rng),
}


def drawn(sampler, process, model, seed=1):
    rng = np.random.default_rng(seed)
    return last_state(SAMPLERS[sampler](process, model, rng.standard_normal((N, 2)), rng=rng))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_ring_comes_out(sampler):
    """False alarms: 1.1e-7 a sampler at most."""
    assert complaints(drawn(sampler, FINE, exact(ring())), ring()) == []


@pytest.mark.parametrize("sampler", ["ancestral, large variance", "DDIM"])
def test_all_steps(sampler):
    assert complaints(drawn(sampler, EVEN, exact(ring(), EVEN)), ring()) == []


def test_guidance_with_scale_1_is_the_conditional_density():
    """Scores of one class and of all, mixed as guidance does; scale 0 is all of the ring."""
    truth, half = ring(), ring().part([0, 1, 2, 5])
    with_, without = exact(half), exact(truth)

    def samples(scale, with_, without):
        model = lambda x, t: guide(with_(x, t), without(x, t), scale)
        return drawn("DDIM", FINE, model)

    assert complaints(samples(1.0, with_, without), half) == []
    assert complaints(samples(0.0, with_, without), truth) == []
    assert len(complaints(samples(1.0, without, with_), half)) > 0  # the two mixed up


# -- wrong samplers --------------------------------------------------------------------------------


def spoiled(mistake):
    """FINE with a mistake in it."""
    process = copy.copy(FINE)
    s = process.schedule = copy.copy(FINE.schedule)
    mistake(s)
    return process


def variance_for_std(s):
    s.log_small = 2 * s.log_small  # the sampler takes its root


def variance_without_denominator(s):
    s.log_small = np.append(np.nan, s.log_small[1:] + np.log(1 - s.alpha_bar[1:]))


def no_noise(s):
    s.log_small = np.full_like(s.log_small, -np.inf)


def coefficients_swapped(s):
    s.posterior_from_x0, s.posterior_from_x = s.posterior_from_x, s.posterior_from_x0


def alpha_for_its_root(s):
    s.posterior_from_x = s.posterior_from_x * np.sqrt(1 - s.beta)


def even_steps(s):
    """Each from t to t - T//n, though the list is another."""
    before = s.timesteps[1:] + 1 - 1000 // len(s)
    s.alpha_bar = np.append(WHOLE.schedule.alpha_bar[np.maximum(before, 0)], np.nan)


def no_respacing(s):
    """β of the steps in the list, as they were in the whole process."""
    beta = WHOLE.schedule.beta[s.timesteps[1:] + 1]
    before, after = s.alpha_bar[:-1], s.alpha_bar[1:]
    s.posterior_from_x0 = np.append(np.nan, beta * np.sqrt(before) / (1 - after))
    s.posterior_from_x = np.append(np.nan, (1 - before) / (1 - after) * np.sqrt(1 - beta))


def places_for_steps(s):
    s.timesteps = np.arange(-1, len(s))


def squares_for_roots(s):
    s.alpha, s.sigma = s.alpha_bar, 1 - s.alpha_bar


WRONG = [
    ("ancestral", variance_for_std),
    ("ancestral", variance_without_denominator),
    ("ancestral", no_noise),
    ("ancestral", coefficients_swapped),
    ("ancestral", alpha_for_its_root),
    ("ancestral", no_respacing),
    ("DDIM", even_steps),
    ("DDIM", places_for_steps),
    ("DDIM", squares_for_roots),
]


@pytest.mark.parametrize(("sampler", "mistake"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_a_wrong_sampler_is_seen(sampler, mistake):
    assert complaints(drawn(sampler, spoiled(mistake), exact(ring())), ring())


def ddim_by_hand(room):
    """DDIM with η = 1; without `room` the new noise is added to all of the old, none of which it replaces."""
    s, model, rng = FINE.schedule, exact(ring()), np.random.default_rng(1)
    x = rng.standard_normal((N, 2))
    for t in range(len(s), 0, -1):
        eps = model(x, s.timesteps[[t]])
        x0, new = (x - s.sigma[t] * eps) / s.alpha[t], s.posterior_variance[t]
        left = math.sqrt(1 - s.alpha_bar[t - 1] - room * new)
        x = math.sqrt(s.alpha_bar[t - 1]) * x0 + left * eps + math.sqrt(new) * rng.standard_normal(x.shape)
    return x


def test_new_noise_takes_the_place_of_old():
    assert complaints(ddim_by_hand(room=True), ring()) == []
    assert complaints(ddim_by_hand(room=False), ring())


def test_noise_after_the_last_step_is_seen():
    """For data that is nearly points: of the samples, at least as many as of the data (98.9 %) are within 3
    stds of a mean. They may be too near, since steps are finite; noise of β_1 scatters them. False alarms:
    1e-8, by Chernoff's bound."""
    truth, process = ring(std=0.01), Process(linear_schedule(100))
    x = drawn("ancestral", process, exact(truth, process))

    def too_few(x):
        near = np.mean(np.hypot(*(x[:, None] - truth.means).T).min(axis=0) < 3 * 0.01)
        expected = 1 - math.exp(-9 / 2)
        far, rare = 1 - near, 1 - expected
        kl = near * math.log(near / expected) + (far * math.log(far / rare) if far else 0.0)
        return near < expected and N * kl > math.log(1 / ALARM)

    assert not too_few(x)
    noise = np.random.default_rng(2).standard_normal(x.shape)
    assert too_few(x + math.sqrt(process.schedule.beta[1]) * noise)
    assert not too_few(truth.sample(N, np.random.default_rng(3)))
