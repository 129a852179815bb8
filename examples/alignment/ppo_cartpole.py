"""PPO learns to balance a pole on a cart, from nothing but how long it stood.

    python examples/alignment/ppo_cartpole.py  # three seeds; some 2 minutes on 2 cores
    python examples/alignment/ppo_cartpole.py --seeds 1
    python examples/alignment/ppo_cartpole.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The task is CartPole-v1 of Gymnasium; an episode pays 1 a step, and ends after 500. The hyper-parameters are
those of CleanRL's ppo.py (Huang et al. 2022, *The 37 implementation details of PPO*), whose documentation
reports a mean return of 490. The losses are those that align language models: tinygen/align/ppo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from shared.cartpole import LIMIT, CartPole, evaluate, play
from shared.flags import Flags, add_run_flags, number, numpy_function, size
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import nn, no_grad, ops
from tinygen.align.kl import k3
from tinygen.align.ppo import clip_fraction, gae, policy_loss, value_loss, whiten
from tinygen.arrays import to_device
from tinygen.optim import Adam, clip_grad_norm

SIZES = {"quick": {"seeds": 1, "steps": 10_000}, "full": {}}
PUBLISHED = 490.04  # CleanRL's documentation, the mean of 3 seeds


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/ppo_cartpole", "every 50 rounds")
    add("--seeds", type=number(int, 1), default=3, help="how often it learns, from the start")
    add("--steps", type=number(int, 1), default=500_000, help="steps of all carts, for each seed")
    add("--carts", type=size(1), default=4, help="side by side")
    add("--horizon", type=size(1), default=128, help="steps of each cart in a round")
    add("--epochs", type=number(int, 1), default=4, help="passes over the steps of a round")
    add("--minibatches", type=size(1), default=4, help="parts of a pass, a step of Adam each")
    add("--lr", type=number(float, 0), default=2.5e-4, help="learning rate; it falls to 0 on a line")
    add("--gamma", type=number(float, 0, 1), default=0.99, help="what a reward is worth one step later")
    add("--lam", type=number(float, 0, 1), default=0.95, help="of generalised advantage estimation")
    add("--clip", type=number(float, 0), default=0.2, help="of the ratio, and of the change of values")
    add("--entropy", type=number(float, 0), default=0.01, help="weight of the bonus for entropy")
    add("--value", type=number(float, 0), default=0.5, help="weight of the critic's loss")
    add("--max-norm", type=number(float, 0), default=0.5, help="largest norm of the gradient")
    parser.set_defaults(save_every=50)
    args = parser.parse_args()
    if args.minibatches > args.carts * args.horizon:
        steps = f"--carts {args.carts} times --horizon {args.horizon}"
        args.error(f"--minibatches {args.minibatches} are more than the steps of a round, {steps}")
    return args


class Agent(nn.Module):
    """Two perceptrons of the state: the logits of the two pushes, near 0 at the start, and the value."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.actor = perceptron(2, 0.01, rng)
        self.critic = perceptron(1, 1.0, rng)


def perceptron(outputs: int, gain: float, rng: np.random.Generator) -> nn.Sequential:
    sizes = ((4, 64), (64, 64), (64, outputs))
    first, second, last = (nn.Linear(*size, rng=rng) for size in sizes)
    for linear, scale in ((first, math.sqrt(2)), (second, math.sqrt(2)), (last, gain)):
        linear.weight.data = nn.init.orthogonal(linear.weight.shape, scale, rng=rng)
        linear.bias = nn.Parameter(nn.init.zeros(linear.weight.shape[:1]))
    return nn.Sequential(first, np.tanh, second, np.tanh, last)


def log_prob(logits: Any, actions: Any) -> Any:
    return -ops.cross_entropy(logits, actions, reduction="none")


class Batch(NamedTuple):
    """Steps of a round, in any order: what was seen and done, and what it was worth. All are (N,), but states
    (N, 4)."""

    states: Any
    actions: Any
    log_probs: Any  # of the actions, when they were done
    values: Any  # of the states, then
    advantages: Any
    returns: Any

    def part(self, which: Any) -> Batch:
        return Batch(*(x[which] for x in self))


def collect(agent: Agent, carts: CartPole, args: argparse.Namespace, rng: np.random.Generator) -> Batch:
    """Play a round: carts × horizon steps, as NumPy's arrays."""
    on = partial(to_device, device=args.device)
    states, actions, ends = play(numpy_function(agent.actor, args.device), carts, args.horizon, rng)
    with no_grad():
        values = agent.critic(on(states)).numpy()[..., 0]  # (n, T + 1)
        old = log_prob(agent.actor(on(states[:, :-1])), actions).numpy()
    advantages, returns = gae(np.ones_like(old), values, ends, args.gamma, args.lam)
    flat = (x.ravel() for x in (actions, old, values[:, :-1], advantages, returns))
    return Batch(states[:, :-1].reshape(-1, 4), *flat)


