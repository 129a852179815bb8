"""Beam search on models that are so small that all sequences can be listed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.text.beam import beam_search, length_penalty

V, LONGEST, END = 3, 4, 0


def random_model(seed, sharpness=2.0):
    """p(next token | all tokens so far), other for each beginning: a table of all beginnings."""
    rng = np.random.default_rng(seed)
    table = {}
    for n in range(LONGEST):
        for prefix in itertools.product(range(V), repeat=n):
            x = sharpness * rng.standard_normal(V)
            table[prefix] = x - np.log(np.exp(x).sum())
    return lambda prefixes: np.array([table[tuple(p[1:])] for p in prefixes.tolist()])


def every_sequence(model, alpha, longest=LONGEST):
    """All sequences that end, or have the greatest length: (score, log-probability, tokens), best first."""
    found = []
    for n in range(1, longest + 1):
        for tokens in itertools.product(range(V), repeat=n):
            if END in tokens[:-1] or (n < longest and tokens[-1] != END):
                continue
            log_prob = sum(model(np.array([[9, *tokens[:i]]]))[0, token] for i, token in enumerate(tokens))
            found.append((log_prob / ((5 + n) / 6) ** alpha, log_prob, tokens))
    return sorted(found, reverse=True)


def search(model, width, alpha=0.6, longest=LONGEST):
    return beam_search(model, width, longest, alpha, begin=9, end=END)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_all_sequences_is_exhaustive_search(seed, alpha):
    model = random_model(seed)
    wanted, found = every_sequence(model, alpha), search(model, V**LONGEST, alpha)
    assert [tuple(h.tokens) for h in found] == [tokens for *_, tokens in wanted]
    np.testing.assert_allclose([h.score for h in found], [score for score, *_ in wanted], rtol=1e-12)
    np.testing.assert_allclose([h.log_prob for h in found], [p for _, p, _ in wanted], rtol=1e-12)
    assert math.fsum(math.exp(h.log_prob) for h in found) == pytest.approx(1.0)


@given(st.integers(0, 1000))
def test_a_beam_of_one_is_greedy_decoding(seed):
    model = random_model(seed)
    tokens, log_prob = [9], 0.0
    while len(tokens) <= LONGEST and tokens[-1] != END:
        following = model(np.array([tokens]))[0]
        tokens.append(int(following.argmax()))
        log_prob += following.max()
    [best] = search(model, 1)
    assert best.tokens.tolist() == tokens[1:]
    assert best.log_prob == pytest.approx(log_prob)


@given(st.integers(0, 1000), st.integers(1, 6), st.sampled_from([0.0, 0.6, 2.0]))
def test_what_is_found_is_scored_truly_and_in_order(seed, width, alpha):
    model = random_model(seed)
    true = {tokens: (score, log_prob) for score, log_prob, tokens in every_sequence(model, alpha)}
    found = search(model, width, alpha)
    assert 1 <= len(found) <= width
    for h in found:
        np.testing.assert_allclose((h.score, h.log_prob), true[tuple(h.tokens)], rtol=1e-12)
    assert np.all(np.diff([h.score for h in found]) <= 0)
    assert len({tuple(h.tokens) for h in found}) == len(found)


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([0.0, 0.6, 2.0]))
def test_stopping_early_changes_nothing(seed, width, alpha):
    """The same search to the very end, written without the bound."""
    model = random_model(seed, 4.0)
    live, complete = [((), 0.0)], []
    for n in range(1, LONGEST + 1):
        longer = [
            ((*tokens, v), p + model(np.array([[9, *tokens]]))[0, v]) for tokens, p in live for v in range(V)
        ]
        longer = sorted(longer, key=lambda pair: -pair[1])[:width]
        done = [pair for pair in longer if pair[0][-1] == END or n == LONGEST]
        complete += [(p / length_penalty(n, alpha), tokens) for tokens, p in done]
        live = [pair for pair in longer if pair not in done]
    wanted = [tokens for _, tokens in sorted(complete, reverse=True)[:width]]
    assert [tuple(h.tokens.tolist()) for h in search(model, width, alpha)] == wanted


def test_it_stops_when_nothing_can_become_better():
    calls = []

    def model(prefixes):
        calls.append(prefixes.shape)
        return np.tile(np.log([0.98, 0.01, 0.01]), (len(prefixes), 1))

    [best] = beam_search(model, 1, 50, begin=9, end=END)
    assert best.tokens.tolist() == [END]
    assert calls == [(1, 1)]
    beam_search(model, 2, 50, begin=9, end=END)
    assert len(calls) <= 5


def test_it_goes_on_while_a_longer_sequence_can_become_better():
    """After two steps, two sequences are complete and have better scores than 1 1, whose continuation 1 1 1
    END is the best of all."""
    tables = {(): [0.45, 0.54, 0.01], (1,): [0.5, 0.49, 0.01], (1, 1): [1e-9, 1.0, 1e-9]}
    following = lambda prefix: tables.get(prefix, [0.98, 0.01, 0.01])
    model = lambda prefixes: np.log([following(tuple(p[1:])) for p in prefixes.tolist()])
    assert search(model, 2, 3.0, 2)[1].score > math.log(0.54 * 0.49) / length_penalty(2, 3.0)
    assert search(model, 2, 3.0)[0].tokens.tolist() == [1, 1, 1, END]


def test_two_beams_find_a_sequence_that_greedy_decoding_misses():
    """First 1 (0.6) and then anything (1/3 each), or first 2 (0.4) and then surely the end."""
    tables = {(): [1e-9, 0.6, 0.4], (1,): [1 / 3] * 3, (2,): [1 - 2e-9, 1e-9, 1e-9]}
    model = lambda prefixes: np.log([tables[tuple(p[1:])] for p in prefixes.tolist()])
    assert search(model, 1, 0.0, 2)[0].log_prob == pytest.approx(math.log(0.2))
    best = search(model, 2, 0.0, 2)[0]
    assert best.tokens.tolist() == [2, END]
    assert best.log_prob == pytest.approx(math.log(0.4))


def test_of_equally_probable_tokens_the_first_ones_are_kept():
    model = lambda prefixes: np.tile(np.log([0.012, 0.008]), (len(prefixes), 50))
    found = beam_search(model, 9, 1, begin=9, end=END)
    assert [h.tokens.tolist() for h in found] == [[i] for i in range(0, 18, 2)]


def test_length_penalty_by_hand():
    assert length_penalty(1, 0.6) == 1.0
    assert length_penalty(7, 1.0) == 2.0
    assert length_penalty(7, 0.5) == pytest.approx(math.sqrt(2))
    assert length_penalty(100, 0.0) == 1.0
    assert length_penalty(7) == pytest.approx(2**0.6)


def test_a_larger_alpha_prefers_longer_sequences():
    tables = {(): [0.45, 0.55, 1e-12], (1,): [0.75, 0.25, 1e-12], (2,): [1.0, 1e-12, 1e-12]}
    model = lambda prefixes: np.log([tables[tuple(p[1:])] for p in prefixes.tolist()])
    assert search(model, 9, 0.0, 2)[0].tokens.tolist() == [END]  # ln 0.45 > ln 0.41
    assert search(model, 9, 1.0, 2)[0].tokens.tolist() == [1, END]  # ln 0.45 < ln 0.41 · 6/7


def test_tokens_with_probability_zero_are_never_taken():
    def model(prefixes):
        return np.tile([-np.inf, 0.0, -np.inf], (len(prefixes), 1))

    [only] = search(model, 5)
    assert only.tokens.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("width", "longest", "alpha"), [(0, 3, 0.6), (1, 0, 0.6), (1, 3, -0.1)])
def test_other_sizes_are_refused(width, longest, alpha):
    with pytest.raises(ValueError, match="must be at least 1"):
        beam_search(random_model(0), width, longest, alpha, begin=9, end=END)


@pytest.mark.parametrize(
    ("following", "message"),
    [
        (np.zeros(3), r"must return \(1, V\), got \(3,\)"),
        (np.zeros(1), r"must return \(1, V\), got \(1,\)"),
        (np.zeros((2, 3)), r"must return \(1, V\), got \(2, 3\)"),
        (np.array([[0.5, -1.0, -1.0]]), "pass log_softmax"),
        (np.array([[2.0, -1.0, 0.0]]), "pass log_softmax"),
        (np.array([[np.nan, -1.0, -1.0]]), "pass log_softmax"),
    ],
)
def test_other_values_are_refused(following, message):
    with pytest.raises(ValueError, match=message):
        beam_search(lambda prefixes: following, 1, 3, begin=9, end=END)
