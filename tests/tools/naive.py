"""A reference engine, as simple as possible. tinygen must agree with it on every graph.

It has four primitives: a sum, a product, a function of each entry, and a matrix times a vector. Everything
else is composed of them. A linear NumPy function (a sum, slice, transpose, concatenation, padding, ...)
becomes the matrix whose columns are its values at the unit vectors: nobody writes its gradient, so nobody
can write it wrong. Gradients follow the definition: the gradient of a value is the sum of the gradients
that its users send back. They are `Value`s again, so they have gradients, to any order. Everything is
float64. Nothing is freed, sorted or added in place. It is meant for arrays of a few dozen entries.
"""

import contextlib
import math
import sys
from types import SimpleNamespace

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

RECORD = [True]  # False within no_grad()


class Value(NDArrayOperatorsMixin):
    """An array, and one rule for each value that it was computed from. A rule sends the gradient back."""

    def __init__(self, value, parents=(), requires_grad=False):
        self.value = np.asarray(value, dtype=np.float64)
        self.parents = [(x, rule) for x, rule in parents if x.requires_grad and RECORD[0]]
        self.requires_grad = requires_grad or bool(self.parents)
        self.shape, self.ndim, self.size = self.value.shape, self.value.ndim, self.value.size

    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc, method, *inputs):
        assert method == "__call__"
        return UFUNCS[ufunc](*[x if isinstance(x, Value) else Value(x) for x in inputs])

    def __array_function__(self, function, types, args, kwargs):
        if function in FUNCTIONS:
            return FUNCTIONS[function](*args, **kwargs)
        values = [v for x in args for v in (x if isinstance(x, list) else [x]) if isinstance(v, Value)]

        def of_arrays(*arrays):
            rest = iter(arrays)
            put = lambda x: next(rest) if isinstance(x, Value) else x
            return function(*[[*map(put, x)] if isinstance(x, list) else put(x) for x in args], **kwargs)

        return linear(of_arrays, *values)

    def __getitem__(self, index):
        return linear(lambda x: x[index], self)

    def detach(self):
        return Value(self.value)


# -- the primitives --------------------------------------------------------------------------------


def add(a, b):
    if a.shape != b.shape:
        return linear(np.add, a, b)
    return Value(a.value + b.value, [(a, lambda g: g), (b, lambda g: g)])


def multiply(a, b):
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = (x if x.shape == shape else linear(lambda x: np.broadcast_to(x, shape), x) for x in (a, b))
    return Value(a.value * b.value, [(a, lambda g: g * b), (b, lambda g: g * a)])


def entrywise(f, slope):
    return lambda x: Value(f(x.value), [(x, lambda g: g * slope(x))])


def matrix_times(m, x, shape):
    return Value((m @ x.value.ravel()).reshape(shape), [(x, lambda g: matrix_times(m.T, g, x.shape))])


def linear(f, *xs):
    """f(*xs) for f that is linear in all of them together; a list of values when f gives several."""
    y = f(*[x.value for x in xs])
    if isinstance(y, (list, tuple)):
        return [linear(lambda *arrays, i=i: f(*arrays)[i], *xs) for i in range(len(y))]
    zeros = [np.zeros(x.shape) for x in xs]
    total = Value(np.zeros(np.shape(y)))
    for i, x in enumerate(xs):
        units = np.eye(x.size).reshape(x.size, *x.shape)
        columns = [np.ravel(f(*zeros[:i], unit, *zeros[i + 1 :])) for unit in units]
        total = total + matrix_times(np.array(columns).reshape(x.size, np.size(y)).T, x, np.shape(y))
    np.testing.assert_allclose(total.value, y, rtol=1e-12, atol=1e-12)  # is it linear?
    return total


# -- gradients -------------------------------------------------------------------------------------


def ancestors(y):
    """All values that y was computed from, and y."""
    seen, stack = {y}, [y]
    while stack:
        new = {x for x, _ in stack.pop().parents} - seen
        seen |= new
        stack += new
    return seen


def gradients(y, g, *xs):
    """The gradient of <y, g> by each of xs."""
    users = {}
    for user in ancestors(y):
        for x, rule in user.parents:
            users.setdefault(x, []).append((user, rule))
    known = {y: g if isinstance(g, Value) else Value(g)}

    def gradient(x):
        if x not in known:
            known[x] = Value(np.zeros(x.shape))
            for user, rule in users.get(x, ()):
                known[x] = known[x] + rule(gradient(user))
        return known[x]

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        return [gradient(x) * 1.0 for x in xs]  # each a value of its own
    finally:
        sys.setrecursionlimit(limit)


