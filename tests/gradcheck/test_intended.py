"""Gradients that are meant to differ are declared, shown, and everything around them is checked."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn, op
from tinygen.gradcheck import Kind, Verdict, declare_intended

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4))
W = rng.normal(size=(4, 2))
CODES = rng.normal(size=(6, 4))


@op
def rounded(x):
    return np.round(2 * x) / 2, lambda g: g


@declare_intended("gradient reversal: the encoder is to fool what comes after it")
@op
def reversed_gradient(x):
    return 1.0 * x, lambda g: -0.3 * g


@op
def halved(x):
    return x * x, lambda g: g * x


def nearest(z):
    """The nearest code of each row: van den Oord et al. 2017, straight through."""
    values = z.numpy() if isinstance(z, Tensor) else z
    code = CODES[((values[:, None] - CODES) ** 2).sum(-1).argmin(1)]
    return z + (code - z).detach()


def test_a_straight_through_op_is_declared_in_the_call():
    f = lambda x, w: np.tanh(rounded(x @ w) * 3) * x[:, :2]
    report = gradcheck(f, X, W)
    assert report.verdict is Verdict.WRONG
    assert "the value does not change" in str(report)
    assert "straight-through" in str(report)
    for declared in (rounded, [rounded], "rounded"):
        report = gradcheck(f, X, W, intended=declared)
        assert report, report
        assert "meant to differ and not compared: the gradient of `rounded`, called at" in report.notes[0]


def test_a_declaration_at_the_op_shows_its_reason():
    report = gradcheck(lambda x: np.exp(reversed_gradient(np.sin(x))), X)
    assert report
    assert "(gradient reversal: the encoder is to fool what comes after it)" in report.notes[0]


@pytest.mark.parametrize("f", [lambda x: rounded(halved(x)), lambda x: halved(rounded(x))])
def test_everything_around_it_is_still_checked(f):
    report = gradcheck(f, X, intended=rounded)
    assert report.verdict is Verdict.WRONG
    assert report.culprit.op == "halved"
    assert report.kind is Kind.CONSTANT


def test_a_declared_op_has_to_be_sound_otherwise():
    @op
    def slope_forgotten(x):
        return np.round(x), lambda g: np.ones_like(g)

    assert gradcheck(slope_forgotten, X, intended=slope_forgotten).kind is Kind.COTANGENT


def test_stop_gradient():
    report = gradcheck(nearest, X)
    assert report.kind is Kind.DETACHED
    assert 'intended="detach"' in report.findings[0].sentence
    report = gradcheck(lambda x: np.tanh(nearest(x)), X, intended="detach")
    assert report, report
    assert report.notes == ["taken as a constant, as declared: whatever was detached on the way"]
    assert gradcheck(lambda x: halved(nearest(x)), X, intended="detach").culprit.op == "halved"


def test_in_a_module_with_both():
    class Quantizer(nn.Module):
        def __init__(self):
            self.enter = nn.Linear(4, 4, rng=np.random.default_rng(1))

        def forward(self, x):
            z = rounded(self.enter(x))
            return nearest(z) * (z - x.detach())

    assert not gradcheck(Quantizer(), X)
    assert not gradcheck(Quantizer(), X, intended=rounded)
    assert gradcheck(Quantizer(), X, intended=[rounded, "detach"])


def test_a_detached_value_that_is_not_declared_is_found_beside_a_declared_op():
    report = gradcheck(lambda x: rounded(x) * np.exp(x.numpy()), X, intended=rounded)
    assert report.kind is Kind.DETACHED


def test_second_order_and_names_that_do_not_occur():
    report = gradcheck(lambda x: rounded(x) * x, X, intended=[rounded, "floored"], order=2)
    assert report
    assert "declared as intended, but not on the tape: `floored`" in report.notes
    assert "no second order is checked where a gradient is declared as intended" in report.notes
    with pytest.raises(TypeError, match="intended= takes ops, names of ops"):
        gradcheck(np.exp, X, intended=3.0)
    with pytest.raises(TypeError, match="stands above @op"):
        declare_intended("why")(lambda x: x)


def test_several_outputs_of_a_declared_op():
    @op
    def whole_and_rest(x):
        whole = np.round(x)
        return (whole, x - whole), lambda gs: gs[0]

    f = lambda x: whole_and_rest(x)[0] * 2 + whole_and_rest(x * 2)[1] * x
    assert not gradcheck(f, X)
    assert gradcheck(f, X, intended=whole_and_rest)
