"""Mistakes in linear algebra, Fourier transforms, sorting and sums over segments."""

import numpy as np
from users_planting import normal, right_op, wrong_op

from tinygen.gradcheck import Kind


@wrong_op("solve", Kind.CONSTANT, normal(3, 3) + 4 * np.eye(3), normal(3, 2))
def solve_without_its_minus(a, b):
    y = np.linalg.solve(a, b)
    return y, lambda g: np.linalg.solve(a.T, g) @ y.T, lambda g: np.linalg.solve(a.T, g)


@wrong_op("einsum", Kind.PLACE, normal(2, 3), normal(3, 3), normal(2, 3))
def bilinear_form_with_its_matrix_transposed(x, w, y):
    return (
        np.einsum("bi,ij,bj->b", x, w, y),
        lambda g: np.einsum("b,ij,bj->bi", g, w, y),
        lambda g: np.einsum("b,bj,bi->ij", g, x, y),
        lambda g: np.einsum("b,bi,ij->bj", g, x, w),
    )


@right_op("fixed_point", normal(3, 4))
def fixed_point_until_it_stands(x):
    y, err = np.zeros_like(x), 1.0
    while err > 1e-13:
        new = np.tanh(0.5 * y + x)
        y, err = new, np.abs(new - y).max()
    slope = 1 - y * y
    return y, lambda g: g * slope / (1 - 0.5 * slope)


@right_op("interp", np.array([0.3, 0.7, 1.6, 2.2]), np.array([0.0, 1.0, 1.9, 3.0]), normal(4))
def spline_between_sorted_knots(x, knots, values):
    if (np.diff(knots) <= 0).any():
        raise ValueError("knots must be sorted")
    i = np.clip(np.searchsorted(knots, x) - 1, 0, 2)
    width = knots[i + 1] - knots[i]
    t, slope = (x - knots[i]) / width, (values[i + 1] - values[i]) / width

    def back(g):
        dknots, dvalues = np.zeros_like(knots), np.zeros_like(values)
        np.add.at(dknots, i, -g * slope * (1 - t))
        np.add.at(dknots, i + 1, -g * slope * t)
        np.add.at(dvalues, i, g * (1 - t))
        np.add.at(dvalues, i + 1, g * t)
        return g * slope, dknots, dvalues

    return values[i] + t * (values[i + 1] - values[i]), back
