"""Damaged texts as inputs, and targets that repair them: the pretraining of T5 and BART.

T5 (Raffel et al. 2020, arXiv:1910.10683, section 3.1.4) takes spans out of a text. In the input, a sentinel
stands for each span; the target has the spans behind their sentinels:

    text      Thank you for inviting me to your party last week
    input     Thank you <X> me to your party <Y> week
    target    <X> for inviting <Y> last <Z>

BART (Lewis et al. 2020, arXiv:1910.13461, section 2.2) writes one [MASK] for each span, so that the model
must find out how many tokens are missing, and changes the order of the sentences. Its target is the whole
text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tinygen.types import Ids


def corrupt_spans(
    ids: Ids,
    sentinels: Sequence[int],
    density: float = 0.15,
    mean_length: float = 3.0,
    *,
    rng: np.random.Generator | int,
) -> tuple[Ids, Ids]:
    """Input and target of T5, for the tokens of one text (T,), T >= 2. About T · density tokens are taken
    out, in spans of about `mean_length`. `sentinels` are tokens that do not occur in texts, one more than
    there are spans: the last one ends the target. The text begins with a token that stays, and ends with a
    span.

    All ways to cut the tokens that stay, and those that go, into so many parts are equally probable, as in
    the published code. Raises ValueError for a shorter text, a density outside (0, 1), a mean_length below 1,
    and too few sentinels.

    Eq.: n = round(T · density) tokens in round(n / mean_length) spans
        (Raffel et al. 2020, section 3.3.4, and their code)
    Held by: tests/text/test_corruption.py::test_how_many_tokens_in_how_many_spans
    """
    ids = one_text(ids)
    if len(ids) < 2:
        raise ValueError(f"a text of {len(ids)} tokens has no place for a token that stays and one that goes")
    if not 0 < density < 1 or mean_length < 1:
        raise ValueError(f"density must be in (0, 1), mean_length at least 1: got {density}, {mean_length}")
    rng = np.random.default_rng(rng)
    gone = min(max(round(len(ids) * density), 1), len(ids) - 1)
    spans = min(max(round(gone / mean_length), 1), gone, len(ids) - gone)
    if len(sentinels) <= spans:
        raise ValueError(f"{spans} spans need {spans + 1} sentinels, got {len(sentinels)}")
    lengths = np.stack([random_parts(len(ids) - gone, spans, rng), random_parts(gone, spans, rng)], axis=1)
    places = np.cumsum(lengths)  # the ends of: tokens that stay, a span, tokens that stay, a span, ...
    pieces = np.split(ids, places[:-1])
    inputs, target = list[Any](), list[Any]()
    for i in range(spans):
        inputs += [pieces[2 * i], [sentinels[i]]]
        target += [[sentinels[i]], pieces[2 * i + 1]]
    return np.concatenate(inputs), np.concatenate([*target, [sentinels[spans]]])


def random_parts(n: int, parts: int, rng: np.random.Generator) -> Ids:
    """The lengths, each at least 1, of n things that are cut into so many parts: (parts,). All ways are
    equally probable."""
    cuts = np.sort(rng.choice(n - 1, parts - 1, replace=False)) + 1
    lengths: Ids = np.diff(cuts, prepend=0, append=n)
    return lengths


def infill_text(
    ids: Ids, mask_id: int, rate: float = 0.3, mean_length: float = 3.0, *, rng: np.random.Generator | int
) -> Ids:
    """The tokens of one text (T,) with holes: round(T · rate) of them are replaced, span by span, by one
    `mask_id` each. The lengths of spans are Poisson draws with this mean, but the last span may be cut
    short. A span of length 0 is a [MASK] where nothing is missing. All places of the spans are equally
    probable.

    Raises ValueError for a rate outside [0, 1], and a mean_length that is not above 0.

    Eq.: length of a span ~ Poisson(λ), λ = 3  (Lewis et al. 2020, section 2.2)
    Held by: tests/text/test_corruption.py::test_the_lengths_of_spans_are_poisson
    """
    ids = one_text(ids)
    if not 0 <= rate <= 1 or not mean_length > 0:
        raise ValueError(f"rate must be in [0, 1], mean_length above 0: got {rate} and {mean_length}")
    rng = np.random.default_rng(rng)
    gone, lengths = round(len(ids) * rate), list[int]()
    while (rest := gone - sum(lengths)) > 0:
        lengths.append(min(int(rng.poisson(mean_length)), rest))
    stay = len(ids) - gone
    # Spans and tokens that stay come in a random order; spans keep theirs, which is random anyway.
    is_span = rng.permutation(np.repeat([True, False], [len(lengths), stay]))
    taken = np.ones(len(is_span), int)  # tokens of the text for each of them
    taken[is_span] = lengths
    first = np.cumsum(taken) - taken
    return np.where(is_span, mask_id, np.append(ids, mask_id)[first])


def permute_sentences(ids: Ids, ends: Collection[int], *, rng: np.random.Generator | int) -> Ids:
    """The tokens of one text (T,), with its sentences in a random order. A sentence ends with a token in
    `ends`, such as a full stop; tokens after the last of these count as a sentence, too.

    Eq.: all orders of the sentences are equally probable  (Lewis et al. 2020, section 2.2)
    Held by: tests/text/test_corruption.py::test_all_orders_of_sentences_are_equally_probable
    """
    ids = one_text(ids)
    cuts = np.flatnonzero(np.isin(ids, list(ends))) + 1
    sentences = [part for part in np.split(ids, cuts) if len(part)]
    order = np.random.default_rng(rng).permutation(len(sentences))
    return np.concatenate([ids[:0], *(sentences[i] for i in order)])


def one_text(ids: Ids) -> Ids:
    """`ids` as an array, if they are one text. Raises TypeError for others than integers, ValueError for
    other shapes than (T,)."""
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids have dtype {ids.dtype}: tokens are integers")
    if ids.ndim != 1:
        raise ValueError(f"ids have shape {ids.shape}: give the tokens of one text, (T,), without padding")
    return ids
