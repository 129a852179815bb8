"""A BERT of one block fills holes in texts that count: a token follows from its neighbors on both sides."""

import numpy as np
from pages.adamw import AdamW
from pages.bert import bert, hide, init, masked_loss, train_step

from tinygen import Tensor, graph

MASK, PAD = 1, 0
rng = np.random.default_rng(0)
params = init(V=9, block_size=8, n=1, C=12, F=16, rng=rng)
tokens = 2 + (rng.integers(0, 7, (32, 1)) + np.arange(8)) % 7
real = np.arange(8) < rng.integers(6, 9, (32, 1))
tokens = np.where(real, tokens, PAD)
print(tokens[:3])

# The program of the loss, as the tape records it.
holes, chosen = hide(tokens, real, 9, MASK, rng)
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
graph(masked_loss(p, holes, tokens, chosen, real, n=1, H=3), names=p)

# Training, each time with other holes.
update = AdamW(params, alpha=0.02).update
losses = [train_step(params, tokens, real, MASK, 1, 3, rng, update) for _ in range(151)]
print("loss:", *(f"{x:.3f}" for x in losses[::50]))
assert np.mean(losses[-10:]) < 0.3 * losses[0]

# One hole in each text, filled with the most probable token.
holes = tokens.copy()
holes[:, 3] = MASK
filled = bert(params, holes, real, n=1, H=3)[:, 3].argmax(axis=-1)
print(f"right: {np.mean(filled == tokens[:, 3]):.0%}")

# **Try this.** Hide the first and the last token instead: they have neighbors on one side only. How many
# are right now? What changes if `hide` puts [MASK] into every hole, and never another token?
