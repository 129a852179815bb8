"""The features of shapes: of a picture whose place and colors are known, and the order of distances."""

from dataclasses import replace

import numpy as np
import pytest

from tinygen.data.shapes import SCENES, batch, coverage, draw, paint
from tinygen.judges.frechet import frechet
from tinygen.judges.shapes import features, measure

FLOOR, CEILING = 0.000527, 3.46


def test_of_a_picture_painted_by_hand():
    """A triangle: its share is 1 and the others' less, and its place and colors come back."""
    place, ink, paper = (
        np.array([[0.55, 0.4, 0.21]]),
        np.array([[0.9, 0.2, 0.1]]),
        np.array([[0.1, 0.15, 0.2]]),
    )
    found = features(paint(coverage("triangle", place, 32), ink, paper))[0]
    assert found[2] == pytest.approx(1, abs=1e-4)
    assert max(found[[0, 1, 3]]) < 0.95
    np.testing.assert_allclose(found[4:], np.concatenate([place, ink, paper], axis=1)[0], atol=5e-3)


def test_the_floor_the_ceiling_and_between():
    """Drawings of the same captions, red and green swapped, noise. Two numbers that docs quote."""
    rng = np.random.default_rng(0)
    pictures, scenes = batch(200, 16, rng)
    real = features(pictures)
    assert real.shape == (200, 13)
    floor = frechet(features(draw(scenes, 16, rng)), real)
    swapped = frechet(features(pictures[:, [1, 0, 2]]), real)
    ceiling = frechet(features(rng.uniform(-1, 1, pictures.shape)), real)
    assert 0 < floor < swapped / 3 < ceiling / 6
    assert floor == pytest.approx(FLOOR, rel=0.02)
    assert ceiling == pytest.approx(CEILING, rel=0.02)


def test_one_shape_for_all_is_seen():
    """Circles alone, with the colors, sizes and places of all scenes."""
    rng = np.random.default_rng(1)
    some = SCENES[::3]
    circles = [replace(scene, shape="circle") for scene in some]
    real, other, circles = (features(draw(scenes, 16, rng)) for scenes in (some, some, circles))
    assert frechet(circles, real) > 10 * frechet(other, real)


def test_the_shares_do_not_depend_on_the_contrast():
    """Nor on the brightness; and the greatest share is what the best shape explains."""
    pictures, _ = batch(8, 16, np.random.default_rng(2))
    shares, faint = (features(x)[:, :4] for x in (pictures, 1e-3 * pictures + 0.5))
    np.testing.assert_allclose(faint, shares, atol=1e-5)
    np.testing.assert_allclose(measure(pictures.astype(np.float64))[1], shares.max(axis=1))


def test_an_empty_picture_has_features():
    assert np.isfinite(features(np.full((2, 3, 16, 16), 0.5))).all()


def test_what_is_no_picture():
    with pytest.raises(ValueError, match=r"pictures must be \(N, 3, side, side\)"):
        features(np.zeros((2, 1, 8, 8)))
    assert features(np.zeros((0, 3, 16, 16))).shape == (0, 13)
