"""Mask-predict in small worlds whose conditional probabilities are enumerated exactly."""

import itertools
from collections import Counter

import numpy as np
import pytest

from tinygen.text.mask_predict import mask_any_number, mask_predict

MASK = 9


class World:
    """A distribution over texts (N,) of V tokens, as a table. `predict` is the best masked language model:
    p(token at i | the tokens that are seen), each position by itself."""

    def __init__(self, probs):
        self.probs = {text: p / sum(probs.values()) for text, p in probs.items()}
        self.asked = []

    def predict(self, ids):
        self.asked.append(ids.copy())
        n, v = ids.shape[1], 1 + max(map(max, self.probs))
        p = np.zeros((*ids.shape, v))
        for row, holes in enumerate(ids.tolist()):
            for text, q in self.probs.items():
                if all(hole in (MASK, token) for hole, token in zip(holes, text, strict=True)):
                    p[row, range(n), text] += q
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(p / p.sum(axis=-1, keepdims=True))


def written(world, shape, passes):
    return mask_predict(world.predict, shape, MASK, passes)


def test_one_pass_takes_each_token_by_itself():
    """Three texts; the most probable token at each place makes a fourth one, which has no probability."""
    world = World({(0, 1, 1): 1.0, (1, 0, 1): 1.0, (1, 1, 0): 1.0})
    one = written(world, (1, 3), 1)
    np.testing.assert_array_equal(one.tokens, [[1, 1, 1]])
    np.testing.assert_allclose(one.log_probs, np.log(2 / 3))
    assert tuple(one.tokens[0]) not in world.probs


@pytest.mark.parametrize("passes", [3, 4, 10])
def test_more_passes_make_the_parts_fit(passes):
    """Two ways to write a text of four, the second a little more probable at odd places: one pass mixes
    them, and with more passes one whole way is left."""
    world = World(
        {(0, 0, 0, 0): 0.45, (1, 1, 1, 1): 0.4, (0, 1, 0, 1): 0.0, (0, 0, 0, 1): 0.15, (0, 1, 1, 1): 0.1}
    )
    assert tuple(written(world, (1, 4), 1).tokens[0]) in itertools.product((0, 1), repeat=4)
    many = tuple(written(world, (1, 4), passes).tokens[0].tolist())
    assert world.probs[many] >= 0.1


def test_the_multimodality_of_translations():
    """Of two translations, "a b" and "b a", with a third that tips the marginals: one pass writes "a a",
    which is none; two passes write a translation."""
    world = World({(0, 1): 0.45, (1, 0): 0.40, (0, 2): 0.05, (2, 0): 0.10})
    assert tuple(written(world, (1, 2), 1).tokens[0]) == (0, 0)
    assert (0, 0) not in world.probs
    assert tuple(written(world, (1, 2), 2).tokens[0].tolist()) in world.probs


