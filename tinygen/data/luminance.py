"""The luminance of `shapes`, and what a grey picture says about the color.

A grey picture shows the luminance of its ink, one number. The ink of a color word is jittered in each
channel, so that several words may have the same luminance. For a red and a blue shape this happens often, for
a white one never. `color_posterior` is the exact probability of each word, by Bayes' rule: the best that a
model of color pictures given grey ones can say.

In a second palette, `EQUAL`, all words have the same luminance. There the grey picture says nothing about the
color, and the posterior is the prior.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinygen.data.shapes import COLOR_JITTER, COLORS, HELD_OUT
from tinygen.types import Floats, Pictures

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
EQUAL = {  # luminance 0.5: orange, green, cyan, olive, magenta, grey
    "red": (0.90, 0.3740, 0.10),
    "green": (0.10, 0.7814, 0.10),
    "blue": (0.10, 0.6261, 0.90),
    "yellow": (0.50, 0.5777, 0.10),
    "purple": (0.90, 0.2187, 0.90),
    "white": (0.50, 0.5000, 0.50),
}


def grey(pictures: Pictures) -> Pictures:
    """The luminance of pictures (N, 3, H, W), in all three channels of (N, 3, H, W)."""
    luminance = np.einsum("c,nchw->nhw", np.asarray(LUMINANCE, pictures.dtype), pictures)
    return np.repeat(luminance[:, None], 3, axis=1)


def luminance_density(luminance: ArrayLike, color: ArrayLike) -> Floats:
    """The density of the luminance (...) of an ink near `color` (3,), each channel uniform within the jitter.

    The luminance is the color's plus a sum of three independent uniform numbers, of half widths a_i. Its
    density is piecewise quadratic.

    Eq.: p(s) = Σ_{σ ∈ {-1, 1}³} σ_1 σ_2 σ_3 max(s + σ·a, 0)² / (2! Π 2a_i)  (Bradley & Gupta 2002, theorem 1)
    Held by: tests/data/test_luminance.py::test_the_density_is_that_of_draws
    """
    a = COLOR_JITTER * np.array(LUMINANCE)
    s = np.asarray(luminance, np.float64) - np.dot(LUMINANCE, color)
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))  # (8, 3)
    terms = np.maximum(s[..., None] + signs @ a, 0) ** 2 @ signs.prod(axis=1)
    inside = np.abs(s) < a.sum()  # beyond, the terms cancel, but for rounding
    return np.where(inside, np.maximum(terms, 0) / (2 * (2 * a).prod()), 0.0)


def color_posterior(
    luminance: ArrayLike, shapes: Sequence[str], colors: Mapping[str, Sequence[float]] = COLORS
) -> Floats:
    """The probabilities (N, 6) of the color words, in the order of `COLORS`, given the luminance (N,) of the
    ink in [0, 1] and the shape, for scenes of the training split: there every pair of shape and color is
    equally likely, except for the held-out ones, which do not occur. Place, size and paper are independent of
    the color, and say nothing. Raises ValueError for a luminance that no ink of the shape has.

    Eq.: P(c | s) = P(c) p(s | c) / Σ_c' P(c') p(s | c')  (Bayes' rule)
    Held by: tests/data/test_luminance.py::test_the_posterior_is_that_of_draws
    """
    likelihood = np.stack([luminance_density(luminance, colors[word]) for word in COLORS], axis=1)
    joint = likelihood * [[(shape, word) not in HELD_OUT for word in COLORS] for shape in shapes]
    total = joint.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        bad = int(np.flatnonzero(total[:, 0] == 0)[0])
        raise ValueError(f"no {shapes[bad]} has the luminance {np.asarray(luminance)[bad]:.3f}")
    posterior: Floats = joint / total
    return posterior
