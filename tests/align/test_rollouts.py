"""Drawing and scoring responses: masks, ends, temperature, dropout; and SFT on them."""

import itertools
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from policies import Table, gpt

from tinygen import Tensor, align, no_grad, ops
from tinygen.align import reward, rollouts
from tinygen.align.rollouts import (
    Responses,
    last_true,
    lengths,
    masked_mean,
    response_mask,
    rollout,
    token_log_probs,
)
from tinygen.align.sft import sft_loss, sft_targets


def tokens(b, t, vocab_size=4, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, (b, t))


# -- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_log_probs_by_hand(temperature):
    """Column t is about token t + 1, and the logits are divided by the temperature."""
    policy, x = gpt(), tokens(3, 6)
    with no_grad():
        logits = policy(x)[0].numpy() / temperature
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    by_hand = [[math.log(p[b, t, x[b, t + 1]]) for t in range(5)] for b in range(3)]
    np.testing.assert_allclose(token_log_probs(policy, x, temperature).numpy(), by_hand, rtol=1e-12)


def test_scores_are_of_the_policy_that_was_sampled():
    """At temperature 0.5, token frequencies agree with `log_probs` at 0.5: each count of 20,000 within 6
    standard deviations, 4 · 2e-9; and not with those at 1."""
    policy, n = gpt(), 20_000
    prompts = np.zeros((n, 1), np.int64)
    drawn, _ = rollout(policy, prompts, 1, rng=0, temperature=0.5)
    counts = np.bincount(drawn[:, 1], minlength=4)
    every = np.stack([np.zeros(4, np.int64), np.arange(4)], axis=1)
    p = np.exp(token_log_probs(policy, every, 0.5).numpy()[:, 0])
    assert np.all(np.abs(counts - n * p) < 6 * np.sqrt(n * p * (1 - p)))
    p = np.exp(token_log_probs(policy, every, 1.0).numpy()[:, 0])
    assert np.any(np.abs(counts - n * p) > 20 * np.sqrt(n * p * (1 - p)))


def test_no_dropout_in_a_policy_pass():
    """The same twice, as in evaluation mode; and the model is as it was, also after an error."""
    policy, x = gpt(dropout=0.5).train(), tokens(3, 6)
    first = token_log_probs(policy, x).numpy()
    np.testing.assert_array_equal(first, token_log_probs(policy, x).numpy())
    assert all(module.training for _, module in policy.named_modules())
    with pytest.raises(IndexError):
        token_log_probs(policy, x + 4)
    assert policy.training
    np.testing.assert_array_equal(first, token_log_probs(policy.eval(), x).numpy())
    assert not policy.training
    with policy.train().eval_mode():
        assert not any(module.training for _, module in policy.named_modules())


# -- masks and ends --------------------------------------------------------------------------------


