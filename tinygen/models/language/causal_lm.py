"""Generation, token by token: the part that language models share which read from left to right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from tinygen import nn
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.text.decoding import greedy_tokens, sample
from tinygen.types import Ids, IdsLike, Mask, NumpyArray

Reader = Callable[[Ids], NumpyArray]
"""Takes the next tokens (B, T) and returns the logits (B, V) of the token after them."""


def next_token(
    logits: NumpyArray,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    *,
    rng: np.random.Generator,
) -> Ids:
    """A token (B,) drawn by logits (B, V) (`text.decoding.sample`); at temperature 0 the most probable."""
    return greedy_tokens(logits) if temperature == 0 else sample(logits, rng, temperature, top_k, top_p)


class LanguageModel(nn.Module):
    """The base class of all models here that write text. A model has a `reader`; it gets `sample` and
    `sample_steps`."""

    def reader(self) -> Reader:
        """A function that reads a text piece by piece: it takes the next tokens (B, T) and returns the logits
        (B, V) of the token after them. It remembers the pieces that it has read."""
        raise NotImplementedError

    def sample(
        self,
        idx: IdsLike,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        end: int | Collection[int] = (),
        rng: RNGLike,
        **context: Any,
    ) -> Ids:
        """The tokens idx (B, T), T >= 1, and n more after them: (B, T + n), or fewer if all rows have ended.
        The rest is as in `sample_steps`."""
        idx = np.asarray(idx)
        steps = self.sample_steps(idx, temperature, top_k, top_p, end=end, rng=rng, **context)
        with closing(steps) as tokens:
            return np.concatenate([idx, *[token[:, None] for token in islice(tokens, n)]], axis=1)

    def sample_steps(
        self,
        idx: IdsLike,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        end: int | Collection[int] = (),
        rng: RNGLike,
        **context: Any,
    ) -> Generator[Ids, None, None]:
        """The tokens after idx (B, T), T >= 1: one (B,) after the other, until each row has written its
        `end`, a token or several; without `end` they never stop. A row that has ended repeats its end token.
        For several samples of one text, repeat its row.

        Temperature 0 takes the most probable token; `top_k` and `top_p` are as in `text.decoding.sample`.
        `context` has the arguments of the model's `reader`, such as the condition of a WaveNet, or the mask
        of a padded batch (`CausalLM.reader`). The model is in evaluation mode until the generator is
        closed."""
        rng, ends = as_generator(rng), np.ravel([*end] if isinstance(end, Collection) else end)
        read, new = self.reader(**context), np.asarray(idx)
        ended = np.zeros(len(new), bool)
        with self.eval_mode():
            while not ended.all():
                with no_grad():
                    logits = read(new)
                token = np.where(ended, new[:, -1], next_token(logits, temperature, top_k, top_p, rng=rng))
                ended = np.isin(token, ends)
                yield token
                new = token[:, None]


class CausalLM(LanguageModel):
    """The base class of `GPT` and `Llama`. A model has blocks `h`, a `config` with `block_size`, `features`,
    and an `lm_head` that makes logits of them.

    Keys and values are cached as long as everything fits into block_size. Beyond that the context is the last
    block_size tokens; their positions change with every step, so nothing can be cached."""

    config: Any
    h: nn.ModuleList
    lm_head: nn.Linear

    def features(self, idx: Ids, caches: list[nn.KVCache] | None = None, mask: Mask | None = None) -> Tensor:
        """The stream after the last norm, (B, T, C). With caches, idx are the tokens that come after the
        cached ones, and the caches grow by them. `mask` (B, S), for the cached tokens and these, is False at
        padding: no token looks at it, and positions are counted without it."""
        raise NotImplementedError

    def reader(self, mask: Mask | None = None) -> Reader:
        """As in LanguageModel. In a batch of texts with different lengths, the shorter ones are padded on the
        left; then `mask` has the shape of the first piece, and is False at padding. Padding changes nothing.

        Raises ValueError for a mask of another shape, and for one with padding behind a text; TypeError for
        one that is not of bools."""
        block_size = self.config.block_size
        caches = [nn.KVCache(block_size) for _ in self.h]
        text: Ids | None = None  # all tokens so far, (B, T)

        def read(new: Ids) -> NumpyArray:
            nonlocal text, mask
            if mask is not None:
                more = np.ones_like(new, bool)
                mask = left_padding(mask, new) if text is None else np.concatenate([mask, more], axis=1)
            text = new if text is None else np.concatenate([text, new], axis=1)
            if text.shape[1] <= block_size:
                x = self.features(text[:, caches[0].length :], caches, mask)
            else:
                x = self.features(text[:, -block_size:], mask=None if mask is None else mask[:, -block_size:])
            return self.lm_head(x[:, -1]).numpy()  # (B, V)

        return read


def left_padding(mask: Mask, idx: Ids) -> Mask:
    """`mask` as an array, if it can be the mask of idx (B, T)."""
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(
            f"the mask has dtype {mask.dtype}: bools are needed, True at tokens, False at padding"
        )
    if mask.shape != idx.shape:
        raise ValueError(f"the mask has shape {mask.shape}, the tokens {idx.shape}: they must be the same")
    if not mask[:, -1].all() or (mask[:, :-1] > mask[:, 1:]).any():
        raise ValueError(
            "a text ends with padding: put the padding before the texts, where it changes nothing"
        )
    return mask
