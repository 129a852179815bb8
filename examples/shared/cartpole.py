"""CartPole-v1 in NumPy, many carts side by side; rollouts of a policy in it, and its mean return."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygen import no_grad, ops
from tinygen.parallel import Communicator, gather, own_rows, sum_over_processes
from tinygen.random import categorical

LIMIT = 500  # steps of an episode, and so the highest return


class CartPole:
    """n carts, each with a pole. At every step a cart is pushed to the left (0) or to the right (1), to keep
    its pole upright (Barto, Sutton & Anderson 1983). Constants and Euler steps are the same as in
    Gymnasium's CartPole-v1.

    A state is the position and velocity of the cart, and the angle and angular velocity of the pole: (n,
    4). An episode ends when the cart is 2.4 m from the center, when the pole is 12° from upright, or after
    500 steps; then the next episode begins.

    With several processes, `comm`, each has its part of the n carts. All draw the starts of all carts, so
    that these do not depend on the number of processes."""

    GRAVITY, FORCE, TAU = 9.8, 10.0, 0.02
    POLE, HALF_LENGTH, TOTAL = 0.1, 0.5, 1.1  # masses in kg of the pole, and of both; in m
    FAR = np.array([2.4, np.inf, 12 * 2 * math.pi / 360, np.inf])

    def __init__(self, n: int, rng: np.random.Generator, comm: Communicator | None = None) -> None:
        self.n, self.rng, self.comm = n, rng, comm
        self.own = slice(0, n) if comm is None else own_rows(n, comm.rank, comm.size)
        self.state = rng.uniform(-0.05, 0.05, (n, 4))[self.own]
        self.age = np.zeros(n, np.int64)[self.own]
        self.returns: list[int] = []  # of the last 100 episodes

    def step(self, action: Any) -> Any:
        """Push each cart, by the actions (n,). Returns an array (n,), True where an episode has ended. Each
        reward is 1."""
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
        lengths = np.zeros(self.n, np.int64)  # of the episodes that have ended, of the carts of all processes
        lengths[self.own] = np.where(ended, self.age, 0)
        if self.comm is not None:
            lengths = sum_over_processes(lengths, self.comm)
        for cart in np.flatnonzero(lengths):
            self.returns = [*self.returns[-99:], int(lengths[cart])]
            start, here = self.rng.uniform(-0.05, 0.05, 4), cart - self.own.start
            if 0 <= here < len(self.age):
                self.state[here], self.age[here] = start, 0
        return ended

    def whole(self, x: Any) -> Any:
        """Of an array with a row for each own cart or step: the rows of all processes."""
        return x if self.comm is None else np.concatenate(gather(x, self.comm))

    def state_dict(self) -> dict[str, Any]:
        """The state of the carts of all processes."""
        return {
            "state": self.whole(self.state).copy(),
            "age": self.whole(self.age).copy(),
            "returns": self.returns,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        state, age = saved["state"], saved["age"]
        if state.shape != (self.n, 4) or age.shape != (self.n,):
            raise ValueError(f"{self.n} carts here, and {state.shape} and {age.shape} in the state")
        self.state, self.age = state[self.own].copy(), age[self.own].copy()
        self.returns = list(saved["returns"])


def act(actor: Callable[[Any], Any], states: Any, rng: np.random.Generator) -> Any:
    """An action for each of the states (n, 4), drawn from the policy. The actor gives its logits (n, 2)."""
    probs = ops.softmax(np.asarray(actor(states), np.float64))
    return categorical(probs, rng=rng)


@no_grad()
def play(
    actor: Callable[[Any], Any], carts: CartPole, horizon: int, rng: np.random.Generator
) -> tuple[Any, ...]:
    """A rollout of T = `horizon` steps of all carts: states (n, T + 1, 4), actions and ends (n, T)."""
    n = len(carts.state)
    states = np.empty((n, horizon + 1, 4), np.float32)
    actions, ends = np.empty((n, horizon), np.int64), np.empty((n, horizon), bool)
    for t in range(horizon):
        states[:, t] = carts.state
        actions[:, t] = act(actor, states[:, t], rng)
        ends[:, t] = carts.step(actions[:, t])
    states[:, horizon] = carts.state
    return states, actions, ends


@no_grad()
def evaluate(actor: Callable[[Any], Any], seed: int) -> float:
    """The mean return of 100 episodes from fresh starts."""
    rng = np.random.default_rng(seed)
    carts, running, total = CartPole(100, rng), np.ones(100, bool), 0
    while running.any():
        total += int(running.sum())
        running &= ~carts.step(act(actor, carts.state.astype(np.float32), rng))
    return total / 100
