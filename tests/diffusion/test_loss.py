"""The loss: by hand, its lower bound for Gaussian data, its gradient, and its random numbers."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn
from tinygen.diffusion import Process, cosine_schedule, linear_schedule, loss_at, min_snr, simple_loss


def test_by_hand():
    process, (x0, noise) = Process(linear_schedule(50)), np.random.default_rng(0).standard_normal((2, 3, 2))
    t = np.array([1, 31, 50])
    seen = {}

    def model(x, steps):
        seen.update(x=x, steps=steps)
        return Tensor(np.zeros_like(x))

    loss = loss_at(process, model, x0, t, noise)
    assert loss.item() == pytest.approx(np.square(noise).mean(), rel=1e-12)
    np.testing.assert_array_equal(seen["x"], process.diffuse(x0, t, noise))
    np.testing.assert_array_equal(seen["steps"], t - 1)  # networks count from 0


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_model_that_knows_pays_nothing(kind):
    process, (x0, noise) = (
        Process(cosine_schedule(50), kind),
        np.random.default_rng(0).standard_normal((2, 3, 2)),
    )
    t = np.array([1, 31, 50])
    assert loss_at(process, lambda x, steps: process.target(x0, noise, t), x0, t, noise) == 0


@pytest.mark.parametrize("t", [4, 26, 46])
def test_floor_for_gaussian_data(t):
    """For N(0, s²), Var(ε | x_t) = ᾱs²/(ᾱs² + 1 - ᾱ) is the least that any model pays. The mean of 50,000
    squares of a normal variable, within 5.5 of its standard deviations: 4e-8 each."""
    process, s, n, rng = Process(cosine_schedule(50)), 0.5, 50_000, np.random.default_rng(0)
    bar = process.schedule.alpha_bar[t]
    floor = bar * s**2 / (bar * s**2 + 1 - bar)
    best = lambda x, steps: x * math.sqrt(1 - bar) / (bar * s**2 + 1 - bar)
    x0, noise = s * rng.standard_normal((n, 1)), rng.standard_normal((n, 1))
    loss = loss_at(process, best, x0, np.full(n, t), noise)
    assert abs(loss - floor) < 5.5 * floor * math.sqrt(2 / n)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_gradient(kind):
    process, (x0, noise) = (
        Process(linear_schedule(50), kind),
        np.random.default_rng(0).standard_normal((2, 3, 2)),
    )
    t = np.array([1, 31, 50])
    weight = np.random.default_rng(1).standard_normal((2, 2))
    assert gradcheck(lambda w: loss_at(process, lambda x, steps: np.tanh(x @ w), x0, t, noise), weight)


def test_what_is_drawn():
    """A step for each, all of them about as often, with fresh noise; the same from the same seed."""
    process = Process(linear_schedule(25)).respace([5, 10, 15, 20, 25])
    steps = []

    def model(x, t):
        steps.append(t)
        return x

    x0 = np.zeros((5000, 2), np.float32)
    losses = [simple_loss(process, model, x0, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0].dtype == np.float32
    counts = np.bincount(steps[0], minlength=25)
    assert counts.sum() == 5000
    assert set(np.flatnonzero(counts)) == {4, 9, 14, 19, 24}  # as the network knows them
    # 5.5 standard deviations of a binomial count: 2e-7 for the five
    assert np.abs(counts[[4, 9, 14, 19, 24]] - 1000).max() < 5.5 * math.sqrt(5000 * 0.2 * 0.8)


@pytest.mark.parametrize("gamma", [1.0, 5.0, math.inf])
def test_min_snr_is_one_loss_whatever_is_predicted(gamma):
    """Three models that say the same about the data, in ε, x_0 and v, lose the same; and as long as the ratio
    is below its limit, what the one of ε loses has weight 1."""
    x0, noise, guess = np.random.default_rng(0).standard_normal((3, 5, 2))
    t = np.array([1, 6, 21, 31, 46])
    losses = []
    for kind in ("eps", "x0", "v"):
        process = Process(cosine_schedule(50), kind)
        model = lambda x, steps, p=process: p.target(guess, p.eps_of(guess, x, t), t)
        losses.append(loss_at(process, model, x0, t, noise, min_snr(process, gamma)))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-9)
    s = cosine_schedule(50)
    ratio = s.alpha_bar[1:] / (1 - s.alpha_bar[1:])
    np.testing.assert_allclose(
        min_snr(Process(s), gamma)[1:], np.where(ratio < gamma, 1, gamma / ratio), rtol=1e-12
    )
    assert min_snr(Process(s), gamma)[0] == 0  # no step
    wanted = np.mean(np.minimum(ratio[t - 1], gamma) * np.mean((guess - x0) ** 2, axis=1))
    assert losses[1] == pytest.approx(wanted, rel=1e-12)


def test_weights_are_taken_by_step():
    process, (x0, noise) = Process(linear_schedule(50)), np.random.default_rng(0).standard_normal((2, 3, 2))
    t, zero = np.array([1, 31, 50]), lambda x, steps: np.zeros_like(x)
    weights = np.arange(51.0)
    loss = loss_at(process, zero, x0, t, noise, weights)
    assert loss == pytest.approx(np.mean(t * np.mean(noise**2, axis=1)), rel=1e-12)
    draw = lambda weights: simple_loss(process, zero, x0, rng=np.random.default_rng(0), weights=weights)
    assert draw(np.ones(51)) == pytest.approx(draw(None), rel=1e-12)
    assert draw(np.full(51, 3.0)) == pytest.approx(3 * draw(None), rel=1e-12)


def test_a_module_gets_gradients():
    layer = nn.Linear(2, 2, rng=np.random.default_rng(0))
    x0 = np.ones((4, 2), np.float32)
    loss = simple_loss(Process(linear_schedule(50)), lambda x, t: layer(x), x0, rng=np.random.default_rng(0))
    loss.backward()
    assert loss.dtype == np.float32
    assert np.any(layer.weight.grad != 0)


def test_another_shape():
    x0 = np.ones((4, 2))
    with pytest.raises(ValueError, match=r"prediction \(4, 4\) and target \(4, 2\) must have one shape"):
        simple_loss(
            Process(linear_schedule(50)), lambda x, t: np.ones((4, 4)), x0, rng=np.random.default_rng(0)
        )
