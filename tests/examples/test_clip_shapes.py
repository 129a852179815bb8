"""CLIP of captioned shapes: its batches, its steps by hand, what it measures, and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, Training, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen.data import shapes, shapes_pairs
from tinygen.data.shapes_pairs import OPPOSITE, Pair, Thing, meaning, parse_caption

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "clip_shapes.py"
SMALL = {"channels": 4, "layers": 1, "batch": 8, "steps": 5, "seed": 4, "lr": 0.01}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def contrast(example):
    import sys

    return sys.modules["shared.contrast"]


def is_seen(pair):
    return not {(thing.shape, thing.color) for thing in (pair.first, pair.second)} & shapes.HELD_OUT


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", ["easy", "by chance", "hard"])
def test_no_two_captions_of_a_batch_mean_the_same(contrast, negatives):
    pictures, captions = contrast.draw_pairs(64, 16, negatives, np.random.default_rng(0))
    pairs = [parse_caption(caption) for caption in captions]
    assert pictures.shape == (64, 3, 16, 16)
    assert len({meaning(pair) for pair in pairs}) == 64
    assert all(map(is_seen, pairs))
    assert {pair.relation for pair in pairs} == OPPOSITE.keys()


def test_the_pictures_show_their_captions(contrast):
    from tinygen.judges import pairs_parser, shapes_parser

    pictures, captions = contrast.draw_pairs(64, 32, "hard", np.random.default_rng(1))
    assert pairs_parser.accuracy(pictures, [parse_caption(c) for c in captions])["all"] == 1
    pictures, captions = contrast.draw_scenes(40, 32, np.random.default_rng(1))
    scenes = [shapes.parse_caption(c) for c in captions]
    assert shapes_parser.accuracy(pictures, scenes)["all"] == 1
    assert len({*scenes}) == 40
    assert {*scenes} <= {*shapes.SPLITS["train"]}


def test_hard_negatives_come_together(contrast):
    """All pairs of the same words that are in training, but for the last ones, for which no room is left."""
    _, captions = contrast.draw_pairs(64, 16, "hard", np.random.default_rng(0))
    pairs = [meaning(parse_caption(caption)) for caption in captions]
    for pair in pairs[:60]:
        (a, b), (c, d), r = pair.first, pair.second, pair.relation
        words = [((a, b), (c, d)), ((a, d), (c, b)), ((c, d), (a, b)), ((c, b), (a, d))]
        every = {meaning(Pair(Thing(*x), r, Thing(*y))) for x, y in words}
        assert {other for other in every if is_seen(other)} <= {*pairs}


def test_easy_negatives_have_other_words(contrast):
    """And by chance, some have the same: their shapes, their colors, and the line through both."""
    several = {}
    for negatives in ("easy", "by chance", "hard"):
        _, captions = contrast.draw_pairs(64, 16, negatives, np.random.default_rng(0))
        pairs = [meaning(parse_caption(caption)) for caption in captions]
        bags = {tuple(sorted(shapes_pairs.caption(pair).split())) for pair in pairs}
        several[negatives] = 64 - len(bags)
    assert several["easy"] == 0 < several["by chance"] < 16 < several["hard"]


def test_captions_come_in_both_wordings(contrast):
    pair = Pair(Thing("circle", "red"), "left of", Thing("square", "blue"))
    found = {*contrast.captions_of([pair] * 30, np.random.default_rng(0))}
    assert found == {"a red circle left of a blue square", "a blue square right of a red circle"}


# -- the loop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", ["conv", "vit"])
def test_the_steps(monkeypatch, example, contrast, image):
    args = flags(monkeypatch, example, image=image, **SMALL)
    models = example.build(args).astype(np.float64)
    models[2].logit_scale.data = np.array(math.log(150))  # it is clamped after the first step
    by_hand, loop = copy.deepcopy(models), Loop(5)
    example.train(models, args, loop)

    rng = np.random.default_rng(5)
    trainings = [Training(model, (0.9, 0.98), clip=1.0) for model in by_hand]
    for n in range(5):
        rate = warmup_cosine(n, 0.01, 0.01 / 50, 2, 5)
        for i, (model, training) in enumerate(zip(by_hand, trainings, strict=True)):
            name = ("single", "easy", "by chance", "hard")[i]
            if i == 0:
                pictures, captions = contrast.draw_scenes(8, 32, rng)
            else:
                pictures, captions = contrast.draw_pairs(8, 32, name, rng)
            x, y = model.image_encoder(pictures), model.text_encoder(contrast.ids_of(captions))
            x, y = (a / np.sqrt((a * a).sum(axis=1, keepdims=True)) for a in (x, y))
            z = x @ y.T * np.exp(model.logit_scale)
            loss = -sum((log_softmax(each) * np.eye(8)).sum() for each in (z, z.T)) / 16
            assert training.step(loss, rate) == pytest.approx(loop.rows[n][name], rel=1e-6)
            t = model.logit_scale
            t.data = np.minimum(t.data, math.log(100))
    same(models, by_hand, 1e-6)
    assert {*loop.things} == {"models", "batches", "of_0", "of_1", "of_2", "of_3"}


def test_models_begin_with_the_same_weights(monkeypatch, example):
    first, *others = example.build(flags(monkeypatch, example, **SMALL))
    for other in others:
        for p, q in zip(first.parameters(), other.parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q.data)


# -- what is measured ------------------------------------------------------------------------------


def test_recall_and_winoground_by_brute_force(contrast):
    z = np.random.default_rng(0).standard_normal((7, 7))
    rows, columns = contrast.recall(z)
    for i in range(7):
        assert rows[i] == all(z[i, i] >= z[i, j] for j in range(7))
        assert columns[i] == all(z[i, i] >= z[j, i] for j in range(7))
    z = np.random.default_rng(1).standard_normal((60_000, 2, 2))
    scores = contrast.winoground(z)
    for i in range(50):
        text = z[i, 0, 0] > z[i, 0, 1] and z[i, 1, 1] > z[i, 1, 0]
        image = z[i, 0, 0] > z[i, 1, 0] and z[i, 1, 1] > z[i, 0, 1]
        assert [scores[name][i] for name in ("text", "image", "group")] == [text, image, text and image]
    shares = [scores[name].mean() for name in ("text", "image", "group")]
    assert shares == pytest.approx([1 / 4, 1 / 4, 1 / 6], abs=0.01)  # as Thrush et al. 2022 say


def test_duels(contrast):
    seen, unseen = contrast.duels("train"), contrast.duels("held_out")
    for pair in seen + unseen:
        assert pair.first.shape != pair.second.shape
        assert pair.first.color != pair.second.color
    assert all(is_seen(pair) and is_seen(shapes_pairs.swap_colors(pair)) for pair in seen)
    assert not any(map(is_seen, unseen))
    assert (len(seen), len(unseen)) == (288, 216)


@pytest.mark.parametrize("swap", [False, True])
def test_an_oracle_is_right_and_a_bag_of_words_is_not(monkeypatch, contrast, swap):
    """The first knows what a caption means; the second, which words it has."""
    from tinygen.judges import pairs_parser

    def key(pair):
        words = shapes_pairs.caption(meaning(pair)).split()
        return tuple(sorted(words)) if swap else tuple(words)

    numbers = {}
    one_hot = lambda keys: np.eye(500)[[numbers.setdefault(each, len(numbers)) for each in keys]]
    read = lambda model, x, device: one_hot([key(pair) for pair in pairs_parser.read(x)[0]])
    texts = lambda model, captions: one_hot([key(parse_caption(c)) for c in captions])
    monkeypatch.setattr(contrast, "image_vectors", read)
    monkeypatch.setattr(contrast, "text_vectors", texts)
    monkeypatch.setattr(contrast, "MEANINGS", contrast.MEANINGS[::9])
    found = contrast.judge_pairs(None, 1, 32, "cpu", np.random.default_rng(0))
    for answers in found.values():
        for name in ("colors swapped, text", "shapes swapped, image", "things swapped, group"):
            assert answers[name].mean() == (0 if swap else 1)


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 2 steps, as if it had been killed at step 2."""
    given = ["--steps", 4, "--out", tmp_path / "out", "--save-every", 2, "--judged", 1]
    given += ["--channels", 4, "--layers", 1, "--batch", 8]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 4
    assert all(math.isfinite(row["measured"]) for row in result["table"])
    require_pictures(tmp_path / "out", "loss", "matrices", "retrieved")
    require_same_from(2, tmp_path / "out", EXAMPLE, *given)
