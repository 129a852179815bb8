"""Exercises on measuring: finite differences, and judges of pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values


def curve(h: Any) -> Any:
    """Two outputs along a line."""
    return np.array([np.sin(1 + h), (1 + h) ** 3])


CENTRAL = Exercise(
    "central_differences",
    "tinygen.gradcheck.numeric:central_differences",
    "a derivative by two pairs of points, and how sure it is",
    hints=(
        "(φ(h) - φ(-h))/2h has an error of about h². With two steps the error itself can be computed.",
        "With half of the step the error is a quarter: so (4 fine - coarse)/3 has none of order h². The "
        "difference of the two says how sure it is.",
        "coarse, fine with h = STEP and STEP/2; Slopes(value, |fine - coarse| + noise/STEP + EPS/STEP · "
        "|value|).",
    ),
    given=lambda: {
        "curve": curve,
        "matrix": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]]),
        "steep": lambda h: np.array([1e10 * h**3 + h]),
        "one": np.ones((1, 1)),
    },
    checks=(
        Values("central_differences(curve, matrix, 0.0).value"),
        Values("central_differences(steep, one, 0.0).value"),
        Values("central_differences(steep, one, 0.0).bar"),
        Values("central_differences(curve, matrix, 1e-6).bar"),
    ),
    mistakes=(
        Mistake("/ (2 * h)", "/ h", "every entry has the factor 2", "the two points are 2h apart, not h"),
        Mistake(
            "(4 * fine - coarse) / 3",
            "fine",
            "",
            "the two steps are not combined, so that the error of order h² stays",
        ),
        Mistake(" + noise / STEP", "", "", "the rounding error of φ is not in the bar"),
    ),
)

COMPLEX_STEP = Exercise(
    "complex_step",
    "tinygen.gradcheck.numeric:complex_step",
    "a derivative without a difference",
    hints=(
        "A difference of nearly equal numbers loses digits. What is φ(iε) for a tiny ε, by Taylor's series?",
        "φ(0) + iε φ'(0) - ε² …: the imaginary part is ε φ'(0), exact up to ε².",
        "value = matrix @ (phi(TINY * 1j).imag / TINY); the bar is noise + 100 EPS |value|.",
    ),
    given=lambda: {"curve": curve, "matrix": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -2.0]])},
    checks=(
        Values("complex_step(curve, matrix, 0.0).value"),
        Values("complex_step(curve, matrix, 1e-6).bar"),
    ),
    mistakes=(
        Mistake(
            ".imag / TINY",
            ".imag",
            "every entry has the factor 1e-20",
            "the imaginary part is not divided by ε",
        ),
        Mistake("phi(TINY * 1j).imag", "phi(TINY).real", "", "the step is real: 1 + 1e-20 is 1"),
        Mistake("noise + 100", "100", "", "the rounding error of φ is not in the bar"),
    ),
)

FRECHET = Exercise(
    "frechet",
    "tinygen.judges.frechet:frechet",
    "the distance that FID measures",
    hints=(
        "Two clouds of features. Take each for a Gaussian: which two numbers describe one?",
        "Means and covariances (divided by N - 1); `frechet_of_gaussians` has the distance of two Gaussians.",
        "np.cov(x, rowvar=False) for both, reshaped to (F, F) in case F is 1.",
    ),
    given=lambda: {"a": numbers(6, 3), "b": 2 * numbers(5, 3) + 1, "column": numbers(4, 1)},
    checks=(Values("frechet(a, b)"), Values("frechet(column, 3 * column)")),
    mistakes=(
        Mistake(
            "np.cov(x, rowvar=False)",
            "np.cov(x, rowvar=False, ddof=0)",
            "",
            "the covariances are divided by N",
        ),
        Mistake(
            "b.mean(axis=0), cov_b",
            "b.mean(axis=0), cov_a",
            "",
            "the covariances are not compared: it is the distance of the means",
        ),
        Mistake("b.mean(axis=0), cov_b", "a.mean(axis=0), cov_b", "", "the means are not compared"),
    ),
)

SSIM = Exercise(
    "ssim",
    "tinygen.judges.ssim:ssim",
    "how similar two pictures are, window by window",
    hints=(
        "Squared errors do not see structure. Compare in each window the means, the variances and the "
        "covariance.",
        "σ_ab is the mean of ab less the product of the means; `window_means(x, weights)` has weighted "
        "means. (2 μ_a μ_b + C_1)(2 σ_ab + C_2) / ((μ_a² + μ_b² + C_1)(σ_a² + σ_b² + C_2)).",
        "c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2, weights = gaussian_window(sigma), and at the end the "
        "mean over all windows as a float.",
    ),
    given=lambda: {"a": numbers(1, 1, 8, 8), "b": numbers(1, 1, 8, 8, seed=1), "flat": np.ones((1, 1, 8, 8))},
    checks=(
        Values("ssim(a, a + 0.5 * b, sigma=0.8)"),
        Values("ssim(a, b, sigma=0.8, span=1.0)"),
        Values("ssim(flat, 0.9 * flat, sigma=0.8)"),
    ),
    mistakes=(
        Mistake(
            "window_means(a * b, weights) - mean_a * mean_b",
            "window_means(a * b, weights)",
            "",
            "the product of the means is not subtracted from the covariance",
        ),
        Mistake(
            "(K1 * span) ** 2, (K2 * span) ** 2",
            "K1 * span, K2 * span",
            "",
            "the two constants are not squared",
        ),
        Mistake(
            "(2 * covariance + c2)", "(covariance + c2)", "", "the factor 2 of the covariance is missing"
        ),
    ),
)


def pictures(probabilities: Any) -> Any:
    """An object with what a judge says of pictures."""
    return SimpleNamespace(probabilities=np.array(probabilities))


INCEPTION = Exercise(
    "inception_score",
    "tinygen.judges.digits:Opinion.inception_score",
    "are pictures clear, and of all kinds?",
    hints=(
        "A judge gives each picture probabilities of the classes. What do they look like for a clear "
        "picture, and what does their mean look like if all classes are drawn?",
        "exp(E KL(p(y|x) ‖ p(y))): p(y) is the mean over pictures. Mind 0 ln 0.",
        "p = np.maximum(self.probabilities, tiny); float(np.exp(np.mean(np.sum(p * np.log(p / "
        "p.mean(axis=0)), axis=1)))).",
    ),
    given=lambda: {
        "some": pictures([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]),
        "best": pictures(np.eye(3)),
    },
    checks=(Values("inception_score(some)"), Values("inception_score(best)")),
    mistakes=(
        Mistake("p / p.mean(axis=0)", "p", "", "it is exp of minus the entropy: p(y) is left out"),
        Mistake(
            "np.maximum(self.probabilities, np.finfo(np.float64).tiny)",
            "self.probabilities",
            "it is not finite",
            "0 ln 0 is not taken for 0",
        ),
        Mistake(
            "np.exp(np.mean(",
            "(np.mean(",
            "it is the logarithm of the right one",
            "it is the divergence itself, without exp",
        ),
    ),
)

CHAPTER = Chapter("Measuring", (CENTRAL, COMPLEX_STEP, FRECHET, SSIM, INCEPTION))
