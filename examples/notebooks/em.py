"""EM finds three clusters of points in the plane, their means and their weights."""

import numpy as np
from pages.em import e_step, init, sample, train_step

rng = np.random.default_rng(0)
means = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
x = np.repeat(means, [30, 20, 10], axis=0) + 0.1 * rng.standard_normal((60, 2))
params = init(x, K=3, rng=rng)

# The loss never rises.
losses = [train_step(params, x) for _ in range(30)]
print("loss:", *(f"{x:.4f}" for x in losses[::6]))
assert np.all(np.diff(losses) < 1e-12)

# What it has found, and the responsibilities for the first point.
print(params["pi"].round(3), params["mu"].round(2), sep="\n")
print(e_step(params, x)[0].round(3))
print(sample(params, 3, rng).round(2))

# **Try this.** Begin with two components, and with four: what becomes of the loss, and of the fourth
# component? Then put all points of one cluster at the same place: what happens to its covariance?
