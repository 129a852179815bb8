"""Captioned pairs of shapes: drawings, captions, and a parser that reads every drawing correctly."""

import re

import numpy as np
import pytest

from tinygen.data import shapes, shapes_pairs
from tinygen.data.shapes import BACKGROUND, COLORS, HELD_OUT, SHAPES, SIDES, Scene, coverage
from tinygen.data.shapes_pairs import (
    OPPOSITE,
    PAIRS,
    RELATIONS,
    SPLITS,
    THINGS,
    Pair,
    Thing,
    batch,
    caption,
    centers,
    coverages,
    draw,
    meaning,
    other_wording,
    paint,
    parse_caption,
    swap_colors,
    swap_things,
)
from tinygen.judges import pairs_parser
from tinygen.judges.pairs_parser import accuracy, read

both_sides = pytest.mark.parametrize("side", SIDES)
SOME = PAIRS[::7]  # 330, with every thing and relation on either side


# -- pictures --------------------------------------------------------------------------------------


@both_sides
def test_pictures(side):
    pictures = draw(SOME, side, np.random.default_rng(0))
    assert pictures.shape == (330, 3, side, side)
    assert pictures.dtype == np.float32
    assert pictures.min() >= -1
    assert pictures.max() <= 1
    assert (draw(SOME, side, np.random.default_rng(0)) == pictures).all()
    again = draw(SOME, side, np.random.default_rng(1))
    assert (abs(again - pictures).max(axis=(1, 2, 3)) > 0.01).all()
    assert draw([], side, np.random.default_rng(0)).shape == (0, 3, side, side)


def test_the_two_are_whole_and_apart():
    """At the ends of what is drawn: inside the picture, in halves of their own, the relation beyond doubt."""
    reach = shapes_pairs.LARGEST + max(shapes_pairs.ALONG + shapes_pairs.APART, shapes_pairs.ACROSS)
    assert reach < 0.5
    assert shapes_pairs.APART - shapes_pairs.ALONG - shapes_pairs.LARGEST > 0
    assert 2 * (shapes_pairs.APART - shapes_pairs.ALONG) > 2 * shapes_pairs.ACROSS


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_relation_is_as_named(relation):
    """A red and a blue square: where there is red light, and where blue."""
    pairs = [Pair(Thing("square", "red"), relation, Thing("square", "blue"))] * 50
    pictures = draw(pairs, 32, np.random.default_rng(2))
    red = pictures[:, 0] - pictures[:, 2]  # on the paper within 0.2 of 0
    shown = [np.maximum(red - 0.3, 0), np.maximum(-red - 0.3, 0)]
    at = np.arange(32)
    x = [(light.sum(axis=1) @ at) / light.sum(axis=(1, 2)) for light in shown]
    y = [(light.sum(axis=2) @ at) / light.sum(axis=(1, 2)) for light in shown]
    right, down = x[1] - x[0], y[1] - y[0]
    along, across = {
        "left of": (right, down),
        "right of": (-right, down),
        "above": (down, right),
        "below": (-down, right),
    }[relation]
    assert (along > 11).all()
    assert (abs(across) < along).all()
    assert abs(across).max() > 6


@both_sides
def test_a_pair_is_its_two_shapes_on_one_paper(side):
    """Pixel by pixel the brighter of two drawings with one shape each, on the same paper."""
    ink, paper = np.array([[COLORS["red"], COLORS["white"]]]), np.array([BACKGROUND])
    places = np.array([[[0.27, 0.4, 0.15]], [[0.7, 0.6, 0.12]]])
    together = paint(coverages([["circle"], ["cross"]], places, side), ink, paper)
    alone = [
        shapes.paint(coverage(name, places[k], side), ink[:, k], paper)
        for k, name in enumerate(("circle", "cross"))
    ]
    np.testing.assert_allclose(together, np.maximum(*alone), atol=1e-12)


