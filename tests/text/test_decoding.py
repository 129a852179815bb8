"""From logits to tokens: exact filtered distributions, samplers held to them, exact scores."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.text.decoding import (
    filtered_probs,
    greedy_tokens,
    keep_top_k,
    keep_top_p,
    perplexity,
    sample,
    sequence_log_prob,
)

P = np.array([0.0625, 0.5, 0.25, 0.125, 0.0625])  # exact in binary
LOGITS = np.log(P) + 7.0

# -- distributions, exactly ------------------------------------------------------------------------


def close(actual: np.ndarray, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


def test_without_filters_it_is_the_softmax() -> None:
    close(filtered_probs(LOGITS), P)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_a_power(temperature: float) -> None:
    power = P ** (1 / temperature)
    close(filtered_probs(LOGITS, temperature), power / power.sum())


def test_temperatures_near_the_ends() -> None:
    with warnings.catch_warnings(action="error"):
        close(filtered_probs(LOGITS, 1e-308), [0, 1, 0, 0, 0])
    close(filtered_probs(LOGITS, 1e300), np.full(5, 0.2))
    close(filtered_probs(LOGITS * 1e4, 1.0), [0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("k", "kept"),
    [
        (1, [0, 4, 0, 0, 0]),
        (2, [0, 4, 2, 0, 0]),
        (3, [0, 4, 2, 1, 0]),
        (4, [0.5, 4, 2, 1, 0.5]),  # two tokens share the fourth place, and both stay
        (5, [0.5, 4, 2, 1, 0.5]),
        (99, [0.5, 4, 2, 1, 0.5]),
    ],
)
def test_top_k(k: int, kept: list[float]) -> None:
    close(filtered_probs(LOGITS, top_k=k), np.array(kept) / sum(kept))


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (1e-9, [0, 8, 0, 0, 0]),  # never nothing
        (0.5, [0, 8, 0, 0, 0]),  # exactly enough is enough
        (0.5001, [0, 8, 4, 0, 0]),
        (0.75, [0, 8, 4, 0, 0]),
        (0.875, [0, 8, 4, 2, 0]),
        (0.9, [1, 8, 4, 2, 0]),  # of two equal tokens the first is enough
        (0.9375, [1, 8, 4, 2, 0]),
        (0.94, [1, 8, 4, 2, 1]),
        (1.0, [1, 8, 4, 2, 1]),
    ],
)
def test_top_p(p: float, kept: list[float]) -> None:
    close(keep_top_p(P, p), np.array(kept) / sum(kept))
    # At other cuts than those exactly on a sum, the same holds when the logits come first.
    if p not in (0.5, 0.75, 0.875, 0.9375):
        close(filtered_probs(LOGITS, top_p=p), np.array(kept) / sum(kept))


def test_top_p_of_one_drops_nothing() -> None:
    probs = filtered_probs(np.array([0.0, -50.0]), top_p=1.0)  # 1 + e^-50 rounds to 1
    assert probs[1] == pytest.approx(math.exp(-50), abs=0)


def test_top_p_takes_the_first_of_many_equals() -> None:
    probs = np.tile([1.0, 3.0], 512) / 2048  # the likelier half has 3/4 of the mass
    kept = np.flatnonzero(keep_top_p(probs, 0.375))
    assert kept.tolist() == [*range(1, 512, 2)]


def test_temperature_comes_first_then_top_k_then_top_p() -> None:
    # At temperature 1/2: 1, 64, 16, 4, 1. Top-3 leaves 64, 16, 4 of 84; of these 64 are 76%.
    close(filtered_probs(LOGITS, 0.5, top_k=3, top_p=0.77), np.array([0, 64, 16, 0, 0]) / 80)
    close(filtered_probs(LOGITS, 0.5, top_k=3, top_p=0.75), [0, 1, 0, 0, 0])  # 64 / 86 = 74.4%


def brute_force_top_p(probs: np.ndarray, p: float) -> int:
    """The size of the smallest set of tokens with mass >= p."""
    return next(k for k in range(1, len(probs) + 1) if sum(sorted(probs)[-k:]) >= p)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 63), st.integers(1, 9))
def test_filters_keep_what_they_say(weights: list[int], p: int, k: int) -> None:
    weights[0] += 64 - sum(weights) % 64  # sums to a multiple of 64: the cuts below are exact
    probs = np.array(weights) / sum(weights)
    kept = keep_top_p(probs, p / 64)
    assert np.count_nonzero(kept) == brute_force_top_p(probs, p / 64)
    assert probs[kept > 0].min() >= probs[kept == 0].max(initial=0)
    kept = keep_top_k(probs, k)
    kth = sorted(probs)[-min(k, len(probs))]
    assert ((kept > 0) == ((probs >= kth) & (probs > 0))).all()
    assert kept.sum() == pytest.approx(1)


def test_rows_are_filtered_each_for_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 7))
    together = filtered_probs(logits, 0.8, top_k=5, top_p=0.9)
    for i in np.ndindex(2, 3):
        close(together[i], filtered_probs(logits[i], 0.8, top_k=5, top_p=0.9))
    close(filtered_probs(np.stack([LOGITS, LOGITS - 1000])), np.stack([P, P]))  # of very different levels


def test_a_forbidden_token_stays_forbidden() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0], np.float32)
    close(filtered_probs(logits, 2.0, top_k=3, top_p=0.99), [0, 0.5, 0, 0.5])


def test_parity_with_transformers() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits = np.random.default_rng(0).normal(size=(50, 20))
    scores = torch.tensor(logits)
    for warper in (
        transformers.TemperatureLogitsWarper(0.7),
        transformers.TopKLogitsWarper(8),
        transformers.TopPLogitsWarper(0.8),
    ):
        scores = warper(None, scores)
    close(filtered_probs(logits, 0.7, top_k=8, top_p=0.8), scores.softmax(-1).numpy())


# -- greedy ----------------------------------------------------------------------------------------


def test_greedy() -> None:
    logits = np.array([[[0.0, 3.0, 3.0]], [[-np.inf, -5.0, -6.0]]])  # (2, 1, 3)
    assert greedy_tokens(logits).tolist() == [[1], [1]]


# -- sampling --------------------------------------------------------------------------------------

N = 20_000
FALSE_ALARM = 1e-7
Sampler = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def drawn_from(tokens: np.ndarray, probs: np.ndarray) -> bool:
    """Whether `tokens` (N,) may be drawn from `probs` (V,).

    By Chernoff's bound, for each token, P(count / N >= q) <= exp(-N KL(q, p)) for q > p, and alike
    below p; 2 V such events make a false alarm at most FALSE_ALARM likely.
    """
    q = np.bincount(tokens, minlength=len(probs)) / len(tokens)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.nan_to_num(q * np.log(q / probs), nan=0.0, posinf=np.inf)
        kl += np.nan_to_num((1 - q) * np.log((1 - q) / (1 - probs)), nan=0.0, posinf=np.inf)
    return bool((len(tokens) * kl < np.log(2 * len(probs) / FALSE_ALARM)).all())


def draws(sampler: Sampler, seed: int = 0) -> np.ndarray:
    return sampler(np.broadcast_to(LOGITS, (N, 5)), np.random.default_rng(seed))


HOT = {"temperature": 2.0}
THREE = {"top_k": 3}
NUCLEUS = {"top_p": 0.8}
ALL = {"temperature": 1.5, "top_k": 3, "top_p": 0.7}


@pytest.mark.parametrize("options", [{}, HOT, THREE, NUCLEUS, ALL])
def test_samples_follow_the_filtered_distribution(options: dict[str, Any]) -> None:
    tokens = draws(lambda logits, rng: sample(logits, rng, **options))
    assert drawn_from(tokens, filtered_probs(LOGITS, **options))


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (HOT, lambda logits, rng: sample(logits, rng)),  # forgets the temperature
        (HOT, lambda logits, rng: sample(logits, rng, temperature=0.5)),  # multiplies by it
        (THREE, lambda logits, rng: sample(logits, rng, top_k=2)),  # one too few
        (THREE, lambda logits, rng: sample(logits, rng, top_k=4)),  # one too many
        (NUCLEUS, lambda logits, rng: sample(logits, rng, top_p=0.75)),  # stops before p
        ({}, lambda logits, rng: np.minimum(sample(logits, rng) + 1, 4)),  # off by one
        ({}, lambda logits, rng: greedy_tokens(logits)),
    ],
)
def test_the_same_test_finds_wrong_samplers(options: dict[str, Any], wrong: Sampler) -> None:
    assert not drawn_from(draws(wrong), filtered_probs(LOGITS, **options))


def test_rows_are_drawn_independently() -> None:
    logits = np.broadcast_to(LOGITS, (N, 2, 5))
    tokens = sample(logits, np.random.default_rng(1))  # (N, 2)
    joint = np.outer(P, P).ravel()
    assert drawn_from(tokens @ [5, 1], joint)
    repeated = np.repeat(tokens[:, :1], 2, axis=1)  # one draw for the whole row
    assert not drawn_from(repeated @ [5, 1], joint)


class Extreme(np.random.Generator):
    """All its uniform numbers are `value`."""

    def __init__(self, value: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.value = value

    def random(self, shape: Any) -> Any:  # type: ignore[override]
        return np.full(shape, self.value)


@pytest.mark.parametrize("value", [0.0, np.nextafter(1.0, 0.0)])
def test_a_forbidden_token_never_comes_even_at_the_ends(value: float) -> None:
    rng = np.random.default_rng(0)
    logits = np.concatenate(
        [np.full((1000, 1), -np.inf), rng.normal(size=(1000, 9)), np.full((1000, 1), -np.inf)], 1
    )
    tokens = sample(logits, Extreme(value))
    assert (tokens == (1 if value == 0 else 9)).all()


@pytest.mark.parametrize(("value", "end"), [(0.0, 0), (np.nextafter(1.0, 0.0), -1)])
def test_a_token_that_another_row_allows_stays_forbidden_in_this_one(value: float, end: int) -> None:
    """Columns that are forbidden in all rows are left out before; here none is."""
    crossed = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    assert sample(crossed, Extreme(value)).tolist() == [0, 1]  # type: ignore[arg-type]
    allowed = np.random.default_rng(0).random((1000, 6)) < 0.5
    allowed[~allowed.any(axis=1), 3] = True
    tokens = sample(np.where(allowed, 0.0, -np.inf), Extreme(value))
    assert tokens.tolist() == [np.flatnonzero(row)[end] for row in allowed]


def test_shapes_and_seeds() -> None:
    logits = np.zeros((2, 3, 4), np.float32)
    first, second = (sample(logits, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (2, 3)
    assert first.tolist() == second.tolist()
    assert np.ndim(sample(logits[0, 0], np.random.default_rng(3))) == 0


# -- scores ----------------------------------------------------------------------------------------


def test_a_sequence_has_the_sum_of_its_tokens_log_probabilities() -> None:
    logits = np.stack([LOGITS, LOGITS - 1000, LOGITS + 1000])  # (3, 5); the level means nothing
    tokens = np.array([1, 2, 0])
    assert sequence_log_prob(logits, tokens) == pytest.approx(math.log(0.5 * 0.25 * 0.0625))
    both = sequence_log_prob(np.stack([logits, logits]), np.array([[1, 1, 1], [3, 3, 3]]))
    close(both, [math.log(0.5**3), math.log(0.125**3)])


def test_all_sequences_together_are_certain() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 4)) * 5
    tokens = np.indices((4, 4, 4)).reshape(3, -1).T  # (64, 3)
    scores = sequence_log_prob(np.broadcast_to(logits, (64, 3, 4)), tokens)
    assert np.exp(scores).sum() == pytest.approx(1)


def test_perplexity() -> None:
    assert perplexity(math.log(65)) == pytest.approx(65)
    assert perplexity(0.0) == 1
    assert perplexity(math.inf) == math.inf


# -- errors ----------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(LOGITS, RNG, temperature=0), r"got 0; .* use greedy\(logits\)"),
        (lambda: sample(LOGITS, RNG, temperature=-1), "above 0 and finite, got -1"),
        (lambda: sample(LOGITS, RNG, temperature=math.nan), "got nan"),
        (lambda: sample(LOGITS, RNG, temperature=math.inf), "got inf"),
        (lambda: sample(LOGITS, RNG, top_k=0), "top_k must be at least 1, got 0"),
        (lambda: sample(LOGITS, RNG, top_p=0), "top_p must be above 0 and at most 1, got 0"),
        (lambda: sample(LOGITS, RNG, top_p=1.1), "got 1.1"),
        (lambda: sample(LOGITS, RNG, top_p=math.nan), "got nan"),
        (lambda: greedy_tokens(np.array([0.0, math.nan])), "NaN"),
        (lambda: greedy_tokens(np.array([0.0, math.inf])), r"\+inf"),
        (lambda: greedy_tokens(np.array([[0.0], [-math.inf]])), "nothing but -inf"),
        (lambda: greedy_tokens(np.array(1.0)), r"got shape \(\)"),
        (lambda: greedy_tokens(np.zeros((2, 0))), r"got shape \(2, 0\)"),
        (lambda: sequence_log_prob(np.zeros((3, 5)), np.zeros(2, int)), r"\(3, 5\) and \(2,\)"),
        (lambda: sequence_log_prob(np.zeros(5), np.array(1)), r"\(5,\) and \(\)"),
        (lambda: sequence_log_prob(np.zeros((1, 5)), np.array([5])), r"0 \.\. 4, got 5 \.\. 5"),
        (lambda: sequence_log_prob(np.zeros((1, 5)), np.array([-1])), r"got -1 \.\. -1"),
        (lambda: perplexity(-0.1), "got -0.1"),
        (lambda: perplexity(math.nan), "got nan"),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
