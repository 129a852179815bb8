"""The probability flow of Gaussian data, which is known, and the best model for it: tests of samplers."""

import numpy as np

from tinygen.diffusion import Process, Schedule

X = np.array([[-2.0], [-0.3], [1.1]])
M, S = 0.7, 0.5


def exact(process, m, s):
    """The best model for data N(m, s²), of the process and of those respaced from it: E[x_0 | x_t] by
    Gaussian conditioning, put as the process wants it. Networks count from 0."""
    schedule = process.schedule

    def model(x, t):
        alpha, sigma = schedule.alpha[t[0] + 1], schedule.sigma[t[0] + 1]
        x0 = m + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * m)
        return process.target(x0, process.eps_of(x0, x, t + 1), t + 1)

    return model


def even_in_lambda(n, first=3.0, last=-4.0):
    """A schedule of n + 1 steps whose λ_1 ... λ_{n+1} go evenly from `first` to `last`."""
    alpha_bar = 1 / (1 + np.exp(-2 * np.linspace(first, last, n + 1)))
    return Schedule(1 - alpha_bar / np.append(1.0, alpha_bar[:-1]))


def error_at_1(sampler, schedule, kind):
    """How far x_1 is from where the probability flow takes x_T: (x_t - α_t m) / sqrt(α_t² s² + σ_t²) stays as
    it is."""
    process = Process(schedule, kind)
    x = list(sampler(process, exact(process, M, S), X))[-2]
    mean, std = schedule.alpha * M, np.sqrt(schedule.alpha**2 * S**2 + schedule.sigma**2)
    return np.abs(x - mean[1] - std[1] * (X - mean[-1]) / std[-1]).max()


def order_of(sampler, kind):
    """The order of convergence, measured twice: how often the error halves where the steps do."""
    errors = np.array([error_at_1(sampler, even_in_lambda(n), kind) for n in (80, 160, 320)])
    return np.log2(errors[:-1] / errors[1:])
