"""Latent diffusion draws pictures for texts of two words: each word is the color of one half."""

import numpy as np
from pages.adamw import AdamW
from pages.latent_diffusion import (
    diffusion_loss,
    encode,
    init_autoencoder,
    init_diffusion,
    sample,
    schedule,
    train_autoencoder,
    train_diffusion,
)

from tinygen import Tensor, graph

# A text is two words, 1 or 2; 0 is the empty word.
rng = np.random.default_rng(0)
y = rng.integers(1, 3, (32, 2))
sides = np.repeat(np.array([0.0, -1.0, 1.0])[y], 2, axis=1)
x = np.repeat(sides[:, None, None], 4, axis=2).reshape(32, 1, 4, 4) * np.ones((1, 2, 1, 1))
print(y[0], "is", x[0, 0, 0])

# First the autoencoder: a code has 2 × 2 numbers for 2 × 4 × 4.
first = init_autoencoder(Q=2, f=2, C=8, Z=1, rng=rng)
update, code_shape = AdamW(first, alpha=0.02).update, (32, 1, 2, 2)
losses = [train_autoencoder(first, x, code_shape, rng, update) for _ in range(201)]
print("loss of the autoencoder:", *(f"{x:.3f}" for x in losses[::50]))
z_0 = encode(first, x)[0]
scale = 1 / z_0.std()

# The program of the second loss, as the tape records it: one Transformer block, which looks at the text.
alpha_bar = schedule(40)
params = init_diffusion(V=3, L=2, N=4, Z=1, C=16, rng=rng)
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
t, eps = rng.integers(1, 41, size=32), rng.standard_normal(code_shape)
graph(diffusion_loss(p, scale * z_0, y, t, eps, alpha_bar), names={**p, "eps": eps})

# Its training.
update = AdamW(params, alpha=0.01).update
losses = [train_diffusion(params, scale * z_0, y, alpha_bar, rng, update) for _ in range(201)]
print("loss of the diffusion:", *(f"{x:.3f}" for x in losses[::50]))

# Pictures for the texts, in five steps with guidance.
drawn = sample(params, first, scale, y, code_shape, alpha_bar, rng, steps=5, w=1.0)
right = np.mean(np.sign(drawn) == x)
print(f"right pixels: {right:.0%}")
assert right > 0.8

# **Try this.** Draw with w = 0, 1, 4 and 10. What happens to the right pixels, and what to the size of the
# numbers? Then leave out `scale`.
