"""The deviations of drawings from their words: places, sizes and colors deviate independently, uniformly
up to a bound. They are measured from the pixels of squares, whose coverage is exact."""

import numpy as np
import pytest

from tinygen.data import shapes, shapes_pairs
from tinygen.data.shapes import COLORS, POSITIONS, SIZES, Scene
from tinygen.data.shapes_pairs import Pair, Thing

N = 1500


def require_uniform(values, middle, bound):
    """Each column of (N, K): within the bound, close to both ends of it, with the standard deviation of a
    uniform number (within 7 standard errors, sqrt(1/5) of it over sqrt(N)); no two move together."""
    off = values - middle
    assert np.abs(off).max() <= bound * (1 + 1e-3)
    for column in off.T:
        assert column.min() < -0.98 * bound
        assert column.max() > 0.98 * bound
        assert abs(column.std() * 3**0.5 / bound - 1) < 7 * 0.2**0.5 / N**0.5
        assert abs(column.mean()) < 7 * bound / (3 * N) ** 0.5
    together = np.atleast_2d(np.corrcoef(off.T)) - np.eye(off.shape[1])
    assert np.abs(together).max() < 7 / N**0.5


def extent(profile):
    """Where an interval begins and ends that covers so much of each pixel of rows (N, W), in pixels: (N,)."""
    rows, inside = np.arange(len(profile)), profile > 1e-4
    first, last = inside.argmax(axis=1), profile.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return first + 1 - profile[rows, first], last + profile[rows, last]


def measured(pictures):
    """Of pictures (N, 3, H, W) of one square on paper: its place and size (N, 3), ink and paper (N, 3)."""
    n = len(pictures)
    colors = (pictures.astype(np.float64) + 1) / 2
    paper = colors[:, :, 0, 0]
    beside = colors - paper[..., None, None]
    most = np.abs(beside).sum(axis=1).reshape(n, -1).argmax(axis=1)
    ink = colors.reshape(n, 3, -1)[np.arange(n), :, most]
    away = (ink - paper) / np.sum((ink - paper) ** 2, axis=1, keepdims=True)
    covered = np.einsum("nchw,nc->nhw", beside, away)
    left, right = extent(covered.max(axis=1))
    top, bottom = extent(covered.max(axis=2))
    np.testing.assert_allclose(right - left, bottom - top, atol=1e-4)
    return np.stack([left + right, top + bottom, right - left], axis=1) / 2, ink, paper


def test_one_shape():
    pictures = shapes.draw([Scene("square", "green", "large", "top right")] * N, 32, np.random.default_rng(0))
    place, ink, paper = measured(pictures)
    require_uniform(place[:, :2] / 32, POSITIONS["top right"], shapes.POSITION_JITTER)
    require_uniform(place[:, 2:] / 32, SIZES["large"], shapes.SIZE_JITTER)
    require_uniform(np.hstack([ink, paper]), [*COLORS["green"], *shapes.BACKGROUND], shapes.COLOR_JITTER)


def test_the_bounds():
    """The bounds with which the models were trained, and the parser's tables of noise were measured."""
    assert (shapes.POSITION_JITTER, shapes.SIZE_JITTER, shapes.COLOR_JITTER) == (0.03, 0.01, 0.05)
    assert (shapes_pairs.APART, shapes_pairs.ALONG, shapes_pairs.ACROSS) == (0.23, 0.05, 0.15)
    assert (shapes_pairs.SMALLEST, shapes_pairs.LARGEST) == (0.12, 0.16)


@pytest.mark.parametrize("relation", ["left of", "below"])
def test_two_shapes(relation):
    """Each in its half of the picture."""
    pair = Pair(Thing("square", "red"), relation, Thing("square", "blue"))
    pictures = shapes_pairs.draw([pair] * N, 32, np.random.default_rng(0))
    if relation == "left of":
        halves, middle = (pictures[..., :16], pictures[..., 16:]), [0.27, 0.5]
        start = [[0, 0], [0.5, 0]]
        jitter = [0.05, 0.15]
    else:
        halves, middle = (pictures[:, :, 16:], pictures[:, :, :16]), [0.5, 0.73]
        start = [[0, 0.5], [0, 0]]
        jitter = [0.15, 0.05]
    papers, moves = [], []
    for half, corner, color in zip(halves, start, ("red", "blue"), strict=True):
        place, ink, paper = measured(half)
        where = place[:, :2] / 32 + corner
        for axis in (0, 1):
            require_uniform(where[:, axis : axis + 1], middle[axis], jitter[axis])
        require_uniform(place[:, 2:] / 32, 0.14, 0.02)
        require_uniform(ink, COLORS[color], shapes.COLOR_JITTER)
        papers.append(paper)
        moves.append(np.hstack([place, ink]))
        middle = [1 - x for x in middle]
    np.testing.assert_allclose(*papers)
    together = np.corrcoef(np.hstack(moves).T) - np.eye(12)
    assert np.abs(together).max() < 7 / N**0.5  # also of one shape with the other
