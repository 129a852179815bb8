"""Mistakes in signals, graphs, kernels, polynomials and complex numbers."""

import numpy as np
from users_planting import wrong_op

from tinygen.gradcheck import Kind

rng = np.random.default_rng(4505)


@wrong_op("fft_conv", Kind.PLACE, rng.normal(size=(2, 8)), rng.normal(size=8))
def long_convolution_without_the_conjugate(x, kernel):
    """Circular; one of the two rules multiplies by the spectrum itself."""
    n = x.shape[-1]
    xf, kf = np.fft.rfft(x, axis=-1), np.fft.rfft(kernel)
    y = np.fft.irfft(xf * kf, n=n, axis=-1)

    def dx(g):
        return np.fft.irfft(np.fft.rfft(g, axis=-1) * kf, n=n, axis=-1)

    def dkernel(g):
        return np.fft.irfft(np.fft.rfft(g, axis=-1) * np.conj(xf), n=n, axis=-1).sum(axis=0)

    return y, dx, dkernel


@wrong_op("power_spectrum", Kind.SLOPE, rng.normal(size=(2, 8)))
def power_spectrum_with_the_inner_bins_twice(frames):
    """irfft counts each bin between the first and the last one twice, the spectrum has it once."""
    n = frames.shape[-1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    spectrum = np.fft.rfft(frames * window, axis=-1)
    power = spectrum.real**2 + spectrum.imag**2

    def dframes(g):
        return np.fft.irfft(2 * g * spectrum, n=n, axis=-1) * n * window

    return power, dframes


EDGES = np.array(
    [[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]], dtype=float
)
PROPAGATE = EDGES / EDGES.sum(axis=1, keepdims=True)


@wrong_op("graph_conv", Kind.PLACE, rng.normal(size=(5, 4)), rng.normal(size=(4, 3)))
def graph_conv_that_sends_back_along_its_edges(x, w):
    """The mean over neighbors in a directed graph: its matrix is not symmetric."""
    gathered = PROPAGATE @ x
    z = gathered @ w
    alive = z > 0

    def dx(g):
        return PROPAGATE @ (g * alive) @ w.T

    def dw(g):
        return gathered.T @ (g * alive)

    return z * alive, dx, dw


@wrong_op("advection", Kind.PLACE, rng.normal(size=9), rng.uniform(0.1, 0.6, size=9))
def upwind_step_with_its_adjoint_upwind(u, courant):
    """What flows into a cell from its left neighbor; back it has to go to the left."""
    slope = u - np.roll(u, 1)
    new = u - courant * slope

    def du(g):
        carried = courant * g
        return g - carried + np.roll(carried, 1)

    def dcourant(g):
        return -g * slope

    return new, du, dcourant


@wrong_op(
    "rbf_kernel",
    (Kind.CONSTANT, Kind.SLOPE),
    rng.normal(size=(4, 2)),
    rng.normal(size=(3, 2)),
    np.array(0.7),
)
def gaussian_kernel_with_a_power_of_its_width_missing(x, y, width):
    d = x[:, None] - y
    square = (d * d).sum(axis=-1)
    k = np.exp(-square / (2 * width**2))

    def dx(g):
        return -((g * k)[..., None] * d).sum(axis=1) / width**2

    def dy(g):
        return ((g * k)[..., None] * d).sum(axis=0) / width**2

    def dwidth(g):
        return (g * k * square).sum() / width**2

    return k, dx, dy, dwidth


@wrong_op(
    "correlate",
    None,
    rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3)),
    rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3)),
)
def cross_spectrum_with_half_a_conjugate(a, b):
    """a b*, for which dL = Re(g dy): b gets conj(g a), and here only g is conjugated."""
    return a * np.conj(b), lambda g: g * np.conj(b), lambda g: np.conj(g) * a


cross_spectrum_with_half_a_conjugate.op.complex = True


@wrong_op("polyval", Kind.PLACE, rng.normal(size=4), np.array([0.4, -1.1, 0.9, 1.6, -0.3, 0.7]))
def polynomial_with_its_powers_ascending(coefficients, x):
    """Coefficients from the highest power on, as np.polyval has them."""
    degree = len(coefficients) - 1
    y, slope = coefficients[0] + 0 * x, 0 * x
    for c in coefficients[1:]:
        slope = slope * x + y
        y = y * x + c

    def dcoefficients(g):
        powers = np.stack([x**k for k in range(degree + 1)])
        return powers @ g

    return y, dcoefficients, lambda g: g * slope
