"""word2vec: its loss by hand, and the product of the tables that is best, known exactly."""

import warnings

import numpy as np
import pytest

from tinygen.data.markov import zipf_source
from tinygen.models.language.word2vec import Word2Vec, cbow, skip_grams, windows
from tinygen.optim import Adam

SOURCE = zipf_source(5, 2, rng=0)
PAIRS = SOURCE.block(2) + SOURCE.block(2).T  # one neighbor on each side
COUNTS = PAIRS.sum(axis=1)


def model(channels=5, negatives=3, power=1.0):
    """Tables far from the start."""
    found = Word2Vec(COUNTS, channels, negatives, power, rng=0).astype(np.float64)
    rng = np.random.default_rng(1)
    found.inputs.data, found.outputs.data = rng.standard_normal((2, 5, channels))
    return found


class Drawn(np.random.Generator):
    """Draws these words."""

    def __init__(self, words):
        super().__init__(np.random.PCG64(0))
        self.words = np.array(words)

    def choice(self, n, shape, p):
        assert self.words.shape == shape
        return self.words


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# -- the loss ----------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    """CBOW of two texts, each with two given words, and three words of noise, the true one among them."""
    m = model()
    given, words, drawn = np.array([[0, 1], [4, 4]]), np.array([2, 3]), [[1, 2, 2], [0, 3, 1]]
    v, out, total = m.inputs.data, m.outputs.data, 0.0
    for (a, b), true, noise in zip(given, words, drawn, strict=True):
        h = (v[a] + v[b]) / 2
        total -= np.log(sigmoid(out[true] @ h)) + sum(np.log(sigmoid(-out[n] @ h)) for n in noise)
    np.testing.assert_allclose(m.loss(given, words, rng=Drawn(drawn)).item(), total / 2, rtol=1e-12)


def test_the_expected_loss_by_all_draws():
    """With one word of noise: the mean over all pairs and all words of noise, each by its probability."""
    m = model(negatives=1, power=0.75)
    w, c, n = (x.reshape(-1) for x in np.indices((5, 5, 5)))
    p = (PAIRS / PAIRS.sum())[w, c] * m.noise[n]
    loss = lambda i, j, k: m.loss(np.array([[i]]), np.array([j]), rng=Drawn([[k]])).item()
    each = [loss(*words) for words in zip(w, c, n, strict=True)]
    np.testing.assert_allclose(p @ each, m.expected_loss(PAIRS).item(), rtol=1e-12)


def test_noise_follows_the_counts():
    weights = np.array([8.0, 1.0, 0.0]) ** 0.75
    np.testing.assert_allclose(Word2Vec([8, 1, 0], rng=0).noise, weights / weights.sum())
    np.testing.assert_array_equal(Word2Vec([8, 1, 0], power=0.0, rng=0).noise, [0.5, 0.5, 0.0])


def test_the_start_is_that_of_mikolov_s_program():
    m = Word2Vec(np.ones(200), 8, rng=0)
    assert np.abs(m.inputs.data).max() <= 1 / 16
    assert np.abs(m.inputs.data).mean() > 1 / 40
    np.testing.assert_allclose(
        m.loss(np.array([[1], [2]]), np.array([3, 4]), rng=0).item(), 6 * np.log(2), rtol=1e-6
    )


# -- its optimum -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("negatives", "power"), [(1, 1.0), (5, 1.0), (3, 0.75)])
def test_the_best_scores_are_the_shifted_pmi(negatives, power):
    """There every gradient is 0. With power 1 they are PMI - ln k: with k = 1, σ(score) is then the share of
    p(w, c) in p(w, c) + p(w) p(c), the best guess whether a pair is true."""
    m = model(negatives=negatives, power=power)
    best = m.best_scores(PAIRS)
    m.inputs.data, m.outputs.data = np.eye(5), best.T
    loss = m.expected_loss(PAIRS)
    loss.backward()
    for p in m.parameters():
        np.testing.assert_allclose(p.grad, 0.0, atol=1e-15)
    p = PAIRS / PAIRS.sum()
    independent = np.outer(p.sum(axis=1), p.sum(axis=0))
    if power == 1.0:
        np.testing.assert_allclose(best, np.log(p / independent) - np.log(negatives), rtol=1e-12)
    if negatives == 1:
        np.testing.assert_allclose(sigmoid(best), p / (p + independent), rtol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(10):
        m.outputs.data = best.T + 0.1 * rng.standard_normal((5, 5))
        assert m.expected_loss(PAIRS).item() > loss.item()


def test_training_finds_the_best_scores():
    m = model()
    optimizer = Adam(m.parameters(), lr=0.2)
    for step in range(300):
        optimizer.lr = 0.2 * (1 - step / 300)
        optimizer.zero_grad()
        m.expected_loss(PAIRS).backward()
        optimizer.step()
    np.testing.assert_allclose(m.inputs.data @ m.outputs.data.T, m.best_scores(PAIRS), atol=1e-5)


def test_few_channels_are_worse():
    """The best scores have rank 5: two channels cannot reach them."""
    best, narrow = model(), model(2)
    best.inputs.data, best.outputs.data = np.eye(5), best.best_scores(PAIRS).T
    optimizer = Adam(narrow.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        narrow.expected_loss(PAIRS).backward()
        optimizer.step()
    assert narrow.expected_loss(PAIRS).item() > best.expected_loss(PAIRS).item() + 1e-4


def test_pairs_that_never_occur():
    m = Word2Vec([1, 1, 2], 3, 1, 1.0, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = m.best_scores([[0, 0, 1], [0, 0, 1], [1, 1, 0]])
        never = Word2Vec([1, 1, 0], 3, 1, 1.0, rng=0).best_scores([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(np.isneginf(best), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(best[0, 2], np.log(2))
    assert np.isnan(never[2]).all()  # of a word that never occurs nothing is known


# -- words and neighbors -----------------------------------------------------------------------------


def test_windows():
    text = [5, 6, 7, 8, 9]
    words, neighbors = windows(text, 2)
    np.testing.assert_array_equal(words, [7])
    np.testing.assert_array_equal(neighbors, [[5, 6, 8, 9]])
    given, words = cbow(text, 1)
    np.testing.assert_array_equal(given, [[5, 7], [6, 8], [7, 9]])
    np.testing.assert_array_equal(words, [6, 7, 8])
    given, words = skip_grams(text, 1)
    np.testing.assert_array_equal(given, [[6], [6], [7], [7], [8], [8]])
    np.testing.assert_array_equal(words, [5, 7, 6, 8, 7, 9])


def test_pairs_of_a_text_are_those_of_its_source():
    given, words = skip_grams(SOURCE.sample(20_000, rng=0), 1)
    seen = np.bincount(5 * given[:, 0] + words, minlength=25).reshape(5, 5)
    np.testing.assert_allclose(seen / seen.sum(), PAIRS / PAIRS.sum(), atol=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Word2Vec([[1, 2]], rng=0), r"counts must be \(V,\), .* got \(1, 2\)"),
        (lambda: Word2Vec([0, 0], rng=0), "not all 0"),
        (lambda: Word2Vec([1, -1], rng=0), "at least 0"),
        (lambda: Word2Vec([1, 1], negatives=0, rng=0), "at least one word of noise, got 0"),
        (lambda: model().expected_loss(np.ones((2, 5))), r"pairs must be \(5, 5\), got \(2, 5\)"),
        (lambda: windows([1, 2, 3, 4], 2), r"a text \(4,\) has no word with radius=2"),
        (lambda: windows([1, 2, 3, 4], 0), "radius=0 >= 1"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
