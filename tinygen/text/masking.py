"""The masked words of BERT: a text with holes, and the tokens that belong into them.

Devlin et al. 2019 (arXiv:1810.04805), section 3.1, task 1, and appendix A.1. A model that reads both ways
would see each token that it predicts. So some tokens are chosen, hidden, and only these are predicted.
Texts of other tasks have no [MASK]. Therefore not every chosen token becomes [MASK]: some become a random
token, some stay, and the model has to form an opinion of every token that it reads.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from tinygen.types import Ids

IGNORED = -100
"""The target where nothing is predicted: `ignore_index` of `ops.cross_entropy`."""

AS_MASK, AS_RANDOM = 0.8, 0.1
"""Parts of the chosen tokens that become [MASK], and a random token. The others stay."""


def mask_tokens(
    ids: Ids,
    vocab_size: int,
    mask_id: int,
    special: Collection[int] = (),
    rate: float = 0.15,
    *,
    rng: np.random.Generator | int,
) -> tuple[Ids, Ids]:
    """Inputs and targets, both with the shape of `ids`. Each token that is not in `special` ([CLS], [SEP],
    padding) is chosen with probability `rate`, independently of the others. A target is the chosen token, and
    IGNORED elsewhere. Random tokens are uniform over the vocabulary, as in the published code; that code
    chooses a fixed number of tokens in each text instead.

    Raises ValueError for a rate outside [0, 1] and a mask_id outside [0, vocab_size), TypeError for ids that
    are not integers.

    Eq.: a chosen token becomes [MASK] with probability 0.8, a random token with 0.1, and stays with 0.1
        (Devlin et al. 2019, section 3.1)
    Held by: tests/text/test_masking.py::test_of_the_chosen_tokens_80_10_10
    """
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids have dtype {ids.dtype}: tokens are integers")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} is no probability: it must be from 0 to 1")
    if not 0 <= mask_id < vocab_size:
        raise ValueError(f"mask_id={mask_id} is not in the vocabulary of {vocab_size} tokens")
    rng = np.random.default_rng(rng)
    chosen = (rng.random(ids.shape) < rate) & ~np.isin(ids, list(special))
    fate, words = rng.random(ids.shape), rng.integers(0, vocab_size, ids.shape)
    inputs = np.where(chosen & (fate < AS_MASK), mask_id, ids)
    inputs = np.where(chosen & (fate >= 1 - AS_RANDOM), words, inputs)
    return inputs, np.where(chosen, ids, IGNORED)
