"""Mistakes in linear algebra, Fourier transforms, sorting and sums over segments."""

import numpy as np
from users_planting import normal, positive, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("cholesky", (Kind.MASK, Kind.TERM), np.eye(3) * 3 + positive(3, 3) / 2)
def cholesky_with_its_diagonal_not_halved(x):
    y = np.linalg.cholesky((x + x.T) / 2)

    def dx(g):
        inverse = np.linalg.inv(y)
        s = inverse.T @ np.tril(y.T @ g) @ inverse
        return (s + s.T) / 2

    return y, dx


@wrong_op("solve_triangular", Kind.MASK, np.tril(normal(3, 3)) + 3 * np.eye(3), normal(3, 2))
def triangular_solve_with_a_full_gradient(a, b):
    """Only the lower triangle is read; the gradient fills the upper one as well."""
    low = np.tril(a)
    if (np.abs(np.diag(low)) < 0.5).any():
        raise np.linalg.LinAlgError("the matrix is singular, or nearly")
    y = np.linalg.solve(low, b)
    return y, lambda g: -np.linalg.solve(low.T, g) @ y.T, lambda g: np.linalg.solve(low.T, g)


@wrong_op("solve", Kind.PLACE, normal(3, 3) + 4 * np.eye(3), normal(3, 2))
def solve_with_a_not_transposed(a, b):
    y = np.linalg.solve(a, b)
    return y, lambda g: -np.linalg.solve(a.T, g) @ y.T, lambda g: np.linalg.solve(a, g)


@wrong_op("eigvalsh", Kind.PLACE, normal(3, 3) + np.diag([1.0, 5.0, 9.0]))
def eigenvalues_with_rows_for_vectors(x):
    values, vectors = np.linalg.eigh((x + x.T) / 2)
    return values, lambda g: vectors.T * g @ vectors


@wrong_op("matrix_power", (Kind.TERM, Kind.DETACHED), normal(3, 3))
def square_of_a_matrix_by_its_first_factor(x):
    return x @ x, lambda g: g @ x.T


@wrong_op("inv", Kind.PLACE, normal(3, 3) + 3 * np.eye(3))
def inverse_with_one_factor_not_transposed(x):
    y = np.linalg.inv(x)
    return y, lambda g: -y @ g @ y.T


@wrong_op("fft", Kind.CONSTANT, normal(2, 6))
def fourier_transform_with_its_inverse_for_its_gradient(x):
    """The inverse divides by n, which the adjoint does not."""
    return np.fft.fft(x).real, lambda g: np.fft.ifft(g).real


@wrong_op("cumprod", Kind.SLOPE, positive(2, 4))
def cumprod_not_divided_by_its_factor(x):
    y = np.cumprod(x, axis=1)
    return y, lambda g: np.cumsum((g * y)[:, ::-1], axis=1)[:, ::-1]


@wrong_op("sort", Kind.PLACE, np.array([[0.3, 1.2, -0.7, 2.0], [1.5, -0.2, 0.6, -1.1]]))
def sort_with_its_permutation_twice(x):
    """What comes back is sorted the same way, instead of put back."""
    order = np.argsort(x, axis=1)
    return np.take_along_axis(x, order, 1), lambda g: np.take_along_axis(g, order, 1)


@wrong_op("interp", (Kind.MASK, Kind.SUM, Kind.TERM), np.array([0.2, 0.5, 0.8, 2.2]), normal(4))
def spline_that_overwrites_shared_knots(x, values):
    """Three places lie between the same two knots."""
    if (np.diff(x) <= 0).any():
        raise ValueError("places must be sorted")
    i = np.clip(np.floor(x).astype(int), 0, 2)
    t = x - i

    def dvalues(g):
        d = np.zeros_like(values)
        d[i] += g * (1 - t)
        d[i + 1] += g * t
        return d

    return values[i] * (1 - t) + values[i + 1] * t, lambda g: g * (values[i + 1] - values[i]), dvalues


SEGMENTS = np.array([0, 0, 1, 2, 2, 2])


@wrong_op("segment_mean", (Kind.SLOPE, Kind.CONSTANT, Kind.MASK), normal(6, 2))
def segment_mean_sent_back_as_a_sum(x):
    count = np.bincount(SEGMENTS)[:, None]
    y = np.zeros((3, 2))
    np.add.at(y, SEGMENTS, x)
    return y / count, lambda g: g[SEGMENTS]


@wrong_op("fixed_point", (Kind.SLOPE, Kind.TERM), normal(3, 4))
def fixed_point_with_the_gradient_of_its_last_step(x):
    """y = tanh(0.5 y + x), solved; the rule forgets that y is on both sides."""
    y = np.zeros_like(x)
    for _ in range(80):
        y = np.tanh(0.5 * y + x)
    return y, lambda g: g * (1 - y * y)


@wrong_op("embedding", (Kind.TERM, Kind.DETACHED), normal(5, 3), np.array([1, 4, 1]))
def logits_with_tied_weights_counted_once(table, ids):
    """The table embeds the ids and scores the words; the gradient is that of the scores."""
    h = np.tanh(table[ids])
    return h @ table.T, lambda g: g.T @ h


@wrong_op("lora", Kind.CONSTANT, normal(2, 4), normal(2, 4), normal(3, 2))
def lora_with_its_scale_in_one_of_two_rules(x, a, b):
    scale = 8.0
    return (
        scale * x @ a.T @ b.T,
        lambda g: scale * g @ b @ a,
        lambda g: scale * (g @ b).T @ x,
        lambda g: g.T @ (x @ a.T),
    )
