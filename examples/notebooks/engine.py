"""A perceptron of two layers learns the exclusive or, by the engine of this page alone."""

import numpy as np
from pages.engine import train_step

import tinygen
from tinygen import ops

rng = np.random.default_rng(0)
params = [rng.standard_normal(shape) for shape in ((2, 8), (8,), (8, 2), (2,))]
x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
xor = np.eye(2)[[0, 1, 1, 0]]

# The library records the same program on its tape, and `graph` draws it: parameters in yellow, and arrows
# to each op from its arguments.
W1, b1, W2, b2 = (tinygen.Tensor(w, requires_grad=True) for w in params)
log_p = ops.log_softmax(np.tanh(x @ W1 + b1) @ W2 + b2)
loss = np.sum(log_p * xor) * (-1 / len(x))
tinygen.graph(loss, names={"W1": W1, "b1": b1, "W2": W2, "b2": b2, "x": x, "xor": xor})

# Training by the page. The loss falls far below log 2 = 0.693, that of a guess.
for step in range(201):
    loss = train_step(params, x, xor, lr=1.0)
    if step % 50 == 0:
        print(f"step {step:3}  loss {loss:.4f}")
assert loss < 0.1

# **Try this.** In `backward`, write `x.grad = unbroadcast(...)`, without the sum, and train again: why does
# the loss still fall here? Find a program whose gradients are wrong now. Then write the op `exp` with its
# rule, and compare its gradient with a finite difference.
