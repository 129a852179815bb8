"""Multi-head attention: invariants first (who may see whom, order, positions, the cache), then parity."""

import sys

import numpy as np
import pytest

from tinygen import Tensor, nn, no_grad

B, T, C, H = 2, 7, 12, 3


def rng(seed=0):
    return np.random.default_rng(seed)


def make(dtype=np.float64, **kwargs):
    return nn.MultiHeadAttention(C, H, rng=rng(), **kwargs).astype(dtype)


def tokens(t=T, seed=1, dtype=np.float64):
    return rng(seed).standard_normal((B, t, C)).astype(dtype)


def by_hand(layer, x, context, mask=None):
    """Attention written out, head by head, query by query, in float64."""
    if isinstance(layer, nn.CrossAttention):
        q = x @ layer.q.weight.data.T + layer.q.bias.data
        kv = context @ layer.kv.weight.data.T + layer.kv.bias.data
        k, v = kv[..., :C], kv[..., C:]
    else:
        qkv = x @ layer.qkv.weight.data.T + layer.qkv.bias.data
        q, k, v = qkv[..., :C], qkv[..., C : 2 * C], qkv[..., 2 * C :]
    d = C // H
    y = np.zeros((*x.shape[:2], C))
    for b in range(x.shape[0]):
        for h in range(H):
            part = slice(h * d, (h + 1) * d)
            for t in range(x.shape[1]):
                scores = k[b, :, part] @ q[b, t, part] / np.sqrt(d)
                if mask is not None:
                    scores = np.where(
                        np.broadcast_to(mask, (B, H, *mask.shape[-2:]))[b, h, t], scores, -np.inf
                    )
                weights = np.exp(scores - scores.max())
                y[b, t, part] = weights / weights.sum() @ v[b, :, part]
    return y @ layer.proj.weight.data.T + layer.proj.bias.data


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_by_hand(causal):
    layer, x = make(causal=causal), tokens()
    mask = np.tri(T, dtype=bool) if causal else None
    np.testing.assert_allclose(layer(x).data, by_hand(layer, x, x, mask), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(T, T), (B, 1, T, T), (B, H, T, T), (B, 1, 1, T)])
