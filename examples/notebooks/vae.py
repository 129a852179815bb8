"""A VAE learns two pictures of six pixels, and draws them from noise."""

import numpy as np
from pages.adamw import AdamW
from pages.vae import elbo, encode, init, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(D=6, H=16, J=2, rng=rng)
x = np.repeat([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], 8, axis=0)

# The program of the ELBO, as the tape records it: the encoder, the code z, the decoder, and the two terms.
eps = rng.standard_normal((16, 2))
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
graph(elbo(p, x, eps), names={**p, "x": x, "eps": eps})

# Training. No loss is below log 2 = 0.693, the entropy of the two pictures.
update = AdamW(params, alpha=0.02).update
losses = [train_step(params, x, rng, update) for _ in range(151)]
print("loss:", *(f"{x:.3f}" for x in losses[::50]))
assert losses[-1] < 0.5 * losses[0]

# Pictures from codes that are drawn from the prior, and the codes of the two pictures.
print(sample(params, 4, rng).round(2))
print(encode(params, x[[0, 8]])[0].round(2))

# **Try this.** Take the KL divergence out of the ELBO, and train again: what do pictures from the prior
# look like now, and where are the codes? Then give the VAE one number per code instead of two.
