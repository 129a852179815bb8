"""Inpainting of Gaussian data by the exact model. The result is an affine function of the random numbers. A
batch in which each row has one of these numbers at 1 and the others at 0 shows the whole map. So the mean
and covariance of the result are known in closed form, and so are the expected ones."""

import math

import numpy as np
import pytest

from tinygen.diffusion import Process, ancestral_sampling, cosine_schedule, inpaint, last_state
from tinygen.diffusion.inpaint import visited_times

MEAN = np.array([0.3, -0.5, 0.2])
COVARIANCE = np.array([[1.0, 0.7, 0.3], [0.7, 0.8, -0.1], [0.3, -0.1, 0.5]])
MASK, KNOWN = np.array([True, False, False]), np.array([1.4, np.pi, -np.pi])  # one number of three


def exact(process):
    """ε as the best model predicts it: x_t is N(α·mean, α²·covariance + σ²). Networks count from 0."""

    def model(x, t):
        a, n = process.schedule.alpha[t[0] + 1], process.schedule.sigma[t[0] + 1]
        return n * np.linalg.solve(a**2 * COVARIANCE + n**2 * np.eye(3), (x - a * MEAN).T).T

    return model


class OneByOne(np.random.Generator):
    """For a batch of 1 + n rows: of all the numbers drawn for a row, the first n
    are counted, and the i-th is 1 in row i (from 1) alone."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.drawn = 0

    def standard_normal(self, shape, dtype):
        noise = np.zeros(shape, dtype)
        ours = 1 + self.drawn + np.arange(shape[1])
        noise[ours, np.arange(shape[1])] = 1
        self.drawn += shape[1]
        return noise


class Zero(np.random.Generator):
    """A generator whose every draw is 0."""

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


def moments(sample, draws):
    """Mean and covariance of what sample(x, rng) makes, with 3·draws numbers drawn for a row, x included."""
    rng = OneByOne()
    shape = (1 + 3 * draws, 3)
    rows = sample(rng.standard_normal(shape, float), rng)
    assert rng.drawn == 3 * draws
    assert np.all(rows[:, MASK] == KNOWN[MASK])
    response = rows[1:] - rows[0]
    return rows[0], response.T @ response


def painted(process, repeats=1, jump=1):
    """Mean (2,) and covariance (2, 2) of the two numbers that are filled in."""
    visits = list(visited_times(len(process.schedule), repeats, jump))
    up, down = (int(np.sum(sign * np.diff(visits) > 0)) for sign in (1, -1))
    draws = 1 + up + 2 * down - 1  # x; in a step down the known part's noise and its own, but for the last

    def sample(x, rng):
        known = np.tile(KNOWN, (len(x), 1))
        states = inpaint(process, exact(process), x, known, MASK, rng=rng, repeats=repeats, jump=jump)
        return last_state(states)

    mean, covariance = moments(sample, draws)
    return mean[1:], covariance[1:, 1:]


def truth():
    """Of N(mean, covariance) where its first number is known: by Gaussian conditioning."""
    gain = COVARIANCE[1:, :1] / COVARIANCE[0, 0]
    mean = MEAN[1:] + gain[:, 0] * (KNOWN[0] - MEAN[0])
    return mean, COVARIANCE[1:, 1:] - gain * COVARIANCE[0, 1:]


def divergence(mean, covariance):
    """KL from the true distribution to this one, in nats."""
    m, c = truth()
    inverse, off = np.linalg.inv(covariance), m - mean
    volume = np.linalg.det(covariance) / np.linalg.det(c)
    return 0.5 * (np.trace(inverse @ c) - 2 + off @ inverse @ off + math.log(volume))


def test_plain_inpainting_is_its_recursion():
    """Mean and covariance of x_t, step by step: the known part has the mean and covariance of its own
    noise, and no correlation with the rest; then the exact model makes its affine step."""
    process, one = Process(cosine_schedule(40)), np.eye(3)
    s = process.schedule
    mean, covariance = np.zeros(3), one
    for t in range(40, 0, -1):
        mean, covariance = mean.copy(), covariance.copy()
        mean[0], covariance[0], covariance[:, 0] = s.alpha[t] * KNOWN[0], 0, 0
        covariance[0, 0] = s.sigma[t] ** 2
        noisy = s.alpha[t] ** 2 * COVARIANCE + s.sigma[t] ** 2 * one
        gain = s.alpha[t] * COVARIANCE @ np.linalg.inv(noisy)  # of x0 by x_t
        slope = s.posterior_from_x0[t] * gain + s.posterior_from_x[t] * one
        shift = s.posterior_from_x0[t] * (MEAN - s.alpha[t] * gain @ MEAN)
        mean, covariance = slope @ mean + shift, slope @ covariance @ slope.T + s.posterior_variance[t] * one
    got = painted(process)
    np.testing.assert_allclose(got[0], mean[1:], atol=1e-11)
    np.testing.assert_allclose(got[1], covariance[1:, 1:], atol=1e-11)


def test_repainting_comes_nearer_to_the_truth():
    """KL from the true conditional distribution: plain blending stays off it however many steps it takes
    (0.21, 0.17, 0.16 nats for 20, 40, 80), RePaint comes the nearer the more it repeats (0.041, 0.018)."""
    plain = [divergence(*painted(Process(cosine_schedule(n)))) for n in (20, 40, 80)]
    repainted = [divergence(*painted(Process(cosine_schedule(40)), r, 5)) for r in (2, 5)]
    assert plain[0] > plain[1] > plain[2] > 0.1
    assert repainted[0] < plain[1] / 3
    assert repainted[1] < repainted[0] / 2
    assert divergence(*truth()) == pytest.approx(0, abs=1e-12)


def test_all_known_or_nothing():
    """All known is the data back; with nothing known it is ancestral sampling, with other draws."""
    process, rng = Process(cosine_schedule(20)), np.random.default_rng(0)
    x, known = rng.standard_normal((2, 4, 3))
    np.testing.assert_array_equal(
        last_state(inpaint(process, exact(process), x, known, True, rng=rng, repeats=3, jump=5)), known
    )
    zero = Zero(np.random.PCG64(0))
    got = list(inpaint(process, exact(process), x, known, False, rng=zero))
    np.testing.assert_array_equal(got, list(ancestral_sampling(process, exact(process), x, rng=zero)))


def test_pictures():
    """(B, C, H, W) in float32, with a mask (H, W) for all; the same from the same seed."""
    rng = np.random.default_rng(0)
    x, known = rng.standard_normal((2, 2, 3, 4, 4)).astype(np.float32)
    mask = np.arange(4) < 2
    options = {"repeats": 2, "jump": 4, "clip": 1.0}

    def draw(seed):
        return last_state(
            inpaint(Process(cosine_schedule(20)), lambda x, t: x, x, known, mask, rng=seed, **options)
        )

    got = draw(1)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[..., :2], known[..., :2])
    assert np.all(got[..., 2:] != known[..., 2:])
    np.testing.assert_array_equal(draw(1), got)
    np.testing.assert_array_equal(draw(np.random.default_rng(1)), got)
    assert np.any(draw(2) != got)


def test_visited_times():
    """By hand: six steps, twice, jumps of two (from 1 to 3, and from 3 to 5)."""
    assert list(visited_times(6, 2, 2)) == [6, 5, 4, 3, 4, 5, 4, 3, 2, 1, 2, 3, 2, 1, 0]
    assert list(visited_times(4, 1, 2)) == [4, 3, 2, 1, 0]
    assert list(visited_times(3, 3, 1)) == [3, 2, 3, 2, 3, 2, 1, 2, 1, 2, 1, 0]
    assert list(visited_times(1, 5, 10)) == [1, 0]


def test_all_states_are_yielded():
    """One for each move of `visited_times`, up or down; only the last one has the known part without
    noise."""
    process, rng = Process(cosine_schedule(6)), np.random.default_rng(0)
    x, known = rng.standard_normal((2, 4, 3))
    states = list(inpaint(process, exact(process), x, known, MASK, rng=rng, repeats=2, jump=2))
    assert len(states) == len(list(visited_times(6, 2, 2))) - 1
    assert [bool(np.all(state[:, MASK] == known[:, MASK])) for state in states] == [False] * 13 + [True]


def test_errors():
    process, x, rng = Process(cosine_schedule(20)), np.zeros((2, 3)), np.random.default_rng(0)
    for repeats, jump in ((0, 10), (2, 0)):
        with pytest.raises(ValueError, match=f"must be at least 1, got {repeats} and {jump}"):
            next(inpaint(process, lambda x, t: x, x, x, True, rng=rng, repeats=repeats, jump=jump))
