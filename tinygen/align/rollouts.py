"""Responses to prompts: drawn from a policy, and what the policy says about them.

A batch is tokens (B, T), prompts and responses one after the other, with a mask (B, T) that is True where a
token is of the response. What is said about single tokens (log-probabilities, rewards, values, advantages) is
(B, T - 1): column t is about token t + 1, the one that the policy chose having read up to t. `mask[:, 1:]`
belongs to it. Padding stands on the right, where a causal model does not see it.

A policy is any module that is called like GPT: `model(tokens)` -> (logits, _).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygen import ops
from tinygen.nn import Module
from tinygen.tensor import Array
from tinygen.types import Ids, Mask

if TYPE_CHECKING:
    from tinygen.models.language.gpt import GPT


def log_probs(model: Module, tokens: Any, temperature: float = 1.0) -> Any:
    """ln π of each token but the first, given those before it: tokens (B, T) -> (B, T - 1), without dropout.

    `temperature` is the one that the tokens were drawn at: a policy that is sampled at 0.7 is the softmax of
    logits / 0.7, and any other score of its samples is that of another policy (Huang et al. 2024, *The N
    implementation details of RLHF with PPO*)."""
    tokens = np.asarray(tokens)
    with model.evaluating():  # with dropout, the ratio of a policy to itself would not be 1
        logits, _ = model(tokens[:, :-1])
    return -ops.cross_entropy(logits / temperature, tokens[:, 1:], reduction="none")


def rollout(
    model: GPT,
    prompts: Any,
    length: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    end: int | None = None,
) -> tuple[Ids, Mask]:
    """Draw a response of up to `length` tokens to each of the prompts (B, P): tokens (B, P + length), mask.

    A response ends with the token `end`, if it comes; the rest of the row is filled with `end`, outside the
    mask. Tokens are drawn from all of the distribution: with the improbable ones cut off (top-k, top-p), they
    would come from another policy than the one that scores them, and its divergence could seem negative."""
    prompts = np.asarray(prompts)
    tokens: Ids = model.generate(prompts, length, rng, temperature)
    mask = response_mask(tokens, prompts.shape[1], end)
    if end is not None:
        tokens[:, prompts.shape[1] :][~mask[:, prompts.shape[1] :]] = end
    return tokens, mask


def response_mask(tokens: Any, prompt_length: int, end: int | None = None) -> Mask:
    """True for the tokens (B, T) after the prompt, up to and with the first `end` among them."""
    mask = np.ones(tokens.shape, bool)
    mask[:, :prompt_length] = False
    if end is not None:
        ends = (tokens == end) & mask
        mask &= np.cumsum(ends, axis=1) - ends == 0  # no `end` before this token
    return mask


def require_bools(mask: Any) -> None:
    """Raise TypeError for a mask of numbers, which as an index, or under ~, would mean something else."""
    if getattr(mask, "dtype", None) != np.dtype(bool):
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(
            f"the mask has dtype {kind}: bools are needed, True where a token counts; of ones and zeros, "
            "take mask.astype(bool)"
        )


def last(mask: Mask) -> Ids:
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


def masked_mean(x: Any, mask: Mask) -> Any:
    """The mean over the entries of x that the mask lets through; what the others hold does not matter.
    ValueError for a mask without a True."""
    require_bools(mask)
    count = int(mask.sum())
    if count == 0:
        raise ValueError(f"the mask {mask.shape} is False everywhere: there is nothing to take the mean of")
    return np.where(mask, x, 0.0).sum() / count
