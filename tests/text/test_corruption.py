"""Damaged texts: the original can be told from what was made of it, and chances are as stated."""

import itertools
from collections import Counter
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.text.corruption import corrupt_spans, infill_text, permute_sentences, random_parts

SENTINELS = range(-1, -200, -1)
TEXT = np.arange(100, 200)


def restore(inputs, target):
    """The text, by putting each span in the place of its sentinel."""
    spans, key = {}, None
    for token in target.tolist():
        if token < 0:
            key, spans[token] = token, []
        else:
            spans[key].append(token)
    return [token for t in inputs.tolist() for token in (spans[t] if t < 0 else [t])]


# -- T5 --------------------------------------------------------------------------------------------


@given(st.integers(2, 80), st.floats(0.01, 0.99), st.floats(1, 20), st.integers(0, 2**32))
def test_the_text_can_be_restored(t, density, mean_length, seed):
    text = np.arange(t)
    inputs, target = corrupt_spans(text, SENTINELS, density, mean_length, rng=seed)
    assert restore(inputs, target) == text.tolist()
    used = [token for token in inputs if token < 0]
    assert used == list(SENTINELS[: len(used)])  # in their order, each once
    assert [token for token in target if token < 0] == list(SENTINELS[: len(used) + 1])
    assert target[-1] == SENTINELS[len(used)]
    assert inputs[0] == 0  # the first token stays
    assert inputs[-1] < 0  # the last one goes


def test_one_token_at_least_is_taken_out():
    inputs, target = corrupt_spans(np.arange(9), SENTINELS, 0.01, rng=0)
    assert inputs.tolist() == [*range(8), -1]
    assert target.tolist() == [-1, 8, -2]


