"""PPO on carts, step by step, compared with the same training written out by hand: advantages by their
definition, the clipped surrogate, the critic's loss, the entropy, and the state that is passed from round
to round."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_p, log_softmax, same
from example_runs import module

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

example = module("ppo_cartpole.py")

GIVEN = {"carts": 2, "horizon": 24, "epochs": 3, "minibatches": 2, "lr": 0.03, "gamma": 0.9, "lam": 0.6}
GIVEN |= {"clip": 0.1, "entropy": 0.3, "value": 0.7, "max_norm": 0.4}


def advantages_of(values, ends, gamma, lam):
    """Σ_k (γλ)^k (1 + γ V(s_{t+k+1}) - V(s_{t+k})) up to the end of the episode; V is 0 after the end."""
    found = np.zeros(ends.shape)
    for cart, t in np.ndindex(ends.shape):
        for k in range(t, ends.shape[1]):
            after = 0.0 if ends[cart, k] else values[cart, k + 1]
            found[cart, t] += (gamma * lam) ** (k - t) * (1 + gamma * after - values[cart, k])
            if ends[cart, k]:
                break
    return found


def round_by_hand(agent, carts, training, rate, rng):
    states, actions, ends = example.play(lambda x: agent.actor(x).data, carts, 24, rng)
    values = agent.critic(states).data[..., 0]
    old = log_p(agent.actor(states[:, :-1]).data, actions).ravel()
    advantages = advantages_of(values, ends, 0.9, 0.6)
    returns = (advantages + values[:, :-1]).ravel()
    x, a, v = states[:, :-1].reshape(-1, 4), actions.ravel(), values[:, :-1].ravel()
    advantages = advantages.ravel()
    beyond = 0
    for _ in range(3):
        for part in np.array_split(rng.permutation(48), 2):
            logits = agent.actor(x[part])
            logp = log_softmax(logits)
            ratio = np.exp(log_p(logits, a[part]) - old[part])
            white = (advantages[part] - advantages[part].mean()) / advantages[part].std()
            gain = np.minimum(ratio * white, np.clip(ratio, 0.9, 1.1) * white)
            value = agent.critic(x[part])[:, 0]
            near = np.clip(value, v[part] - 0.1, v[part] + 0.1)
            error = np.maximum((value - returns[part]) ** 2, (near - returns[part]) ** 2) / 2
            entropy = -(np.exp(logp) * logp).sum(axis=1)
            loss = -gain.mean() + 0.7 * error.mean() - 0.3 * entropy.mean()
            far = np.abs(ratio.data - 1) > 0.1
            beyond += np.sum(far)
            told = {"loss": training.step(loss, rate), "clipped": far.mean()}
    told["kl"] = np.mean(ratio.data - 1 - np.log(ratio.data))
    told["explained"] = 1 - np.var(returns - v) / np.var(returns)
    return ends, beyond, told


def test_the_agent():
    """Orthogonal weights as long as in the paper's code: sqrt(2), at the end 0.01 and 1; no bias."""
    agent = example.Agent(np.random.default_rng(0))
    for network, outputs, gain in ((agent.actor, 2, 0.01), (agent.critic, 1, 1.0)):
        params = list(network.parameters())
        assert [p.shape for p in params] == [(64, 4), (64,), (64, 64), (64,), (outputs, 64), (outputs,)]
        for p, scale in zip(params[::2], (np.sqrt(2), np.sqrt(2), gain), strict=True):
            lengths = np.linalg.svd(p.data, compute_uv=False)
            np.testing.assert_allclose(lengths, scale, rtol=1e-5)
        assert not any(p.data.any() for p in params[1::2])


