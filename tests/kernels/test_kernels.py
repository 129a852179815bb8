"""Every kernel against its definition, in value and gradient; the switch; the fall-backs.

The compiled kernels are tested at all sizes, also at sizes for which the switch would not choose them."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, ops
from tinygen.kernels import registry
from tinygen.ops.loss import binary_losses, token_losses
from tinygen.ops.rotary import rotate_pairs
from tinygen.optim.fused import ADAM

FLOORS = ("numpy", "auto")


@pytest.fixture(autouse=True, scope="module")
def at_every_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "LEAST", 0)
        patch.setattr(registry, "PRODUCTS", 0)
        yield


def compiled(function):
    """The compiled kernel of an op, None where Numba cannot be had or nobody has written one."""
    for entry in tinygen.kernels.entries:
        if entry.op is getattr(function, "op", None) and isinstance(entry.compute, registry.LazyKernel):
            return entry.compute.function if entry.compute.load() else None
    return None


def relative_error(a, b):
    """To the largest entry, or to 1, the size of the inputs, where cancellation leaves only small ones."""
    return np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1.0)


def value_and_gradients(function, arrays, g, **kwargs):
    tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = function(*tensors, **kwargs)
    y.backward(g)
    return y.numpy(), *[t.grad for t in tensors if t.requires_grad]


def assert_equals_definition(function, arrays, seed=0, tolerance=1e-5, taken=True, **kwargs):
    """On both floors; `taken` is whether the compiled kernel is to do it, and not to leave it to others."""
    kernel = compiled(function)
    if kernel is not None:
        assert (kernel(*arrays, **kwargs) is not NotImplemented) == taken
    with tinygen.kernels("off"):
        shape = function(*[Tensor(a) for a in arrays], **kwargs).shape
        g = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        expected = value_and_gradients(function, arrays, g, **kwargs)
    for floor in FLOORS:
        with tinygen.kernels(floor):
            found = value_and_gradients(function, arrays, g, **kwargs)
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == np.float32
            assert a.shape == b.shape
            assert relative_error(a, b) <= tolerance


sizes = st.integers(1, 9)
shapes = st.lists(sizes, min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1)


def draw(seed, *shapes, scale=1.0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s, dtype=np.float32) * np.float32(scale) for s in shapes]


@given(shapes, seeds, st.sampled_from(["none", "tanh"]), st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=40)
def test_gelu(shape, seed, approximate, scale):
    assert_equals_definition(ops.gelu, draw(seed, shape, scale=scale), approximate=approximate)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_over_several_blocks_and_into_the_tails(approximate):
    x = np.linspace(-30, 30, 200_003, dtype=np.float32)
    assert_equals_definition(ops.gelu, [x], approximate=approximate)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_far_out(approximate):
    x = np.array([0.0, -0.0, 1e-30, -1e-30, 16, -16, 1e6, -1e6, 1e12, -1e12, np.nan], np.float32)
    for floor in FLOORS:
        with tinygen.kernels(floor), np.errstate(all="raise", under="ignore"):
            y, slope = value_and_gradients(ops.gelu, [x], np.ones_like(x), approximate=approximate)
        np.testing.assert_allclose(y, np.where(x > 1, x, np.where(x < -1, 0, x / 2)), rtol=1e-6, atol=1e-20)
        np.testing.assert_allclose(slope, np.where(x > 1, 1, np.where(x < -1, 0, x * 0 + 0.5)), atol=1e-6)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("floor", ["off", *FLOORS])
def test_gelu_of_infinity(approximate, floor):
    with tinygen.kernels(floor), np.errstate(all="ignore"):
        x = np.array([np.inf, 1.0], np.float32)
        np.testing.assert_allclose(ops.gelu(Tensor(x), approximate).numpy(), [np.inf, 0.8413], atol=2e-4)


@given(shapes, seeds, st.sampled_from(["relu", "sigmoid", "tanh", "softplus"]), st.sampled_from([1.0, 20.0]))
@settings(max_examples=60)
def test_entrywise(shape, seed, name, scale):
    assert_equals_definition(getattr(ops, name), draw(seed, shape, scale=scale))


@given(shapes, seeds, st.sampled_from([0.0, 0.01, 0.2, 1.0, -0.5]))
@settings(max_examples=30)
def test_leaky_relu(shape, seed, slope):
    assert_equals_definition(ops.leaky_relu, draw(seed, shape), slope=slope)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "softplus"])
def test_entrywise_at_the_ends(name):
    x = np.array([np.nan, np.inf, -np.inf, 0, 100, -100, 1e-30], np.float32)
    for floor in ("off", *FLOORS):
        with tinygen.kernels(floor), np.errstate(all="ignore"):
            found = getattr(ops, name)(Tensor(x)).numpy()
        with np.errstate(all="ignore"):
            truth = {
                "relu": np.maximum(x, 0),
                "leaky_relu": np.where(x > 0, x, np.float32(0.01) * x),
                "sigmoid": 1 / (1 + np.exp(-x)),
                "tanh": np.tanh(x),
                "softplus": np.logaddexp(x, 0),
            }[name]
        np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-12)


def test_exact_gelu_is_exact():
    x = np.linspace(-6, 6, 10_001, dtype=np.float32)
    cdf = 0.5 * (1 + ops.erf(x.astype(np.float64) / np.sqrt(2)))
    with tinygen.kernels("numpy"):
        assert np.abs(ops.gelu(Tensor(x)).numpy() - x * cdf).max() < 6e-7


@given(shapes, seeds, st.booleans())
@settings(max_examples=40)
def test_layer_norm(shape, seed, with_bias):
    channels = shape[-1] + 1  # over one channel the gradient is rounding alone
    x, w, b = draw(seed, (*shape[:-1], channels), (channels,), (channels,))
    assert_equals_definition(ops.layer_norm, [x, w, b] if with_bias else [x, w])


@pytest.mark.parametrize(("rows", "channels"), [(1030, 257), (2, 150_000), (33_000, 4)])
def test_layer_norm_over_several_blocks(rows, channels):
    x, w, b = draw(rows, (rows, channels), (channels,), (channels,))
    assert_equals_definition(ops.layer_norm, [x, w, b])


@given(st.tuples(sizes, sizes), sizes, sizes, sizes, seeds, st.booleans(), st.sampled_from([0.0, 0.4]))
@settings(max_examples=40)
def test_attention(batch, t, extra, d, seed, causal, dropout):
    q, k, v = draw(seed, (*batch, t, d), (*batch, t + extra, d), (*batch, t + extra, d + 1))
    taken = not dropout
    assert_equals_definition(ops.attention, [q, k, v], causal=causal, dropout=dropout, seed=seed, taken=taken)


@pytest.mark.parametrize(("t", "s", "d"), [(64, 64, 8), (130, 200, 32), (257, 257, 64), (70, 300, 16)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_in_several_blocks(t, s, d, causal, dropout):
    q, k, v = draw(t, (2, 3, t, d), (2, 3, s, d), (2, 3, s, d))
    taken = not dropout
    assert_equals_definition(ops.attention, [q, k, v], causal=causal, dropout=dropout, seed=7, taken=taken)


@pytest.mark.parametrize(("shape", "width"), [((11, 4, 64, 32), 32), ((19, 2, 63, 5), 7), ((33, 70, 9), 9)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_in_several_parts_of_the_batch(shape, width, causal, dropout):
    q, k, v = draw(shape[0], shape, shape, (*shape[:-1], width))
    taken = not dropout
    assert_equals_definition(ops.attention, [q, k, v], causal=causal, dropout=dropout, seed=7, taken=taken)


@pytest.mark.parametrize("t", [1, 7, 8, 9])
def test_attention_of_few_queries(t):
    q, k, v = draw(t, (2, 3, t, 16), (2, 3, 100, 16), (2, 3, 100, 16))
    assert_equals_definition(ops.attention, [q, k, v], causal=True)


def test_attention_over_one_set_of_keys_falls_back():
    q, k, v = draw(8, (2, 3, 5, 4), (3, 6, 4), (3, 6, 4))
    assert_equals_definition(ops.attention, [q, k, v], taken=False)


@given(st.lists(sizes, max_size=2).map(tuple), sizes, sizes, seeds)
@settings(max_examples=30)
def test_attention_of_any_number_of_axes(batch, t, d, seed):
    q, k, v = draw(seed, *[(*batch, t, d)] * 3)
    assert_equals_definition(ops.attention, [q, k, v], causal=True)


def test_attention_sees_where_the_scores_are_large():
    """Up to 60 and down to -60; then so large that exp would overflow, or leave nothing of a row."""
    q, k, v = draw(9, (1, 2, 70, 8), (1, 2, 70, 8), (1, 2, 70, 8), scale=3.0)
    assert_equals_definition(ops.attention, [q, k, v], causal=True)
    for sign in (1, -1):
        q, k = np.abs(q), sign * np.abs(k)
        assert_equals_definition(ops.attention, [q, 16 * k, v], causal=True, tolerance=1e-4)  # of their size


def test_attention_leaves_the_gradient_of_a_projection_in_one_piece():
    (x,) = draw(10, (2, 5, 3, 4, 8))

    def attend(x):
        q, k, v = (part.reshape(2, 5, 4, 8).swapaxes(1, 2) for part in ops.split(x, 3, axis=2))
        return ops.attention(q, k, v, causal=True)

    assert_equals_definition(attend, [x])
    for floor in FLOORS:
        with tinygen.kernels(floor):
            y, backward = ops.attention.op.compute(*(part.swapaxes(1, 2) for part in np.moveaxis(x, 2, 0)))
            dq, dk, dv, _ = backward(y)
        assert y.swapaxes(1, 2).flags.c_contiguous
        assert dq.base is dk.base is dv.base is not None


@given(st.integers(0, 3), st.integers(1, 3), st.booleans(), seeds)
@settings(max_examples=40)
def test_split(axis, pieces, beside, seed):
    """Gradients that are pieces of one array, in their order and out of it, and gradients that are not."""
    shape = [2, 3, 4, 5]
    shape[axis] = 4 * pieces
    x, g = draw(seed, tuple(shape), tuple(shape))
    expected = g if beside else np.flip(g, axis)
    gs = np.split(g, pieces, axis) if beside else [np.flip(p, axis) for p in np.split(g, pieces, axis)][::-1]
    for arrays in (gs, [p.copy() for p in gs]):
        values, rule = ops.split.op.compute(x, pieces, axis)
        np.testing.assert_array_equal(np.concatenate(values, axis), x)
        np.testing.assert_array_equal(rule(tuple(arrays)), expected)


@given(shapes, sizes, seeds, st.booleans())
@settings(max_examples=40)
def test_linear(shape, out, seed, with_bias):
    arrays = draw(seed, shape, (out, shape[-1]), (out,))
    assert_equals_definition(ops.linear, arrays if with_bias else arrays[:2])


def half_linear(x, weight, bias=None):
    return ops.linear(x, weight.astype(np.float16), bias)


@given(shapes, sizes, seeds, st.booleans())
@settings(max_examples=40)
def test_linear_with_a_weight_in_float16(shape, out, seed, with_bias):
    arrays = draw(seed, shape, (out, shape[-1]), (out,))
    arrays[1].flat[:1] = 6e-8  # the smallest number of float16 above 0
    arrays = arrays if with_bias else arrays[:2]
    assert_equals_definition(half_linear, arrays, tolerance=1e-3)  # gradients are rounded to float16
    with tinygen.kernels("off"):
        expected = half_linear(*map(Tensor, arrays)).numpy()
    assert relative_error(half_linear(*map(Tensor, arrays)).numpy(), expected) <= 1e-5
    kernel = compiled(ops.linear)
    if kernel is not None:
        x, weight, *bias = arrays
        for last in (bias, [b.astype(np.float16) for b in bias]):
            assert kernel(x, weight.astype(np.float16), *last) is not NotImplemented


def test_every_number_of_float16_is_exact():
    """The kernel's conversion of 65,536 bit patterns, infinities and NaN among them."""
    weight = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 1)
    for floor in FLOORS:
        with tinygen.kernels(floor), np.errstate(invalid="ignore"):
            y = ops.linear(Tensor(np.ones((1, 1), np.float32)), Tensor(weight))
        np.testing.assert_array_equal(y.numpy()[0], weight[:, 0].astype(np.float32))


