"""Alignment at its edges: probabilities that are 0, ratios beyond float32, groups that agree, empty masks.

Every expectation is exact: a limit, a closed form, or the sum over all draws.
"""

import math
from fractions import Fraction

import numpy as np
import pytest

from tinygen import Tensor, ops
from tinygen.align import best_of_n, dpo, grpo, kl, ppo, reinforce, rollouts, world

LN2 = math.log(2)
HALVES = np.array([[-LN2, -LN2, -np.inf]])  # (1, 3): probabilities 1/2, 1/2, 0
THIRDS = np.full((1, 3), -math.log(3))

# -- 0 ln 0 is 0 ---------------------------------------------------------------------------------------


def test_divergence_and_entropy_of_certain_distributions():
    with np.errstate(invalid="raise"):
        assert world.kl(HALVES, THIRDS) == pytest.approx(math.log(3 / 2), rel=1e-12)
        assert world.kl(HALVES, HALVES) == 0
        assert world.kl(THIRDS, HALVES) == np.inf
        assert ops.entropy(HALVES) == pytest.approx(LN2, rel=1e-12)
        assert ops.entropy(np.array([[0.0, -np.inf]])) == 0
        assert world.expectation(HALVES, np.array([[1.0, 3.0, -np.inf]])) == 2


@pytest.mark.parametrize("of_logits", [False, True])
def test_gradient_of_the_divergence_where_p_is_0(of_logits):
    """d KL/d ln p = p (ln p/q + 1), 0 where p is; through log_softmax it is p (ln p/q - KL)."""
    x = Tensor(HALVES, requires_grad=True)
    log_q = Tensor(np.log([[0.5, 0.25, 0.25]]), requires_grad=True)
    ops.kl_categorical(ops.log_softmax(x) if of_logits else x, log_q).backward()
    log_ratio = np.array([[0, LN2, 0]])
    slope = log_ratio - LN2 / 2 if of_logits else log_ratio + 1
    np.testing.assert_allclose(x.grad, slope * [[0.5, 0.5, 0]], atol=1e-12)
    np.testing.assert_allclose(log_q.grad, [[-0.5, -0.5, 0]], atol=1e-12)


def test_gradient_of_the_entropy_where_p_is_0():
    x = Tensor(np.array([[math.log(0.25), math.log(0.75), -np.inf]]), requires_grad=True)
    ops.entropy(ops.log_softmax(x)).backward()
    slope = 0.25 * 0.75 * math.log(3)  # of H(σ(z)) by z, at p = 1/4
    np.testing.assert_allclose(x.grad, [[slope, -slope, 0]], atol=1e-12)


# -- best of n -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 64, 108, 1000, 10**6])
def test_best_of_any_n(n):
    """Beside fractions: F^n - F(s-)^n is below the smallest float64 for the worst score from n = 1,075 on."""
    p = [Fraction(1, 2), Fraction(1, 8), Fraction(3, 8), Fraction(0)]
    scores = np.array([[0.0, 1.0, 1.0, 2.0]])
    log_p = np.array([[float(x) and math.log(x) for x in p]])
    log_p[0, 3] = -np.inf
    with np.errstate(divide="raise"):  # the logarithm of 0 is meant, and no warning
        best = best_of_n.best_of_n_log_probs(log_p, scores, n)[0]
    assert best[0] == pytest.approx(-n * LN2, rel=1e-12)  # all n draws are the worst
    if n <= 1000:
        rest = 1 - Fraction(1, 2) ** n
        assert best[1] == pytest.approx(math.log(rest / 4), rel=1e-12)
        assert best[2] == pytest.approx(math.log(rest * 3 / 4), rel=1e-12)
    assert best[3] == -np.inf
    assert np.exp(best).sum() == pytest.approx(1, rel=1e-12)


def test_the_bound_is_not_reached_where_single_responses_are_probable():
    log_p, scores = np.full((1, 2), -LN2), np.array([[0.0, 1.0]])
    assert world.kl(best_of_n.best_of_n_log_probs(log_p, scores, 64), log_p) == pytest.approx(LN2, rel=1e-12)
    assert best_of_n.kl_bound(64) == pytest.approx(math.log(64) - 63 / 64)


def test_best_of_none_is_refused():
    with pytest.raises(ValueError, match="n of at least 1, got 0"):
        best_of_n.best_of_n_log_probs(HALVES, np.zeros((1, 3)), 0)


@pytest.mark.parametrize(
    "f",
    [
        lambda scores: best_of_n.best_of_n_log_probs(HALVES, scores, 2),
        lambda scores: world.accuracy(HALVES, np.zeros((1, 3)), scores),
        lambda scores: world.accuracy(HALVES, scores, np.zeros((1, 3))),
    ],
)
def test_scores_of_more_prompts_are_refused(f):
    with pytest.raises(ValueError, match="longer than"):
        f(np.zeros((2, 3)))


