"""Experiments for alignment: a pole on a cart, and a world of 64 responses, in which everything is exact."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from ablations.experiments.engine import curve
from alignment.ppo_cartpole import Agent, ppo_round
from shared.cartpole import CartPole, evaluate
from shared.flags import numpy_function
from shared.run import Run

from tinygen import nn, no_grad, ops
from tinygen.align import dpo, kl, ppo, rollouts, world
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import Adam, clip_grad_norm


class OneProcess:
    """The part of a run that a round of PPO needs, in one process."""

    comm, shared = None, False
    share, backward, mean = Run.share, Run.backward, Run.mean


def cart_pole(seed: int) -> dict[str, Any]:
    """PPO with a pole on a cart, in 30,000 steps: the mean return of 100 episodes, at most 500."""
    rng, rounds, lr = np.random.default_rng(seed), 60, 1e-3
    agent, carts = Agent(rng), CartPole(4, rng)
    optimizer = Adam(agent.parameters(), eps=1e-5)
    args = argparse.Namespace(
        device="cpu", carts=4, horizon=128, epochs=4, minibatches=4, gamma=0.99, lam=0.95, clip=0.2,
        entropy=0.01, value=0.5, max_norm=0.5,
    )  # fmt: skip
    returns = []
    for done in range(rounds):
        optimizer.lr = lr * (1 - done / rounds)
        ppo_round(agent, carts, optimizer, args, rng, OneProcess())
        returns.append(float(np.mean(carts.returns[-20:] or carts.age)))
    figures = {"mean return": evaluate(numpy_function(agent.actor, "cpu"), seed + 1000)}
    return {"figures": figures, "curve": {**curve(returns, "return"), "xlabel": "round"}}


def count(prompt: Any, responses: Any) -> Any:
    """The reward (n,) of responses (n, L): how often they have the prompt's token."""
    return (responses == prompt).sum(axis=1)


def exact_world() -> world.World:
    """Three prompts, and 64 responses of three tokens of four."""
    return world.World(np.arange(3)[:, None], 4, 3, count)


@no_grad()
def exact_log_probs(there: world.World, policy: GPT) -> Any:
    """ln π of all responses, (3, 64), in float64."""
    return world.log_normalize(there.log_probs(policy).numpy().astype(np.float64))


def small_world_ppo(seed: int, dropout: float, epochs: int, beta: float) -> dict[str, Any]:
    """PPO of a small GPT in a world of 64 responses, for reward - β KL. Both are exact sums."""
    rng, there = np.random.default_rng(seed), exact_world()
    policy, reference = (GPT(GPTConfig(4, 4, 1, 2, 32, dropout=dropout), rng=rng) for _ in range(2))
    reference.load_state_dict(policy.state_dict())
    optimizer, objective, ratios = Adam(policy.parameters(), lr=3e-3), [], []
    ref = exact_log_probs(there, reference)
    for _ in range(60):
        drawn = rollouts.rollout(policy, rng.integers(3, size=(64, 1)), 3, rng=rng)
        mask = drawn.action_mask
        with no_grad():
            old, of_reference = (drawn.log_probs(m).numpy() for m in (policy, reference))
            scores = (drawn.tokens[:, 1:] == drawn.tokens[:, :1]).sum(axis=1)
        rewards = kl.kl_rewards(scores, old, of_reference, mask, beta)
        ends = np.arange(mask.shape[1]) == rollouts.last_true(mask)[:, None]
        advantages, _ = ppo.gae(rewards, np.zeros((64, 4)), ends)
        advantages = ppo.whiten(advantages, mask).astype(np.float32)
        for epoch in range(epochs):
            log_probs = drawn.log_probs(policy)
            if epoch == 0:
                ratios.append(ppo.clip_fraction(log_probs.numpy(), old, mask))
            loss = ppo.policy_loss(log_probs, old, advantages, mask)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(policy.parameters(), 1.0)
            optimizer.step()
        now = exact_log_probs(there, policy)
        objective.append(float(world.expectation(now, there.rewards) - beta * world.kl(now, ref)))
    best = world.optimum(ref, there.rewards, beta)
    most = float(world.expectation(best, there.rewards) - beta * world.kl(best, ref))
    figures = {
        "reward less the price of the KL": objective[-1],
        "KL from the reference, nats": float(world.kl(now, ref)),
        "share outside of the clip before the first step": float(np.mean(ratios)),
    }
    line = curve(objective, "reward less the price of the KL", levels={"best": most})
    return {"figures": figures, "curve": {**line, "xlabel": "round"}, "ratios": ratios}


def costly_divergence(seed: int) -> dict[str, Any]:
    """PPO of a small GPT in a world of 64 responses, for reward - KL. Both are exact sums."""
    outcome = small_world_ppo(seed, 0.0, 4, beta=1.0)
    return {**outcome, "figures": {name: outcome["figures"][name] for name in [*outcome["figures"]][:2]}}


def many_epochs(seed: int) -> dict[str, Any]:
    """PPO of a small GPT in a world of 64 responses, with 20 steps on the same rollout, for reward - 0.2
    KL."""
    outcome = small_world_ppo(seed, 0.0, 20, beta=0.2)
    return {**outcome, "figures": {name: outcome["figures"][name] for name in [*outcome["figures"]][:2]}}


def policy_with_dropout(seed: int) -> dict[str, Any]:
    """PPO of a small GPT with dropout 0.2, in a world of 64 responses: how often the ratio of the policy to
    itself is outside of the clip."""
    outcome = small_world_ppo(seed, 0.2, 4, beta=0.2)
    line = {**curve(outcome["ratios"], "share outside of the clip"), "xlabel": "round"}
    return {"figures": dict(reversed(outcome["figures"].items())), "curve": line}


def exact_dpo(seed: int) -> dict[str, Any]:
    """DPO with a table of logits, on 20,000 comparisons of responses of a reference with a taste of its
    own."""
    rng, there, beta = np.random.default_rng(seed), exact_world(), 0.5
    ref = world.log_normalize(1.5 * rng.standard_normal(there.rewards.shape))
    prompt, winner, loser = there.preferences(ref, 20_000, rng=rng)
    logits = nn.Parameter(ref.astype(np.float32).copy())
    optimizer, objective = Adam([logits], lr=0.03), []

    def value(log_probs: Any) -> float:
        return float(world.expectation(log_probs, there.rewards) - beta * world.kl(log_probs, ref))

    for _ in range(300):
        some = rng.integers(20_000, size=2000)
        x, w, y = prompt[some], winner[some], loser[some]
        log_probs = ops.log_softmax(logits)
        h = dpo.margins(log_probs[x, w], log_probs[x, y], ref[x, w], ref[x, y])
        loss = dpo.dpo_loss(h, beta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        policy = world.log_normalize(logits.numpy().astype(np.float64))
        objective.append(value(policy))
    figures = {"reward - 0.5 KL": objective[-1], "KL from the reference, nats": float(world.kl(policy, ref))}
    best = {"best": value(world.optimum(ref, there.rewards, beta))}
    return {"figures": figures, "curve": curve(objective, "reward - 0.5 KL", levels=best)}