@pytest.mark.parametrize(
    ("n", "k", "m"),
    [
        (100, 300, 70),
        (33, 130, 200),
        (3, 200, 500),
        (1, 17, 1000),
        (67, 1100, 83),
        (530, 13, 21),
        (5, 600, 1030),
    ],
)
def test_large_products(n, k, m):
    x, w, b = draw(n, (n, k), (m, k), (m,))
    assert_equals_definition(ops.linear, [x, w, b])
    assert_equals_definition(ops.matmul, [x, np.ascontiguousarray(w.T)])


@given(shapes, sizes, sizes, seeds)
@settings(max_examples=40)
def test_matmul(shape, k, m, seed):
    assert_equals_definition(ops.matmul, draw(seed, (*shape, k), (k, m)))


def test_products_that_are_left_to_numpy():
    a, b, c = draw(11, (2, 3, 4), (2, 4, 5), (4,))
    assert_equals_definition(ops.matmul, [a, b], taken=False, tolerance=0)
    assert_equals_definition(ops.matmul, [a, c], taken=False, tolerance=0)
    assert_equals_definition(ops.matmul, [c, b], taken=False, tolerance=0)


def test_products_leave_numpys_threads_as_they_were():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if compiled(ops.attention) is None:
        pytest.skip("no compiled kernels here")
    (x,) = draw(12, (2, 128, 64))
    for count in (1, 2):
        with threadpoolctl.threadpool_limits(count, "blas"):
            ops.attention(Tensor(x), Tensor(x), Tensor(x))
            assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} >= {count}


