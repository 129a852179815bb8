"""The parser of captioned shapes: every drawing read right, noise read through, and doubt where it is due."""

import dataclasses
import re

import numpy as np
import pytest

from tinygen.data.shapes import (
    BACKGROUND,
    COLORS,
    SCENES,
    SIDES,
    Scene,
    batch,
    caption,
    coverage,
    draw,
    paint,
)
from tinygen.judges import shapes_parser
from tinygen.judges.shapes_parser import accuracy, read

both_sides = pytest.mark.parametrize("side", SIDES)


def wrong(side: int, copies: int, seed: int) -> tuple[list[tuple[str, str]], float]:
    """Which of all scenes, `copies` times each, are misread (the two captions), and the least confidence."""
    scenes = SCENES * copies
    found, confidence = read(draw(scenes, side, np.random.default_rng(seed)))
    return [(caption(a), caption(b)) for a, b in zip(scenes, found, strict=True) if a != b], confidence.min()


@pytest.mark.parametrize(("side", "copies"), [(16, 4), (32, 2)])
def test_every_drawing_is_read_right(side, copies):
    misread, confidence = wrong(side, copies, 10)
    assert misread == []
    assert confidence > 0.98


@pytest.mark.slow
@both_sides
@pytest.mark.parametrize("seed", range(4))
def test_every_one_of_100_000_drawings_is_read_right(side, seed):
    misread, confidence = wrong(side, 29, seed)  # 12,528 pictures, eight times
    assert misread == []
    assert confidence > 0.95


def under_noise(side: int, strength: float, copies: int) -> dict[str, float]:
    """The accuracy on all scenes with Gaussian noise of this standard deviation, at a fixed seed."""
    rng = np.random.default_rng(11)
    scenes = SCENES * copies
    pictures = draw(scenes, side, rng)
    return accuracy(pictures + strength * rng.standard_normal(pictures.shape), scenes)


@pytest.mark.parametrize(
    ("side", "strength", "shape", "all_four"),
    [(16, 0.1, 1.0, 1.0), (16, 0.3, 0.96, 0.96), (16, 0.75, 0.75, 0.73), (32, 0.5, 0.99, 0.99)],
)
def test_noise_is_read_through(side, strength, shape, all_four):
    found = under_noise(side, strength, 1)
    assert found["shape"] >= shape
    assert found["all"] >= all_four
    assert min(found["color"], found["size"], found["position"]) >= 0.95


@pytest.mark.slow
def test_the_table_of_noise_is_what_is_measured():
    table = [line.split() for line in shapes_parser.__doc__.splitlines() if line.startswith("    ")]
    strengths = [float(word) for word in table[0][1:]]
    assert [int(row[0]) for row in table[1:]] == list(SIDES)
    for side, *figures in table[1:]:
        measured = [100 * under_noise(int(side), strength, 5)["all"] for strength in strengths]
        np.testing.assert_allclose([float(figure) for figure in figures], measured, atol=0.3)


def test_a_step_towards_a_shape_is_no_longer_than_0_03(monkeypatch):
    """Along each axis; Gauss-Newton would go 0.04 here."""
    monkeypatch.setattr(shapes_parser, "STEPS", 1)
    there = np.array([[0.5, 0.5, 0.12]])
    pixels = coverage("circle", there, 32).reshape(1, 1, -1).repeat(3, axis=1)
    far, near = (there + np.array([step, 0, 0]) for step in (0.1, 0.02))
    [place], _ = shapes_parser.refine("circle", pixels, far, 32)
    assert place[0] == pytest.approx(far[0, 0] - 0.03)
    [place], _ = shapes_parser.refine("circle", pixels, near, 32)
    assert abs(place[0] - 0.5) < 0.005


def test_pictures_are_read_one_by_one():
    pictures, _ = batch(300, 16, np.random.default_rng(12))
    pictures += np.random.default_rng(13).normal(size=pictures.shape) * 0.1  # more than one chunk
    scenes, confidence = read(pictures)
    assert 256 == shapes_parser.CHUNK < len(scenes)
    for i in (0, 255, 256, 299):
        [scene], [sure] = read(pictures[i : i + 1])
        assert scene == scenes[i]
        assert sure == pytest.approx(confidence[i], abs=1e-6)
    assert read(pictures[:0])[0] == []


@both_sides
def test_confidence_says_when_there_is_nothing_to_read(side):
    rng = np.random.default_rng(14)
    assert (read(np.full((3, 3, side, side), -0.8))[1] == 0).all()
    assert read(rng.uniform(-1, 1, (50, 3, side, side)))[1].max() < 0.2
    left, right = (
        draw([Scene("square", "red", "large", place)] * 20, side, rng) for place in ("left", "right")
    )
    assert read(np.maximum(left, right))[1].max() < 0.75  # two shapes
    assert read(-left)[1].max() < 0.2  # cyan on white


@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_the_share_that_is_explained_by_hand(strength):
    """Of 4, a drawing leaves 1, and 3 are explained; one that leaves 4 or more explains nothing."""
    pixels = strength * np.array([[[1.0, 3.0], [4.0, 2.0]]])
    left = strength * np.array([[[[1, 0], [0, 0]]], [[[0, 0], [2, 0]]], [[[3, 0], [0, 0]]]])
    shares = [shapes_parser.explained_share(pixels, pixels - less)[0] for less in left]
    np.testing.assert_allclose(shares, [0.75, 0, 0], rtol=1e-12)


