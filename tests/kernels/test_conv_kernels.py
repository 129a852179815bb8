"""The kernels for pictures against their definitions, in value and gradient, at all sizes."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, ops
from tinygen.kernels import registry
from tinygen.ops.conv import convolution, correlation, transposed_convolution
from tinygen.ops.window import Geometry

pytest.importorskip("numba")
conv = importlib.import_module("tinygen.kernels.compiled.conv")
cuts = importlib.import_module("tinygen.kernels.compiled.cuts")
winograd = importlib.import_module("tinygen.kernels.compiled.winograd")
products = importlib.import_module("tinygen.kernels.winograd")

SAME = Geometry((1, 1), (1, 1), (1, 1), 1)


@pytest.fixture(autouse=True, scope="module")
def at_every_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "LEAST", 0)
        yield


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def relative_error(a, b):
    """To the largest entry, or to 1, the size of the inputs, where cancellation leaves only small ones."""
    return np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1.0)


def assert_close(found, expected, tolerance=1e-5):
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    if tolerance == 0:
        np.testing.assert_array_equal(found, expected)
    else:
        assert relative_error(found, expected) <= tolerance


def value_and_gradients(function, arrays, g):
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = function(*tensors)
    y.backward(g)
    return y.numpy(), *[t.grad for t in tensors]


def assert_equals_definition(function, *arrays, tolerance=1e-5):
    with tinygen.kernels("off"):
        shape = function(*[Tensor(a) for a in arrays]).shape
        (g,) = draw(1, shape)
        expected = value_and_gradients(function, arrays, g)
    for floor in ("numpy", "auto"):
        with tinygen.kernels(floor):
            found = value_and_gradients(function, arrays, g)
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b, tolerance)


def strided(a):
    """The same values in memory with gaps, backwards."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::-2] = a
    return wide[..., ::-2]


# -- Winograd's algorithm without a compiler ---------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (4, 4), (1, 1), (13, 18)])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("cached", [0, 2**19])
def test_winograd_of_numpy_equals_the_definition(monkeypatch, size, images, cached):
    monkeypatch.setattr(products, "ENOUGH", 0)
    monkeypatch.setattr(products, "CHANNELS", 1)
    monkeypatch.setattr(products, "CACHED", cached)
    x, weight, bias, shift = draw(0, (images, 4, *size), (6, 4, 3, 3), (6,), (4,))
    (y,) = draw(1, (images, 6, *size))
    with tinygen.kernels("numpy"):
        assert products.convolution(x, weight, bias, SAME) is not NotImplemented
        assert products.transposed_convolution(y, weight, shift, size, SAME) is not NotImplemented
        assert products.correlation(x, y, (3, 3), SAME) is not NotImplemented
        assert_equals_definition(lambda x, w, b: convolution(x, w, b, SAME), x, weight, bias)
        assert_equals_definition(
            lambda y, w, b: transposed_convolution(y, w, b, size, SAME), y, weight, shift
        )
        assert_equals_definition(lambda x, y: correlation(x, y, (3, 3), SAME), x, y)


def test_winograd_of_numpy_declines_what_it_does_not_win():
    few, weight = draw(0, (4, 16, 15, 17), (16, 16, 3, 3))  # 1,020 positions
    assert products.convolution(few, weight, None, SAME) is NotImplemented
    thin, narrow = draw(0, (4, 15, 16, 16), (16, 15, 3, 3))
    assert products.convolution(thin, narrow, None, SAME) is NotImplemented
    (maps,) = draw(0, (4, 16, 16, 16))
    assert products.convolution(maps, weight, None, SAME) is not NotImplemented
    for stride, padding, dilation, groups in ((2, 1, 1, 1), (1, 0, 1, 1), (1, 1, 2, 1), (1, 1, 1, 16)):
        geometry = Geometry((stride,) * 2, (padding,) * 2, (dilation,) * 2, groups)
        assert products.convolution(maps, weight, None, geometry) is NotImplemented


# -- the three ops of convolution ------------------------------------------------------------------


