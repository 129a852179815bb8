"""Exercises on densities without a network: kernels, mixtures, principal components."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.density import GaussianKDE, GaussianMixture
from tinygen.density.mixture import Parameters
from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values

KDE = Exercise(
    "kde",
    "tinygen.density.kernel:GaussianKDE.score_samples",
    "ln p under a kernel density estimate",
    hints=(
        "p(x) is a mean of Gaussians, one around each training row. Its logarithm is a log Σ exp.",
        "ln p = log Σ_i exp(-|x - x_i|²/(2h²)) - ln N - D ln(√(2π) h). `squared_distances(x, rows)` "
        "yields blocks of |x - x_i|², `log_sum_exp` sums rows.",
        "np.concatenate([log_sum_exp(d / (-2 * h**2)) for d in squared_distances(x, self.rows_)]) - "
        "np.log(n) - dim * np.log(np.sqrt(2 * np.pi) * h), h = self.bandwidth_.",
    ),
    given=lambda: {
        "kde": GaussianKDE(0.5).fit(numbers(5, 2)),
        "x": numbers(3, 2, seed=1),
        "far": np.full((1, 2), 40.0),
    },
    checks=(Values("score_samples(kde, x)"), Values("score_samples(kde, far)")),
    mistakes=(
        Mistake(
            " - np.log(n)",
            "",
            "every entry is too large by 1.60944",
            "the sum over the rows is not divided by their number",
        ),
        Mistake(
            "dim * np.log(",
            "np.log(",
            "every entry is too large by 0.225791",
            "the constant of the Gaussian is that of one dimension",
        ),
        Mistake(
            "-2 * self.bandwidth_**2",
            "-2 * self.bandwidth_",
            "",
            "the distances are divided by h instead of h²",
        ),
    ),
)

LEAVE_ONE_OUT = Exercise(
    "leave_one_out",
    "tinygen.density.kernel:leave_one_out",
    "the likelihood by which a bandwidth is chosen",
    hints=(
        "A row is always likely under a kernel around itself. So each row is judged by the kernels of "
        "the others.",
        "The distances of a row to itself are infinite: exp gives 0. The mean is over N rows, the "
        "density over N - 1 kernels.",
        "The slope by ln h: each row's mean of |x_i - x_j|²/h², weighted by the kernels, minus D. "
        "Return (value, slope).",
    ),
    given=lambda: {"squares": squares()},
    checks=(
        Values("leave_one_out([squares], 2, 0.7)[0]"),
        Values("leave_one_out([squares[:2], squares[2:]], 2, 0.7)"),
        Values("leave_one_out([squares], 2, 0.01)"),
    ),
    mistakes=(
        Mistake(
            "np.log(n - 1)",
            "np.log(n)",
            "",
            "the kernels are counted as N: the row's own is left out, so they are N - 1",
        ),
        Mistake("slope / n - dim", "slope / n", "", "the slope of the constant, - D, is missing"),
        Mistake(
            "np.sum(largest + np.log(sums))",
            "np.sum(np.log(sums))",
            "",
            "the largest exponent is subtracted, and not added again",
        ),
    ),
)


def squares() -> Any:
    """The squared distances of five rows to the others; to themselves, infinity."""
    x = numbers(5, 2)
    found = np.sum((x[:, None] - x) ** 2, axis=2)
    np.fill_diagonal(found, np.inf)
    return found


def mixture() -> GaussianMixture:
    """Two components with full covariances."""
    return GaussianMixture(2, rng=0)


def before() -> Parameters:
    """Parameters of two components."""
    return Parameters(np.array([0.3, 0.7]), numbers(2, 2), np.array([np.eye(2), [[2.0, 0.5], [0.5, 1.0]]]))


E_STEP = Exercise(
    "e_step",
    "tinygen.density.mixture:GaussianMixture.e_step",
    "which component a row comes from",
    hints=(
        "Bayes' rule: the probability of a component, given a row, is its share of the row's density.",
        "self.log_joint(x, parameters) is ln w_k N(x; μ_k, Σ_k), (N, K). log_sum_exp over k is ln p(x).",
        "log_p = log_sum_exp(joint); return np.exp(joint - log_p[:, None]), the mean of log_p.",
    ),
    given=lambda: {"mixture": mixture(), "x": numbers(6, 2), "before": before()},
    checks=(Values("e_step(mixture, x, before)"),),
    mistakes=(
        Mistake(
            "np.exp(joint - log_p[:, None])",
            "np.exp(joint)",
            "the sums along axis 1 should all be 1",
            "the joint densities are not divided by p(x): a row's shares must sum to 1",
        ),
        Mistake(
            "np.mean(log_p)",
            "np.sum(log_p)",
            "the factor is 6",
            "the log-likelihood is summed over the rows instead of averaged",
        ),
        Mistake(
            "np.exp(joint - log_p[:, None])",
            "np.exp(joint - joint.max(axis=1)[:, None])",
            "the sums along axis 1 should all be 1",
            "the largest joint density is taken for p(x)",
        ),
    ),
)

M_STEP = Exercise(
    "m_step",
    "tinygen.density.mixture:GaussianMixture.m_step",
    "EM's M-step: parameters from shares",
    hints=(
        "Each row belongs to each component by a share. Count rows, and take means, with these shares.",
        "N_k = Σ_n r_nk; w_k = N_k / N; μ_k = Σ_n r_nk x_n / N_k. `covariance.estimate` and "
        "`covariance.raise_to_floor` give the covariances.",
        "A component with N_k < EMPTY keeps its mean and covariance of `before`, and gets the weight "
        "0: divide by 1 there.",
    ),
    given=lambda: {
        "mixture": mixture(),
        "x": numbers(6, 2),
        "shares": np.array([[1.0, 0], [0.5, 0.5], [0.2, 0.8], [0, 1], [0.9, 0.1], [0.3, 0.7]]),
        "empty": np.array([[1.0, 0.0]] * 6),
        "floor": np.full(2, 1e-6),
        "before": before(),
    },
    checks=(
        Values("m_step(mixture, x, shares, floor, before)"),
        Values("m_step(mixture, x, empty, floor, before)"),
    ),
    mistakes=(
        Mistake(
            "means = shares.T @ x / safe[:, None]",
            "means = shares.T @ x / len(x)",
            "",
            "the means are divided by the number of rows instead of the component's N_k",
        ),
        Mistake(
            "means[empty] = before.means[empty]",
            "pass",
            "the wrong ones are 0",
            "a component without rows gets the mean 0 instead of its old one",
        ),
        Mistake(
            "weights / weights.sum()",
            "np.full_like(weights, 1 / len(weights))",
            "",
            "all components get the same weight, whatever their shares",
        ),
    ),
)

PCA = Exercise(
    "pca",
    "tinygen.density.principal:centered_svd",
    "principal components by the SVD",
    hints=(
        "The directions of largest variance of the rows are the right singular vectors of the matrix, "
        "but of which one?",
        "Subtract the mean first. np.linalg.svd(x - mean, full_matrices=False) gives U, S, Vᵀ; the "
        "rows of Vᵀ are the components.",
        "The sign of a component is free: multiply each by the sign of its entry with the largest "
        "absolute value. Return mean, components, singular values.",
    ),
    given=lambda: {
        "x": numbers(6, 3) * np.array([3.0, 2.0, 1.0]) + np.array([5.0, -1.0, 0.0]),
        "wide": numbers(3, 5),
    },
    checks=(Values("centered_svd(x)"), Values("[np.shape(part) for part in centered_svd(wide)]")),
    mistakes=(
        Mistake(
            "np.linalg.svd(x - mean,",
            "np.linalg.svd(x,",
            "",
            "the mean is not subtracted: the first component points to it",
        ),
        Mistake(
            "components * np.sign(largest)[:, None]",
            "components",
            "the absolute values are right, but some signs are wrong",
            "the signs are left as the SVD gives them: the largest entry must be positive",
        ),
        Mistake(
            "components * np.sign(largest)[:, None], values",
            "(components * np.sign(largest)[:, None]).T, values",
            "it is the transpose",
            "the components are columns instead of rows",
        ),
    ),
)

KL_OF_GAUSSIANS = Exercise(
    "kl_of_gaussians",
    "tinygen.density.gaussian:kl_of_gaussians",
    "the divergence of two Gaussians with covariances",
    hints=(
        "The mean of ln p - ln q under p. Three parts: the volumes, the shapes, the distance of the means.",
        "½ (tr(Σ_q⁻¹ Σ_p) + (μ_q - μ_p)ᵀ Σ_q⁻¹ (μ_q - μ_p) - D + ln |Σ_q|/|Σ_p|).",
        "np.linalg.solve(cov_q, cov_p) is Σ_q⁻¹ Σ_p, np.linalg.slogdet(cov)[1] is ln |Σ|. The source "
        "does the same with Cholesky factors.",
    ),
    given=lambda: {
        "mean_p": numbers(2),
        "mean_q": numbers(2, seed=1),
        "cov_p": np.array([[2.0, 0.5], [0.5, 1.0]]),
        "cov_q": np.array([[1.0, -0.3], [-0.3, 0.5]]),
    },
    checks=(
        Values("kl_of_gaussians(mean_p, cov_p, mean_p, cov_p) + 1"),
        Values("kl_of_gaussians(mean_p, cov_p, mean_p, cov_q)"),
        Values("kl_of_gaussians(mean_p, cov_p, mean_q, cov_q)"),
    ),
    mistakes=(
        Mistake(
            "np.linalg.solve(factor_q, factor_p)",
            "np.linalg.solve(factor_p, factor_q)",
            "",
            "p and q are exchanged: the divergence is not symmetric",
        ),
        Mistake("+ away @ away", "- away @ away", "", "the distance of the means lowers the divergence"),
        Mistake("- 2 * np.log(s)", "- np.log(s)", "", "ln |Σ_q|/|Σ_p| counts half: it is ln of squares"),
    ),
)

CHAPTER = Chapter("Densities", (KDE, LEAVE_ONE_OUT, E_STEP, M_STEP, PCA, KL_OF_GAUSSIANS))
