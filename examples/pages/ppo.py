"""Proximal policy optimization on one page: PPO (Schulman et al. 2017, arXiv:1707.06347).

The policy π_old plays a rollout. Several steps of gradient descent on this rollout give the new policy π. The
clipped objective L does not grow if a ratio ρ goes beyond 1 ± ε, so that π stays near π_old:

    δ_t = r_t + γ V(s_{t+1}) - V(s_t),    A_t = δ_t + γ λ A_{t+1}      eq. 11, 12 (GAE, arXiv:1506.02438)
    ρ = π(a|s)/π_old(a|s)
    L = E[min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) - c_1 (V(s) - R)² + c_2 S[π](s)],  R = A + V_old(s)     eq. 7, 9

S is the entropy. V(s_{t+1}) and A_{t+1} are replaced by 0 if step t ended an episode. The game is an
argument. A rollout of N games with T steps each consists of states s (N, T + 1, D), and of actions a,
rewards r and ends done, each (N, T). `params` is a dict of NumPy arrays; `update(params, grads)` changes
it: gradient descent, or `adamw.py`. Letters in shapes: B batch, D numbers in a state, H hidden units, K
actions.
"""

import math

import numpy as np

from tinygen import Tensor, ops


def orthogonal(n, m, gain, rng):
    """gain times a random matrix with orthonormal rows or columns."""
    if n < m:
        return orthogonal(m, n, gain, rng).T  # (n, m)
    Q, R = np.linalg.qr(rng.standard_normal((n, m)))  # (n, m), (m, m)
    return gain * (Q * np.sign(np.diag(R)))  # (n, m)


def init(D, H, K, rng):
    """Two perceptrons: π, which starts near the uniform distribution, and V."""
    p = {}
    for net, n_out, gain in (("pi", K, 0.01), ("V", 1, 1.0)):
        for i, (n, m, g) in enumerate([(D, H, math.sqrt(2)), (H, H, math.sqrt(2)), (H, n_out, gain)]):
            p[f"{net}.W{i}"] = orthogonal(n, m, g, rng)  # (n, m)
            p[f"{net}.b{i}"] = np.zeros(m)  # (m,)
    return p


def perceptron(p, net, s):
    """Two hidden layers of tanh: s (..., D) -> (..., m)."""
    h = np.tanh(s @ p[f"{net}.W0"] + p[f"{net}.b0"])  # (..., H)
    h = np.tanh(h @ p[f"{net}.W1"] + p[f"{net}.b1"])  # (..., H)
    return h @ p[f"{net}.W2"] + p[f"{net}.b2"]  # (..., m)


def act(p, s, rng):
    """An action for each state s (B, D), drawn from π(a|s). Call it to play the game."""
    cdf = np.cumsum(ops.softmax(perceptron(p, "pi", s)), axis=-1)  # (B, K)
    u = rng.random((len(s), 1)) * cdf[:, -1:]  # (B, 1)
    return np.sum(cdf <= u, axis=-1)  # (B,): the first whose cdf is above u


def gae(r, V, done, gamma, lam):
    """Advantages A and returns R (N, T) of rewards r (N, T), values V (N, T + 1) and ends done (N, T)."""
    delta = r + gamma * np.where(done, 0.0, V[:, 1:]) - V[:, :-1]  # (N, T)
    A, A_next = np.zeros_like(delta), np.zeros(len(r))  # (N, T), (N,)
    for t in reversed(range(delta.shape[1])):
        A_next = delta[:, t] + gamma * lam * np.where(done[:, t], 0.0, A_next)  # (N,)
        A[:, t] = A_next  # (N,)
    return A, A + V[:, :-1]  # each (N, T)


def log_pi(p, s):
    """log π(·|s) (B, K) for states s (B, D)."""
    return ops.log_softmax(perceptron(p, "pi", s))  # (B, K)


def ppo_loss(p, s, a, log_pi_old, A, R, eps, c_1, c_2):
    """-L for states s (B, D); a, log_pi_old, A, R are (B,)."""
    log_p = log_pi(p, s)  # (B, K)
    rho = np.exp(log_p[np.arange(len(a)), a] - log_pi_old)  # (B,)
    L_clip = np.mean(np.minimum(rho * A, np.clip(rho, 1 - eps, 1 + eps) * A))  # ()
    L_VF = np.mean((perceptron(p, "V", s)[:, 0] - R) ** 2)  # ()
    S = -np.mean(np.sum(np.exp(log_p) * log_p, axis=-1))  # ()
    return -(L_clip - c_1 * L_VF + c_2 * S)  # ()


def train_step(
    params, rollout, update, rng, gamma=0.99, lam=0.95, eps=0.2, c_1=0.25, c_2=0.01, epochs=4, minibatches=4
):
    """Train for some epochs, each in minibatches, on one rollout s, a, r, done (see above)."""
    s, a, r, done = rollout  # (N, T + 1, D), (N, T), (N, T), (N, T)
    V = perceptron(params, "V", s)[..., 0]  # (N, T + 1)
    A, R = gae(r, V, done, gamma, lam)  # each (N, T)
    s = s[:, :-1].reshape(a.size, -1)  # (N * T, D)
    a, A, R = a.ravel(), A.ravel(), R.ravel()  # each (N * T,)
    log_pi_old = log_pi(params, s)[np.arange(len(a)), a]  # (N * T,)
    for _ in range(epochs):
        for i in rng.permutation(len(a)).reshape(minibatches, -1):
            p = {name: Tensor(w, requires_grad=True) for name, w in params.items()}
            A_i = (A[i] - A[i].mean()) / np.sqrt(A[i].var() + 1e-8)  # (B,)
            loss = ppo_loss(p, s[i], a[i], log_pi_old[i], A_i, R[i], eps, c_1, c_2)  # ()
            loss.backward()
            update(params, {name: w.grad for name, w in p.items()})
    return loss.item()