@given(shapes, seeds)
@settings(max_examples=40)
def test_rms_norm(shape, seed):
    assert_equals_definition(ops.rms_norm, draw(seed, shape, shape[-1:]))


@given(st.lists(st.integers(1, 5), max_size=2), st.integers(1, 9), st.integers(1, 9), seeds, st.booleans())
@settings(max_examples=40)
def test_rotary(batch, t, half, seed, transposed):
    x, angles = draw(seed, (*batch, t, 2 * half), (t, half))
    if transposed:  # as heads are, that come from (B, T, H, d)
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -2, 0)), 0, -2)
    cos, sin = np.cos(angles), np.sin(angles)
    assert_equals_definition(lambda x: rotate_pairs(x, cos, sin), [x])
    kernel = compiled(rotate_pairs)
    if kernel is not None:
        assert kernel(x, cos[:0], sin[:0]) is NotImplemented
        assert kernel(x, cos, sin) is not NotImplemented


@given(shapes, seeds, st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=40)
def test_softmax(shape, seed, scale):
    (x,) = draw(seed, shape, scale=scale)
    assert_equals_definition(ops.softmax, [x])
    assert_equals_definition(ops.log_softmax, [x])
    if len(shape) > 1:
        assert_equals_definition(ops.softmax, [x], axis=0, taken=False)


