"""Each verdict where it is due, and only there."""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, gradcheck, op, ops
from tinygen.gradcheck import Kind, Verdict

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 4))


@op
def halved(x):
    return x * x, lambda g: g * x


# -- kinks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 1e-10, -1e-10])
def test_on_a_kink(at):
    report = gradcheck(lambda x: ops.relu(x) * 2, np.array([at, 1.0, -1.0]))
    assert report.verdict is Verdict.KINK
    assert not report
    assert report.results[0].worst.index == (0,)
    assert report.kind is Kind.KINK
    assert (
        "the slopes on the two sides of input x at [0] differ (`relu`, called at"
        in report.findings[0].sentence
    )


@pytest.mark.parametrize("at", [1e-8, -1e-8, 1e-7, -1e-7, 1e-6, -1e-6, 3e-6, -5e-6, 1e-5, 1e-3])
def test_beside_a_kink(at):
    """The step that is taken first reaches across; finer ones don't."""
    assert gradcheck(lambda x: ops.relu(x) * x.sum(), np.array([at, 1.0, -1.0]))


def test_a_gradient_that_no_kink_allows_is_wrong():
    @op
    def slope_of_two(x):
        return np.maximum(x, 0), lambda g: g * ((x > 0) + 2.5 * (x == 0)).astype(g.dtype)

    assert gradcheck(slope_of_two, np.array([0.5, -0.5]))
    assert gradcheck(slope_of_two, np.array([0.0, 0.5])).verdict is Verdict.WRONG


def test_a_wrong_gradient_elsewhere_is_graver_than_a_kink():
    report = gradcheck(lambda x: halved(x) + ops.relu(x), np.array([0.0, 1.0, -1.0]))
    assert report.verdict is Verdict.WRONG
    assert report.culprit.op == "halved"


def test_a_gradient_in_the_middle_of_a_kink_is_what_differences_say():
    assert gradcheck(np.abs, np.array([0.0, 1.0]))
    assert gradcheck(lambda x: x.max(axis=-1), np.array([[1.0, 1.0, 0.0]]))


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_many_kinks_are_no_alarm(seed):
    """Of 120,000 entries some are near a kink in every random direction."""
    x = np.random.default_rng(seed).normal(size=(300, 400))
    assert gradcheck(lambda x: np.abs(ops.relu(x) - 0.3) * x, x)


# -- the edge of the domain ------------------------------------------------------------------------


def test_a_value_that_is_not_finite():
    report = gradcheck(lambda x: np.log(x).sum(), np.array([1.0, -1.0]))
    assert report.verdict is Verdict.DOMAIN
    assert [r.verdict for r in report.results] == [Verdict.DOMAIN]
    assert report.culprit.op == "log"


def test_at_the_edge():
    report = gradcheck(np.sqrt, np.array([0.0, 1.0]))
    assert report.verdict is Verdict.DOMAIN
    assert "input 0 at [0] is at the edge" in report.findings[0].sentence.replace("input x", "input 0")


@pytest.mark.parametrize("x", [1e-6, 1e-5, 1e-3])
def test_near_the_edge(x):
    assert gradcheck(np.sqrt, np.array([x, 1.0]))


def test_infinities_on_the_way_that_are_gone_in_the_end():
    mask = np.tri(4, dtype=bool)
    assert gradcheck(lambda x: ops.softmax(np.where(mask, x, -np.inf)), rng.normal(size=(4, 4)), order=2)


def test_not_a_number_at_a_point_where_the_function_is_fine():
    """The gradient of a norm at 0 is 0/0."""
    report = gradcheck(lambda x: np.sqrt((x * x).sum()), np.zeros(3))
    assert report.verdict is Verdict.WRONG
    assert report.kind in (Kind.NAN, Kind.DOMAIN)


# -- too coarse to tell ----------------------------------------------------------------------------


def test_float32_inside():
    report = gradcheck(lambda x: np.tanh(x.astype(np.float32) * 2).astype(np.float64) * x, A)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.kind is Kind.INCONCLUSIVE
    assert "`astype`, called at" in report.findings[0].sentence
    assert "computes in float32" in report.findings[0].sentence


