"""Every way to call the ops that accept complex numbers, including np.fft and np.linalg.

An op is treated as a function of the real and imaginary parts, which are ordinary real numbers."""

from typing import Any

import numpy as np
import pytest
from cases_complex import COMPLEX
from cases_fourier import FOURIER
from cases_matrices import MATRICES
from foreign import Foreign
from parts import Case, as_list, bent, join_parts, leaves, parts, weighted, weights

import tinygen
from tinygen import Tensor, gradcheck
from tinygen.ops import complex_numbers
from tinygen.ops.numpy.table import rows

CASES = [*COMPLEX, *FOURIER, *MATRICES]
pytestmark = pytest.mark.filterwarnings("error")  # NumPy warns where an imaginary part is lost
every_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def test_every_op_on_the_list_has_a_case():
    seen = set()
    for case in CASES:
        inputs = leaves(case.inputs)
        nodes = tinygen.backward.topological_order([y for y in as_list(case.f(*inputs)) if y.requires_grad])
        seen |= {node.op for node in nodes}
    listed = {f.op for f in (*complex_numbers.ANALYTIC, *complex_numbers.PARTS)}
    assert {op.name for op in listed - seen} == set()


def test_every_function_of_linalg_and_fft_has_a_case():
    """Those with gradients, as docs/numpy.md lists them."""
    tested = {case.name.split("-")[0] for case in CASES}
    names = [n for n, row in rows().items() if row.kind == "gradient" and n.startswith(("linalg.", "fft."))]
    assert len(names) > 40
    assert [n for n in names if n not in tested and n.partition(".")[2] not in tested] == []


@every_case
def test_the_gradient_of_the_gradient_by_real_and_imaginary_parts(case: Case):
    function = lambda *xs: parts(case.f(*join_parts(list(xs), case.inputs)))
    assert gradcheck(function, *parts(case.inputs), order=2)


@every_case
def test_values_are_numpys_and_float32_stays(case: Case):
    for y, expected in zip(as_list(case.f(*leaves(case.inputs))), as_list(case.f(*case.inputs)), strict=True):
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)
    inputs = leaves(case.inputs, np.float32)
    values = as_list(case.f(*inputs))
    assert {y.dtype for y in values} <= {np.dtype(np.float32), np.dtype(np.complex64)}
    weighted(values).backward()
    assert [x.grad.dtype for x in inputs] == [x.dtype for x in inputs]


@every_case
def test_a_complex_gradient_is_that_of_both_parts(case: Case):
    """∂L/∂x + i ∂L/∂y, through `backward`, `grad` and `grad` on the tape."""
    if not any(x.dtype.kind == "c" for x in case.inputs):
        pytest.skip("real numbers only")
    inputs = leaves(case.inputs)
    weighted(case.f(*inputs)).backward()
    numbers = leaves(parts(case.inputs))
    weighted(case.f(*join_parts(numbers, case.inputs))).backward()
    for x, expected in zip(inputs, join_parts([x.grad for x in numbers], case.inputs), strict=True):
        np.testing.assert_allclose(x.grad, expected, rtol=1e-9, atol=1e-11)

    def of_the_gradient(xs: list[Tensor]) -> Any:
        gradient = tinygen.grad(lambda x: bent(case.f(x, *xs[1:])))(xs[0])
        return bent(gradient) + 0.01 * sum(np.real(x * np.conj(x)).sum() for x in xs)

    inputs = leaves(case.inputs)
    of_the_gradient(inputs).backward()
    numbers = leaves(parts(case.inputs))
    of_the_gradient(join_parts(numbers, case.inputs)).backward()
    for x, expected in zip(inputs, join_parts([x.grad for x in numbers], case.inputs), strict=True):
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
        total = total + (torch.tensor(weights(i, y)).conj() * y).real.sum()
    weighted(values).backward()
    total.backward()
    for x, y in zip(inputs, theirs, strict=True):
        np.testing.assert_allclose(x.grad, y.grad.resolve_conj().numpy(), rtol=1e-10, atol=1e-11)


@every_case
def test_arrays_that_refuse_numpy(case: Case):
    """As in test_every_op.py: what runs on these runs on a GPU."""
    if "singular" in case.name:
        pytest.skip("on a GPU nobody looks whether a matrix is singular")
    inputs = leaves(case.inputs, np.float32)
    weighted(case.f(*inputs)).backward()
    there = [Tensor(Foreign(x.data), requires_grad=True) for x in inputs]
    weighted(case.f(*there), Foreign).backward()
    for x, y in zip(inputs, there, strict=True):
        assert type(y.grad) is Foreign
        np.testing.assert_allclose(x.grad, y.grad.get(), rtol=1e-5, atol=1e-6)  # LAPACK: other bits elsewhere
