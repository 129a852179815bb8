"""A GAN learns two points on a line, at -1 and 1."""

import numpy as np
from pages.adamw import AdamW
from pages.gan import init, loss_g, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
g, d = init(D=1, Z=2, H=16, rng=rng)


def data(n):
    """n points, each near -1 or 1."""
    return rng.choice([-1.0, 1.0], (n, 1)) + 0.1 * rng.standard_normal((n, 1))


def distance():
    """The mean distance of 500 points of the generator to as many of the data, both sorted."""
    return np.mean(np.abs(np.sort(sample(g, 500, rng)[:, 0]) - np.sort(data(500)[:, 0])))


# The program of the generator's loss, as the tape records it: G, then D, whose parameters are constants
# here.
p = {name: Tensor(w, requires_grad=True) for name, w in g.items()}
names = {f"D.{name}": w for name, w in d.items()}
graph(loss_g(p, d, rng.standard_normal((8, 2))), names={**p, **names})

# Training: the losses of both players stay where they are, so look at the points.
update_g, update_d = (AdamW(p, 0.005, 0.0, 0.99).update for p in (g, d))
print(f"distance before: {distance():.3f}")
for _ in range(300):
    losses = train_step(g, d, data(64), 0.1, rng, update_g, update_d)
print(f"distance after: {distance():.3f}")
assert distance() < 0.3

# **Try this.** Set γ = 0, so that the discriminator has no penalty, and train several times with other
# seeds. How often are both points found? What is D(x) at the points when it works?