def test_sizes_and_colors_are_jittered_and_no_further():
    pairs = [Pair(Thing("square", "red"), "left of", Thing("square", "green"))] * 400
    pictures = (draw(pairs, 32, np.random.default_rng(3)) + 1) / 2
    red = abs(pictures[:, 0] - COLORS["red"][0]).reshape(400, -1).min(axis=1)
    assert red.max() <= shapes.COLOR_JITTER + 1e-6
    paper = pictures[:, :, 0, 0] - np.array(BACKGROUND)
    assert 0.045 < paper.max() <= shapes.COLOR_JITTER + 1e-6
    assert 0.045 < -paper.min() <= shapes.COLOR_JITTER + 1e-6
    covered = ((pictures[:, 0] - pictures[:, 0, :1, :1]) / (COLORS["red"][0] - 0.1)).clip(0)[:, :, :16]
    r = np.sqrt(covered.sum(axis=(1, 2))) / 2 / 32  # of the area 4 r²; the colors are within 15 %
    assert 0.11 < r.min() < 0.125
    assert 0.155 < r.max() < 0.175


# -- words -----------------------------------------------------------------------------------------


def test_a_caption():
    pair = Pair(Thing("circle", "red"), "left of", Thing("square", "blue"))
    assert caption(pair) == "a red circle left of a blue square"


def test_captions_round_trip():
    assert len(THINGS) == 24
    assert len(PAIRS) == len(set(PAIRS)) == len({caption(pair) for pair in PAIRS}) == 24 * 4 * 24
    assert [parse_caption(caption(pair)) for pair in PAIRS] == list(PAIRS)


def test_two_captions_a_meaning():
    assert len({meaning(pair) for pair in PAIRS}) == len(PAIRS) // 2
    for pair in PAIRS:
        mirrored = Pair(pair.second, OPPOSITE[pair.relation], pair.first)
        assert meaning(pair) == meaning(mirrored) in (pair, mirrored)
        assert meaning(pair).relation in ("left of", "above")
    for relation, opposite in OPPOSITE.items():
        assert tuple(-x for x in RELATIONS[relation]) == RELATIONS[opposite]
    there, back = (centers([relation])[0][0] for relation in ("left of", "right of"))
    np.testing.assert_allclose(there, back[::-1])


def test_the_same_words_in_another_order():
    """Both swaps keep the words, undo themselves and each other's order; what they mean is another picture
    exactly where the swapped words differ."""
    pair = Pair(Thing("circle", "red"), "above", Thing("square", "blue"))
    assert caption(swap_colors(pair)) == "a blue circle above a red square"
    assert caption(swap_things(pair)) == "a blue square above a red circle"
    assert caption(other_wording(pair)) == "a blue square below a red circle"
    for pair in PAIRS:
        for swap in (swap_colors, swap_things):
            assert sorted(caption(swap(pair)).split()) == sorted(caption(pair).split())
            assert swap(swap(pair)) == pair
        assert swap_colors(swap_things(pair)) == swap_things(swap_colors(pair))
        assert meaning(other_wording(pair)) == meaning(pair)
        colors_differ = pair.first.color != pair.second.color
        assert (meaning(swap_colors(pair)) != meaning(pair)) == colors_differ
        assert (meaning(swap_things(pair)) != meaning(pair)) == (pair.first != pair.second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a caption: ''; one looks like 'a red circle left of a red circle'"),
        ("a red circle", "not a caption: 'a red circle'; one looks like"),
        ("a red circle near a blue square", "no relation is called 'near': there are left of, right of,"),
        ("a red dog above a blue square", "no shape is called 'dog': there are circle, square,"),
        ("a red cross above a pink square", "no color is called 'pink': there are red, green,"),
    ],
)
def test_what_is_not_a_caption(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_caption(text)


def test_held_out_objects():
    train, held_out = SPLITS["train"], SPLITS["held_out"]
    assert len(train) == 20 * 4 * 20
    assert set(train) | set(held_out) == set(PAIRS)
    assert not set(train) & set(held_out)
    assert not any({pair.first, pair.second} & HELD_OUT for pair in train)
    assert all({pair.first, pair.second} & HELD_OUT for pair in held_out)
    for split in SPLITS.values():  # what a picture means is in one split, in whatever way it is said
        assert {meaning(pair) for pair in split} <= set(split)


@pytest.mark.parametrize("split", SPLITS)
def test_batches(split):
    pictures, pairs = batch(60, 16, np.random.default_rng(4), split)
    assert set(pairs) <= set(SPLITS[split])
    again, same = batch(60, 16, np.random.default_rng(4), split)
    assert same == pairs
    assert (again == pictures).all()
    assert accuracy(pictures, pairs)["all"] == 1


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=re.escape("side must be one of (16, 32) pixels, got 24")):
        draw(PAIRS[:2], 24, rng)
    with pytest.raises(ValueError, match="no split is called 'test': there are train, held_out"):
        batch(2, 16, rng, "test")
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        batch(-1, 16, rng)
    with pytest.raises(ValueError, match=r"got \(3, 16, 16\): a single picture is pictures\[None\]"):
        read(np.zeros((3, 16, 16)))
    for n, m in ((0, 1), (1, 2), (0, 0)):
        with pytest.raises(
            ValueError, match=f"one pair a picture, one at least: got {n} pictures, {m} pairs"
        ):
            accuracy(np.zeros((n, 3, 16, 16)), PAIRS[:m])