@pytest.mark.parametrize("passes", [1, 2, 4, 10])
def test_independent_tokens_need_one_pass(passes):
    """Where tokens do not depend on each other, the first pass is right, and later ones change nothing."""
    p = [[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]
    world = World({t: p[0][t[0]] * p[1][t[1]] * p[2][t[2]] for t in itertools.product(range(3), repeat=3)})
    found = written(world, (2, 3), passes)
    np.testing.assert_array_equal(found.tokens, [[1, 0, 2]] * 2)
    np.testing.assert_allclose(np.exp(found.log_probs), [[0.5, 0.6, 0.8]] * 2)


@pytest.mark.parametrize("passes", [1, 2, 4, 10])
def test_fewer_tokens_are_hidden_in_each_pass(passes):
    rng = np.random.default_rng(0)
    world = World({t: rng.random() for t in itertools.product(range(2), repeat=5)})
    written(world, (2, 5), passes)
    hidden = [(ids == MASK).sum(axis=1).tolist() for ids in world.asked]
    assert hidden == [[5 * (passes - t) // passes] * 2 for t in range(passes)]


def test_of_equally_probable_tokens_the_first_ones_are_written_again():
    asked = []
    doubts = np.repeat(np.tile([-1.0, -2.0], 50), 3).reshape(1, 100, 3)  # every second place is doubtful
    mask_predict(lambda ids: asked.append(ids == MASK) or doubts, (1, 100), MASK, 4)
    hidden = [np.flatnonzero(mask) for mask in asked[2:]]
    np.testing.assert_array_equal(hidden[0], range(1, 100, 2))
    np.testing.assert_array_equal(hidden[1], range(1, 50, 2))


def test_it_is_the_algorithm_step_by_step():
    """The paper's loop, one text and one token at a time, in random worlds."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        world = World({t: rng.random() ** 4 for t in itertools.product(range(3), repeat=4)})
        tokens, log_probs = [MASK] * 4, [0.0] * 4
        for t in range(4):
            order = sorted(range(4), key=lambda i: log_probs[i])
            hidden = order[: 4 * (4 - t) // 4]
            for i in hidden:
                tokens[i] = MASK
            found = world.predict(np.array([tokens]))[0]
            for i in hidden:
                tokens[i], log_probs[i] = int(found[i].argmax()), found[i].max()
        ours = written(world, (1, 4), 4)
        assert ours.tokens[0].tolist() == tokens
        np.testing.assert_array_equal(ours.log_probs[0], log_probs)


def test_more_passes_are_better_on_average():
    """In 100 random worlds with four ways to write, and little else: the mean probability of what is
    written grows with the passes."""
    means = []
    for passes in (1, 2, 4, 10):
        total = 0.0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            ways = dict.fromkeys(itertools.product(range(3), repeat=4), 1e-4)
            ways |= {tuple(rng.integers(0, 3, 4).tolist()): rng.random() for _ in range(4)}
            world = World(ways)
            total += world.probs[tuple(written(world, (1, 4), passes).tokens[0].tolist())]
        means.append(total / 100)
    assert means[0] < means[1] < means[2] <= means[3] + 0.01, means
    assert means[2] > 0.4, means


@pytest.mark.parametrize(
    ("shape", "passes", "out", "message"),
    [
        ((1, 3), 0, None, "passes, texts and tokens must be at least 1"),
        ((1, 0), 2, None, "must be at least 1"),
        ((1, 3), 1, np.zeros((3, 2)), r"predict must return \(1, 3, 'V'\), got \(3, 2\)"),
        ((1, 3), 1, np.full((1, 3, 2), np.nan), "not NaN: pass log_softmax"),
        ((1, 3), 1, np.ones((1, 3, 2)), "at most 0"),
        ((1, 3), 1, np.full((1, 3, 2), 1e-3), "at most 0"),
    ],
)
def test_what_is_refused(shape, passes, out, message):
    with pytest.raises(ValueError, match=message):
        mask_predict(lambda ids: out, shape, MASK, passes)


# -- training --------------------------------------------------------------------------------------


def test_any_number_of_tokens_is_equally_probable():
    ids = np.tile([7, 1, 2, 3, 4, 0], (6000, 1))  # 7 and 0 are special
    inputs, targets = mask_any_number(ids, MASK, {7, 0}, rng=0)
    hidden = inputs == MASK
    assert not hidden[:, [0, 5]].any()
    np.testing.assert_array_equal(np.where(hidden, targets, inputs), ids)
    assert (targets[~hidden] == -100).all()
    counts = np.bincount(hidden.sum(axis=1), minlength=5)
    assert counts[0] == 0
    assert ((counts[1:] - 1500) ** 2 / 1500).sum() < 21.1  # 3 degrees of freedom: 1e-4
    pairs = Counter(tuple(row) for row in hidden[hidden.sum(axis=1) == 2].tolist())
    expected = counts[2] / 6
    assert len(pairs) == 6
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < 25.8  # 5 degrees: 1e-4


def test_texts_without_a_token_to_hide():
    with pytest.raises(ValueError, match="text 1 has only special tokens"):
        mask_any_number([[1, 0], [0, 0]], MASK, {0}, rng=0)
    with pytest.raises(ValueError, match=r"ids have shape \(2,\): they must be \(B, N\)"):
        mask_any_number([1, 0], MASK, rng=0)
