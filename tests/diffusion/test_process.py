"""The process: one shot against step by step, the posterior against Gaussian algebra and Bayes' rule by
quadrature, the three predictions against each other."""

import itertools

import numpy as np
import pytest

from tinygen.diffusion import (
    Process,
    Schedule,
    cosine_schedule,
    linear_schedule,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)
from tinygen.ops.random import noise_like

SCHEDULES = [linear_schedule(40), sqrt_linear_schedule(40), cosine_schedule(40)]
KINDS = ("eps", "x0", "v")


def arrays(*shape, n=1, dtype=np.float64):
    made = np.random.default_rng(0).standard_normal((n, *shape)).astype(dtype)
    return tuple(made) if n > 1 else made[0]


# -- into noise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_step_by_step_is_one_shot(schedule):
    """Every step is linear in x and the noise. Row i of `linear_in` is how much x_t has of the data (i = 0),
    or of the noise of step i: so its mean and variance are known in closed form."""
    process = Process(schedule)
    linear_in = np.eye(len(schedule) + 1)[0]
    for t in range(1, len(schedule) + 1):
        linear_in = process.step(linear_in[:, None], t, np.eye(len(schedule) + 1)[t][:, None])[:, 0]
        one, zero = np.ones((1, 1)), np.zeros((1, 1))
        assert linear_in[0] == pytest.approx(process.diffuse(one, t, zero).item(), rel=1e-12)
        variance = np.square(linear_in[1:]).sum()
        assert variance == pytest.approx(process.diffuse(zero, t, one).item() ** 2, rel=1e-12)


def test_one_step_of_hand():
    """β = 0.36: 0.8 of x and 0.6 of the noise; after another with β = 0.75, 0.4 of x."""
    with pytest.warns(UserWarning, match="is left"):
        process = Process(Schedule([0.36, 0.75]))
    x, eps = np.array([[1.0, -2.0]]), np.array([[3.0, 1.0]])
    np.testing.assert_allclose(process.step(x, 1, eps), [[2.6, -1.0]], rtol=1e-15)
    np.testing.assert_allclose(process.diffuse(x, 1, eps), [[2.6, -1.0]], rtol=1e-15)
    np.testing.assert_allclose(process.diffuse(x, 2, 0 * eps), [[0.4, -0.8]], rtol=1e-15)
    np.testing.assert_allclose(process.diffuse(0 * x, 2, eps), eps * np.sqrt(0.84), rtol=1e-15)


# -- and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_is_gaussian_conditioning(schedule):
    """(x_{t-1}, x_t) given x0 is normal: the mean and variance of the first given the second follow from the
    two variances and the covariance, which follow from `diffuse` and `step`."""
    process, x0, x = Process(schedule), np.array([[0.7]]), np.array([[-1.3]])
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    for t in range(2, len(schedule) + 1):
        mean_before, mean = (process.diffuse(x0, u, zero).item() for u in (t - 1, t))
        var_before, var = (process.diffuse(zero, u, one).item() ** 2 for u in (t - 1, t))
        covariance = process.step(one, t, zero).item() * var_before
        got_mean, got_variance = process.posterior(x0, x, t)
        wanted = mean_before + covariance / var * (x.item() - mean)
        assert got_mean.item() == pytest.approx(wanted, rel=1e-10)
        assert got_variance.item() == pytest.approx(var_before - covariance**2 / var, rel=1e-9)


@pytest.mark.parametrize("t", [2, 6, 21, 39])
def test_posterior_is_bayes_rule(t):
    """q(x_{t-1} | x_t, x0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x0): its moments as sums over a fine grid."""
    s = cosine_schedule(40)
    x0, x = 0.4, 0.9
    mean, variance = (float(a) for a in Process(s).posterior(np.array(x0), np.array(x), t))
    grid = np.linspace(-9, 9, 200_001)
    before = np.exp(-0.5 * (grid - np.sqrt(s.alpha_bar[t - 1]) * x0) ** 2 / (1 - s.alpha_bar[t - 1]))
    density = before * np.exp(-0.5 * (x - np.sqrt(1 - s.beta[t]) * grid) ** 2 / s.beta[t])
    density /= density.sum()
    assert mean == pytest.approx((density * grid).sum(), rel=1e-8)
    assert variance == pytest.approx((density * (grid - mean) ** 2).sum(), rel=1e-8)


def test_posterior_of_the_first_step_is_the_data():
    x0, x = arrays(3, 2, n=2)
    mean, variance = Process(linear_schedule(100)).posterior(x0, x, 1)
    np.testing.assert_allclose(mean, x0, rtol=1e-11)
    assert variance == 0


# -- what the model predicts -----------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_x0_and_eps_undo_target(schedule, kind):
    """Up to the rounding of x_0 from ε, which is divided by α_t."""
    process = Process(schedule, kind)
    x0, eps = arrays(4, 3, n=2)
    for t in range(1, len(schedule) + 1):
        x = process.diffuse(x0, t, eps)
        got_x0, got_eps = process.x0_and_eps(process.target(x0, eps, t), x, t)
        np.testing.assert_allclose(got_x0, x0, rtol=0, atol=1e-14 / schedule.alpha[t])
        np.testing.assert_allclose(got_eps, eps, rtol=0, atol=1e-14 / schedule.sigma[t])


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(KINDS, 2)))
def test_predictions_go_into_each_other_and_back(kind, other):
    """For any prediction, right or wrong: converted to another kind and back, it is the same."""
    schedule = cosine_schedule(40)
    a, b = Process(schedule, kind), Process(schedule, other)
    prediction, x = arrays(4, 3, n=2)
    for t in range(1, 40):
        converted = b.target(*a.x0_and_eps(prediction, x, t), t)
        back = a.target(*b.x0_and_eps(converted, x, t), t)
        np.testing.assert_allclose(back, prediction, rtol=0, atol=1e-11)
        x0, eps = b.x0_and_eps(converted, x, t)
        np.testing.assert_allclose(a.diffuse(x0, t, eps), x, rtol=0, atol=1e-11)


