"""Each kind of finding, provoked by the smallest mistake that makes it, and told apart from its neighbours.

`test_corpus.py` has the large collection; here each kind is seen once, with the words that explain it."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, op, ops
from tinygen.gradcheck import Kind

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 4))
SQUARE = rng.normal(size=(4, 4))
W = rng.normal(size=(4,))
CASES = []


def seen_as(kind, words, *inputs, order=1):
    """The decorated op or function is to be found wrong, as `kind`, in these words."""

    def add(f):
        CASES.append(pytest.param(f, inputs, order, kind, words, id=f"{kind.name}-{f.__name__}"))
        return f

    return add


# -- sizes and signs -------------------------------------------------------------------------------


@seen_as(Kind.CONSTANT, "is 0.5 times what it should be (a factor 2 is missing", A)
@op
def square_without_two(x):
    return x * x, lambda g: g * x


@seen_as(
    Kind.CONSTANT, "is 4 times what it should be (4 is the size of axis 1 of x: a mean taken for a sum", A
)
@op
def mean_as_sum(x):
    shape = x.shape
    return x.mean(axis=1), lambda g: np.broadcast_to(g[:, None], shape)


@seen_as(
    Kind.CONSTANT, "√3, and 3 is the size of axis 1 of a", rng.normal(size=(2, 3)), rng.normal(size=(3, 5))
)
@op
def scaled_product(a, b):
    scale = 1 / math.sqrt(a.shape[-1])
    return a @ b * scale, lambda g: g @ b.T, lambda g: a.T @ g


@seen_as(Kind.CONSTANT, "4 is the size of axis 1 of x: n and n - 1 mixed up", A)
@op
def variance(x):
    c = x - x.mean(axis=-1, keepdims=True)
    return (c * c).mean(axis=-1), lambda g: g[:, None] * 2 * c / (c.shape[-1] - 1)


@seen_as(Kind.CONSTANT, "has the wrong sign, and its size is 2 times", A)
@op
def negated_twice(x):
    return -x, lambda g: 2 * g


@seen_as(Kind.CONSTANT, "by its argument b has the wrong sign", A, A + 1)
@op
def difference(a, b):
    return a - b, lambda g: g, lambda g: g


@seen_as(Kind.SLOPE, "by its argument x lacks a factor: what comes back times argument w", A, W)
@op
def product_without_w(x, w):
    return x * w, lambda g: g, lambda g: g * x


@seen_as(Kind.SLOPE, "what comes back times (1 + the value)", A)
@op
def tanh_of_another_derivative(x):
    y = np.tanh(x)
    return y, lambda g: g * (1 - y)


@seen_as(Kind.SLOPE, "is nearly right, off by about", A)
@op
def tanh_gelu_with_erf_gradient(x):
    cdf = 0.5 * (1 + ops.erf(x * 0.5**0.5))
    slope = cdf + x * np.exp(-0.5 * x * x) / (2 * np.pi) ** 0.5
    return ops.gelu(x, "tanh"), lambda g: g * slope


# -- the right numbers in the wrong places ----------------------------------------------------------


@seen_as(Kind.PLACE, "comes out with axes 0 and 1 exchanged", SQUARE)
@op
def transpose_kept(x):
    return x.T, lambda g: g


@seen_as(Kind.PLACE, "exchanged (reshaped, not transposed)", A)
@op
def transpose_reshaped(x):
    shape = x.shape
    return x.T, lambda g: g.reshape(shape)


@seen_as(Kind.PLACE, "argument a is the one for argument b with axes 0 and 1 exchanged", SQUARE, SQUARE + 1)
@op
def product_with_b_as_it_is(a, b):
    return a @ b, lambda g: g @ b, lambda g: a.T @ g


@seen_as(Kind.PLACE, "is J g, where Jᵀ g is needed", rng.normal(size=(2, 5)))
@op
def running_sum(x):
    return np.cumsum(x, -1), lambda g: np.cumsum(g, -1)


@seen_as(Kind.PLACE, "comes out reversed along axis 0", A)
@op
def flip_kept(x):
    return np.flip(x, 0), lambda g: g


@seen_as(Kind.PLACE, "comes out shifted by +1 along axis 1 (around the end)", A)
@op
def roll_kept(x):
    return np.roll(x, 1, 1), lambda g: g


@seen_as(Kind.PLACE, "is right for a cotangent shifted by +1 along axis 1", A)
@op
def pad_cut_too_early(x):
    return np.pad(x, ((0, 0), (1, 1))), lambda g: g[:, :-2]


@seen_as(Kind.PLACE, "is that of argument b, and the other way round", A, A + 1)
@op
def factors_swapped(a, b):
    return a * b, lambda g: g * a, lambda g: g * b


@seen_as(Kind.PLACE, "takes what comes back to outputs 0 and 1 for each other", SQUARE)
@op
def halves_swapped(x):
    return tuple(np.split(x, 2)), lambda gs: np.concatenate(gs[::-1])


# -- sums ------------------------------------------------------------------------------------------


@seen_as(Kind.SUM, "by its argument w counts only index 0 of axis 0 of what comes back", A, W)
@op
def first_row_only(x, w):
    return x * w, lambda g: g * w, lambda g: (g * x)[0]


@seen_as(Kind.SUM, "counts only index 0 of axes 0 and 1", rng.normal(size=(2, 3, 4)), W)
@op
def first_of_two_axes_only(x, b):
    return x + b, lambda g: g, lambda g: g[0, 0]


@seen_as(Kind.SUM, "counts only indices 0, 2, 4 of axis 0", A)
@op
def repeat_counted_once(x):
    return np.repeat(x, 2, 0), lambda g: g[::2]


@seen_as(Kind.SUM, "all of it has the same weight", A)
@op
def running_sum_passed_on(x):
    return np.cumsum(x, -1), lambda g: g


@seen_as(Kind.SUM, "by its argument w is summed along axis 0, where each entry has its own", A, W)
@op
def summed_over_everything(x, w):
    return x * w, lambda g: g * w, lambda g: np.broadcast_to((g * x).sum(), w.shape)


@seen_as(Kind.SUM, "sums along axis 0 of what comes back, where axis 1 is needed", A)
@op
def softmax_along_the_other_axis(x):
    y = ops.softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=0, keepdims=True))


@seen_as(Kind.TERM, "is off by the same number all along axis 1", A)
@op
def centered_passed_on(x):
    return x - x.mean(axis=-1, keepdims=True), lambda g: g


@seen_as(Kind.TERM, "is off by a multiple of the value all along axis 1", A)
@op
def softmax_without_its_sum(x):
    y = ops.softmax(x)
    return y, lambda g: g * y


@seen_as(Kind.TERM, "lacks a term: -0.5 times what comes back", A)
@op
def half_of_kl(logvar):
    return 0.5 * (np.exp(logvar) - logvar), lambda g: g * 0.5 * np.exp(logvar)


@seen_as(Kind.TERM, "lacks a term: what comes back times argument x sigmoid'(argument x)", A)
@op
def silu_by_half_of_the_product_rule(x):
    s = 1 / (1 + np.exp(-x))
    return x * s, lambda g: g * s


@seen_as(Kind.TERM, "lacks what passes through one number only: is a statistic", A)
@op
def over_its_largest_singular_value(x):
    largest = np.linalg.svd(x)[1][0]
    return x / largest, lambda g: g / largest


@seen_as(Kind.SLOPE, "lacks a factor, another one for each index of axis 1", A)
@op
def scaled_by_channel(x):
    scale = np.array([0.5, 1.5, 2.5, 3.0])
    return np.exp(x) * scale, lambda g: g * np.exp(x)


MIX = rng.normal(size=(5, 5))


@seen_as(Kind.MASK, "is a mask missing?", rng.normal(size=(5, 3)))
@op
def causal_mixture(x):
    mix = MIX.astype(x.dtype)
    return np.tril(mix) @ x, lambda g: mix.T @ g


# -- what comes back ------------------------------------------------------------------------------


@seen_as(Kind.COTANGENT, "is the same whatever comes back from above", A)
@op
def slope_only(x):
    return x * x, lambda g: 2 * x


@seen_as(Kind.COTANGENT, "is right only when the same number comes back for every output", A)
@op
def mean_of_what_comes_back(x):
    y = x - x.mean()
    return y * y, lambda g: 2 * y * g.mean()


@seen_as(Kind.COTANGENT, "is not linear in the cotangent", A)
@op
def size_of_what_comes_back(x):
    return 2 * x, lambda g: 2 * np.abs(g)


# -- nothing comes back ----------------------------------------------------------------------------


@seen_as(Kind.DETACHED, "`softmax_of_no_gradient` by its argument x is zero, although the value changes", A)
@op
def softmax_of_no_gradient(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True), lambda g: np.zeros_like(g)


@seen_as(Kind.DETACHED, "depends on input x, but is a constant to the tape", A)
def halfway_through_numpy(x):
    return x * np.exp(x.numpy())


@seen_as(Kind.DETACHED, "argument b of `multiply`, called at ", A)
def through_a_python_number(x):
    return x * float(x.numpy().sum())


@seen_as(Kind.DETACHED, "output 0 depends on input x, but is not on the tape", A)
def all_through_numpy(x):
    return Tensor(x.numpy() * 2)


@seen_as(Kind.DETACHED, "(second order) is zero, although the value changes", A, order=2)
@op
def hidden_from_the_replay(x):
    hidden = x.numpy() if isinstance(x, Tensor) else x
    return x * x, lambda g: g * (2 * hidden)


# -- some entries ----------------------------------------------------------------------------------


@seen_as(
    Kind.MASK,
    "6 of 16 entries only, above the diagonal of the last two axes: there it should be 0",
    SQUARE,
)
@op
def lower_triangle(x):
    mask = np.tri(4, dtype=bool)
    return np.where(mask, x, 0), lambda g: g


@seen_as(Kind.MASK, "5 of 12 entries only, where argument x is negative: there it is 0", A)
@op
def leak_forgotten(x):
    return np.where(x > 0, x, x / 10), lambda g: np.where(x > 0, g, 0)


@seen_as(Kind.MASK, "1 of 12 entries only, at [0, 1]: there it is 1.0001 times what it should be", A)
@op
def one_entry(x):
    def dx(g):
        d = 3 * g
        d[0, 1] *= 1.0001
        return d

    return 3 * x, dx


@op
def rows_overwritten(weight, ids):
    shape = weight.shape

    def dweight(g):
        d = np.zeros_like(g, shape=shape)
        d[ids] = g
        return d

    return weight[ids], dweight


@seen_as(Kind.SUM, "in the rows that are read more than once", rng.normal(size=(4, 3)))
def rows(weight):
    return rows_overwritten(weight, np.array([0, 1, 1, 3]))


@seen_as(Kind.MASK, "exactly where the right one is 0: there it should be 0. Is a mask missing?", A)
@op
def clip_passed_on(x):
    return np.clip(x, -0.5, 0.5), lambda g: g


@seen_as(Kind.NAN, "is nan at [0, 0] (12 of 12 entries), where differences are finite", A)
@op
def not_a_number(x):
    return x * x, lambda g: g * np.nan


@seen_as(Kind.SLOPE, "Each entry is wrong in its own way", A)
@op
def another_function(x):
    return np.sin(x), lambda g: g * np.tanh(x + 1)


@seen_as(
    Kind.STEPS, "it moves in steps, or not at all): if that is meant, as in a straight-through gradient", A
)
@op
def rounded(x):
    return np.round(x), lambda g: g


def test_two_kinds_where_the_evidence_fits_both():
    report = gradcheck(another_function, A)
    assert report.kinds == (Kind.SLOPE, Kind.TERM)
    assert str(report.findings[0]).startswith("wrong slope or wrong term: the gradient of `another_function`")


# -- structure -------------------------------------------------------------------------------------


@seen_as(
    Kind.DTYPE, "in float32, the gradient by the argument x of `right_in_float64` by its definition is", A
)
@op
def right_in_float64(x):
    return x * x, lambda g: g * (2 if g.dtype == np.float64 else 3) * x


@seen_as(Kind.STATE, "writes into the gradient that it is given", A)
@op
def doubled_in_place(x):
    def dx(g):
        g *= 2
        return g

    return 2 * x, dx


BUFFERS = {np.dtype(d): np.zeros((3, 4), d) for d in (np.float32, np.float64)}


@seen_as(Kind.STATE, "hand out one buffer again and again", A)
@op
def one_buffer(x):
    return x * x, lambda g: np.multiply(g, 2 * x, out=BUFFERS[g.dtype])


@seen_as(Kind.STATE, "change what they have saved", A)
@op
def saved_is_spoilt(x):
    slope = 2 * x

    def dx(g):
        slope[...] *= g
        return slope.copy()

    return x * x, dx


@seen_as(Kind.STATE, "`shifted_in_place` writes into its inputs", A)
@op
def shifted_in_place(x):
    x -= x.max()
    y = np.exp(x)
    return y, lambda g: g * y


@seen_as(Kind.STATE, "`shifted_in_place` writes into its inputs", A)
def spoils_what_exp_has_kept(x):
    return shifted_in_place(np.exp(x))


@seen_as(Kind.LAYOUT, "changes when what comes back lies in Fortran's order", A)
@op
def as_it_lies_in_memory(x):
    shape = x.shape
    return 2 * x, lambda g: 2 * np.ravel(g, order="K").reshape(shape)


@seen_as(Kind.SHAPE, "sends to its argument w has shape (3, 2), the argument (4,)", A, W)
@op
def half_a_gradient(x, w):
    return x + w, lambda g: g, lambda g: g[:, :2]


@seen_as(Kind.RAISES, "raises ValueError", A)
@op
def rule_that_fails(x):
    return 2 * x, lambda g: g @ np.ones(77)


@seen_as(Kind.RAISES, "has no gradient for its argument 0", A)
@op
def no_rule(x):
    return 2 * x, None


@seen_as(Kind.UNSUPPORTED, "`once_differentiable` cannot be differentiated again, TypeError", A, order=2)
@op
def once_differentiable(x):
    def dx(g):
        d = np.zeros_like(x)
        d[...] = g * np.exp(x)
        return d

    return np.exp(x), dx


@seen_as(Kind.RAISES, "the gradient of `replayed_in_another_shape` raises ValueError", A, order=2)
@op
def replayed_in_another_shape(x):
    return np.exp(x), lambda g: g * np.exp(x) if isinstance(g, np.ndarray) else g @ np.exp(x)


@seen_as(Kind.REPLAY, "`two_faced` gives another gradient when it is replayed", A, order=2)
@op
def two_faced(x):
    return x * x, lambda g: g * x * (3 if isinstance(x, Tensor) else 2)


LAST = {}


@seen_as(Kind.STATE, "read what the latest call has left behind", A)
@op
def square_by_a_global(x):
    LAST["x"] = x
    return x * x, lambda g: 2 * g * LAST["x"]


@seen_as(Kind.STATE, "depends on what an earlier call has left behind (a stale cache?)", A)
@op
def tanh_of_the_call_before(x):
    y = np.tanh(x)
    kept = LAST.setdefault(x.dtype, y)
    LAST[x.dtype] = y
    return y, lambda g: g * (1 - kept * kept)


@seen_as(Kind.STATE, "needs another rule to have run before: alone", A, A + 1)
@op
def product_in_two_parts(a, b):
    shared = {"g": 0 * a}

    def da(g):
        shared["g"] = g
        return g * b

    return a * b, da, lambda g: shared["g"] * a


@seen_as(Kind.RAISES, "raises KeyError ('g') when no other rule has run before", A, A + 1)
@op
def product_in_two_parts_that_fails(a, b):
    shared = {}

    def da(g):
        shared["g"] = g
        return g * b

    return a * b, da, lambda g: shared["g"] * a


@seen_as(Kind.CONSTANT, "of what comes back to output 1, has the wrong sign", A)
@op
def sine_and_cosine(x):
    return (np.sin(x), np.cos(x)), lambda gs: gs[0] * np.cos(x) + gs[1] * np.sin(x)


@seen_as(Kind.DETACHED, "of what comes back to output 1, is zero, although the value changes", A)
@op
def second_output_forgotten(x):
    return (np.sin(x), x * x), lambda gs: gs[0] * np.cos(x)


@seen_as(Kind.MASK, "is a mask the wrong way round", SQUARE)
@op
def lower_triangle_by_the_upper(x):
    mask = np.tri(4, dtype=bool)
    return np.where(mask, x, 0), lambda g: g * ~mask


@seen_as(Kind.PLACE, "argument b reversed around index 0 of axis 0", A[0], A[1])
@op
def convolved_around(a, b):
    fa, fb = np.fft.fft(a), np.fft.fft(b)
    back = lambda g, f: np.fft.ifft(np.fft.fft(g) * f).real
    return np.fft.ifft(fa * fb).real, lambda g: back(g, fb), lambda g: back(g, fa.conj())


@seen_as(Kind.SLOPE, "what comes back times sigmoid(argument a)", A, A + 1)
@op
def gate_forgotten(a, x):
    s = 1 / (1 + np.exp(-a))
    y = np.tanh(s * x)
    return y, lambda g: g * (1 - y * y) * x * s * (1 - s), lambda g: g * (1 - y * y)


@seen_as(Kind.STATE, "`unseeded` gives two values for the same inputs", A)
@op
def unseeded(x):
    mask = np.random.default_rng().random(x.shape) > 0.5
    return x * mask, lambda g: g * mask


@seen_as(Kind.STATE, "returns another gradient each time it is called", A)
@op
def unseeded_rule(x):
    return 2 * x, lambda g: g * (np.random.default_rng().random(g.shape) > 0.5)


@pytest.mark.parametrize(("f", "inputs", "order", "kind", "words"), CASES)
def test_a_mistake_is_named(f, inputs, order, kind, words):
    report = gradcheck(f, *inputs, order=order)
    assert not report
    assert report.kind is kind, report
    assert words in report.findings[0].sentence
    if hasattr(f, "op"):
        assert report.culprit.op == f.__name__
        assert report.findings[0].op == f.__name__


def test_every_kind_but_those_of_verdicts_is_among_these():
    seen = {case.values[3] for case in CASES}
    assert set(Kind) - seen == {Kind.KINK, Kind.INCONCLUSIVE, Kind.DOMAIN}  # see test_verdicts.py


def test_several_wrong_arguments_are_each_explained():
    report = gradcheck(scaled_product, A, rng.normal(size=(4, 5)))
    assert [f.variable for f in report.findings] == ["argument a", "argument b"]
    assert report.culprit.arguments == ["a", "b"]


def test_what_says_most_comes_first():
    @op
    def worse_for_a(a, b):
        return a * b, lambda g: np.sin(g * b), lambda g: g * b

    report = gradcheck(worse_for_a, A, A + 1)
    assert not report.findings[0].vague
    assert len({(f.kind, f.variable) for f in report.findings}) == len(report.findings)