def test_softmax_of_infinities():
    x = np.array([[0, -np.inf, 1], [-np.inf] * 3, [2, 1, 0]], np.float32)
    assert_equals_definition(ops.softmax, [x])
    for floor in ("off", *FLOORS):
        with tinygen.kernels(floor):
            found = ops.log_softmax(Tensor(x[:1])).numpy()
        np.testing.assert_allclose(found, [[-1.3132617, -np.inf, -0.3132617]], rtol=1e-6)


@given(st.lists(sizes, max_size=2).map(tuple), st.integers(1, 40), sizes, seeds)
@settings(max_examples=40)
def test_embedding_scatters(shape, width, rows, seed):
    (weight,) = draw(seed, (rows, width))
    ids = np.random.default_rng(seed).integers(0, rows, shape)
    assert_equals_definition(ops.embedding, [weight, ids])


def test_scatters_that_are_left_to_numpy():
    (x,) = draw(13, (3, 4))
    for index, shape in [
        (np.array([0, -1, 0]), (5, 4)),
        ((np.array([0, 1, 0]),), (5, 4)),
        ([0, 1, 0], (5, 4)),
    ]:
        assert_equals_definition(ops.scatter_add, [x], index=index, shape=shape, taken=False)


@given(st.lists(shapes, min_size=1, max_size=4), seeds, st.booleans())
@settings(max_examples=40)
def test_adam(of_shapes, seed, decoupled):
    keep, decay = (0.9, 0.0) if decoupled else (1.0, 0.1)
    rates = [0.01 * (i + 1) for i in range(len(of_shapes))]
    hyper = {"keep": keep, "decay": decay, "betas": (0.9, 0.99), "rates": rates, "epsilons": rates[::-1]}
    arrays = draw(seed, *[shape for shape in of_shapes for _ in range(4)])
    for i in range(3, len(arrays), 4):
        arrays[i] = np.square(arrays[i])
    assert_updates_alike(arrays, hyper)


