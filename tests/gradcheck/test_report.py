"""What the report says, word for word, and what can be done with it."""
# ruff: noqa: E501 (lines of the report are as long as they are)

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import tinygen
from tinygen import gradcheck, nn, op, ops
from tinygen.gradcheck import Finding, Kind, Report, Result, Verdict, Worst

A = np.array([[1.0, 2.0], [3.0, -4.0]])


@op
def halved(x):
    return x * x, lambda g: g * x


@pytest.fixture(autouse=True)
def from_here(monkeypatch):
    """Paths are shown from the folder one is in."""
    monkeypatch.chdir(Path(__file__).parent)


def text(report):
    """The report with its seconds left out, and its lines numbered from the test's first."""
    first = inspect.currentframe().f_back.f_code.co_firstlineno
    words = re.sub(r"[0-9.e-]+ s, seed", "# s, seed", str(report))
    words = re.sub(r"(differences? say (\S+) ±) \S+", r"\1 #", words)
    words = re.sub(r"(largest difference) \S+", r"\1 #", words)
    words = re.sub(r"(off by) \S+ at most", r"\1 # at most", words)
    return re.sub(r"test_report\.py:(\d+)", lambda m: f"test_report.py:+{int(m[1]) - first}", words)


def test_all_is_well():
    report = gradcheck(lambda x, y: np.exp(x) * y, A, A[0], order=2)
    assert text(report) == (
        "gradcheck: OK, the tape and differences agree\n"
        "  input x                   (2, 2)  OK  4 entries, largest difference #\n"
        "  input y                   (2,)    OK  2 entries, largest difference #\n"
        "  cotangent (second order)  (2, 2)  OK  4 entries, largest difference #\n"
        "  input x (second order)    (2, 2)  OK  4 entries, largest difference #\n"
        "  input y (second order)    (2,)    OK  2 entries, largest difference #\n"
        "\n"
        "float64: definitions; float32 beside it is off by # at most (definitions only)\n"
        "86 forward runs, # s, seed 0"
    )


def test_a_wrong_op():
    report = gradcheck(lambda x, y: halved(x + 1).sum() * y, A, np.array(1.0))
    assert text(report) == (
        "gradcheck: WRONG, the gradient is wrong (1 of 2 variables)\n"
        "  input x  (2, 2)  WRONG  4 of 4 entries off, worst at [1, 0] the tape says 4.16584, "
        "differences say 8.33169 ± #\n"
        "  input y  ()      OK     1 entry, largest difference #\n"
        "\n"
        "the first wrong op is halved(float64 (2, 2)), called at test_report.py:+1\n"
        "    report = gradcheck(lambda x, y: halved(x + 1).sum() * y, A, np.array(1.0))\n"
        "  its argument x: 4 of 4 entries off, worst at [1, 0] the tape says 5.71642, "
        "differences say 11.4328 ± #\n"
        "\n"
        "wrong constant: the gradient of `halved` by its argument x is 0.5 times what it should be (a factor 2 is\n"
        "  missing: of a square, or of something used twice?)\n"
        "\n"
        "float64: definitions; float32 beside it is off by # at most (definitions only)\n"
        "71 forward runs, # s, seed 0"
    )


def test_a_kink():
    assert text(gradcheck(ops.relu, np.array([0.0, 2.0]))) == (
        "gradcheck: KINK, there is a kink here, and the tape's gradient is one of those that a kink allows "
        "(1 of 1 variables)\n"
        "  input x  (2,)  KINK  1 of 2 entries off, at [0] the tape says 0, differences say 0.553318 ± #\n"
        "\n"
        "kink: the slopes on the two sides of input x at [0] differ (`relu`, called at test_report.py:+1): check at\n"
        "  inputs that are not on the kink\n"
        "\n"
        "float64: definitions; float32 beside it is off by # at most (definitions only)\n"
        "43 forward runs, # s, seed 0"
    )


def test_outside_the_domain():
    assert text(gradcheck(np.log, np.array([1.0, -2.0]))) == (
        "gradcheck: DOMAIN, the function or its gradient is not finite here (1 of 1 variables)\n"
        "  input 0  (2,)  DOMAIN\n"
        "\n"
        "the first wrong op is log(float64 (2,)), called at test_report.py:+1\n"
        "    assert text(gradcheck(np.log, np.array([1.0, -2.0]))) == (\n"
        "\n"
        "outside the domain: `log` makes values that are not finite of inputs that are\n"
        "\n"
        "float64: definitions; float32 beside it is off by # at most (definitions only)\n"
        "3 forward runs, # s, seed 0"
    ).replace("input 0", gradcheck(np.log, np.array([1.0])).results[0].name)