def pulled(f, g, *xs):
    """f(*xs), and the gradients of <f, g> by its arguments."""
    xs = [Value(x.value, [(x, lambda g: g)], requires_grad=True) for x in xs]
    y = f(*xs)
    return [y, *gradients(y, g, *xs)]


def hvp(f, x, v):
    """The gradient of <gradient of f, v>."""
    return pulled(lambda x: np.sum(pulled(f, 1.0, x)[1] * v), 1.0, x)[1]


def jvp(f, xs, tangents):
    """f(*xs), and its derivative J t along the tangents t. It uses <g, J t> = <Jᵀ g, t> for every g."""
    g = Value(np.zeros(f(*xs).shape), requires_grad=True)
    y, *slopes = pulled(f, g, *xs)
    paired = sum((np.sum(dx * t) for dx, t in zip(slopes, tangents, strict=True)), start=Value(0.0))
    return y, gradients(paired, 1.0, g)[0]


@contextlib.contextmanager
def no_grad():
    before, RECORD[0] = RECORD[0], False
    try:
        yield
    finally:
        RECORD[0] = before


checkpoint = lambda f, *xs: f(*xs)
anomaly = kernels = lambda mode=None: contextlib.nullcontext()

# -- functions composed of the primitives ----------------------------------------------------------


def matmul(a, b):
    rows = a if a.ndim > 1 else a[None, :]
    columns = b if b.ndim > 1 else b[:, None]
    y = np.sum(rows[..., :, :, None] * columns[..., None, :, :], axis=-2)  # (..., n, k, m) -> (..., n, m)
    y = y if b.ndim > 1 else y[..., 0]
    return y if a.ndim > 1 else y[..., 0, :] if b.ndim > 1 else y[..., 0]


def extreme(largest):
    def f(x, axis=None, keepdims=False):
        hit = x.value == largest(x.value, axis=axis, keepdims=True)
        return np.sum(x * (hit / hit.sum(axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)

    return f


def var(x, axis=None, keepdims=False):
    return np.mean(np.square(x - np.mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)


def softmax(x):
    e = np.exp(x - x.value.max(axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def layer_norm(x, weight, bias):
    return (x - np.mean(x, axis=-1, keepdims=True)) / np.sqrt(var(x, -1, True) + 1e-5) * weight + bias


UFUNCS = {
    np.add: add,
    np.multiply: multiply,
    np.matmul: matmul,
    np.subtract: lambda a, b: add(a, multiply(b, Value(-1.0))),
    np.negative: lambda x: multiply(x, Value(-1.0)),
    np.divide: lambda a, b: multiply(a, np.reciprocal(b)),
    np.square: lambda x: multiply(x, x),
    np.power: lambda x, n: math.prod([x] * int(n.value)),
    np.absolute: lambda x: multiply(x, Value(np.sign(x.value))),
    np.maximum: lambda a, b: np.where(a.value > b.value, a, b),
    np.greater: lambda a, b: a.value > b.value,
    np.exp: entrywise(np.exp, np.exp),
    np.log: entrywise(np.log, np.reciprocal),
    np.sin: entrywise(np.sin, np.cos),
    np.cos: entrywise(np.cos, lambda x: -np.sin(x)),
    np.tanh: entrywise(np.tanh, lambda x: 1.0 - np.square(np.tanh(x))),
    np.sqrt: entrywise(np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    np.reciprocal: entrywise(np.reciprocal, lambda x: -np.square(np.reciprocal(x))),
}
FUNCTIONS = {np.max: extreme(np.max), np.min: extreme(np.min), np.var: var}
erf = entrywise(np.vectorize(math.erf, otypes=[float]), lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x))
ops = SimpleNamespace(
    softmax=softmax,
    layer_norm=layer_norm,
    erf=erf,
    sigmoid=lambda x: 1.0 / (1.0 + np.exp(-x)),
    gelu=lambda x: x * (0.5 + 0.5 * erf(x * math.sqrt(0.5))),
    logsumexp=lambda x, axis, keepdims: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)),
    attention=lambda q, k, v: softmax(q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]))) @ v,
)
