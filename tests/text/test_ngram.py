"""Witten-Bell smoothing: by hand, by its definition, and on the two texts with known figures."""

import itertools
import math
import urllib.request
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.data import DataError, load_text, train_val_split
from tinygen.text import CharTokenizer, NGram
from tinygen.types import Ids

# -- exact -----------------------------------------------------------------------------------------


def test_by_hand() -> None:
    # In "abaa", over the alphabet a, b, c: N = 4 and T = 2, so p(a) = (3 + 2/3) / 6 = 11/18,
    # p(b) = (1 + 2/3) / 6 = 5/18, p(c) = (2/3) / 6 = 2/18.
    unigram = NGram(1).fit([0, 1, 0, 0], vocab_size=3)
    np.testing.assert_allclose(unigram.next_probs([]), np.array([11, 5, 2]) / 18, rtol=1e-14)
    # After a came b once and a once: p(a|a) = (1 + 2 * 11/18) / 4 = 10/18, and so on. After b came
    # a: p(a|b) = (1 + 11/18) / 2. Nothing came after c.
    bigram = NGram(2).fit([0, 1, 0, 0], vocab_size=3)
    np.testing.assert_allclose(bigram.next_probs([0]), np.array([10, 7, 1]) / 18, rtol=1e-14)
    np.testing.assert_allclose(bigram.next_probs([1]), np.array([29, 5, 2]) / 36, rtol=1e-14)
    np.testing.assert_allclose(bigram.next_probs([2]), np.array([11, 5, 2]) / 18, rtol=1e-14)
    # "cab": c after nothing, a after c, b after a.
    expected = np.log([2 / 18, 11 / 18, 7 / 18])
    np.testing.assert_allclose(bigram.log_prob([2, 0, 1]), expected, rtol=1e-14)
    assert bigram.cross_entropy([2, 0, 1]) == pytest.approx(-expected.mean(), rel=1e-14)


def by_definition(text: list[int], vocab_size: int, context: tuple[int, ...], token: int) -> Fraction:
    """p(token | context), counted anew from the training text, without a rounding error."""
    if len(context) == 0:
        shorter = Fraction(1, vocab_size)
    else:
        shorter = by_definition(text, vocab_size, context[1:], token)
    n = len(context)
    followers = [text[i + n] for i in range(len(text) - n) if tuple(text[i : i + n]) == context]
    if not followers:
        return shorter
    types = len(set(followers))
    return (followers.count(token) + types * shorter) / (len(followers) + types)


@given(
    text=st.lists(st.integers(0, 2), min_size=1, max_size=25),
    scored=st.lists(st.integers(0, 3), max_size=10),
    order=st.integers(1, 6),
)
def test_the_arrays_give_what_the_definition_gives(text: list[int], scored: list[int], order: int) -> None:
    model = NGram(order).fit(text, vocab_size=4)  # the token 3 is never seen
    expected = [
        math.log(by_definition(text, 4, tuple(scored[max(0, i - order + 1) : i]), token))
        for i, token in enumerate(scored)
    ]
    np.testing.assert_allclose(model.log_prob(scored), expected, rtol=1e-12)


@pytest.mark.parametrize("order", range(1, 7))
def test_each_context_has_a_distribution_and_it_is_the_one_that_scores(order: int) -> None:
    text = np.random.default_rng(0).integers(0, 3, 60)
    model = NGram(order).fit(text, vocab_size=4)
    for context in itertools.product(range(4), repeat=min(order - 1, 4)):
        probs = model.next_probs(context)
        assert probs.min() > 0
        assert probs.sum() == pytest.approx(1, abs=1e-14)
        scored = [model.log_prob([*context, token])[-1] for token in range(4)]
        np.testing.assert_allclose(np.log(probs), scored, rtol=1e-12)


def test_only_the_last_tokens_of_a_context_count() -> None:
    model = NGram(3).fit([0, 1, 0, 0, 1, 1], vocab_size=2)
    assert model.next_probs([1, 1, 0, 1]).tolist() == model.next_probs([0, 1]).tolist()


def test_token_ids_may_be_many() -> None:
    text = np.random.default_rng(0).integers(0, 50_257, 1000)
    model = NGram(6).fit(text, vocab_size=50_257)  # 50257 ** 6 does not fit in 64 bits
    assert model.next_probs(text[:5]).argmax() == text[5]


# -- published and measured ------------------------------------------------------------------------


def split(text: str) -> tuple[Ids, Ids, int]:
    tokenizer = CharTokenizer(text)
    return *train_val_split(tokenizer.encode(text)), tokenizer.vocab_size


def cross_entropies(text: str) -> list[float]:
    train, val, vocab_size = split(text)
    orders = range(1, 7)
    return [round(NGram(n).fit(train, vocab_size).cross_entropy(val), 3) for n in orders]


