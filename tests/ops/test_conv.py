"""Convolution and its transpose: closed forms, the definition written out as loops, adjoints, errors.

Gradients of many calls, to the second order and against torch, are in test_every_op.py.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, gradcheck, ops
from tinygen.ops.conv import convolution, correlation, transposed_convolution
from tinygen.ops.window import Geometry, fold, unfold


@pytest.fixture(autouse=True)
def definitions():
    with tinygen.kernels("off"):
        yield


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# -- closed forms ----------------------------------------------------------------------------------


def test_small_example_by_hand():
    x = np.array([[[1.0, 2.0, 3.0, 4.0]]])
    w = np.array([[[1.0, 0.0, -1.0]]])  # not flipped: 1 - 3, 2 - 4
    np.testing.assert_array_equal(ops.conv1d(x, w), [[[-2.0, -2.0]]])
    np.testing.assert_array_equal(ops.conv1d(x, w, padding=1), [[[-2.0, -2.0, -2.0, 3.0]]])
    np.testing.assert_array_equal(ops.conv1d(x, w, padding=1, stride=2), [[[-2.0, -2.0]]])
    np.testing.assert_array_equal(ops.conv1d(x, w, padding=2, dilation=2), [[[-3.0, -4.0, 1.0, 2.0]]])
    np.testing.assert_array_equal(ops.conv1d(x, w, np.array([10.0])), [[[8.0, 8.0]]])


def test_small_transposed_example_by_hand():
    x = np.array([[[1.0, 2.0]]])
    w = np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(ops.conv_transpose1d(x, w), [[[1.0, 12.0, 120.0, 200.0]]])
    np.testing.assert_array_equal(ops.conv_transpose1d(x, w, stride=2), [[[1.0, 10.0, 102.0, 20.0, 200.0]]])
    np.testing.assert_array_equal(ops.conv_transpose1d(x, w, padding=1), [[[12.0, 120.0]]])
    np.testing.assert_array_equal(
        ops.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1), [[[10.0, 102.0, 20.0, 200.0]]]
    )
    np.testing.assert_array_equal(  # what the kernel does not reach has the bias
        ops.conv_transpose1d(x, w[..., :1], np.array([0.5]), stride=3, output_padding=2),
        [[[1.5, 0.5, 0.5, 2.5, 0.5, 0.5]]],
    )


def test_two_axes_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    w = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    np.testing.assert_array_equal(ops.conv2d(x, w), [[[[27.0, 37.0], [57.0, 67.0]]]])  # 0 + 2 + 9 + 16 = 27
    np.testing.assert_array_equal(ops.conv_transpose2d(np.ones((1, 1, 1, 1)), w), w)


@pytest.mark.parametrize("tap", list(np.ndindex(3, 3)))
def test_one_tap_moves_the_map(tap):
    """A kernel of one 1, at the center the identity, elsewhere a shift with zeros moving in."""
    x = normal(2, 2, 4, 5)
    w = np.zeros((2, 2, 3, 3))
    w[[0, 1], [0, 1], tap[0], tap[1]] = 1.0
    i, j = tap
    expected = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))[:, :, i : i + 4, j : j + 5]
    np.testing.assert_array_equal(ops.conv2d(x, w, padding=1), expected)
    back = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))[:, :, 2 - i : 6 - i, 2 - j : 7 - j]
    np.testing.assert_array_equal(ops.conv_transpose2d(x, w, padding=1), back)


def test_a_constant_map():
    """Inside, the value times the sum of the kernel; plus the bias."""
    w, b = normal(3, 2, 3, 2), normal(3, seed=1)
    y = ops.conv2d(np.full((2, 2, 5, 5), 1.5), w, b)
    expected = np.broadcast_to((1.5 * w.sum(axis=(1, 2, 3)) + b)[:, None, None], (2, 3, 3, 4))
    np.testing.assert_allclose(y, expected, rtol=1e-14)


def test_a_kernel_of_one_by_one_is_a_linear_layer_at_each_position():
    x, w, b = normal(2, 3, 4, 5), normal(6, 3, 1, 1, seed=1), normal(6, seed=2)
    each = ops.linear(x.transpose(0, 2, 3, 1), w[:, :, 0, 0], b).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ops.conv2d(x, w, b), each, rtol=1e-13, atol=1e-13)


def test_a_kernel_as_large_as_the_map_is_a_linear_layer():
    x, w = normal(4, 2, 3, 5), normal(6, 2, 3, 5, seed=1)
    y = ops.conv2d(x, w)
    assert y.shape == (4, 6, 1, 1)
    np.testing.assert_allclose(y[:, :, 0, 0], x.reshape(4, -1) @ w.reshape(6, -1).T, rtol=1e-13, atol=1e-13)


def test_groups_are_convolutions_side_by_side():
    x, w = normal(2, 6, 4, 4), normal(9, 2, 3, 3, seed=1)
    apart = [ops.conv2d(x[:, 2 * i : 2 * i + 2], w[3 * i : 3 * i + 3], padding=1) for i in range(3)]
    np.testing.assert_allclose(
        ops.conv2d(x, w, padding=1, groups=3), np.concatenate(apart, axis=1), rtol=1e-13, atol=1e-13
    )


def test_one_axis_is_two_axes_with_a_height_of_one():
    x, w, b = normal(2, 4, 9), normal(6, 2, 3, seed=1), normal(6, seed=2)
    flat = ops.conv2d(x[:, :, None], w[:, :, None], b, (1, 2), (0, 1), (1, 2), groups=2)
    np.testing.assert_array_equal(ops.conv1d(x, w, b, 2, 1, 2, groups=2), flat[:, :, 0])
    b = normal(4, seed=2)
    x = normal(2, 6, 5)
    flat = ops.conv_transpose2d(x[:, :, None], w[:, :, None], b, (1, 2), (0, 1), (0, 1), 2, (1, 2))
    np.testing.assert_array_equal(ops.conv_transpose1d(x, w, b, 2, 1, 1, 2, 2), flat[:, :, 0])


def test_no_samples_and_no_channels():
    assert ops.conv2d(normal(0, 2, 4, 4), normal(3, 2, 3, 3)).shape == (0, 3, 2, 2)
    x, w = Tensor(normal(0, 2, 4, 4), requires_grad=True), Tensor(normal(3, 2, 3, 3), requires_grad=True)
    ops.conv2d(x, w).sum().backward()
    assert x.grad.shape == x.shape
    np.testing.assert_array_equal(w.grad, np.zeros(w.shape))
    np.testing.assert_array_equal(ops.conv2d(normal(1, 0, 3, 3), normal(2, 0, 2, 2)), np.zeros((1, 2, 2, 2)))


# -- the definition, and the transpose -------------------------------------------------------------


def by_loops(x, w, b, stride, padding, dilation, groups):
    """conv2d as its formula says, one multiplication at a time."""
    n, _, *size = x.shape
    out, part, *kernel = w.shape
    positions = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]
    y = np.zeros((n, out, *positions))
    for i, o, r, c in np.ndindex(*y.shape):
        y[i, o, r, c] = b[o]
        for k, u, v in np.ndindex(*w.shape[1:]):
            h = r * stride[0] + u * dilation[0] - padding[0]
            l = c * stride[1] + v * dilation[1] - padding[1]  # noqa: E741
            if 0 <= h < size[0] and 0 <= l < size[1]:
                y[i, o, r, c] += w[o, k, u, v] * x[i, o // (out // groups) * part + k, h, l]
    return y


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def setups(draw, most=3):
    """x, weight, bias and numbers that fit."""
    stride, dilation, kernel = draw(PAIRS), draw(PAIRS), draw(PAIRS)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    groups, part, per_group = (draw(st.integers(1, 2)) for _ in range(3))
    size = []
    for k, p, d in zip(kernel, padding, dilation, strict=True):
        least = max(d * (k - 1) + 1 - 2 * p, 1)
        size.append(draw(st.integers(least, least + most)))
    seed = draw(st.integers(0, 99))
    x = normal(draw(st.integers(1, 2)), groups * part, *size, seed=seed)
    w = normal(groups * per_group, part, *kernel, seed=seed + 1)
    b = normal(groups * per_group, seed=seed + 2)
    return x, w, b, stride, padding, dilation, groups


@given(setups())
def test_the_definition(setup):
    np.testing.assert_allclose(ops.conv2d(*setup), by_loops(*setup), rtol=1e-12, atol=1e-12)


@given(setups())
def test_the_transpose_is_the_adjoint(setup):
    """<conv(x, w), y> = <x, conv_transpose(y, w)> = <w, correlation(x, y)>: exact with small integers."""
    x, w, _, stride, padding, dilation, groups = setup
    x, w = np.rint(4 * x), np.rint(4 * w)
    convolved = ops.conv2d(x, w, None, stride, padding, dilation, groups)
    y = np.rint(4 * normal(*convolved.shape, seed=7))
    geometry = Geometry(stride, padding, dilation, groups)
    least = geometry.size(convolved.shape[2:], w.shape[2:], (0, 0))
    extra = tuple(n - m for n, m in zip(x.shape[2:], least, strict=True))
    back = ops.conv_transpose2d(y, w, None, stride, padding, extra, groups, dilation)
    assert back.shape == x.shape
    assert (convolved * y).sum() == (x * back).sum()
    assert (convolved * y).sum() == (w * correlation(x, y, w.shape[2:], geometry)).sum()


@given(setups(most=2))
def test_folding_is_the_transpose_of_unfolding(setup):
    x, w, _, *numbers = setup
    geometry, kernel = Geometry(*numbers), w.shape[2:]
    x = np.rint(4 * x)
    columns = unfold(x, kernel, geometry)
    g = np.rint(4 * normal(*columns.shape))
    assert (columns * g).sum() == (x * fold(g, len(x), x.shape[2:], kernel, geometry)).sum()


@given(setups(most=2))
def test_gradients_of_both_orders(setup):
    """Squared, so that the second order meets the value, too, as the replay of the tape makes it."""
    x, w, b, stride, padding, dilation, groups = setup
    x, w = x[:1, :, :4, :4], w[:, :, :2, :2]  # a Jacobian by differences is dear
    span = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, w.shape[2:], padding, strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), *((0, max(m - n, 0)) for m, n in zip(span, x.shape[2:], strict=True))))
    numbers = (stride, padding, dilation, groups)
    assert gradcheck(lambda x, w, b: np.square(ops.conv2d(x, w, b, *numbers)), x, w, b, order=2)
    y = normal(1, w.shape[0], 2, 1, seed=3)
    b = normal(x.shape[1], seed=4)
    if min(Geometry(stride, padding, dilation, groups).size((2, 1), w.shape[2:], (0, 0))) > 0:
        assert gradcheck(
            lambda y, w, b: np.square(ops.conv_transpose2d(y, w, b, stride, padding, 0, groups, dilation)),
            *(y, w, b),
            order=2,
        )


@given(setups(), st.sampled_from([np.float32, np.float64]))
def test_torch_agrees(setup, dtype):
    torch = pytest.importorskip("torch")
    *arrays, stride, padding, dilation, groups = setup
    arrays = [a.astype(dtype) for a in arrays]
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = ops.conv2d(*ours, stride, padding, dilation, groups)
    reference = torch.nn.functional.conv2d(*theirs, stride, padding, dilation, groups)
    g = normal(*y.shape, seed=5, dtype=dtype)
    y.backward(g)
    reference.backward(torch.tensor(g))
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(y.numpy(), reference.detach().numpy(), **close)
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad.dtype == dtype
        np.testing.assert_allclose(a.grad, b.grad.numpy(), **close)


def test_third_order():
    """y is linear in x, so that <y³, 1> has the third derivative 6 w³ for a kernel of one tap."""
    x, w = Tensor(normal(1, 1, 2, 2), requires_grad=True), Tensor(np.full((1, 1, 1, 1), 1.5))

    def derivative(f):
        return tinygen.grad(lambda x: f(x).sum())

    third = derivative(derivative(derivative(lambda x: ops.conv2d(x, w) ** 3)))(x)
    np.testing.assert_allclose(third.numpy(), np.full((1, 1, 2, 2), 6 * 1.5**3), rtol=1e-12)


@pytest.mark.parametrize("i", range(3))
def test_the_three_ops_are_one_trilinear_form(i):
    """Each op's value is the gradient of the other two by the argument that it leaves out."""
    geometry = Geometry((2, 1), (1, 0), (1, 2), 2)
    x, w, y = normal(2, 4, 5, 4), normal(2, 2, 3, 2, seed=1), normal(2, 2, 3, 2, seed=2)
    forms = [
        lambda x, w, y: (convolution(x, w, None, geometry) * y).sum(),
        lambda x, w, y: (transposed_convolution(y, w, None, (5, 4), geometry) * x).sum(),
        lambda x, w, y: (correlation(x, y, (3, 2), geometry) * w).sum(),
    ]
    gradients = []
    for form in forms:
        leaves = [Tensor(a, requires_grad=True) for a in (x, w, y)]
        value = form(*leaves)
        value.backward()
        gradients.append((value.item(), leaves[i].grad))
    for value, gradient in gradients[1:]:
        np.testing.assert_allclose(value, gradients[0][0], rtol=1e-12)
        np.testing.assert_allclose(gradient, gradients[0][1], rtol=1e-12, atol=1e-12)


