"""NumPy's other functions on Tensors: every case of `cases_numpy.py` through the same checks."""

import warnings

import numpy as np
import pytest
from cases_numpy import NUMPY
from foreign import Foreign
from optable import Case, in_dtype, is_float, outputs, tensors, total

import tinygen
from tinygen import Tensor

every_case = pytest.mark.parametrize("case", NUMPY, ids=[case.name for case in NUMPY])


@pytest.fixture(autouse=True)
def definitions():
    with tinygen.kernels("off"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def random_like(values, seed=1):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(0.5, 1.5, v.shape) * rng.choice([-1, 1], v.shape)) for v in values]


def numpy_of(case: Case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what NumPy says of nan and infinities is its own affair
        return [np.asarray(v) for v in outputs(case.f(*[in_dtype(x, np.float64) for x in case.inputs]))]


@every_case
def test_it_has_numpys_value(case: Case):
    values = outputs(case.f(*tensors(case.inputs, np.float64)))
    expected = numpy_of(case)
    assert len(values) == len(expected)
    for value, reference in zip(values, expected, strict=True):
        assert isinstance(value, Tensor)
        assert value.requires_grad
        assert value.dtype == reference.dtype
        assert value.shape == reference.shape
        np.testing.assert_allclose(value.numpy(), reference, rtol=1e-12, atol=1e-13)


@every_case
def test_it_has_the_gradients_of_both_orders(case: Case):
    """The gradient agrees with central differences of the value, and the gradient of <gradient, u> with
    central differences of <gradient, u>, for every entry of every input."""
    where = [i for i, x in enumerate(case.inputs) if is_float(x)]
    weights = random_like(numpy_of(case))

    def value(*xs):
        full = list(case.inputs)
        for i, x in zip(where, xs, strict=True):
            full[i] = x
        return total([np.where(np.isfinite(v), v, 0.0) for v in outputs(case.f(*full))], weights)

    points = [np.array(case.inputs[i], dtype=float) for i in where]
    directions = random_like(points, 2)
    gradient = tinygen.grad(value, range(len(points)))

    def along(*xs):
        return sum(((g * u).sum() for g, u in zip(gradient(*xs), directions, strict=True)), start=Tensor(0.0))

    first = [g.numpy() for g in gradient(*points)]
    second = [g.numpy() for g in tinygen.grad(along, range(len(points)))(*points)]
    for i, x in enumerate(points):
        h = 1e-4 * np.maximum(1, np.abs(np.nan_to_num(x)))
        for k in np.ndindex(*x.shape):
            if not np.isfinite(x[k]):
                assert first[i][k] == 0
                continue

            def moved(step, i=i, k=k, x=x):
                there = x.copy()
                there[k] += step
                return [*points[:i], there, *points[i + 1 :]]

            with tinygen.no_grad():
                up, down = (value(*map(Tensor, moved(s))).item() for s in (h[k], -h[k]))
            slope = (up - down) / (2 * h[k])
            assert first[i][k] == pytest.approx(slope, rel=1e-5, abs=3e-6), f"input {i}{list(k)}"
            up, down = (along(*moved(s)).item() for s in (h[k], -h[k]))
            curve = (up - down) / (2 * h[k])
            assert second[i][k] == pytest.approx(curve, rel=1e-5, abs=3e-6), (
                f"second order, input {i}{list(k)}"
            )


@every_case
def test_float32_stays_float32(case: Case):
    xs = tensors(case.inputs, np.float32)
    values = outputs(case.f(*xs))
    total(values, [w.astype(np.float32) for w in random_like(values)]).backward()
    assert {v.dtype for v in values} == {np.dtype(np.float32)}
    assert {x.grad.dtype for x in xs if x.requires_grad} == {np.dtype(np.float32)}


@every_case
def test_torch_agrees(case: Case):
    torch = pytest.importorskip("torch")
    if case.torch is None:
        pytest.skip("has no counterpart in torch")
    ours = tensors(case.inputs, np.float64)
    theirs = [torch.tensor(x.numpy().copy(), requires_grad=x.requires_grad) for x in ours]
    values, references = outputs(case.f(*ours)), outputs(case.torch(*theirs))
    weights = random_like(values)
    total(values, weights).backward()
    total(references, [torch.tensor(w) for w in weights]).backward()
    for value, reference in zip(values, references, strict=True):
        np.testing.assert_allclose(value.numpy(), reference.detach().numpy(), rtol=1e-12, atol=1e-12)
    for x, reference in zip(ours, theirs, strict=True):
        if x.requires_grad:
            np.testing.assert_allclose(x.grad, reference.grad.numpy(), rtol=1e-12, atol=1e-12)


@every_case
def test_arrays_that_refuse_numpy(case: Case):
    """A function on another library's arrays never mixes them with NumPy arrays, and has the same
    gradients."""
    gradients = []
    for kind in (lambda x: x, Foreign):
        xs = [
            Tensor(kind(x.numpy()), requires_grad=x.requires_grad) for x in tensors(case.inputs, np.float32)
        ]
        values = outputs(case.f(*xs))
        total(values, [kind(w.astype(np.float32)) for w in random_like(values)]).backward()
        gradients.append([x.grad for x in xs if x.requires_grad])
    for ours, foreign in zip(*gradients, strict=True):
        np.testing.assert_array_equal(ours, foreign.get())