def ppo_loss(agent: Agent, batch: Batch, args: argparse.Namespace) -> tuple[Any, Any]:
    """The loss of a minibatch, whose advantages are whitened here; and ln π of its actions now (N,).

    L = policy + c₁ · value - c₂ · entropy (Schulman et al. 2017, arXiv:1707.06347, equation 9)."""
    every = np.ones(len(batch.states), bool)
    whitened = whiten(batch.advantages, every)
    arrays = (batch.states, batch.log_probs, whitened, batch.values, batch.returns, every)
    states, before, advantages, values, returns, mask = (to_device(x, args.device) for x in arrays)
    logits = agent.actor(states)
    logp = ops.log_softmax(logits)
    entropy = ops.entropy(logp)
    new = log_prob(logits, batch.actions)
    policy = policy_loss(new, before, advantages, mask, args.clip)
    value = value_loss(agent.critic(states)[:, 0], values, returns, mask, args.clip)
    return policy + args.value * value - args.entropy * entropy, new


def learn_round(
    agent: Agent, carts: CartPole, optimizer: Adam, args: argparse.Namespace, rng: np.random.Generator
) -> dict[str, float]:
    """Play, and learn from it. Returns the last minibatch's loss, and what is worth watching."""
    steps = collect(agent, carts, args, rng)
    for _ in range(args.epochs):
        for which in np.array_split(rng.permutation(len(steps.states)), args.minibatches):
            batch = steps.part(which)
            loss, new = ppo_loss(agent, batch, args)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(agent.parameters(), args.max_norm)
            optimizer.step()
    new = new.numpy()  # of the last part, before the last step
    return {
        "loss": float(loss.item()),
        "kl": float(k3(batch.log_probs, new).mean()),
        "clipped": clip_fraction(new, batch.log_probs, np.ones(len(new), bool), args.clip),
        "explained": float(1 - np.var(steps.returns - steps.values) / np.var(steps.returns)),
    }


def train(args: argparse.Namespace, run: Run, rounds: int) -> None:
    """The loop: `rounds` for each seed, one after the other."""
    rng = np.random.default_rng(0)
    agent, carts = Agent(rng).to(args.device), CartPole(args.carts, rng)
    optimizer = Adam(agent.parameters(), eps=1e-5)
    with run:
        for done in run.loop({"agent": agent, "carts": carts, "optimizer": optimizer, "rng": rng}):
            seed, here = divmod(done, rounds)
            if here == 0:
                rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
                agent.load_state_dict(Agent(rng).state_dict())
                carts.load_state_dict(CartPole(args.carts, rng).state_dict())
                optimizer.state.clear()
            optimizer.lr = args.lr * (1 - here / rounds)
            watched = learn_round(agent, carts, optimizer, args, rng)
            mean = float(np.mean(carts.returns or carts.age))
            run.show(watched.pop("loss"), f", seed {seed}: {mean:.0f} steps")
            steps, last = (here + 1) * args.carts * args.horizon, here + 1 == rounds
            if (here + 1) % 10 == 0 or last:
                run.log(step=steps, **{f"seed {seed}": mean}, **watched)
            if last:
                run.log(step=steps, final=evaluate(numpy_function(agent.actor, args.device), 1000 + seed))
                run.model(agent.state_dict())


def main(args: argparse.Namespace) -> None:
    names = [f"seed {seed}" for seed in range(args.seeds)]
    rounds = math.ceil(args.steps / (args.carts * args.horizon))
    columns = ["step", *names, "kl", "clipped", "explained", "final"]
    run = Run(args, columns, steps=rounds * args.seeds)
    train(args, run, rounds)
    finals = [row["final"] for row in run.rows if "final" in row]
    mean, spread = float(np.mean(finals)), float(np.std(finals))
    anything = evaluate(lambda states: np.zeros((len(states), 2)), 0)
    title, levels = f"CartPole: {mean:.0f} of {LIMIT} steps", {"CleanRL": PUBLISHED, "any push": anything}
    run.curve({name: name for name in names}, levels, title, "mean return of the last 100 episodes")
    figure = Figure("mean return of the seeds (CleanRL's PPO: 490)", mean, at_least(490), LIMIT, anything)
    each = Figure("mean return, ", 0.0, None, LIMIT, anything)
    rows = [each._replace(name=each.name + n, measured=x) for n, x in zip(names, finals, strict=True)]
    found = {"mean_return": mean, "std": spread, "returns": finals, "random": anything}
    run.result([*rows, figure], **found, published=PUBLISHED)


if __name__ == "__main__":
    start(parse_args, main)
