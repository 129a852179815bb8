"""Every op, in every way of calling it that `cases.py` lists: the same checks for all."""

import warnings

import numpy as np
import pytest
from cases import CASES, WITHOUT_GRADIENT, op_of
from foreign import Foreign
from optable import Case, in_dtype, is_float, outputs, tensors, total

import tinygen.backward
import tinygen.tape
from tinygen import Tensor, gradcheck, ops
from tinygen.tensor import IMPLEMENTS

every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(autouse=True)
def definitions():
    """The ops' own bodies: the kernels are compared with them in tests/kernels."""
    with tinygen.kernels("off"), warnings.catch_warnings():
        warnings.simplefilter("error")  # an op that divides by zero, say, is to say so here
        yield


def random_like(values, seed=1):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(0.5, 1.5, v.shape) * rng.choice([-1, 1], v.shape)) for v in values]


def test_every_public_op_has_cases():
    assert set(ops.__all__) - {op_of(case.name) for case in CASES} == set(WITHOUT_GRADIENT)


def test_numpys_functions_mean_the_ops():
    """Called with Tensors. NumPy takes the dtype of `astype` by position, which ops do not."""
    names = [name for name in ops.__all__ if hasattr(np, name) and name != "astype"]
    assert [name for name in names if IMPLEMENTS.get(getattr(np, name)) is not getattr(ops, name)] == []


@every_case
def test_gradient_of_the_gradient(case: Case):
    """First order and second order against central differences, in float64."""
    if sum(x.size for x in case.inputs if is_float(x)) == 0:
        pytest.skip("no entries to move")
    assert gradcheck(lambda *xs: tupled(case.f(*xs)), *case.inputs, order=2)


def tupled(value):
    return tuple(value) if isinstance(value, list) else value


@every_case
@pytest.mark.parametrize(
    ("dtype", "kernels"), [(np.float64, "off"), (np.float32, "off"), (np.float32, "auto")], ids=str
)
def test_torch_agrees(case: Case, dtype, kernels, at_every_size):
    torch = pytest.importorskip("torch")
    if case.torch is None:
        pytest.skip("has no counterpart in torch")
    tinygen.kernels(kernels)  # `definitions` sets them back
    ours = tensors(case.inputs, dtype)
    values = outputs(case.f(*ours))
    theirs = [torch.tensor(x.numpy().copy(), requires_grad=x.requires_grad) for x in ours]
    references = outputs(case.torch(*theirs))
    weights = [w.astype(dtype) for w in random_like(values)]
    total(values, weights).backward()
    total(references, [torch.tensor(w) for w in weights]).backward()
    for value, reference in zip(values, references, strict=True):
        assert value.dtype == dtype
        assert_close(value.numpy(), reference.detach().numpy())
    for x, reference in zip(ours, theirs, strict=True):
        if x.requires_grad:
            assert_close(x.grad, reference.grad.numpy())


def assert_close(ours, reference):
    """In float64, compare each entry. In float32, allow an error relative to the largest entry: an entry of a
    gradient may be a small difference of large terms (each row of layer_norm's gradient adds up to 0), and
    their rounding differs between processors."""
    if reference.dtype == np.float64:
        np.testing.assert_allclose(ours, reference, rtol=1e-12, atol=1e-12)
    else:
        largest = np.abs(reference).max(initial=0, where=np.isfinite(reference))
        np.testing.assert_allclose(ours, reference, rtol=3e-5, atol=max(3e-6, 3e-5 * largest))


@every_case
def test_tensors_and_arrays_give_the_same_value(case: Case):
    """An op called with arrays computes the same, and returns arrays."""
    arrays = [in_dtype(x, np.float64) for x in case.inputs]
    try:
        expected = outputs(case.f(*arrays))
    except AttributeError:
        pytest.skip("is called as a method that arrays do not have")
    for value, reference in zip(outputs(case.f(*tensors(case.inputs, np.float64))), expected, strict=True):
        assert not isinstance(reference, Tensor)
        np.testing.assert_allclose(value.numpy(), reference, rtol=1e-14, atol=1e-14)


