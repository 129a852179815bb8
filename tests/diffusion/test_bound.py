"""The bound: its terms against integrals, the whole against the entropy of the data for an exact model, and
the effect of learned variances. No test here is statistical: see `Pairs`."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from tinygen import Tensor, grad, gradcheck
from tinygen.diffusion import (
    Process,
    bits_per_dim,
    cosine_schedule,
    hybrid_loss,
    hybrid_loss_at,
    linear_schedule,
    loss_at,
    rescale_zero_terminal_snr,
    simple_loss,
)
from tinygen.diffusion.bound import MIN_PROBABILITY, log_likelihood, step_bits, step_divergence
from tinygen.diffusion.process import split_variance


class Pairs(np.random.Generator):
    """Draws that are laid out by hand: +1 for the first half of the batch, -1 for the second. The mean of a
    quadratic function of that is its mean for N(0, 1)."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype):
        sign = np.where(np.arange(shape[0]) < shape[0] // 2, 1, -1)
        return np.broadcast_to(sign.reshape(-1, *(1,) * (len(shape) - 1)), shape).astype(dtype)


def true_variance(schedule, s, t):
    """Of x_{t-1} given x_t, for data of variance s²: by Gaussian conditioning."""
    before, after = (schedule.alpha_bar[u] * s**2 + 1 - schedule.alpha_bar[u] for u in (t - 1, t))
    return before - (1 - schedule.beta[t]) * before**2 / after


def best_fraction(schedule, s, t):
    """The number between -1 and 1 that says the true variance, where it does lie between."""
    small, large = schedule.log_small[t], np.log(schedule.beta[t])
    return 2 * (np.log(true_variance(schedule, s, t)) - small) / (large - small) - 1


def exact(process, m, s, learned=False):
    """ε as the best model predicts it for data N(m, s²); if `learned`, the best variances as well."""

    def model(x, t):
        t = t + 1  # networks count from 0
        a, n = process.schedule.alpha[t][:, None], process.schedule.sigma[t][:, None]
        eps = n * (x - a * m) / (a**2 * s**2 + n**2)
        fraction = np.broadcast_to(best_fraction(process.schedule, s, t)[:, None], x.shape)
        return np.concatenate([eps, fraction], axis=1) if learned else eps

    return model


def density_bits(x, m, s):
    return (0.5 * ((x - m) / s) ** 2 + math.log(s * math.sqrt(2 * math.pi))) / math.log(2)


# -- the terms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [2, 11, 39])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_divergence_is_the_integral(t, variance):
    """∫ q ln(q/p) over a fine grid, with the two normal densities written out."""
    process = Process(cosine_schedule(40))
    x0, guess, x = np.array([[0.4]]), np.array([[0.1]]), np.array([[0.9]])
    log_variance = process.log_variance(variance, x0, t)
    (m_q, v_q), (m_p, _) = process.posterior(x0, x, t), process.posterior(guess, x, t)
    grid = np.linspace(-12, 12, 400_001) * math.sqrt(v_q.item()) + m_q.item()
    log_q = -0.5 * ((grid - m_q) ** 2 / v_q + np.log(2 * np.pi * v_q))[0]
    log_p = -0.5 * ((grid - m_p) ** 2 / np.exp(log_variance) + np.log(2 * np.pi) + log_variance)[0]
    wanted = np.sum(np.exp(log_q) * (log_q - log_p)) * (grid[1] - grid[0])
    got = step_divergence(process, x0, t, guess, log_variance)
    assert got.item() == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "sigma"), [(0.03, 0.02), (-0.9, 0.3), (1.4, 0.5), (0.0, 3.0)])
def test_levels_share_all_of_the_probability(levels, mean, sigma):
    x = np.linspace(-1, 1, levels)[:, None]
    log_variance = np.full_like(x, 2 * math.log(sigma))
    p = np.exp(log_likelihood(x, np.full_like(x, mean), log_variance, levels))
    assert p.sum() == pytest.approx(1, abs=levels * MIN_PROBABILITY + 1e-12)
    cdf = lambda z: 0.5 * math.erfc(-(z - mean) / (sigma * math.sqrt(2)))
    edges = [0.0, *(cdf(-1 + (2 * k + 1) / (levels - 1)) for k in range(levels - 1)), 1.0]
    np.testing.assert_allclose(p[:, 0], np.diff(edges), rtol=1e-9, atol=2 * MIN_PROBABILITY)


