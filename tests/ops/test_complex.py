"""Complex numbers: every op that takes them, their convention, and what refuses them.

Ops are looked at as functions of the real and imaginary parts, which are real numbers like others."""

from typing import Any

import numpy as np
import pytest
from cases_complex import CASES, Case, waves

import tinygen
import tinygen.optim
from tinygen import Tensor, gradcheck, ops
from tinygen.ops import complex_numbers

pytestmark = pytest.mark.filterwarnings("error")  # NumPy warns where an imaginary part is lost
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def parts(value: Any) -> tuple[Any, ...]:
    """The real numbers in complex and real values."""
    values = value if isinstance(value, (tuple, list)) else [value]
    found = []
    for y in values:
        found += [np.real(y), np.imag(y)] if y.dtype.kind == "c" else [y] if y.dtype.kind == "f" else []
    return tuple(found)


def joined(numbers: list[Any], like: tuple[Any, ...]) -> list[Any]:
    """Complex numbers again, where `like` has them."""
    rest = iter(numbers)
    return [next(rest) + 1j * next(rest) if x.dtype.kind == "c" else next(rest) for x in like]


def leaves(inputs: tuple[Any, ...], precision: Any = np.float64) -> list[Tensor]:
    dtypes = {"c": np.result_type(precision, np.complex64), "f": precision}
    return [Tensor(x.astype(dtypes[x.dtype.kind]), requires_grad=True) for x in inputs]


def weighted(value: Any, conj: Any = np.conj) -> Any:
    """A real number in which every part of the value has a weight of its own."""
    total = 0.0
    for i, y in enumerate(value if isinstance(value, (tuple, list)) else [value]):
        if y.dtype.kind in "fc":
            rng = np.random.default_rng(i)
            w = rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape)
            w = (
                w.astype(np.result_type(y.dtype, np.complex64))
                if y.dtype.kind == "c"
                else w.real.astype(y.dtype)
            )
            total = total + np.real(conj(w) * y).sum()
    return total


def bent(value: Any) -> Any:
    """`weighted`, and squares, so that its gradient depends on the value."""
    return weighted(value) + sum(
        np.real(y * np.conj(y)).sum() for y in as_list(value) if y.dtype.kind in "fc"
    )


def test_every_op_on_the_list_has_a_case():
    seen = set()
    for case in CASES:
        inputs = leaves(case.inputs)
        nodes = tinygen.backward.program([y for y in as_list(case.f(*inputs)) if y.requires_grad])
        seen |= {node.op for node in nodes}
    listed = {f.op for f in (*complex_numbers.ANALYTIC, *complex_numbers.PARTS)}
    assert {op.name for op in listed - seen} == set()


def as_list(value):
    return list(value) if isinstance(value, (tuple, list)) else [value]


@every_case
def test_the_gradient_of_the_gradient_by_real_and_imaginary_parts(case: Case):
    assert gradcheck(lambda *xs: parts(case.f(*joined(list(xs), case.inputs))), *parts(case.inputs), order=2)


@every_case
def test_values_are_numpys_and_float32_stays(case: Case):
    inputs = leaves(case.inputs, np.float32)
    values = as_list(case.f(*inputs))
    for y, expected in zip(values, as_list(case.f(*(x.data for x in inputs))), strict=True):
        assert y.dtype in (np.float32, np.complex64)
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)
    weighted(values).backward()
    assert [x.grad.dtype for x in inputs] == [x.dtype for x in inputs]


@every_case
def test_a_complex_gradient_is_that_of_both_parts(case: Case):
    """∂L/∂x + i ∂L/∂y, through `backward`, `grad` and `grad` on the tape."""
    inputs = leaves(case.inputs)
    weighted(case.f(*inputs)).backward()
    numbers = leaves(parts(case.inputs))
    weighted(case.f(*joined(numbers, case.inputs))).backward()
    for x, expected in zip(inputs, joined([x.grad for x in numbers], case.inputs), strict=True):
        np.testing.assert_allclose(x.grad, expected, rtol=1e-9, atol=1e-11)

    def of_the_gradient(xs: list[Tensor]) -> Any:
        gradient = tinygen.grad(lambda x: bent(case.f(x, *xs[1:])))(xs[0])
        return bent(gradient) + 0.01 * sum(np.real(x * np.conj(x)).sum() for x in xs)

    inputs = leaves(case.inputs)
    of_the_gradient(inputs).backward()
    numbers = leaves(parts(case.inputs))
    of_the_gradient(joined(numbers, case.inputs)).backward()
    for x, expected in zip(inputs, joined([x.grad for x in numbers], case.inputs), strict=True):
        np.testing.assert_allclose(x.grad, expected, rtol=1e-8, atol=1e-10)


@every_case
def test_torch_agrees(case: Case):
    torch = pytest.importorskip("torch")
    if case.torch is None:
        pytest.skip("has no counterpart in torch")
    inputs = leaves(case.inputs)
    theirs = [torch.tensor(x.data, requires_grad=True) for x in inputs]
    values, references = as_list(case.f(*inputs)), as_list(case.torch(*theirs))
    total = 0.0
    for i, y in enumerate(references):
        rng = np.random.default_rng(i)
        w = rng.normal(size=tuple(y.shape)) + 1j * rng.normal(size=tuple(y.shape))
        total = total + (torch.tensor(w if y.is_complex() else w.real).conj() * y).real.sum()
    weighted(values).backward()
    total.backward()
    for x, y in zip(inputs, theirs, strict=True):
        np.testing.assert_allclose(x.grad, y.grad.resolve_conj().numpy(), rtol=1e-10, atol=1e-11)


