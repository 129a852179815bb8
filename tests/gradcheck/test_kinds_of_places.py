"""Mistakes that the two Jacobians tell apart: right numbers in wrong places, wrong axes, parts of a sum or of
a product; and what must not be taken for them."""

import numpy as np
import pytest

from tinygen import gradcheck, op, ops
from tinygen.gradcheck import Kind

rng = np.random.default_rng(0)
A = rng.normal(size=(3, 4))
SQUARE = rng.normal(size=(4, 4))
LONG = rng.normal(size=(2, 8))
W = rng.normal(size=3)
DECAY = rng.uniform(0.3, 0.9, size=5)
CASES = []


def seen_as(kind, words, *inputs, order=1):
    """The decorated op is to be found wrong, as `kind`, in these words."""

    def add(f):
        CASES.append(pytest.param(f, inputs, order, kind, words, id=f"{kind.name}-{f.__name__}"))
        return f

    return add


def softmax(x):
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# -- axes ------------------------------------------------------------------------------------------


@seen_as(Kind.SUM, "takes axis 0 of what comes back for axis 1 of the input, where it is", SQUARE)
@op
def softmax_with_a_sum_without_keepdims(x):
    y = softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=-1))


@seen_as(Kind.SUM, "or one without keepdims?", SQUARE)
@op
def logsumexp_sent_to_columns(x):
    return np.log(np.exp(x).sum(axis=-1)), lambda g: g * softmax(x)


@seen_as(Kind.SUM, "sums along axis 0 of what comes back, where axis 1 is needed", A)
@op
def softmax_along_the_other_axis(x):
    y = softmax(x)
    return y, lambda g: y * (g - (g * y).sum(axis=0, keepdims=True))


@seen_as(Kind.PLACE, "has a factor that is the right one with axes 0 and 1 exchanged", SQUARE, SQUARE[0])
@op
def rows_scaled_as_columns(x, w):
    return x * w[:, None], lambda g: g * w, lambda g: (g * x).sum(axis=1)


@seen_as(Kind.PLACE, "is that of axes that are exchanged", rng.normal(size=(4, 2, 3)))
@op
def pixels_shuffled_in_another_order(x):
    y = x.reshape(2, 2, 2, 3).transpose(2, 0, 3, 1).reshape(4, 6)
    return y, lambda g: g.reshape(2, 2, 3, 2).transpose(3, 1, 0, 2).reshape(4, 2, 3)


@seen_as(Kind.PLACE, "multiplies argument q by a matrix that should be transposed", SQUARE, SQUARE + 1)
@op
def scores_with_rows_for_columns(k, q):
    p = softmax(q @ k.T)

    def ds(g):
        return p * (g - (g * p).sum(axis=-1, keepdims=True))

    return p, lambda g: ds(g) @ q, lambda g: ds(g) @ k


@seen_as(Kind.PLACE, "multiplies by argument w the wrong way round", A, SQUARE)
@op
def layer_back_through_its_weight_as_it_is(x, w):
    y = np.tanh(x @ w)
    return y, lambda g: g * (1 - y * y) @ w, lambda g: x.T @ (g * (1 - y * y))


# -- places ----------------------------------------------------------------------------------------


@seen_as(Kind.PLACE, "is shifted by +1 along axis 1, but for its border", LONG, W)
@op
def causal_conv_with_a_wrong_cut(x, w):
    padded = np.pad(x, ((0, 0), (2, 0)))

    def dx(g):
        d = np.zeros_like(padded)
        for t in range(3):
            d[:, t : t + 8] += w[t] * g
        return d[:, 1:-1]

    y = sum(w[t] * padded[:, t : t + 8] for t in range(3))
    return y, dx, lambda g: np.array([(g * padded[:, t : t + 8]).sum() for t in range(3)])


@seen_as(Kind.PLACE, "is the one for argument decay shifted by +1 along axis 0", rng.normal(size=5), DECAY)
@op
def decayed_sum_with_gates_of_the_step_before(x, decay):
    h = np.zeros(6)
    for t in range(5):
        h[t + 1] = decay[t] * h[t] + x[t]

    def back(g):
        dx, carried = np.zeros_like(x), 0.0
        for t in reversed(range(5)):
            dx[t] = carried = g[t] + decay[t] * carried
        return dx, dx * h[:-1]

    return h[1:], back


@seen_as(Kind.PLACE, "sends each output's right numbers, but to places that are all shifted alike", LONG, W)
@op
def dilated_conv_without_its_gaps(x, w):
    taps = [x[:, 2 * t : 2 * t + 4] for t in range(3)]

    def dx(g):
        d = np.zeros_like(x)
        for t in range(3):
            d[:, t : t + 4] += w[t] * g
        return d

    return sum(w[t] * taps[t] for t in range(3)), dx, lambda g: np.array([(g * tap).sum() for tap in taps])


@seen_as(Kind.PLACE, "has the right numbers, exchanged for each other", LONG)
@op
def gates_exchanged(x):
    a, b = sigmoid(x[:, :4]), np.tanh(x[:, 4:])

    def dx(g):
        return np.concatenate([g * a * (1 - b * b), g * b * a * (1 - a)], axis=1)

    return a * b, dx


