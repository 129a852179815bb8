"""Responses to prompts: drawn from a policy, and their log-probabilities under it.

A batch is `Responses`: tokens (B, T), each row a prompt and then a response, and a mask (B, T), True where a
token belongs to the response. Values of single tokens (log-probabilities, rewards, values, advantages) are
(B, T - 1): column t belongs to token t + 1, the action that the policy took after reading tokens 0 ... t.
`action_mask` (B, T - 1) is the mask for them. Padding is on the right, where a causal model does not see it.

A policy is any module that is called like GPT: `model(tokens)` -> (logits, _).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from tinygen import ops
from tinygen.nn import Module
from tinygen.ops.random import RNGLike
from tinygen.rows import batch_count
from tinygen.tensor import Array
from tinygen.types import Ids, Mask, TensorLike

if TYPE_CHECKING:
    from tinygen.models.language.gpt import GPT


class Responses(NamedTuple):
    """A batch of prompts with their responses."""

    tokens: Ids  # (B, T)
    mask: Mask  # (B, T), True where a token belongs to the response

    @classmethod
    def from_tokens(cls, tokens: Ids, prompt_length: int, end: int | None = None) -> Self:
        """Tokens (B, T) whose first `prompt_length` columns are the prompt; a response ends with `end`."""
        tokens = np.asarray(tokens)
        return cls(tokens, response_mask(tokens, prompt_length, end))

    @property
    def action_mask(self) -> Mask:
        """The mask for values of single tokens, (B, T - 1)."""
        require_bools(self.mask)
        return self.mask[:, 1:]

    def log_probs(self, model: Module, temperature: float = 1.0) -> TensorLike:
        """`token_log_probs` of the tokens: (B, T - 1)."""
        return token_log_probs(model, self.tokens, temperature)


def token_log_probs(model: Module, tokens: Ids, temperature: float = 1.0) -> TensorLike:
    """ln π of each token but the first, given the tokens before it: (B, T) -> (B, T - 1), without dropout.

    `temperature` must be the one that the tokens were drawn at: a policy that is sampled at 0.7 is the
    softmax of logits / 0.7 (Huang et al. 2024, *The N implementation details of RLHF with PPO*)."""
    tokens = np.asarray(tokens)
    with model.eval_mode():  # with dropout, the ratio of a policy to itself would not be 1
        logits, _ = model(tokens[:, :-1])
    return -ops.cross_entropy(logits / temperature, tokens[:, 1:], reduction="none")


def rollout(
    model: GPT,
    prompts: Ids,
    length: int,
    temperature: float = 1.0,
    end: int | None = None,
    *,
    rng: RNGLike,
) -> Responses:
    """Draw a response of up to `length` tokens to each of the prompts (B, P): tokens and mask (B, P +
    length).

    A response ends with the token `end`, if it comes; the rest of the row is filled with `end`, outside the
    mask. Tokens are drawn from the whole distribution: without the improbable ones (top-k, top-p), they would
    come from another policy than the one that scores them, and its divergence could seem negative."""
    prompts = np.asarray(prompts)
    tokens: Ids = model.sample(prompts, length, temperature, rng=rng)
    mask = response_mask(tokens, prompts.shape[1], end)
    if end is not None:
        tokens[:, prompts.shape[1] :][~mask[:, prompts.shape[1] :]] = end
    return Responses(tokens, mask)


def response_mask(tokens: Ids, prompt_length: int, end: int | None = None) -> Mask:
    """True for the tokens (B, T) after the prompt, up to and including the first `end` among them."""
    mask = np.ones(tokens.shape, bool)
    mask[:, :prompt_length] = False
    if end is not None:
        ends = (tokens == end) & mask
        mask &= np.cumsum(ends, axis=1) - ends == 0  # no `end` before this token
    return mask


def require_bools(mask: Mask | None) -> None:
    """Raise TypeError for a mask of numbers, which would mean something else as an index or under ~."""
    if getattr(mask, "dtype", None) != np.dtype(bool):
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(
            f"the mask has dtype {kind}: bools are needed, True where a token counts; of ones and zeros, "
            "take mask.astype(bool)"
        )


def last_true(mask: Mask) -> Ids:
    """The column of each row's last True: (B, T) -> (B,). ValueError for a row without one."""
    require_bools(mask)
    if not mask.any(axis=1).all():
        raise ValueError("a row of the mask has no response: there is no last token")
    columns: Ids = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    return columns


def lengths(mask: Mask) -> Array:
    """The number of tokens of each response, as float32: (B, T) -> (B,). ValueError for a row without one."""
    require_bools(mask)
    if not mask.any(axis=1).all():
        raise ValueError("a row of the mask has no response: a mean over its tokens does not exist")
    counts: Array = mask.sum(axis=1, dtype=np.float32)
    return counts


def zeros_outside(x: TensorLike, mask: Mask) -> TensorLike:
    """x where the mask is True, and 0 elsewhere, even if x is NaN or infinite there."""
    return np.where(mask, x, 0.0)


def masked_mean(x: TensorLike, mask: Mask) -> TensorLike:
    """The mean over the entries of x where the mask is True; the others may be NaN. ValueError for a mask
    without a True."""
    require_bools(mask)
    count = batch_count(int(mask.sum()))
    if count == 0:
        raise ValueError(f"the mask {mask.shape} is False everywhere: there is nothing to take the mean of")
    return zeros_outside(x, mask).sum() / count