def test_numbers_right_but_something_else_wrong():
    @op
    def in_place(x):
        def dx(g):
            g *= 2
            return g

        return 2 * x, dx

    assert text(gradcheck(in_place, A)) == (
        "gradcheck: WRONG, the numbers agree, but see below\n"
        "  input x  (2, 2)  OK  4 entries, largest difference #\n"
        "\n"
        "the first wrong op is in_place(float64 (2, 2)), called at test_report.py:+9\n"
        "    assert text(gradcheck(in_place, A)) == (\n"
        "\n"
        "state changed: a rule of `in_place` writes into the gradient that it is given, which others may be using: work\n"
        "  on a copy\n"
        "\n"
        "float64: definitions; float32 beside it is off by # at most (definitions only)\n"
        "27 forward runs, # s, seed 0"
    )


def test_of_many_variables_those_that_are_wrong_are_shown():
    class Layer(nn.Module):
        def __init__(self):
            self.first, self.last = (
                nn.Block(4, 1, causal=True, rng=np.random.default_rng(0)),
                nn.Linear(4, 2, rng=np.random.default_rng(1)),
            )

        def forward(self, x):
            return self.last(halved(self.first(x)))

    words = str(gradcheck(Layer(), np.random.default_rng(0).normal(size=(2, 3, 4))))
    assert "(13 of 15 variables)" in words
    assert words.count("\n  parameter") == 11
    assert "\n  3 more: 1 WRONG, 2 OK\n" in words
    assert "\n  13 variables: 13 OK\n" in str(
        gradcheck(
            nn.Block(4, 1, causal=True, rng=np.random.default_rng(0)),
            np.random.default_rng(0).normal(size=(2, 3, 4)),
        )
    )


def test_truth_and_raising():
    right, wrong = gradcheck(np.exp, A), gradcheck(halved, A)
    assert right
    right.raise_if_failed()
    assert not wrong
    with pytest.raises(AssertionError) as caught:
        wrong.raise_if_failed()
    assert str(caught.value) == str(wrong) == repr(wrong)


def test_in_a_notebook():
    right, wrong = gradcheck(np.exp, A), gradcheck(lambda x: halved(x) * (x < 5), A)
    page = wrong._repr_html_()
    assert "<code>halved(float64 (2, 2)), called at test_report.py:" in page
    assert "lambda x: halved(x) * (x &lt; 5)" in page
    assert "<b>wrong constant</b>" in page
    assert ">WRONG</td>" in page
    assert "WRONG" not in right._repr_html_()
    for tag in ("p", "table", "tr", "td", "b", "code", "small"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>")


def test_what_a_program_can_read():
    report = gradcheck(halved, A, seed=5)
    (result,) = report.results
    assert (result.name, result.shape, result.verdict, result.order) == ("input x", (2, 2), Verdict.WRONG, 1)
    assert (result.entries, result.directions, result.off) == (4, 0, 4)
    assert result.worst.tape == pytest.approx(result.worst.numeric / 2)
    assert result.worst.bar < 1e-6
    (finding,) = report.findings
    assert (finding.kind, finding.op, finding.variable) == (Kind.CONSTANT, "halved", "argument x")
    assert report.kind is Kind.CONSTANT
    assert report.culprit.where == finding.where
    assert report.culprit.call == "halved(float64 (2, 2))"
    assert report.culprit.result.worst is not None
    assert report.seed == 5
    assert report.runs > 10
    assert report.seconds > 0


def test_the_same_seed_gives_the_same_report():
    assert text(gradcheck(halved, A, seed=2)) == text(gradcheck(halved, A, seed=2))
    assert text(gradcheck(halved, A, seed=2)) != text(gradcheck(halved, A, seed=3))


def test_the_gravest_verdict_counts():
    results = [Result("x", (), v) for v in (Verdict.OK, Verdict.KINK)]
    assert Report(results).verdict is Verdict.KINK
    assert Report([Result("x", (), Verdict.OK)], [Finding(Kind.DTYPE, "")]).verdict is Verdict.WRONG
    assert Report(results, [Finding(Kind.KINK, "", Verdict.KINK)]).verdict is Verdict.KINK
    assert (
        str(Worst(None, 1, 2, 0.5)) == "along a random direction the tape says 1, differences say 2 ± 5e-01"
    )


def test_it_is_what_the_package_offers():
    assert tinygen.gradcheck is gradcheck
    assert set(tinygen.gradcheck.__module__.split(".")) == {"tinygen", "gradcheck"}
