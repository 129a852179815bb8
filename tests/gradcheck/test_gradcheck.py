"""The plain checker: right gradients pass, and every kind of wrong one is found."""

import re

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, gradcheck, op, ops
from tinygen.gradcheck import Verdict

rng = np.random.default_rng(0)
MATRIX = rng.normal(size=(2, 3))
WEIGHT = rng.normal(size=(3,))


@op
def softmax_without_gradient(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True), lambda g: np.zeros_like(g)


@op
def twice(x):
    return x * x, lambda g: g * x


@op
def wrong_sign(a, b):
    return a - b, lambda g: g, lambda g: g


@op
def without_unbroadcast(x, w):
    # The tape un-broadcasts by itself; this does so by hand, along the wrong way of summing.
    return x * w, lambda g: g * w, lambda g: (g * x)[0]


@op
def tanh_gelu_with_erf_gradient(x):
    cdf = 0.5 * (1 + ops.erf(x * 0.5**0.5))
    slope = cdf + x * np.exp(-0.5 * x * x) / (2 * np.pi) ** 0.5
    return ops.gelu(x, "tanh"), lambda g: g * slope


@op
def right_only_for_ones(x):
    return x * x, lambda g: 2 * x


@op
def right_only_for_equal_weights(x):
    y = x - x.mean()
    return y * y, lambda g: 2 * y * g.mean()


@op
def wrong_in_one_entry(x):
    def dx(g):
        d = 3 * g
        d[0, 1] *= 1.0001
        return d

    return 3 * x, dx


@op
def right_only_for_one_output_at_a_time(x):
    return x * x, lambda g: 2 * x * g * (np.count_nonzero(g) == 1)


@op
def off_by_a_little(x):
    return x * x, lambda g: g * (2.00002 * x)


@op
def not_a_number(x):
    return x * x, lambda g: g * np.nan


@op
def transposed(a):
    return a @ a, lambda g: g @ a + a @ g


