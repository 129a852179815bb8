"""Grouped-query attention and SwiGLU: by hand, beside multi-head attention, causal, cached."""

import math

import numpy as np
import pytest

from tinygen import Tensor, nn, no_grad, ops
from tinygen.gradcheck import gradcheck

B, T, C, H = 2, 7, 12, 6


def rng(seed=0):
    return np.random.default_rng(seed)


def make(kv_heads=2, dtype=np.float64, **given):
    layer = nn.GroupedQueryAttention(C, H, kv_heads, **given, rng=rng(1))
    return layer.astype(dtype)


def inputs(dtype=np.float64, seed=2):
    return rng(seed).standard_normal((B, T, C)).astype(dtype)


def by_hand(layer, x):
    """One query after the other, with loops: heads, positions."""
    d = layer.q.weight.shape[0] // H
    y = np.zeros((B, T, H, d))
    q, k, v = (part(x).numpy().reshape(B, T, -1, d) for part in (layer.q, layer.k, layer.v))
    if layer.q_norm is not None:
        q, k = layer.q_norm(q).numpy(), layer.k_norm(k).numpy()

    def turned(vector, t):
        angle = t * layer.base ** (-np.arange(0, d, 2) / d)
        a, b = vector[: d // 2], vector[d // 2 :]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)])

    for b, h, t in np.ndindex(B, H, T):
        g = h // (H // layer.kv_heads)
        scores = [turned(q[b, t, h], t) @ turned(k[b, s, g], s) / math.sqrt(d) for s in range(t + 1)]
        weights = np.exp(scores) / np.exp(scores).sum()
        y[b, t, h] = weights @ v[b, : t + 1, g]
    return layer.proj(y.reshape(B, T, H * d)).numpy()


@pytest.mark.parametrize("kv_heads", [1, 3, 6])
@pytest.mark.parametrize("given", [{}, {"head_channels": 4, "qkv_bias": True, "qk_norm": 0.1, "base": 50.0}])
def test_it_is_its_formula(kv_heads, given):
    layer, x = make(kv_heads, **given), inputs()
    if given:
        layer.q_norm.weight.data, layer.k_norm.weight.data = rng(3).standard_normal((2, 4))
    np.testing.assert_allclose(layer(x).numpy(), by_hand(layer, x), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kv_heads", [1, 2, 3])
def test_it_is_multi_head_attention_with_repeated_heads(kv_heads):
    """`nn.MultiHeadAttention` with each head of keys and values written out for the heads that share it. Its
    gradient of a shared head is the sum of theirs."""
    ours, x = make(kv_heads, qkv_bias=True, proj_bias=True), inputs()
    theirs = nn.MultiHeadAttention(C, H, causal=True, use_rotary=True, rng=rng(1)).astype(np.float64)
    d, group = C // H, H // kv_heads

    def repeated(w):
        return np.repeat(w.reshape(kv_heads, d, *w.shape[1:]), group, axis=0).reshape(C, *w.shape[1:])

    for name in ("weight", "bias"):
        q, k, v, proj = (getattr(part, name).data for part in (ours.q, ours.k, ours.v, ours.proj))
        getattr(theirs.qkv, name).data = np.concatenate([q, repeated(k), repeated(v)])
        getattr(theirs.proj, name).data = proj
    a, b = ours(x), theirs(x)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-14)
    g = rng(4).standard_normal(a.shape)
    a.backward(g)
    b.backward(g)
    for name in ("weight", "bias"):
        q, k, v = np.split(getattr(theirs.qkv, name).grad, 3)
        shared = [
            w.reshape(kv_heads, group, d, *w.shape[1:]).sum(axis=1).reshape(-1, *w.shape[1:]) for w in (k, v)
        ]
        found = [getattr(part, name).grad for part in (ours.q, ours.k, ours.v)]
        for one, other in zip(found, [q, *shared], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_one_group_a_head_is_the_default():
    state = make(None).state_dict()
    assert state["k.weight"].shape == (C, C)
    np.testing.assert_array_equal(make(None)(inputs()).data, make(H)(inputs()).data)


@pytest.mark.parametrize("kernels", ["definition", "kernel"])
def test_no_gradient_reaches_the_future(kernels):
    layer = make(dtype=np.float64 if kernels == "definition" else np.float32)
    for t in range(T):
        x = Tensor(inputs(), requires_grad=True)
        layer(x)[:, t].sum().backward()
        assert (x.grad[:, t + 1 :] == 0).all()
        assert (x.grad[:, : t + 1] != 0).any(axis=-1).all()


def test_a_shift_of_all_positions_changes_nothing():
    """The same queries and keys at positions 0 ... and 100 ...: all are turned further by one angle."""
    q, k = (nn.rotary(Tensor(rng(i).standard_normal((B, H, T, 2)))) for i in range(2))
    far = [nn.rotary(Tensor(rng(i).standard_normal((B, H, T, 2))), 100) for i in range(2)]
    np.testing.assert_allclose(
        (q @ k.swapaxes(2, 3)).data, (far[0] @ far[1].swapaxes(2, 3)).data, rtol=1e-9, atol=1e-12
    )
    v = Tensor(rng(3).standard_normal((B, H, T, 2)))
    near, moved = ops.attention(q, k, v, None, True), ops.attention(*far, v, None, True)
    np.testing.assert_allclose(near.data, moved.data, rtol=1e-9)


@pytest.mark.parametrize("chunks", [[1] * T, [3, 1, 3], [T], [2, 5]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cached_attention_equals_the_full_pass(dtype, chunks):
    layer, x = make(dtype=dtype, qk_norm=0.1), inputs(dtype)
    cache = nn.KVCache(T + 2)
    with no_grad():
        full = layer(x).data
        parts = [layer(part, cache).data for part in np.split(x, np.cumsum(chunks)[:-1], axis=1)]
    assert cache.length == T
    assert cache.keys.shape[1] == 2  # the heads of keys and values only
    tolerance = 2e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(np.concatenate(parts, axis=1), full, atol=tolerance)


def test_a_cache_grows_and_keeps_what_it_has():
    """Its memory follows what is in it, and not the longest context."""
    cache, draws = nn.KVCache(10**9), rng().standard_normal((2, 1, 2, 700, 4))
    k, v = Tensor(draws[0]), Tensor(draws[1])
    for start, end in ((0, 10), (10, 200), (200, 300), (300, 700)):
        keys, values = cache.append(k[:, :, start:end], v[:, :, start:end])
        np.testing.assert_array_equal(keys.data, draws[0][:, :, :end])
        np.testing.assert_array_equal(values.data, draws[1][:, :, :end])
    assert 700 <= cache.keys.shape[2] <= 1400
    with pytest.raises(
        ValueError, match=r"keys have shape \(2, 2, 1, 4\), the KV cache wants \(1, 2, 1, 4\)"
    ):
        cache.append(Tensor(np.zeros((2, 2, 1, 4))), Tensor(np.zeros((2, 2, 1, 4))))


def test_swiglu_by_hand():
    layer, x = nn.SwiGLU(4, 6, bias=True, rng=rng()).astype(np.float64), rng(1).standard_normal((3, 4))
    gate, up = (x @ part.weight.data.T + part.bias.data for part in (layer.gate, layer.up))
    expected = (gate / (1 + np.exp(-gate)) * up) @ layer.down.weight.data.T + layer.down.bias.data
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-13)


def test_the_usual_width_of_swiglu_keeps_the_number_of_weights():
    for channels in (48, 128, 768, 4096):
        three = 3 * channels * nn.SwiGLU.usual_width(channels)
        assert 1 <= three / (2 * channels * 4 * channels) < 1.2
    assert nn.SwiGLU(48, rng=0).up.weight.shape == (128, 48)


def test_gradients():
    assert gradcheck(make(qk_norm=0.1, qkv_bias=True), inputs()[:1, :3])
    assert gradcheck(nn.SwiGLU(4, 6, rng=rng()), rng(1).standard_normal((3, 4)))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="6 heads cannot share 4 heads of keys and values equally"):
        make(4)
    with pytest.raises(ValueError, match="6 heads cannot share 0 heads"):
        make(0)
    with pytest.raises(ValueError, match="13 channels cannot be split into 6 equal heads"):
        nn.GroupedQueryAttention(13, 6, 2, rng=rng())
    with pytest.raises(ValueError, match="an even head size is needed, got 3"):
        make(2, head_channels=3)
