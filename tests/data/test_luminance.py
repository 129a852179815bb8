"""The posterior of the color given a grey picture, beside draws and sums."""

from itertools import pairwise

import numpy as np
import pytest

from tinygen.data import shapes
from tinygen.data.luminance import EQUAL, LUMINANCE, color_posterior, grey, luminance_density
from tinygen.data.shapes import COLORS, HELD_OUT, SHAPES

GREYS = np.linspace(0.2, 1.0, 4001)


def test_grey_is_the_weighted_mean_of_the_channels():
    pictures, _ = shapes.batch(3, 16, np.random.default_rng(0))
    found = grey(pictures)
    assert found.shape == pictures.shape
    assert found.dtype == np.float32
    for c in range(3):
        np.testing.assert_allclose(
            found[:, c], 0.299 * pictures[:, 0] + 0.587 * pictures[:, 1] + 0.114 * pictures[:, 2], atol=1e-6
        )
    assert sum(LUMINANCE) == pytest.approx(1)


def test_the_density_is_that_of_draws():
    """Its integral is 1, its moments are those of a sum of uniform numbers, and its integrals over bins are
    the shares of 200,000 draws."""
    color = np.array(COLORS["red"])
    p, width = luminance_density(GREYS, color), GREYS[1] - GREYS[0]
    assert p.sum() * width == pytest.approx(1, abs=1e-6)
    assert (p * GREYS).sum() * width == pytest.approx(color @ LUMINANCE, abs=1e-6)
    variance = (0.1**2 / 12) * np.square(LUMINANCE).sum()
    assert (p * (GREYS - color @ LUMINANCE) ** 2).sum() * width == pytest.approx(variance, rel=1e-4)
    assert (p > 0).any()
    assert not p[np.abs(GREYS - color @ LUMINANCE) > 0.05 + 1e-9].any()
    ink = color + np.random.default_rng(1).uniform(-0.05, 0.05, (200_000, 3))
    shares = np.histogram(ink @ LUMINANCE, GREYS[::100])[0] / len(ink)
    wanted = p[:-1].reshape(-1, 100).sum(axis=1) * width
    np.testing.assert_allclose(shares, wanted, atol=5 * np.sqrt(0.25 / len(ink)))


@pytest.mark.parametrize("colors", [COLORS, EQUAL])
def test_the_posterior_is_that_of_draws(colors):
    """Brute force: the scenes of the training split, their inks as the renderer draws them, and the words in
    each narrow bin of the luminance, for each shape."""
    rng = np.random.default_rng(2)
    scenes = [shapes.SPLITS["train"][i] for i in rng.integers(360, size=120_000)]
    luminance = shapes.jitter(scenes, colors, rng=rng).ink @ LUMINANCE
    shape, color = (np.array([getattr(s, name) for s in scenes]) for name in ("shape", "color"))
    edges = np.arange(0.28, 1.0, 0.005)
    compared = 0
    for name in SHAPES:
        for low, high in pairwise(edges):
            inside = (shape == name) & (low <= luminance) & (luminance < high)
            n = inside.sum()
            if n < 300:
                continue
            counts = np.array([(color[inside] == word).mean() for word in COLORS])
            wanted = color_posterior(luminance[inside], [name] * n, colors).mean(axis=0)
            assert (np.abs(counts - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / n) + 1e-12).all()
            compared += 1
    assert compared >= 4 * (16 if colors is EQUAL else 30)


def test_the_posterior_of_equal_luminance_is_the_prior():
    for color in EQUAL.values():
        assert np.dot(LUMINANCE, color) == pytest.approx(0.5, abs=1e-4)
        assert 0.05 <= min(color) <= max(color) <= 0.95  # the jitter stays within [0, 1]
    for shape in SHAPES:
        found = color_posterior([0.47, 0.5, 0.53], [shape] * 3, EQUAL)
        prior = [0.0 if (shape, word) in HELD_OUT else 0.2 for word in COLORS]
        np.testing.assert_allclose(found, [prior] * 3, atol=0.005)


def test_what_no_ink_has():
    with pytest.raises(ValueError, match=r"no circle has the luminance 0\.700"):
        color_posterior([0.36, 0.7], ["square", "circle"])