def test_adam_of_parameters_in_several_parts():
    hyper = {"keep": 1.0, "decay": 0.0, "betas": (0.9, 0.99), "rates": [0.1, 0.2], "epsilons": [1e-3, 1e-4]}
    arrays = draw(15, *[(3, 5000)] * 4, *[(4097,)] * 4)
    arrays[3], arrays[7] = 1 + np.square(arrays[3]), 1 + np.square(arrays[7])
    assert_updates_alike(arrays, hyper)


def assert_updates_alike(arrays, hyper):
    expected = [a.copy() for a in arrays]
    ADAM.body(*expected, **hyper)
    for floor in FLOORS:
        found = [a.copy() for a in arrays]
        with tinygen.kernels(floor):
            ADAM.compute(*found, **hyper)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@given(shapes, st.integers(2, 7), seeds)
@settings(max_examples=40)
def test_token_losses(shape, classes, seed):
    (logits,) = draw(seed, (*shape, classes), scale=3.0)
    if compiled(token_losses) is not None:
        assert compiled(token_losses)(logits, np.zeros(shape, int), -1, 0.1) is NotImplemented
    targets = np.random.default_rng(seed).integers(-1, classes, shape)
    assert_equals_definition(token_losses, [logits, targets], ignore_index=-1, smoothing=0.0)


@given(shapes, seeds, st.sampled_from([1.0, 20.0]))
@settings(max_examples=40)
def test_binary_losses(shape, seed, scale):
    logits, targets = draw(seed, shape, shape, scale=scale)
    assert_equals_definition(binary_losses, [logits, targets])
    if compiled(binary_losses) is not None:
        assert compiled(binary_losses)(logits, targets > 0) is NotImplemented


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_binary_cross_entropy_in_several_parts(reduction):
    logits, targets = draw(16, (128, 784), (128, 784))
    assert_equals_definition(lambda x, y: ops.bce_with_logits(x, y, reduction), [logits, targets])


def strided(a):
    """The same values in memory with gaps, backwards."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::-2] = a
    return wide[..., ::-2]


def test_strided_inputs():
    x, w, b = draw(1, (3, 4, 6), (6,), (6,))
    q, k, v = (np.swapaxes(a, 1, 2) for a in draw(2, (2, 5, 3, 4), (2, 5, 3, 4), (2, 5, 3, 4)))
    assert_equals_definition(ops.gelu, [strided(x)])
    assert_equals_definition(ops.layer_norm, [strided(x), strided(w), b])
    assert_equals_definition(ops.attention, [q, k, v], causal=True)
    assert_equals_definition(token_losses, [strided(x), np.ones((3, 4), int)], ignore_index=-1, smoothing=0.0)
    assert_equals_definition(ops.softmax, [strided(x)])
    assert_equals_definition(ops.rms_norm, [strided(x), strided(w)])
    assert_equals_definition(ops.linear, [strided(x), strided(draw(3, (7, 6))[0]), strided(draw(4, (7,))[0])])
    assert_equals_definition(ops.matmul, [strided(x), strided(draw(5, (6, 7))[0])])


def test_arrays_that_may_not_be_written():
    arrays = draw(14, (3, 4, 6), (6,), (6,), (7, 6), (7,))
    for a in arrays:
        a.flags.writeable = False
    x, w, b, weight, bias = arrays
    assert_equals_definition(ops.gelu, [x])
    assert_equals_definition(ops.layer_norm, [x, w, b])
    assert_equals_definition(ops.linear, [x, weight, bias])
    assert_equals_definition(ops.softmax, [x])
    assert_equals_definition(ops.attention, [x, x, x], causal=True)


def test_what_a_kernel_does_not_take_falls_back():
    q, k, v = draw(3, (2, 3, 4), (2, 5, 4), (2, 5, 4))
    mask = np.random.default_rng(0).random((3, 5)) > 0.5
    assert_equals_definition(ops.attention, [q, k, v], mask=mask, taken=False)
    x = draw(4, (3, 4))[0].astype(np.float64)  # float64
    with tinygen.kernels("off"):
        expected = ops.gelu(Tensor(x)).numpy()
    np.testing.assert_array_equal(ops.gelu(Tensor(x)).numpy(), expected)
    assert ops.gelu(Tensor(np.zeros((0, 3), np.float32))).shape == (0, 3)  # nothing at all


def test_same_bits_every_time():
    x, w, b, weight = draw(5, (64, 128), (128,), (128,), (128, 128))
    q, g = draw(6, (20, 4, 80, 16), (20, 4, 80, 16))
    (long,) = draw(9, (3000, 128))
    ids = np.random.default_rng(7).integers(0, 64, 500)
    (rows,) = draw(8, (500, 128))
    for function, arrays, cotangent in [
        (ops.layer_norm, [long, w, b], long),
        (ops.gelu, [long], long),
        (ops.linear, [x, weight, b], x),
        (ops.attention, [q, q, q], g),
        (ops.embedding, [x, ids], rows),
        (ops.log_softmax, [x], x),
    ]:
        for floor in FLOORS:
            with tinygen.kernels(floor):
                first = value_and_gradients(function, arrays, cotangent)
                again = value_and_gradients(function, arrays, cotangent)
            for a, b in zip(first, again, strict=True):
                np.testing.assert_array_equal(a, b)


def test_higher_orders_use_the_definition():
    x = np.linspace(-2, 2, 7, dtype=np.float32)
    with tinygen.kernels("off"):
        expected = tinygen.hessian(lambda x: ops.gelu(x).sum())(x).numpy()
    np.testing.assert_allclose(tinygen.hessian(lambda x: ops.gelu(x).sum())(x).numpy(), expected, atol=1e-6)


def test_switch():
    body, compute = ops.gelu.op.body, ops.gelu.op.compute
    assert tinygen.kernels.mode == "auto"
    assert compute is not body
    with tinygen.kernels("off"):
        assert ops.gelu.op.compute is body
    with pytest.raises(ZeroDivisionError), tinygen.kernels("off"):
        1 / 0  # noqa: B018
    assert tinygen.kernels.mode == "auto"
    assert ops.gelu.op.compute is not body
    with pytest.raises(ValueError, match="'off', 'numpy', 'auto', not 'fast'"):
        tinygen.kernels("fast")


def test_table_lists_every_kernel():
    lines = [line for line in tinygen.kernels.table().splitlines() if " threads; " not in line]
    assert len(lines) == 1 + len(tinygen.kernels.entries)
    assert any(line.split() == ["gelu", "numpy", "tinygen.kernels.gelu.gelu", "yes"] for line in lines)
    with tinygen.kernels("off"):
        assert all(line.endswith("  no") for line in tinygen.kernels.table().splitlines()[1:])


def test_compiled_kernels_are_not_loaded_before_they_are_worth_it():
    """In a process of its own: a small model imports no compiler, a larger one does, and may do without."""
    code = """
