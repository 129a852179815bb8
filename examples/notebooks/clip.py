"""CLIP learns which text belongs to which picture: pictures of one color, texts that name it."""

import numpy as np
from pages.adamw import AdamW
from pages.clip import init, logits, train_step

from tinygen import Tensor, graph

rng = np.random.default_rng(0)
params = init(V=5, S=3, N=4, Q=2, P=2, n=1, C=16, D=16, rng=rng)
words = np.array([[0, 2], [0, 3], [1, 2], [1, 3]])
y = np.concatenate([words, np.full((4, 1), 4)], axis=1)
x = (2 * words - [1, 5])[:, :, None, None] * np.ones((4, 4))
print(y[0], "is", x[0, :, 0, 0])

# The program of the logits, as the tape records it: a tower for pictures, a tower for texts, and their
# products.
p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
graph(logits(p, x, y, n=1, H=2), names=p)

# Training. A guess among four has the loss log 4 = 1.386.
update = AdamW(params, alpha=0.005).update
for step in range(61):
    loss = train_step(params, x, y, 1, 2, update)
    if step % 20 == 0:
        print(f"step {step:2}  loss {loss:.4f}")

# The text of each of three pictures.
z = logits(params, x[:3], y, 1, 2)
print(z.round(1))
assert z.argmax(axis=1).tolist() == [0, 1, 2]

# **Try this.** Teach only three of the four pairs. Is the fourth picture nearest to its text? What does the
# temperature `t` do during training, and what if it stays as it is?
