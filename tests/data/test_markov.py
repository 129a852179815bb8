"""Markov sources: entropies and probabilities by counting all texts, and texts that follow them."""

import itertools

import numpy as np
import pytest

from tinygen.data.markov import (
    HiddenMarkovSource,
    MarkovSource,
    skewed_source,
    stationary_distribution,
    zipf_source,
)


def random_source(vocab_size, order, seed=0):
    table = np.random.default_rng(seed).random((vocab_size,) * (order + 1)) ** 3 + 0.01
    return MarkovSource(table / table.sum(axis=-1, keepdims=True))


def random_hidden(states, vocab_size, seed=0):
    rng = np.random.default_rng(seed)
    rows = (rng.random(shape) ** 3 for shape in ((states, states), (states, vocab_size)))
    return HiddenMarkovSource(*(x / x.sum(axis=1, keepdims=True) for x in rows))


def all_texts(vocab_size, n):
    return np.array(list(itertools.product(range(vocab_size), repeat=n)))


# -- Markov ------------------------------------------------------------------------------------------


def test_two_states_by_hand():
    """p(1|0) = a and p(0|1) = b have the stationary distribution (b, a) / (a + b)."""
    a, b = 0.25, 0.5
    source = MarkovSource([[1 - a, a], [b, 1 - b]])
    np.testing.assert_allclose(source.block(1), [2 / 3, 1 / 3], rtol=1e-14)
    entropy = lambda *p: -sum(x * np.log(x) for x in p)
    np.testing.assert_allclose(source.best_loss(0), entropy(2 / 3, 1 / 3), rtol=1e-14)
    rate = 2 / 3 * entropy(0.25, 0.75) + 1 / 3 * np.log(2)
    np.testing.assert_allclose([source.entropy_rate(), source.best_loss(9)], rate, rtol=1e-14)


@pytest.mark.parametrize(("vocab_size", "order"), [(3, 0), (3, 1), (2, 2), (3, 2), (2, 3)])
def test_losses_by_counting_all_texts(vocab_size, order):
    """The entropy of the last token given k tokens, of the probabilities of all texts of order + 3 tokens;
    they are products, from the first token on, and do not use blocks."""
    source = random_source(vocab_size, order)
    texts = all_texts(vocab_size, order + 3)
    p = np.exp([source.log_prob(text).sum() for text in texts]).reshape((vocab_size,) * (order + 3))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)
    for k in range(order + 3):
        ends = p.sum(axis=tuple(range(order + 2 - k)))  # k + 1 tokens
        loss = -np.sum(ends * np.log(ends / ends.sum(axis=-1, keepdims=True)))
        np.testing.assert_allclose(source.best_loss(k), loss, rtol=1e-10)
    np.testing.assert_allclose(source.entropy_rate(), loss, rtol=1e-10)
    starts = p.sum(axis=tuple(range(order, order + 3)))
    np.testing.assert_allclose(starts, p.sum(axis=(0, 1, 2)), rtol=1e-10)  # stationary


