"""Mistakes with several outputs, and with what is kept between calls."""

import numpy as np
from users_planting import (
    attention_back,
    normal,
    positive,
    right_op,
    sigmoid,
    softmax,
    wrong_function,
    wrong_op,
)

import tinygen
from tinygen.gradcheck import Kind


@wrong_op("polar", Kind.PLACE, positive(4), positive(4))
def polar_with_its_gradients_exchanged(a, b):
    r = np.sqrt(a * a + b * b)

    def back(gs):
        gangle, gr = gs  # the other way round
        return gr * a / r - gangle * b / r**2, gr * b / r + gangle * a / r**2

    return (r, np.arctan2(b, a)), back


@wrong_op("eigh", (Kind.DETACHED, Kind.TERM), normal(3, 3) + np.diag([1.0, 4.0, 9.0]))
def eigh_with_the_gradient_of_its_values(x):
    values, vectors = np.linalg.eigh((x + x.T) / 2)
    vectors = vectors * np.sign(vectors[0])
    return (values, vectors), lambda gs: vectors * gs[0] @ vectors.T


@wrong_op("lstm", (Kind.TERM, Kind.DETACHED), normal(2, 12), normal(2, 3))
def lstm_step_whose_state_is_not_seen_through_its_output(a, c):
    """The new state goes into the output as well; the rule takes it for a constant there."""
    i, f, o = (sigmoid(a[:, n : n + 3]) for n in (0, 3, 9))
    candidate = np.tanh(a[:, 6:9])
    new = f * c + i * candidate
    seen = np.tanh(new)

    def back(gs):
        dh, dc = gs
        di, df = dc * candidate * i * (1 - i), dc * c * f * (1 - f)
        dn, do = dc * i * (1 - candidate**2), dh * seen * o * (1 - o)
        return np.concatenate([di, df, dn, do], axis=1), dc * f

    return (o * seen, new), back


@wrong_op("sincos", Kind.CONSTANT, normal(2, 3))
def sin_and_cos_with_one_sign(x):
    s, c = np.sin(x), np.cos(x)
    return (s, c), lambda gs: gs[0] * c + gs[1] * s


@wrong_op("attention", (Kind.DETACHED, Kind.TERM), normal(3, 4), normal(3, 4), normal(3, 4))
def attention_whose_weights_are_an_output_for_looking(q, k, v):
    """The weights are returned beside the value, without a gradient."""
    p = softmax(q @ k.T / 2.0)
    return (p @ v, p), lambda gs: attention_back(gs[0], q, k, v, p, 0.5)


KEPT = {}


@wrong_op("tanh", (Kind.STATE, Kind.REPLAY), normal(3, 4))
def tanh_that_keeps_what_the_call_before_kept(x):
    """A cache by shape: its rule has the value of the call before."""
    y = np.tanh(x)
    kept = KEPT.setdefault(x.shape, 0.9 * y)
    KEPT[x.shape] = y
    return y, lambda g: g * (1 - kept * kept)


SAVED = {}


@tinygen.op
def square_with_its_input_in_a_global(x):
    """Right when it is the last of its kind that ran, as it is when it is checked alone."""
    SAVED["x"] = x
    return x * x, lambda g: 2 * g * SAVED["x"]


@wrong_function(
    "square",
    (Kind.STATE, Kind.REPLAY, Kind.SLOPE),
    normal(3, 4),
    culprit="square_with_its_input_in_a_global",
)
def fourth_power_by_two_squares(x):
    return square_with_its_input_in_a_global(square_with_its_input_in_a_global(x))


TOTALS = {}


@wrong_op("multiply", (Kind.STATE, Kind.COTANGENT), normal(3, 4))
def scale_that_adds_up_in_its_own_buffer(x):
    """What comes back is added to what came back in earlier passes."""

    def dx(g):
        total = TOTALS.setdefault(x.shape, np.zeros(x.shape))
        total += 1.5 * g
        return total.astype(g.dtype)

    return 1.5 * x, dx


@right_op("add", normal(3, 4), normal(3, 4))
def sum_that_hands_on_what_comes_back(a, b):
    return a + b, lambda g: g, lambda g: g
