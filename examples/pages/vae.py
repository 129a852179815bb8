"""The variational autoencoder on one page (Kingma & Welling 2013, arXiv:1312.6114).

The encoder gives q(z|x) = N(μ, σ²), the decoder p(x|z); the prior is p(z) = N(0, 1). Training maximizes the
evidence lower bound (ELBO) on log p(x):

    log p(x) >= E_q[log p(x|z)] - KL(q(z|x) ‖ p(z))                      eq. 3
    z = μ + σ ε,  ε ~ N(0, 1)            the reparameterization trick     eq. 4
    KL = ½ Σ (μ² + σ² - 1 - log σ²)                                       appendix B

Pixels x are in [0, 1], and p(x|z) is Bernoulli with mean y (appendix C.1); logits are log y/(1 - y).
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, D pixels, H hidden units, J numbers in a code z.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def init(D, H, J, rng):
    """Weights and biases of a layer with n inputs are uniform within ±1/√n."""
    uniform = lambda n, *shape: rng.uniform(-1, 1, shape) / math.sqrt(n)
    return {
        "W_x": uniform(D, D, H),  # (D, H)
        "b_x": uniform(D, H),  # (H,)
        "W_mu": uniform(H, H, J),  # (H, J)
        "b_mu": uniform(H, J),  # (J,)
        "W_logvar": uniform(H, H, J),  # (H, J)
        "b_logvar": uniform(H, J),  # (J,)
        "W_z": uniform(J, J, H),  # (J, H)
        "b_z": uniform(J, H),  # (H,)
        "W_y": uniform(H, H, D),  # (H, D)
        "b_y": uniform(H, D),  # (D,)
    }


def encode(p, x):
    """q(z|x) for x (B, D): μ and log σ², each (B, J)."""
    h = ops.relu(x @ p["W_x"] + p["b_x"])  # (B, H)
    mu = h @ p["W_mu"] + p["b_mu"]  # (B, J)
    logvar = h @ p["W_logvar"] + p["b_logvar"]  # (B, J)
    return mu, logvar


def decode(p, z):
    """The logits (B, D) of the pixels, for codes z (B, J)."""
    h = ops.relu(z @ p["W_z"] + p["b_z"])  # (B, H)
    return h @ p["W_y"] + p["b_y"]  # (B, D)


def elbo(p, x, eps):
    """The ELBO in nats, the mean over pictures x (B, D), with noise eps (B, J)."""
    mu, logvar = encode(p, x)  # each (B, J)
    z = mu + np.exp(0.5 * logvar) * eps  # (B, J)
    logits = decode(p, z)  # (B, D)
    log_px = np.sum(x * logits - ops.softplus(logits))  # (): Σ x log y + (1 - x) log(1 - y)
    kl = 0.5 * np.sum(mu * mu + np.exp(logvar) - 1 - logvar)  # ()
    return (log_px - kl) / len(x)  # ()


def train_step(params, x, rng, update):
    """One step on pictures x (B, D)."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    eps = rng.standard_normal((len(x), len(params["b_mu"])))  # (B, J)
    loss = -elbo(p, x, eps)  # ()
    loss.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return loss.item()


def sample(p, n, rng):
    """The mean pixels of n new pictures: z from the prior, then the decoder."""
    z = rng.standard_normal((n, len(p["b_mu"])))  # (n, J)
    return ops.sigmoid(decode(p, z))  # (n, D)
