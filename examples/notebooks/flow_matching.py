"""Flow matching learns two points on a line, at -1 and 1, and tells the density of every point."""

import numpy as np
from pages.adamw import AdamW
from pages.flow_matching import log_prob, loss, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
shapes = {"W1": (2, 32), "b1": (32,), "W2": (32, 32)}
params = {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}
params["W3"] = np.zeros((32, 1))
x_1 = rng.choice([-1.0, 1.0], (64, 1))


def v_theta(p, x, t):
    """A small network that predicts the velocity at x, at time t."""
    h = np.tanh(np.concatenate([x, t[:, None]], axis=1) @ p["W1"] + p["b1"])
    return np.tanh(h @ p["W2"]) @ p["W3"]


# The program of the loss, as the tape records it.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
t, eps = rng.random(64), rng.standard_normal((64, 1))
graph(loss(v_theta, p, x_1, t, eps), names=p)

# Training.
update = AdamW(params, alpha=0.02).update
losses = [train_step(v_theta, params, x_1, rng, update) for _ in range(401)]
print("loss:", *(f"{np.mean(losses[i : i + 20]):.3f}" for i in range(0, 400, 80)))

# Points along straight paths, and the density at -1, 0 and 1.
x = sample(v_theta, params, (200, 1), 20, rng)
print(f"within 0.3 of a point: {np.mean(np.abs(np.abs(x) - 1) < 0.3):.0%}")
log_p = log_prob(v_theta, params, np.array([[-1.0], [0.0], [1.0]]), 20)
print("log p at -1, 0 and 1:", log_p.round(2))
assert log_p[1] < min(log_p[0], log_p[2]) - 1

# **Try this.** Draw with 1, 2, 5 and 50 steps: from which number on does nothing change? Then sum p(x) over
# a fine grid from -3 to 3: is it 1?