# -- reading ---------------------------------------------------------------------------------------


def wrong(pairs, side: int, seed: int) -> tuple[list[tuple[str, str]], float]:
    """Which pairs' drawings are misread (the two captions), and the least confidence."""
    found, confidence = read(draw(pairs, side, np.random.default_rng(seed)))
    misread = [(caption(a), caption(b)) for a, b in zip(pairs, found, strict=True) if meaning(a) != b]
    return misread, confidence.min()


@pytest.mark.parametrize(("side", "pairs"), [(16, SOME), (32, PAIRS[::31])])
def test_every_drawing_is_read_right(side, pairs):
    misread, confidence = wrong(pairs, side, 5)
    assert misread == []
    assert confidence > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("side", "seed"), [(16, 0), (16, 1), (32, 2)])
def test_every_one_of_thousands_of_drawings_is_read_right(side, seed):
    misread, confidence = wrong(PAIRS, side, seed)
    assert misread == []
    assert confidence > 0.98


def test_the_paper_of_each_picture_is_its_own():
    """Beside a picture on bright paper, another is cut in the same halves."""
    dark, bright = draw(PAIRS[:2], 16, np.random.default_rng(9)).astype(np.float64)
    bright += 1
    together = pairs_parser.split_in_halves(np.stack([dark, bright]))
    alone = [pairs_parser.split_in_halves(picture[None]) for picture in (dark, bright)]
    for k, axis in ((0, 1), (1, 2)):  # halves (2, N, 3, side, side) and places (2, shapes, N, 3)
        np.testing.assert_array_equal(together[k], np.concatenate([one[k] for one in alone], axis=axis))


def under_noise(side: int, strength: float) -> dict[str, float]:
    rng = np.random.default_rng(6)
    pictures = draw(SOME, side, rng)
    return accuracy(pictures + strength * rng.standard_normal(pictures.shape), SOME)


def test_noise_is_read_through():
    found = under_noise(16, 0.3)
    assert 0.93 < found["all"] <= found["objects"] <= min(found["shapes"], found["colors"])
    assert found["colors"] == 1


@pytest.mark.slow
@both_sides
def test_the_table_of_noise_is_what_is_measured(side):
    table = [line.split() for line in pairs_parser.__doc__.splitlines() if line.startswith("    ")]
    [figures] = [row[1:] for row in table if row[0] == str(side)]
    measured = [100 * under_noise(side, float(strength))["all"] for strength in table[0][1:]]
    np.testing.assert_allclose([float(figure) for figure in figures], measured, atol=0.35)


@both_sides
def test_confidence_says_when_it_is_no_pair(side):
    rng = np.random.default_rng(7)
    assert (read(np.full((2, 3, side, side), -0.8))[1] == 0).all()
    assert read(rng.uniform(-1, 1, (20, 3, side, side)))[1].max() < 0.25
    one = [Scene(shape, "red", "large", "left") for shape in SHAPES]
    assert read(shapes.draw(one, side, rng))[1].max() < 0.9  # one shape: a second there is not
    pair = draw([Pair(Thing("square", "red"), "left of", Thing("cross", "blue"))], side, rng)
    assert read(pair)[1] > 0.98
    assert read(-pair)[1] < 0.25


def test_a_wrong_binding_is_told_from_a_right_one():
    """The same shapes and colors, exchanged; and the same objects on exchanged sides."""
    red_circle, blue_square = Thing("circle", "red"), Thing("square", "blue")
    said = Pair(red_circle, "left of", blue_square)
    bound = Pair(Thing("circle", "blue"), "left of", Thing("square", "red"))
    placed = Pair(blue_square, "left of", red_circle)
    pictures = draw([said, bound, placed, meaning(said)], 16, np.random.default_rng(8))
    assert accuracy(pictures, [said] * 4) == {"shapes": 1, "colors": 1, "objects": 0.75, "all": 0.5}
