"""Captioned shapes: pixels against counted points, and words against pictures."""

import re

import numpy as np
import pytest

from tinygen.data import shapes
from tinygen.data.shapes import (
    COLORS,
    POSITIONS,
    SCENES,
    SHAPES,
    SIDES,
    SIZES,
    SPLITS,
    Scene,
    batch,
    caption,
    coverage,
    draw,
    parse_caption,
)
from tinygen.judges.shapes_parser import accuracy

both_sides = pytest.mark.parametrize("side", SIDES)
every_shape = pytest.mark.parametrize("shape", SHAPES)

INSIDE = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 1,
    "triangle": lambda u, v: (abs(u) <= (1 + v) / 2) & (v <= 1),
    "cross": lambda u, v: np.where(abs(u) <= 1 / 3, abs(v) <= 1, (abs(u) <= 1) & (abs(v) <= 1 / 3)),
}
OFF = {"circle": 0.03, "square": 1e-12, "triangle": 0.01, "cross": 1e-12}  # what `coverage` claims of a pixel
AREA = {"circle": np.pi, "square": 4.0, "triangle": 2.0, "cross": 20 / 9}


def some_places(n: int, seed: int) -> np.ndarray:
    """Places (n, 3) anywhere that the shapes are whole."""
    rng = np.random.default_rng(seed)
    return np.hstack([rng.uniform(0.25, 0.75, (n, 2)), rng.uniform(0.08, 0.24, (n, 1))])


# -- pixels ----------------------------------------------------------------------------------------


@both_sides
@every_shape
def test_every_pixel_is_covered_as_far_as_points_in_it_are_inside(shape, side):
    many = 40  # points a pixel, along each axis
    points = (np.arange(side * many) + 0.5) / (side * many)
    for (x, y, r), covered in zip(places := some_places(6, 0), coverage(shape, places, side), strict=True):
        inside = INSIDE[shape]((points - x) / r, (points[:, None] - y) / r)
        counted = inside.reshape(side, many, side, many).mean(axis=(1, 3))
        assert abs(covered - counted).max() <= 1 / many + OFF[shape]


@both_sides
@every_shape
def test_the_whole_coverage_is_the_area(shape, side):
    places = some_places(200, 1)
    area = coverage(shape, places, side).sum(axis=(1, 2))
    # The rows of a disc are a square root, which no polynomial is; all others are exact.
    bound = 0.01 if shape == "circle" else 1e-12
    np.testing.assert_allclose(area, AREA[shape] * (places[:, 2] * side) ** 2, rtol=bound)


@both_sides
@every_shape
def test_mirrored_and_moved(shape, side):
    places = some_places(50, 2)
    covered = coverage(shape, places, side)
    np.testing.assert_allclose(
        coverage(shape, (1, 0, 0) + places * (-1, 1, 1), side)[..., ::-1], covered, atol=1e-12
    )
    moved = coverage(shape, places + np.array([1, -2, 0]) / side, side)
    np.testing.assert_allclose(moved[:, :-2, 1:], covered[:, 2:, :-1], atol=1e-12)
    if shape != "triangle":
        upside_down = coverage(shape, (0, 1, 0) + places * (1, -1, 1), side)[:, ::-1]
        np.testing.assert_allclose(upside_down, covered, atol=1e-12)
        turned = coverage(shape, places[:, [1, 0, 2]], side).swapaxes(1, 2)
        np.testing.assert_allclose(turned, covered, atol=2 * OFF[shape])


@both_sides
def test_pictures(side):
    pictures = draw(SCENES, side, np.random.default_rng(3))
    assert pictures.shape == (432, 3, side, side)
    assert pictures.dtype == np.float32
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert (draw(SCENES, side, np.random.default_rng(3)) == pictures).all()
    again = draw(SCENES, side, np.random.default_rng(4))
    assert (abs(again - pictures).max(axis=(1, 2, 3)) > 0.01).all()
    assert draw([], side, np.random.default_rng(3)).shape == (0, 3, side, side)


def test_the_small_picture_is_the_large_one_seen_from_afar():
    small, large = (draw(SCENES, side, np.random.default_rng(5)) for side in (16, 32))
    np.testing.assert_allclose(
        large.reshape(432, 3, 16, 2, 16, 2).mean(axis=(3, 5)), small, atol=4 * OFF["circle"]
    )


