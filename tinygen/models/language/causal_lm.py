"""Generation, token by token: the part that language models share which read from left to right."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from tinygen import nn
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.text.decoding import greedy_tokens, sample
from tinygen.types import Ids


def next_token(
    logits: Any, rng: np.random.Generator, temperature: float, top_k: int | None, top_p: float | None
) -> Ids:
    """A token (B,) drawn by logits (B, V) (`text.decoding.sample`); at temperature 0 the most probable."""
    return greedy_tokens(logits) if temperature == 0 else sample(logits, rng, temperature, top_k, top_p)


class LanguageModel(nn.Module):
    """The base class of all models here that write text. A model has a `reader`; it gets `sample` and
    `sample_steps`."""

    def reader(self) -> Callable[[Any], Any]:
        """A function that reads a text piece by piece: it takes the next tokens (B, T) and returns the logits
        (B, V) of the token after them. It remembers the pieces that it has read."""
        raise NotImplementedError

    def sample(
        self,
        idx: Any,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        rng: RNGLike,
        **context: Any,
    ) -> Any:
        """The tokens idx (B, T), T >= 1, and n more after them: (B, T + n). The rest is as in
        `sample_steps`."""
        idx = np.asarray(idx)
        with closing(self.sample_steps(idx, temperature, top_k, top_p, rng=rng, **context)) as tokens:
            return np.concatenate([idx, *[token[:, None] for token in islice(tokens, n)]], axis=1)

    def sample_steps(
        self,
        idx: Any,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        rng: RNGLike,
        **context: Any,
    ) -> Generator[Any, None, None]:
        """The tokens after idx (B, T), T >= 1: one (B,) after the other, without end. Temperature 0 takes the
        most probable token; `top_k` and `top_p` are as in `text.decoding.sample`. `context` has the
        arguments of the model's `reader`, such as the condition of a WaveNet.

        The model is in evaluation mode until the generator is closed."""
        rng = as_generator(rng)
        read, new = self.reader(**context), np.asarray(idx)
        with self.eval_mode():
            while True:
                with no_grad():
                    logits = read(new)
                token = next_token(logits, rng, temperature, top_k, top_p)
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

    def features(self, idx: Any, caches: list[nn.KVCache] | None = None) -> Tensor:
        """The stream after the last norm, (B, T, C). With caches, idx are the tokens that come after the
        cached ones, and the caches grow by them."""
        raise NotImplementedError

    def reader(self) -> Callable[[Any], Any]:
        block_size = self.config.block_size
        caches = [nn.KVCache(block_size) for _ in self.h]
        text: Any = None  # (B, T) all tokens so far

        def read(new: Any) -> Any:
            nonlocal text
            text = new if text is None else np.concatenate([text, new], axis=1)
            if text.shape[1] <= block_size:
                x = self.features(text[:, caches[0].length :], caches)
            else:
                x = self.features(text[:, -block_size:])
            return self.lm_head(x[:, -1]).numpy()  # (B, V)

        return read
