"""Properties that Hypothesis looks for counterexamples to: random shapes, axes, indices and strides.

Gradients are checked in float64 with a random cotangent, to the second order.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import Tensor, gradcheck, ops, vjp

few = settings(max_examples=25)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3).filter(lambda s: np.prod(s) <= 16)
RANK3 = hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=3).filter(lambda s: np.prod(s) <= 18)


def array(shape, seed=0, low=0.2):
    """Random numbers in [low, low + 2), no two closer than 1e-3, so that no kink is near."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    spread = rng.permutation(n) * (2 / max(n, 1)) + rng.uniform(0, 1e-2, n)
    return (low + spread).reshape(shape)


@st.composite
def strided(draw, shapes=RANK3):
    """An array whose memory order, direction and stride are drawn too (also stride 0)."""
    shape = draw(shapes)
    x = array(shape, draw(st.integers(0, 99)))
    order = draw(st.permutations(range(len(shape))))
    x = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    x = x[tuple(slice(None, None, draw(st.sampled_from([1, -1]))) for _ in shape)]
    if shape and draw(st.booleans()):
        axis = draw(st.integers(0, len(shape) - 1))
        x = np.broadcast_to(x.take([0] if shape[axis] else [], axis), shape)
    return x


# -- elementwise -----------------------------------------------------------------------------------

BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": lambda a, b: np.where(a.data > 1.0 if isinstance(a, Tensor) else a > 1.0, a, b),
}


@few
@given(
    shapes=hnp.mutually_broadcastable_shapes(
        num_shapes=2, min_dims=3, max_dims=4, min_side=0, max_side=3
    ).filter(lambda s: np.prod(s.result_shape) <= 24),
    name=st.sampled_from(list(BINARY)),
    seed=st.integers(0, 99),
)
def test_binary_ops_of_broadcast_shapes(shapes, name, seed):
    a, b = (array(s, seed + i, low=0.2 + i * 0.0131) for i, s in enumerate(shapes.input_shapes))
    f = BINARY[name]
    np.testing.assert_allclose(f(Tensor(a), Tensor(b)).numpy(), f(a, b))
    assert f(Tensor(a), Tensor(b)).shape == shapes.result_shape
    assert gradcheck(f, a, b, order=2)


@few
@given(
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, min_dims=2, max_dims=4, max_side=2),
    seed=st.integers(0, 99),
)
def test_three_broadcast_shapes(shapes, seed):
    """The gradient of Σ g·(a b + c) is g b, g a and g, each summed over what was broadcast."""
    a, b, c = (array(s, seed + i) for i, s in enumerate(shapes.input_shapes))
    y, pull = vjp(lambda a, b, c: a * b + c, a, b, c)
    g = array(y.shape, seed + 3, low=-1.0)
    for found, x, full in zip(pull(g), (a, b, c), (g * b, g * a, g), strict=True):
        full = np.broadcast_to(full, y.shape)
        extra = full.ndim - x.ndim
        axes = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(x.shape) if n == 1 and full.shape[i + extra] != 1
        )
        np.testing.assert_allclose(found.numpy(), full.sum(axis=axes).reshape(x.shape), rtol=1e-12)


UNARY = [
    *(np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.tanh, np.sin, np.cos, np.abs, np.square, np.reciprocal),
    *(ops.rsqrt, ops.sigmoid, ops.erf, ops.relu, ops.gelu, ops.silu, ops.softplus, ops.log_sigmoid),
    ops.leaky_relu,
    *(lambda x: ops.gelu(x, "tanh"), lambda x: x**3, lambda x: x**-2, ops.softmax, ops.log_softmax),
]


@few
@given(x=strided(SHAPES.filter(lambda s: len(s) > 0 and 0 not in s)), f=st.sampled_from(UNARY))
def test_unary_ops_of_strided_arrays(x, f):
    assert gradcheck(f, x, order=2)


# -- reductions ------------------------------------------------------------------------------------

REDUCTIONS = [np.sum, np.mean, np.var, np.max, np.min, np.std, ops.logsumexp]


@few
@given(x=strided(), f=st.sampled_from(REDUCTIONS), keep=st.booleans(), data=st.data())
def test_reductions_over_random_axes(x, f, keep, data):
    axes = data.draw(hnp.valid_tuple_axes(x.ndim, min_size=1))
    if f is np.std:  # has a kink where all are equal
        x = array(x.shape)
        axes = tuple(range(x.ndim)) if np.prod([x.shape[a] for a in axes]) == 1 else axes
        if x.size == 1:
            return
    if f in (np.max, np.min):
        x = array(x.shape)  # of stride 0 all would be ties
    axis = data.draw(st.sampled_from([axes, None, axes[0]] if f is not np.std else [axes]))
    y = f(Tensor(x), axis=axis, keepdims=keep)
    if f is not ops.logsumexp:
        np.testing.assert_allclose(y.numpy(), f(x, axis=axis, keepdims=keep))
    assert gradcheck(lambda x: f(x, axis=axis, keepdims=keep), x, order=2)