@st.composite
def convolutions(draw_one):
    """x, weight, bias, y and a geometry of one or two axes that fits."""
    axes, groups = draw_one(st.integers(1, 2)), draw_one(st.sampled_from([1, 1, 2, 3]))

    def numbers(least, most):
        return draw_one(st.tuples(*[st.integers(least, most)] * axes))

    kernel = draw_one(st.sampled_from([(1,) * axes, (3,) * axes, None])) or numbers(1, 4)
    geometry = Geometry(numbers(1, 3), numbers(0, 3), numbers(1, 3), groups)
    if draw_one(st.booleans()):  # plain, as for Winograd's algorithm and for products without columns
        geometry = Geometry((1,) * axes, (kernel[0] // 2,) * axes, (1,) * axes, groups)
    spare = numbers(0, 9)
    fits = zip(geometry.span(kernel), geometry.padding, spare, strict=True)
    size = tuple(max(1, span + 1 - 2 * p) + more for span, p, more in fits)
    n, enter, leave = draw_one(st.integers(1, 3)), draw_one(st.integers(1, 20)), draw_one(st.integers(1, 20))
    shapes = (n, enter * groups, *size), (leave * groups, enter, *kernel), (leave * groups,)
    y = (n, leave * groups, *geometry.positions(size, kernel))
    return *draw(draw_one(st.integers(0, 2**32 - 1)), *shapes, y, (enter * groups,)), geometry


@given(convolutions(), st.booleans())
@settings(max_examples=80)
def test_convolution_and_its_transposes(case, gaps):
    x, weight, bias, y, shift, geometry = case
    size, kernel = x.shape[2:], weight.shape[2:]
    if gaps:
        x, weight, bias, y, shift = map(strided, (x, weight, bias, y, shift))
    with tinygen.kernels("off"):
        value = convolution(x, weight, bias, geometry)
        transposed = transposed_convolution(y, weight, shift, size, geometry)
        gradient = correlation(x, y, kernel, geometry)
    if geometry.groups == len(weight) == x.shape[1]:  # each channel by itself
        assert conv.convolution(x, weight, bias, geometry) is NotImplemented
        assert conv.transposed_convolution(y, weight, shift, size, geometry) is NotImplemented
        assert conv.correlation(x, y, kernel, geometry) is NotImplemented
        return
    assert_close(conv.convolution(x, weight, bias, geometry)[0], value)
    assert_close(conv.transposed_convolution(y, weight, shift, size, geometry)[0], transposed)
    assert_close(conv.correlation(x, y, kernel, geometry)[0], gradient)


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, w, b: ops.conv2d(x, w, b, 1, 1), [(2, 17, 9, 11), (19, 17, 3, 3), (19,)]),
        (lambda x, w, b: ops.conv2d(x, w, b, (2, 1), (1, 2), (1, 2), 2), [(2, 6, 9, 11), (4, 3, 3, 2), (4,)]),
        (lambda x, w: ops.conv2d(x, w), [(2, 6, 5, 4), (3, 6, 1, 1)]),
        (lambda x, w, b: ops.conv1d(x, w, b, 2, 3), [(2, 6, 19), (4, 6, 5), (4,)]),
        (lambda x, w, b: ops.conv_transpose2d(x, w, b, 1, 1), [(2, 17, 9, 6), (17, 16, 3, 3), (16,)]),
        (lambda x, w, b: ops.conv_transpose2d(x, w, b, 2, 1, 1), [(2, 6, 5, 7), (6, 4, 3, 3), (4,)]),
        (lambda x, w: ops.conv_transpose1d(x, w, None, 3), [(2, 6, 7), (6, 4, 4)]),
        # each channel by itself
        (lambda x, w, b: ops.conv2d(x, w, b, 1, 1, 1, 5), [(3, 5, 7, 9), (5, 1, 3, 3), (5,)]),
        (lambda x, w, b: ops.conv2d(x, w, b, (2, 3), (1, 2), (2, 1), 5), [(3, 5, 8, 9), (5, 1, 3, 4), (5,)]),
        (
            lambda x, w, b: ops.conv_transpose2d(x, w, b, (1, 2), 1, (0, 1), 5),
            [(3, 5, 6, 7), (5, 1, 3, 4), (5,)],
        ),
        (lambda x, w, b: ops.conv1d(x, w, b, 2, 1, 1, 4), [(2, 4, 9), (4, 1, 3), (4,)]),
        (lambda x: ops.avg_pool2d(x, 2), [(3, 5, 8, 6)]),
        (lambda x: ops.avg_pool2d(x, 3, 2, 1), [(3, 5, 8, 7)]),
        # a kernel as large as the map
        (lambda x, w, b: ops.conv2d(x, w, b), [(7, 5, 3, 4), (6, 5, 3, 4), (6,)]),
        (lambda x, w, b: ops.conv2d(x, w, b, 2), [(7, 5, 3, 3), (6, 5, 3, 3), (6,)]),
        (lambda x, w, b: ops.conv_transpose2d(x, w, b, 2), [(7, 6, 1, 1), (6, 5, 3, 4), (5,)]),
        (lambda x, w, b: ops.conv1d(x, w, b), [(7, 5, 4), (6, 5, 4), (6,)]),
        (lambda x, w, b: ops.conv2d(x, w, b, 1, 0, 1, 2), [(7, 6, 3, 4), (4, 3, 3, 4), (4,)]),
        (lambda x, w, b: ops.conv2d(x, w, b, 1, 1), [(7, 5, 3, 3), (6, 5, 3, 3), (6,)]),
    ],
)
def test_gradients(function, shapes):
    assert_equals_definition(function, *draw(0, *shapes))


