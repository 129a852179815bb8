"""The unigram tokenizer: the best of all cuts, the E-step by brute force, training, and parity."""

import itertools
import json
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.data import load_text
from tinygen.text.unigram import Unigram, drop_cost, expected_counts, log_shares, mark_words, train_unigram

TEXT = "the cat sat on the mat and the hat was flat a cat in a hat is that the fattest cat sat flat " * 3
SCORES = {"<unk>": 0.0, "</s>": 0.0, "▁": -2.0, "a": -3.0, "b": -3.5, "ab": -4.0, "▁a": -4.2, "bb": -6.0}


def all_cuts(word):
    """Every way to cut a word into pieces that are not empty."""
    for n in range(len(word)):
        for places in itertools.combinations(range(1, len(word)), n):
            yield [word[i:j] for i, j in itertools.pairwise([0, *places, len(word)])]


def pieces(tokenizer, text, *more):
    return [tokenizer.pieces[i] for i in tokenizer.encode(text, *more)]


@given(st.text("ab▁x", min_size=1, max_size=9))
def test_the_cut_is_the_best_of_all_cuts(word):
    found = Unigram(SCORES, ["</s>"])
    score = lambda piece: SCORES.get(piece, -16.0 if len(piece) == 1 else -math.inf)
    best = max(sum(map(score, cut)) for cut in all_cuts(word))
    cut = found.cut(word)
    assert "".join(cut) == word
    assert sum(SCORES.get(piece, -16.0 * len(piece)) for piece in cut) == pytest.approx(best)


def test_words_and_unknown_characters():
    assert mark_words("two  spaces ") == ["▁two", "▁", "▁spaces", "▁"]
    assert mark_words(" led") == ["▁led"]
    assert mark_words("") == []
    found = Unigram(SCORES, ["</s>"])
    assert pieces(found, "ab xyab") == ["▁", "ab", "▁", "<unk>", "ab"]
    assert pieces(found, "a</s>", "all") == ["▁a", "</s>"]
    assert "</s>" not in pieces(found, "a</s>")
    assert found.decode(found.encode("ab a")) == "ab a"
    assert found.encode("").shape == (0,)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="no '<unk>'"):
        Unigram({"a": -1.0}, ["</s>"])
    with pytest.raises(ValueError, match="score of 'a' must be a finite number, got nan"):
        Unigram({"<unk>": 0.0, "a": math.nan, "b": math.inf})
    with pytest.raises(ValueError, match="surrogate"):
        Unigram(SCORES).encode("\ud800")
    with pytest.raises(ValueError, match="outside the vocabulary"):
        Unigram(SCORES).decode([8])
    with pytest.raises(ValueError, match="too small, or the text empty"):
        train_unigram("", 10)
    with pytest.raises(ValueError, match="vocab_size=4 is too small"):
        train_unigram("abcd", 4)


@given(st.lists(st.integers(0, len(SCORES) - 1)))
def test_a_stream_of_pieces_joined_is_the_text(ids):
    tokenizer = Unigram(SCORES)
    assert "".join(tokenizer.decode_stream(iter(ids))) == tokenizer.decode(ids)
    stream = tokenizer.decode_stream(i for i in (6, 7, 99))
    assert [next(stream), next(stream)] == ["a", "bb"]
    with pytest.raises(ValueError, match="outside the vocabulary"):
        next(stream)


# -- training ----------------------------------------------------------------------------------------


def test_expected_counts_by_summing_over_all_cuts():
    logs = log_shares({"▁": 3, "a": 4, "b": 2, "ab": 3, "▁a": 1, "ba": 2})
    words = {"▁abab": 2, "▁a": 3, "▁bba": 1}
    wanted = dict.fromkeys(logs, 0.0)
    for word, times in words.items():
        cuts = [cut for cut in all_cuts(word) if all(piece in logs for piece in cut)]
        p = np.array([math.exp(sum(logs[piece] for piece in cut)) for cut in cuts])
        for cut, share in zip(cuts, p / p.sum(), strict=True):
            for piece in cut:
                wanted[piece] += times * share
    found = expected_counts(words, logs, 16)
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[x] for x in wanted], [*wanted.values()], rtol=1e-12)


def test_the_cost_of_a_piece_is_its_best_replacement():
    logs = log_shares({"a": 4, "b": 2, "ab": 3, "aba": 1})
    wanted = logs["aba"] - max(logs["ab"] + logs["a"], 2 * logs["a"] + logs["b"])
    assert drop_cost("aba", logs, 16) == pytest.approx(wanted)


def test_em_raises_the_likelihood_of_the_text():
    words = dict.fromkeys(mark_words(TEXT), 1)
    logs = log_shares(dict.fromkeys({*"".join(words), "at", "▁the", "cat", "fla", "th"}, 1))

    def likelihood(logs):
        """The log of the sum over all cuts, of each word."""
        cuts = {word: [cut for cut in all_cuts(word) if all(p in logs for p in cut)] for word in words}
        return sum(math.log(sum(math.exp(sum(logs[p] for p in cut)) for cut in cuts[w])) for w in words)

    before = likelihood(logs)
    for _ in range(4):
        logs = log_shares({p: max(n, 1e-6) for p, n in expected_counts(words, logs, 16).items()})
        after = likelihood(logs)
        assert after > before - 1e-9
        before = after


