"""A WaveNet learns two melodies of period 3, chosen by a class."""

import numpy as np
from pages.adamw import AdamW
from pages.wavenet import init, sample, silence, train_step, wavenet

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(V=5, C=8, S=8, L=3, classes=2, rng=rng)
text = np.stack([np.arange(13) % 3, 2 + np.arange(13) % 3])
classes = np.repeat([[0], [1]], 12, axis=1)

# The program of the logits, as the tape records it: three layers, which look 1, 2 and 4 tokens back.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
graph(wavenet(p, text[:, :-1], classes, silence(2, 8, 3)), names=p)

# Training.
update = AdamW(params, alpha=0.02).update
losses = [train_step(params, text[:, :-1], text[:, 1:], classes, 3, update) for _ in range(121)]
print("loss:", *(f"{x:.3f}" for x in losses[::40]))

# Both melodies, continued from their first token.
written = sample(params, text[:, :1], classes[:, :8], 3, rng)
print(written)
assert np.mean(written == text[:, :9]) > 0.9

# **Try this.** Change the class in the middle of a melody. Then train with L = 1, so that only one token is
# seen: which melody is still right? How far back does a WaveNet with L layers look?
