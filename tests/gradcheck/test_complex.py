"""gradcheck of complex numbers: inputs and outputs are checked by their real and their imaginary parts."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, op

Z = np.array([[1.0 + 2.0j, 0.5 - 1.0j]])


@op
def mirrored(z):
    """The conjugate, with the rule of an analytic function, which it is not."""
    return np.conj(z), lambda g: g


mirrored.op.complex = True


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (np.abs, Z),
        (lambda z: z * z, Z),
        (lambda z: {"a": np.fft.fft(z), "b": np.angle(z)}, Tensor(Z)),
        (np.fft.rfft, np.array([1.0, -2.0, 0.5])),
        (lambda x: x * 1j, np.ones(2)),
        (lambda x: np.linalg.eigvals(x), np.array([[0.1, -2.0], [1.0, 0.2]])),
    ],
)
def test_right_ones(f, x):
    report = gradcheck(f, x, order=2)
    assert report
    assert ("(imaginary part)" in str(report)) == (x.dtype.kind == "c")


def test_a_wrong_one():
    report = gradcheck(lambda z: np.abs(mirrored(z) + 1), Z)
    assert not report
    assert "the first wrong op is mirrored(complex128 (1, 2))" in str(report)
    assert "input z (imaginary part)" in str(report)


def test_complex_numbers_inside_a_batch():
    assert gradcheck(lambda batch, w: np.real(batch["z"] * w), {"z": Z}, np.array([2.0, 3.0]))