@few
@given(x=strided(), data=st.data())
def test_softmax_sums_to_one_and_its_gradient_to_zero(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y, pull = vjp(lambda x: ops.softmax(x, axis=axis), x)
    np.testing.assert_allclose(y.numpy().sum(axis=axis), 1.0)
    (dx,) = pull(array(x.shape, 5, low=-1.0))
    np.testing.assert_allclose(dx.numpy().sum(axis=axis), 0.0, atol=1e-14)
    shifted = ops.softmax(x + 100.0, axis=axis)
    np.testing.assert_allclose(shifted, y.numpy(), rtol=1e-10)


# -- linear ops: the gradient is the transpose -----------------------------------------------------


def assert_transpose(f, *shapes):
    """<f(x), g> = <x, fᵀ(g)> for linear f, exactly as in the definition of a transpose."""
    xs = [array(s, i, low=-1.0) for i, s in enumerate(shapes)]
    y, pull = vjp(f, *xs)
    np.testing.assert_allclose(y.numpy(), f(*xs))
    g = array(y.shape, 9, low=-1.0)
    left = (y.numpy() * g).sum()
    right = sum((x * dx.numpy()).sum() for x, dx in zip(xs, pull(g), strict=True))
    np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-10)


@given(shape=SHAPES, data=st.data())
def test_moving_axes(shape, data):
    axes = data.draw(st.permutations(range(len(shape))))
    signs = [a - len(shape) * data.draw(st.booleans()) for a in axes]
    assert_transpose(lambda x: np.transpose(x, signs), shape)
    if shape:
        a, b = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
        assert_transpose(lambda x: np.swapaxes(x, a, b), shape)
        assert_transpose(lambda x: np.moveaxis(x, a, b), shape)
        some = data.draw(hnp.valid_tuple_axes(len(shape)))
        assert_transpose(lambda x: np.flip(x, some), shape)
        assert_transpose(lambda x: np.roll(x, 2, a), shape)
        assert_transpose(lambda x: np.cumsum(x, a), shape)
        assert_transpose(lambda x: np.expand_dims(x, a), shape)


@given(shape=SHAPES, data=st.data())
def test_joining_and_cutting(shape, data):
    if not shape:
        return
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    other = list(shape)
    other[axis] = data.draw(st.integers(0, 3))
    assert_transpose(lambda a, b: np.concatenate([a, b, a], axis), shape, tuple(other))
    assert_transpose(lambda a, b: np.stack([a, b], axis), shape, shape)
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=2)))
    joined = lambda x: np.concatenate([p * (i + 1.0) for i, p in enumerate(np.split(x, cuts, axis))], axis)
    assert_transpose(joined, shape)


@given(shape=SHAPES, data=st.data())
def test_padding_and_repeating(shape, data):
    widths = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape]
    if shape:
        assert_transpose(lambda x: np.pad(x, widths), shape)
        axis = data.draw(st.integers(-len(shape), len(shape) - 1))
        assert_transpose(lambda x: np.repeat(x, widths[0][0], axis), shape)
    reps = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))
    assert_transpose(lambda x: np.tile(x, reps), shape)
    target = (*data.draw(st.lists(st.integers(0, 2), max_size=2)), *shape)
    assert_transpose(lambda x: np.broadcast_to(x, target), shape)


@given(shape=RANK3, data=st.data())
def test_index_expressions(shape, data):
    index = data.draw(
        st.one_of(
            hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True),
            hnp.integer_array_indices(shape),
            hnp.arrays(bool, shape),
        )
    )
    assert_transpose(lambda x: x[index], shape)


@given(shape=RANK3, data=st.data())
def test_mixed_index_expressions(shape, data):
    """Arrays of ints that repeat entries, beside slices and single numbers."""
    result = data.draw(hnp.broadcastable_shapes((2, 2), min_dims=1, max_dims=2, max_side=2))
    parts = [
        data.draw(
            st.one_of(
                st.slices(n),
                st.integers(-n, n - 1),
                hnp.arrays(np.int64, result, elements=st.integers(-n, n - 1)),
            )
        )
        for n in shape
    ]
    assert_transpose(lambda x: x[tuple(parts)], shape)
    assert gradcheck(lambda x: x[tuple(parts)] * 2.0, array(shape), order=2)