@every_case
def test_float32_stays_float32(case: Case, monkeypatch):
    """Not only what the tape returns (it casts): what the bodies and their rules return to it."""
    leaks = []

    def with_tensor_dtype(value, args, kwargs, original=tinygen.tape.with_tensor_dtype):
        leaks.extend(v.dtype for v in outputs(value) if isinstance(v, (np.ndarray, np.generic)))
        return original(value, args, kwargs)

    def unbroadcast(gx, x, original=tinygen.backward.unbroadcast):
        if hasattr(gx, "dtype"):
            leaks.append(gx.dtype)
        return original(gx, x)

    monkeypatch.setattr(tinygen.tape, "with_tensor_dtype", with_tensor_dtype)
    monkeypatch.setattr(tinygen.backward, "unbroadcast", unbroadcast)
    xs = tensors(case.inputs, np.float32)
    values = outputs(case.f(*xs))
    total(values, [w.astype(np.float32) for w in random_like(values)]).backward()
    assert np.float64 not in leaks
    assert {v.dtype for v in values} == {np.dtype(np.float32)}
    assert {x.grad.dtype for x in xs if x.requires_grad} == {np.dtype(np.float32)}


@every_case
@pytest.mark.parametrize(("dtype", "kernels"), [(np.float64, "off"), (np.float32, "auto")], ids=str)
def test_rules_write_into_nothing(case: Case, dtype, kernels, at_every_size):
    """Neither into the inputs nor into the gradient that they are given, and they give the same twice: the
    tape lends one array to several rules, and a graph may be walked again."""

    def copied(result):
        return (
            tuple(map(copied, result)) if type(result) is tuple else None if result is None else result.copy()
        )

    def guarded(rule):
        def twice(g):
            for array in g if type(g) is tuple else (g,):
                if isinstance(array, np.ndarray):
                    array.flags.writeable = False
            first = copied(rule(g))
            for before, after in zip(*map(as_tuple, (first, rule(g))), strict=True):
                np.testing.assert_array_equal(before, after)
            return first

        return rule and twice

    tinygen.kernels(kernels)
    xs = tensors(case.inputs, dtype)  # read-only
    values = outputs(case.f(*xs))
    for node in tinygen.backward.topological_order([v for v in values if v.node]):
        node.rules = [guarded(rule) for rule in node.rules]
    total(values, [w.astype(dtype) for w in random_like(values)]).backward()
    assert all(x.grad is not None for x in xs if x.requires_grad and x.size)


def as_tuple(result):
    return result if type(result) is tuple else (result,)


@every_case
def test_gradients_are_fresh_arrays(case: Case):
    """Writeable, contiguous, of the leaf's shape, and sharing memory with nothing."""
    xs = tensors(case.inputs, np.float64)
    values = outputs(case.f(*xs))
    total(values, random_like(values)).backward()
    leaves = [x for x in xs if x.requires_grad]
    for i, x in enumerate(leaves):
        assert type(x.grad) is np.ndarray
        assert x.grad.shape == x.shape
        assert x.grad.flags.writeable
        assert x.grad.flags.c_contiguous
        others = [y.numpy() for y in xs] + [y.grad for y in leaves[:i]] + [v.numpy() for v in values]
        assert not any(np.shares_memory(x.grad, other) for other in others)


@every_case
def test_the_gradient_is_the_same_through_a_checkpoint(case: Case):
    gradients = []
    for run in (lambda *xs: case.f(*xs), lambda *xs: tinygen.checkpoint(case.f, *xs)):
        xs = tensors(case.inputs, np.float64)
        values = outputs(run(*xs))
        total(values, random_like(values)).backward()
        gradients.append([x.grad for x in xs if x.requires_grad])
    for plain, again in zip(*gradients, strict=True):
        np.testing.assert_array_equal(plain, again)


@every_case
def test_arrays_that_refuse_numpy(case: Case):
    """An op on another library's arrays never mixes them with NumPy arrays, forward or backward (on a GPU
    this is impossible). It gives the same gradients, and float32 never becomes float64, not even in
    temporaries."""
    gradients = []
    for kind in (lambda x: x, Foreign):
        xs = [
            Tensor(kind(x.numpy()), requires_grad=x.requires_grad) for x in tensors(case.inputs, np.float32)
        ]
        Foreign.seen.clear()
        values = outputs(case.f(*xs))
        total(values, [kind(w.astype(np.float32)) for w in random_like(values)]).backward()
        gradients.append([x.grad for x in xs if x.requires_grad])
    assert np.float64 not in Foreign.seen
    for ours, foreign in zip(*gradients, strict=True):
        assert type(foreign) is Foreign
        np.testing.assert_array_equal(ours, foreign.get())
