"""Wrong ops with a restricted domain, and those that need not end: the checker asks much of them to tell what
is wrong, and neither crashes nor hangs."""

import numpy as np
import pytest

from tinygen import gradcheck, op
from tinygen.gradcheck import Kind, Verdict

rng = np.random.default_rng(0)
SQUARE = rng.normal(size=(4, 4))
LOWER = np.tril(SQUARE) + 3 * np.eye(4)
B = rng.normal(size=4)


@op
def cholesky_halved(a):
    """Refuses what is not symmetric, to many digits."""
    if np.abs(a - a.T).max() > 1e-2:
        raise np.linalg.LinAlgError("not symmetric")
    factor = np.linalg.cholesky((a + a.T) / 2)

    def da(g):
        phi = np.tril(factor.T @ g)
        inverse = np.linalg.inv(factor)
        s = inverse.T @ phi @ inverse
        return (s + s.T) / 2

    return factor, da


@op
def substituted(lower, b):
    """Its second rule forgets to transpose."""
    if np.triu(lower, 1).any():
        raise ValueError("not lower triangular")
    x = np.linalg.solve(lower, b)
    return (
        x,
        lambda g: np.tril(-np.outer(np.linalg.solve(lower.T, g), x)),
        lambda g: np.linalg.solve(lower, g),
    )


@op
def substituted_with_a_sign(lower, b):
    if np.triu(lower, 1).any():
        raise ValueError("not lower triangular")
    x = np.linalg.solve(lower, b)

    def back(g):
        db = np.linalg.solve(lower.T, g)
        return np.tril(np.outer(db, x)), db

    return x, back


@op
def widths(knots):
    if (np.diff(knots) <= 0).any():
        raise ValueError("knots must increase")
    return np.diff(knots), lambda g: np.append(g, 0.0)


@op
def endless_elsewhere(x, y):
    """Newton's square root, of numbers that increase; of others it never ends."""
    root, ordered = np.ones_like(x), bool((np.diff(x) > 0).all())
    while not (np.abs(root * root - x).max() < 1e-12 and ordered):
        root = (root + x / root) / 2
    return root * y, lambda g: g * y / root, lambda g: g * root


@pytest.mark.parametrize(
    ("f", "inputs", "kinds"),
    [
        (cholesky_halved, (SQUARE @ SQUARE.T + np.eye(4),), set(Kind)),
        (substituted, (LOWER, B), {Kind.PLACE}),
        (substituted_with_a_sign, (LOWER, B), {Kind.CONSTANT}),
        (widths, (np.array([0.1, 0.4, 0.9, 1.3]),), set(Kind)),
        (endless_elsewhere, (np.array([0.5, 1.0, 2.0]), np.ones(3) + B[:3]), {Kind.CONSTANT}),
    ],
    ids=lambda f: getattr(f, "__name__", ""),
)
def test_a_wrong_op_is_explained(f, inputs, kinds):
    report = gradcheck(f, *inputs)
    assert report.verdict is Verdict.WRONG
    assert report.kind in kinds, report
    assert report.culprit.op == f.__name__


def test_what_cannot_be_moved_is_said():
    report = gradcheck(substituted, LOWER, B)
    right = next(r for r in report.results if r.name == "input lower")
    assert (right.verdict, right.entries, right.stuck) == (Verdict.OK, 10, 6)
    assert "10 entries, largest difference" in right.details
    assert "6 cannot be moved (ValueError: " in right.details


def test_nothing_can_be_moved():
    fixed = np.array([1.0, 2.0])

    def only_there(x):
        if (x.numpy() != fixed).any():
            raise ValueError("no other inputs, please")
        return x * x

    report = gradcheck(only_there, fixed)
    assert report.verdict is Verdict.DOMAIN
    assert "cannot be moved, the function raises ValueError: no other inputs, please" in str(report)
