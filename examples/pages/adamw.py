"""AdamW on one page: Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2).

    m_t = β_1 m_{t-1} + (1 - β_1) g_t           m̂_t = m_t / (1 - β_1ᵗ)
    v_t = β_2 v_{t-1} + (1 - β_2) g_t²          v̂_t = v_t / (1 - β_2ᵗ)
    θ_t = θ_{t-1} - η_t (α m̂_t / (√v̂_t + ε) + λ θ_{t-1})

m and v are running means of the gradient g and of its square. Both start at 0; m̂ and v̂ correct for that.
η_t is the schedule of the learning rate. PyTorch and `tinygen.optim.AdamW` are the same with lr = η_t α and
weight_decay = λ/α.
"""

import numpy as np

from tinygen import Tensor


def adamw(theta, g, m, v, t, eta, alpha, beta_1, beta_2, eps, lam):
    """Step t = 1, 2, … of one parameter: theta, g, m, v (...) -> θ, m, v."""
    m = beta_1 * m + (1 - beta_1) * g  # (...)
    v = beta_2 * v + (1 - beta_2) * g * g  # (...)
    m_hat = m / (1 - beta_1**t)  # (...)
    v_hat = v / (1 - beta_2**t)  # (...)
    theta = theta - eta * (alpha * m_hat / (np.sqrt(v_hat) + eps) + lam * theta)  # (...)
    return theta, m, v


class AdamW:
    """AdamW for a dict of arrays. `AdamW(params).update` is the argument `update` of all pages."""

    def __init__(self, params, alpha=1e-3, beta_1=0.9, beta_2=0.999, eps=1e-8, lam=1e-5, eta=lambda t: 1.0):
        self.hyper = (alpha, beta_1, beta_2, eps, lam)
        self.eta, self.t = eta, 0
        self.m = {name: np.zeros_like(theta) for name, theta in params.items()}
        self.v = {name: np.zeros_like(theta) for name, theta in params.items()}

    def update(self, params, grads):
        """Move every parameter, in place, by its gradient."""
        self.t += 1
        for name, g in grads.items():
            params[name], self.m[name], self.v[name] = adamw(
                params[name], g, self.m[name], self.v[name], self.t, self.eta(self.t), *self.hyper
            )  # each (...)


def train_step(f, params, optimizer):
    """One step that makes f smaller, a function of a dict of Tensors to one number."""
    p = {name: Tensor(theta, requires_grad=True) for name, theta in params.items()}
    loss = f(p)  # ()
    loss.backward()
    optimizer.update(params, {name: theta.grad for name, theta in p.items()})
    return loss.item()