def test_shakespeare(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("tests stay offline")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    try:
        text = load_text("shakespeare")
    except DataError as error:
        pytest.skip(str(error))
    assert cross_entropies(text) == [3.347, 2.486, 2.049, 1.774, 1.669, 1.698]


def test_topics() -> None:
    text = load_text("topics")
    if len(text) != 465_048:
        pytest.skip("another Python than 3.11.7 has another text")
    assert cross_entropies(text) == [3.238, 2.318, 1.712, 1.404, 1.320, 1.339]
    # To count the first two tokens, which have no full context, but not to score them, is the
    # slip that the docstring of log_prob warns of.
    train, val, vocab_size = split(text)
    log_prob = NGram(3).fit(train, vocab_size).log_prob(val)
    assert round(-log_prob[2:].sum() / len(val), 3) == 1.711


def test_more_context_helps_until_it_is_too_rare() -> None:
    first, second, *rest = cross_entropies(load_text("topics"))
    assert first > second > rest[0] > rest[1] > rest[2]


# -- sampling --------------------------------------------------------------------------------------

FALSE_ALARM = 1e-7


def drawn_from(counts: Ids, probs: np.ndarray) -> bool:
    """Whether draws that came out `counts` (V,) may be from `probs` (V,).

    By Chernoff's bound, for each token, P(count / n >= q) <= exp(-n KL(q, p)) for q > p, and alike
    below p; 2 V such events make a false alarm at most FALSE_ALARM likely.
    """
    n, q = counts.sum(), counts / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.nan_to_num(q * np.log(q / probs), nan=0.0, posinf=np.inf)
        kl += np.nan_to_num((1 - q) * np.log((1 - q) / (1 - probs)), nan=0.0, posinf=np.inf)
    return bool((n * kl < np.log(2 * len(probs) / FALSE_ALARM)).all())


def sampled(model: NGram) -> Ids:
    rng = np.random.default_rng(0)
    return np.concatenate([model.sample(2, rng, prompt=[0, 1]) for _ in range(4000)])


@pytest.mark.parametrize(("order", "passes"), [(3, True), (2, False), (1, False)])
def test_samples_follow_the_model(order: int, passes: bool) -> None:
    text = np.random.default_rng(1).integers(0, 3, 40)
    model = NGram(3).fit(text, vocab_size=3)
    # The same test must fail for a sampler that looks at too little context.
    draws = sampled(model if passes else NGram(order).fit(text, vocab_size=3)).reshape(-1, 2)
    joint = np.array(
        [p * q for first, p in enumerate(model.next_probs([0, 1])) for q in model.next_probs([1, first])]
    )
    assert drawn_from(np.bincount(draws @ [3, 1], minlength=9), joint) == passes


def test_each_token_is_drawn_after_all_the_text_before_it() -> None:
    model = NGram(4).fit(np.random.default_rng(1).integers(0, 3, 200), vocab_size=3)
    rng, text = np.random.default_rng(2), [0, 2]
    for _ in range(30):
        text.append(int(rng.choice(3, p=model.next_probs(text))))
    assert model.sample(30, np.random.default_rng(2), prompt=[0, 2]).tolist() == text[2:]


def test_the_same_seed_gives_the_same_text_and_no_prompt_is_needed() -> None:
    model = NGram(3).fit([0, 1, 2, 0, 2, 1], vocab_size=3)
    first, second = (model.sample(20, np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (20,)
    assert first.tolist() == second.tolist()
    assert model.sample(0, np.random.default_rng(5)).tolist() == []


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NGram(0), "between 1 and 6, got 0"),
        (lambda: NGram(7), "between 1 and 6, got 7"),
        (lambda: NGram(2).fit([], 3), "empty text"),
        (lambda: NGram(2).fit([0, 3], 3), r"token 3 at position 1 .* 0 \.\. 2"),
        (lambda: NGram(2).fit([-1], 3), "token -1 at position 0"),
        (lambda: NGram(2).fit([0.5], 3), "float64"),  # type: ignore[list-item]
        (lambda: NGram(2).fit([0], 0), "at least 1, got 0"),
        (lambda: NGram(2).fit([0], 3).log_prob([3]), "token 3 at position 0"),
        (lambda: NGram(2).fit([0], 3).cross_entropy([]), "empty text is undefined"),
        (lambda: NGram(2).fit([0], 3).sample(-1, np.random.default_rng()), "got -1"),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_is_known_before_fit() -> None:
    assert NGram(2).vocab_size == 0
    with pytest.raises(RuntimeError, match="call fit first"):
        NGram(2).log_prob([0])


def test_a_vocabulary_of_one_token() -> None:
    model = NGram(2).fit([0, 0, 0], 1)
    assert model.cross_entropy([0, 0]) == 0
