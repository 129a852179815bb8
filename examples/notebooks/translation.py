"""An encoder and a decoder learn to write texts of two or three letters in reverse."""

import numpy as np
from pages.adamw import AdamW
from pages.translation import decode, encode, init, smoothed_cross_entropy, train_step, translate

from tinygen import Tensor, graph

# 0 is padding, 1 begins a text, 2 ends it, and 3 to 6 are letters.
rng = np.random.default_rng(0)
params = init(V=7, layers=1, C=12, hidden=16, rng=rng)
letters = np.array([[a, b, c] for a in (3, 4, 5, 6) for b in (3, 4, 5, 6) for c in (0, 3, 6)])
source = np.append(letters, np.zeros((48, 1), int), axis=1)
target = np.array([[1, *[x for x in row[::-1] if x], 2, *[0] * (row == 0).sum()] for row in letters])
print(source[1], "->", target[1])

# The program of the loss, as the tape records it: the encoder, then the decoder, which looks at both texts.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
x = encode(p, source, layers=1, H=3)
logits = decode(p, target[:, :-1], x, source, layers=1, H=3)
graph(smoothed_cross_entropy(logits, target[:, 1:], eps=0.01), names=p)

# Training.
update = AdamW(params, alpha=0.01).update
losses = [train_step(params, source, target, 1, 3, 0.01, update) for _ in range(121)]
print("loss:", *(f"{x:.3f}" for x in losses[::40]))

# What it writes, token by token.
written = translate(params, source, 4, 1, 3)
right = (written == target[:, 1:]) | (target[:, 1:] == 0)
print(f"right: {right.all(axis=1).mean():.0%}")
assert right.all(axis=1).mean() > 0.9

# **Try this.** Learn on three quarters of the texts, and write the others. Then let the smoothing `eps` be
# 0.3: what happens to the loss, and what to the texts?
