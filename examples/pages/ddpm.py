"""Denoising diffusion on one page: DDPM (Ho, Jain & Abbeel 2020, arXiv:2006.11239).

Noise is added to the data x_0 in T steps, t = 1 … T, until x_T is almost pure noise. A network ε_θ(x_t, t)
learns to predict the noise in x_t. With it, one goes back step by step, from noise to data.

    q(x_t|x_0) = N(√ᾱ_t x_0, (1 - ᾱ_t) I)                                           eq. 4
    loss = ‖ε - ε_θ(√ᾱ_t x_0 + √(1 - ᾱ_t) ε, t)‖²                                   eq. 14
    x_{t-1} = (x_t - β_t/√(1 - ᾱ_t) ε_θ(x_t, t)) / √(1 - β_t) + √β̃_t z               algorithm 2
    β̃_t = (1 - ᾱ_{t-1})/(1 - ᾱ_t) β_t, the variance of q(x_{t-1}|x_t, x_0)           eq. 7

Here N(mean, variance) and ᾱ_t = (1 - β_1) … (1 - β_t); the paper writes α_t for 1 - β_t.

The model is an argument: eps_theta(params, x, t), from x (B, D) and t (B,) to (B, D).
`params` is a dict of NumPy arrays; `update(params, grads)` changes it: gradient descent, or `adamw.py`.
Letters in shapes: B batch, D numbers in a data point, T steps.
"""

import numpy as np

from tinygen import Tensor


class DDPM:
    def __init__(self, T, beta_1=1e-4, beta_T=0.02):
        """β rises linearly; entry t belongs to step t, and entry 0 to the data: β_0 = 0, ᾱ_0 = 1."""
        self.T = T
        self.beta = np.append(0.0, np.linspace(beta_1, beta_T, T))  # (T + 1,)
        self.alpha_bar = np.cumprod(1 - self.beta)  # (T + 1,)

    def q_sample(self, x_0, t, eps):
        """x_t for data x_0 (B, D), steps t (B,) and noise eps (B, D)."""
        alpha_bar = self.alpha_bar[t][:, None]  # (B, 1)
        return np.sqrt(alpha_bar) * x_0 + np.sqrt(1 - alpha_bar) * eps  # (B, D)

    def loss(self, eps_theta, p, x_0, t, eps):
        """The mean squared error of the noise in x_t; x_0 (B, D), t (B,), eps (B, D)."""
        x_t = self.q_sample(x_0, t, eps)  # (B, D)
        return np.mean((eps - eps_theta(p, x_t, t)) ** 2)  # ()

    def train_step(self, eps_theta, params, x_0, rng, update):
        """Algorithm 1: a step and noise drawn for each x_0 (B, D)."""
        p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
        t = rng.integers(1, self.T + 1, size=len(x_0))  # (B,)
        eps = rng.standard_normal(x_0.shape)  # (B, D)
        loss = self.loss(eps_theta, p, x_0, t, eps)  # ()
        loss.backward()
        update(params, {name: w.grad for name, w in p.items()})
        return loss.item()

    def sample(self, eps_theta, p, shape, rng):
        """Algorithm 2: data of this shape from noise."""
        x = rng.standard_normal(shape)  # (B, D)
        for t in range(self.T, 0, -1):
            beta, alpha_bar = self.beta[t], self.alpha_bar[t]  # each ()
            eps = eps_theta(p, x, np.full(len(x), t))  # (B, D)
            x = (x - beta / np.sqrt(1 - alpha_bar) * eps) / np.sqrt(1 - beta)  # (B, D): mean
            beta_tilde = (1 - self.alpha_bar[t - 1]) / (1 - alpha_bar) * beta  # (): variance, β̃_1 = 0
            x = x + np.sqrt(beta_tilde) * rng.standard_normal(shape)  # (B, D)
        return x