@op
def cast_at_the_start(x):
    y = np.tanh(x.astype(np.float32))
    return y, lambda g: g * (1 - y * y)


@op
def cast_on_the_way(x):
    z = np.exp(0.7 * x).astype(np.float32)
    y = np.log1p(z)
    return y * x, lambda g: g * (y + x * np.float32(0.7) * z / (1 + z))


@op
def cast_there_and_back(x):
    z = x.astype(np.float32)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    y = (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


@op
def half_precision(x):
    y = np.tanh(x.astype(np.float16))
    return y, lambda g: g * (1 - y * y)


WEIGHT32 = rng.normal(size=(4, 5)).astype(np.float32)


@op
def product_in_float32(x):
    return x.astype(np.float32) @ WEIGHT32, lambda g: g @ WEIGHT32.T


@pytest.mark.parametrize(
    "f", [cast_at_the_start, cast_on_the_way, cast_there_and_back, half_precision, product_in_float32]
)
def test_float32_inside_an_op(f):
    """The function is a staircase: from near it is flat."""
    report = gradcheck(f, A)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert not any(finding.verdict is Verdict.WRONG for finding in report.findings)
    assert gradcheck(lambda x: f(x) * 2, A).verdict is Verdict.INCONCLUSIVE


def test_a_wrong_gradient_is_told_all_the_same_with_float32_inside():
    report = gradcheck(lambda x: halved(x.astype(np.float32)).astype(np.float64), A)
    assert report.verdict is Verdict.WRONG
    assert report.culprit.op == "halved"


# -- two runs, two values --------------------------------------------------------------------------


def test_random_numbers_of_no_known_generator():
    def noisy(x):
        return x * np.random.default_rng().random(x.shape)

    report = gradcheck(noisy, A)
    assert report.verdict is Verdict.NONDETERMINISTIC
    assert "two runs at the same inputs" in report.findings[0].sentence


GENERATOR = np.random.default_rng(3)


class Noisy:
    def __init__(self, rng):
        self.rng = rng

    def __call__(self, x):
        return ops.dropout(x, 0.5, self.rng)


def closes_over(rng):
    return lambda x: ops.dropout(x, 0.5, rng)


def by_default(x, rng=GENERATOR):
    return ops.dropout(x, 0.5, rng)


def global_one(x):
    return ops.dropout(x, 0.5, GENERATOR)


def global_state(x):
    return x * np.random.random(x.shape)  # noqa: NPY002


@op
def draws_in_its_body(x, rng):
    mask = rng.random(x.shape) > 0.5
    return x * mask, lambda g: g * mask


FOUND = {
    "an argument": (lambda x, rng: ops.dropout(x, 0.5, rng), GENERATOR),
    "what it closes over": (closes_over(GENERATOR),),
    "a default": (by_default,),
    "a global": (global_one,),
    "an attribute": (Noisy(GENERATOR),),
    "in a list, in a closure": (closes_over(GENERATOR),),
    "NumPy's global state": (global_state,),
    "an op that draws": (draws_in_its_body, GENERATOR),
    "two ops that draw": (lambda x, rng: draws_in_its_body(draws_in_its_body(x, rng), rng), GENERATOR),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_generators_that_are_found_are_rewound(case):
    f, *others = case
    before = GENERATOR.bit_generator.state, np.random.get_state()[1:3]  # noqa: NPY002
    assert gradcheck(f, A, *others)
    assert GENERATOR.bit_generator.state == before[0]  # and left as they were found
    np.testing.assert_equal(np.random.get_state()[1:3], before[1])  # noqa: NPY002


# -- nothing arrives -------------------------------------------------------------------------------


def test_dead():
    report = gradcheck(lambda x, y: x.detach() * y, A, A)
    assert [r.verdict for r in report.results] == [Verdict.DEAD, Verdict.OK]
    assert report.verdict is Verdict.DEAD


def test_a_variable_that_makes_no_difference_is_not_dead():
    report = gradcheck(lambda x, y: x * 2, A, A)
    assert report
    assert [r.idle for r in report.results] == [False, True]
    assert "the value does not depend on it here" in str(report)


def test_half_of_the_way_is_cut():
    report = gradcheck(lambda x: x * x.detach(), A)
    assert report.verdict is Verdict.WRONG
    assert report.kind is Kind.DETACHED


# -- a second order that an op does not have ----------------------------------------------------------


def test_a_second_order_that_is_not_supported():
    @op
    def counted_by_indices(x):
        def dx(g):
            d = np.zeros_like(x)
            np.add.at(d, np.arange(3), 2 * x * g)
            return d

        return x * x, dx

    assert gradcheck(counted_by_indices, A)
    report = gradcheck(lambda x: np.tanh(counted_by_indices(x)), A, order=2)
    assert report.verdict is Verdict.UNSUPPORTED
    assert not report
    assert [r.verdict for r in report.results if r.order == 1] == [Verdict.OK]
    assert report.culprit.op == "counted_by_indices"
    assert "the first op without a second order is counted_by_indices" in str(report)
    assert "WRONG" not in str(report)


# -- what is nearly the same -----------------------------------------------------------------------


def test_order_of_gravity():
    ranks = [v.rank for v in (Verdict.OK, Verdict.KINK, Verdict.INCONCLUSIVE, Verdict.UNSUPPORTED)]
    ranks.append(Verdict.DOMAIN.rank)
    ranks += [v.rank for v in (Verdict.NONDETERMINISTIC, Verdict.DEAD, Verdict.WRONG)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e4, 1e8])
def test_a_mistake_is_found_at_every_scale(scale):
    assert gradcheck(lambda x: np.tanh(x) * scale, A)
    assert not gradcheck(lambda x: halved(x) * scale, A)


@pytest.mark.parametrize("scale", [1e-6, 1e3, 1e6])
def test_inputs_of_every_scale(scale):
    assert gradcheck(lambda x: x * x / scale, A * scale)
    assert not gradcheck(lambda x: halved(x) / scale, A * scale)


def test_values_next_to_nothing():
    """1 + 1e-18 is 1: differences are 0 there, and the tape's 1e-18 is no mistake."""
    assert gradcheck(lambda x: np.log1p(np.exp(x - 40)) + np.log(1 + np.exp(x - 40)), A)
    assert gradcheck(ops.softmax, np.array([[100.0, -100.0, 0.0]]), order=2)


def test_cancellation_on_the_way():
    assert gradcheck(lambda x: (x + 1e5) - 1e5 + x, A)
    assert not gradcheck(lambda x: (halved(x) + 1e5) - 1e5, A)


def test_tolerance():
    @op
    def nearly(x):
        return x * x, lambda g: g * x * 2.00001

    assert not gradcheck(nearly, A)
    assert gradcheck(nearly, A, tolerance=1e-4)


def test_nothing_to_check():
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda x: x > 0, A)
    with pytest.raises(TypeError, match="nothing to check"):
        gradcheck(lambda x: None, A)
    with pytest.raises(ValueError, match="order must be 1 or 2"):
        gradcheck(np.exp, A, order=3)


def test_errors_of_the_function_itself_are_the_users():
    with pytest.raises(ValueError, match="matmul"):
        gradcheck(lambda x: x @ x, A)


def test_numbers_and_nested_outputs():
    assert gradcheck(lambda x: {"a": [x * 2, None, (np.exp(x), 3)], "b": Tensor(np.arange(3))}, np.array(0.5))
    report = gradcheck(lambda x: {"a": [x * 2, (halved(x),)]}, A)
    assert report.culprit.op == "halved"


def test_inside_a_checkpoint():
    assert gradcheck(lambda x: tinygen.checkpoint(lambda x: np.tanh(x) * x, x), A, order=2)
    report = gradcheck(lambda x: np.exp(tinygen.checkpoint(lambda x: halved(np.tanh(x)), x)), A)
    assert report.culprit.op == "halved"