def trained_by_definition(text, vocab_size, longest):
    """Training as the docstrings say, with sums over all cuts; its {piece: ln p}."""
    words = Counter(mark_words(text))
    characters = sorted({char for word in words for char in word})
    places = {w: list(itertools.combinations(range(len(w) + 1), 2)) for w in words}
    counts = Counter(w[i:j] for w in words.elements() for i, j in places[w] if j - i <= longest)
    seeds = [p for p in counts if len(p) > 1 and counts[p] > 1]
    seeds.sort(key=lambda p: (-counts[p] * len(p), p))
    shares = {p: counts[p] for p in characters + seeds[: 10 * vocab_size]}
    while True:
        for _ in range(2):
            total, expected = sum(shares.values()), dict.fromkeys(shares, 0.0)
            for word, times in words.items():
                cuts = [cut for cut in all_cuts(word) if all(piece in shares for piece in cut)]
                p = np.array([math.prod(shares[piece] / total for piece in cut) for cut in cuts])
                for cut, share in zip(cuts, p / p.sum(), strict=True):
                    for piece in cut:
                        expected[piece] += times * share
            shares = {p: max(n, 1e-6) for p, n in expected.items() if len(p) == 1 or n > 1e-3}
        total = sum(shares.values())
        if len(shares) < vocab_size:
            return {p: math.log(n / total) for p, n in shares.items()}
        costs = {}
        for piece in shares:
            others = [cut for cut in all_cuts(piece) if len(cut) > 1 and all(p in shares for p in cut)]
            logs = [sum(math.log(shares[p] / total) for p in cut) for cut in others]
            if len(piece) > 1:
                costs[piece] = expected[piece] * (math.log(shares[piece] / total) - max(logs))
        keep = max(vocab_size - 1 - len(characters), int(0.75 * len(costs)))
        best = sorted(costs, key=lambda piece: (-costs[piece], piece))[:keep]
        shares = {p: max(expected[p], 1e-6) for p in characters + best}


FEW = "aba abab ba abba baab aba bab aabb b ab"
MANY = "abaabbab bbabaaba aabababb " * 2  # of its pieces only the first 50 are taken


@pytest.mark.parametrize(
    ("text", "vocab_size", "longest"), [(FEW, 9, 16), (FEW, 12, 3), (FEW, 30, 16), (MANY, 5, 16)]
)
def test_training_by_definition(text, vocab_size, longest):
    found = train_unigram(text, vocab_size, longest=longest)
    expected = trained_by_definition(text, vocab_size, longest)
    assert found.pieces == ["<unk>", *sorted(expected, key=lambda p: (-expected[p], p))]
    np.testing.assert_allclose([found.scores[p] for p in expected], [*expected.values()], rtol=1e-9)
    assert found.scores["<unk>"] == 0
    assert found.worst == pytest.approx(min(expected.values()) - 10)


def test_training_keeps_characters_and_finds_words():
    found = train_unigram(TEXT, 30, ("<unk>", "</s>"))
    assert found.vocab_size <= 30
    assert found.pieces[:2] == ["<unk>", "</s>"]
    assert set("".join(mark_words(TEXT))) <= set(found.pieces)
    assert {"▁the", "▁cat"} <= set(found.pieces)
    assert found.decode(found.encode(TEXT)) == TEXT
    probabilities = [math.exp(found.scores[piece]) for piece in found.pieces[2:]]
    assert sum(probabilities) == pytest.approx(1.0)
    assert len(found.encode(TEXT)) < 0.6 * len(TEXT)


# -- parity ------------------------------------------------------------------------------------------


def test_parity_with_tokenizers():
    """A vocabulary that tokenizers has trained, and one that is trained here."""
    theirs = pytest.importorskip("tokenizers")
    model = theirs.Tokenizer(theirs.models.Unigram())
    model.pre_tokenizer = theirs.pre_tokenizers.Metaspace()
    trainer = theirs.trainers.UnigramTrainer(
        vocab_size=80, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    model.train_from_iterator([TEXT, "naïve façade — 中文 text. " * 3], trainer)
    vocab = json.loads(model.to_str())["model"]["vocab"]
    trained = train_unigram(TEXT, 40, ("<unk>", "</s>"))
    rng = random.Random(0)
    texts = ["".join(rng.choices("the cat fls  ïé中—x", k=rng.randrange(40))) for _ in range(10_000)]
    for scores in (dict(vocab), trained.scores):
        ours = Unigram(scores, ["</s>"])
        model.model = theirs.models.Unigram([*scores.items()], unk_id=0)
        for text in [*texts, TEXT, load_text("topics")[:30_000], " ", "", "▁x"]:
            wanted = model.encode(text).ids
            np.testing.assert_array_equal(ours.encode(text), wanted, repr(text))