def test_three_rounds_of_two_seeds(monkeypatch):
    """The learning rate falls on a line to 0; a seed begins with new weights, carts and moments."""
    args = flags(monkeypatch, example, seeds=2, steps=144, **GIVEN)
    of_seed = {}
    monkeypatch.setattr(example, "evaluate", lambda *_: 0.0)
    agent_of = example.Agent
    monkeypatch.setattr(example, "Agent", lambda rng: agent_of(rng).astype(np.float64))
    run = Loop(6)
    run.model = lambda state: of_seed.setdefault(len(of_seed), state)
    example.train(args, run, 3)

    for seed in range(2):
        rng = np.random.default_rng(seed)
        agent, _ = exact(agent_of(rng))
        carts = example.CartPole(2, rng)
        training, fell, beyond = Training(agent, eps=1e-5, clip=0.4), 0, 0
        for i in range(3):
            ends, far, told = round_by_hand(agent, carts, training, 0.03 * (1 - i / 3), rng)
            fell, beyond = fell + ends.sum(), beyond + far
            assert run.losses()[3 * seed + i] == pytest.approx(told.pop("loss"), rel=1e-5)
        assert fell > 2  # episodes that end amid a round
        assert beyond > 20  # ratios at which the clip matters
        same(of_seed[seed], {name: p.data for name, p in agent.named_parameters()}, 1e-5)
        told |= {"step": 144, f"seed {seed}": np.mean(carts.returns)}
        assert run.rows[2 * seed] == pytest.approx(told, rel=1e-4)


def test_what_is_logged_in_twelve_rounds(monkeypatch):
    """Every tenth round and the last one: the mean return of the last episodes; before the first one
    ends, the ages of the carts. At the end of a seed the policy is judged, on carts of its own."""
    args = flags(monkeypatch, example, seeds=2, **GIVEN)
    rates = []

    def ppo_round(agent, carts, optimizer, args, rng, run):
        rates.append(optimizer.lr)
        if len(rates) > 1:
            carts.returns = [len(rates), 3 * len(rates)]
        else:
            carts.age = np.array([4, 8])
        return {"loss": -len(rates), "kl": 0.5}

    monkeypatch.setattr(example, "ppo_round", ppo_round)
    monkeypatch.setattr(example, "evaluate", lambda actor, seed: seed)
    run = Loop(24)
    example.train(args, run, 12)
    np.testing.assert_allclose(rates, 2 * [0.03 * (1 - i / 12) for i in range(12)])
    assert run.losses() == [-n for n in range(1, 25)]
    notes = [f", seed {(n - 1) // 12}: {2 * n if n > 1 else 6} steps" for n in range(1, 25)]
    assert [note for _, note in run.shown] == notes
    each = 2 * 24  # carts times steps
    wanted = []
    for seed in range(2):
        for i in (10, 12):
            wanted.append({"step": i * each, f"seed {seed}": 2.0 * (12 * seed + i), "kl": 0.5})
        wanted.append({"step": 12 * each, "final": 1000 + seed})
    assert run.rows == wanted


def test_the_mean_return(monkeypatch):
    """Of the first episode of each of 100 carts."""
    lengths = np.random.default_rng(0).integers(1, 9, size=100)

    class Falls:
        def __init__(self, n, rng):
            self.state, self.t = np.zeros((n, 4)), 0

        def step(self, actions):
            self.t += 1
            return self.t >= lengths

    monkeypatch.setattr(sys.modules["shared.cartpole"], "CartPole", Falls)
    assert example.evaluate(lambda states: np.zeros((len(states), 2)), 0) == lengths.mean()


def test_what_is_watched_before_the_first_step(monkeypatch):
    """Nothing has moved; and a critic that says 0 of everything explains nothing."""
    args = flags(monkeypatch, example, **GIVEN | {"epochs": 1, "minibatches": 1})
    rng = np.random.default_rng(0)
    agent, carts = example.Agent(rng).astype(np.float64), example.CartPole(2, rng)
    for p in agent.critic.parameters():
        p.data = 0 * p.data
    optimizer = example.Adam(agent.parameters(), lr=0.0)
    watched = example.ppo_round(agent, carts, optimizer, args, rng, Loop(1))
    assert {name: watched[name] for name in ("kl", "clipped", "explained")} == {
        "kl": 0.0,
        "clipped": 0.0,
        "explained": 0.0,
    }
