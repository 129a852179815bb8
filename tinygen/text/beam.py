"""Beam search: the most probable sequences of a model, searched with a fixed number of hypotheses.

Graves 2012 (arXiv:1211.3711, section 3.1) and Sutskever et al. 2014 (arXiv:1409.3215, section 3.2); the
penalty on the length is from Wu et al. 2016 (GNMT, arXiv:1609.08144, section 7), without its second term, the
coverage of the source, which needs the weights of attention.

Greedy decoding takes the best token at each step. Its sequence may be improbable as a whole, since a good
first token may have only bad continuations. Beam search keeps the best `width` beginnings. With width 1 it is
greedy decoding; with a width that no step exceeds it finds the best of all sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinygen.types import Floats, Ids

NextLogProbs = Callable[[Ids], Floats]
"""From N beginnings (N, t) to the log-probabilities (N, V) of the next token."""


class Hypothesis(NamedTuple):
    """A complete sequence, its log-probability in nats, and its score, by which it was chosen."""

    tokens: Ids  # (n,), without the first token, `begin`; the last one is `end` unless it was too long
    log_prob: float
    score: float


def length_penalty(length: int, alpha: float = 0.6) -> float:
    """The divisor of a log-probability. Log-probabilities are negative and fall with each token; divided
    by a number that grows with the length, they favor short sequences less. alpha = 0 is no penalty.

    Eq.: lp(Y) = (5 + |Y|)^α / (5 + 1)^α,  s(Y, X) = ln P(Y | X) / lp(Y)  (Wu et al. 2016, eq. 14)
    Held by: tests/text/test_beam.py::test_length_penalty_by_hand
    """
    return ((5 + length) / 6) ** alpha


def beam_search(
    next_log_probs: NextLogProbs,
    width: int,
    max_length: int,
    alpha: float = 0.6,
    *,
    begin: int,
    end: int,
) -> list[Hypothesis]:
    """At most `width` complete sequences, the best score first.

    Each step continues every hypothesis by every token, and keeps the `width` most probable. Those that end
    with `end` are complete; so are all that have `max_length` tokens. |Y| counts all tokens but `begin`.

    The search stops when no hypothesis can still become better than the `width` best complete ones: its
    log-probability can only fall, and no sequence has a larger penalty than one of `max_length` tokens. So
    stopping early does not change the result.

    Raises ValueError for a width or a length below 1, a negative alpha, and for log-probabilities that are
    not (N, V), contain NaN, or are above 0.
    """
    if width < 1 or max_length < 1 or alpha < 0:
        raise ValueError(
            "width and max_length must be at least 1 and alpha at least 0, "
            f"got {width}, {max_length} and {alpha}"
        )
    # N sequences are alive, of t tokens: live has shape (N, t), log_probs (N,), sums (N, V).
    live, log_probs = np.array([[begin]]), np.zeros(1)
    complete: list[Hypothesis] = []
    for length in range(1, max_length + 1):
        following = check_log_probs(next_log_probs(live), len(live))
        sums = log_probs[:, None] + following
        best = np.argsort(-sums, axis=None, kind="stable")[:width]
        best = best[np.isfinite(sums.ravel()[best])]  # tokens with probability 0 continue nothing
        rows, tokens = np.divmod(best, sums.shape[1])
        live = np.concatenate([live[rows], tokens[:, None]], axis=1)
        log_probs = sums[rows, tokens]
        done = (tokens == end) | (length == max_length)
        for i in np.flatnonzero(done):
            log_prob = float(log_probs[i])
            complete.append(Hypothesis(live[i, 1:], log_prob, log_prob / length_penalty(length, alpha)))
        complete = sorted(complete, key=lambda h: -h.score)[:width]
        live, log_probs = live[~done], log_probs[~done]
        if not len(live):
            break
        hope = float(log_probs.max()) / length_penalty(max_length, alpha)
        if len(complete) == width and complete[-1].score >= hope:
            break
    return complete


def check_log_probs(log_probs: Floats, rows: int) -> Floats:
    """`log_probs` in float64, if they are log-probabilities of so many rows."""
    array = np.asarray(log_probs, np.float64)
    if array.ndim != 2 or len(array) != rows:
        raise ValueError(f"next_log_probs must return ({rows}, V), got {array.shape}")
    if not (array <= 1e-6).all():
        raise ValueError("log-probabilities must be at most 0 and not NaN: pass log_softmax(logits)")
    return array
