"""PPO learns to balance a pole on a cart, from nothing but how long it stood.

    python examples/ppo_cartpole.py               # three seeds; some 2 minutes on 2 cores
    python examples/ppo_cartpole.py --seeds 1
    python examples/ppo_cartpole.py --resume      # goes on after Ctrl-C, or a kill, as if nothing had been

The task is CartPole-v1 of Gymnasium; an episode pays 1 a step, and ends after 500. The hyper-parameters are
those of CleanRL's ppo.py (Huang et al. 2022, *The 37 implementation details of PPO*), whose documentation
reports a mean return of 490. The losses are those that align language models: tinygen/align/ppo.py.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from common import Flags, RunFolder, Stop, add_run_flags, asked, number, settings_of, start
from tqdm import tqdm

from tinygen import nn, no_grad, ops
from tinygen.align.kl import k3
from tinygen.align.ppo import clip_fraction, gae, objective, policy_loss, value_loss, whiten
from tinygen.optim import Adam, clip_grad_norm
from tinygen.tensor import to_device
from tinygen.text.decoding import sample

LIMIT = 500  # steps of an episode, and so the highest return
PUBLISHED = 490.04  # CleanRL's documentation, the mean of 3 seeds


def flags() -> argparse.Namespace:
    parser = Flags(__doc__.split("\n")[0])
    add = parser.add_argument
    add_run_flags(parser, "runs/ppo_cartpole", "every 50 rounds")
    add("--seeds", type=number(int, 1), default=3, help="how often it learns, from the start")
    add("--steps", type=number(int, 1), default=500_000, help="steps of all carts, for each seed")
    add("--carts", type=number(int, 1), default=4, help="side by side")
    add("--horizon", type=number(int, 1), default=128, help="steps of each cart in a round")
    add("--epochs", type=number(int, 1), default=4, help="passes over the steps of a round")
    add("--minibatches", type=number(int, 1), default=4, help="parts of a pass, a step of Adam each")
    add("--lr", type=number(float, 0), default=2.5e-4, help="learning rate; it falls to 0 on a line")
    add("--gamma", type=number(float, 0, 1), default=0.99, help="what a reward is worth one step later")
    add("--lam", type=number(float, 0, 1), default=0.95, help="of generalised advantage estimation")
    add("--clip", type=number(float, 0), default=0.2, help="of the ratio, and of the change of values")
    add("--entropy", type=number(float, 0), default=0.01, help="weight of the bonus for entropy")
    add("--value", type=number(float, 0), default=0.5, help="weight of the critic's loss")
    add("--max-norm", type=number(float, 0), default=0.5, help="largest norm of the gradient")
    parser.set_defaults(save_every=50)
    return parser.parse_args()


class CartPole:
    """n carts, each with a pole that a push to the left (0) or right (1) at each step should keep upright
    (Barto, Sutton & Anderson 1983), with the constants, and Euler's steps, of Gymnasium's CartPole-v1.

    A state is the cart's place and velocity, and the pole's angle and angular velocity: (n, 4). An episode
    ends when the cart is 2.4 m or the pole 12° away, or after 500 steps; the next one begins at once."""

    GRAVITY, FORCE, TAU = 9.8, 10.0, 0.02
    POLE, HALF_LENGTH, TOTAL = 0.1, 0.5, 1.1  # masses in kg of the pole, and of both; in m
    FAR = np.array([2.4, np.inf, 12 * 2 * math.pi / 360, np.inf])

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.state = rng.uniform(-0.05, 0.05, (n, 4))
        self.age = np.zeros(n, np.int64)
        self.returns: list[int] = []  # of the last 100 episodes

    def step(self, action: Any) -> Any:
        """Push each cart; True for those whose episode has ended (n,). The reward is 1 for all."""
        _, velocity, angle, spin = self.state.T
        force = np.where(action == 1, self.FORCE, -self.FORCE)
        sin, cos = np.sin(angle), np.cos(angle)
        push = (force + self.POLE * self.HALF_LENGTH * spin**2 * sin) / self.TOTAL
        inertia = self.HALF_LENGTH * (4 / 3 - self.POLE * cos**2 / self.TOTAL)
        turn = (self.GRAVITY * sin - cos * push) / inertia
        pull = push - self.POLE * self.HALF_LENGTH * turn * cos / self.TOTAL
        self.state = self.state + self.TAU * np.stack([velocity, pull, spin, turn], axis=1)
        self.age += 1
        ended = (np.abs(self.state) > self.FAR).any(axis=1) | (self.age == LIMIT)
        for cart in np.flatnonzero(ended):
            self.returns = [*self.returns[-99:], int(self.age[cart])]
            self.state[cart], self.age[cart] = self.rng.uniform(-0.05, 0.05, 4), 0
        return ended

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state, "age": self.age.copy(), "returns": self.returns}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.state, self.age, self.returns = saved["state"], saved["age"].copy(), saved["returns"]


class Agent(nn.Module):
    """Two perceptrons of the state: the logits of the two pushes, near 0 at the start, and the value."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.actor = perceptron(2, 0.01, rng)
        self.critic = perceptron(1, 1.0, rng)


