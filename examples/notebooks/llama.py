"""A Llama of two blocks learns a text of period 7 by heart, and writes more than it was trained on."""

import numpy as np
from pages.adamw import AdamW
from pages.llama import init, llama, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(V=7, n=2, C=12, H=3, K=1, F=16, rng=rng)
text = np.arange(40) % 7
batch = text[np.arange(4)[:, None] + np.arange(9)]
tokens, targets = batch[:, :-1], batch[:, 1:]

# The program of the logits, as the tape records it: here for one block. Two heads share one key and value.
small = init(V=7, n=1, C=8, H=2, K=1, F=16, rng=rng)
p = {name: Tensor(w, requires_grad=True) for name, w in small.items()}
graph(llama(p, tokens, n=1, H=2, K=1), names=p)

# Training.
update = AdamW(params, alpha=0.02).update
for step in range(61):
    loss = train_step(params, tokens, targets, 2, 3, 1, update)
    if step % 20 == 0:
        print(f"step {step:2}  loss {loss:.4f}")
assert loss < 0.2

# Three tokens, continued by twelve.
written = sample(params, text[None, :3], 12, 2, 3, 1, rng, temperature=0.1)
print(written[0])
assert np.array_equal(written[0], text[:15])

# **Try this.** Positions are rotations, so that no table of positions ends: write 30 tokens. Where does it
# go wrong, and does a larger `base` of `rotary` help? Then let each head have its own key and value (K =
# 3).
