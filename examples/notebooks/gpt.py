"""A GPT of two blocks learns a text of period 7 by heart, and continues it."""

import numpy as np
from pages.adamw import AdamW
from pages.gpt import cross_entropy, gpt, init, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(V=7, block_size=8, n_layer=2, C=12, rng=rng)
text = np.arange(40) % 7
batch = text[np.arange(4)[:, None] + np.arange(9)]
tokens, targets = batch[:, :-1], batch[:, 1:]

# The program of the loss, as the tape records it: here for one block with two heads.
small = init(V=7, block_size=8, n_layer=1, C=12, rng=rng)
p = {name: Tensor(w, requires_grad=True) for name, w in small.items()}
graph(cross_entropy(gpt(p, tokens, n_layer=1, H=2), targets), names=p)

# Training: at first each token has nearly the same probability, and the loss is near log 7 = 1.946.
update = AdamW(params, alpha=0.02).update
for step in range(61):
    loss = train_step(params, tokens, targets, 2, 3, update)
    if step % 20 == 0:
        print(f"step {step:2}  loss {loss:.4f}")
assert loss < 0.2

# Three tokens, continued by twelve.
written = sample(params, text[None, :3], 12, n_layer=2, H=3, rng=rng, temperature=0.1)
print(written[0])
assert np.array_equal(written[0], text[:15])

# **Try this.** Take the mask out of `causal_attention`, and train again: how fast does the loss fall now,
# and what is written? Why? How much does the loss at the start change if `init` draws with a standard
# deviation of 1?