WRONG = {
    "a factor of two": (twice, MATRIX),
    "a sign": (wrong_sign, MATRIX, MATRIX),
    "a softmax whose gradient is zero": (softmax_without_gradient, MATRIX),
    "a broadcast axis that was not summed": (without_unbroadcast, MATRIX, WEIGHT),
    "the tanh formula forward and erf's backward": (tanh_gelu_with_erf_gradient, MATRIX),
    "a rule that is right only when ones come back": (right_only_for_ones, MATRIX),
    "the same, for a function with one number as value": (lambda x: right_only_for_ones(x), np.array(3.0)),
    "a rule that is right only when equal numbers come back": (right_only_for_equal_weights, MATRIX),
    "a rule that is right only when one number comes back": (right_only_for_one_output_at_a_time, MATRIX),
    "one part in 100,000": (off_by_a_little, MATRIX),
    "one entry off by 1e-4": (wrong_in_one_entry, MATRIX),
    "NaN": (not_a_number, MATRIX),
    "a missing transpose": (transposed, rng.normal(size=(3, 3))),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_gradient_is_found(case):
    report = gradcheck(*case)
    assert not report
    assert report.verdict in (Verdict.WRONG, Verdict.DEAD)
    with pytest.raises(AssertionError, match="the tape says"):
        report.raise_if_failed()


def test_the_zero_gradient_of_softmax_would_pass_under_a_sum():
    """Why the outputs are weighted by random numbers."""
    assert gradcheck(lambda x: softmax_without_gradient(x).sum(axis=-1), MATRIX)


def test_the_message_names_the_worst_entry_both_values_and_how_many_are_off():
    words = str(gradcheck(wrong_in_one_entry, MATRIX))
    assert "1 of 6 entries off, at [0, 1] the tape says" in words
    tape, numeric = (float(w) for w in re.findall(r"says? (-?[0-9.]+[0-9])", words)[:2])
    assert tape / numeric == pytest.approx(1.0001, abs=1e-5)


def test_second_order_finds_what_first_order_cannot():
    @op
    def square(x):  # the gradient is right, but x is hidden from the replay as a constant
        hidden = x.numpy() if isinstance(x, Tensor) else x
        return x * x, lambda g: g * (2 * hidden)

    assert gradcheck(square, MATRIX)
    report = gradcheck(square, MATRIX, order=2)
    assert report.verdict is Verdict.DEAD
    assert [r.order for r in report.results if r.verdict is not Verdict.OK] == [2]


def test_right_gradients_pass():
    assert gradcheck(lambda x: np.tanh(x) * x, MATRIX, order=2)
    assert gradcheck(lambda x, w: (x * w).sum(), MATRIX, WEIGHT, order=2)
    assert gradcheck(lambda x: x * x, np.array(3.0), order=2)
    assert gradcheck(lambda x: x * x, np.zeros((2, 0)), order=2)


def test_functions_whose_value_is_a_view_of_their_input():
    assert gradcheck(lambda x: x, MATRIX)
    assert gradcheck(lambda x: x.reshape(3, 2), MATRIX, order=2)
    assert gradcheck(lambda x: x[:0], MATRIX, order=2)


def test_large_and_small_numbers():
    """The step grows with the entry, and the tolerance with the derivative."""
    assert gradcheck(lambda x: x * x, np.array([1e6, -1e3, 1e-6]), order=2)
    assert gradcheck(lambda x: 1e4 * x[0] * x[1] * x[2], np.array([1.0, 20.0, 3.0]))


def test_weights_are_of_both_signs_and_none_is_small():
    from tinygen.gradcheck.arguments import weights

    w = weights((1000,), np.random.default_rng(0))
    assert np.abs(w).min() >= 0.5
    assert np.abs(w).max() <= 1.5
    assert 0.4 < (w > 0).mean() < 0.6


def test_several_outputs():
    assert gradcheck(lambda x: tuple(np.split(x, [1], axis=1)), MATRIX, order=2)
    assert not gradcheck(lambda x: (x * x, twice(x)), MATRIX)


def test_other_inputs_are_passed_as_they_are():
    assert gradcheck(lambda ids, w, none: ops.embedding(w, ids), np.array([0, 1, 1]), MATRIX, None)


def test_float32_inputs_are_checked_in_float64_and_once_in_float32():
    seen = []
    assert gradcheck(lambda x: (seen.append(x.dtype), x * x)[1], MATRIX.astype(np.float32))
    assert seen.count(np.dtype(np.float32)) == 1
    assert set(seen) == {np.dtype(np.float64), np.dtype(np.float32)}


@pytest.mark.parametrize(
    "x", [MATRIX.T, MATRIX[::-1, ::2], np.broadcast_to(WEIGHT, (2, 3))], ids=["T", "steps", "stride 0"]
)
def test_odd_strides(x):
    before = x.copy()
    assert gradcheck(np.exp, x, order=2)
    np.testing.assert_array_equal(x, before)


def test_parameters_that_are_not_inputs_may_take_part():
    w = Tensor(WEIGHT, requires_grad=True)
    assert gradcheck(lambda x: x * w, MATRIX, order=2)
    assert w.grad is None


def test_it_works_under_no_grad():
    with tinygen.no_grad():
        assert not gradcheck(twice, MATRIX)


def test_the_seed_gives_the_same_weights():
    sent = []

    @op
    def watched(x):
        return x * 1, lambda g: (sent.append(g.copy()), g)[1]

    assert gradcheck(watched, MATRIX)
    first, sent[:] = list(sent), []
    assert gradcheck(watched, MATRIX)
    np.testing.assert_array_equal(first, sent)
    assert len(np.unique(np.abs(first[-1]))) == MATRIX.size  # no two weights are equal


def test_nothing_to_check():
    with pytest.raises(TypeError, match="nothing to check"):
        assert gradcheck(lambda x: x, np.arange(3))
