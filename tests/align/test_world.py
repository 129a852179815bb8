"""The exact world: its results are compared with sums written out, and must satisfy known laws."""

import itertools
import math

import numpy as np
import pytest
from policies import gpt, small_world, table_for

from tinygen import no_grad
from tinygen.align.best_of_n import best_of_n_log_probs, kl_bound, pick_best
from tinygen.align.rollouts import token_log_probs
from tinygen.align.world import (
    World,
    accuracy,
    draw_responses,
    every_sequence,
    expectation,
    frontier,
    kl,
    log_normalize,
    optimum,
    optimum_of_divergence,
    preference,
    total_variation,
)

WORLD = small_world()


def reference(world=WORLD, seed=0):
    with no_grad():
        return world.log_probs(table_for(world, seed)).numpy()


# -- every response --------------------------------------------------------------------------------


def test_every_sequence_in_order():
    expected_rows = list(itertools.product(range(3), repeat=4))
    np.testing.assert_array_equal(every_sequence(3, 4), expected_rows)
    np.testing.assert_array_equal(WORLD.number(WORLD.responses), np.arange(27))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("length", [1, 3])
def test_log_probs_are_those_of_each_text_on_its_own(length, temperature):
    world = World([[2, 0], [1, 3]], 4, length, lambda prompt, responses: np.zeros(len(responses)))
    policy = gpt()
    with no_grad():
        every = world.log_probs(policy, temperature).numpy()
        n, r = np.indices(every.shape).reshape(2, -1)
        single = token_log_probs(policy, world.tokens(n, r), temperature).numpy()[:, 1:].sum(axis=1)
    np.testing.assert_allclose(every.ravel(), single, rtol=1e-12)
    np.testing.assert_allclose(np.exp(every).sum(axis=1), 1, rtol=1e-12)