# -- the convention, by hand -----------------------------------------------------------------------


def test_a_step_against_the_gradient_finds_the_nearest_number():
    z, target = Tensor(np.array(3.0 + 4.0j)), 1.0 - 2.0j
    for _ in range(50):
        z = Tensor(z.data - 0.25 * tinygen.grad(lambda z: np.square(np.abs(z - target)))(z).data)
    np.testing.assert_allclose(z.numpy(), target, rtol=1e-12)


def test_gradients_by_hand():
    """|z|² has the gradient 2 z; Re z has 1, Im z has i; |z| at 0 has 0."""
    z = Tensor(np.array([3.0 - 4.0j, 0.0]), requires_grad=True)
    for f, expected in [
        (lambda z: np.real(z * np.conj(z)), [6 - 8j, 0]),
        (np.real, [1, 1]),
        (np.imag, [1j, 1j]),
        (np.abs, [0.6 - 0.8j, 0]),
        (np.angle, [(4 + 3j) / 25, 0]),
        (np.sign, [(0.64 + 0.48j) / 5, 0]),  # the radius stays, the angle turns
    ]:
        z.grad = None
        np.real(f(z)).sum().backward()
        np.testing.assert_allclose(z.grad, expected, atol=1e-15)


def test_real_inputs_have_real_gradients():
    """|1 + ix| is the square root of 1 + x²."""
    x = Tensor(np.array([0.5, -2.0, 0.0]), requires_grad=True)
    np.abs(1j * x + 1).sum().backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad, x.data / np.sqrt(1 + x.data**2))


def test_vectors_and_numbers_on_the_way():
    z = waves(3)
    f = lambda z: np.exp(z) * np.conj(z)
    t = waves(3)
    value, tangent = tinygen.jvp(f, [z], [t])
    step = 1e-6
    np.testing.assert_allclose(tangent.numpy(), (f(z + step * t) - f(z - step * t)) / (2 * step), rtol=1e-8)
    energy = lambda z: np.square(np.abs(z * z)).sum()
    slope = tinygen.grad(energy)
    difference = (slope(z + step * t).numpy() - slope(z - step * t).numpy()) / (2 * step)
    np.testing.assert_allclose(tinygen.hvp(energy, z, t).numpy(), difference, rtol=1e-7)
    through = tinygen.vjp(f, z)[1](value)[0].numpy()
    again = tinygen.vjp(lambda z: tinygen.checkpoint(f, z), z)[1](value)[0].numpy()
    np.testing.assert_array_equal(through, again)


def test_python_numbers_and_lists():
    assert Tensor([1j, 2.0]).dtype == np.complex64
    assert complex(Tensor(2j)) == 2j
    assert (Tensor([1.0]) * 1j).dtype == np.complex64
    assert (Tensor([1.0]) * np.complex128(1j)).dtype == np.complex64
    assert np.abs(Tensor([3 + 4j])).dtype == np.float32
    x = Tensor(np.ones(2), requires_grad=True)
    assert (x.astype(np.complex128).real, x.conj(), x.imag)[0].dtype == np.float64


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda z: np.maximum(z, z), TypeError, "`maximum` has no gradient for complex numbers: take np.abs"),
        (lambda z: ops.softmax(z), TypeError, "`softmax` has no gradient for complex"),
        (lambda z: np.clip(np.real(z), 1j, 2), TypeError, "`clip` has no gradient for complex"),
        (lambda z: z[0].backward(), ValueError, "needs a real number to start from"),
        (lambda z: tinygen.jacobian(lambda z: z * z)(z), TypeError, "complex values"),
        (lambda z: twice(z), TypeError, "`twice` has no gradient for complex .* docs/arrays.md"),
        (lambda z: tinygen.optim.SGD([z], lr=1.0), TypeError, "optimizers take real parameters"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(Tensor(waves(3), requires_grad=True))


@tinygen.op
def twice(z):
    return 2 * z, lambda g: 2 * g


def test_an_op_of_ones_own():
    @tinygen.op
    def cube(z):
        return z * z * z, lambda g: 3 * g * z * z

    cube.op.complex = True
    z = Tensor(waves(3), requires_grad=True)
    np.real(cube(z)).sum().backward()
    np.testing.assert_allclose(z.grad, np.conj(3 * z.data**2))


def test_values_without_a_gradient_are_numpys():
    z = waves(4)
    for f in (np.maximum, np.add, np.equal, np.var):
        found = f(Tensor(z)) if f is np.var else f(Tensor(z), Tensor(z[::-1].copy()))
        np.testing.assert_allclose(found.numpy(), f(z) if f is np.var else f(z, z[::-1]))


def test_not_a_number_is_found():
    z = Tensor(np.array([0j]), requires_grad=True)
    with (
        tinygen.anomaly(),
        np.errstate(all="ignore"),
        pytest.raises(tinygen.AnomalyError, match="reciprocal"),
    ):
        np.reciprocal(z)