@given(data=st.data(), shape=RANK3)
def test_take_along_axis(data, shape):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    sizes = [1 if data.draw(st.booleans()) else n for n in shape]
    sizes[axis] = data.draw(st.integers(1, 4))
    n = shape[axis]
    indices = data.draw(hnp.arrays(np.int64, tuple(sizes), elements=st.integers(-n, n - 1)))
    assert_transpose(lambda x: np.take_along_axis(x, indices, axis), shape)


# -- products --------------------------------------------------------------------------------------


@given(
    shapes=hnp.mutually_broadcastable_shapes(
        signature="(n?,k),(k,m?)->(n?,m?)", max_dims=2, max_side=3, min_side=0
    ),
    seed=st.integers(0, 99),
)
def test_matmul(shapes, seed):
    a, b = (array(s, seed + i, low=-1.0) for i, s in enumerate(shapes.input_shapes))
    y, pull = vjp(lambda a, b: a @ b, a, b)
    np.testing.assert_allclose(y.numpy(), a @ b)
    g = array(y.shape, seed + 2, low=-1.0)
    da, db = pull(g)
    inner = (y.numpy() * g).sum()  # bilinear: each factor's gradient gives the same inner product
    np.testing.assert_allclose([(da.numpy() * a).sum(), (db.numpy() * b).sum()], inner, rtol=1e-9, atol=1e-12)
    if 0 < a.size + b.size <= 18:
        assert gradcheck(lambda a, b: a @ b, a, b)


@given(data=st.data())
def test_einsum(data):
    letters = "ijkl"
    size = {c: data.draw(st.integers(1, 2)) for c in letters}
    terms = [
        "".join(data.draw(st.permutations(letters))[: data.draw(st.integers(1, 3))])
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    used = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(used))[: data.draw(st.integers(0, len(used)))])
    spec = f"{','.join(terms)}->{output}"
    xs = [array([size[c] for c in term], i) for i, term in enumerate(terms)]
    np.testing.assert_allclose(np.einsum(spec, *map(Tensor, xs)).numpy(), np.einsum(spec, *xs))
    assert gradcheck(lambda *xs: np.einsum(spec, *xs), *xs)


@given(data=st.data(), a=RANK3, b=RANK3)
def test_tensordot(data, a, b):
    n = data.draw(st.integers(0, 2))
    left = data.draw(st.permutations(range(len(a))))[:n]
    right = data.draw(st.permutations(range(len(b))))[:n]
    b = list(b)
    for i, j in zip(left, right, strict=True):
        b[j] = a[i]
    x, y = array(a), array(b, 1)
    z, pull = vjp(lambda x, y: np.tensordot(x, y, (left, right)), x, y)
    np.testing.assert_allclose(z.numpy(), np.tensordot(x, y, (left, right)))
    g = array(z.shape, 2)
    dx, dy = pull(g)
    np.testing.assert_allclose([(dx.numpy() * x).sum(), (dy.numpy() * y).sum()], (z.numpy() * g).sum())


# -- layers ----------------------------------------------------------------------------------------


@few
@given(x=strided(), data=st.data())
def test_norms(x, data):
    """Normalised values have mean 0 and mean square 1 (less what eps takes), whatever x's scale."""
    c = x.shape[-1]
    w, b = array((c,), 1), array((c,), 2)
    x = array(x.shape)
    assert gradcheck(lambda x, w, b: ops.layer_norm(x, w, b, eps=0.1), x, w, b, order=2)
    assert gradcheck(lambda x, w: ops.rms_norm(x, w, eps=0.1), x, w, order=2)
    y = ops.layer_norm(x * 1e3, np.ones(c), np.zeros(c))
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-10)
    if c > 1:
        np.testing.assert_allclose((y * y).mean(axis=-1), 1, rtol=1e-3)


@few
@given(
    batch=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=2, max_side=2),
    t=st.integers(1, 3),
    s=st.integers(1, 3),
    causal=st.booleans(),
    seed=st.integers(0, 99),
)
def test_attention(batch, t, s, causal, seed):
    q, k, v = (
        array((*shape, n, 2), seed + i, low=-1.0)
        for i, (shape, n) in enumerate(zip(batch.input_shapes, (t, s, s), strict=True))
    )
    y, pull = vjp(lambda q, k, v: ops.attention(q, k, v, causal=causal), q, k, v)
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(2)
    if causal:
        scores = np.where(np.arange(s) <= np.arange(t)[:, None] + s - t, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, 0))
    p = e / np.maximum(e.sum(axis=-1, keepdims=True), 1e-300)
    np.testing.assert_allclose(y.numpy(), p @ v, atol=1e-14)
    g = array(y.shape, 3)
    np.testing.assert_allclose((pull(g)[2].numpy() * v).sum(), (y.numpy() * g).sum())  # linear in v
    if q.size + k.size + v.size <= 16:
        assert gradcheck(lambda q, k, v: ops.attention(q, k, v, causal=causal), q, k, v)
