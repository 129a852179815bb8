"""A VAE with two layers of codes learns two pictures of six pixels."""

import numpy as np
from pages.adamw import AdamW
from pages.hierarchical_vae import bound, init, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(D=6, H=16, J=2, K=1, rng=rng)
x = np.repeat([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], 8, axis=0)

# The program of the bound, as the tape records it: up from the picture to z_1 and z_2, and down again.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
eps_1, eps_2 = rng.standard_normal((16, 2)), rng.standard_normal((16, 1))
graph(bound(p, x, eps_1, eps_2), names={**p, "x": x, "eps_1": eps_1, "eps_2": eps_2})

# Training. No loss is below log 2 = 0.693, the entropy of the two pictures.
update = AdamW(params, alpha=0.02).update
losses = [train_step(params, x, rng, update) for _ in range(201)]
print("loss:", *(f"{x:.3f}" for x in losses[::50]))
assert losses[-1] < 0.6 * losses[0]

# New pictures.
print(sample(params, 4, rng).round(2))

# **Try this.** Compare log N(z_2; q_2) and log N(z_2; 0, 1) after training: is z_2 used, or is it the prior
# for every picture? What changes that: more numbers in z_2, fewer in z_1?
