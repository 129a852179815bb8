"""PPO learns to balance a pole on a cart. The only reward is 1 for every step.

    python examples/alignment/ppo_cartpole.py  # three seeds; some 2 minutes on 2 cores
    python examples/alignment/ppo_cartpole.py --seeds 1
    python examples/alignment/ppo_cartpole.py --resume  # goes on after Ctrl-C or a kill, to the same bits
    mpiexec -n 2 python -m mpi4py examples/alignment/ppo_cartpole.py  # two processes, two carts each

The task is CartPole-v1 of Gymnasium; an episode ends after 500 steps at the latest. The hyperparameters are
from CleanRL's ppo.py (Huang et al. 2022, *The 37 implementation details of PPO*); its documentation reports a
mean return of 490. The losses are the same as for language models: tinygen/align/ppo.py.
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
from tinygen.ops.random import as_generator
from tinygen.optim import Adam, clip_grad_norm
from tinygen.parallel import share

SIZES = {"quick": {"seeds": 1, "steps": 10_000}, "full": {"seeds": 3}}
PUBLISHED = 490.04  # CleanRL's documentation, the mean of 3 seeds


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/ppo_cartpole", "every 50 rounds")
    add("--seeds", type=number(int, 1), default=3, help="number of runs, each from the start")
    add("--steps", type=number(int, 1), default=500_000, help="steps of all carts together, for each seed")
    add("--carts", type=size(1), default=4, help="carts side by side")
    add("--horizon", type=size(1), default=128, help="steps of each cart in a round")
    add("--epochs", type=number(int, 1), default=4, help="passes over the steps of a round")
    add("--minibatches", type=size(1), default=4, help="parts of a pass, a step of Adam each")
    add("--lr", type=number(float, 0), default=2.5e-4, help="learning rate; it falls linearly to 0")
    add("--gamma", type=number(float, 0, 1), default=0.99, help="discount factor γ of a reward for each step")
    add("--lam", type=number(float, 0, 1), default=0.95, help="λ of generalized advantage estimation")
    add("--clip", type=number(float, 0), default=0.2, help="ε of the clips of ratios and values")
    add("--entropy", type=number(float, 0), default=0.01, help="weight of the entropy bonus, c₂")
    add("--value", type=number(float, 0), default=0.5, help="weight of the critic's loss, c₁")
    add("--max-norm", type=number(float, 0), default=0.5, help="largest norm of the gradient")
    parser.set_defaults(save_every=50)
    args = parser.parse_args()
    if args.minibatches > args.carts * args.horizon:
        steps = f"--carts {args.carts} times --horizon {args.horizon}"
        args.error(f"--minibatches {args.minibatches} are more than the steps of a round, {steps}")
    return args


class Agent(nn.Module):
    """Two perceptrons that read the state: the actor gives the logits of the two pushes, initialized near
    0; the critic gives the value."""

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
    """Steps of a rollout, in any order. All are NumPy arrays (N,), except states (N, 4)."""

    states: Any
    actions: Any
    old_log_probs: Any  # of the actions, under the policy that took them
    old_values: Any  # of the states, by the critic at that time
    advantages: Any
    returns: Any

    def select(self, index: Any) -> Batch:
        return Batch(*(x[index] for x in self))


def collect(agent: Agent, carts: CartPole, args: argparse.Namespace, rng: np.random.Generator) -> Batch:
    """A rollout of carts × horizon steps, with advantages and returns. With several processes, each plays
    with its own carts, and gets the steps of all."""
    on = partial(to_device, device=args.device)
    with share(args.carts, carts.comm):
        actor = numpy_function(agent.actor, args.device)
        states, actions, ends = play(actor, carts, args.horizon, as_generator(rng))
    with no_grad():
        old_values = agent.critic(on(states)).numpy()[..., 0]  # (n, T + 1)
        old_log_probs = log_prob(agent.actor(on(states[:, :-1])), actions).numpy()  # (n, T)
    advantages, returns = gae(np.ones_like(old_log_probs), old_values, ends, args.gamma, args.lam)
    flat = (x.ravel() for x in (actions, old_log_probs, old_values[:, :-1], advantages, returns))
    return Batch(*map(carts.whole, (states[:, :-1].reshape(-1, 4), *flat)))


def ppo_loss(agent: Agent, batch: Batch, args: argparse.Namespace) -> tuple[Any, Any]:
    """The loss of a minibatch, and the log-probabilities of its actions (N,) under the policy as it is now.

    L = policy + c₁ · value - c₂ · entropy (Schulman et al. 2017, arXiv:1707.06347, equation 9)."""
    mask = np.ones(len(batch.states), bool)
    whitened = whiten(batch.advantages, mask)
    arrays = (batch.states, batch.old_log_probs, batch.old_values, whitened, batch.returns, mask)
    states, old_log_probs, old_values, advantages, returns, mask = (to_device(x, args.device) for x in arrays)
    logits, values = agent.actor(states), agent.critic(states).squeeze(1)
    log_probs = log_prob(logits, batch.actions)
    policy = policy_loss(log_probs, old_log_probs, advantages, mask, args.clip)
    value = value_loss(values, old_values, returns, mask, args.clip)
    return policy + args.value * value - args.entropy * ops.entropy(ops.log_softmax(logits)), log_probs


def ppo_round(
    agent: Agent, carts: CartPole, optimizer: Adam, args: argparse.Namespace, rng: Any, run: Any
) -> dict[str, float]:
    """One round: a rollout, then some epochs of minibatches on it. Returns the loss of the last minibatch,
    and diagnostics."""
    rollout = collect(agent, carts, args, rng)
    for _ in range(args.epochs):
        for index in np.array_split(rng.permutation(len(rollout.states)), args.minibatches):
            batch = rollout.select(index)
            optimizer.zero_grad()
            with run.share(*batch) as own:
                loss, log_probs = ppo_loss(agent, Batch(*own), args)
                value = run.backward(loss, agent)
            clip_grad_norm(agent.parameters(), args.max_norm)
            optimizer.step()
    log_probs = carts.whole(log_probs.numpy())  # of the last minibatch, before its step
    mask = np.ones(len(log_probs), bool)
    return {
        "loss": value,
        "kl": float(k3(batch.old_log_probs, log_probs).mean()),
        "clipped": clip_fraction(log_probs, batch.old_log_probs, mask, args.clip),
        "explained": float(1 - np.var(rollout.returns - rollout.old_values) / np.var(rollout.returns)),
    }


def train(args: argparse.Namespace, run: Run, rounds: int) -> None:
    """`rounds` of PPO for each seed, one seed after the other."""
    rng = np.random.default_rng(0)
    agent, carts = Agent(rng).to(args.device), CartPole(args.carts, rng, run.comm)
    optimizer = Adam(agent.parameters(), eps=1e-5)
    with run:
        for done in run.loop({"agent": agent, "carts": carts, "optimizer": optimizer, "rng": rng}):
            seed, here = divmod(done, rounds)
            if here == 0:
                rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
                agent.load_state_dict(Agent(rng).state_dict())
                carts.load_state_dict(CartPole(args.carts, rng, run.comm).state_dict())
                optimizer.state.clear()
            optimizer.lr = args.lr * (1 - here / rounds)
            diagnostics = ppo_round(agent, carts, optimizer, args, rng, run)
            mean = float(np.mean(carts.returns or carts.whole(carts.age)))
            run.show(diagnostics.pop("loss"), f", seed {seed}: {mean:.0f} steps")
            steps, last = (here + 1) * args.carts * args.horizon, here + 1 == rounds
            if (here + 1) % 10 == 0 or last:
                run.log(step=steps, **{f"seed {seed}": mean}, **diagnostics)
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
