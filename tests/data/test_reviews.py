"""The reviews: probabilities sum to one, texts occur with their probabilities, and the sentiment is tested
by hand."""

import math
import warnings
from collections import Counter

import numpy as np
import pytest

from tinygen.data.reviews import DEGREES, NOUNS, NUMBER, VERBS, WORDS, Reviews, grammar, sentiment, text

REVIEWS = Reviews()


def tokens(*texts):
    rows = [[NUMBER[word] for word in line.split()] for line in texts]
    length = max(map(len, rows))
    return np.array([row + [NUMBER["<end>"]] * (length - len(row)) for row in rows])


def test_the_ways_out_of_a_state():
    ways = grammar()
    for name, out in ways.items():
        assert sum(way.probability for way in out) == pytest.approx(1, rel=1e-12), name
        assert all(way.to in ways and way.word in NUMBER for way in out), name
    assert len(set(WORDS)) == len(WORDS)


def test_the_whole_grammar():
    """Every state: with which probability it says which kind of words, each alike, and where it goes on."""
    kinds = {
        "nouns": NOUNS,
        "verbs": VERBS,
        "degrees": DEGREES,
        "good": ("good", "moving", "funny", "clever", "wonderful"),
        "bad": ("bad", "dull", "boring", "clumsy", "awful"),
        "neutral": ("long", "short", "loud", "quiet"),
    }
    wanted = {
        "start": [(0.5, "the", "noun+"), (0.5, "the", "noun-")],
        "object": [(1, "it", "stop")],
        "stop": [(1, ".", "closed")],
        "closed": [(1, "<end>", "over")],
        "over": [(1, "<end>", "over")],
    }
    for mood, other, fits, others, own, their in (
        ("+", "-", "good", "bad", "loved", "hated"),
        ("-", "+", "bad", "good", "hated", "loved"),
    ):
        after = "after" + mood
        wanted |= {
            "noun" + mood: [(1, "nouns", "verb" + mood)],
            "verb" + mood: [(1, "verbs", "degree" + mood)],
            "degree" + mood: [
                (0.3, "degrees", "adjective" + mood),
                (0.1, "not", "contrary" + mood),
                *((0.45, fits, after), (0.09, "neutral", after), (0.06, others, after)),
            ],
            "adjective" + mood: [(0.75, fits, after), (0.15, "neutral", after), (0.1, others, after)],
            "contrary" + mood: [(0.75, others, after), (0.15, "neutral", after), (0.1, fits, after)],
            after: [(0.6, ".", "more" + mood), (0.3, "and", "degree" + mood), (0.1, "but", "degree" + other)],
            "more" + mood: [(0.6, "<end>", "over"), (0.4, "i", "opinion" + mood)],
            "opinion" + mood: [(0.75, own, "object"), (0.2, "watched", "object"), (0.05, their, "object")],
        }
    assert grammar().keys() == wanted.keys()
    for state, ways in wanted.items():
        expected = {}
        for p, kind, to in ways:
            words = kinds.get(kind, (kind,))
            expected |= {(word, to): p / len(words) for word in words}
        assert {(way.word, way.to): way.probability for way in grammar()[state]} == pytest.approx(expected), (
            state
        )


def test_probabilities_by_hand():
    """Both moods, each with its way to the same words."""
    got = np.exp(REVIEWS.log_probs(tokens("the film was not dull . <end> <end>"))[0])
    assert got[:4] == pytest.approx([1, 1 / 6, 1 / 3, 0.1], rel=1e-12)
    assert got[4] == pytest.approx(0.5 * 0.75 / 5 + 0.5 * 0.1 / 5, rel=1e-12)
    assert got[5:] == pytest.approx([0.6, 0.6, 1], rel=1e-12)
    got = np.exp(REVIEWS.log_probs(tokens("the plot was good . i loved it . <end>"))[0])
    praises = 0.75 / 0.85  # what the writer thinks, after "good"
    assert got[6] == pytest.approx(praises * 0.75 + (1 - praises) * 0.05, rel=1e-12)
    assert got[7:] == pytest.approx([1, 1, 1], rel=1e-12)


def test_each_word_is_drawn_from_a_distribution():
    """Of every prefix of some reviews, the probabilities of all next words sum to 1."""
    for row in REVIEWS.write(20, 9, np.random.default_rng(0)):
        every = np.concatenate(
            [np.repeat(row[None, :8], len(WORDS), axis=0), np.arange(len(WORDS))[:, None]], 1
        )
        assert np.exp(REVIEWS.log_probs(every)[:, 8]).sum() == pytest.approx(1, rel=1e-12)


def test_what_is_written_is_as_probable_as_is_said():
    """The frequencies in 50,000 reviews of their first four words, where the fourth is no adjective: 54 ways,
    each expected 277 times or more, within 7 standard deviations: less than 1e-9 in all."""
    n = 50_000
    counts = Counter(map(tuple, REVIEWS.write(n, 4, np.random.default_rng(0)).tolist()))
    ways = tokens(*(f"the {a} {b} {c}" for a in NOUNS for b in VERBS for c in (*DEGREES, "not")))
    for row, p in zip(ways.tolist(), np.exp(REVIEWS.log_probs(ways).sum(axis=1)), strict=True):
        assert n * p > 277
        assert abs(counts[tuple(row)] - n * p) < 7 * math.sqrt(n * p * (1 - p))


def test_what_no_grammar_says():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = REVIEWS.log_probs(tokens("the film was good bad . <end>", "film the"))
    assert np.all(np.isfinite(got[0, :4]))
    assert np.all(np.isneginf(got[0, 4:]))
    assert np.all(np.isneginf(got[1]))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("the film was good . <end>", 1),
        ("the film was not good . <end>", -1),
        ("the film was not bad and very moving . i loved it . <end>", 3),
        ("the film was really long . i watched it . <end>", 0),
        ("the film was not really good . <end>", 1),  # "not" turns the word after it only
        ("good good <end> bad bad bad", 2),  # nothing counts after the end
        ("it bad loved hated hated", -2),
    ],
)
def test_the_judge(line, wanted):
    assert sentiment(tokens(line)) == wanted
    assert sentiment(tokens(line)).dtype == np.int64


def test_text():
    assert text(tokens("the film was good . <end> <end>")[0]) == "the film was good ."
    assert text(tokens("the film was")[0]) == "the film was ..."


def test_about_half_of_them_praise():
    """By symmetry exactly as many praise as blame: within 6 standard deviations of a half."""
    values = sentiment(REVIEWS.write(20_000, 24, np.random.default_rng(0)))
    decided = values[values != 0]
    assert abs(np.mean(decided > 0) - 0.5) < 6 * 0.5 / math.sqrt(len(decided))
    assert 0.35 < np.mean(values > 0) < 0.5
