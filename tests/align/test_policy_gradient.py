"""REINFORCE, PPO and GRPO. If a method is an estimate, its exact mean over all responses is compared with
the gradient that it estimates."""

import itertools

import numpy as np
import pytest
from policies import gpt, small_world, table_for

from tinygen import Tensor, gradcheck, no_grad
from tinygen.align.grpo import group_advantages, grpo_loss
from tinygen.align.kl import AdaptiveKL, k1, k2, k3, kl_rewards
from tinygen.align.ppo import (
    clip_fraction,
    gae,
    penalize_missing_end,
    policy_loss,
    ppo_loss,
    value_loss,
    whiten,
)
from tinygen.align.reinforce import leave_one_out, reinforce_loss
from tinygen.align.rollouts import Responses, last_true, response_mask, rollout, token_log_probs
from tinygen.align.world import expectation, kl

WORLD = small_world(vocab_size=2, length=3, prompts=1)  # 8 responses
ALL = WORLD.tokens(np.zeros(8, int), np.arange(8))
MASK = response_mask(ALL, 1)[:, 1:]


def gradient(policy, loss):
    policy.zero_grad()
    loss.backward()
    return policy.weight.grad.copy()


def policies():
    """A policy, its log-probabilities of all responses, and a reference's: (1, 8) both."""
    policy = table_for(WORLD)
    with no_grad():
        return policy, WORLD.log_probs(policy).numpy(), WORLD.log_probs(table_for(WORLD, seed=1)).numpy()


def arrays(*shape, n):
    return tuple(np.random.default_rng(0).standard_normal((n, *shape)))


# -- estimators of the divergence ------------------------------------------------------------------


def test_means_of_the_estimators():
    _, log_p, log_q = policies()
    exact = kl(log_p, log_q)
    assert expectation(log_p, k1(log_p, log_q)) == pytest.approx(exact, rel=1e-12)
    assert expectation(log_p, k3(log_p, log_q)) == pytest.approx(exact, rel=1e-12)
    assert np.any(k1(log_p, log_q) < 0)
    assert np.all(k2(log_p, log_q) >= 0)
    assert np.all(k3(log_p, log_q) >= 0)
    for step in (1e-1, 1e-2, 1e-3):  # k2 is off by third order
        near = np.log(np.exp(log_p) * (1 + step * np.array([[1, -1, 1, -1, 1, -1, 1, -1]])))
        near -= np.log(np.exp(near).sum())
        assert abs(expectation(log_p, k2(log_p, near)) - kl(log_p, near)) < step**3


@pytest.mark.parametrize(("estimator", "what"), [(k1, "nothing"), (k2, "p from q"), (k3, "q from p")])
def test_means_of_their_gradients(estimator, what):
    policy, log_p, log_q = policies()
    # how often each response is drawn is a number, not differentiated
    weighted = np.sum(np.exp(log_p) * estimator(WORLD.log_probs(policy), log_q))
    got = gradient(policy, weighted)
    live = WORLD.log_probs(policy)
    exact = {
        "nothing": lambda: 0 * np.sum(live),
        "p from q": lambda: kl(live, log_q),
        "q from p": lambda: kl(Tensor(log_q), live),
    }
    np.testing.assert_allclose(got, gradient(policy, exact[what]()), rtol=1e-9, atol=1e-12)


def test_rewards_per_token():
    """The penalty on each token with its sign, the score on the last one, nothing outside; the sum is what
    REINFORCE takes as the reward of the whole."""
    log_p, log_ref = arrays(2, 4, n=2)
    mask = np.array([[0, 1, 1, 1], [0, 1, 1, 0]], bool)
    got = kl_rewards(np.array([10.0, 20.0]), log_p, log_ref, mask, beta=0.5)
    wanted = -0.5 * (log_p - log_ref) * mask
    wanted[0, 3] += 10
    wanted[1, 2] += 20
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    higher = kl_rewards(np.zeros(2), log_ref + 1, log_ref, mask, beta=0.5)
    assert np.all(higher[mask] == pytest.approx(-0.5))  # more probable than under the reference: costs


