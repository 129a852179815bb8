"""Schedules: the constants of the papers, ᾱ step by step, respacing, and the warning."""

import math
import warnings

import numpy as np
import pytest

from tinygen.diffusion import (
    Schedule,
    cosine_schedule,
    evenly_spaced,
    linear_schedule,
    rescale_zero_terminal_snr,
    sqrt_linear_schedule,
)

ALL = (linear_schedule, sqrt_linear_schedule, cosine_schedule)


def test_linear_has_the_constants_of_ddpm():
    s = linear_schedule(1000)
    assert len(s) == 1000
    assert s.beta[1] == 1e-4
    assert s.beta[1000] == 0.02
    np.testing.assert_allclose(np.diff(s.beta[1:]), (0.02 - 1e-4) / 999, rtol=1e-9)
    assert s.alpha_bar[1000] == pytest.approx(math.exp(sum(math.log1p(-b) for b in s.beta)), rel=1e-12)


def test_linear_ends_in_noise():
    """KL(q(x_T | x0) ‖ N(0, 1)) is about 1e-5 bits a dimension for pictures in [-1, 1] (Ho et al. 2020,
    section 4); for a pixel at the end of the range it is 3e-5."""
    left = linear_schedule(1000).alpha_bar[1000]
    bits = 0.5 * (left * 1.0 + (1 - left) - 1 - math.log1p(-left)) / math.log(2)
    assert 1e-5 < bits < 4e-5


@pytest.mark.parametrize(
    ("schedule", "alpha"),
    [
        (linear_schedule(1000), "0.0064"),
        (linear_schedule(200), "0.0055"),
        (linear_schedule(100), "0.0045"),
        (linear_schedule(50), "0.0028"),
        (sqrt_linear_schedule(1000), "0.0119"),
        (cosine_schedule(1000), "0.00005"),
        (cosine_schedule(200), "0.0002"),
        (cosine_schedule(50), "0.0010"),
    ],
)
def test_what_is_left_of_the_data(schedule, alpha):
    """sqrt(ᾱ_T) to the digits given, and computed apart with logarithms."""
    assert f"{schedule.alpha[-1]:.{len(alpha) - 2}f}" == alpha
    assert schedule.alpha[-1] == pytest.approx(math.exp(0.5 * np.log1p(-schedule.beta).sum()), rel=1e-10)


def test_linear_is_rescaled():
    s = linear_schedule(250)
    assert s.beta[1] == pytest.approx(4e-4, rel=1e-15)
    assert s.beta[250] == pytest.approx(0.08, rel=1e-15)


