"""AdamW finds the bottom of a valley that is a hundred times steeper in one direction than in the other."""

import numpy as np
from pages.adamw import AdamW, train_step

from tinygen import Tensor, graph

params = {"x": np.array([1.0, 1.0]), "y": np.array(3.0)}


def valley(p):
    """Its bottom is at x = 0, y = 2."""
    return np.sum(np.array([1.0, 100.0]) * p["x"] ** 2) + (p["y"] - 2) ** 2


# The program of the function, as the tape records it.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
graph(valley(p), names=p)

# The steps have nearly the same size in both directions, whatever the slope is.
optimizer = AdamW(params, alpha=0.1, eta=lambda t: 1 - t / 101)
for step in range(101):
    value = train_step(valley, params, optimizer)
    if step % 20 == 0:
        print(f"step {step:3}  {value:9.4f}  x {params['x'].round(3)}  y {params['y'].round(3)}")
assert value < 0.01

# **Try this.** Do the same by gradient descent: how large may the step be, and how many steps does it take?
# Then leave out the divisions by 1 - βᵗ: what is the first step now?
