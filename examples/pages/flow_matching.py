"""Flow matching on one page (Lipman, Chen, Ben-Hamu, Nickel & Le 2023, arXiv:2210.02747), on straight paths.

A line joins each point of noise ε ~ N(0, 1), at time t = 0, with a point of data x_1, at t = 1. A network
v_θ(x, t) learns the mean velocity of the lines that pass through x. New data comes from noise that follows
this velocity. The density of a point follows from the way back, since a flow thins out where it diverges.

    x_t = (1 - t) ε + t x_1                                                         eq. 22, σ_min = 0
    loss = ‖v_θ(x_t, t) - (x_1 - ε)‖²                                               eq. 23
    dx/dt = v_θ(x, t), from noise at t = 0 to data at t = 1                         eq. 1
    ln p_1(x_1) = ln p_0(x_0) - ∫ ∇·v_θ(x_t, t) dt        Chen et al. 2018, arXiv:1806.07366, theorem 1

The time of diffusion runs the other way: there x_0 is the data (`ddpm.py`).

The model is an argument: v_theta(params, x, t), from x (B, D) and t (B,) to (B, D).
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, D numbers in a data point.
"""

import numpy as np

from tinygen import Tensor, grad


def loss(v_theta, p, x_1, t, eps):
    """The mean squared error of the velocity; x_1 (B, D), t (B,), eps (B, D)."""
    x_t = (1 - t[:, None]) * eps + t[:, None] * x_1  # (B, D)
    return np.mean((v_theta(p, x_t, t) - (x_1 - eps)) ** 2)  # ()


def train_step(v_theta, params, x_1, rng, update):
    """A time and noise drawn for each x_1 (B, D)."""
    p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
    t = rng.random(len(x_1))  # (B,)
    eps = rng.standard_normal(x_1.shape)  # (B, D)
    value = loss(v_theta, p, x_1, t, eps)  # ()
    value.backward()
    update(params, {name: w.grad for name, w in p.items()})
    return value.item()


def step(v_theta, p, x, t, h):
    """The midpoint method, from x (B, D) at time t to t + h; and the point and the time in the middle."""
    middle = x + h / 2 * v_theta(p, x, np.full(len(x), t))  # (B, D)
    times = np.full(len(x), t + h / 2)  # (B,)
    return x + h * v_theta(p, middle, times), middle, times  # (B, D), (B, D), (B,)


def sample(v_theta, p, shape, steps, rng):
    """Data of this shape from noise."""
    x = rng.standard_normal(shape)  # (B, D)
    for k in range(steps):
        x = step(v_theta, p, x, k / steps, 1 / steps)[0]  # (B, D)
    return x


def divergence(v_theta, p, x, t):
    """Σ_d ∂v_d/∂x_d at each x (B, D) and t (B,), exactly: one gradient for each d."""
    total = np.zeros(len(x))  # (B,)
    for d in range(x.shape[1]):
        along = grad(lambda x, d=d: np.sum(v_theta(p, x, t)[:, d]))(x)  # (B, D)
        total = total + along.data[:, d]  # (B,)
    return total


def log_prob(v_theta, p, x, steps):
    """ln p_1 of each point x (B, D), in nats."""
    change = np.zeros(len(x))  # (B,)
    for k in range(steps, 0, -1):
        x, middle, times = step(v_theta, p, x, k / steps, -1 / steps)  # (B, D), (B, D), (B,)
        change = change + divergence(v_theta, p, middle, times) / steps  # (B,)
    return -0.5 * np.sum(x**2 + np.log(2 * np.pi), axis=1) - change  # (B,)