def test_draws_have_their_frequencies():
    """Counts of 200,000 draws, each within 7 standard deviations and 1: the rarest is expected
    90 times, for which that is less than 1e-9."""
    log_p, n = reference(), 200_000
    drawn = draw_responses(log_p, np.repeat([0, 1], n // 2), rng=0)
    for i, half in enumerate((drawn[: n // 2], drawn[n // 2 :])):
        p = np.exp(log_p[i])
        off = np.abs(np.bincount(half, minlength=27) - n / 2 * p)
        assert np.all(off < 7 * np.sqrt(n / 2 * p * (1 - p)) + 1)


@pytest.mark.parametrize(("value", "wanted"), [(0.0, [1, 0]), (np.nextafter(1.0, 0.0), [2, 1])])
def test_what_has_no_probability_is_never_drawn(value, wanted):
    """Not even at the ends, where the number that decides is 0, or almost 1."""
    log_p = np.log(np.array([[1e-300, 0.25, 0.75, 1e-300], [0.5, 0.5, 1e-300, 1e-300]]))
    log_p[log_p < -600] = -np.inf

    class Ends(np.random.Generator):
        def random(self, n):
            return np.full(n, value)

    drawn = draw_responses(log_p, np.array([0, 1]), rng=Ends(np.random.PCG64(0)))
    np.testing.assert_array_equal(drawn, wanted)


def test_the_odds_by_hand():
    assert preference(2.0, 1.0, 0.5) == pytest.approx(1 / (1 + math.exp(-2)))
    assert preference(1.0, 2.0) == pytest.approx(1 / (1 + math.e))


def test_preferences_are_bradley_terry():
    """Of 100,000 comparisons, how often the higher reward wins: within 5.5 standard deviations, 4e-8."""
    log_p, n = reference(), 100_000
    prompt, winner, loser = WORLD.preferences(log_p, n, temperature=0.5, rng=0)
    won, lost = WORLD.rewards[prompt, winner], WORLD.rewards[prompt, loser]
    share = np.mean((won > lost) + 0.5 * (won == lost))
    bayes = accuracy(log_p, WORLD.rewards, WORLD.rewards, temperature=0.5)
    assert abs(share - bayes) < 5.5 * math.sqrt(bayes * (1 - bayes) / n)


# -- the best there is -----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 10.0])
def test_no_policy_beats_the_optimum(beta):
    """The objective is β ln Z - β KL(π ‖ π*): so with π* it is β ln Z, and with any other that much less."""
    ref, rewards = reference(), WORLD.rewards
    best = optimum(ref, rewards, beta)
    log_z = np.log((np.exp(ref + rewards / beta)).sum(axis=1)).mean()
    assert expectation(best, rewards) - beta * kl(best, ref) == pytest.approx(beta * log_z, rel=1e-12)
    for seed in range(1, 6):
        other = reference(seed=seed)
        objective = expectation(other, rewards) - beta * kl(other, ref)
        assert objective == pytest.approx(beta * log_z - beta * kl(other, best), rel=1e-9)


def test_the_frontier_is_above_everyone():
    ref, rewards = reference(), WORLD.rewards
    divergences, gained = frontier(ref, rewards, [4.0, 2.0, 1.0, 0.5])
    assert np.all(np.diff(divergences) > 0)
    assert np.all(np.diff(gained) > 0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        policy = log_normalize(ref + rng.standard_normal(ref.shape) + 0.3 * rewards)
        divergence = kl(policy, ref)
        _, best = optimum_of_divergence(ref, rewards, divergence)
        assert kl(best, ref) == pytest.approx(divergence, rel=1e-9)
        assert expectation(best, rewards) > expectation(policy, rewards)


def test_a_divergence_that_is_not_there():
    with pytest.raises(ValueError, match="divergence must be above 0 and below"):
        optimum_of_divergence(reference(), WORLD.rewards, 100.0)
    with pytest.raises(ValueError, match="divergence must be above 0 and below"):
        optimum_of_divergence(reference(), WORLD.rewards, 0.0)


def test_the_range_of_beta():
    """From e^-12 to e^12. The divergence of the smallest β is refused, a little less is found; and so small a
    divergence that β would be larger gets the largest."""
    ref, rewards = np.log([[0.5, 0.5]]), np.array([[0.0, 1e-5]])
    most = kl(optimum(ref, rewards, math.exp(-12)), ref)
    with pytest.raises(ValueError, match="divergence must be above 0 and below"):
        optimum_of_divergence(ref, rewards, most)
    smallest, _ = optimum_of_divergence(ref, rewards, most * (1 - 1e-12))
    largest, _ = optimum_of_divergence(ref, 1e10 * rewards, 1e-200)
    np.testing.assert_allclose([smallest, largest], np.exp([-12, 12]), rtol=1e-9)


def test_total_variation():
    p, q = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.25, 0.5]])
    assert total_variation(p, q) == pytest.approx(0.25)
    assert total_variation(p, p) == 0
    both = np.concatenate([p, p]), np.concatenate([q, p])
    assert total_variation(*both) == pytest.approx(0.125)  # the mean over prompts


# -- accuracy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [3, 1000])
def test_accuracy_is_the_sum_over_pairs(levels):
    rng = np.random.default_rng(0)
    ref = reference()
    rewards = rng.integers(0, levels, ref.shape) / 2.0
    scores = rewards + rng.integers(-1, 2, ref.shape)  # some ties, some wrong
    total = 0.0
    for n in range(len(ref)):
        p = np.exp(ref[n])
        pairs = p[:, None] * p
        wins = preference(rewards[n][:, None], rewards[n], 0.7)
        higher = np.sign(scores[n][:, None] - scores[n])
        total += (pairs * np.where(higher > 0, wins, np.where(higher < 0, 1 - wins, 0.5))).sum()
    assert accuracy(ref, rewards, scores, 0.7) == pytest.approx(total / len(ref), rel=1e-12)


def test_bayes_accuracy_is_the_highest():
    ref, rng = reference(), np.random.default_rng(1)
    bayes = accuracy(ref, WORLD.rewards, WORLD.rewards)
    assert 0.5 < bayes < 1
    assert accuracy(ref, WORLD.rewards, 3 * WORLD.rewards - 7) == bayes  # only the order counts
    assert accuracy(ref, WORLD.rewards, -WORLD.rewards) == pytest.approx(1 - bayes, rel=1e-12)
    assert accuracy(ref, WORLD.rewards, np.zeros_like(WORLD.rewards)) == pytest.approx(0.5, rel=1e-12)
    for _ in range(10):
        assert accuracy(ref, WORLD.rewards, rng.standard_normal(ref.shape)) < bayes


# -- best of n -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_n_over_all_draws(n):
    """All 27^n draws, each with its probability; with rewards that tie, where the first of the best is as
    likely to be any of them as under the policy."""
    ref = reference()
    rewards = np.round(WORLD.rewards)
    got = best_of_n_log_probs(ref, rewards, n)
    draws = every_sequence(27, n)
    for i in range(len(ref)):
        kept = pick_best(draws, rewards[i][draws])
        law = np.bincount(kept, np.exp(ref[i][draws].sum(axis=1)), minlength=27)
        np.testing.assert_allclose(np.exp(got[i]), law, rtol=1e-9)


def test_the_divergence_of_best_of_n():
    """Below the bound; near it when no response has much of the probability, and then also near it when none
    ties: with 3,000 equally likely responses."""
    assert kl_bound(1) == 0
    ref = reference()
    for n in (2, 4, 16):
        assert 0 < kl(best_of_n_log_probs(ref, WORLD.rewards, n), ref) < kl_bound(n)
    flat = np.full((1, 3000), -math.log(3000))
    rewards = np.random.default_rng(0).standard_normal((1, 3000))
    for n in (2, 4, 16):
        assert kl(best_of_n_log_probs(flat, rewards, n), flat) == pytest.approx(kl_bound(n), rel=1e-3)