# -- parts of what comes back ----------------------------------------------------------------------


@seen_as(Kind.COTANGENT, "the same number comes back for every output", A)
@op
def lengths_with_the_mean_of_what_comes_back(x):
    n = np.sqrt((x * x).sum(axis=-1))
    return n, lambda g: g.mean() * x / n[:, None]


@seen_as(Kind.SUM, "is wrong at 4 of 16 entries: it counts only ind", LONG)
@op
def border_that_sends_nothing_back(x):
    return np.pad(x, ((0, 0), (1, 1)), mode="edge"), lambda g: g[:, 1:-1]


@seen_as(Kind.MASK, "there it is 0, or should be. Is it another mask?", A)
@op
def dropped_by_another_mask(x):
    mask = np.arange(12).reshape(3, 4) * 7 % 5 > 1
    return x * mask, lambda g: g * mask[:, ::-1]


@seen_as(Kind.SUM, "counts only some of what comes back at", rng.normal(size=8))
@op
def overlaps_written_over(x):
    places = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [5, 4, 7, 6]])

    def dx(g):
        d = np.zeros_like(x)
        d[places] = g
        return d

    return x[places], dx


@seen_as(Kind.SUM, "heeds only index 4 of axis 0 of what comes back", rng.normal(size=(5, 2)), DECAY[:2])
@op
def decay_of_the_last_step(x, decay):
    h = np.zeros((6, 2))
    for t in range(5):
        h[t + 1] = decay * h[t] + x[t]

    def back(g):
        dx, carried = np.zeros_like(x), np.zeros(2)
        for t in reversed(range(5)):
            dx[t] = g[t] + carried
            carried = dx[t] * decay
        return dx, dx[-1] * h[-2]

    return h[1:], back


@seen_as(Kind.PLACE, "the wrong way round: transpose it", rng.normal(size=(4, 3)), SQUARE[:3, :3])
@op
def carried_through_the_transpose(x, w):
    """Right at the last step alone, which nothing is carried to: that is no mistake at some entries."""
    h = np.zeros((5, 3))
    for t in range(4):
        h[t + 1] = np.tanh(x[t] + h[t] @ w.T)

    def back(g):
        carried, dx, dw = np.zeros(3), np.zeros_like(x), np.zeros_like(w)
        for t in reversed(range(4)):
            dx[t] = (g[t] + carried) * (1 - h[t + 1] ** 2)
            carried = dx[t] @ w.T
            dw += np.outer(dx[t], h[t])
        return dx, dw

    return h[1:], back


# -- parts of a formula ----------------------------------------------------------------------------


@seen_as(Kind.TERM, "the product of the input and the rest: the rest moves too", A)
@op
def mish_by_half_of_the_product_rule(x):
    t = np.tanh(np.log1p(np.exp(x)))
    return x * t, lambda g: g * t


@seen_as(Kind.TERM, "is a maximum or a minimum taken for a constant?", A)
@op
def over_the_largest_of_a_row(x):
    largest = x.max(axis=1, keepdims=True)
    return x / largest, lambda g: g / largest


@seen_as(Kind.TERM, "is the input used twice?", SQUARE)
@op
def squared_matrix_by_its_left_factor(x):
    return x @ x, lambda g: g @ x.T


@seen_as(Kind.TERM, "for argument a transposed: is something symmetric", SQUARE[0], SQUARE)
@op
def quadratic_form_by_one_side(x, a):
    return x @ a @ x, lambda g: g * (a @ x), lambda g: g * np.outer(x, x)


@seen_as(Kind.SLOPE, "what comes back times 0.5 exp(argument logvar / 2)", A, A[::-1] + 1)
@op
def sample_with_the_slope_of_a_deviation(mean, logvar):
    noise = np.linspace(-1, 1, 12).reshape(3, 4)
    return mean + np.exp(0.5 * logvar) * noise, lambda g: g, lambda g: g * noise


@op
def one_minus(x):
    return 1 - x, lambda g: g


@seen_as(
    Kind.CONSTANT, "in the rules of `sigmoid_by_a_wrong_op`, the gradient of `one_minus` by its", A, order=2
)
@op
def sigmoid_by_a_wrong_op(x):
    y = ops.sigmoid(x)
    return y, lambda g: g * y * one_minus(y)


@seen_as(Kind.LAYOUT, "changes when its arguments lie", A)
@op
def negatives_as_they_lie(x):
    places = np.flatnonzero(x.ravel(order="K") < 0)

    def dx(g):
        d = g.flatten()
        d[places] *= 0.1
        return d.reshape(x.shape)

    return np.where(x < 0, 0.1 * x, x), dx


@pytest.mark.parametrize(("f", "inputs", "order", "kind", "words"), CASES)
def test_a_mistake_is_named(f, inputs, order, kind, words):
    report = gradcheck(f, *inputs, order=order)
    assert not report
    assert report.kind is kind, report
    assert words in report.findings[0].sentence
    assert report.culprit.op == f.__name__
