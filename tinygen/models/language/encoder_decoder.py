"""Encoder–decoders: the part that the Transformer, T5 and BART share.

The encoder reads the source (B, S) once; its output is the memory (B, S, C). The decoder reads the target
(B, T), which begins with `begin`, looks at the memory, and predicts the token after each position. For
writing, it keeps the keys and values of both. The target's grow by one position with each token; the memory's
are computed once.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.arrays import to_device
from tinygen.models.language.causal_lm import next_token
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.text.beam import Hypothesis, beam_search
from tinygen.types import Floats, Ids


class DecoderCache(NamedTuple):
    """Keys and values of one layer of a decoder."""

    target: nn.KVCache
    memory: nn.KVCache

    def take(self, rows: Ids) -> None:
        """Keep these rows of the batch, in this order."""
        self.target.take(rows)
        self.memory.take(rows)


class EncoderDecoder(nn.Module):
    """The base class. A model has `memory`, `logits`, layers in `decoder`, and a `config` with the tokens
    `pad`, `begin` and `end`. It gets `forward`, `loss`, `sample`, `greedy_search` and `beam_search`."""

    config: Any
    decoder: nn.ModuleList

    def memory(self, source: Array) -> Tensor:
        """The encoder's output for a source (B, S), which the decoder looks at: (B, S, C). Vectors at padding
        have no meaning."""
        raise NotImplementedError

    def logits(
        self, target: Array, memory: Tensor, source: Array, caches: list[DecoderCache] | None = None
    ) -> Tensor:
        """Logits (B, T, V) for target (B, T) and the memory (B, S, C) of source (B, S). With caches, only
        for the positions that are not in them yet, and the caches grow by these."""
        raise NotImplementedError

    def forward(self, source: Ids, target: Ids) -> Tensor:
        """Logits (B, T, V) of the token after each of target (B, T), which begins with `begin`, for a source
        (B, S). This is teacher forcing: the decoder reads the right tokens, not its own.

        Raises ValueError unless both are (batch, tokens) with the same batch, and for a source of nothing but
        padding; IndexError for tokens outside the vocabulary."""
        source, target = ids_of(source), ids_of(target)
        require_pairs(source, target, self.config.pad)
        return self.logits(target, self.memory(source), source)

    def loss(self, source: Ids, target: Ids) -> Tensor:
        """The mean cross-entropy in nats of all tokens but padding: the decoder reads target (B, T) without
        its last token, and is to write it without its first. Raises the errors of `forward`, and ValueError
        for a target of fewer than two tokens."""
        return self.target_loss(source, target, 0.0)

    def target_loss(self, source: Ids, target: Ids, label_smoothing: float) -> Tensor:
        """`loss` with smoothed labels."""
        target = ids_of(target)
        if target.ndim == 2 and target.shape[1] < 2:
            raise ValueError(f"a target has at least two tokens, begin and end, got {target.shape}")
        logits, pad = self(source, target[:, :-1]), self.config.pad
        return ops.cross_entropy(logits, target[:, 1:], ignore_index=pad, label_smoothing=label_smoothing)

    # -- writing -----------------------------------------------------------------------------------

    def caches(self) -> list[DecoderCache]:
        """Empty caches for the layers of the decoder."""
        longest = getattr(self.config, "block_size", ANY_LENGTH)
        return [DecoderCache(nn.KVCache(longest), nn.KVCache(longest)) for _ in self.decoder]

    def greedy_search(self, source: Ids, max_length: int) -> Ids:
        """The most probable token at each step, for source (B, S); the rest is as in `sample`."""
        return self.sample(source, max_length, temperature=0, rng=0)

    def sample(
        self,
        source: Ids,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        rng: RNGLike,
    ) -> Ids:
        """At most n >= 1 tokens for each source (B, S), without `begin`: (B, m), m <= n. After its `end` a
        row has `pad`. The rest is as in `sample_steps`."""
        with closing(self.sample_steps(source, temperature, top_k, top_p, rng=rng)) as tokens:
            return np.stack([*islice(tokens, n)], axis=1)

    def sample_steps(
        self,
        source: Ids,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        rng: RNGLike,
    ) -> Generator[Ids, None, None]:
        """The tokens for source (B, S), one (B,) after the other, until each row has had its `end`.
        Temperature 0 takes the most probable token; `top_k` and `top_p` are as in `text.decoding.sample`. For
        several samples of one source, repeat its row.

        The model is in evaluation mode until the generator is closed."""
        source, c, rng = to_device(ids_of(source), "cpu"), self.config, as_generator(rng)
        target = np.full((len(source), 1), c.begin)  # (B, 1)
        require_pairs(source, target, c.pad)
        ended = np.zeros(len(source), bool)
        with self.eval_mode():
            with no_grad():
                memory, caches = self.memory(source), self.caches()
            while not ended.all():
                with no_grad():
                    logits = self.logits(target, memory, source, caches)[:, -1].numpy()  # (B, V)
                token = np.where(ended, c.pad, next_token(logits, temperature, top_k, top_p, rng=rng))
                ended |= token == c.end
                target = np.concatenate([target, token[:, None]], axis=1)  # (B, t + 1)
                yield token

    def beam_search(
        self, source: Ids, max_length: int, width: int = 4, alpha: float = 0.6
    ) -> list[list[Hypothesis]]:
        """For each row of source (B, S) at most `width` targets, the best first (`text/beam.py`). The
        defaults are from Vaswani et al. 2017 (section 6.1). The model is in evaluation mode meanwhile."""
        source, c = to_device(ids_of(source), "cpu"), self.config
        require_pairs(source, source, c.pad)

        def search(row: Array) -> list[Hypothesis]:
            memory, caches = self.memory(row), self.caches()
            before = np.zeros((1, 0), int)  # the beginnings in the caches

            def next_log_probs(live: Ids) -> Floats:
                nonlocal before
                parents = (live[:, None, :-1] == before).all(axis=-1).argmax(axis=1)  # (N,)
                for cache in caches:
                    cache.take(parents)
                before = live
                logits = self.logits(live, memory, row, caches).squeeze(1)  # (N, V)
                log_probs: Floats = ops.log_softmax(logits.astype(np.float64)).numpy()
                return log_probs

            return beam_search(next_log_probs, width, max_length, alpha, begin=c.begin, end=c.end)

        with self.eval_mode(), no_grad():
            return [search(row[None]) for row in source]


ANY_LENGTH = 2**31
"""Positions in a cache of a model without a longest text."""


def ids_of(x: Any) -> Array:
    """The array of ids; those on a GPU stay there."""
    return (x if isinstance(x, Tensor) else Tensor(x)).data


def require_pairs(source: Array, target: Array, pad: int) -> None:
    """Raises ValueError unless source and target are (B, S) and (B, T), and each source has a token."""
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        raise ValueError(
            f"source must be (B, S) and target (B, T), got {source.shape} and {target.shape}: pad the texts "
            "of a batch to one length"
        )
    if not (source != pad).any(axis=1).all():
        raise ValueError(f"a source is empty: each row needs a token besides the padding, {pad}")