def test_the_coefficient_follows_the_divergence():
    control = AdaptiveKL(beta=0.1, target=6, horizon=1000)
    control.update(6.0, 100)
    assert control.beta == 0.1
    control.update(6.6, 100)
    assert control.beta == pytest.approx(0.1 * 1.01)
    control = AdaptiveKL(beta=0.1, target=6, horizon=1000)
    control.update(600.0, 100)
    assert control.beta == pytest.approx(0.1 * 1.02)
    control.update(0.0, 100)
    assert control.beta == pytest.approx(0.1 * 1.02 * 0.98)


# -- REINFORCE -------------------------------------------------------------------------------------


def exact_gradient(policy, rewards):
    return gradient(policy, -expectation(WORLD.log_probs(policy), rewards))


@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_the_mean_of_reinforce_is_the_gradient(baseline):
    """Over all 8 responses; a baseline changes nothing in the mean."""
    policy, log_p, _ = policies()
    weights = 8 * np.exp(log_p[0])  # the loss is a mean over 8 rows
    loss = reinforce_loss(token_log_probs(policy, ALL), weights * (WORLD.rewards[0] - baseline), MASK)
    np.testing.assert_allclose(
        gradient(policy, loss), exact_gradient(policy, WORLD.rewards), rtol=1e-9, atol=1e-12
    )


def test_the_mean_with_leave_one_out_is_the_gradient():
    """Over all 8³ draws of three responses. With the mean of all three as the baseline, it is 2/3 of it."""
    policy, log_p, _ = policies()
    triples = np.array(list(itertools.product(range(8), repeat=3)))
    p = np.exp(log_p[0][triples].sum(axis=1, keepdims=True))
    rewards = WORLD.rewards[0][triples]
    exact = exact_gradient(policy, WORLD.rewards)
    own_mean = rewards - rewards.mean(axis=1, keepdims=True)
    for advantages, share in ((leave_one_out(rewards), 1), (own_mean, 2 / 3)):
        weights = np.zeros(8)
        np.add.at(weights, triples, p * advantages / 3)
        loss = reinforce_loss(token_log_probs(policy, ALL), 8 * weights, MASK)
        np.testing.assert_allclose(gradient(policy, loss), share * exact, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="K >= 2"):
        leave_one_out(np.ones((4, 1)))


def test_leave_one_out_by_hand():
    rewards = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    np.testing.assert_allclose(leave_one_out(rewards), [[1 - 4, 2 - 3.5, 6 - 1.5], [-1.5, -1.5, 3]])


@pytest.mark.parametrize("beta", [0.3])
def test_the_penalty_in_the_reward_is_the_divergence(beta):
    """REINFORCE on score - β ln(π/π_ref), a number, has the gradient of E[r] - β KL in the mean."""
    policy, log_p, log_ref = policies()
    with no_grad():
        ours = token_log_probs(policy, ALL).numpy()
        theirs = token_log_probs(table_for(WORLD, seed=1), ALL).numpy()
    rewards = kl_rewards(WORLD.rewards[0], ours, theirs, MASK, beta).sum(axis=1)
    loss = reinforce_loss(token_log_probs(policy, ALL), 8 * np.exp(log_p[0]) * rewards, MASK)
    got = gradient(policy, loss)
    live = WORLD.log_probs(policy)
    exact = gradient(policy, beta * kl(live, log_ref) - expectation(live, WORLD.rewards))
    np.testing.assert_allclose(got, exact, rtol=1e-9, atol=1e-12)


# -- GAE -------------------------------------------------------------------------------------------