def perceptron(outputs: int, gain: float, rng: np.random.Generator) -> nn.Sequential:
    sizes = ((4, 64), (64, 64), (64, outputs))
    first, second, last = (nn.Linear(*size, rng=rng) for size in sizes)
    for linear, scale in ((first, math.sqrt(2)), (second, math.sqrt(2)), (last, gain)):
        linear.weight.data = nn.init.orthogonal(rng, linear.weight.shape, scale)
        linear.bias = nn.Parameter(nn.init.zeros(linear.weight.shape[:1]))
    return nn.Sequential(first, np.tanh, second, np.tanh, last)


def log_prob(logits: Any, actions: Any) -> Any:
    return -ops.cross_entropy(logits, actions, reduction="none")


@no_grad()
def play(
    actor: Callable[[Any], Any], carts: CartPole, horizon: int, rng: np.random.Generator
) -> tuple[Any, ...]:
    """`horizon` steps of all carts: states (n, T + 1, 4), actions and ends (n, T)."""
    n = len(carts.state)
    states = np.empty((n, horizon + 1, 4), np.float32)
    actions, ends = np.empty((n, horizon), np.int64), np.empty((n, horizon), bool)
    for t in range(horizon):
        states[:, t] = carts.state
        actions[:, t] = sample(actor(states[:, t]), rng)
        ends[:, t] = carts.step(actions[:, t])
    states[:, horizon] = carts.state
    return states, actions, ends


def learn_round(
    agent: Agent, carts: CartPole, optimizer: Adam, args: argparse.Namespace, rng: np.random.Generator
) -> dict[str, float]:
    """Play, and learn from it. Returns what is worth watching.

    Carts and advantages are on the CPU; `on` puts what the losses need of them beside the agent."""
    on = partial(to_device, device=args.device)
    states, actions, ends = play(asked(agent.actor, args.device), carts, args.horizon, rng)
    with no_grad():
        values = agent.critic(on(states)).numpy()[..., 0]  # (n, T + 1)
        old = log_prob(agent.actor(on(states[:, :-1])), actions).numpy()
    advantages, returns = gae(np.ones_like(old), values, ends, args.gamma, args.lam)
    x, a = states[:, :-1].reshape(-1, 4), actions.ravel()
    old, v, advantages, returns = old.ravel(), values[:, :-1].ravel(), advantages.ravel(), returns.ravel()
    for _ in range(args.epochs):
        for part in np.array_split(rng.permutation(len(x)), args.minibatches):
            every = np.ones(len(part), bool)
            batch = x[part], old[part], whiten(advantages[part], every), v[part], returns[part], every
            state, before, advantage, guess, goal, mask = map(on, batch)
            logits = agent.actor(state)
            logp = ops.log_softmax(logits)
            entropy = ops.entropy(logp)
            new = log_prob(logits, a[part])
            policy = policy_loss(new, before, advantage, mask, args.clip)
            value = value_loss(agent.critic(state)[:, 0], guess, goal, mask, args.clip)
            optimizer.zero_grad()
            (objective(policy, value, value_weight=args.value) - args.entropy * entropy).backward()
            clip_grad_norm(agent.parameters(), args.max_norm)
            optimizer.step()
    new = new.numpy()  # of the last part, before the last step
    return {
        "kl": float(k3(old[part], new).mean()),
        "clipped": clip_fraction(new, old[part], every, args.clip),
        "explained": float(1 - np.var(returns - v) / np.var(returns)),
    }


