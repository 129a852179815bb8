"""The structural similarity: one window by hand, closed forms, golden values, and scikit-image's."""

import numpy as np
import pytest

from tinygen.judges.ssim import gaussian_window, ssim

GOLDEN = (0.414177727652, 0.30862412829)


def waves(*shape, k=0):
    return np.sin(0.7 * k + (1.9 + 0.1 * k) * np.arange(np.prod(shape))).reshape(shape)


def test_one_window_by_hand():
    """Pictures of the window's size: one pair of weighted moments."""
    a, b = waves(1, 1, 7, 7), waves(1, 1, 7, 7, k=1)
    line = np.exp(-0.5 * (np.arange(-3, 4) / 0.8) ** 2)
    w = np.outer(line, line) / line.sum() ** 2
    mean = lambda x: np.sum(w * x)
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean((a - ma) ** 2), mean((b - mb) ** 2), mean((a - ma) * (b - mb))
    c1, c2 = 0.02**2, 0.06**2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / (ma**2 + mb**2 + c1) / (va + vb + c2)
    assert ssim(a, b, sigma=0.8) == pytest.approx(expected, rel=1e-12)


def test_the_papers_window_has_eleven_pixels():
    assert len(gaussian_window(1.5)) == 11
    assert len(gaussian_window(0.8)) == 7
    assert gaussian_window(1.5).sum() == pytest.approx(1, rel=1e-15)


def test_closed_forms():
    """Equal pictures: 1. Flat pictures have their brightness only. The other sign of a picture whose window
    means are 0 changes the sign of the covariance. Twice the pixels in twice the span change nothing."""
    x = waves(3, 2, 16, 12)
    assert ssim(x, x) == pytest.approx(1, rel=1e-12)
    a, b = (np.full((1, 1, 11, 11), v) for v in (0.5, -0.25))
    assert ssim(a, b) == pytest.approx((2 * 0.5 * -0.25 + 4e-4) / (0.25 + 0.0625 + 4e-4), rel=1e-9)
    y = x + 0.3 * waves(3, 2, 16, 12, k=2)
    assert ssim(2 * x, 2 * y, span=4.0) == pytest.approx(ssim(x, y), rel=1e-12)
    assert ssim(y, x) == pytest.approx(ssim(x, y), rel=1e-12)
    odd = waves(1, 1, 11, 11)
    odd -= odd[..., ::-1, ::-1]  # odd about the middle: its one window has mean 0
    variance = np.sum(np.outer(gaussian_window(1.5), gaussian_window(1.5)) * odd[0, 0] ** 2)
    assert ssim(odd, -odd) == pytest.approx((-2 * variance + 36e-4) / (2 * variance + 36e-4), rel=1e-9)


def test_golden_values():
    """Of scikit-image 0.26.0, as in the parity test below."""
    x, y = waves(2, 3, 16, 13), waves(2, 3, 16, 13, k=1) + 0.5 * waves(2, 3, 16, 13)
    assert ssim(x, y) == pytest.approx(GOLDEN[0], rel=1e-9)
    assert ssim(x[..., :8, :8], y[..., :8, :8], sigma=0.8, span=1.0) == pytest.approx(GOLDEN[1], rel=1e-9)


@pytest.mark.parametrize(("sigma", "span", "side"), [(1.5, 2.0, 16), (0.8, 1.0, 8), (1.0, 2.0, 9)])
def test_parity_with_scikit_image(sigma, span, side):
    metrics = pytest.importorskip("skimage.metrics")
    x = np.random.default_rng(0).uniform(-1, 1, (4, 3, side, side + 2))
    y = 0.6 * x + 0.4 * np.random.default_rng(1).uniform(-1, 1, x.shape)
    more = {"gaussian_weights": True, "use_sample_covariance": False, "channel_axis": 0}
    theirs = [
        metrics.structural_similarity(a, b, sigma=sigma, data_range=span, **more)
        for a, b in zip(x, y, strict=True)
    ]
    assert ssim(x, y, sigma=sigma, span=span) == pytest.approx(np.mean(theirs), rel=1e-10)


def test_what_cannot_be_compared():
    x = np.zeros((2, 1, 8, 8))
    with pytest.raises(TypeError, match="positional"):
        ssim(x, x, 0.8)
    with pytest.raises(ValueError, match="take a smaller sigma"):
        ssim(x, x)
    for a, b in ((x, x[:1]), (x[0], x[0]), (x[:0], x[:0])):
        with pytest.raises(ValueError, match=r"must be \(N, C, H, W\), of one shape"):
            ssim(a, b, sigma=0.8)