def test_sqrt_linear():
    s = sqrt_linear_schedule(1000)
    assert s.beta[1] == pytest.approx(0.0015, rel=1e-14)
    assert s.beta[1000] == pytest.approx(0.0195, rel=1e-14)
    assert s.beta[501] < linear_schedule(1000, 0.0015, 0.0195).beta[501]
    np.testing.assert_allclose(
        np.diff(np.sqrt(s.beta[1:])), (math.sqrt(0.0195) - math.sqrt(0.0015)) / 999, rtol=1e-9
    )
    assert sqrt_linear_schedule(500).beta[500] == pytest.approx(0.039, rel=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_cosine_is_the_papers_formula(steps):
    """ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s)·π/2), t = 0 ... T; only the last β is clipped."""
    s = cosine_schedule(steps)
    f = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    np.testing.assert_allclose(s.alpha_bar[:-1], np.array(f[:-1]) / f[0], rtol=1e-9)
    assert s.beta[-1] == 0.999
    assert np.all(s.beta[:-1] < 0.999)


def test_offset_of_cosine():
    """The paper chose it so that sqrt(β_1) is slightly smaller than the distance of two pixel values."""
    assert 0.8 / 127.5 < math.sqrt(cosine_schedule(1000).beta[1]) < 1 / 127.5
    assert math.sqrt(cosine_schedule(1000, offset=0).beta[1]) < 0.3 / 127.5


@pytest.mark.parametrize("schedule", ALL)
def test_what_follows_from_beta(schedule):
    s, product = schedule(300), 1.0
    assert (s.beta[0], s.alpha_bar[0], s.alpha[0], s.sigma[0]) == (0, 1, 1, 0)  # the data
    for t in range(1, 301):
        product *= 1 - s.beta[t]
        assert s.alpha_bar[t] == product
        assert s.alpha[t] ** 2 + s.sigma[t] ** 2 == pytest.approx(1, abs=1e-15)
    assert all(a.shape == (301,) for a in vars(s).values())
    assert all(a.dtype == np.float64 for name, a in vars(s).items() if name != "timesteps")
    np.testing.assert_array_equal(s.timesteps[1:], np.arange(300))  # networks count from 0
    assert s.posterior_variance[1] == 0
    assert s.posterior_from_x[1] == 0
    assert s.posterior_from_x0[1] == pytest.approx(1, rel=1e-11)
    for name in ("posterior_variance", "posterior_from_x", "posterior_from_x0", "log_small", "log_large"):
        assert np.isnan(getattr(s, name)[0]), name  # there is no step to before the data
        assert np.all(np.isfinite(getattr(s, name)[1:])), name


# -- respacing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("steps", [[4, 5, 18, 151, 300], [300], evenly_spaced(300, 7), range(1, 301)])
def test_respacing_keeps_what_is_left(schedule, steps):
    """To the rounding of β, which leaves 1e-16 of ᾱ = 1 where β is all but 1."""
    s = schedule(300)
    short = s.respace(steps)
    assert len(short) == len(steps)
    np.testing.assert_allclose(short.alpha_bar[1:], s.alpha_bar[list(steps)], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(short.timesteps[1:], np.array(steps) - 1)
    again = short.respace([len(steps)])
    np.testing.assert_allclose(again.alpha_bar[1:], s.alpha_bar[-1:], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(again.timesteps[1:], [299])  # the number that the network is given


def test_all_steps_kept_are_the_same():
    np.testing.assert_allclose(
        cosine_schedule(50).respace(range(1, 51)).beta, cosine_schedule(50).beta, rtol=1e-9
    )


def test_evenly_spaced():
    np.testing.assert_array_equal(evenly_spaced(1000, 5), [200, 400, 600, 800, 1000])
    np.testing.assert_array_equal(evenly_spaced(10, 10), range(1, 11))
    np.testing.assert_array_equal(evenly_spaced(10, 1), [10])
    for n in range(1, 38):
        steps = evenly_spaced(37, n)
        assert len(steps) == n
        assert steps[0] >= 1
        assert steps[-1] == 37
        assert np.all(np.diff(steps) > 0)
    for n in (0, 11):
        with pytest.raises(ValueError, match=rf"n must be within 1 \.\. 10, .*, got {n}"):
            evenly_spaced(10, n)


# -- errors and warnings ---------------------------------------------------------------------------


def test_the_warning_points_at_the_caller():
    with pytest.warns(UserWarning, match="of the data is left") as caught:
        Schedule(np.linspace(1e-4, 0.02, 100))
    assert [warning.filename for warning in caught] == [__file__]


def test_a_warning_when_data_is_left():
    with pytest.warns(UserWarning, match=r"60\.3% of the data is left in the last step"):
        Schedule(np.linspace(1e-4, 0.02, 100))  # not rescaled
    with pytest.warns(UserWarning, match=r"6\.8% of the data"):
        sqrt_linear_schedule(1000, 0.00085, 0.012)  # Stable Diffusion's
    with pytest.warns(UserWarning, match="keep the last step"):
        linear_schedule(1000).respace([1, 201])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for schedule in ALL:
            for steps in (25, 100, 1000, 4000):
                schedule(steps)


@pytest.mark.parametrize(
    "betas", [[0.0, 0.5], [1.0, 0.5], [0.5, 1.0, 0.5], [0.5, 1.1], [0.5, -0.1], [0.5, math.nan]]
)
def test_betas_out_of_range(betas):
    with pytest.raises(ValueError, match="betas must be above 0 and below 1"):
        Schedule(betas)


@pytest.mark.parametrize("betas", [[], 0.5, [[0.5]]])
def test_betas_of_another_shape(betas):
    with pytest.raises(ValueError, match=r"betas must be \(T,\) with T at least 1"):
        Schedule(betas)


def test_too_few_steps_for_linear():
    with pytest.raises(ValueError, match=r"got 0\.005 \.\. 1: take more steps, or `cosine_schedule`"):
        linear_schedule(20)


@pytest.mark.parametrize("steps", [[], [3, 2], [3, 3], [0.5], [[1]], 7])
def test_steps_that_do_not_rise(steps):
    with pytest.raises(ValueError, match="steps to keep must be whole numbers in rising order"):
        linear_schedule(100).respace(steps)


@pytest.mark.parametrize("steps", [[0, 5], [5, 101]])
def test_steps_that_are_not_there(steps):
    with pytest.raises(ValueError, match=r"steps to keep must be within 1 \.\. 100"):
        linear_schedule(100).respace(steps)


@pytest.mark.parametrize("make", [linear_schedule, sqrt_linear_schedule, cosine_schedule])
@pytest.mark.parametrize("steps", [0, -3])
def test_a_schedule_without_steps_is_refused(make, steps):
    with pytest.raises(ValueError, match=f"at least 1 step, got {steps}"):
        make(steps)


# -- zero-terminal SNR -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        linear_schedule(1000),
        sqrt_linear_schedule(250),
        cosine_schedule(50),
        linear_schedule(100).respace([1, 100]),
    ],
)
def test_rescaled_to_zero_terminal_snr(schedule):
    """α_T is 0 exactly and α_1 as before; between them the distances are all scaled alike."""
    s = rescale_zero_terminal_snr(schedule)
    assert s.alpha[-1] == s.alpha_bar[-1] == 0
    assert (s.beta[-1], s.sigma[-1]) == (1, 1)
    assert s.alpha[1] == pytest.approx(schedule.alpha[1], rel=1e-15)
    stretch = schedule.alpha[1] / (schedule.alpha[1] - schedule.alpha[-1])
    wanted = stretch * (schedule.alpha[1:] - schedule.alpha[-1])
    np.testing.assert_allclose(s.alpha[1:], wanted, rtol=1e-10, atol=1e-15)
    np.testing.assert_array_equal(s.timesteps, schedule.timesteps)
    for name in ("posterior_variance", "posterior_from_x", "posterior_from_x0", "log_small", "log_large"):
        assert np.all(np.isfinite(getattr(s, name)[1:])), name
    assert (s.posterior_from_x[-1], s.posterior_from_x0[-1]) == (0, s.alpha[-2])
    assert s.respace([1, len(s)]).alpha_bar[-1] == 0


def test_one_step_cannot_be_rescaled():
    with pytest.raises(ValueError, match="needs at least 2 steps"):
        rescale_zero_terminal_snr(cosine_schedule(1))
