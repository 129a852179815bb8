"""From logits to tokens: greedy choice, temperature, top-k and top-p sampling, and scoring.

Temperature: Ackley, Hinton & Sejnowski 1985. Top-k: Fan, Lewis & Dauphin 2018, *Hierarchical neural
story generation*, section 5.4. Top-p, or nucleus: Holtzman et al. 2020, *The curious case of neural
text degeneration*, section 3.1.

All functions take plain NumPy logits (..., V), whose last axis is the vocabulary, and compute in
float64. A token with the logit -inf has probability 0. Sampling takes the generator as an argument,
so that the same seed gives the same text.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinygen.random import categorical
from tinygen.types import Floats, Ids

Logits = NDArray[np.floating[Any]]


def greedy_tokens(logits: Logits) -> Ids:
    """The most probable token, the smallest id among equals: (..., V) -> (...)."""
    tokens: Ids = np.argmax(check_logits(logits), axis=-1)
    return tokens


def sample(
    logits: Logits,
    rng: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Ids:
    """Draw one token from each row of `filtered_probs`: (..., V) -> (...)."""
    return categorical(filtered_probs(logits, temperature, top_k, top_p), rng=rng)


def filtered_probs(
    logits: Logits,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Floats:
    """The distribution that `sample` draws from: (..., V) -> (..., V), each row summing to one.

    temperature: above 0; the logits are divided by it. Below 1 it makes the distribution sharper, above
        1 flatter. The limit 0 is refused, as it leaves no choice to draw: use `greedy_tokens`.
    top_k: at least 1; then only the k most probable tokens remain (`keep_top_k`).
    top_p: above 0, at most 1; then only the smallest set of tokens with at least this share of the
        remaining probability stays (`keep_top_p`).

    They apply in this order, as in other libraries. ValueError for arguments outside these ranges, for
    logits with NaN or +inf, and for a row that is -inf everywhere.

    Eq.: p_i ∝ exp(x_i / temperature)  (Ackley, Hinton & Sejnowski 1985)
    Held by: tests/text/test_decoding.py::test_temperature_is_a_power
    """
    if not 0 < temperature < math.inf:
        advice = "; for the most probable token use greedy(logits)" if temperature == 0 else ""
        raise ValueError(f"temperature must be above 0 and finite, got {temperature}{advice}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}; None keeps every token")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    logits = check_logits(logits)
    # Subtract the maximum first: after that, division by a small temperature can underflow, but not overflow.
    with np.errstate(over="ignore"):
        probs = normalize(np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature))
    if top_k is not None:
        probs = keep_top_k(probs, top_k)
    if top_p is not None and top_p < 1:  # a rounded sum may be 1 before the last token
        probs = keep_top_p(probs, top_p)
    return probs


def keep_top_k(probs: Floats, k: int) -> Floats:
    """Keep the k most probable tokens of each row (..., V), renormalised; all of them if k >= V.

    All tokens with the same probability as the k-th stay, so there may be more than k: tokens with
    equal probabilities are treated alike.
    """
    k = min(k, probs.shape[-1])
    kth = np.partition(probs, -k)[..., -k, None]  # (..., 1)
    return normalize(np.where(probs >= kth, probs, 0))


def keep_top_p(probs: Floats, p: float) -> Floats:
    """Keep the smallest set of tokens of each row (..., V) with mass >= p, renormalised.

    It always contains the most probable token. Since it is the smallest such set, it may contain only
    some of several equally probable tokens: the ones with smaller ids.
    """
    order = np.argsort(-probs, kind="stable")
    falling = np.take_along_axis(probs, order, axis=-1)
    before = np.zeros_like(falling)
    before[..., 1:] = np.cumsum(falling, axis=-1)[..., :-1]  # the mass of the tokens before
    kept = np.empty(probs.shape, bool)
    np.put_along_axis(kept, order, before < p, axis=-1)
    return normalize(np.where(kept, probs, 0))


def sequence_log_prob(logits: Logits, tokens: NDArray[np.integer[Any]]) -> Floats:
    """ln p(tokens), summed over the sequence: logits (..., T, V), tokens (..., T) -> (...).

    logits[..., t, :] must be the model's prediction of tokens[..., t]. The logits of a GPT at position t
    predict the token at t + 1. ValueError if the shapes do not fit, or if a token is outside 0 .. V - 1.
    """
    logits = check_logits(logits)
    tokens = np.asarray(tokens)
    if logits.ndim < 2 or tokens.shape != logits.shape[:-1]:
        raise ValueError(
            f"logits must be (..., T, V) and tokens (..., T), got {logits.shape} and {tokens.shape}"
        )
    vocab_size = logits.shape[-1]
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(f"tokens must be within 0 .. {vocab_size - 1}, got {tokens.min()} .. {tokens.max()}")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(shifted, tokens[..., None], axis=-1)[..., 0]  # (..., T)
    log_prob: Floats = (chosen - np.log(np.exp(shifted).sum(axis=-1))).sum(axis=-1)
    return log_prob


def perplexity(nll_mean: float) -> float:
    """exp of the mean negative log-likelihood in nats a token: the number of sides of a fair die that is
    equally hard to predict. It is 1 over the geometric mean of the tokens' probabilities Q; some slides
    call it the geometric mean of Q itself, which is imprecise.

    V for a uniform prediction, 1 for a perfect one. ValueError if `nll_mean` is below 0.

    Eq.: PPL = exp(-1/T Σ_t ln p(w_t | w_<t))  (Jelinek et al. 1977)
    Held by: tests/text/test_decoding.py::test_perplexity
    """
    if not nll_mean >= 0:
        raise ValueError(
            f"a mean negative log-likelihood is at least 0, got {nll_mean}: pass -log_prob.mean(), in nats"
        )
    return math.exp(nll_mean)


def normalize(weights: Floats) -> Floats:
    probs: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return probs


def check_logits(logits: Logits) -> Floats:
    """`logits` in float64. Raises ValueError unless each row defines a distribution."""
    checked = np.asarray(logits, np.float64)
    if checked.ndim == 0 or checked.shape[-1] == 0:
        raise ValueError(f"logits must be (..., V) with V at least 1, got shape {checked.shape}")
    if not np.isfinite(checked.max(axis=-1)).all():
        raise ValueError(
            "a row of logits holds NaN or +inf, or nothing but -inf: no token can be chosen from it"
        )
    return checked
