"""Right ops and layers as people write them, with whatever makes a checker cry wolf: rules in another dtype,
loops that stop at an error, restricted domains, buffers that move, numbers that are no variables.

`RIGHT` has them all, by name: a function and its inputs. None may be called wrong.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from planting import normal, positive, rng

from tinygen import Tensor, nn, op, ops

RIGHT: dict[str, tuple[Any, ...]] = {}


def right(*inputs: Any) -> Callable[[Any], Any]:
    """Add what is decorated (a class is made first)."""

    def add(f: Any) -> Any:
        RIGHT[f.__name__] = (f() if isinstance(f, type) else f, *inputs)
        return f

    return add


# -- rules in another dtype than their argument's: the tape casts what they return -----------------


@right(normal(2, 6, 4))
@op
def rotary_embedding(x):
    """Su et al. 2021: the angles are float64, whatever x is."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[-2])[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angles), np.sin(angles)

    def turn(y, sin):
        a, b = y[..., :half], y[..., half:]
        return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    return turn(x, sin), lambda g: turn(g, -sin)


@right(normal(3, 4), normal(5, 4), normal(5, 2))
@op
def attention_with_a_numpy_scale(q, k, v):
    scale = 1 / np.sqrt(q.shape[-1])
    p = ops.softmax(q @ k.T * scale)

    def backward(g):
        dp = g @ v.T
        ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
        return ds @ k, ds.T @ q, p.T @ g

    return p @ v, backward


@right(normal(4, 3))
@op
def cross_entropy_by_eye(logits):
    targets = np.array([0, 2, 1, 1])
    hot = np.eye(3)[targets]
    p = ops.softmax(logits)
    return -(np.log(p) * hot).sum() / len(targets), lambda g: g * (p - hot) / len(targets)


@right(normal(4, 3))
@op
def bce_with_integer_targets(logits):
    y = np.arange(12).reshape(4, 3) % 2
    p = 1 / (1 + np.exp(-logits))
    return (np.logaddexp(0, logits) - y * logits).mean(), lambda g: g * (p - y) / y.size


@right(normal(3, 5))
@op
def gelu_of_numpy_constants(x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (
        1 + t
    ), lambda g: g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 0.134145 * x**2))


@right(normal(3, 5))
@op
def mean_by_a_numpy_count(x):
    n = np.float64(x.size)
    shape = x.shape
    return x.sum() / n, lambda g: np.full(shape, g / n)


@right(normal(4, 3))
@op
def rows_by_a_matrix_of_ones(x):
    pick = np.eye(4)[[0, 2, 2]]
    return pick @ x, lambda g: pick.T @ g


@right(normal(6))
@op
def relu_by_a_bool_mask(x):
    return np.maximum(x, 0), lambda g: g * (x > 0)


@right(normal(3, 2))
@op
def sum_sends_back_an_integer_array(x):
    signs = np.array([[1, -1]] * 3)
    return (x * signs).sum(), lambda g: signs * g


@right(np.array(0.7))
@op
def rule_of_a_python_float(x):
    return x * 3.0, lambda g: 3.0 * float(g)


@right(normal(3, 4))
@op
def sinusoids_added(x):
    table = np.sin(np.arange(12.0)).reshape(3, 4)
    return x * table, lambda g: g * table


@right(normal(3, 4))
@op
def gelu_with_a_float64_constant(x):
    cdf = 0.5 * (1 + ops.erf(x / np.sqrt(np.float64(2))))
    return x * cdf, lambda g: g * (cdf + x * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi))


@right(normal(3, 4))
@op
def scale_whose_gradient_is_float64(x):
    return x / math.sqrt(x.shape[1]), lambda g: g / np.sqrt(x.shape[1])


@right(normal(3, 4))
@op
def masked_by_a_float64_array(x):
    return x * (np.arange(4) < 2), lambda g: g * np.array([1.0, 1.0, 0.0, 0.0])


@right(normal(3, 4))
@op
def spectrum_whose_gradient_is_complex(x):
    f = np.fft.fft(x)
    return f.real, lambda g: np.fft.fft(g)


# -- loops until an error, and domains with an edge ------------------------------------------------


@right(positive(4))
@op
def square_root_by_newton(x):
    y, error = np.ones_like(x), np.inf
    while error > 1e-13:
        new = (y + x / y) / 2
        error, y = np.abs(new * new - x).max(), new
    return y, lambda g: g / (2 * y)


@right(positive(3))
@op
def fixed_point_that_never_ends_on_nan(x):
    y = np.zeros_like(x)
    while not np.abs(y - np.cos(x * y)).max() < 1e-12:
        y = y - (y - np.cos(x * y)) / (1 + x * np.sin(x * y))
    return y, lambda g: -g * np.sin(x * y) * y / (1 + x * np.sin(x * y))


SPREAD = normal(4, 4)


@right(SPREAD)
def cholesky_of_a_product(a):
    return lower_factor(a @ a.T + 2 * np.eye(4))


