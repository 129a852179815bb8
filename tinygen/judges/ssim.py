"""The structural similarity of two pictures (Wang, Bovik, Sheikh & Simoncelli 2004, "Image quality
assessment: from error visibility to structural similarity"). It is 1 for equal pictures. It compares
brightness, contrast and correlation in small windows, so it minds a wrong edge more than a slow change of
brightness."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from tinygen.types import Floats

K1, K2 = 0.01, 0.03  # section III-B: they keep the divisions stable
TRUNCATE = 3.5  # standard deviations at which the window ends


def ssim(a: ArrayLike, b: ArrayLike, *, sigma: float = 1.5, span: float = 2.0) -> float:
    """The mean similarity of pictures (N, C, H, W) with others (N, C, H, W): over all windows within the
    pictures, all channels, all pairs. From -1 to 1.

    `sigma` is the standard deviation of the Gaussian window in pixels; 1.5 gives the paper's 11 × 11. Smaller
    pictures need a smaller window: 0.8 gives 7 × 7. `span` is the range of the pixels, 2 for [-1, 1].

    Raises ValueError for shapes that differ, and for pictures smaller than the window.

    Eq.: SSIM = (2 μ_a μ_b + C_1)(2 σ_ab + C_2) / ((μ_a² + μ_b² + C_1)(σ_a² + σ_b² + C_2))
        (Wang et al. 2004, section III-B)
    Held by: tests/judges/test_ssim.py::test_one_window_by_hand,
        tests/judges/test_ssim.py::test_parity_with_scikit_image
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    weights = gaussian_window(sigma)
    if a.ndim != 4 or a.shape != b.shape or not a.size:
        raise ValueError(f"pictures must be (N, C, H, W), of one shape: got {a.shape} and {b.shape}")
    if min(a.shape[2:]) < len(weights):
        raise ValueError(
            f"pictures {a.shape[2:]} are smaller than the window {(len(weights),) * 2}: take a smaller sigma"
        )
    mean_a, mean_b = (window_means(x, weights) for x in (a, b))
    var_a = window_means(a * a, weights) - mean_a**2
    var_b = window_means(b * b, weights) - mean_b**2
    covariance = window_means(a * b, weights) - mean_a * mean_b
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(similar / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def gaussian_window(sigma: float) -> Floats:
    """The weights of the pixels along one axis of the window, which sum to 1, (side,)."""
    radius = int(TRUNCATE * sigma + 0.5)
    weights: Floats = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


def window_means(x: Floats, weights: Floats) -> Floats:
    """The weighted means of x (N, C, H, W) in all windows, (N, C, H - side + 1, W - side + 1)."""
    for axis in (2, 3):
        x = sliding_window_view(x, len(weights), axis=axis) @ weights
    return x