def brute_force(rewards, values, ends, gamma, lam):
    """The definition, term by term."""
    result = np.zeros_like(rewards)
    for b, t in np.ndindex(rewards.shape):
        for k in range(t, rewards.shape[1]):
            after = 0.0 if ends[b, k] else values[b, k + 1]
            result[b, t] += (gamma * lam) ** (k - t) * (rewards[b, k] + gamma * after - values[b, k])
            if ends[b, k]:
                break
    return result


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (0.99, 0.0), (1.0, 1.0)])
def test_gae_is_its_definition(gamma, lam):
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((5, 7)), rng.standard_normal((5, 8))
    ends = rng.random((5, 7)) < 0.3
    advantages, returns = gae(rewards, values, ends, gamma, lam)
    np.testing.assert_allclose(advantages, brute_force(rewards, values, ends, gamma, lam), rtol=1e-12)
    np.testing.assert_allclose(returns, advantages + values[:, :-1], rtol=1e-12)


def test_the_two_ends_of_lambda():
    rewards, values = np.random.default_rng(0).standard_normal((2, 3, 7))
    values = np.concatenate([values, np.ones((3, 1))], axis=1)
    ends = np.zeros((3, 7), bool)
    ends[:, -1] = True
    _, to_come = gae(rewards, values, ends, 1.0, 1.0)
    np.testing.assert_allclose(to_come, np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1], rtol=1e-12)
    _, one_step = gae(rewards, values, ends, 0.9, 0.0)
    np.testing.assert_allclose(one_step[:, :-1], rewards[:, :-1] + 0.9 * values[:, 1:-1], rtol=1e-12)
    np.testing.assert_allclose(one_step[:, -1], rewards[:, -1], rtol=1e-12)


def test_nothing_comes_back_from_the_padding():
    rewards, values = np.random.default_rng(0).standard_normal((2, 3, 7))
    values = np.concatenate([values, np.ones((3, 1))], axis=1)
    ends = np.zeros((3, 7), bool)
    ends[:, 3] = True
    first, _ = gae(rewards, values, ends)
    rewards[:, 4:], values[:, 4:] = 1e6, -1e6
    second, _ = gae(rewards, values, ends)
    np.testing.assert_array_equal(first[:, :4], second[:, :4])


# -- PPO -------------------------------------------------------------------------------------------


def test_whitening():
    x, mask = np.random.default_rng(0).normal(3, 2, (4, 5)), np.arange(5) < np.array([[5], [3], [2], [4]])
    white = whiten(x, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-12)
    assert white[mask].std() == pytest.approx(1, rel=1e-6)
    assert np.all(white[~mask] == 0)
    scaled = whiten(x, mask, shift_mean=False)
    np.testing.assert_allclose(scaled[mask], white[mask] + x[mask].mean(), rtol=1e-12)
    np.testing.assert_array_equal(whiten(np.where(mask, x, np.nan), mask), white)
    np.testing.assert_array_equal(whiten(x, x == x[2, 1]), 0)  # one entry: there may be no second


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_ratio_is_one_before_the_first_step(dropout, temperature):
    """To the bit, in training mode too: so the surrogate is -mean(A), its gradient REINFORCE's."""
    policy = gpt(dropout=dropout, dtype=np.float32).train()
    tokens, mask = rollout(policy, np.zeros((6, 1), int), 5, temperature, end=0, rng=0)
    mask = mask[:, 1:]
    with no_grad():
        old = token_log_probs(policy, tokens, temperature).numpy()
    live = token_log_probs(policy, tokens, temperature)
    np.testing.assert_array_equal(np.exp(live.numpy() - old), 1)
    assert clip_fraction(live.numpy(), old, mask) == 0
    advantages = np.random.default_rng(1).standard_normal(mask.shape).astype(np.float32)
    loss = policy_loss(live, old, advantages, mask)
    assert loss.item() == pytest.approx(-advantages[mask].mean(), rel=1e-5)
    loss.backward()
    got = {name: p.grad for name, p in policy.named_parameters()}
    policy.zero_grad()
    live = token_log_probs(policy, tokens, temperature)
    (-np.where(mask, advantages * live, 0.0).sum() / mask.sum()).backward()
    for name, p in policy.named_parameters():
        np.testing.assert_allclose(got[name], p.grad, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "moves"),
    [
        (1.1, 1.0, -1.1, True),
        (1.5, 1.0, -1.2, False),  # gained enough
        (0.5, 1.0, -0.5, True),  # a loss counts in full
        (0.9, -1.0, 0.9, True),
        (0.5, -1.0, 0.8, False),
        (1.5, -1.0, 1.5, True),
    ],
)
def test_the_clip_by_hand(ratio, advantage, loss, moves):
    logp = Tensor(np.log([[ratio, 123.0]]), requires_grad=True)
    mask = np.array([[True, False]])
    got = policy_loss(logp, np.zeros((1, 2)), np.array([[advantage, 9.0]]), mask, clip=0.2)
    got.backward()
    assert got.item() == pytest.approx(loss)
    assert logp.grad[0, 1] == 0
    assert logp.grad[0, 0] == pytest.approx(-advantage * ratio if moves else 0)
    assert clip_fraction(logp.numpy(), np.zeros((1, 2)), mask) == (not 0.8 <= ratio <= 1.2)


