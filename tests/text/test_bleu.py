"""BLEU: the examples of its paper, a score by hand, and sacrebleu."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.text.bleu import brevity_penalty, clipped_matches, closest_length, corpus_bleu


def words(text):
    return text.split()


# The paper's examples, in small letters and without full stops.
GUIDE = [
    words("it is a guide to action that ensures that the military will forever heed party commands"),
    words(
        "it is the guiding principle which guarantees the military forces always being under the command of "
        "the party"
    ),
    words("it is the practical guide for the army always to heed the directions of the party"),
]
GOOD = words("it is a guide to action which ensures that the military always obeys the commands of the party")
BAD = words("it is to insure the troops forever hearing the activity guidebook that party direct")
MAT = [words("the cat is on the mat"), words("there is a cat on the mat")]


@pytest.mark.parametrize(
    ("candidate", "references", "n", "matches"),
    [
        (GOOD, GUIDE, 1, (17, 18)),
        (BAD, GUIDE, 1, (8, 14)),
        (GOOD, GUIDE, 2, (10, 17)),
        (BAD, GUIDE, 2, (1, 13)),
        (["the"] * 7, MAT, 1, (2, 7)),
        (["the"] * 7, MAT, 2, (0, 6)),
        (["of", "the"], GUIDE, 1, (2, 2)),
        (["of", "the"], GUIDE, 2, (1, 1)),
    ],
)
def test_modified_precisions_of_the_paper(candidate, references, n, matches):
    """Section 2.1 and 2.1.1, and the candidate that is too short, of section 2.2."""
    assert (clipped_matches(candidate, references, n), len(candidate) - n + 1) == matches
    assert corpus_bleu([candidate], [references], n).precisions[-1] == matches[0] / matches[1]


def test_a_score_by_hand():
    """Two texts, added up: 4 + 3 of 9 words, 2 + 1 of 7 pairs, 1 + 0 of 5 triples. The
    mean of scores of single texts would be 0, as the second has no triple."""
    candidates = [words("a b c x d"), words("e f y g")]
    references = [[words("a b c d"), words("a b c z z d")], [words("e f h h g")]]
    found = corpus_bleu(candidates, references, 3)
    assert (found.length, found.reference_length) == (9, 9)  # of 4 and 6 tokens, 4 is taken for 5
    assert found.precisions == (7 / 9, 3 / 7, 1 / 5)
    assert found.brevity_penalty == 1.0
    assert found.score == pytest.approx((7 / 9 * 3 / 7 * 1 / 5) ** (1 / 3), rel=1e-15)
    longer = [references[0][1:], references[1]]
    found = corpus_bleu(candidates, longer, 3)
    assert (found.length, found.reference_length) == (9, 11)
    assert found.score == pytest.approx(math.exp(-2 / 9) * (7 / 9 * 3 / 7 * 1 / 5) ** (1 / 3), rel=1e-15)


def test_the_brevity_penalty():
    assert brevity_penalty(12, 12) == brevity_penalty(13, 12) == 1.0
    assert brevity_penalty(6, 12) == math.exp(-1)
    assert brevity_penalty(0, 12) == 0.0


def test_the_closest_reference():
    """Section 2.2.2: references of 12, 15 and 17 words for a candidate of 12."""
    assert closest_length(12, [17, 12, 15]) == 12
    assert closest_length(16, [17, 12, 15]) == 15
    assert closest_length(30, [17, 12, 15]) == 17


def test_ids_are_tokens_too():
    assert corpus_bleu([np.array([3, 1, 2, 5])], [[[3, 1, 2, 5], [3, 1]]]).score == 1.0


def test_nothing_in_common():
    assert corpus_bleu([["a", "b", "c"]], [[["a", "b", "c"]]]).score == 0.0  # no 4-gram
    assert corpus_bleu([[]], [[["a"]]]).score == 0.0


@pytest.mark.parametrize(
    ("candidates", "references", "order", "message"),
    [
        ([], [], 4, "0 candidates and 0 lists"),
        ([["a"]], [], 4, "1 candidates and 0 lists"),
        ([["a"]], [[]], 4, "candidate 0 has no reference"),
        (["a b"], [[["a"]]], 4, r"a string in place of tokens: cut it, for example with \.split"),
        ([["a"]], [["a b"]], 4, "a string in place of tokens"),
        ([["a"]], ["a b"], 4, "a string in place of tokens"),
        ([["a"]], [[["a"]]], 0, "max_order must be at least 1, got 0"),
    ],
)
def test_bad_input(candidates, references, order, message):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(candidates, references, order)


texts = st.lists(st.sampled_from("abc"), max_size=9)
corpora = st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(corpora)
def test_invariants(corpus):
    """Between 0 and 1; 1 only for copies of a reference's n-grams; the order of texts and references does
    not matter."""
    candidates, references = (list(part) for part in zip(*corpus, strict=True))
    found = corpus_bleu(candidates, references)
    assert 0.0 <= found.score <= 1.0
    turned = [correct[::-1] for correct in references]
    assert corpus_bleu(candidates[::-1], turned[::-1]) == found
    if any(len(text) >= 4 for text in candidates):
        assert corpus_bleu(candidates, [[text] for text in candidates]).score == 1.0


def test_sacrebleu():
    """On 100 random corpora, of which 90 at least have 4-grams in common with their references."""
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(0)
    scores = []
    for count in [1, 2, 3, 4] * 25:
        candidates = [list(rng.choice(list("abc"), rng.integers(1, 12))) for _ in range(20)]
        references = [
            [list(rng.choice(list("abc"), rng.integers(1, 12))) for _ in range(count)] for _ in range(20)
        ]
        ours = corpus_bleu(candidates, references)
        theirs = sacrebleu.corpus_bleu(
            [" ".join(text) for text in candidates],
            [[" ".join(each[k]) for each in references] for k in range(count)],
            smooth_method="none",
            tokenize="none",
        )
        scores.append(ours.score)
        assert 100 * ours.score == pytest.approx(theirs.score, rel=1e-12)
        assert 100 * np.array(ours.precisions) == pytest.approx(theirs.precisions, rel=1e-12)
        assert ours.brevity_penalty == pytest.approx(theirs.bp, rel=1e-12)
        assert (ours.length, ours.reference_length) == (theirs.sys_len, theirs.ref_len)
    assert np.mean(np.array(scores) > 0) >= 0.9