# -- ratios beyond float32 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advantage", "log_ratio", "value", "slope"),
    [
        (2.0, 200.0, 2.4, 0.0),  # a gain beyond 1 + ε: it does not count
        (2.0, -200.0, 0.0, 0.0),
        (-2.0, -200.0, -1.6, 0.0),  # a loss avoided beyond 1 - ε: no more of it
        (-2.0, 1.0, -2 * math.e, -2 * math.e),
        (0.0, 200.0, 0.0, 0.0),
        (2.0, 0.1, 2 * math.exp(0.1), 2 * math.exp(0.1)),
    ],
)
def test_surrogate(advantage, log_ratio, value, slope):
    x = Tensor(np.full((1, 1), log_ratio, np.float32), requires_grad=True)
    with np.errstate(over="raise", invalid="raise"):
        gain = ppo.surrogate(x, np.full((1, 1), advantage, np.float32), 0.2)
        gain.backward()
    assert gain.item() == pytest.approx(value, rel=1e-6)
    assert x.grad.item() == pytest.approx(slope, rel=1e-6)


def test_surrogate_is_the_papers():
    """min(ρ A, clip(ρ, 1 - ε, 1 + ε) A), eq. 7, literally, for any ε."""
    rng = np.random.default_rng(0)
    log_ratio, advantages = rng.standard_normal((2, 1000))
    ratio = np.exp(log_ratio)
    for clip in (0.2, 1.0, 1.5):
        expected = np.minimum(ratio * advantages, np.clip(ratio, 1 - clip, 1 + clip) * advantages)
        if clip > 1:  # a ratio is never below 0
            expected = np.minimum(ratio * advantages, np.clip(ratio, 0, 1 + clip) * advantages)
        np.testing.assert_allclose(ppo.surrogate(log_ratio, advantages, clip), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["PPO", "GRPO"])
def test_a_gradient_beside_a_huge_ratio(method):
    """The policy has moved far, to the advantage's good: nothing pulls on it, and nothing is NaN."""
    new, old = Tensor(np.zeros((1, 2), np.float32), requires_grad=True), np.array([[-200, 0]], np.float32)
    advantage, mask = np.ones(1, np.float32), np.ones((1, 2), bool)
    if method == "PPO":
        loss = ppo.policy_loss(new, old, advantage[:, None], mask)
    else:
        loss = grpo.grpo_loss(new, old, new.numpy(), advantage, mask)
    loss.backward()
    np.testing.assert_allclose(loss.item(), -(1.2 + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(new.grad, [[0, -0.5]], rtol=1e-6)


# -- groups that agree ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reward", [0.1, -1 / 3, 1e6 + 0.1])
def test_equal_rewards_teach_exactly_nothing(reward, dtype):
    equal = np.full((2, 7), reward, dtype)
    assert not grpo.group_advantages(equal).any()
    assert not reinforce.leave_one_out(equal).any()
    assert not ppo.whiten(equal, np.ones((2, 7), bool)).any()
    np.testing.assert_array_equal(ppo.whiten(equal, np.ones((2, 7), bool), shift_mean=False), equal)


def test_rewards_with_a_large_offset():
    """In float32, 1e6 + r has steps of 1/16: the advantages must equal the advantages of r alone."""
    r = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    for method in (grpo.group_advantages, reinforce.leave_one_out):
        np.testing.assert_allclose(method(r + np.float32(1e6)), method(r), rtol=1e-6)


# -- nothing to take the mean of -----------------------------------------------------------------------


def test_empty_responses_are_refused():
    mask, x, one = np.array([[True, True], [False, False]]), np.zeros((2, 2)), np.ones(2)
    with pytest.raises(ValueError, match="no response"):
        grpo.grpo_loss(x, x, x, one, mask)
    with pytest.raises(ValueError, match="no response"):
        dpo.response_log_probs(x, mask, length_normalize=True)
    with pytest.raises(ValueError, match="no response"):
        rollouts.last_true(mask)
    for mean in (rollouts.masked_mean, ppo.whiten):
        with pytest.raises(ValueError, match="False everywhere"):
            mean(x, np.zeros((2, 2), bool))


@pytest.mark.parametrize("divergence", [np.nan, np.inf])
def test_the_adaptive_coefficient_refuses_what_would_spoil_it(divergence):
    adaptive = kl.AdaptiveKL(0.15)
    with pytest.raises(ValueError, match=r"stays 0\.15"):
        adaptive.update(divergence, 8)
    assert adaptive.beta == 0.15
