"""An LSTM learns a text of period 7 in segments of 5 tokens; its state goes from one to the next."""

import numpy as np
from pages.adamw import AdamW
from pages.lstm import cross_entropy, init, lstm, sample, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(V=7, C=12, rng=rng)
text = np.arange(400) % 7
h = c = np.zeros((4, 12))

# The program of the loss for a segment of two tokens, as the tape records it: the cell, once per token.
batch = text[np.arange(4)[:, None] + np.arange(3)]
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
logits, _, _ = lstm(p, batch[:, :-1], h, c)
graph(cross_entropy(logits, batch[:, 1:]), names=p)

# Training. The state goes on to the next segment, the gradient does not.
update = AdamW(params, alpha=0.05).update
for step in range(61):
    batch = text[np.arange(4)[:, None] + np.arange(5 * step, 5 * step + 6)]
    loss, h, c = train_step(params, batch[:, :-1], batch[:, 1:], h, c, update)
    if step % 20 == 0:
        print(f"step {step:2}  loss {loss:.4f}")
assert loss < 0.2

# Three tokens, continued by twelve.
written = sample(params, text[None, :3], 12, rng, temperature=0.1)
print(written[0])
assert np.array_equal(written[0], text[:15])

# **Try this.** Set `h` and `c` to zero before each segment: which tokens of a segment are hard now? What
# does a bias of 0 for the forget gate, for that in `init`, change in the first 20 steps?