def test_colors_are_as_named():
    scenes = [Scene("square", color, "large", "centre") for color in COLORS for _ in range(100)]
    pictures = (draw(scenes, 16, np.random.default_rng(6)) + 1) / 2
    off = pictures[:, :, 8, 8] - [COLORS[scene.color] for scene in scenes]
    assert 0.045 < abs(off).max() <= shapes.COLOR_JITTER + 1e-6
    off = pictures[:, :, 0, 0] - np.array(shapes.BACKGROUND)
    assert 0.045 < abs(off).max() <= shapes.COLOR_JITTER + 1e-6


@pytest.mark.parametrize("position", POSITIONS)
def test_positions_are_as_named(position):
    words = position.split()
    scenes = [scene for scene in SCENES if scene.position == position]
    light = draw(scenes, 16, np.random.default_rng(7)).max(axis=1) + 0.5  # (N, H, W), at most 0 on the paper
    light = np.maximum(light, 0)
    rows = light.sum(axis=2) @ np.arange(16) / light.sum(axis=(1, 2))
    columns = light.sum(axis=1) @ np.arange(16) / light.sum(axis=(1, 2))
    for center, low, high in ((rows, "top", "bottom"), (columns, "left", "right")):
        third = -1 if low in words else 1 if high in words else 0
        assert abs(center - (7.5 + 4 * third)).max() < 1.7  # 4 pixels apart; a triangle is heavy at its foot


def test_no_shape_touches_the_edge():
    reach = max(SIZES.values()) + shapes.SIZE_JITTER + shapes.POSITION_JITTER
    assert all(reach < x < 1 - reach for center in POSITIONS.values() for x in center)


# -- words -----------------------------------------------------------------------------------------


def test_a_caption():
    assert caption(Scene("circle", "red", "small", "top left")) == "a small red circle at the top left"


def test_captions_round_trip():
    assert len(SCENES) == len(set(SCENES)) == len({caption(scene) for scene in SCENES}) == 4 * 6 * 2 * 9
    assert [parse_caption(caption(scene)) for scene in SCENES] == list(SCENES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a caption: ''; one looks like 'a small red circle at the top left'"),
        ("a red circle at the top left", "not a caption: 'a red circle at the top left'; one looks like"),
        ("a small red circle at the", "no position is called ''"),
        ("a small red dog at the top", "no shape is called 'dog': there are circle, square, triangle, cross"),
        ("a small pink cross at the top", "no color is called 'pink': there are red, green, blue,"),
        ("a huge red cross at the top", "no size is called 'huge': there are small, large"),
        ("a small red cross at the left top", "no position is called 'left top': there are top left, top,"),
    ],
)
def test_what_is_not_a_caption(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_caption(text)


def test_held_out_pairs():
    train, held_out = SPLITS["train"], SPLITS["held_out"]
    assert sorted(map(caption, train + held_out)) == sorted(map(caption, SCENES))
    pairs = {(scene.shape, scene.color) for scene in held_out}
    assert pairs == shapes.HELD_OUT
    assert not pairs & {(scene.shape, scene.color) for scene in train}
    # One pair a shape, and none of a color twice: of every word, training shows most of its company.
    assert len({shape for shape, _ in pairs}) == len({color for _, color in pairs}) == len(pairs) == 4


@pytest.mark.parametrize("split", SPLITS)
def test_batches(split):
    pictures, scenes = batch(5000, 16, np.random.default_rng(8), split)
    assert set(scenes) == set(SPLITS[split])
    assert accuracy(pictures[:100], scenes[:100])["all"] == 1
    pictures, scenes = batch(50, 32, np.random.default_rng(8), split)
    again, same = batch(50, 32, np.random.default_rng(8), split)
    assert same == scenes
    assert (again == pictures).all()


def test_a_batch_is_of_training_scenes():
    assert set(batch(2000, 16, np.random.default_rng(9))[1]) <= set(SPLITS["train"])


def test_errors_of_drawing():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=re.escape("side must be one of (16, 32) pixels, got 24")):
        draw(SCENES[:2], 24, rng)
    with pytest.raises(ValueError, match="no split is called 'test': there are train, held_out"):
        batch(2, 16, rng, "test")
    pictures, scenes = batch(0, 16, rng)
    assert (pictures.shape, scenes) == ((0, 3, 16, 16), [])
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        batch(-1, 16, rng)