def test_masked_attention_by_hand(shape):
    layer, x = make(), tokens()
    mask = rng(3).random(shape) < 0.6
    mask[..., 0] = True  # everyone may look somewhere
    full = np.broadcast_to(mask, (*mask.shape[:-2], T, T))
    np.testing.assert_allclose(layer(x, mask).data, by_hand(layer, x, x, full), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(layer(x, Tensor(mask)).data, layer(x, mask).data)


def test_cross_attention_by_hand():
    layer = nn.CrossAttention(C, H, 5, rng=rng()).astype(np.float64)
    x, context = tokens(), rng(2).standard_normal((B, 4, 5))
    np.testing.assert_allclose(layer(x, context).data, by_hand(layer, x, context), rtol=1e-12, atol=1e-14)
    mask = np.array([[True, True, False, False]] * T)
    np.testing.assert_allclose(
        layer(x, context, mask).data, by_hand(layer, x, context, mask), rtol=1e-12, atol=1e-14
    )
    np.testing.assert_allclose(
        layer(x, context, mask).data, layer(x, context[:, :2]).data, rtol=1e-12, atol=1e-14
    )


def test_attention_weights_sum_to_one():
    """With every value vector the same, any average of them is that vector again."""
    layer, x = make(causal=True), tokens()
    layer.qkv.weight.data[2 * C :] = 0
    layer.qkv.bias.data[2 * C :] = v = rng(4).standard_normal(C)
    expected = v @ layer.proj.weight.data.T + layer.proj.bias.data
    np.testing.assert_allclose(layer(x).data, np.broadcast_to(expected, (B, T, C)), rtol=1e-12, atol=1e-14)


def test_a_query_that_may_look_nowhere_gets_the_bias_and_sends_back_no_nan():
    layer = make()
    x = Tensor(tokens(), requires_grad=True)
    mask = np.ones((T, T), dtype=bool)
    mask[3] = False
    y = layer(x, mask)
    np.testing.assert_array_equal(y.data[:, 3], np.broadcast_to(layer.proj.bias.data, (B, C)))
    y.sum().backward()
    assert np.isfinite(x.grad).all()
    assert all(np.isfinite(p.grad).all() for p in layer.parameters())


# -- invariants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rotary", [False, True])
def test_causal_attention_does_not_see_the_future(use_rotary):
    layer, x = make(causal=True, use_rotary=use_rotary), tokens()
    before = layer(x).data
    for t in range(T - 1):
        changed = x.copy()
        changed[:, t + 1 :] = 1e3 * rng(5).standard_normal(changed[:, t + 1 :].shape)
        after = layer(changed).data
        np.testing.assert_array_equal(after[:, : t + 1], before[:, : t + 1])
        assert (after[:, t + 1] != before[:, t + 1]).all()
    x = Tensor(x, requires_grad=True)
    layer(x)[:, 2].sum().backward()
    assert (x.grad[:, 3:] == 0).all()
    assert (x.grad[:, :3] != 0).all()


def test_attention_without_positions_moves_with_its_input():
    layer, x = make(), tokens()
    order = rng(6).permutation(T)
    np.testing.assert_allclose(layer(x[:, order]).data, layer(x).data[:, order], rtol=1e-11, atol=1e-13)
    rotary = make(use_rotary=True)  # and with positions it does not
    assert not np.allclose(rotary(x[:, order]).data, rotary(x).data[:, order], rtol=1e-3)


def test_batch_entries_do_not_mix():
    layer, x = make(causal=True), tokens()
    np.testing.assert_allclose(layer(x[1:]).data, layer(x).data[1:], rtol=1e-12, atol=1e-14)


def test_heads_do_not_mix_before_the_projection():
    """With an identity for proj, the first head's channels depend on nothing of the second's."""
    layer, x = make(), tokens()
    layer.proj.weight.data = np.eye(C)
    before = layer(x).data
    d = C // H
    for part in range(3):  # the second head's rows of q, k and v
        layer.qkv.weight.data[part * C + d : part * C + 2 * d] += 1
    after = layer(x).data
    np.testing.assert_array_equal(after[..., :d], before[..., :d])
    np.testing.assert_array_equal(after[..., 2 * d :], before[..., 2 * d :])
    assert (after[..., d : 2 * d] != before[..., d : 2 * d]).any()


# -- rotary positions ------------------------------------------------------------------------------


def test_rotary_at_zero_is_the_identity_and_keeps_lengths():
    x = Tensor(rng().standard_normal((2, 3, 5, 8)))
    y = nn.rotary(x)
    np.testing.assert_array_equal(y.data[:, :, 0], x.data[:, :, 0])
    np.testing.assert_allclose(np.square(y.data).sum(-1), np.square(x.data).sum(-1), rtol=1e-12, atol=1e-14)


def test_rotary_turns_pair_i_by_t_times_base_to_the_minus_2i_over_d():
    d, t = 6, 5
    x = np.zeros((1, t, d))
    x[..., : d // 2] = 1  # every pair starts as (1, 0)
    y = nn.rotary(Tensor(x), start=2, base=100.0).data[0]
    angle = (np.arange(t) + 2)[:, None] * 100.0 ** (-2 * np.arange(3) / d)
    np.testing.assert_allclose(
        y, np.concatenate([np.cos(angle), np.sin(angle)], axis=-1), rtol=1e-12, atol=1e-14
    )


def test_rotary_products_depend_on_the_distance_only():
    q, k = (Tensor(rng(i).standard_normal((1, 1, 8))) for i in range(2))

    def product(m, n):
        return (nn.rotary(q, m).data * nn.rotary(k, n).data).sum()

    for distance in (-3, 0, 4):
        products = [product(n + distance, n) for n in (3, 10, 1000)]
        np.testing.assert_allclose(products, products[0], rtol=1e-10)
    assert abs(product(4, 0) - product(0, 0)) > 1e-3


@pytest.mark.parametrize("kind", [nn.MultiHeadAttention, nn.GroupedQueryAttention])
def test_positions_are_counted_from_0(kind, monkeypatch):
    """With a cache, from the number of positions in it."""
    file, starts = sys.modules[kind.__module__], []
    monkeypatch.setattr(file, "rotary", lambda x, start, *others: starts.append(start) or x)
    given = {"use_rotary": True, "causal": True} if kind is nn.MultiHeadAttention else {}
    layer, cache = kind(C, H, **given, rng=rng()), nn.KVCache(T)
    with no_grad():
        layer(tokens())
        for part in (tokens()[:, :3], tokens()[:, 3:]):
            layer(part, cache=cache)
    assert starts == [0, 0] * 2 + [3, 3]


def test_rotary_attention_is_blind_to_a_shift_of_all_positions():
    """The same tokens, first at positions 0 ..., then at 100 ..., after a cache that is masked out."""
    layer, x = make(use_rotary=True), tokens()
    cache = nn.KVCache(100 + T)
    with no_grad():
        layer(tokens(100, seed=9), cache=cache)
        mask = np.arange(100 + T)[None, :] >= 100
        np.testing.assert_allclose(layer(x, mask, cache).data, layer(x).data, rtol=1e-9)


def test_rotary_gradient_turns_back_and_has_a_second_order():
    from tinygen.gradcheck import gradcheck

    assert gradcheck(lambda x: nn.rotary(x, start=3), rng().standard_normal((2, 3, 4)), order=2)
    x = Tensor(rng().standard_normal((2, 3, 4)), requires_grad=True)
    g = rng(1).standard_normal((2, 3, 4))
    nn.rotary(x, 5).backward(nn.rotary(Tensor(g), 5).data)
    np.testing.assert_allclose(x.grad, g, rtol=1e-12, atol=1e-14)


def test_rotary_stays_float32_and_is_exact_far_out():
    x = rng().standard_normal((1, 2, 8))
    y = nn.rotary(Tensor(x.astype(np.float32)), start=10**6)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, nn.rotary(Tensor(x), start=10**6).data, atol=1e-6)


def test_rotary_needs_an_even_head_size():
    with pytest.raises(ValueError, match="even head size is needed, got 3"):
        nn.MultiHeadAttention(9, 3, use_rotary=True, rng=rng())(np.zeros((1, 2, 9), np.float32))


# -- the cache -------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rotary", [False, True])
@pytest.mark.parametrize("chunks", [[1] * T, [3, 1, 3], [T], [2, 5]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cached_attention_equals_the_full_pass(dtype, chunks, use_rotary):
    """Not bit for bit: BLAS sums products of other shapes in another order."""
    layer, x = make(dtype, causal=True, use_rotary=use_rotary), tokens(dtype=dtype)
    cache = nn.KVCache(T + 2)
    with no_grad():
        full = layer(x).data
        parts = [layer(part, cache=cache).data for part in np.split(x, np.cumsum(chunks)[:-1], axis=1)]
    assert cache.length == T
    assert cache.keys.dtype == dtype
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(np.concatenate(parts, axis=1), full, atol=tolerance)


def test_cache_returns_what_was_put_in_and_keeps_its_memory():
    cache = nn.KVCache(4)
    k, v = (Tensor(rng(i).standard_normal((1, 2, 3, 5))) for i in range(2))
    keys, values = cache.append(k, v)
    np.testing.assert_array_equal(keys.data, k.data)
    np.testing.assert_array_equal(values.data, v.data)
    memory = cache.keys
    keys, values = cache.append(k[:, :, :1], v[:, :, :1])
    assert cache.keys is memory
    assert keys.shape == values.shape == (1, 2, 4, 5)
    np.testing.assert_array_equal(values.data[:, :, 3], v.data[:, :, 0])
    cache.length = 1  # forget all but the first
    keys, _ = cache.append(k[:, :, 1:], v[:, :, 1:])
    np.testing.assert_array_equal(keys.data, k.data)


def test_a_cache_doubles_so_that_few_of_its_tokens_are_copied():
    """From 256 positions to 512, 1024, and no more than its largest length."""
    cache, sizes = nn.KVCache(1100), []
    for _ in range(1100):
        k = Tensor(np.zeros((1, 1, 1, 1), np.float32))
        cache.append(k, k)
        sizes.append(cache.keys.shape[2])
    assert sizes == [256] * 256 + [514] * 258 + [1030] * 516 + [1100] * 70


def test_cache_refuses_what_does_not_fit():
    layer = make(np.float32, causal=True)
    x = tokens(dtype=np.float32)
    with pytest.raises(RuntimeError, match=r"under no_grad\(\)"):
        layer(x, cache=nn.KVCache(T))
    with no_grad():
        with pytest.raises(ValueError, match=f"room for {T - 1} positions, 0 are filled, and {T} more"):
            layer(x, cache=nn.KVCache(T - 1))
        cache = nn.KVCache(T)
        layer(x[:, :-1], cache=cache)
        with pytest.raises(
            ValueError, match=r"keys have shape \(1, 3, 1, 4\), the KV cache wants \(2, 3, 1, 4\)"
        ):
            layer(x[:1, -1:], cache=cache)
        assert cache.length == T - 1


# -- dropout and arguments -------------------------------------------------------------------------


def test_dropout_falls_on_the_weights_in_training_only():
    layer, x = make(dropout=0.5), tokens()
    np.testing.assert_array_equal(layer.eval()(x).data, make().eval()(x).data)
    layer.train()
    assert (layer(x).data != layer(x).data).any()
    # The dropped weights are scaled up, so that the mean over many draws is the undropped result. 4000 draws;
    # the error of a mean, estimated from the draws, is exceeded fivefold once in 1.7 million entries.
    layer.proj.weight.data = np.eye(C)
    draws = np.stack([layer(x).data for _ in range(4000)])
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - layer.eval()(x).data) < 5 * error).all()


def test_dropout_is_drawn_from_the_generator_given():
    a, b = make(dropout=0.5), make(dropout=0.5)
    np.testing.assert_array_equal(a(tokens()).data, b(tokens()).data)


def test_masks_of_the_wrong_kind_are_refused():
    layer, x = make(), tokens()
    with pytest.raises(TypeError, match="bools are needed"):
        layer(x, np.zeros((T, T)))
    with pytest.raises(ValueError, match=r"an axis for the heads"):
        layer(x, np.ones((B, T, T), dtype=bool))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="10 channels cannot be split into 3 equal heads"):
        nn.MultiHeadAttention(10, 3, rng=rng())
    with pytest.raises(ValueError, match="dropout must be in"):
        nn.CrossAttention(12, 3, 4, dropout=1.0, rng=rng())


