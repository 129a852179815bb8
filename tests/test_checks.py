"""An op with a wrong kind of result is refused at its first call; errors come as one traceback."""

import contextlib
import gc
import traceback
import weakref

import numpy as np
import pytest

from tinygen import Tensor, op
from tinygen.rerun import run_on_arrays
from tinygen.tape import show_as


def leaf(*shape):
    return Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)


def wrong(body):
    f = op(body)
    f.op.shown = "f"
    return f


CLOSED_OVER = Tensor(np.ones(3))

WRONG = {
    "no rule": (lambda x: 2 * x, "This one returned a float64 array"),
    "None": (lambda x: None, "This one returned a NoneType"),
    "a list": (lambda x: [x, lambda g: g], "This one returned a list"),
    "a rule alone": (lambda x: lambda g: g, "This one returned a function"),
    "nothing": (lambda x: (), "This one returned an empty tuple"),
    "a rule that is no function": (lambda x: (2 * x, 2.0), "Rule 0 is a float"),
    "a second value": (lambda x: (x, 2 * x), "Rule 0 is a float64 array of shape (3,)"),
    "a rule's gradient": (lambda x: (x, None, x), "Rule 1 is a float64 array"),
    "a tuple of rules": (lambda x: (x, (lambda g: g,)), "Rule 0 is a tuple"),
    "rules first": (lambda x: (lambda g: g, x), "The value is a function"),
    "a list of values": (lambda x: ([x, x], lambda g: g), "The value is a list"),
    "values, one of them a text": (lambda x: ((x, "x"), lambda g: g), "The value is a str"),
    "more rules than inputs": (lambda x: (x, lambda g: g, lambda g: g), "There are 2 rules for 1 inputs"),
    "a Tensor": (
        lambda x: (x * CLOSED_OVER, lambda g: g),
        "The value is a Tensor",
    ),
    "a keyword is no input": (
        lambda x, *, k=1: (x, lambda g: g, lambda g: g),
        "There are 2 rules for 1 inputs",
    ),
    "more than were given": (
        lambda *xs: (xs[0], *[lambda g: g] * (len(xs) + 1)),
        "There are 2 rules for 1 inputs",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("given", [lambda: np.arange(3.0), lambda: leaf(3), lambda: Tensor(np.ones(3))])
def test_an_op_that_returns_something_else_is_refused_at_its_first_call(name, given):
    body, words = WRONG[name]
    f = wrong(body)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"`f` is an @op: it returns a tuple `value, rule") as caught:
            f(given())
        assert words in str(caught.value)


def test_a_second_call_is_looked_at_for_a_forgotten_rule_too():
    @op
    def sometimes(x, rule):
        return (2 * x, lambda g: 2 * g) if rule else 2 * x

    assert sometimes(np.ones(2), True).tolist() == [2, 2]
    for x in (np.ones(2), leaf(2)):
        with pytest.raises(TypeError, match="`sometimes` is an @op"):
            sometimes(x, False)


def test_fewer_rules_than_inputs_that_require_grad():
    @op
    def short(a, b, c):
        return a * b * c, lambda g: g * b * c, lambda g: g * a * c

    for _ in range(2):
        with pytest.raises(TypeError, match="`short` has no gradient for its argument 2: it returned 2"):
            short(leaf(2), leaf(2), leaf(2))
    x = leaf(2)
    short(x, np.ones(2), np.ones(2)).sum().backward()
    with pytest.raises(TypeError, match="`short` has no gradient for its argument 2: it returned 2"):
        short(leaf(2), leaf(2), leaf(2))


def test_one_rule_that_is_not_joint_for_two_inputs():
    @op
    def single(a, b):
        return a * b, lambda g: g * b

    with pytest.raises(TypeError, match=r"`single` has no gradient for its argument 1: .* one more rule"):
        single(leaf(2), leaf(2)).sum().backward()


@pytest.mark.parametrize(
    "body",
    [
        lambda x: (x * 1,),
        lambda x: (np.sum(x), lambda g: g * np.ones(3)),
        lambda x: (3.0, lambda g: None),
        lambda x: ((x, 2 * x), lambda gs: gs[0] + 2 * gs[1]),
        lambda x, k=2: (x, lambda g: g, None),
        lambda *xs: (xs[0], lambda g: g),
        lambda x, *, k=2: (x, lambda g: g),
    ],
)
def test_what_ops_may_return(body):
    for x in (np.ones(3), leaf(3)):
        op(body)(x)


def test_an_error_in_a_body_is_one_traceback_that_shows_its_line():
    @op
    def failing(x):
        y = x[:2] + np.ones(3)  # here
        return y, lambda g: g

    with pytest.raises(ValueError, match=r"^failing\(float64 \(3,\)\): operands") as caught:
        failing(leaf(3))
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback (most recent call last)") == 1
    assert "# here" in text


def test_an_error_keeps_no_arrays_alive():
    x = leaf(3)
    gone = weakref.ref(x)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            x @ np.ones((4, 4))
        del x
        assert gone() is None
    finally:
        gc.enable()


def test_a_name_that_depends_on_the_first_argument():
    """In the error of a call it is shown with the arguments, and later with the value alone."""

    @show_as(lambda x: f"times{len(x.shape)}d")
    @op
    def times(x, y):
        return x * y, lambda g: g * y, lambda g: (g * x).sum(axis=0)

    assert times(leaf(2, 3), leaf(3)).node.name == "times2d"
    with pytest.raises(ValueError, match=r"times2d\(float64 \(2, 3\), float64 \(4,\)\)"):
        times(leaf(2, 3), leaf(4))


def test_an_op_of_one_s_own_takes_no_complex_numbers():
    double = op(lambda x: (2 * x, lambda g: 2 * g))
    with pytest.raises(TypeError, match="no gradient for complex numbers"):
        double(Tensor(np.ones(3, complex), requires_grad=True))


def test_an_op_that_returns_fewer_values_when_it_runs_again():
    sizes = iter((2, 1))
    parts = op(lambda x: ((x,) * next(sizes), lambda g: sum(g)))
    node = parts(leaf(3))[0].node.inputs[0]
    with pytest.raises(ValueError, match="zip"):
        run_on_arrays(node, node.inputs)