@no_grad()
def evaluate(actor: Callable[[Any], Any], seed: int) -> float:
    """The mean return of 100 episodes from fresh starts."""
    rng = np.random.default_rng(seed)
    carts, running, total = CartPole(100, rng), np.ones(100, bool), 0
    while running.any():
        total += int(running.sum())
        running &= ~carts.step(sample(actor(carts.state.astype(np.float32)), rng))
    return total / 100


def train(args: argparse.Namespace, run: RunFolder, rounds: int) -> bool:
    """The loop: `rounds` for each seed, one after the other. True when it came to the end."""
    total, rng = rounds * args.seeds, np.random.default_rng(0)
    agent, carts = Agent(rng).to(args.device), CartPole(args.carts, rng)
    optimizer = Adam(agent.parameters(), eps=1e-5)
    done = run.restore({"agent": agent, "carts": carts, "optimizer": optimizer, "rng": rng})
    with Stop() as stop, tqdm(total=total, initial=done, unit="round", dynamic_ncols=True) as bar:
        while done < total and not stop.asked:
            seed, here = divmod(done, rounds)
            if here == 0:
                rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
                agent.load_state_dict(Agent(rng).state_dict())
                carts.load_state_dict(CartPole(args.carts, rng).state_dict())
                optimizer.state.clear()
            optimizer.lr = args.lr * (1 - here / rounds)
            watched = learn_round(agent, carts, optimizer, args, rng)
            done, here = done + 1, here + 1
            steps = here * args.carts * args.horizon
            if here % 10 == 0 or here == rounds:
                mean = float(np.mean(carts.returns or carts.age))
                run.log(step=steps, **{f"seed {seed}": mean}, **watched)
                bar.set_postfix_str(f"seed {seed}: {mean:.0f} steps", refresh=False)
            if here == rounds:
                run.log(step=steps, final=evaluate(asked(agent.actor, args.device), 1000 + seed))
                run.model(agent.state_dict())
            bar.update()
            if done % args.save_every == 0:
                run.save(done)
        run.save(done)
    return bool(done == total)


def learn(args: argparse.Namespace) -> None:
    names = [f"seed {seed}" for seed in range(args.seeds)]
    rounds = math.ceil(args.steps / (args.carts * args.horizon))
    settings = {**settings_of(args), "steps": rounds * args.seeds}
    columns = ["step", *names, "kl", "clipped", "explained", "final"]
    run = RunFolder(args.out, columns, settings, args.resume)
    if not train(args, run, rounds):
        print("stopped; --resume goes on from there")
        return
    finals = [row["final"] for row in run.rows if "final" in row]
    mean, spread = float(np.mean(finals)), float(np.std(finals))
    anything = evaluate(lambda states: np.zeros((len(states), 2)), 0)
    rows = {"any push": anything, **dict(zip(names, finals, strict=True)), "mean of the seeds": mean}
    print(f"{'mean return of 100 episodes':32}{'steps':>9}")
    for name, value in {**rows, "published (CleanRL)": PUBLISHED, "highest": LIMIT}.items():
        print(f"{name:32}{value:9.1f}")
    title, levels = f"CartPole: {mean:.0f} of {LIMIT} steps", {"CleanRL": PUBLISHED, "any push": anything}
    run.curve({name: name for name in names}, levels, title, "mean return of the last 100 episodes")
    run.result(
        args,
        mean_return=mean,
        std=spread,
        returns=finals,
        random=anything,
        published=PUBLISHED,
    )


if __name__ == "__main__":
    start(flags, learn)
