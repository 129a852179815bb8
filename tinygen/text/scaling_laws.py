"""Scaling laws: the loss of language models as a sum of powers of their size and of their training tokens.

Kaplan et al. 2020 (arXiv:2001.08361) and Hoffmann et al. 2022 (arXiv:2203.15556): a model with N parameters
that has learned D tokens has the loss L(N, D) = E + A / N^α + B / D^β. E is the entropy of the text. The
other terms are what the model has no room for, and what it has not seen. The fit tells the best size for a
budget of compute C = 6 N D, and predicts the loss of larger models.

The fit minimizes Hoffmann's objective: the Huber loss of the error of ln L, so that an outlier counts little.
They use L-BFGS from a grid of starts. Here it is the method of Levenberg and Marquardt, from all starts at
once: in each step, a least squares problem whose weights make its gradient that of the Huber loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats

EXPONENTS = (0.1, 0.3, 0.6, 1.2)  # of the starts
ITERATIONS = 200


@dataclass(frozen=True)
class ScalingLaw:
    """The loss as a function of parameters N and tokens D.

    Eq.: L(N, D) = E + A / N^α + B / D^β  (Hoffmann et al. 2022, eq. 2)
    Held by: tests/text/test_scaling_laws.py::test_the_law_by_hand
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, n: ArrayLike, d: ArrayLike) -> Floats:
        """L of models with n parameters after d tokens."""
        n, d = np.asarray(n, np.float64), np.asarray(d, np.float64)
        found: Floats = self.E + self.A * n**-self.alpha + self.B * d**-self.beta
        return found

    def best_size(self, compute: ArrayLike) -> tuple[Floats, Floats]:
        """The parameters N and the tokens D with the least loss among all with 6 N D = C.

        Eq.: N = G (C/6)^(β/(α+β)),  D = G⁻¹ (C/6)^(α/(α+β)),  G = (α A / (β B))^(1/(α+β))
            (Hoffmann et al. 2022, eq. 4)
        Held by: tests/text/test_scaling_laws.py::test_the_best_size_against_a_search
        """
        pairs, total = np.asarray(compute, np.float64) / 6, self.alpha + self.beta
        G = (self.alpha * self.A / (self.beta * self.B)) ** (1 / total)
        return G * pairs ** (self.beta / total), pairs ** (self.alpha / total) / G


@dataclass(frozen=True)
class PowerLaw:
    """The least loss that compute C can buy: L(C) = a C^b + c, with b < 0."""

    a: float
    b: float
    c: float

    def loss(self, compute: ArrayLike) -> Floats:
        found: Floats = self.a * np.asarray(compute, np.float64) ** self.b + self.c
        return found


def fit_scaling_law(n: ArrayLike, d: ArrayLike, losses: ArrayLike, delta: float = 1e-3) -> ScalingLaw:
    """The law that is nearest to the losses of models with n parameters after d tokens, each (M,). From
    errors of `delta` in ln L on, the Huber loss grows linearly.

    Raises ValueError for fewer than 6 runs, or numbers that are not positive and finite."""
    x, y = logarithms([n, d], losses)
    return law_of(*fit_powers(x, y, np.ones((1, len(y))), starts(x, y), delta)[0])


def bootstrap_scaling_laws(
    n: ArrayLike,
    d: ArrayLike,
    losses: ArrayLike,
    draws: int,
    delta: float = 1e-3,
    *,
    rng: np.random.Generator | int,
) -> list[ScalingLaw]:
    """Laws fitted to M of the M runs, drawn with replacement (Efron 1979). The spread of a figure over the
    laws is its uncertainty: `np.percentile([law.E for law in laws], [2.5, 97.5])` for E. Each fit starts from
    the law of all runs. Draws with fewer than 6 different runs are drawn again.

    Raises ValueError as `fit_scaling_law`."""
    x, y = logarithms([n, d], losses)
    rng, counts = np.random.default_rng(rng), np.zeros((0, len(y)))
    while len(counts) < draws:
        drawn = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), draws - len(counts))
        counts = np.concatenate([counts, drawn[np.count_nonzero(drawn, axis=1) >= 6]])
    (whole,) = fit_powers(x, y, np.ones((1, len(y))), starts(x, y), delta)
    return [law_of(*each) for each in fit_powers(x, y, counts, whole[None], delta)]


def fit_power_law(compute: ArrayLike, losses: ArrayLike, delta: float = 1e-3) -> PowerLaw:
    """The power law that is nearest to the losses (M,) at `compute` (M,), as in `fit_scaling_law`.

    Raises ValueError for fewer than 4 runs, or numbers that are not positive and finite."""
    x, y = logarithms([compute], losses)
    ((ln_a, ln_c, b),) = fit_powers(x, y, np.ones((1, len(y))), starts(x, y), delta).tolist()
    return PowerLaw(float(np.exp(ln_a)), -b, float(np.exp(ln_c)))


