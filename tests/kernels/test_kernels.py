"""Every kernel against its definition, in value and gradient; the switch; the fall-backs."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen
from tinygen import Tensor, ops
from tinygen.ops.loss import token_losses


def relative_error(a, b):
    """To the largest entry, or to 1, the size of the inputs, where cancellation leaves only small ones."""
    return np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1.0)


def value_and_gradients(function, arrays, g, **kwargs):
    tensors = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = function(*tensors, **kwargs)
    y.backward(g)
    return y.numpy(), *[t.grad for t in tensors if t.requires_grad]


def assert_equals_definition(function, arrays, seed=0, tolerance=1e-5, **kwargs):
    with tinygen.kernels("off"):
        shape = function(*[Tensor(a) for a in arrays], **kwargs).shape
        g = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        expected = value_and_gradients(function, arrays, g, **kwargs)
    with tinygen.kernels("numpy"):
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
@settings(max_examples=60)
def test_gelu(shape, seed, approximate, scale):
    assert_equals_definition(ops.gelu, draw(seed, shape, scale=scale), approximate=approximate)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_over_several_blocks_and_into_the_tails(approximate):
    x = np.linspace(-30, 30, 100_003, dtype=np.float32)
    assert_equals_definition(ops.gelu, [x], approximate=approximate)


def test_exact_gelu_is_exact():
    x = np.linspace(-6, 6, 10_001, dtype=np.float32)
    cdf = 0.5 * (1 + ops.erf(x.astype(np.float64) / np.sqrt(2)))
    with tinygen.kernels("numpy"):
        assert np.abs(ops.gelu(Tensor(x)).numpy() - x * cdf).max() < 6e-7


@given(shapes, seeds, st.booleans())
@settings(max_examples=60)
def test_layer_norm(shape, seed, with_bias):
    channels = shape[-1] + 1  # over one channel the gradient is rounding alone
    x, w, b = draw(seed, (*shape[:-1], channels), (channels,), (channels,))
    assert_equals_definition(ops.layer_norm, [x, w, b] if with_bias else [x, w])


@given(st.tuples(sizes, sizes), sizes, sizes, sizes, seeds, st.booleans(), st.sampled_from([0.0, 0.4]))
@settings(max_examples=80)
def test_attention(batch, t, extra, d, seed, causal, dropout):
    q, k, v = draw(seed, (*batch, t, d), (*batch, t + extra, d), (*batch, t + extra, d + 1))
    assert_equals_definition(ops.attention, [q, k, v], causal=causal, dropout=dropout, seed=seed)


@pytest.mark.parametrize(("t", "s", "d"), [(64, 64, 8), (130, 200, 32), (257, 257, 64), (70, 300, 16)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_in_several_blocks(t, s, d, causal, dropout):
    q, k, v = draw(t, (2, 3, t, d), (2, 3, s, d), (2, 3, s, d))
    assert_equals_definition(ops.attention, [q, k, v], causal=causal, dropout=dropout, seed=7)


def test_attention_over_one_set_of_keys_falls_back():
    q, k, v = draw(8, (2, 3, 5, 4), (3, 6, 4), (3, 6, 4))
    assert_equals_definition(ops.attention, [q, k, v], tolerance=0)


@given(shapes, st.integers(2, 7), seeds)
@settings(max_examples=60)
def test_token_losses(shape, classes, seed):
    (logits,) = draw(seed, (*shape, classes), scale=3.0)
    targets = np.random.default_rng(seed).integers(-1, classes, shape)
    assert_equals_definition(token_losses, [logits, targets], ignore_index=-1, smoothing=0.0)


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


def test_what_a_kernel_does_not_take_falls_back():
    q, k, v = draw(3, (2, 3, 4), (2, 5, 4), (2, 5, 4))
    mask = np.random.default_rng(0).random((3, 5)) > 0.5
    assert_equals_definition(ops.attention, [q, k, v], mask=mask, tolerance=0)
    x = draw(4, (3, 4))[0].astype(np.float64)  # float64
    with tinygen.kernels("off"):
        expected = ops.gelu(Tensor(x)).numpy()
    np.testing.assert_array_equal(ops.gelu(Tensor(x)).numpy(), expected)
    assert ops.gelu(Tensor(np.zeros((0, 3), np.float32))).shape == (0, 3)  # nothing at all


def test_same_bits_every_time():
    x, w, b = draw(5, (64, 128), (128,), (128,))
    first = value_and_gradients(ops.layer_norm, [x, w, b], x)
    for a, again in zip(first, value_and_gradients(ops.layer_norm, [x, w, b], x), strict=True):
        np.testing.assert_array_equal(a, again)


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
    lines = tinygen.kernels.table().splitlines()
    assert len(lines) == 1 + len(tinygen.kernels.entries)
    assert any(line.split() == ["gelu", "numpy", "tinygen.kernels.gelu.gelu", "yes"] for line in lines)
    with tinygen.kernels("off"):
        assert all(line.endswith("no    ") for line in tinygen.kernels.table().splitlines()[1:])


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