def test_fine_levels_are_a_density_times_their_width():
    x = np.linspace(-1, 1, 4097)[1000:3000, None]
    log_variance, mean = np.full_like(x, 2 * math.log(0.5)), np.full_like(x, 0.1)
    got = log_likelihood(x, mean, log_variance, 4097)
    density = log_likelihood(x, mean, log_variance, None)
    np.testing.assert_allclose(-density / math.log(2), density_bits(x, 0.1, 0.5), rtol=1e-12)
    np.testing.assert_allclose(got, density + math.log(2 / 4096), rtol=1e-6)


def test_each_of_a_batch_is_at_its_own_step():
    process, rng, t = Process(linear_schedule(100)), np.random.default_rng(0), np.array([1, 2, 1])
    x0, guess = rng.integers(17, size=(3, 2, 4)) / 8 - 1.0, rng.uniform(-1, 1, (3, 2, 4))
    log_variance = rng.uniform(-9, -2, x0.shape)
    bits = step_bits(process, x0, t, guess, log_variance, 17)
    alone = [
        step_bits(process, *(part[i : i + 1] for part in (x0, t, guess, log_variance)), 17) for i in range(3)
    ]
    np.testing.assert_array_equal(bits, np.concatenate(alone), strict=True)


def test_against_torch():
    """A batch of several steps, with distributions as torch knows them."""
    torch = pytest.importorskip("torch")
    distributions = torch.distributions
    process, t = Process(linear_schedule(100)), np.array([1, 1, 2, 51, 100])
    rng = np.random.default_rng(0)
    x0 = rng.integers(17, size=(5, 3, 2)) / 8 - 1.0
    x0[0] = [[-1, 1]] * 3
    guess = x0 + 0.01 * rng.standard_normal(x0.shape)
    x, log_variance = rng.standard_normal(x0.shape), rng.uniform(-9, -2, x0.shape)
    got = step_bits(process, x0, t, guess, log_variance, 17)
    for i, step in enumerate(t):
        mean, _ = process.posterior(guess[i : i + 1], x[i : i + 1], step)
        back = distributions.Normal(torch.tensor(mean[0]), torch.tensor(np.exp(0.5 * log_variance[i])))
        if step == 1:
            below, above = (back.cdf(torch.tensor(x0[i] + d)) for d in (-1 / 16, 1 / 16))
            below[torch.tensor(x0[i] == -1)], above[torch.tensor(x0[i] == 1)] = 0, 1
            wanted = -torch.log2(above - below)
        else:
            mean, v = process.posterior(x0[i : i + 1], x[i : i + 1], step)
            true = distributions.Normal(torch.tensor(mean[0]), math.sqrt(v.item()))
            wanted = distributions.kl_divergence(true, back) / math.log(2)
        np.testing.assert_allclose(got[i], wanted.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("levels", [None, 17])
def test_terms_have_gradients(levels):
    process, t = Process(cosine_schedule(40)), np.array([1, 2, 40])
    x0 = np.array([[-1.0, 0.5], [0.125, 1.0], [0.25, -0.5]])
    guess = x0 + 0.05 * np.random.default_rng(0).standard_normal(x0.shape)
    f = lambda guess, log_variance: step_bits(process, x0, t, guess, log_variance, levels)
    assert gradcheck(f, guess, np.random.default_rng(1).uniform(-6, -3, x0.shape))


# -- the whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "s", "missed"), [(0, 1, 1e-10), (0.3, 0.4, 2e-3)])
@pytest.mark.parametrize("schedule", [linear_schedule(50), cosine_schedule(50)])
def test_the_bound_is_reached_by_an_exact_model(schedule, m, s, missed):
    """With the right means and variances in all steps the model is the data's own distribution, and the bound
    its -log p, for every x0; but for what is left of the data in x_T, nothing where it is N(0, 1) as well."""
    process = Process(schedule)
    for value in (0.0, 0.7, -1.1):
        x0 = np.full((2, 3), value)
        got = bits_per_dim(
            process, exact(process, m, s, learned=True), x0, rng=Pairs(), levels=None, variance="learned"
        )
        assert got.total == pytest.approx(density_bits(value, m, s), abs=missed)
        assert got.steps.shape == (50,)


def samples_of(process, model, variance):
    """Mean and variance of what the model itself draws, noise of the last step included. Its steps are
    affine, so that is normal."""
    mean, var = 0.0, 1.0
    for t in range(len(process.schedule), 0, -1):
        x = np.array([[0.0], [1.0]])
        prediction, fraction = split_variance(model(x, np.full(2, t - 1)), x, variance)
        guess, _ = process.x0_and_eps(prediction, x, t)
        shift, end = process.posterior(guess, x, t)[0][:, 0]
        own = np.exp(process.log_variance(variance, x, t, fraction)).flat[0]
        mean, var = (end - shift) * mean + shift, (end - shift) ** 2 * var + own
    return mean, var


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("schedule", [linear_schedule(40), linear_schedule(640), cosine_schedule(40)])
def test_the_bound_is_above_what_the_model_says(schedule, variance):
    """For data N(0.3, 0.4²) neither variance is right: the bound is above the model's own -log p, for every
    x0, and that is above the data's on average."""
    process = Process(schedule)
    model = exact(process, 0.3, 0.4)
    mean, var = samples_of(process, model, variance)
    for value in (-0.8, 0.3, 1.1):
        bound = bits_per_dim(
            process, model, np.full((2, 1), value), rng=Pairs(), levels=None, variance=variance
        ).total
        assert bound > density_bits(value, mean, math.sqrt(var))
    x0 = 0.3 + 0.4 * np.array([[1.0], [-1], [1], [-1]])
    entropy = density_bits(x0, 0.3, 0.4).mean()
    assert bits_per_dim(process, model, x0, rng=Pairs(), levels=None, variance=variance).total > entropy


class Quantiles(np.random.Generator):
    """Draws that are laid out by hand: a normal distribution laid out evenly over the batch, with variance
    1."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype):
        normal = NormalDist()
        z = np.array([normal.inv_cdf((i + 0.5) / shape[0]) for i in range(shape[0])])
        return (z / z.std())[:, None].astype(dtype)


@pytest.mark.parametrize("level", [0, 40, 64, 90, 128])
def test_the_bound_is_nearly_reached_on_levels(level):
    """The same exact model of N(0, 1), read on 129 levels: its probability of a level is known too, for the
    outermost with all that is beyond. The bound is above that, since x_1 does not determine the rounding."""
    process = Process(linear_schedule(50))
    model, value = exact(process, 0, 1, learned=True), -1 + level / 64
    mean, var = samples_of(process, model, "learned")
    assert (mean, var) == (0, pytest.approx(1))
    normal = NormalDist()
    above = normal.cdf(value + 1 / 128) if level < 128 else 1
    below = normal.cdf(value - 1 / 128) if level > 0 else 0
    got = bits_per_dim(
        process, model, np.full((801, 1), value), rng=Quantiles(), levels=129, variance="learned"
    ).total
    gap = got + math.log2(above - below)
    assert 0 < gap < (0.01 if 0 < level < 128 else 4)


def test_a_model_that_knows_the_data_pays_for_the_prior_only():
    process = Process(linear_schedule(1000), "x0")
    x0 = np.array([[-1.0, 0.125, 1.0]] * 2)
    got = bits_per_dim(process, lambda x, t: x0, x0, rng=Pairs(), levels=17)
    assert np.abs(got.steps).max() < 1e-12
    s = process.schedule
    variance = s.sigma[-1] ** 2
    wanted = 0.5 * (np.square(s.alpha[-1] * x0).mean() + variance - 1 - math.log(variance))
    assert got.prior == pytest.approx(wanted / math.log(2), rel=1e-6)
    assert got.total == pytest.approx(got.prior, abs=1e-10)


@pytest.mark.parametrize("step", [0, 3, 29])
def test_a_model_that_is_wrong_at_one_step_pays_there(step):
    process, x0 = Process(linear_schedule(30), "x0"), np.array([[-1.0, 0.125, 1.0]] * 2)
    models = (lambda x, t: x0, lambda x, t: x0 - (np.reshape(t, (-1, 1)) == step))
    right, wrong = (bits_per_dim(process, model, x0, rng=Pairs(), levels=17).steps for model in models)
    np.testing.assert_array_equal(np.flatnonzero(wrong - right > 1e-6), [step])


def test_the_prior_is_free_where_no_data_is_left():
    """Zero-terminal SNR: x_T is N(0, 1) itself."""
    process, x0 = (
        Process(rescale_zero_terminal_snr(linear_schedule(1000)), "x0"),
        np.array([[-1.0, 0.125, 1.0]] * 2),
    )
    got = bits_per_dim(process, lambda x, t: x0, x0, rng=Pairs(), levels=17)
    assert got.prior == 0
    assert np.abs(got.steps).max() < 1e-12


def test_clip_is_for_the_guess():
    """A guess beyond the data costs more than one at its end."""
    process, x0 = Process(linear_schedule(1000), "x0"), np.ones((2, 3))
    beyond = lambda x, t: np.full_like(x, 1.5)
    clipped = bits_per_dim(process, beyond, x0, rng=Pairs(), levels=17, clip=1.0)
    assert np.abs(clipped.steps).max() < 1e-12
    assert bits_per_dim(process, beyond, x0, rng=Pairs(), levels=17).total > 1


def test_pictures_in_float32():
    process, rng = Process(cosine_schedule(20)), np.random.default_rng(0)
    x0 = (rng.integers(17, size=(4, 1, 8, 8)) / 8 - 1).astype(np.float32)
    model = lambda x, t: Tensor(0.5 * x)
    got = bits_per_dim(
        process, model, x0, rng=np.random.default_rng(1), levels=17, variance="large", clip=1.0
    )
    assert got.steps.dtype == np.float64
    assert np.all(np.isfinite(got.steps))
    again = bits_per_dim(
        process, model, x0, rng=np.random.default_rng(1), levels=17, variance="large", clip=1.0
    )
    np.testing.assert_array_equal(got.steps, again.steps)


# -- learned variances -----------------------------------------------------------------------------


def test_learned_lies_between():
    process, x = Process(linear_schedule(100)), np.zeros((3, 2))
    s, t = process.schedule, np.array([1, 2, 71])
    of = lambda fraction: process.log_variance("learned", x, t, np.full((3, 2), fraction))
    small, large = s.posterior_variance[[2, 2, 71]], s.beta[t]  # at 1 the posterior's is that of 2
    for got, wanted in ((of(-1.0), small), (of(1.0), large), (of(0.0), np.sqrt(small * large))):
        np.testing.assert_allclose(np.exp(got), np.repeat(wanted[:, None], 2, axis=1), rtol=1e-12)
    np.testing.assert_allclose(np.exp(process.log_variance("small", x, t))[:, 0], small, rtol=1e-12)
    np.testing.assert_allclose(
        np.exp(process.log_variance("large", x, t))[:, 0], [small[0], *s.beta[[2, 71]]], rtol=1e-12
    )
    assert np.isfinite(Process(cosine_schedule(1)).log_variance("learned", x, 1, x)).all()


def test_split_variance():
    x, both = np.zeros((2, 3, 4)), np.arange(48.0).reshape(2, 6, 4)
    prediction, fraction = split_variance(both, x, "learned")
    np.testing.assert_array_equal(np.concatenate([prediction, fraction], axis=1), both)
    assert split_variance(x, x, "small")[1] is None
    with pytest.raises(
        ValueError, match=r"made \(2, 3, 4\) of x \(2, 3, 4\): it must make twice the channels"
    ):
        split_variance(x, x, "learned")


@pytest.mark.parametrize("t", [2, 21, 39])
def test_the_bound_is_least_at_the_true_variance(t):
    """For data N(0, s²) the variance of x_{t-1} given x_t is known: there the derivative of the term is 0,
    and on both sides of it the term is larger."""
    process, s = Process(cosine_schedule(40)), 0.5
    best = best_fraction(process.schedule, s, t)
    assert -1 < best < 1
    noise = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])  # of the data and of the step

    def term(fraction):
        x0 = s * noise[:, :1]
        x = process.diffuse(x0, t, noise[:, 1:])
        guess, _ = process.x0_and_eps(exact(process, 0, s)(x, np.full(4, t - 1)), x, t)
        log_variance = process.log_variance("learned", x, t, fraction * np.ones((4, 1)))
        return np.mean(step_bits(process, x0, t, guess, log_variance, None))

    assert grad(term)(Tensor(best, dtype=np.float64)).item() == pytest.approx(0, abs=1e-12)
    assert min(term(best - 0.1), term(best + 0.1)) > term(best)


def split_model(mean, fraction):
    """One of both split_variance by hand: ε from a weight `mean`, the variance from a weight `fraction`."""
    return lambda x, t: np.concatenate([np.tanh(x @ mean), np.tanh(x @ fraction)], axis=1)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_hybrid_loss(kind):
    """It is the simple loss plus the weighted bound, and the bound moves the variances alone."""
    process, rng = Process(linear_schedule(50), kind), np.random.default_rng(0)
    x0, noise = rng.integers(17, size=(4, 2)) / 8 - 1.0, rng.standard_normal((4, 2))
    mean, fraction = rng.standard_normal((2, 2, 2))
    t = np.array([1, 2, 31, 50])
    simple = lambda w: loss_at(process, lambda x, steps: np.tanh(x @ w), x0, t, noise)
    hybrid = lambda w, b: hybrid_loss_at(process, split_model(w, b), x0, t, noise, 17, 0.01)

    x = process.diffuse(x0, t, noise)
    guess, _ = process.x0_and_eps(np.tanh(x @ mean), x, t)
    log_variance = process.log_variance("learned", x, t, np.tanh(x @ fraction))
    bound = step_bits(process, x0, t, guess, log_variance, 17).mean()
    assert hybrid(mean, fraction) == pytest.approx(simple(mean) + 0.01 * 50 * bound, rel=1e-12)

    np.testing.assert_array_equal(grad(hybrid)(mean, fraction).data, grad(simple)(mean).data)
    assert gradcheck(lambda b: hybrid(mean, b), fraction)
    assert np.all(grad(hybrid, 1)(mean, fraction).data != 0)


def test_hybrid_loss_draws_as_the_simple_one():
    """On average over steps and noise too, weight 0 is the simple loss."""
    process, x0 = Process(linear_schedule(50)), np.zeros((6, 2), np.float32)
    model = split_model(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    seen = []

    def spy(x, t):
        seen.append(t)
        return model(x, t)

    hybrid_loss(process, spy, x0, rng=np.random.default_rng(3), levels=None)
    loss = hybrid_loss(process, spy, x0, rng=np.random.default_rng(3), levels=None, weight=0.0)
    assert loss == loss_at(
        process,
        lambda x, t: np.tanh(x),
        x0,
        1 + np.random.default_rng(3).integers(50, size=6),
        drawn_after_steps(x0),
    )
    np.testing.assert_array_equal(seen[0], seen[1])
    assert loss.dtype == np.float32


def drawn_after_steps(x0):
    rng = np.random.default_rng(3)
    rng.integers(50, size=len(x0))
    return rng.standard_normal(x0.shape, np.float32)


def test_an_int_is_the_seed_of_one_generator():
    """For the steps and their noise, and for all terms of the bound."""
    process, x0 = Process(cosine_schedule(20)), np.zeros((6, 2))
    model, twice = lambda x, t: np.tanh(x), split_model(np.eye(2), np.eye(2))
    for f in (
        lambda rng: bits_per_dim(process, model, x0, rng=rng, levels=None).total,
        lambda rng: hybrid_loss(process, twice, x0, rng=rng, levels=None),
        lambda rng: simple_loss(process, model, x0, rng=rng),
    ):
        assert f(5) == f(np.random.default_rng(5)) != f(6)


# -- errors ----------------------------------------------------------------------------------------


def test_errors():
    process, model = Process(linear_schedule(50)), lambda x, t: x
    with pytest.raises(ValueError, match=r"x0 must be on 17 levels from -1 to 1, got 0\.3 between them"):
        bits_per_dim(process, model, np.array([[0.125, 0.3]]), rng=Pairs(), levels=17)
    for beyond in (1.125, -1.125):
        with pytest.raises(ValueError, match=f"x0 must be on 17 levels from -1 to 1, got {beyond}"):
            bits_per_dim(process, model, np.array([[beyond]]), rng=Pairs(), levels=17)
    with pytest.raises(ValueError, match="at least 2 levels, -1 and 1, got 1"):
        bits_per_dim(process, model, np.zeros((1, 2)), rng=Pairs(), levels=1)
