"""A diffusion of 20 steps learns two points on a line, at -1 and 1."""

import numpy as np
from pages.adamw import AdamW
from pages.ddpm import DDPM

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
ddpm = DDPM(T=20, beta_1=0.01, beta_T=0.4)
shapes = {"W1": (2, 32), "b1": (32,), "W2": (32, 32)}
params = {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}
params["W3"] = np.zeros((32, 1))
x_0 = rng.choice([-1.0, 1.0], (64, 1))


def eps_theta(p, x, t):
    """A small network that predicts the noise in x, at step t."""
    h = np.tanh(np.concatenate([x, t[:, None] / 20], axis=1) @ p["W1"] + p["b1"])
    return np.tanh(h @ p["W2"]) @ p["W3"]


# The program of the loss, as the tape records it. The noisy point x_t is a constant for the tape.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
t, eps = rng.integers(1, 21, size=64), rng.standard_normal((64, 1))
graph(ddpm.loss(eps_theta, p, x_0, t, eps), names={**p, "eps": eps})

# Training. A network that knows nothing has a loss of 1, the variance of the noise.
update = AdamW(params, alpha=0.02).update
losses = [ddpm.train_step(eps_theta, params, x_0, rng, update) for _ in range(401)]
print("loss:", *(f"{np.mean(losses[i : i + 20]):.3f}" for i in range(0, 400, 80)))

# From noise to points.
x = ddpm.sample(eps_theta, params, (200, 1), rng)
near = np.mean(np.abs(np.abs(x) - 1) < 0.3)
print(f"within 0.3 of a point: {near:.0%}")
assert near > 0.8

# **Try this.** Print ᾱ_T: how much of the data is left in x_T? Make it larger, with beta_T = 0.1, and look
# at the points. Then leave out the noise of the last line of `sample`: where do the points go?