def test_conditionals_are_the_best_predictions():
    """Of all predictions from one token, the conditional has the least loss under the source."""
    source = random_source(3, 2)
    pairs, best = source.block(2), source.conditional_distribution(1)
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = best * np.exp(0.1 * rng.standard_normal((3, 3)))
        other /= other.sum(axis=1, keepdims=True)
        assert -np.sum(pairs * np.log(other)) > source.best_loss(1)
    np.testing.assert_allclose(source.conditional_distribution(2), source.table, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_entropy_of_zipf_s_law(exponent):
    source = zipf_source(5, 2, exponent, rng=0)
    law = 1 / np.arange(1, 6) ** exponent
    law /= law.sum()
    np.testing.assert_allclose(np.sort(source.table.reshape(-1, 5)), np.tile(np.sort(law), (25, 1)))
    np.testing.assert_allclose(source.entropy_rate(), -np.sum(law * np.log(law)), rtol=1e-12)


def test_each_token_of_context_tells_something():
    source = zipf_source(8, 3, 1.5, rng=0)
    losses = [source.best_loss(k) for k in range(5)]
    assert np.log(8) > losses[0]
    assert np.all(np.diff(losses[:4]) < -0.05)
    assert losses[3] == losses[4]


def test_a_skewed_source_by_hand():
    """Zipf's law times the exponentials of the noises; a strength of 0 tells nothing."""
    source, rng = skewed_source(3, (0.5, 2.0), 1.5, 2.0, rng=3), np.random.default_rng(3)
    drawn = [rng.standard_normal(shape) for shape in ((3, 3), (3, 3), (9, 3), (3, 3))]
    sizes = np.array([1, 1 / 4, 1 / 9]) / np.sqrt(1 + 1 / 16 + 1 / 81)
    for a, b in itertools.product(range(3), repeat=2):
        one = sum(sizes[j] * drawn[0][b, j] * drawn[1][j] for j in range(3))
        two = sum(sizes[j] * drawn[2][3 * a + b, j] * drawn[3][j] for j in range(3))
        p = np.exp(0.5 * one + 2 * two) / np.arange(1, 4) ** 1.5
        np.testing.assert_allclose(source.table[a, b], p / p.sum())
    plain = skewed_source(4, (0.0, 0.0), rng=0)
    np.testing.assert_allclose(plain.block(1), np.array([12, 6, 4, 3]) / 25)
    assert plain.best_loss(0) == pytest.approx(plain.entropy_rate())


def test_what_a_skewed_source_is_for():
    """Contexts of very different frequency, and something to learn from each token of context."""
    source = skewed_source(16, (1.0, 1.5), rng=0)
    contexts = source.block(2)
    assert contexts.max() > 200 * contexts.min()
    assert source.best_loss(0) > source.best_loss(1) + 0.2 > source.best_loss(2) + 0.4


def test_samples_follow_the_source():
    """Counts of triples, within five standard deviations; the first context is stationary, too."""
    source, n = random_source(2, 2), 40_000
    text = source.sample(n, rng=0)
    assert text.shape == (n,)
    counts = np.bincount(4 * text[:-2] + 2 * text[1:-1] + text[2:], minlength=8)
    p = source.block(3).reshape(-1)
    assert np.all(
        np.abs(counts - n * p) < 5 * np.sqrt(3 * n * p)
    )  # triples overlap: at most 3 times the variance
    assert abs(source.log_prob(text).mean() + source.entropy_rate()) < 0.02
    starts = np.array([source.sample(2, rng=seed) for seed in range(2000)])
    frequency = np.bincount(2 * starts[:, 0] + starts[:, 1], minlength=4) / 2000
    np.testing.assert_allclose(frequency, source.block(2).reshape(-1), atol=0.05)


def test_short_texts():
    source = random_source(3, 2)
    assert source.log_prob([]).shape == (0,)
    np.testing.assert_allclose(source.log_prob([1]), np.log(source.block(1)[1:2]))
    assert [len(source.sample(n, rng=0)) for n in range(4)] == [0, 1, 2, 3]
    source = random_source(2, 4)
    for n in range(4):
        assert source.log_prob([0] * n).sum() == pytest.approx(np.log(source.block(n)[(0,) * n]))


# -- hidden Markov -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_forward_algorithm_by_summing_over_all_paths(seed):
    source = random_hidden(3, 2, seed)
    total = 0.0
    for text in all_texts(2, 4):
        p = 0.0
        for path in itertools.product(range(3), repeat=4):
            one = source.start[path[0]] * np.prod(source.emission[path, text])
            p += one * np.prod([source.transition[i, j] for i, j in itertools.pairwise(path)])
        np.testing.assert_allclose(source.log_prob(text).sum(), np.log(p), rtol=1e-12)
        for k in range(4):  # the first k terms are the probability of the first k tokens
            part = source.log_prob(text[:k])
            np.testing.assert_allclose(part, source.log_prob(text)[:k], rtol=1e-13)
        total += p
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_states_that_are_seen_make_a_markov_source():
    chain = random_source(3, 1)
    hidden = HiddenMarkovSource(chain.table, np.eye(3))
    text = chain.sample(500, rng=0)
    np.testing.assert_allclose(hidden.log_prob(text), chain.log_prob(text), rtol=1e-12)


def test_hidden_states_draw_the_text():
    source = HiddenMarkovSource([[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    text = source.sample(20_000, rng=0)
    np.testing.assert_allclose(np.bincount(text) / 20_000, source.start @ source.emission, atol=0.02)
    pairs = np.einsum("i,ia,ij,jb->ab", source.start, source.emission, source.transition, source.emission)
    seen = np.bincount(3 * text[:-1] + text[1:], minlength=9).reshape(3, 3) / 19_999
    np.testing.assert_allclose(seen, pairs, atol=0.02)
    chain = MarkovSource(pairs / pairs.sum(axis=1, keepdims=True))
    assert source.log_prob(text).mean() > chain.log_prob(text).mean()  # one token is not enough


def test_long_and_impossible_texts():
    source = HiddenMarkovSource([[0.5, 0.5], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert np.isfinite(source.log_prob(np.zeros(3000, int)).sum())
    np.testing.assert_array_equal(source.log_prob([0, 1, 1, 0])[2:], [-np.inf, -np.inf])


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MarkovSource([[0.5, 0.5]]), r"table must be \(V, \.\.\., V\), got \(1, 2\)"),
        (lambda: MarkovSource(1.0), r"got \(\)"),
        (lambda: MarkovSource([[0.5, 0.6], [0.5, 0.5]]), "each row of table must be a distribution"),
        (lambda: MarkovSource([[0.5, 0.5 + 5e-9], [0.5, 0.5]]), "each row of table must be a distribution"),
        (lambda: MarkovSource([[1.0, 0.0], [0.5, 0.5]]), "must be above 0"),
        (lambda: MarkovSource(np.full((2,) * 14, 0.5)), r"2\^13 contexts are too many: at most 4096"),
        (lambda: random_source(2, 1).block(3), "have 0 to 2 tokens, got 3"),
        (lambda: random_source(2, 1).best_loss(-1), "0 or more tokens, got -1"),
        (lambda: random_source(2, 1).log_prob([0, 2]), r"must be in 0 \.\. 1, got 0 \.\. 2"),
        (lambda: random_source(2, 1).log_prob([0, -1]), r"must be in 0 \.\. 1, got -1 \.\. 0"),
        (lambda: random_source(2, 1).log_prob([0.5]), r"one row of integers, got float64 \(1,\)"),
        (lambda: random_hidden(2, 3).log_prob([[0]]), r"one row of integers, got int64 \(1, 1\)"),
        (lambda: HiddenMarkovSource(np.eye(2), np.eye(3)), r"got \(2, 2\) and \(3, 3\)"),
        (lambda: HiddenMarkovSource(np.eye(2), [[1.0], [1.0]]), "more than one stationary distribution"),
        (lambda: HiddenMarkovSource([[1.0]], [[0.5, 0.4]]), "each row of emission"),
        (lambda: HiddenMarkovSource([[1.0]], [[1.5, -0.5]]), "each row of emission"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_stationary_is_not_changed():
    transition = random_source(3, 1).table
    p = stationary_distribution(transition)
    np.testing.assert_allclose(p @ transition, p, rtol=1e-13)
    np.testing.assert_allclose(
        stationary_distribution(np.eye(3)[[1, 2, 0]]), 1 / 3
    )  # a chain that goes round
