"""A picture of noise gets the style of stripes, and keeps the content of a square."""

import numpy as np
from pages.adamw import AdamW
from pages.style import features, gram, init, targets, total_loss, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
layers = init([3, 8], rng)  # a random network of two layers

# The content is a light square, the style has stripes; both are 16 × 16, with three equal channels.
content, style = -np.ones((2, 3, 16, 16))
content[:, 4:12, 4:12] = 1.0
style[:, :, ::4] = style[:, :, 1::4] = 1.0
P, A = targets(layers, content, style)

# A Gram matrix does not know where things are: a square elsewhere has the same.
moved = np.roll(content, 2, axis=2)
both = [gram(features(layers, picture)[0]) for picture in (content, moved)]
print("the same Gram matrix:", np.allclose(*both))

# The program of the loss, as the tape records it.
x = Tensor(content, requires_grad=True)
graph(total_loss(layers, x, P, A, 1e-3), names={"x": x})

# The picture is changed, not the network.
params = {"x": content + 0.1 * rng.standard_normal(content.shape)}
update = AdamW(params, alpha=0.05, lam=0.0).update
losses = [train_step(params, layers, P, A, 1e-3, update) for _ in range(201)]
print("loss:", *(f"{loss:.4f}" for loss in losses[::40]))
assert losses[-1] < losses[0] / 4

# What has become of the square: one row through its middle.
print(np.round(params["x"][0, 8], 1))

# **Try this.** Take alpha = 0, then 1: what is left of the square, and of the stripes? Then begin with noise
# in place of the content.
