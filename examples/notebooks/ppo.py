"""PPO learns a game of two actions: which is right depends on the sign of the state."""

import numpy as np
from pages.adamw import AdamW
from pages.ppo import act, init, ppo_loss, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(D=3, H=8, K=2, rng=rng)

# The program of the loss, as the tape records it: π and V, the clipped ratio, the entropy.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
s, a = rng.standard_normal((16, 3)), rng.integers(0, 2, 16)
A, R, old = rng.standard_normal(16), rng.standard_normal(16), np.full(16, np.log(0.5))
graph(ppo_loss(p, s, a, old, A, R, eps=0.2, c_1=0.25, c_2=0.01), names={**p, "s": s, "A": A, "R": R})

# Four games of eight moves, then a training step on them. A guess is right half of the time.
update, rewards = AdamW(params, alpha=0.01).update, []
for _ in range(60):
    s = rng.standard_normal((4, 9, 3))
    a = np.stack([act(params, s[:, t], rng) for t in range(8)], axis=1)
    r = (a == (s[:, :-1, 0] > 0)).astype(float)
    train_step(params, (s, a, r, np.ones((4, 8), bool)), update, rng)
    rewards.append(r.mean())
print("mean reward:", *(f"{np.mean(rewards[i : i + 10]):.2f}" for i in range(0, 60, 10)))
assert np.mean(rewards[-10:]) > 0.8

# **Try this.** Take the clipping away (eps = 100), and let `epochs` be 40: is it still stable? Which term
# of the loss keeps the policy from being certain too early?