@pytest.mark.parametrize(
    ("value", "old", "wanted", "moves"),
    [
        (0.1, 0.0, 0.81, True),  # within the clip
        (0.5, 0.0, 0.64, False),  # has moved towards the return by more than 0.2: 0.2 counts
        (-0.5, 0.0, 2.25, True),  # has moved away
    ],
)
def test_the_value_clip_by_hand(value, old, wanted, moves):
    v = Tensor([[value, 7.0]], requires_grad=True)
    mask = np.array([[True, False]])
    loss = value_loss(v, np.array([[old, 0.0]]), np.ones((1, 2)), mask, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(wanted / 2)
    assert v.grad[0, 1] == 0
    assert v.grad[0, 0] == pytest.approx(value - 1 if moves else 0)
    assert value_loss(v, None, np.ones((1, 2)), mask, clip=None).item() == pytest.approx((value - 1) ** 2 / 2)


def test_losses_against_torch():
    torch = pytest.importorskip("torch")
    logp, old, advantages, values, before, returns = arrays(4, 6, n=6)
    mask = np.random.default_rng(1).random((4, 6)) < 0.7
    t = {k: torch.tensor(v) for k, v in {"old": old, "a": advantages, "b": before, "r": returns}.items()}
    tl, tv = (torch.tensor(x, requires_grad=True) for x in (logp, values))
    ratio = (tl - t["old"]).exp()
    pg = -torch.min(t["a"] * ratio, t["a"] * ratio.clamp(0.8, 1.2))[torch.tensor(mask)].mean()
    clipped = t["b"] + (tv - t["b"]).clamp(-0.2, 0.2)
    vf = 0.5 * torch.max((tv - t["r"]) ** 2, (clipped - t["r"]) ** 2)[torch.tensor(mask)].mean()
    (pg + 0.1 * vf).backward()
    ours, critic = Tensor(logp, requires_grad=True), Tensor(values, requires_grad=True)
    loss = ppo_loss(policy_loss(ours, old, advantages, mask), value_loss(critic, before, returns, mask))
    loss.backward()
    assert loss.item() == pytest.approx((pg + 0.1 * vf).item(), rel=1e-12)
    np.testing.assert_allclose(ours.grad, tl.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(critic.grad, tv.grad.numpy(), rtol=1e-12)


def test_the_objective_with_pretraining():
    assert ppo_loss(1.0, 2.0, 3.0, value_weight=0.5, ptx=10.0) == 32.0
    assert ppo_loss(1.0, 2.0) == pytest.approx(1.2)


def test_without_a_clip_every_change_is_outside():
    same, mask = np.zeros((1, 2)), np.ones((1, 2), bool)
    assert clip_fraction(same, same, mask, clip=0.0) == 0
    assert clip_fraction(np.array([[0.0, 1e-9]]), same, mask, clip=0.0) == 0.5


def test_the_value_of_reinforce_counts_the_mask_only():
    log_probs, mask = (
        np.array([[-1.0, np.nan, -2.0], [-4.0, -8.0, 7.0]]),
        np.array([[1, 0, 1], [1, 1, 0]]) > 0,
    )
    assert reinforce_loss(log_probs, np.array([2.0, -1.0]), mask) == -(2 * -3 - 1 * -12) / 2


def test_a_missing_end_costs():
    tokens = np.array([[9, 1, 2, 3], [9, 1, 9, 9], [9, 9, 1, 1], [9, 1, 1, 9]])
    mask = response_mask(tokens, 1, end=9)
    got = penalize_missing_end(np.full(4, 5.0), Responses(tokens, mask), end=9, penalty=2.0)
    np.testing.assert_array_equal(got, [3, 5, 5, 5])  # the prompt's 9 is no end


def test_float32_stays():
    """Results from float32 are float32. If a loss were float64, its gradients would be float64, too."""
    logp, old, ref, values = (x.astype(np.float32) for x in arrays(4, 6, n=4))
    mask = np.arange(6) < np.array([[6], [3], [1], [4]])
    scores = penalize_missing_end(old[:, 0], Responses(np.zeros((4, 6), int), mask), end=1)
    rewards = kl_rewards(scores, old, ref, mask, beta=0.1)
    advantages, returns = gae(
        rewards, np.pad(values, ((0, 0), (0, 1))), np.arange(6) == last_true(mask)[:, None]
    )
    white, each = whiten(advantages, mask), group_advantages(scores.reshape(2, 2)).ravel()
    made = [scores, rewards, advantages, returns, white, each, leave_one_out(scores.reshape(2, 2))]
    live = Tensor(logp, requires_grad=True)
    made += [policy_loss(live, old, white, mask), value_loss(live, values, returns, mask)]
    made += [grpo_loss(live, old, ref, each, mask), reinforce_loss(live, each, mask)]
    assert [x.dtype for x in made] == [np.float32] * len(made)


# -- GRPO ------------------------------------------------------------------------------------------


def test_group_advantages():
    rewards = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    got = group_advantages(rewards)
    np.testing.assert_allclose(got[0], np.array([-1, 0, 1]) / (np.sqrt(2 / 3) + 1e-4), rtol=1e-12)
    np.testing.assert_array_equal(got[1], 0)


def test_grpo_by_hand():
    """The mean over tokens within a response, then over responses; the penalty outside of the clip."""
    logp, old, ref = arrays(3, 5, n=3)
    mask = np.arange(5) < np.array([[5], [1], [3]])
    advantages = np.array([1.0, -2.0, 0.5])
    total = 0.0
    for b in range(3):
        terms = []
        for t in np.flatnonzero(mask[b]):
            r = np.exp(logp[b, t] - old[b, t])
            gain = min(advantages[b] * r, advantages[b] * np.clip(r, 0.8, 1.2))
            d = ref[b, t] - logp[b, t]
            terms.append(0.3 * (np.exp(d) - d - 1) - gain)
        total += np.mean(terms) / 3
    assert grpo_loss(logp, old, ref, advantages, mask, beta=0.3) == pytest.approx(total, rel=1e-12)
    assert gradcheck(lambda x: grpo_loss(x, old, ref, advantages, mask, beta=0.3), logp)


def test_grpo_at_the_start_has_the_gradient_of_reinforce():
    """Where the policy is the old one and the reference, and all responses are of one length L: 1/L of it."""
    policy, _, _ = policies()
    with no_grad():
        old = token_log_probs(policy, ALL).numpy()
    advantages = WORLD.rewards[0]
    ours = gradient(policy, grpo_loss(token_log_probs(policy, ALL), old, old, advantages, MASK))
    theirs = gradient(policy, reinforce_loss(token_log_probs(policy, ALL), advantages, MASK))
    np.testing.assert_allclose(ours, theirs / 3, rtol=1e-9, atol=1e-12)