def isoflop_minimum(n: ArrayLike, losses: ArrayLike) -> tuple[float, float]:
    """Size and loss at the lowest point of a parabola through losses (M,) over ln n (M,), for models that
    were trained with equal compute (Hoffmann et al. 2022, section 3.2).

    Raises ValueError for fewer than 3 models, or when the parabola has no lowest point between them: then
    smaller or larger models are missing."""
    x, y = np.log(np.asarray(n, np.float64)), np.asarray(losses, np.float64)
    if x.shape != y.shape or len(x) < 3:
        raise ValueError(f"a parabola needs n and losses of 3 models or more, got {x.shape} and {y.shape}")
    middle = x.mean()
    curve, slope, level = np.polyfit(x - middle, y, 2)
    lowest = middle - slope / (2 * curve) if curve > 0 else np.inf
    if not x.min() <= lowest <= x.max():
        raise ValueError("the losses have no lowest point between the smallest and the largest model")
    return float(np.exp(lowest)), float(level - slope**2 / (4 * curve))


# -- the fit ---------------------------------------------------------------------------------------


def logarithms(variables: list[ArrayLike], losses: ArrayLike) -> tuple[Floats, Floats]:
    """Logarithms of the K variables, and of 1 for the constant, (K + 1, M); and of the losses (M,)."""
    given = [np.asarray(each, np.float64) for each in (*variables, losses)]
    least = 2 * len(given)
    if any(each.shape != given[-1].shape or each.ndim != 1 for each in given) or len(given[-1]) < least:
        shapes = ", ".join(str(each.shape) for each in given)
        raise ValueError(f"a fit needs {least} runs or more, with all their numbers; got shapes {shapes}")
    if not all(np.all((each > 0) & np.isfinite(each)) for each in given):
        raise ValueError("sizes, tokens, compute and losses must be positive and finite")
    *x, y = np.log(np.stack(given))
    return np.stack([*x, np.zeros_like(y)]), y


def law_of(a: float, b: float, e: float, alpha: float, beta: float) -> ScalingLaw:
    return ScalingLaw(*(float(each) for each in (np.exp(e), np.exp(a), np.exp(b), alpha, beta)))


def starts(x: Floats, y: Floats) -> Floats:
    """Parameters (S, 2K + 1) from which to begin: a grid of exponents, and for each of them the coefficients
    of the least squares problem that is left."""
    found = []
    for exponents in product(EXPONENTS, repeat=len(x) - 1):
        slopes, middle = np.array([*exponents, 0.0]), x.mean(axis=1)
        powers = np.exp(-slopes[:, None] * (x - middle[:, None]) - y)  # (K + 1, M), relative to the loss
        coefficients = np.linalg.lstsq(powers.T, np.ones(len(y)), rcond=None)[0]
        least = 1e-3 * np.exp(y.min())  # above 0: it has a logarithm
        found.append([*(np.log(np.maximum(coefficients, least)) + slopes * middle), *exponents])
    return np.array(found)


def predict(x: Floats, p: Floats) -> tuple[Floats, Floats]:
    """ln L (P, M) for each row of parameters (P, 2K + 1), and its derivatives (P, 2K + 1, M)."""
    terms = len(x)
    exponents = np.concatenate([p[:, terms:], np.zeros((len(p), 1))], axis=1)
    logs = p[:, :terms, None] - exponents[..., None] * x  # (P, K + 1, M)
    total = np.logaddexp.reduce(logs, axis=1)
    shares = np.exp(logs - total[:, None])  # of each term in the loss
    return total, np.concatenate([shares, -(shares * x)[:, :-1]], axis=1)


def huber(error: Floats, delta: float) -> Floats:
    """error²/2 up to delta, and from there on a straight line (Huber 1964)."""
    size = np.abs(error)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))


def fit_powers(x: Floats, y: Floats, weights: Floats, begin: Floats, delta: float) -> Floats:
    """For each row of weights (R, M), which say how often a run counts, the best parameters (R, 2K + 1): ln
    of the K + 1 coefficients, then the K exponents. The descent begins from each row of `begin` (S, 2K + 1).

    Eq.: min Σ_i Huber_δ(LSE(a - α ln N_i, b - β ln D_i, e) - ln L_i)  (Hoffmann et al. 2022, eq. 3)
    Held by: tests/text/test_scaling_laws.py::test_the_fit_against_scipy
    """
    p, weights = np.tile(begin, (len(weights), 1)), np.repeat(weights, len(begin), axis=0)  # P = R S rows
    value, slopes = predict(x, p)
    error = value - y
    now, damping = np.sum(weights * huber(error, delta), axis=1), np.full(len(p), 1e-2)
    diagonal = np.arange(p.shape[1])
    for _ in range(ITERATIONS):
        pull = weights * np.minimum(1.0, delta / np.maximum(np.abs(error), 1e-300))  # (P, M)
        matrix = (slopes * pull[:, None]) @ slopes.transpose(0, 2, 1)
        matrix[:, diagonal, diagonal] *= 1 + damping[:, None]
        matrix[:, diagonal, diagonal] += 1e-12  # a run that has only one size tells nothing of α
        step = np.linalg.solve(matrix, slopes @ (pull * error)[..., None])[..., 0]
        moved = p - np.clip(step, -2, 2)
        value, new_slopes = predict(x, moved)
        after = np.sum(weights * huber(value - y, delta), axis=1)
        better = after < now
        p, now = np.where(better[:, None], moved, p), np.where(better, after, now)
        error = np.where(better[:, None], value - y, error)
        slopes = np.where(better[:, None, None], new_slopes, slopes)
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-9, 1e9)
    best = np.argmin(now.reshape(-1, len(begin)), axis=1)
    found: Floats = p.reshape(-1, len(begin), p.shape[1])[np.arange(len(best)), best]
    return found
