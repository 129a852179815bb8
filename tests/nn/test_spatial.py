"""Attention on maps: by hand, who sees whom, padding, then parity with diffusers."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn

B, C, H, W, HEADS, S, D = 2, 8, 3, 2, 2, 5, 6


def rng(seed=0):
    return np.random.default_rng(seed)


def maps(seed=1, dtype=np.float64):
    return rng(seed).standard_normal((B, C, H, W)).astype(dtype)


def texts(seed=2, dtype=np.float64):
    return rng(seed).standard_normal((B, S, D)).astype(dtype)


MASK = np.arange(S) < np.array([[3], [5]])  # the first text has two tokens of padding


def drawn(module, scale=0.3, dtype=np.float64):
    """The module with every parameter drawn anew, so that nothing is hidden behind zeros."""
    for i, p in enumerate(module.astype(dtype).parameters()):
        p.data = (scale * rng(100 + i).standard_normal(p.shape)).astype(dtype)
    return module


def attention(dtype=np.float64):
    return drawn(nn.SpatialAttention(C, HEADS, groups=4, rng=rng()), dtype=dtype)


def transformer(dtype=np.float64, layers=1):
    return drawn(nn.SpatialTransformer(C, HEADS, D, layers, groups=4, rng=rng()), dtype=dtype)


# -- exact -----------------------------------------------------------------------------------------


def test_spatial_attention_by_hand():
    """Pixel by pixel, head by head: the weights of each query's keys add up to 1."""
    layer, x = attention(), maps()
    grouped = x.reshape(B, 4, -1)
    grouped = grouped - grouped.mean(axis=-1, keepdims=True)
    norm = (grouped / np.sqrt((grouped**2).mean(axis=-1, keepdims=True) + 1e-5)).reshape(x.shape)
    norm = norm * layer.norm.weight.data[:, None, None] + layer.norm.bias.data[:, None, None]
    d, y = C // HEADS, np.zeros_like(x)
    for b in range(B):
        pixels = [(i, j) for i in range(H) for j in range(W)]
        qkv = {p: layer.attn.qkv.weight.data @ norm[b, :, *p] + layer.attn.qkv.bias.data for p in pixels}
        for p in pixels:
            for h in range(HEADS):
                part = slice(h * d, (h + 1) * d)
                weights = [
                    np.exp(qkv[p][:C][part] @ qkv[key][C : 2 * C][part] / np.sqrt(d)) for key in pixels
                ]
                values = [qkv[key][2 * C :][part] for key in pixels]
                y[b, part, *p] = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    wanted = x + np.einsum("oc,bchw->bohw", layer.attn.proj.weight.data, y)
    wanted += layer.attn.proj.bias.data[:, None, None]
    np.testing.assert_allclose(layer(x).data, wanted, rtol=1e-12, atol=1e-13)


def test_weights_sum_to_one_over_the_keys():
    """With every value vector the same, each pixel's average is that vector; not so if the softmax ran over
    the queries, a mistake that the pictures of a trained model do not show."""
    layer, x = attention(), maps()
    layer.attn.qkv.weight.data[2 * C :] = 0
    layer.attn.qkv.bias.data[2 * C :] = v = rng(4).standard_normal(C)
    same = layer.attn.proj.weight.data @ v + layer.attn.proj.bias.data
    np.testing.assert_allclose(layer(x).data - x, np.broadcast_to(same[:, None, None], x.shape), rtol=1e-11)


def test_the_blocks_start_as_the_identity():
    x, context = maps(dtype=np.float32), texts(dtype=np.float32)
    np.testing.assert_array_equal(nn.SpatialAttention(C, rng=rng())(x).data, x)
    np.testing.assert_array_equal(nn.SpatialTransformer(C, HEADS, D, rng=rng())(x, context, MASK).data, x)


def test_attention_does_not_know_where_a_pixel_is():
    layer, x, order = attention(), maps(), rng(5).permutation(H * W)
    shuffle = lambda a: a.reshape(B, C, -1)[:, :, order].reshape(a.shape)
    np.testing.assert_allclose(layer(shuffle(x)).data, shuffle(layer(x).data), rtol=1e-11, atol=1e-13)


def test_the_transformer_has_three_branches():
    """With a branch's last layer at zero, what comes into it has no effect."""
    block, x = transformer().blocks[0], rng(6).standard_normal((B, H * W, C))
    before = block(x, texts()).data
    assert (block(x, texts(seed=7)).data != before).all()
    for p in block.cross.proj.parameters():
        p.data[:] = 0
    np.testing.assert_array_equal(block(x, texts()).data, block(x, texts(seed=7)).data)
    for layer in (block.attn.proj, block.mlp.proj):
        for p in layer.parameters():
            p.data[:] = 0
    np.testing.assert_array_equal(block(x, texts()).data, x)


