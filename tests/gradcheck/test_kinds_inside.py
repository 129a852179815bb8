"""Mistakes inside of an op, which only its Jacobian shows: slopes and masks between two matrices, groups of a
mean, contributions that overwrite each other, conjugates, and numbers that are right in other places."""

import numpy as np
import pytest
from users_planting import sigmoid, softmax

from tinygen import gradcheck, op
from tinygen.gradcheck import Kind

rng = np.random.default_rng(0)
X, IN, OUT = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(5, 2))
CASES = []


def seen_as(kind, words, *inputs):
    def add(f):
        CASES.append(pytest.param(f, inputs, kind, words, id=f.__name__))
        return f

    return add


@seen_as(Kind.SLOPE, "between two matrices", X, IN, OUT)
@op
def tanh_between_with_the_slope_of_a_sigmoid(x, w, v):
    h = np.tanh(x @ w)
    slope = 1 - h * h
    return (
        h @ v,
        lambda g: (g @ v.T * h * (1 - h)) @ w.T,
        lambda g: x.T @ (g @ v.T * slope),
        lambda g: h.T @ g,
    )


@seen_as(Kind.SLOPE, "has a wrong factor inside", X, IN, OUT)
@op
def tanh_between_whose_first_weight_knows_no_slope(x, w, v):
    h = np.tanh(x @ w)
    slope = 1 - h * h
    return h @ v, lambda g: (g @ v.T * slope) @ w.T, lambda g: x.T @ (g @ v.T), lambda g: h.T @ g


@seen_as(Kind.MASK, "should stop", X, IN, OUT)
@op
def relu_between_that_lets_all_pass(x, w, v):
    h = np.maximum(x @ w, 0)
    return h @ v, lambda g: g @ v.T @ w.T, lambda g: x.T @ (g @ v.T * (h > 0)), lambda g: h.T @ g


@seen_as(Kind.SUM, "within 8 groups, where there are 4", rng.normal(size=(2, 4, 3)))
@op
def groups_of_two_channels_with_the_gradient_of_single_ones(x):
    def standardized(z):
        centered = z - z.mean(axis=-1, keepdims=True)
        return centered, 1 / np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + 1e-5)

    centered, inv = standardized(x.reshape(2, 2, 6))
    y, inv = (centered * inv).reshape(x.shape), inv.repeat(2, axis=1)

    def dx(g):
        return inv * (g - g.mean(axis=-1, keepdims=True) - y * (g * y).mean(axis=-1, keepdims=True))

    return y, dx


@seen_as(Kind.SUM, "ways from an entry to an output", rng.normal(size=(2, 8)), rng.normal(size=(4, 3)))
@op
def convolution_whose_windows_overwrite(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, axis=-1)

    def dx(g):
        d = np.zeros_like(x)
        for k in range(3):
            d[:, k : k + 6] = np.einsum("not,o->nt", g, w[:, k])
        return d

    return np.einsum("ntk,ok->not", windows, w), dx, lambda g: np.einsum("ntk,not->ok", windows, g)


@seen_as(Kind.SUM, "has rank 3, and the true one has rank 4", X, rng.normal(size=(4, 2)), IN[:, :2])
@op
def bilinear_weight_summed_before_the_product(a, b, w):
    def dw(g):
        return np.outer((g[:, None] * a).sum(axis=0), b.mean(axis=0))

    return (a @ w * b).sum(axis=1), lambda g: g[:, None] * (b @ w.T), lambda g: g[:, None] * (a @ w), dw


@seen_as(Kind.SUM, "is normalized along axis 1, where it should be along axis 0", X)
@op
def logsumexp_with_the_softmax_of_the_rows(x):
    return np.log(np.exp(x).sum(axis=0)), lambda g: g * softmax(x, 1)


@seen_as(Kind.PLACE, "numbers that are right in other places", rng.normal(size=(4, 6)))
@op
def rotation_of_pairs_with_the_gradient_of_halves(x):
    angle = np.arange(1, 5)[:, None] * np.array([1.0, 0.3, 0.1])
    c, s = np.cos(angle), np.sin(angle)
    a, b = x[:, ::2], x[:, 1::2]

    def dx(g):
        a, b = g[:, :3], g[:, 3:]
        return np.concatenate([a * c + b * s, b * c - a * s], axis=1)

    return np.stack([a * c - b * s, a * s + b * c], axis=2).reshape(4, 6), dx


@seen_as(Kind.SLOPE, "which are a part of it along an axis", rng.normal(size=(3, 6)), rng.normal(size=(3, 2)))
@op
def gates_of_which_one_knows_no_slope(gates, cell):
    i, f, n = np.split(gates, 3, axis=-1)
    i, f, n = sigmoid(i), sigmoid(f), np.tanh(n)

    def dgates(g):
        return np.concatenate([g * n * i * (1 - i), g * cell, g * i * (1 - n * n)], axis=-1)

    return f * cell + i * n, dgates, lambda g: g * f


@seen_as(Kind.MASK, "where |argument x| is above some number", np.linspace(-2.2, 2.3, 12))
@op
def huber_with_the_slope_of_a_square(x):
    size = np.abs(x)
    return np.where(size < 1, x * x / 2, size - 0.5), lambda g: g * x


@op
def product_with_half_a_conjugate(a, b):
    return a * np.conj(b), lambda g: g * np.conj(b), lambda g: np.conj(g) * a


product_with_half_a_conjugate.op.complex = True
COMPLEX = X + 1j * X[::-1]
seen_as(Kind.PLACE, "is right up to a conjugate", COMPLEX, 1 + COMPLEX)(product_with_half_a_conjugate)


@pytest.mark.parametrize(("f", "inputs", "kind", "words"), CASES)
def test_a_mistake_inside_is_named(f, inputs, kind, words):
    report = gradcheck(f, *inputs)
    assert not report
    assert report.kind is kind, report
    assert words in report.findings[0].sentence, report
    assert report.culprit.op == f.__name__
