"""Mistakes in linear algebra, Fourier transforms, sorting and sums over segments."""

import numpy as np
from users_planting import normal, positive, right_op, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("slogdet", Kind.PLACE, normal(3, 3) + 3 * np.eye(3))
def log_determinant_with_the_inverse_not_transposed(x):
    return np.linalg.slogdet(x)[1], lambda g: g * np.linalg.inv(x)


@wrong_op("eigh", Kind.CONSTANT, normal(3, 3) / 2 + np.diag([1.0, 5.0, 9.0]))
def eigenvectors_with_their_gaps_the_other_way(x):
    values, vectors = np.linalg.eigh((x + x.T) / 2)
    vectors = vectors * np.sign(np.diag(vectors))
    gaps = values[:, None] - values + np.eye(3)

    def dx(g):
        s = vectors @ ((vectors.T @ g) * (1 - np.eye(3)) / gaps) @ vectors.T
        return (s + s.T) / 2

    return vectors, dx


@wrong_op("einsum", Kind.MASK, normal(4, 4))
def diagonal_sent_back_to_whole_rows(x):
    """einsum("ii->i"): the repeated letter is a mask on the way back."""
    return np.einsum("ii->i", x), lambda g: np.broadcast_to(g[:, None], x.shape)


@wrong_op("fft", Kind.PLACE, normal(6), normal(6))
def circular_conv_without_its_conjugate(x, w):
    fx, fw = np.fft.rfft(x), np.fft.rfft(w)

    def back(g):
        fg = np.fft.rfft(g)
        return np.fft.irfft(fg * fw, 6), np.fft.irfft(fg * fx.conj(), 6)

    return np.fft.irfft(fx * fw, 6), back


@wrong_op("rfft", Kind.TERM, normal(2, 6))
def power_spectrum_with_its_mirror_image_counted(x):
    """Half of the spectrum comes out; irfft takes each frequency inside of it twice."""
    f = np.fft.rfft(x)
    return f.real**2 + f.imag**2, lambda g: 2 * 6 * np.fft.irfft(g * f, 6)


PLACES, KNOTS = np.array([0.3, 0.7, 1.6, 2.2]), np.array([0.0, 1.0, 1.9, 3.0])


@wrong_op("interp", Kind.PLACE, PLACES, KNOTS, normal(4))
def spline_whose_knots_take_the_weight_of_their_neighbor(x, knots, values):
    """Linear between sorted knots; in the gradient of the values the ends of an interval are exchanged."""
    if (np.diff(knots) <= 0).any():
        raise ValueError("knots must be sorted")
    i = np.clip(np.searchsorted(knots, x) - 1, 0, 2)
    width = knots[i + 1] - knots[i]
    t, slope = (x - knots[i]) / width, (values[i + 1] - values[i]) / width

    def back(g):
        dknots, dvalues = np.zeros_like(knots), np.zeros_like(values)
        np.add.at(dknots, i, -g * slope * (1 - t))
        np.add.at(dknots, i + 1, -g * slope * t)
        np.add.at(dvalues, i, g * t)
        np.add.at(dvalues, i + 1, g * (1 - t))
        return g * slope, dknots, dvalues

    return values[i] + t * (values[i + 1] - values[i]), back


@right_op("cholesky", np.eye(3) * 3 + positive(3, 3) / 2)
def cholesky_of_the_symmetric_part(x):
    y = np.linalg.cholesky((x + x.T) / 2)

    def dx(g):
        inverse = np.linalg.inv(y)
        phi = np.tril(y.T @ g) * (1 - 0.5 * np.eye(3))
        s = inverse.T @ phi @ inverse
        return (s + s.T) / 2

    return y, dx


@right_op("sort", np.array([[0.3, 1.2, -0.7, 2.0], [1.5, -0.2, 0.6, -1.1]]))
def sort_put_back(x):
    order = np.argsort(x, axis=1)
    return np.take_along_axis(x, order, 1), lambda g: np.take_along_axis(g, np.argsort(order, axis=1), 1)


@right_op("fft", normal(6), normal(6))
def circular_conv(x, w):
    fx, fw = np.fft.rfft(x), np.fft.rfft(w)

    def back(g):
        fg = np.fft.rfft(g)
        return np.fft.irfft(fg * fw.conj(), 6), np.fft.irfft(fg * fx.conj(), 6)

    return np.fft.irfft(fx * fw, 6), back