@pytest.mark.parametrize(("columns", "positions"), [(1, 1), (1, 20), (1, 250), (30000, 1)])
def test_maps_in_several_parts(monkeypatch, columns, positions):
    monkeypatch.setattr(cuts, "COLUMNS", columns)
    monkeypatch.setattr(cuts, "POSITIONS", positions)
    arrays = draw(2, (3, 40, 13, 9), (5, 40, 2, 3), (5,))
    assert_equals_definition(lambda x, w, b: ops.conv2d(x, w, b, 1, 2), *arrays)
    assert_equals_definition(lambda x, w: ops.conv2d(x, w), *draw(3, (1, 40, 13, 9), (5, 40, 1, 1)))


def test_what_does_not_come_as_float32_is_left_to_the_definition():
    x, weight, bias = draw(4, (2, 3, 6, 6), (4, 3, 3, 3), (4,))
    wide = weight.astype(np.float64)
    assert conv.convolution(x, wide, bias, SAME) is NotImplemented
    assert conv.transposed_convolution(x, wide, None, (6, 6), SAME) is NotImplemented
    assert conv.correlation(x, x.astype(np.float64), (3, 3), SAME) is NotImplemented
    assert convolution(x[:0], weight, bias, SAME).shape == (0, 4, 6, 6)  # nothing at all


def test_read_only_arrays():
    x, weight, bias = draw(5, (2, 16, 6, 6), (16, 16, 3, 3), (16,))
    expected = conv.convolution(x, weight, bias, SAME)[0]
    for a in (x, weight, bias):
        a.flags.writeable = False
    np.testing.assert_array_equal(conv.convolution(x, weight, bias, SAME)[0], expected)


# -- Winograd's algorithm --------------------------------------------------------------------------


def seen(x):
    """The windows of x (N, C, H, W) that a kernel of 3 by 3 reads with padding 1, in float64: (N, C, H, W,
    3, 3)."""
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))


def direct(x, weight):
    return np.einsum("nchwij,ocij->nohw", seen(x), weight.astype(np.float64), optimize=True)


@pytest.mark.parametrize(
    "shape", [(2, 16, 1, 1), (3, 19, 7, 9), (1, 16, 3, 128), (9, 33, 5, 6), (2, 128, 16, 16)]
)
def test_error_of_winograd(shape):
    """About 2e-6 of the largest value, as it is stated."""
    n, channels, height, width = shape
    x, weight, g = draw(6, shape, (24, channels, 3, 3), (n, 24, height, width))
    turned = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
    for found, exact in (
        (winograd.convolve(x, weight, np.zeros(24, np.float32)), direct(x, weight)),
        (winograd.convolve(g, weight, np.zeros(channels, np.float32), turned=True), direct(g, turned)),
        (winograd.correlate(x, g), np.einsum("nchwij,nohw->ocij", seen(x), g.astype(float), optimize=True)),
    ):
        assert np.abs(found - exact).max() <= 4e-6 * np.abs(exact).max()


