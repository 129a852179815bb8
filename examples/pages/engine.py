"""Reverse-mode automatic differentiation on one page (Linnainmaa 1976; Griewank & Walther 2008, chapter 3).

A number L is computed from arrays, step by step. From the last step back to the first, the chain rule gives
the gradient of L by every array:

    ∂L/∂x = Σ over all y that x was used for:  (∂y/∂x)ᵀ ∂L/∂y

An op is its value and, beside it, one rule per input: it takes g = ∂L/∂value and returns ∂L/∂input.
`tinygen/tape.py` and `tinygen/backward.py` do the same, and add dtypes, higher orders and error messages.

Letters in shapes: (...) any shape, B batch, D inputs, H hidden units, K classes.
"""

import numpy as np


class Tensor:
    """An array, the Tensors that it was computed from, and for each of them the rule of its gradient."""

    def __init__(self, data, inputs=(), rules=()):
        self.data = np.asarray(data, np.float64)  # (...)
        self.inputs, self.rules, self.grad = inputs, rules, 0.0

    def backward(self):
        """Write ∂self/∂x into `x.grad` for every x that this number was computed from."""
        self.grad = np.ones_like(self.data)  # (...)
        for y in reversed(topological_order(self)):  # y.grad is complete: all that used y came before
            for x, rule in zip(y.inputs, y.rules, strict=True):
                x.grad = x.grad + unbroadcast(rule(y.grad), x.data.shape)  # (...): all uses of x add up


def topological_order(output):
    """All Tensors that `output` was computed from, each one after its inputs."""
    order, seen = [], set()

    def visit(y):
        if y not in seen:
            seen.add(y)
            for x in y.inputs:
                visit(x)
            order.append(y)

    visit(output)
    return order


def unbroadcast(g, shape):
    """Broadcasting copied an input of this shape; its gradient is the sum over the copies."""
    new = g.ndim - len(shape)  # axes that broadcasting put in front
    stretched = [new + i for i, n in enumerate(shape) if n == 1]  # axes of length 1 that it repeated
    return g.sum(axis=(*range(new), *stretched)).reshape(shape)  # (...)


def op(body):
    """Make a function on arrays that returns `value, rule, rule, ...` into one on Tensors."""

    def call(*args):
        inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in args]
        value, *rules = body(*[x.data for x in inputs])  # (...)
        return Tensor(value, inputs, rules)  # (...)

    return call


@op
def add(a, b):
    return a + b, lambda g: g, lambda g: g  # (...)


@op
def multiply(a, b):
    return a * b, lambda g: g * b, lambda g: g * a  # (...)


@op
def matmul(a, b):
    return a @ b, lambda g: g @ b.T, lambda g: a.T @ g  # (n, m)


@op
def tanh(x):
    y = np.tanh(x)  # (...)
    return y, lambda g: g * (1 - y * y)  # (...)


@op
def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)  # (B, K): so that nothing overflows
    y = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))  # (B, K)
    return y, lambda g: g - np.exp(y) * g.sum(axis=-1, keepdims=True)  # (B, K)


@op
def total(x):
    return x.sum(), lambda g: np.full(x.shape, g)  # ()


Tensor.__add__, Tensor.__mul__, Tensor.__matmul__ = add, multiply, matmul


def train_step(params, x, target, lr):
    """Gradient descent on the cross-entropy of a perceptron; x (B, D), target (B, K) is one-hot."""
    W1, b1, W2, b2 = p = [Tensor(w) for w in params]  # (D, H), (H,), (H, K), (K,)
    log_p = log_softmax(tanh(Tensor(x) @ W1 + b1) @ W2 + b2)  # (B, K)
    loss = total(log_p * target) * (-1 / len(x))  # ()
    loss.backward()
    for w, leaf in zip(params, p, strict=True):
        w -= lr * leaf.grad  # (...)
    return loss.data
