"""What a check costs: as many runs as it says, announced when long, refused when too long."""

import sys
import time

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, op, ops
from tinygen.gradcheck import Kind, Verdict

rng = np.random.default_rng(0)
A = rng.normal(size=(5, 8))


def counted(f):
    calls = []

    def g(*xs):
        calls.append(1)
        return f(*xs)

    return g, calls


@op
def unknown(x):
    """An op of the user: nothing says that it is analytic."""
    return x * 1.0, lambda g: g


def test_the_runs_are_counted():
    f, calls = counted(lambda x: unknown(np.exp(x)))
    assert gradcheck(f, A, order=2).runs == len(calls)


def test_four_runs_an_entry():
    small, large = gradcheck(unknown, A[:1]), gradcheck(unknown, A)
    assert large.runs - small.runs == 4 * (A.size - A[:1].size)


def test_one_run_an_entry_where_all_ops_are_analytic():
    report = gradcheck(lambda x: np.tanh(x @ A.T), A)
    assert report.runs < A.size + 30
    assert report.results[0].difference < 1e-13  # no rounding is lost
    assert gradcheck(lambda x: ops.softmax(x), A).runs < A.size + 30


def test_numbers_off_the_tape_are_not_lost_to_the_complex_step():
    """np.abs of an array drops the imaginary part, and with it the way through `y`."""

    def through_numpy(x):
        return x * np.abs(x.numpy())

    assert gradcheck(through_numpy, A).kind is Kind.DETACHED


def test_functions_that_refuse_complex_numbers():
    def picky(x):
        assert x.dtype != np.complex128
        return np.exp(x)

    assert gradcheck(picky, A)


def test_few_directions_for_large_variables():
    x = rng.normal(size=(300, 200))
    report = gradcheck(lambda x, b: unknown(x) * 2 + b, x, rng.normal(size=200))
    assert report
    assert report.runs < 50 + 4 * (8 + 200)
    assert [(r.entries, r.directions) for r in report.results] == [(0, 8), (200, 0)]
    assert "8 directions" in str(report)


def test_max_entries():
    assert gradcheck(np.exp, A, max_entries=A.size).results[0].entries == A.size
    assert gradcheck(np.exp, A, max_entries=A.size - 1).results[0].directions == 8


@op
def one_bad_entry(x):
    def dx(g):
        d = 2 * x * g
        d[17, 133] *= 1.5
        return d

    return x * x, dx


@pytest.mark.parametrize("f", [one_bad_entry, lambda x: one_bad_entry(x).sum()])
def test_one_bad_entry_of_many_is_found_and_named(f):
    x = rng.normal(size=(300, 200))
    report = gradcheck(f, x)
    assert report.verdict is Verdict.WRONG
    assert report.results[0].worst.index == (17, 133)
    assert report.kind is Kind.MASK
    assert "at [17, 133]: there it is 1.5 times" in report.findings[0].sentence
    assert report.runs < 300


def test_kinds_are_named_in_large_arrays_too():
    @op
    def centered(x):
        return x - x.mean(axis=-1, keepdims=True), lambda g: g

    @op
    def product(a, b):
        return a @ b, lambda g: g @ b.T, lambda g: g.T @ a

    assert gradcheck(centered, rng.normal(size=(300, 200))).kind is Kind.TERM
    report = gradcheck(product, rng.normal(size=(90, 80)), rng.normal(size=(80, 90)))
    assert report.kind is Kind.SHAPE
    report = gradcheck(product, rng.normal(size=(80, 80)), rng.normal(size=(80, 80)))
    assert (report.kind, report.culprit.arguments) == (Kind.PLACE, ["b"])


def slow(seconds):
    def f(x):
        if not isinstance(x, Tensor) or not x.requires_grad:
            time.sleep(seconds)
        return unknown(np.tanh(x))

    return f


def test_what_would_take_too_long_is_refused_with_advice(capsys):
    with pytest.raises(
        ValueError, match=r"160 forward runs of 0\.\d+ s each.*max_seconds=2.*smaller max_entries="
    ):
        gradcheck(slow(0.02), A, max_seconds=2.0)
    assert capsys.readouterr().err == ""


def test_what_will_take_long_is_announced(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["tinygen.gradcheck.examine"], "SLOW", 0.1)
    assert gradcheck(slow(0.002), A)
    assert capsys.readouterr().err.startswith("gradcheck: 160 forward runs of 0.")


def test_what_is_quick_says_nothing(capsys):
    gradcheck(np.exp, A)
    assert capsys.readouterr() == ("", "")
