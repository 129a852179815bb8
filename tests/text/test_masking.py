"""BERT's masking: the rule itself from its draws, and its statistics."""

import inspect

import numpy as np
import pytest

from tinygen import ops
from tinygen.text import mask_tokens
from tinygen.text.masking import IGNORED

PAD, CLS, SEP, MASK = 0, 1, 2, 3
V = 1000


def texts(rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Each begins with [CLS], ends with [SEP] and two of padding; no word is [MASK]."""
    ids = np.random.default_rng(seed).integers(4, V, (rows, length))
    ids[:, 0], ids[:, -3], ids[:, -2:] = CLS, SEP, PAD
    return ids


def test_targets_are_the_chosen_tokens_and_others_stay() -> None:
    ids = texts(200, 40)
    inputs, targets = mask_tokens(ids, V, MASK, (PAD, CLS, SEP), rng=0)
    chosen = targets != IGNORED
    np.testing.assert_array_equal(targets[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    assert not chosen[np.isin(ids, (PAD, CLS, SEP))].any()
    assert inputs.shape == targets.shape == ids.shape
    assert {int(x) for x in inputs[inputs != ids]} > {MASK}


FALSE_ALARM, CHECKS = 1e-7, 12  # of all tests below together; and how often they ask `may_be`


def may_be(count: int, n: int, p: float) -> bool:
    """Whether `count` of n independent events may have probability p. By Chernoff's bound, for q > p,
    P(count / n >= q) <= exp(-n KL(q, p)), and alike below p. So all CHECKS checks of two sides together make
    a false alarm at most FALSE_ALARM likely."""
    q = count / n
    kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    return bool(n * kl < np.log(2 * CHECKS / FALSE_ALARM))


def test_15_percent_are_chosen() -> None:
    _, targets = mask_tokens(np.full((400, 500), 9), V, MASK, rng=1)
    assert may_be(int((targets != IGNORED).sum()), targets.size, 0.15)


def test_of_the_chosen_tokens_80_10_10() -> None:
    """Of 200,000 chosen tokens, 80 % become [MASK], 10 % a random token, and 10 % stay. One random token in V
    is [MASK], and one is the token that was there."""
    ids = np.random.default_rng(1).integers(4, V, (400, 500))
    inputs, _ = mask_tokens(ids, V, MASK, rate=1.0, rng=2)
    masked, stayed = int((inputs == MASK).sum()), int((inputs == ids).sum())
    assert may_be(masked, ids.size, 0.8 + 0.1 / V)
    assert may_be(stayed, ids.size, 0.1 + 0.1 / V)
    assert may_be(ids.size - masked - stayed, ids.size, 0.1 * (1 - 2 / V))
    assert not may_be(masked, ids.size, 0.79)  # the test can tell one percent


def test_random_tokens_are_uniform_over_the_vocabulary() -> None:
    """Also over special tokens, as in the published code."""
    ids = np.full((300, 300), 4)
    inputs, targets = mask_tokens(ids, 8, MASK, rate=1.0, rng=3)
    assert (targets == 4).all()
    counts = np.bincount(inputs.ravel(), minlength=8)
    for word in (0, 1, 2, 5, 6, 7):
        assert may_be(int(counts[word]), ids.size, 0.1 / 8)


def test_tokens_are_chosen_independently() -> None:
    """Neighbors are chosen together as often as chance says."""
    _, targets = mask_tokens(np.full((400, 500), 9), V, MASK, rate=0.3, rng=4)
    chosen = targets != IGNORED
    pairs = chosen[:, ::2] & chosen[:, 1::2]
    assert may_be(int(pairs.sum()), pairs.size, 0.09)


def test_rates_of_nothing_and_of_all() -> None:
    ids = texts(3, 9)
    inputs, targets = mask_tokens(ids, V, MASK, rate=0.0, rng=0)
    np.testing.assert_array_equal(inputs, ids)
    assert (targets == IGNORED).all()
    assert (mask_tokens(ids, V, MASK, rate=1.0, rng=0)[1] == ids).all()


def test_the_smallest_draw_chooses_nothing_at_rate_0() -> None:
    class Zero(np.random.Generator):
        def random(self, shape):  # type: ignore[no-untyped-def, override]
            return np.zeros(shape)

    _, targets = mask_tokens(texts(3, 9), V, MASK, rate=0.0, rng=Zero(np.random.PCG64(0)))
    assert (targets == IGNORED).all()


def test_the_mask_may_be_the_first_token() -> None:
    assert (mask_tokens(np.ones((9, 9), int), 2, 0, rate=1.0, rng=0)[0] == 0).any()


def test_what_is_ignored_is_what_the_loss_ignores() -> None:
    assert inspect.signature(ops.cross_entropy).parameters["ignore_index"].default == IGNORED


def test_an_int_is_a_seed_and_the_ids_stay() -> None:
    ids = texts(5, 12)
    before = ids.copy()
    one, same = mask_tokens(ids, V, MASK, rng=5), mask_tokens(ids, V, MASK, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(ids, before)
    assert (mask_tokens(ids, V, MASK, rng=6)[1] != one[1]).any()


def test_errors() -> None:
    ids = texts(2, 9)
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="is no probability"):
            mask_tokens(ids, V, MASK, rate=rate, rng=0)
    for mask_id in (-1, V):
        with pytest.raises(ValueError, match=f"mask_id={mask_id} is not in the vocabulary of 1000 tokens"):
            mask_tokens(ids, V, mask_id, rng=0)
    with pytest.raises(TypeError, match="float64"):
        mask_tokens(ids * 1.0, V, MASK, rng=0)