# -- parity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("causal", [False, True])
def test_parity_with_torch(causal, dtype):
    torch = pytest.importorskip("torch")
    layer = make(dtype, causal=causal)
    theirs = torch.nn.MultiheadAttention(C, H, batch_first=True).to(getattr(torch, dtype.__name__))
    names = {
        "qkv.weight": "in_proj_weight",
        "qkv.bias": "in_proj_bias",
        "proj.weight": "out_proj.weight",
        "proj.bias": "out_proj.bias",
    }
    theirs.load_state_dict({names[k]: torch.tensor(v) for k, v in layer.state_dict().items()})
    x = Tensor(tokens(dtype=dtype), requires_grad=True)
    tx = torch.tensor(x.data, requires_grad=True)
    forbidden = torch.triu(torch.ones(T, T, dtype=torch.bool), 1) if causal else None
    y, (ty, _) = layer(x), theirs(tx, tx, tx, attn_mask=forbidden)
    g = tokens(seed=8, dtype=dtype)
    y.backward(g)
    ty.backward(torch.tensor(g))
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype is np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(y.data, ty.detach().numpy(), **tolerance)
    np.testing.assert_allclose(x.grad, tx.grad.numpy(), **tolerance)
    gradients = dict(theirs.named_parameters())
    for name, p in layer.named_parameters():
        assert p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad, gradients[names[name]].grad.numpy(), **tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_attention_parity_with_torch(dtype):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    layer = nn.CrossAttention(C, H, 5, rng=rng()).astype(dtype)
    weights = {k: torch.tensor(v, requires_grad=True) for k, v in layer.state_dict().items()}
    x, context = tokens(dtype=dtype), rng(2).standard_normal((B, 4, 5)).astype(dtype)
    mask = rng(3).random((B, 1, T, 4)) < 0.6
    mask[..., 0] = True
    tc = torch.tensor(context, requires_grad=True)
    q = f.linear(torch.tensor(x), weights["q.weight"], weights["q.bias"])
    k, v = f.linear(tc, weights["kv.weight"], weights["kv.bias"]).chunk(2, dim=-1)
    q, k, v = (t.view(B, -1, H, C // H).transpose(1, 2) for t in (q, k, v))
    ty = f.scaled_dot_product_attention(q, k, v, attn_mask=torch.tensor(mask))
    ty = f.linear(ty.transpose(1, 2).reshape(B, T, C), weights["proj.weight"], weights["proj.bias"])
    c = Tensor(context, requires_grad=True)
    y = layer(x, c, mask)
    g = tokens(seed=8, dtype=dtype)
    y.backward(g)
    ty.backward(torch.tensor(g))
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype is np.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(y.data, ty.detach().numpy(), **tolerance)
    np.testing.assert_allclose(c.grad, tc.grad.numpy(), **tolerance)
    for name, p in layer.named_parameters():
        np.testing.assert_allclose(p.grad, weights[name].grad.numpy(), **tolerance, err_msg=name)