def test_the_mask_by_hand():
    x = np.array([[9, 1, 2, 9, 3, 9], [9, 1, 9, 9, 9, 9], [9, 9, 1, 2, 3, 4]])
    wanted = [[0, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]
    np.testing.assert_array_equal(response_mask(x, 2, end=9), np.array(wanted, bool))
    np.testing.assert_array_equal(response_mask(x, 2), np.arange(6) >= np.full((3, 1), 2))
    np.testing.assert_array_equal(last_true(response_mask(x, 2, end=9)), [3, 2, 5])
    with pytest.raises(ValueError, match="no response"):
        last_true(np.zeros((2, 3), bool))


def test_responses_with_an_end_are_a_distribution():
    """All that can be said in up to four tokens, cut off or ended by 0: their probabilities sum to 1."""
    policy = Table(3, 4, np.random.default_rng(0))
    x = np.array([(1, *rest) for rest in itertools.product(range(3), repeat=4)])
    mask = response_mask(x, 1, end=0)
    _, one_of_each = np.unique(np.where(mask, x, -1), axis=0, return_index=True)
    logp = np.where(mask[:, 1:], token_log_probs(policy, x).numpy(), 0).sum(axis=1)
    assert len(one_of_each) == 1 + 2 + 4 + 8 + 16
    assert np.exp(logp[one_of_each]).sum() == pytest.approx(1, rel=1e-12)
    assert np.exp(logp).sum() > 1.1  # with the padding that follows an end counted as texts of their own


def test_a_rollout():
    policy, prompts = gpt(), tokens(50, 2)
    x, mask = rollout(policy, prompts, 6, rng=0, end=0)
    np.testing.assert_array_equal(x[:, :2], prompts)
    np.testing.assert_array_equal(mask, response_mask(x, 2, end=0))
    assert np.all(x[:, 2:][~mask[:, 2:]] == 0)
    assert 0 < mask[:, -1].sum() < 50  # some were cut off, some ended
    again, _ = rollout(policy, prompts, 6, rng=0, end=0)
    np.testing.assert_array_equal(x, again)
    _, whole = rollout(policy, prompts, 6, rng=0)
    assert whole[:, 2:].all()
    assert not whole[:, :2].any()


def test_padding_changes_nothing():
    """Tokens after the end do not change the results for the response."""
    policy, x = gpt(), tokens(5, 7)
    mask = response_mask(x, 2, end=0)
    other = np.where(mask | (np.arange(7) < 2), x, 3)
    a, b = (token_log_probs(policy, y).numpy()[mask[:, 1:]] for y in (x, other))
    np.testing.assert_array_equal(a, b)


def test_lengths():
    counts = lengths(np.array([[False, True, True], [True, False, False]]))
    np.testing.assert_array_equal(counts, np.float32([2, 1]), strict=True)


def test_models_are_not_imported():
    """A policy is any module: GPT is a name in annotations."""
    assert not response_mask(np.ones((1, 2), int), 2).any()
    assert not hasattr(rollouts, "GPT")
    assert reward.pairwise_loss(np.ones(1), np.ones(1)) == pytest.approx(math.log(2))
    assert not hasattr(reward, "GPT")


def test_masked_mean():
    x, mask = np.array([[1.0, np.inf], [3.0, np.nan]]), np.array([[True, False], [True, False]])
    assert masked_mean(x, mask) == 2
    y = Tensor(np.array([[1.0, 5.0], [3.0, 7.0]]), requires_grad=True)
    masked_mean(y, mask).backward()
    np.testing.assert_array_equal(y.grad, [[0.5, 0], [0.5, 0]])


# -- SFT -------------------------------------------------------------------------------------------


def test_sft_counts_the_response_only():
    policy, x = gpt(), tokens(5, 7)
    mask = response_mask(x, 2, end=0)
    wanted = -token_log_probs(policy, x).numpy()[mask[:, 1:]].mean()
    assert sft_loss(policy, Responses(x, mask)).item() == pytest.approx(wanted, rel=1e-12)
    targets = sft_targets(Responses(x, mask))
    assert targets.shape == (5, 6)
    assert np.all((targets == -1) == ~mask[:, 1:])
    np.testing.assert_array_equal(targets[mask[:, 1:]], x[:, 1:][mask[:, 1:]])


def test_sft_is_the_likelihood_of_the_response_given_the_prompt():
    """Its gradient is the gradient of the mean of -ln π over response tokens. The gradient also flows through
    the prompt, which is read, but not predicted."""
    policy, x = gpt(), tokens(2, 6)
    mask = response_mask(x, 3)
    sft_loss(policy, Responses(x, mask)).backward()
    got = {name: p.grad for name, p in policy.named_parameters()}
    policy.zero_grad()
    logits, _ = policy(x)
    logp = ops.log_softmax(logits)
    picked = [logp[b, t - 1, x[b, t]] for b in range(2) for t in range(3, 6)]
    (-sum(picked) / 6).backward()
    for name, p in policy.named_parameters():
        np.testing.assert_allclose(got[name], p.grad, rtol=1e-9, atol=1e-12, err_msg=name)


def test_no_function_hides_a_file():
    """`from tinygen.align import ppo` is the file; a function of the same name would take its place."""
    for path in Path(align.__file__).parent.glob("[!_]*.py"):
        assert isinstance(getattr(align, path.stem), ModuleType), path.stem


def test_responses_hold_tokens_and_their_masks():
    """`action_mask` belongs to the log_probs: column t is about token t + 1."""
    policy, x = gpt(), tokens(5, 7)
    responses = Responses.from_tokens(x.tolist(), 2, end=0)
    np.testing.assert_array_equal(responses.tokens, x)
    np.testing.assert_array_equal(responses.mask, response_mask(x, 2, end=0))
    np.testing.assert_array_equal(responses.action_mask, responses.mask[:, 1:])
    np.testing.assert_array_equal(
        responses.log_probs(policy, 0.5).numpy(), token_log_probs(policy, x, 0.5).numpy()
    )
