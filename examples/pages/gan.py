"""The generative adversarial network on one page (Goodfellow et al. 2014, arXiv:1406.2661), with the penalty
R1 (Mescheder et al. 2018, arXiv:1801.04406).

The generator G makes points from noise z; the discriminator gives each point x a number D(x), the logit of
the probability that x is from the data. Both are trained, in turns:

    L_D = -E log σ(D(x)) - E log(1 - σ(D(G(z)))) + γ/2 E |∇D(x)|²      Goodfellow, eq. 1; Mescheder, eq. 9
    L_G = -E log σ(D(G(z)))                                            Goodfellow, section 3

For a fixed G with density q the best D without penalty is σ(D(x)) = p(x) / (p(x) + q(x)) (proposition 1). The
gradient in the penalty is itself differentiated, by the weights of D.
`g` and `d` are dicts of NumPy arrays; `update(params, grads)` changes one: gradient descent, or `adamw.py`.
Letters in shapes: B batch, D numbers of a point, Z numbers of z, H hidden units.
"""

import math

import numpy as np

from tinygen import Tensor, grad, ops


def init(D, Z, H, rng):
    """The weights of both networks, g and d. In a layer with n inputs they are uniform within ±1/√n."""

    def perceptron(inputs, outputs):
        p = {}
        for i, (n, m) in enumerate(((inputs, H), (H, H), (H, outputs)), 1):
            p[f"W{i}"] = rng.uniform(-1, 1, (n, m)) / math.sqrt(n)  # (n, m)
            p[f"b{i}"] = rng.uniform(-1, 1, m) / math.sqrt(n)  # (m,)
        return p

    return perceptron(Z, D), perceptron(D, 1)


def generator(g, z):
    """Points (B, D) of noise z (B, Z)."""
    h = ops.relu(z @ g["W1"] + g["b1"])  # (B, H)
    h = ops.relu(h @ g["W2"] + g["b2"])  # (B, H)
    return h @ g["W3"] + g["b3"]  # (B, D)


def discriminator(d, x):
    """The logits (B,) of points x (B, D)."""
    h = ops.leaky_relu(x @ d["W1"] + d["b1"], 0.2)  # (B, H)
    h = ops.leaky_relu(h @ d["W2"] + d["b2"], 0.2)  # (B, H)
    return (h @ d["W3"] + d["b3"])[:, 0]  # (B,)


def r1(d, x):
    """½ E |∇D(x)|² over points x (B, D) of the data."""
    slope = grad(lambda x: np.sum(discriminator(d, x)))(x)  # (B, D): each row by its own point
    return 0.5 * np.mean(np.sum(slope**2, axis=1))  # ()


def loss_d(d, x, fake, gamma):
    """L_D of points x (B, D) of the data and `fake` (B, D) of the generator. -log σ(a) is softplus(-a)."""
    real = np.mean(ops.softplus(-discriminator(d, x)))  # ()
    made = np.mean(ops.softplus(discriminator(d, fake)))  # ()
    return real + made + gamma * r1(d, x)  # ()


def loss_g(g, d, z):
    """L_G for noise z (B, Z)."""
    return np.mean(ops.softplus(-discriminator(d, generator(g, z))))  # ()


def descend(params, loss, update):
    """One step of one network on loss(p). Returns the loss."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    value = loss(p)  # ()
    value.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return value.item()


def train_step(g, d, x, gamma, rng, update_g, update_d):
    """A step of the discriminator on points x (B, D), then a step of the generator. Both losses."""
    z = rng.standard_normal((2, len(x), len(g["W1"])))  # (2, B, Z)
    fake = generator(g, z[0])  # (B, D)
    of_d = descend(d, lambda p: loss_d(p, x, fake, gamma), update_d)
    return of_d, descend(g, lambda p: loss_g(p, d, z[1]), update_g)


def sample(g, n, rng):
    """n new points."""
    return generator(g, rng.standard_normal((n, len(g["W1"]))))  # (n, D)
