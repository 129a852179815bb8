"""Procedural textures: gradient noise by hand, and what every texture keeps."""

import numpy as np
import pytest

from tinygen.data.textures import TEXTURES, blend, fade, fractal_noise, gradient_noise, rgb


class Angles:
    """Draws these angles."""

    def __init__(self, *angles):
        self.angles = np.array(angles)

    def uniform(self, low, high, shape):
        return self.angles.reshape(shape)


def test_gradient_noise_by_hand():
    """One corner, whose direction is to the right; periodic, so all four corners are this one."""
    noise = gradient_noise(4, 1, rng=Angles(0.0))
    t = np.arange(4) / 4
    s = 1 - 6 * t**5 + 15 * t**4 - 10 * t**3
    expected = s * t + s[[0, 3, 2, 1]] * (t - 1) * (t > 0)
    np.testing.assert_allclose(noise, np.broadcast_to(expected, (4, 4)), atol=1e-12)


def test_noise_is_0_at_the_corners_and_periodic():
    noise = gradient_noise(32, 4, rng=np.random.default_rng(0))
    np.testing.assert_allclose(noise[::8, ::8], 0, atol=1e-12)
    steps = np.abs(np.diff(np.concatenate([noise, noise[:1]]), axis=0)).max(axis=1)
    assert steps[-1] < 1.5 * steps[:-1].max()
    assert 0.1 < noise.std() < 0.5


def test_fading():
    np.testing.assert_allclose(fade(np.array([0, 0.5, -0.5, 1, -1])), [1, 0.5, 0.5, 0, 0], atol=1e-12)
    a = 1e-4  # the slope at the ends is 0
    assert abs(1 - fade(np.array([a]))[0]) < 1e-10


def test_octaves():
    one = gradient_noise(32, 2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(fractal_noise(32, 2, 1, rng=np.random.default_rng(0)), one)
    assert not np.array_equal(fractal_noise(32, 2, 2, rng=np.random.default_rng(0)), one)


def test_colors():
    np.testing.assert_allclose(rgb("#ff0080"), [1, -1, 1 / 255], atol=1e-12)
    mixed = blend(np.array([[0.0, 0.25, 1.0]]), ("#000000", "#ffffff", "#ff0000"))
    np.testing.assert_allclose(mixed[:, 0], [[-1, 0, 1], [-1, 0, -1], [-1, 0, -1]], atol=1e-6)


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("side", [24, 33])
def test_textures(name, side):
    ours, again, other = (TEXTURES[name](side, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert ours.shape == (3, side, side)
    assert ours.dtype == np.float32
    assert np.abs(ours).max() <= 1
    assert ours.std(axis=(1, 2)).min() > 0.1
    assert np.array_equal(ours, again)
    assert not np.array_equal(ours, other)
