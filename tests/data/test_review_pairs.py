"""Pairs of reviews: how they are made, and the best answers beside sums over all reviews."""

import itertools

import numpy as np
import pytest

from tinygen.data import review_pairs, reviews
from tinygen.data.review_pairs import CLS, MASK, SEP, SPECIAL, VOCAB_SIZE, best_answers, write_pairs
from tinygen.data.reviews import END, NUMBER, WORDS, Reviews
from tinygen.text import masking
from tinygen.text.masking import mask_tokens

GOOD, BAD = ([NUMBER[word] for word in words] for words in (reviews.GOOD, reviews.BAD))


def test_pairs():
    assert (review_pairs.AS_MASK, review_pairs.AS_RANDOM) == (masking.AS_MASK, masking.AS_RANDOM)
    pairs = write_pairs(4000, 8, rng=np.random.default_rng(0))
    assert pairs.ids.shape == pairs.segments.shape == (4000, 19)
    assert set(pairs.ids[:, 0]) == {CLS}
    assert set(pairs.ids[:, 9]) == set(pairs.ids[:, 18]) == {SEP}
    assert pairs.segments[0].tolist() == [0] * 10 + [1] * 9
    assert abs(pairs.random_next.mean() - 0.5) < 0.05
    direct = pairs.ids[:, [4, 13]]  # the words after "the film was"
    nouns = pairs.ids[:, [2, 11]]
    both = np.all(np.isin(direct, [*GOOD, *BAD]), axis=1)
    alike = np.isin(direct[:, 0], GOOD) == np.isin(direct[:, 1], GOOD)
    fit = 0.75 / 0.85  # an adjective with a sentiment has the writer's one
    follows = pairs.random_next == 0
    assert abs(alike[both & follows].mean() - fit**2 - (1 - fit) ** 2) < 0.06
    assert abs(alike[both & ~follows].mean() - 0.5) < 0.08
    assert np.all(nouns[follows, 0] == nouns[follows, 1])
    assert abs(np.mean(nouns[~follows, 0] == nouns[~follows, 1]) - 1 / 6) < 0.04


def test_reviews_by_mood_are_the_drawn_reviews():
    """Moods that are drawn before give the same distribution of words at each place."""
    grammar = Reviews()
    drawn = grammar.write(20_000, 6, np.random.default_rng(0))
    given = grammar.write(
        20_000, 6, np.random.default_rng(1), np.random.default_rng(2).integers(0, 2, 20_000)
    )
    for place in range(6):
        counts = [np.bincount(x[:, place], minlength=len(WORDS)) / 20_000 for x in (drawn, given)]
        np.testing.assert_allclose(*counts, atol=0.02)
    praise, blame = (grammar.write(20_000, 4, np.random.default_rng(3), np.full(20_000, m)) for m in (0, 1))
    assert np.isin(praise[:, 3], GOOD).mean() > 4 * np.isin(blame[:, 3], GOOD).mean()


def all_reviews(length):
    """Every review of `length` words, and its probability among those of each kind: (N, length), (N, 12)."""
    grammar, found = Reviews(), {}
    for mood, noun in itertools.product(range(2), range(6)):
        paths = [((NUMBER["the"], NUMBER[reviews.NOUNS[noun]]), grammar.verbs[mood], 1.0)]
        for _ in range(length - 2):
            paths = [
                ((*words, w), s2, p * grammar.chain[s, w, s2])
                for words, s, p in paths
                for w, s2 in zip(*np.nonzero(grammar.chain[s]), strict=True)
            ]
        for words, _, p in paths:
            found.setdefault(words, np.zeros(12))[6 * mood + noun] += p
    return np.array([*found]), np.array([*found.values()])


def test_what_is_seen_is_the_sum_over_the_hidden_word():
    """If all words are hidden (rate 1), and none of the first five can be END: at each place alike."""
    seen = write_pairs(8, 5, rng=np.random.default_rng(0)).ids[:, 1:6]
    seen[::2, ::2] = MASK
    evidence, joint = review_pairs.read_review(seen, 1.0)
    assert evidence.min() > 0
    for place in range(5):
        np.testing.assert_allclose(joint[:, :, place].sum(axis=-1), evidence, rtol=1e-12)


def test_no_word_is_hidden_behind_the_end():
    """In texts that nothing has damaged (rate 0). Before the end, the answers are distributions."""
    words = [NUMBER[word] for word in ("the", "film", "was", "good", ".", END, END)]
    answers = best_answers([[CLS, *words, SEP, *words, SEP]], rate=0.0).words[0].sum(axis=-1)
    review = [1.0] * 5 + [0.0] * 2
    np.testing.assert_allclose(answers, [0, *review, 0, *review, 0], rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_answers_by_summing_over_all_reviews(seed):
    """Reviews of five words: both tasks by Bayes' rule, over all pairs of reviews, kinds and choices."""
    length, rate, rng = 5, 0.4, np.random.default_rng(seed)
    ids = write_pairs(6, length, rng=rng).ids
    seen, _ = mask_tokens(ids, VOCAB_SIZE, MASK, SPECIAL, rate, rng=rng)
    texts, p_texts = all_reviews(length)  # (N, L), (N, 12)
    np.testing.assert_allclose(p_texts.sum(axis=0), 1.0)

    def if_hidden(token, words):
        return 0.8 * (token == MASK) + 0.1 / VOCAB_SIZE + 0.1 * (token == words)

    def p_seen(token, words):
        usual = (1 - rate) * (token == words) + rate * if_hidden(token, words)
        return np.where(words == NUMBER[END], token == words, usual)

    words, follows = best_answers(seen, rate)
    for row in range(len(seen)):
        halves = seen[row, 1 : 1 + length], seen[row, 2 + length : -1]
        each = [np.array([p_seen(half[t], texts[:, t]) for t in range(length)]) for half in halves]  # (L, N)
        evidence = [np.prod(p, axis=0) @ p_texts for p in each]  # (12,) by kind
        equal = 0.5 * np.mean(evidence[0] * evidence[1])
        others = 0.5 * np.prod([e.mean() for e in evidence])
        assert follows[row] == pytest.approx(equal / (equal + others), rel=1e-10)
        for half, t in itertools.product(range(2), range(length)):
            rest = np.prod(np.delete(each[half], t, axis=0), axis=0)
            here = np.where(texts[:, t] == NUMBER[END], 0, if_hidden(halves[half][t], texts[:, t]))
            joint = (rest * here)[:, None] * p_texts  # (N, 12)
            other = evidence[1 - half]
            weight = 0.5 * other + 0.5 * other.mean()
            p = np.bincount(texts[:, t], joint @ weight, len(WORDS))
            place = (1 if half == 0 else 2 + length) + t
            total = p.sum()
            wanted = p / total if total > 0 else p
            np.testing.assert_allclose(words[row, place, : len(WORDS)], wanted, rtol=1e-9, atol=1e-15)
    assert np.all(words[:, :, len(WORDS) :] == 0)
