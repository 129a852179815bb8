"""What runs in float32 is checked beside the definition in float64, and the report says what ran."""

import numpy as np
import pytest

import tinygen
from tinygen import gradcheck, kernels, nn, op, ops
from tinygen.gradcheck import Kind, Verdict
from tinygen.kernels import registry

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 5))


@pytest.fixture
def planted(monkeypatch):
    """A kernel of softmax for a while."""

    def plant(compute):
        monkeypatch.setattr(kernels, "entries", list(kernels.entries))
        monkeypatch.setattr(ops.softmax.op, "compute", ops.softmax.op.compute)
        kernels.register(ops.softmax)(compute)

    return plant


def softmax_as_it_is(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


def softmax_without_its_sum(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, lambda g: g * y


def softmax_without_its_maximum(x):
    e = np.exp(x - 1)
    y = e / (e.sum(axis=-1, keepdims=True) + np.float32(0.01))
    return y, lambda g: y * (g - (g * y).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (softmax_without_its_sum, "the gradient by the argument x of `softmax` by a NumPy kernel"),
        (softmax_without_its_maximum, "the value of `softmax` by a NumPy kernel"),
    ],
)
def test_a_kernel_that_is_wrong_in_float32_only(planted, kernel, words):
    planted(kernel)
    report = gradcheck(ops.softmax, X)
    assert report.verdict is Verdict.WRONG
    assert report.kind is Kind.DTYPE
    assert words in report.findings[0].sentence
    assert report.culprit.op == "softmax"
    assert all(r.verdict is Verdict.OK for r in report.results)
    model = nn.Sequential(nn.Linear(5, 4, rng=rng), ops.softmax)
    assert gradcheck(model, X).culprit.op == "softmax"
    with tinygen.kernels("off"):
        assert gradcheck(ops.softmax, X)


def test_a_compiled_kernel_is_reached_by_large_arrays(monkeypatch):
    pytest.importorskip("numba")
    (entry,) = (e for e in kernels.entries if e.op is ops.softmax.op and e.floor == "numba")
    assert entry.compute.load()
    monkeypatch.setattr(entry.compute, "function", softmax_without_its_sum)
    large = rng.normal(size=(registry.LEAST // 64, 64))
    assert gradcheck(ops.softmax, X), "it is not reached"
    report = gradcheck(ops.softmax, large)
    assert report.kind is Kind.DTYPE


def test_the_report_says_what_ran(planted):
    assert "(definitions only)" in gradcheck(np.exp, X).implementations
    with tinygen.kernels("off"):
        assert "(definitions only)" in gradcheck(ops.softmax, X).implementations
    planted(softmax_as_it_is)
    report = gradcheck(lambda x: ops.softmax(np.tanh(x)), X)
    assert report.implementations.startswith("float64: definitions; float32 beside it is off by ")
    assert "(softmax: a NumPy kernel)" in report.implementations
    assert report.implementations in str(report)


def test_a_compiled_kernel_is_named():
    pytest.importorskip("numba")
    report = gradcheck(ops.softmax, rng.normal(size=(registry.LEAST // 64, 64)))
    assert report
    assert "softmax: a compiled kernel" in report.implementations


@op
def off_by_a_million(x):
    return (x + 1e6) - 1e6, lambda g: g


@op
def flat_tanh(x):
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (off_by_a_million, X),  # float32 has no digits left
        (flat_tanh, np.array([9.0, 9.5])),  # 1 - y² is 0 in float32
        (lambda x: np.exp(x) / np.exp(x), np.array([100.0, 3.0])),  # float32 overflows
        (lambda x: x / np.sqrt((x * x).sum()), 1e-25 * X),  # and underflows
        (lambda x: ops.dropout(x, 0.5, np.random.default_rng(3)), X),
    ],
)
def test_the_limits_of_float32_are_no_mistakes(f, x):
    report = gradcheck(f, x)
    assert not [finding for finding in report.findings if finding.kind is Kind.DTYPE]


def test_a_function_that_insists_on_float64():
    def picky(x):
        if x.dtype != np.float64:
            raise ValueError("float64, please")
        return np.exp(x)

    report = gradcheck(picky, X)
    assert report
    assert report.notes == ["not checked in float32, where it raises ValueError: float64, please"]
    assert report.implementations == ""
