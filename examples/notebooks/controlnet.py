"""A network that was trained without hints learns to follow them. Its pictures have one color each."""

import numpy as np
from pages.adamw import AdamW
from pages.controlnet import eps_theta, init, loss, sample, train_step

from tinygen import Tensor, graph, ops

rng = np.random.default_rng(0)
first = {"in": 0.3 * rng.standard_normal((4, 1, 3, 3)), "down": 0.3 * rng.standard_normal((6, 4, 3, 3))}
base = first | {"out": 0.3 * rng.standard_normal((1, 10, 3, 3))}


def encoder(p, x, t, more):
    """Two feature maps; the hint's is added to the first."""
    h = ops.conv2d(x, p["in"], padding=1) + more
    return [h, ops.silu(ops.conv2d(ops.silu(h), p["down"], padding=1))]


def decoder(p, maps, t):
    return ops.conv2d(np.concatenate(maps, axis=1), p["out"], padding=1)


# Hints are 1 for light pictures and -1 for dark ones. The diffusion has one step, from half noise.
c = np.ones((32, 1, 4, 4)) * rng.choice([-1.0, 1.0], (32, 1, 1, 1))
x_0, t, alpha_bar = 2 * c, np.ones(32, int), np.array([1.0, 0.5])
params = init(first, (4, 6), Q=1, K=8, rng=rng)

# At the start the hint changes nothing: the difference is 0 in all bits.
without = decoder(base, encoder(base, x_0, t, 0.0), t)
print("difference:", np.abs(eps_theta(base, params, encoder, decoder, x_0, t, c) - without).max())

# The program of the loss, as the tape records it, and the gradients of the first step.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
value = loss(base, p, encoder, decoder, x_0, t, c, rng.standard_normal(x_0.shape), alpha_bar)
graph(value, names=p)
value.backward()
for name, w in p.items():
    print(f"{name:9} {'0' if not w.grad.any() else 'not 0'}")

# Training.
update = AdamW(params, alpha=0.02).update
losses = [train_step(base, params, encoder, decoder, x_0, c, alpha_bar, rng, update) for _ in range(201)]
print("loss:", *(f"{x:.3f}" for x in losses[::40]))

# Drawing along the hints.
drawn = sample(base, params, encoder, decoder, c, c.shape, alpha_bar, rng)
right = np.mean(np.sign(drawn) == c)
print(f"pixels as the hint says: {right:.0%}")
assert right > 0.9

# **Try this.** Print the gradients after the second step, and after the third: what follows the zero
# convolutions? Then draw with strength 0, 0.5 and 2.