def test_points_of_winograd_are_exact():
    """The identity behind it along one axis: y[i] = Σ d[i + j] w[j], for whole numbers in float64."""
    tiles = importlib.import_module("tinygen.kernels.compiled.winograd_tiles")
    rng = np.random.default_rng(0)
    d, w = rng.integers(-9, 9, 6).astype(float), rng.integers(-9, 9, 3).astype(float)
    points = (0, tiles.P, -tiles.P, tiles.Q, -tiles.Q)
    rows = [[p**k / np.prod([p - q for q in points if q != p]) for k in range(3)] for p in points]
    y = tiles.tile.py_func(*(np.array([*rows, [0, 0, 1]]) @ w * tiles.transform_patch.py_func(*d)))
    np.testing.assert_allclose(y, [d[i : i + 3] @ w for i in range(4)], rtol=1e-5, atol=1e-4)


def test_several_chunks_of_blocks(monkeypatch):
    x, g = draw(7, (5, 20, 13, 30), (5, 17, 13, 30))
    whole = winograd.correlate(x, g)
    monkeypatch.setattr(winograd, "CHUNK", 1)
    assert_close(winograd.correlate(x, g), whole)
    monkeypatch.setattr(winograd, "SMALL", 20 * 32 * 5)  # five channels out at a time
    (weight,) = draw(8, (17, 20, 3, 3))
    assert_close(winograd.convolve(x, weight, np.zeros(17, np.float32)), direct(x, weight).astype(np.float32))


# -- the others ------------------------------------------------------------------------------------


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(st.integers(1, 7), max_size=2),
    st.data(),
)
@settings(max_examples=30)
def test_group_norm(n, groups, per, size, data):
    channels = groups * per
    size = [*size, 2]  # over one number the gradient is rounding alone
    x, weight, bias = draw(
        data.draw(st.integers(0, 2**32 - 1)), (n, channels, *size), (channels,), (channels,)
    )
    x += data.draw(st.sampled_from([np.float32(0), np.float32(3)]))
    if data.draw(st.booleans()):
        x, weight, bias = map(strided, (x, weight, bias))
    assert_equals_definition(lambda x, w, b: ops.group_norm(x, groups, w, b), x, weight, bias)


@given(
    st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(1, 7), max_size=2), st.integers(0, 2**32 - 1)
)
@settings(max_examples=30)
def test_batch_norm(n, channels, size, seed):
    size = [*size, 3]  # over one number the gradient is rounding alone
    x, weight, bias = draw(seed, (n, channels, *size), (channels,), (channels,))
    if seed % 2:
        x, weight, bias = map(strided, (x + np.float32(3), weight, bias))
    assert_equals_definition(ops.batch_norm, x, weight, bias)