@both_sides
@pytest.mark.parametrize(
    ("place", "ink", "paper", "low", "high"),
    [
        ((0.5, 0.5, 0.13), COLORS["red"], BACKGROUND, 0.999, 1),
        ((0.375, 0.5, 0.13), COLORS["red"], BACKGROUND, 0, 0.9),  # between two places
        ((0.5, 0.5, 0.165), COLORS["red"], BACKGROUND, 0, 0.9),  # between two sizes
        ((0.5, 0.5, 0.13), (0.5, 0.5, 0.5), BACKGROUND, 0, 0.9),  # grey
        ((0.5, 0.5, 0.13), COLORS["red"], (0.3, 0.3, 0.3), 0, 0.9),  # on grey
    ],
)
def test_confidence_says_how_odd_a_picture_is(side, place, ink, paper, low, high):
    covered = coverage("circle", np.array([place]), side)
    [scene], [confidence] = read(paint(covered, np.array([ink]), np.array([paper])))
    assert scene.shape == "circle"
    assert low <= confidence <= high


def test_accuracy_counts():
    scenes = list(SCENES[::43])
    pictures = draw(scenes, 16, np.random.default_rng(15))
    said = list(scenes)
    said[0] = dataclasses.replace(said[0], shape="cross")
    said[1] = dataclasses.replace(
        said[1], color="white", size="large" if said[1].size == "small" else "small"
    )
    said[2] = dataclasses.replace(said[2], shape="cross", color="white")
    said[3] = dataclasses.replace(said[3], size="large" if said[3].size == "small" else "small")
    n = len(scenes)
    words = ("shape", "color", "size", "position", "shape and color", "all")
    assert accuracy(pictures, scenes) == dict.fromkeys((*words, "surely shape and color", "surely all"), 1.0)
    assert accuracy(pictures, said) == {
        "shape": pytest.approx(1 - 2 / n),
        "color": pytest.approx(1 - 2 / n),
        "size": pytest.approx(1 - 2 / n),
        "position": 1.0,
        **dict.fromkeys(("shape and color", "surely shape and color"), pytest.approx(1 - 3 / n)),
        **dict.fromkeys(("all", "surely all"), pytest.approx(1 - 4 / n)),
    }


@both_sides
def test_a_blob_is_not_sure(side):
    """Pale drawings, the same words: they are read, but explain too little once there is noise. A picture
    whose confidence is SURE counts, one that has a little less does not."""
    scenes, rng = list(SCENES[::29]), np.random.default_rng(17)
    pictures = 0.4 * draw(scenes, side, rng) - 0.5
    pictures += 0.15 * rng.standard_normal(pictures.shape)
    shown, confidence = read(pictures)
    right = np.array([a == b for a, b in zip(shown, scenes, strict=True)])
    both = [(a.shape, a.color) == (b.shape, b.color) for a, b in zip(shown, scenes, strict=True)]
    for k in (0, len(scenes) // 2):
        bar = np.sort(confidence)[k]
        for least, counts in ((bar, confidence >= bar), (bar + 1e-9, confidence > bar)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(shapes_parser.SURE, side, least)
                found = accuracy(pictures, scenes)
            assert found["surely all"] == pytest.approx((right & counts).mean())
            assert found["surely shape and color"] == pytest.approx((both & counts).mean())
            assert found["all"] == pytest.approx(right.mean())


def confidence_under_noise(side: int, copies: int, seed: int) -> float:
    """The 1 % quantile of the confidence of drawings with noise of 0.1."""
    rng = np.random.default_rng(seed)
    pictures = draw(SCENES * copies, side, rng)
    return float(np.quantile(read(pictures + 0.1 * rng.standard_normal(pictures.shape))[1], 0.01))


@pytest.mark.slow
@both_sides
def test_sure_is_what_is_measured(side):
    assert shapes_parser.SURE[side] == pytest.approx(confidence_under_noise(side, 5, 18), abs=0.02)


def test_sure_is_about_what_is_measured():
    """With fewer drawings: between 0.1 and 3 % of them have less confidence."""
    rng = np.random.default_rng(19)
    pictures = draw(SCENES, 16, rng)
    _, confidence = read(pictures + 0.1 * rng.standard_normal(pictures.shape))
    assert 1 <= np.sum(confidence < shapes_parser.SURE[16]) <= 13


def test_errors_of_reading():
    pictures, scenes = batch(3, 16, np.random.default_rng(16))
    with pytest.raises(
        ValueError, match=r"side in \(16, 32\), got \(3, 16, 16\): a single picture is pictures"
    ):
        read(pictures[0])
    with pytest.raises(ValueError, match=r"pictures must be .* got \(3, 16, 16, 3\)"):
        read(pictures.transpose(0, 2, 3, 1))
    with pytest.raises(ValueError, match="one scene a picture, and at least one: got 3 pictures, 2 scenes"):
        accuracy(pictures, scenes[:2])
    with pytest.raises(ValueError, match="got 0 pictures, 0 scenes"):
        accuracy(pictures[:0], [])
    pictures[1, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=re.escape("1 pictures are not finite, the first is pictures[1]")):
        read(pictures)