# -- arrays ----------------------------------------------------------------------------------------


def test_the_tape_keeps_no_columns():
    """Backward needs x and the weight; it computes the columns, here 9 times as large, again."""
    x, w = Tensor(normal(1, 2, 8, 8), requires_grad=True), Tensor(normal(2, 2, 3, 3), requires_grad=True)
    y = ops.conv2d(x, w, padding=1)
    rules = [rule for rule in y.node.rules if rule is not None]
    cells = [cell.cell_contents for rule in rules for cell in rule.__closure__ or ()]
    assert {id(a) for a in cells if isinstance(a, np.ndarray)} == {id(x.data), id(w.data)}


def test_inputs_are_left_as_they_are_and_results_are_contiguous():
    arrays = [normal(2, 2, 4, 4), normal(2, 2, 3, 3, seed=1), normal(2, seed=2)]
    copies = [a.copy() for a in arrays]
    for f in (ops.conv2d, ops.conv_transpose2d):
        for b in (arrays[2], None):
            y = f(*arrays[:2], b, padding=1)
            assert y.flags.c_contiguous
            assert not any(np.shares_memory(y, a) for a in arrays)
    for a, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(a, copy)


def test_bytes_are_converted():
    """Pictures as they come, with a weight of float32."""
    x = np.arange(32, dtype=np.uint8).reshape(1, 2, 4, 4)
    w = normal(3, 2, 2, 2, dtype=np.float32)
    y = ops.conv2d(x, Tensor(w))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), ops.conv2d(x.astype(np.float32), w), rtol=1e-6)


