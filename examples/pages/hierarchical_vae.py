"""The hierarchical variational autoencoder on one page: a picture, its code, and the code of the code.

    model     p(x, z_1, z_2) = p(x|z_1) p(z_1|z_2) p(z_2),  p(z_2) = N(0, 1)
    encoder   q(z_1, z_2|x) = q(z_1|x) q(z_2|z_1)
    bound     log p(x) >= E_q[log p(x|z_1) p(z_1|z_2) p(z_2) / q(z_1|x) q(z_2|z_1)]

(Sønderby et al. 2016, arXiv:1602.02282, section 2). The expectation is estimated with one draw of both
codes, through which gradients flow. The bound is log p(x) where q is p(z_1, z_2|x). With T codes and an
encoder that is fixed and only adds noise, this is the bound of a diffusion of T steps.

Pixels x are in [0, 1], and p(x|z_1) is Bernoulli; the three other factors are Gaussian, by perceptrons.
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, D pixels, H hidden units, J numbers in a code z_1, K in a code z_2.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(D, H, J, K, rng):
    """Weights and biases of a layer with n inputs are uniform within ±1/√n."""
    sizes = {"q1": (D, H, J), "q2": (J, H, K), "p1": (K, H, J), "px": (J, H, D)}
    p = {}
    for name, (n, hidden, m) in sizes.items():
        for layer, a, b in (("h", n, hidden), ("mu", hidden, m), ("logvar", hidden, m)):
            p[f"{name}.{layer}.W"] = rng.uniform(-1, 1, (a, b)) / math.sqrt(a)  # (a, b)
            p[f"{name}.{layer}.b"] = rng.uniform(-1, 1, b) / math.sqrt(a)  # (b,)
    return {name: w for name, w in p.items() if "px.logvar" not in name}


def linear(p, name, x):
    """A layer, for x (B, n)."""
    return x @ p[f"{name}.W"] + p[f"{name}.b"]  # (B, m)


def gaussian(p, name, x):
    """A factor N(μ, σ²) given x (B, n): μ and log σ², each (B, m)."""
    h = ops.relu(linear(p, f"{name}.h", x))  # (B, H)
    return linear(p, f"{name}.mu", h), linear(p, f"{name}.logvar", h)  # each (B, m)


def logits(p, z):
    """The logits (B, D) of the pixels, for codes z = z_1 (B, J)."""
    return linear(p, "px.mu", ops.relu(linear(p, "px.h", z)))  # (B, D)


def draw(mu, logvar, eps):
    return mu + np.exp(0.5 * logvar) * eps  # (B, m)


def log_normal(z, mu, logvar):
    """log N(z; μ, σ²) of each row."""
    return np.sum(-0.5 * ((z - mu) ** 2 * np.exp(-logvar) + logvar + math.log(2 * math.pi)), axis=1)  # (B,)


def bound(p, x, eps_1, eps_2):
    """The bound in nats of each picture x (B, D), with noise eps_1 (B, J) and eps_2 (B, K)."""
    q1 = gaussian(p, "q1", x)  # each (B, J)
    z_1 = draw(*q1, eps_1)  # (B, J)
    q2 = gaussian(p, "q2", z_1)  # each (B, K)
    z_2 = draw(*q2, eps_2)  # (B, K)
    a = logits(p, z_1)  # (B, D)
    log_px = np.sum(x * a - ops.softplus(a), axis=1)  # (B,)
    log_p = log_px + log_normal(z_1, *gaussian(p, "p1", z_2)) + log_normal(z_2, 0.0, 0.0)  # (B,)
    return log_p - log_normal(z_1, *q1) - log_normal(z_2, *q2)  # (B,)


def train_step(params, x, rng, update):
    """One step on pictures x (B, D)."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    eps_1 = rng.standard_normal((len(x), len(params["q1.mu.b"])))  # (B, J)
    eps_2 = rng.standard_normal((len(x), len(params["q2.mu.b"])))  # (B, K)
    loss = -np.mean(bound(p, x, eps_1, eps_2))  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def sample(p, n, rng):
    """The mean pixels of n new pictures: z_2, then z_1 given z_2, then the pixels."""
    z_2 = rng.standard_normal((n, len(p["q2.mu.b"])))  # (n, K)
    mu, logvar = gaussian(p, "p1", z_2)  # each (n, J)
    z_1 = draw(mu, logvar, rng.standard_normal(mu.shape))  # (n, J)
    return ops.sigmoid(logits(p, z_1))  # (n, D)