@pytest.mark.parametrize("images", [1, 7, 40])
@pytest.mark.parametrize(
    ("channels", "out", "size", "kernel", "stride", "padding", "groups"),
    [
        (8, 6, (4, 4), (4, 4), 1, 0, 1),  # one position an image
        (12, 9, (8, 8), (3, 3), 2, 1, 3),
        (5, 700, (3, 2), (3, 3), 1, 1, 1),  # more channels than positions
        (6, 4, (5, 5), (1, 1), 1, 0, 1),  # the columns are the map itself
        (6, 4, (6,), (4,), 2, 1, 2),
    ],
)
def test_small_maps_of_one_and_of_many_images(images, channels, out, size, kernel, stride, padding, groups):
    """They are worked on several at a time: also where the last job has fewer."""
    x, w, b = draw(
        images, (images, channels, *size), (out // groups * groups, channels // groups, *kernel), (out,)
    )
    f = ops.conv2d if len(size) == 2 else ops.conv1d
    assert_equals_definition(lambda x, w, b: f(x, w, b, stride, padding, groups=groups), x, w, b[: len(w)])
    y, w = draw(images, (images, channels, *size), (channels, out // groups, *kernel))
    f = ops.conv_transpose2d if len(size) == 2 else ops.conv_transpose1d
    assert_equals_definition(lambda y, w: f(y, w, None, stride, padding, groups=groups), y, w)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.sampled_from([0.1, 1.0, 20.0]), st.booleans())
@settings(max_examples=25)
def test_silu(shape, scale, gaps):
    (x,) = draw(math.prod(shape), shape)
    x *= np.float32(scale)
    assert_equals_definition(ops.silu, strided(x) if gaps else x)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.data(),
)
@settings(max_examples=30)
def test_pooling(kernel, stride, more, data):
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    (x,) = draw(0, (2, 3, *(k + m for k, m in zip(kernel, more, strict=True))))
    x = np.round(x)  # with many equals
    x[x > 1] = data.draw(st.sampled_from([2, -np.inf, np.inf]))
    assert_equals_definition(lambda x: ops.max_pool2d(x, kernel, stride, padding), x, tolerance=0)
    (x,) = draw(1, x.shape)
    assert_equals_definition(lambda x: ops.avg_pool2d(x, kernel, stride, padding), x)
    assert_equals_definition(lambda x: ops.max_pool1d(x[0], kernel[1], stride[1]), strided(x), tolerance=0)


def test_pooling_nothing_but_infinities_and_nan():
    x = np.full((1, 2, 5, 6), -np.inf, np.float32)
    x[0, 1, 2, 3] = np.nan
    x[0, 1, 2, 4] = np.inf
    pooled = []
    for mode in ("off", "auto"):
        with tinygen.kernels(mode):
            t = Tensor(x, requires_grad=True)
            y = ops.max_pool2d(t, 3, 2, 1)
            y.backward(np.ones(y.shape, np.float32))
            pooled += [(y.numpy(), t.grad)]
    np.testing.assert_array_equal(pooled[0][0], pooled[1][0])
    np.testing.assert_array_equal(pooled[0][1], pooled[1][1])


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_upsampling(scale):
    (x,) = draw(9, (2, 3, 5, 7))
    assert_equals_definition(lambda x: ops.upsample_nearest(x, scale), x)
    assert_equals_definition(lambda x: ops.upsample_nearest(x, scale), strided(x))


def test_same_bits_every_time():
    def run():
        x, w, v, b = draw(10, (4, 16, 20, 20), (32, 16, 3, 3), (16, 32, 5, 5), (32,))

        def net(x, w, v, b):
            y = ops.silu(ops.group_norm(ops.conv2d(x, w, b, 1, 1), 4, b, b))
            return ops.conv2d(ops.max_pool2d(y, 2), v, None, 2, 2)

        return value_and_gradients(net, [x, w, v, b], np.ones((4, 16, 5, 5), np.float32))

    first = run()
    for _ in range(3):
        for a, b in zip(run(), first, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_net_of_all_of_them():
    x, w, scale, shift, v, u = draw(
        11, (2, 3, 16, 12), (24, 3, 3, 3), (24,), (24,), (20, 24, 3, 3), (20, 3, 4, 4)
    )

    def net(x, w, scale, shift, v, u):
        y = ops.silu(ops.group_norm(ops.conv2d(x, w, None, 1, 1), 6, scale, shift))
        y = ops.conv2d(ops.max_pool2d(y, 2), v * 0.1, None, 1, 1)
        return ops.conv_transpose2d(ops.upsample_nearest(y, 2), u * 0.1, None, 2, 1)

    assert_equals_definition(net, x, w, scale, shift, v, u)


def test_many_products_of_few_numbers_are_worth_a_kernel(monkeypatch):
    """As many as OpenBLAS would take threads of its own for, which then stand in the way of the kernels'."""
    monkeypatch.setattr(registry, "LEAST", 2**13)
    x, weight, g = (np.zeros(s, np.float32) for s in ((8, 2, 16, 8), (16, 2, 4, 4), (8, 16, 13, 5)))
    assert x.size * weight.size / 2 == x.size * 16 * 16 == 2 * registry.PRODUCTS
    assert registry.many_taps(x, weight)
    assert registry.many_taps(x[:4], weight)
    assert not registry.many_taps(x[:3], weight)
    assert registry.many_pairs(x, g[:1], (4, 4))
    assert not registry.many_pairs(x[:3], g[:1], (4, 4))
    wide = np.zeros((2, 2, 64, 64), np.float32)
    assert registry.many_taps(wide, weight[:1, :, :1, :1])