# -- errors ----------------------------------------------------------------------------------------

X, W = np.zeros((2, 4, 5, 5)), np.zeros((6, 4, 3, 3))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda: ops.conv2d(X[0], W), [r"\(4, 5, 5\)", r"\(6, 4, 3, 3\)", r"x\[None\]"]),
        (lambda: ops.conv1d(X, W), [r"conv1d", r"\(2, 4, 5, 5\)", r"\(6, 4, 3, 3\)", "both need 3 axes"]),
        (lambda: ops.conv2d(X, W[0]), [r"\(4, 3, 3\)", "both need 4 axes", "out, in/groups"]),
        (lambda: ops.conv2d(X[:, :3], W), [r"\(2, 3, 5, 5\)", r"\(6, 4, 3, 3\)", "for 4 channels, x has 3"]),
        (lambda: ops.conv2d(X, W, groups=2), ["groups=2", "for 8 channels, x has 4"]),
        (lambda: ops.conv2d(X, W[:5, :2], groups=2), ["5 channels cannot be split into 2"]),
        (lambda: ops.conv2d(X, W, groups=0), ["groups must be at least 1, got 0"]),
        (lambda: ops.conv2d(X, W, np.zeros(4)), [r"bias must have shape \(6,\), got \(4,\)"]),
        (lambda: ops.conv2d(X, W, dilation=3), [r"\(7, 7\)", r"\(5, 5\)", "more padding"]),
        (lambda: ops.conv2d(X[:, :, :1], W, padding=(0, 1)), [r"\(3, 3\)", r"\(1, 7\)"]),
        (lambda: ops.conv2d(X, W[..., :0]), ["kernel reaches over"]),
        (lambda: ops.conv2d(X, W, stride=0), ["stride must be an int of at least 1, or 2 of them, got 0"]),
        (lambda: ops.conv1d(X[0], W[0], stride=0), ["stride must be an int of at least 1, got 0"]),
        (lambda: ops.conv2d(X, W, dilation=0), ["dilation must be an int of at least 1, or 2 of them"]),
        (lambda: ops.conv2d(X, W, padding=-1), ["padding must be an int of at least 0"]),
        (lambda: ops.conv2d(X, W, stride=(1, 2, 3)), [r"got \(1, 2, 3\)"]),
        (lambda: ops.conv2d(X, W, padding=0.5), ["got 0.5"]),
        (lambda: ops.conv2d(X, W, padding="same"), ["got 'same'"]),
        (lambda: ops.conv_transpose2d(X, W), ["in, out/groups", "for 6 channels, x has 4"]),
        (lambda: ops.conv_transpose2d(X, W[:4], np.zeros(3)), [r"bias must have shape \(4,\), got \(3,\)"]),
        (lambda: ops.conv_transpose2d(X[:, :3], W[:3], groups=2), ["3 channels cannot be split into 2"]),
        (lambda: ops.conv_transpose2d(X, W[:4], padding=4), [r"\(-1, -1\)", "less padding"]),
        (lambda: ops.conv_transpose2d(X[:, :, :2, :2], W[:4], padding=2), [r"\(0, 0\)", "less padding"]),
        (lambda: ops.conv_transpose2d(X, W[:4], stride=2, output_padding=2), ["less than the stride"]),
        (lambda: ops.conv_transpose2d(X, W[:4], output_padding=-1), ["output_padding must be", "got -1"]),
        (lambda: ops.conv_transpose1d(X, W), ["conv_transpose1d", "both need 3 axes"]),
    ],
)  # fmt: skip
def test_what_does_not_fit(f, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are looked for one by one)
        f()
    for word in words:
        assert caught.match(word)


def test_numbers_for_another_count_of_axes():
    """They are refused, not cut short."""
    one = Geometry((1,), (0,), (1,), 1)
    for f in (
        lambda: one.span((3, 3)),
        lambda: one.positions((5, 5), (3,)),
        lambda: one.size((5,), (3,), (0, 0)),
        lambda: fold(np.zeros((1, 3, 3)), 1, (5, 5), (3,), one),
    ):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            f()


def test_combinations_of_sizes():
    """The size that comes out is the one of the formula, for all small numbers, and the gradient fits x."""
    w = normal(1, 1, 3)
    for n, s, p, d in itertools.product(range(1, 6), (1, 2, 3), range(3), (1, 2)):
        least = d * 2 + 1
        if n + 2 * p < least:
            continue
        x = Tensor(normal(1, 1, n), requires_grad=True)
        y = ops.conv1d(x, w, None, s, p, d)
        assert y.shape == (1, 1, (n + 2 * p - least) // s + 1)
        y.sum().backward()
        assert x.grad.shape == x.shape