import sys
import numpy as np, tinygen
from tinygen import Tensor, ops
def run(n):
    x = Tensor(np.ones((n, n), np.float32), requires_grad=True)
    ops.gelu(ops.linear(x, x)).sum().backward()
    return x.grad
small = run(8)
assert "numba" not in sys.modules
if sys.argv[1] == "without":
    sys.modules["numba"] = None  # importing it raises ImportError
large = run(128)
assert ("numba" in sys.modules and sys.modules["numba"] is not None) == (sys.argv[1] == "with")
with tinygen.kernels("off"):
    np.testing.assert_allclose(run(128), large, rtol=1e-5)
"""
    cases = ["with", "without"] if compiled(ops.linear) is not None else ["without"]
    for case in cases:
        done = subprocess.run([sys.executable, "-c", code, case], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_wide_row_is_worth_a_kernel(monkeypatch):
    wide, least = registry.WIDE, 2**13
    monkeypatch.setattr(registry, "LEAST", least)
    shapes = [(wide,), (1, wide), (wide - 1,), (7, wide - 1), (least // 4, 3), (least // 4, 4), ()]
    worth = [True, True, False, False, False, True, False]
    assert [registry.many_steps(np.zeros(shape, np.float32)) for shape in shapes] == worth


def test_a_wrong_kernel_would_be_seen():
    register = tinygen.kernels.register(ops.softplus)
    register(lambda x: (np.log1p(np.exp(x)), lambda g: 1.001 * g / (1 + np.exp(-x))))
    try:
        with pytest.raises(AssertionError):
            assert_equals_definition(ops.softplus, draw(6, (3, 4)))
    finally:
        tinygen.kernels.entries.pop()
        tinygen.kernels.connect(ops.softplus.op)


def test_memory_setting(monkeypatch):
    memory = importlib.import_module("tinygen.kernels.memory")
    monkeypatch.setenv("TINYGEN_KEEP_MEMORY", "0")
    assert not memory.keep_freed_memory()
    monkeypatch.delenv("TINYGEN_KEEP_MEMORY")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()