def test_the_example_of_the_paper():
    """Figure 2: with the right seed, its very spans, and sentinels <X>, <Y>, <Z>."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    wanted = ("Thank you <X> me to your party <Y>", "<X> for inviting <Y> last week <Z>")
    names = dict(enumerate(words)) | {-1: "<X>", -2: "<Y>", -3: "<Z>"}

    def spelled(ids):
        return " ".join(names[i] for i in ids.tolist())

    found = {
        tuple(map(spelled, corrupt_spans(np.arange(10), SENTINELS, 0.4, 2.0, rng=s))) for s in range(500)
    }
    assert wanted in found
    assert len(found) == comb(5, 1) * comb(3, 1)  # all ways to cut 6 tokens in two, and 4 in two


@pytest.mark.parametrize(
    ("t", "density", "mean_length", "gone", "spans"),
    [
        (100, 0.15, 3, 15, 5),
        (512, 0.15, 3, 77, 26),
        (10, 0.5, 5, 5, 1),
        (2, 0.01, 3, 1, 1),
        (10, 0.99, 1, 9, 1),
    ],
)
def test_how_many_tokens_in_how_many_spans(t, density, mean_length, gone, spans):
    for seed in range(5):
        inputs, target = corrupt_spans(np.arange(t), SENTINELS, density, mean_length, rng=seed)
        assert (inputs < 0).sum() == spans
        assert (target >= 0).sum() == gone


def test_all_ways_to_cut_are_equally_probable():
    counts = Counter(tuple(random_parts(6, 3, np.random.default_rng(seed)).tolist()) for seed in range(4000))
    assert len(counts) == comb(5, 2)
    assert all(sum(parts) == 6 and min(parts) >= 1 for parts in counts)
    expected = 4000 / comb(5, 2)
    chi2 = sum((n - expected) ** 2 / expected for n in counts.values())
    assert chi2 < 33.7  # 9 degrees of freedom: 1e-4


@pytest.mark.parametrize(
    ("ids", "given", "message"),
    [
        ([5], {}, "a text of 1 tokens has no place"),
        (TEXT, {"density": 1.0}, r"density must be in \(0, 1\)"),
        (TEXT, {"density": 0.0}, r"density must be in \(0, 1\)"),
        (TEXT, {"mean_length": 0.5}, "mean_length at least 1"),
        (TEXT, {"sentinels": range(5)}, "5 spans need 6 sentinels, got 5"),
        (TEXT[None], {}, r"ids have shape \(1, 100\): give the tokens of one text"),
    ],
)
def test_what_is_refused(ids, given, message):
    with pytest.raises(ValueError, match=message):
        corrupt_spans(ids, **{"sentinels": SENTINELS, **given}, rng=0)


def test_ids_are_integers():
    for damage in (
        lambda x: corrupt_spans(x, SENTINELS, rng=0),
        lambda x: infill_text(x, -1, rng=0),
        lambda x: permute_sentences(x, [0], rng=0),
    ):
        with pytest.raises(TypeError, match="ids have dtype float64: tokens are integers"):
            damage(np.ones(5))


# -- BART: text infilling ---------------------------------------------------------------------------


def spans_of(text, holes):
    """The lengths of spans, if no two are neighbors: from the tokens around each [MASK]."""
    padded = [text[0] - 1, *holes.tolist(), text[-1] + 1]
    return [padded[i + 1] - padded[i - 1] - 1 for i, token in enumerate(padded) if token == -1]


@given(st.integers(0, 60), st.floats(0, 1), st.floats(0.1, 9), st.integers(0, 2**32))
def test_the_tokens_that_stay_keep_their_order(t, rate, mean_length, seed):
    holes = infill_text(np.arange(t), -1, rate, mean_length, rng=seed)
    stay = holes[holes != -1]
    assert len(stay) == t - round(t * rate)
    assert (np.diff(stay) > 0).all()
    assert len(holes) > len(stay) or round(t * rate) == 0


def test_a_mask_is_a_hole_of_the_length_that_is_missing():
    """Where no two masks are neighbors, the text can be told but for the tokens of each hole: the lengths
    sum up to the tokens that are gone."""
    found = 0
    for seed in range(300):
        holes = infill_text(TEXT, -1, 0.1, 3.0, rng=seed)
        if ((holes[1:] == -1) & (holes[:-1] == -1)).any():
            continue
        assert sum(spans_of(TEXT, holes)) == 10
        found += 1
    assert found > 100


def test_the_lengths_of_spans_are_poisson():
    """Of 10,000 tokens with few holes, so that the last span, which is cut short, does not count much."""
    text = np.arange(100_000)
    holes = infill_text(text, -1, 0.03, 3.0, rng=0)
    apart = np.flatnonzero(holes == -1)
    apart = apart[(apart > 0) & (apart < len(holes) - 1)]
    apart = apart[(holes[apart - 1] >= 0) & (holes[apart + 1] >= 0)]
    lengths = holes[apart + 1] - holes[apart - 1] - 1
    assert len(lengths) > 800
    n = np.bincount(np.minimum(lengths, 8), minlength=9)
    p = np.array([np.exp(-3) * 3**k / factorial(k) for k in range(8)])
    expected = len(lengths) * np.append(p, 1 - p.sum())
    assert ((n - expected) ** 2 / expected).sum() < 31.8  # 8 degrees of freedom: 1e-4


def test_all_places_of_a_span_are_equally_probable():
    """One span of one token in a text of four: it may stand for any of them."""
    counts = Counter()
    for seed in range(6000):
        holes = infill_text(np.arange(4), -1, 0.25, 0.2, rng=seed)
        if len(holes) == 4:  # no span of length 0 besides
            counts[tuple(holes.tolist())] += 1
    assert len(counts) == 4
    expected = sum(counts.values()) / 4
    assert expected > 200
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 21.1  # 3 degrees: 1e-4


@pytest.mark.parametrize("given", [{"rate": 1.5}, {"rate": -0.1}, {"mean_length": 0.0}])
def test_rates_that_are_none(given):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\], mean_length above 0"):
        infill_text(TEXT, -1, **given, rng=0)


# -- BART: sentences -------------------------------------------------------------------------------


def test_sentences_by_hand():
    """1 2 . | 3 . | 4 5: the last one has no full stop."""
    text = np.array([1, 2, 0, 3, 0, 4, 5])
    sentences = [[1, 2, 0], [3, 0], [4, 5]]
    orders = {tuple(itertools.chain(*order)) for order in itertools.permutations(sentences)}
    found = {tuple(permute_sentences(text, [0], rng=seed).tolist()) for seed in range(100)}
    assert found == orders


def test_all_orders_of_sentences_are_equally_probable():
    text = np.array([1, 0, 2, 0, 3, 9])  # two kinds of ends
    counts = Counter(tuple(permute_sentences(text, {0, 9}, rng=seed).tolist()) for seed in range(3000))
    assert len(counts) == 6
    assert sum((n - 500) ** 2 / 500 for n in counts.values()) < 25.8  # 5 degrees of freedom: 1e-4


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 2**32))
def test_no_token_is_lost(tokens, seed):
    ids = np.array(tokens, int)
    assert sorted(permute_sentences(ids, [0, 1], rng=seed)) == sorted(tokens)
    np.testing.assert_array_equal(permute_sentences(ids, [], rng=seed), ids)