@op
def lower_factor(a):
    factor = np.linalg.cholesky(a)

    def da(g):
        phi = np.tril(factor.T @ g)
        phi[np.diag_indices(len(phi))] /= 2
        inverse = np.linalg.inv(factor)
        s = inverse.T @ phi @ inverse
        return (s + s.T) / 2

    return factor, da


@right(np.tril(normal(4, 4)) + 3 * np.eye(4), normal(4))
@op
def forward_substitution(lower, b):
    """Refuses what is not lower triangular."""
    if np.triu(lower, 1).any():
        raise ValueError("the matrix is not lower triangular")
    x = np.linalg.solve(np.tril(lower), b)

    def backward(g):
        db = np.linalg.solve(np.tril(lower).T, g)
        return np.tril(-np.outer(db, x)), db

    return x, backward


@right(np.array([0.1, 0.4, 0.9, 1.3]), normal(4))
@op
def area_under_sorted_knots(knots, y):
    if (np.diff(knots) <= 0).any():
        raise ValueError("knots must increase")
    width = np.diff(knots)
    middle = (y[1:] + y[:-1]) / 2

    def dknots(g):
        d = np.zeros_like(knots)
        d[1:] += g * middle
        d[:-1] -= g * middle
        return d

    def dy(g):
        d = np.zeros_like(y)
        d[1:] += g * width / 2
        d[:-1] += g * width / 2
        return d

    return (width * middle).sum(), dknots, dy


# -- numbers that are no variables -----------------------------------------------------------------


@right(normal(3, 4), normal(4), normal(4), 1e-5)
def layer_norm_with_its_eps(x, w, b, eps):
    return ops.layer_norm(x, w, b, eps)


@right(normal(3, 4), 2.0, (0.9, 0.999), [0.5, 0.25], np.float64(0.3))
def numbers_of_all_sorts(x, power, betas, weights, scale):
    assert isinstance(power, float)
    assert isinstance(betas, tuple)
    assert isinstance(weights, list)
    return x**power * betas[0] + sum(weights) * scale * x


@right({"x": normal(2, 3), "more": [normal(3), {"deep": Tensor(normal(2, 1))}], "flag": True, "n": 3})
def a_nested_batch(batch):
    deep = batch["more"][1]["deep"]
    return np.tanh(batch["x"]) * batch["more"][0] * deep * batch["n"]


@right((normal(2), normal(3)))
def a_tuple_of_two_sizes(pair):
    return np.exp(pair[0]).sum() * pair[1]


# -- modules that keep something -------------------------------------------------------------------


@right(normal(5, 3))
class RunningMeanUsedAtOnce(nn.Module):
    """Writes into its buffer, and computes with it."""

    def __init__(self):
        self.register_buffer("mean", np.zeros(3))

    def forward(self, x):
        self.mean.data = 0.9 * self.mean.data + 0.1
        return x - self.mean


@right(normal(2, 3))
class BufferWrittenInPlace(nn.Module):
    def __init__(self):
        self.register_buffer("count", np.zeros(()))
        self.weight = nn.Parameter(positive(3))

    def forward(self, x):
        self.count[...] = self.count.numpy() + 1.0
        return x * self.weight * self.count


@right(normal(2, 4))
class HoldsTheArrayLibrary(nn.Module):
    def __init__(self):
        self.xp = np
        self.fc = nn.Linear(4, 2, rng=rng)

    def forward(self, x):
        return self.xp.tanh(self.fc(x))


@right(normal(6, 4))
class TableMadeAtFirstUse(nn.Module):
    """A cache of sines for as many positions as have been seen."""

    def __init__(self):
        self.table = None
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        if self.table is None or len(self.table) < len(x):
            self.table = np.sin(np.arange(len(x))[:, None] * np.arange(1, 5))
        return x * self.table * self.steps


# -- values far from 1 -----------------------------------------------------------------------------


@right(1e-9 * positive(4))
def reciprocal_of_small(x):
    return 1 / x


@right(1e-9 * normal(4))
def direction_of_small(x):
    return x / np.abs(x)


@right(1e-9 * positive(4))
def logarithm_of_small(x):
    return np.log(x)


@right(np.array([1e-9, 2e-5, 1.0, 3.0]))
def logarithm_of_mixed(x):
    return np.log(x)


@right(1e8 * positive(4))
def sine_of_large(x):
    return np.sin(x)


@right(1e8 + normal(3, 4))
def softmax_of_shifted(x):
    return ops.softmax(x)


@right(1e8 * positive(4))
def square_root_of_large(x):
    return np.sqrt(x)


@right(1e-9 * normal(4), normal(4))
def small_beside_one(bias, x):
    return np.tanh(x + bias)


@right(1e-30 * positive(3), 1e30 * positive(3))
def very_small_and_very_large(x, y):
    return x * y


@right(1e-9 * normal(3, 4))
@op
def normalized_small(x):
    """x / |x|, a user's op."""
    size = math.sqrt(float((x * x).sum()))
    y = x / size
    return y, lambda g: (g - y * (g * y).sum()) / size