# -- padding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_padding_has_no_effect(dtype):
    """The same bits whatever the padding holds, and the same numbers without it."""
    layer, x, context = transformer(dtype, layers=2), maps(dtype=dtype), texts(dtype=dtype)
    before = layer(x, context, MASK).data
    changed = np.where(MASK[..., None], context, 1e3 * texts(seed=8, dtype=dtype))
    np.testing.assert_array_equal(layer(x, changed, MASK).data, before)
    short = layer(x[:1], context[:1, :3]).data
    np.testing.assert_allclose(before[:1], short, atol=1e-5 if dtype is np.float32 else 1e-12)
    assert (layer(x, context).data[0] != before[0]).any()  # unmasked, it has
    np.testing.assert_array_equal(layer(x, context, Tensor(MASK)).data, before)


def test_padding_gets_no_gradient():
    layer, context = transformer(), Tensor(texts(), requires_grad=True)
    layer(maps(), context, MASK).sum().backward()
    np.testing.assert_array_equal(np.any(context.grad, axis=-1), MASK)


def test_masks_that_do_not_fit_are_refused():
    layer = transformer()
    with pytest.raises(ValueError, match=r"the mask has shape \(2, 4\): \(2, 5\) is needed"):
        layer(maps(), texts(), np.ones((B, 4), bool))
    with pytest.raises(TypeError, match="bools are needed"):
        layer(maps(), texts(), np.ones((B, S)))


def test_heads_and_groups_are_checked():
    with pytest.raises(ValueError, match="8 channels cannot be split into 3 equal heads"):
        nn.SpatialAttention(C, 3, rng=rng())
    with pytest.raises(ValueError, match="8 channels cannot be split into 3 equal groups"):
        nn.SpatialTransformer(C, 2, D, groups=3, rng=rng())


# -- gradients -------------------------------------------------------------------------------------


def test_gradient_of_spatial_attention():
    gradcheck(attention(), maps(), max_entries=0).raise_if_failed()


def test_gradient_of_the_transformer():
    gradcheck(transformer(), maps(), texts(), MASK, max_entries=0).raise_if_failed()


# -- parity ----------------------------------------------------------------------------------------


ATTENTION = {"norm": ["group_norm"], "attn.qkv": ["to_q", "to_k", "to_v"], "attn.proj": ["to_out.0"]}
TRANSFORMER = {
    "norm": ["norm"],
    "proj_in": ["proj_in"],
    "ln1": ["norm1"],
    "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "attn.proj": ["attn1.to_out.0"],
    "ln2": ["norm2"],
    "cross.q": ["attn2.to_q"],
    "cross.kv": ["attn2.to_k", "attn2.to_v"],
    "cross.proj": ["attn2.to_out.0"],
    "ln3": ["norm3"],
    "mlp.fc": ["ff.net.0.proj"],
    "mlp.proj": ["ff.net.2"],
    "proj_out": ["proj_out"],
}
PRECISION = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])


@PRECISION
def test_spatial_attention_parity_with_diffusers(dtype, tolerance):
    pytest.importorskip("torch")
    processor = pytest.importorskip("diffusers.models.attention_processor")
    from parity import agree

    theirs = processor.Attention(
        C, heads=HEADS, dim_head=C // HEADS, norm_num_groups=4, eps=1e-5, bias=True, residual_connection=True
    )
    agree(attention(dtype), theirs, ATTENTION, [maps(dtype=dtype)], tolerance)


@PRECISION
@pytest.mark.parametrize("linear", [False, True])
def test_spatial_transformer_parity_with_diffusers(dtype, tolerance, linear):
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("diffusers.models.transformers.transformer_2d")
    from parity import agree

    theirs = module.Transformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=C // HEADS,
        in_channels=C,
        num_layers=2,
        cross_attention_dim=D,
        norm_num_groups=4,
        use_linear_projection=linear,
    )
    theirs_masked = torch.tensor(np.where(MASK, 0, -np.inf).astype(dtype))[:, None]  # (B, 1, S)
    layer = transformer(dtype, layers=2)
    agree(
        layer,
        theirs,
        TRANSFORMER,
        [maps(dtype=dtype), texts(dtype=dtype)],
        tolerance,
        paths={"blocks": "transformer_blocks"},
        call=lambda x, context: layer(x, context, MASK),
        their_call=lambda x, context: theirs(x, context, encoder_attention_mask=theirs_masked).sample,
    )