def test_v_is_a_rotation():
    """(x, v) is (x0, ε) turned by the angle whose cosine is α_t: the length stays, and the turn by a
    right angle that adds to it is the derivative of x by the angle (Salimans & Ho 2022, appendix D)."""
    process = Process(cosine_schedule(40), "v")
    x0, eps = arrays(4, 3, n=2)
    for t in range(1, 41):
        x, v = process.diffuse(x0, t, eps), process.target(x0, eps, t)
        np.testing.assert_allclose(x**2 + v**2, x0**2 + eps**2, rtol=1e-12)
        angle, h = np.arctan2(process.schedule.sigma[t], process.schedule.alpha[t]), 1e-6
        turned = [np.cos(angle + d) * x0 + np.sin(angle + d) * eps for d in (-h, h)]
        np.testing.assert_allclose(v, (turned[1] - turned[0]) / (2 * h), atol=1e-8)


def test_what_each_kind_says():
    x0, eps = arrays(4, 3, n=2)
    assert Process(linear_schedule(40), "eps").target(x0, eps, 5) is eps
    assert Process(linear_schedule(40), "x0").target(x0, eps, 5) is x0
    assert Process(linear_schedule(40)).predicts == "eps"


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_pure_noise(kind):
    """If α_T = 0, then x_T is ε and v is -x_0, and the step back starts from the predicted x_0."""
    schedule = rescale_zero_terminal_snr(linear_schedule(40))
    process, (x0, eps) = Process(schedule, kind), arrays(4, 3, n=2)
    x, prediction = process.diffuse(x0, 40, eps), process.target(x0, eps, 40)
    np.testing.assert_array_equal(x, eps)
    np.testing.assert_array_equal(prediction, -x0 if kind == "v" else x0)
    for got, wanted in zip(process.x0_and_eps(prediction, x, 40), (x0, eps), strict=True):
        np.testing.assert_array_equal(got, wanted)
    mean, variance = process.posterior(x0, x, 40)
    np.testing.assert_allclose(mean, schedule.alpha[39] * x0, rtol=1e-15)
    assert variance == pytest.approx(schedule.sigma[39] ** 2, rel=1e-15)
    with pytest.raises(ValueError, match=r'zero-terminal SNR \(α_T = 0\), .* let the model predict "v"'):
        Process(schedule, "eps")


# -- shapes, dtypes, errors ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_for_each(kind, dtype):
    """A batch with steps (B,) is its members one by one, in the dtype of x."""
    process = Process(linear_schedule(40), kind)
    a, b = arrays(5, 2, 3, 4, n=2, dtype=dtype)
    t = np.array([1, 40, 8, 8, 21])
    together = {
        "step": process.step(a, t, b),
        "diffuse": process.diffuse(a, t, b),
        "posterior": process.posterior(a, b, t)[0],
        "target": process.target(a, b, t),
        "x0": process.x0_and_eps(a, b, t)[0],
        "eps": process.x0_and_eps(a, b, t)[1],
    }
    assert process.posterior(a, b, t)[1].shape == (5, 1, 1, 1)
    for i, u in enumerate(t):
        x, y = a[i : i + 1], b[i : i + 1]
        alone = {
            "step": process.step(x, u, y),
            "diffuse": process.diffuse(x, u, y),
            "posterior": process.posterior(x, y, u)[0],
            "target": process.target(x, y, u),
            "x0": process.x0_and_eps(x, y, u)[0],
            "eps": process.x0_and_eps(x, y, u)[1],
        }
        for name, value in alone.items():
            assert value.dtype == together[name].dtype == dtype, name
            np.testing.assert_array_equal(value[0], together[name][i], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_noise_has_the_digits_of_its_dtype(dtype):
    """The noise is equal to NumPy's. If NumPy cannot draw in a dtype, it is drawn in float32."""
    noise = noise_like(np.zeros((4, 3), dtype), np.random.default_rng(0))
    assert noise.dtype == dtype
    drawn = np.float64 if dtype == np.float64 else np.float32
    wanted = np.random.default_rng(0).standard_normal((4, 3), drawn).astype(dtype)
    np.testing.assert_array_equal(noise, wanted)


def test_respaced():
    process = Process(linear_schedule(100), "v").respace([10, 50, 100])
    assert process.predicts == "v"
    x0, eps = arrays(4, 3, n=2)
    for i, t in enumerate([10, 50, 100], 1):
        np.testing.assert_allclose(
            process.diffuse(x0, i, eps), Process(linear_schedule(100)).diffuse(x0, t, eps), rtol=1e-12
        )


def test_errors():
    with pytest.raises(ValueError, match='predicts must be "eps", "x0" or "v", got \'epsilon\''):
        Process(linear_schedule(100), "epsilon")
    process, x = Process(linear_schedule(100)), arrays(4, 3)
    for t in (0, -1, 101, [1, 2, 3, 0]):
        with pytest.raises(IndexError, match=r"t must be within 1 \.\. 100"):
            process.diffuse(x, t, x)
    with pytest.raises(ValueError, match=r"one for each of x \(4, 3\), got shape \(3,\)"):
        process.diffuse(x, [1, 2, 3], x)
    with pytest.raises(TypeError, match="a diffusion needs floats, got uint8"):
        process.diffuse(x.astype(np.uint8), 3, x)
