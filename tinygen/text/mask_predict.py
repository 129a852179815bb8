"""Mask-predict: writes all tokens of a text at once, and the doubtful ones again (Ghazvininejad et al. 2019,
*Mask-Predict: Parallel decoding of conditional masked language models*, arXiv:1904.09324).

A masked language model predicts each hidden token from those that it sees. In the first pass it sees none,
and predicts each token by itself: where a text can be written in two ways, half of one may follow half of the
other. So the tokens with the least probability are hidden again, and predicted from the others: fewer in each
pass, as many passes as one can afford. The length of the text must be known.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from tinygen.text.masking import IGNORED
from tinygen.types import Floats, Ids

Predict = Callable[[Ids], Floats]
"""From texts with holes (B, N) to the log-probabilities (B, N, V) of the token at each position."""


class Written(NamedTuple):
    """Texts, and the log-probability of each token when it was last predicted."""

    tokens: Ids  # (B, N)
    log_probs: Floats  # (B, N)


def mask_predict(predict: Predict, shape: tuple[int, int], mask_id: int, passes: int = 10) -> Written:
    """Texts of the shape (B, N), after so many passes. Pass t, from 0, hides the n tokens of each text with
    the least probability, and replaces them by the most probable ones; the others keep their probability.

    If several lengths are possible, the paper takes the text with the best mean of `log_probs`.

    Raises ValueError for fewer than one pass, for an empty text, and for log-probabilities of another shape
    or above 0.

    Eq.: n = N · (T - t) / T, rounded down, in pass t of T  (Ghazvininejad et al. 2019, section 3.1)
    Held by: tests/text/test_mask_predict.py::test_fewer_tokens_are_hidden_in_each_pass
    """
    if passes < 1 or min(shape) < 1:
        raise ValueError(f"passes, texts and tokens must be at least 1, got {passes} and {shape}")
    tokens, log_probs = np.full(shape, mask_id), np.zeros(shape)
    for t in range(passes):
        hidden = shape[1] * (passes - t) // passes
        places = np.argsort(log_probs, kind="stable")[:, :hidden]
        np.put_along_axis(tokens, places, mask_id, axis=1)
        found = check_log_probs(predict(tokens), shape)
        for array, best in ((tokens, found.argmax(axis=-1)), (log_probs, found.max(axis=-1))):
            np.put_along_axis(array, places, np.take_along_axis(best, places, axis=1), axis=1)
    return Written(tokens, log_probs)


def mask_any_number(
    ids: Ids, mask_id: int, special: Collection[int] = (), *, rng: np.random.Generator | int
) -> tuple[Ids, Ids]:
    """Inputs and targets for a model that mask-predict can use, both with the shape of ids (B, N). In each
    text the number of hidden tokens is uniform over 1 ... L, for the L tokens that are not in `special`, and
    all sets of so many tokens are equally probable. A target is the hidden token, and IGNORED elsewhere.

    Raises ValueError for ids that are not (B, N), and for a text without a token that can be hidden.

    Eq.: the number of hidden tokens is uniform over 1 ... L  (Ghazvininejad et al. 2019, section 2.2)
    Held by: tests/text/test_mask_predict.py::test_any_number_of_tokens_is_equally_probable
    """
    ids = np.asarray(ids)
    if ids.ndim != 2:
        raise ValueError(f"ids have shape {ids.shape}: they must be (B, N), one text in each row")
    usual = ~np.isin(ids, list(special))
    lengths = usual.sum(axis=1)
    if not lengths.all():
        raise ValueError(f"text {lengths.argmin()} has only special tokens: nothing can be hidden")
    rng = np.random.default_rng(rng)
    count = rng.integers(1, lengths + 1)  # (B,)
    order = np.where(usual, rng.random(ids.shape), np.inf).argsort().argsort()  # ranks, (B, N)
    hidden = order < count[:, None]
    return np.where(hidden, mask_id, ids), np.where(hidden, ids, IGNORED)


def check_log_probs(log_probs: Floats, shape: tuple[int, int]) -> Floats:
    """`log_probs` in float64, if they are log-probabilities for texts of this shape."""
    array = np.asarray(log_probs, np.float64)
    if array.ndim != 3 or array.shape[:2] != shape:
        raise ValueError(f"predict must return {(*shape, 'V')}, got {array.shape}")
    if not (array <= 1e-6).all():
        raise ValueError("log-probabilities must be at most 0 and not NaN: pass log_softmax(logits)")
    return array
