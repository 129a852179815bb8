"""Residual blocks, sampling up and down, and the embedding of steps: exact first, then parity."""

import math

import numpy as np
import pytest

from tinygen import gradcheck, nn
from tinygen.nn.residual import default_groups

B, C, H, W = 2, 8, 4, 6


def rng(seed=0):
    return np.random.default_rng(seed)


def maps(channels=C, height=H, width=W, seed=1, dtype=np.float64):
    return rng(seed).standard_normal((B, channels, height, width)).astype(dtype)


def drawn(module, scale=0.3):
    """The module in float64 with every parameter drawn anew, so that nothing is hidden behind zeros."""
    module.astype(np.float64)
    for i, p in enumerate(module.parameters()):
        p.data = scale * rng(100 + i).standard_normal(p.shape)
    return module


# -- the embedding of steps ------------------------------------------------------------------------


def test_timestep_embedding_by_hand():
    got = nn.timestep_embedding(np.array([0, 1, 500]), 4, max_period=100)
    frequencies = [1, 100 ** (-1 / 2)]
    for t, row in zip([0, 1, 500], got, strict=True):
        wanted = [f(t * w) for f in (math.cos, math.sin) for w in frequencies]
        np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-7)
    assert got.dtype == np.float32


def test_timestep_embedding_needs_as_many_sines_as_cosines():
    with pytest.raises(ValueError, match="5 is odd"):
        nn.timestep_embedding(np.arange(3), 5)


def test_timestep_embedding_parity_with_diffusers():
    torch = pytest.importorskip("torch")
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    t = np.array([0, 3, 50])  # theirs has float32 angles, whose errors grow with t
    theirs = embeddings.get_timestep_embedding(torch.tensor(t), 32, True, 0)
    np.testing.assert_allclose(nn.timestep_embedding(t, 32), theirs.numpy(), atol=1e-5)


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(1, 1), (3, 1), (8, 2), (12, 3), (20, 5), (22, 2), (64, 16), (128, 32), (132, 22), (320, 32)],
)
def test_groups_of(channels, groups):
    assert default_groups(channels) == groups


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_that_do_not_divide_are_refused(groups):
    with pytest.raises(ValueError, match=f"8 channels cannot be split into {groups} equal groups"):
        nn.ResBlock(C, C, groups=groups, rng=rng())


# -- the block at its start ------------------------------------------------------------------------


@pytest.mark.parametrize("scale_shift", [False, True])
def test_a_block_starts_as_its_skip(scale_shift):
    x, emb = maps(dtype=np.float32), rng(2).standard_normal((B, 5)).astype(np.float32)
    same = nn.ResBlock(C, C, 5, scale_shift, rng=rng())
    np.testing.assert_array_equal(same(x, emb).data, x)
    wider = nn.ResBlock(C, 12, 5, scale_shift, rng=rng())
    np.testing.assert_array_equal(wider(x, emb).data, wider.skip(x).data)


def test_the_first_step_reaches_the_last_convolution_only():
    """Behind zeros there is no gradient yet: it is in the convolution that is zero."""
    block = nn.ResBlock(C, C, 5, rng=rng())
    block(maps(dtype=np.float32), np.ones((B, 5), np.float32)).sum().backward()
    moved = {name for name, p in block.named_parameters() if np.any(p.grad)}
    assert moved == {"conv2.weight", "conv2.bias"}


# -- what the embedding does -----------------------------------------------------------------------


def test_a_scale_and_shift_of_zero_change_nothing():
    block = drawn(nn.ResBlock(C, 12, 5, scale_shift=True, rng=rng()))
    plain = drawn(nn.ResBlock(C, 12, rng=rng()))
    block.emb.weight.data[:] = block.emb.bias.data[:] = 0
    plain.load_state_dict(block.state_dict(), strict=False)
    emb = rng(2).standard_normal((B, 5))
    np.testing.assert_array_equal(block(maps(), emb).data, plain(maps()).data)


def test_each_picture_gets_its_own_embedding():
    block, x, emb = drawn(nn.ResBlock(C, 12, 5, rng=rng())), maps(), rng(2).standard_normal((B, 5))
    before = block(x, emb).data
    emb[1] += 1
    after = block(x, emb).data
    np.testing.assert_array_equal(after[0], before[0])
    assert (after[1] != before[1]).all()


def test_an_embedding_that_is_missing_or_too_much_is_refused():
    x, emb = maps(), np.ones((B, 5))
    with pytest.raises(ValueError, match="made for an embedding: pass emb"):
        nn.ResBlock(C, C, 5, rng=rng())(x)
    with pytest.raises(ValueError, match="made without an embedding"):
        nn.ResBlock(C, C, rng=rng())(x, emb)
    with pytest.raises(ValueError, match="or scale_shift=False"):
        nn.ResBlock(C, C, scale_shift=True, rng=rng())
    with pytest.raises(ValueError, match=r"the block takes 8 channels, x has shape \(2, 4, 4, 6\)"):
        nn.ResBlock(C, 4, rng=rng())(maps(4))


def test_a_block_as_text():
    assert repr(nn.ResBlock(8, 4, 5, rng=rng())).startswith("ResBlock(8, 4) ")
    assert repr(nn.ResBlock(8, 4, 5, True, rng=rng())).startswith("ResBlock(8, 4, scale_shift) ")


def test_dropout_falls_in_training_only():
    block = drawn(nn.ResBlock(C, C, dropout=0.5, rng=rng()))
    x = maps()
    assert (block(x).data != block(x).data).any()
    np.testing.assert_array_equal(block.eval()(x).data, block(x).data)


# -- up and down -----------------------------------------------------------------------------------


def test_down_and_up_by_hand():
    """With kernels that pick the pixel in the middle: every second pixel, and every pixel four times."""
    middle = np.zeros((C, C, 3, 3))
    middle[range(C), range(C), 1, 1] = 1
    down, up = nn.Downsample(C, rng=rng()), nn.Upsample(C, rng=rng())
    for layer in (down.astype(np.float64), up.astype(np.float64)):
        layer.conv.weight.data, layer.conv.bias.data = middle, np.zeros(C)
    x = maps()
    np.testing.assert_array_equal(down(x).data, x[:, :, ::2, ::2])
    doubled = np.kron(x, np.ones((2, 2)))
    np.testing.assert_array_equal(up(x).data, doubled)
    h, w = doubled.shape[2:]
    for size in ((h, w), (h - 1, w), (h - 1, w - 1)):
        np.testing.assert_array_equal(up(x, size).data, doubled[:, :, : size[0], : size[1]])


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("out", [4, 6])
def test_gradient_of_a_block(scale_shift, out):
    block = drawn(nn.ResBlock(4, out, 3, scale_shift, groups=2, rng=rng()))
    gradcheck(block, maps(4, 3, 2), rng(2).standard_normal((B, 3)), max_entries=0).raise_if_failed()


@pytest.mark.parametrize("layer", [nn.Downsample, nn.Upsample])
def test_gradient_of_sampling(layer):
    gradcheck(drawn(layer(3, rng=rng())), maps(3, 4, 2), max_entries=0).raise_if_failed()


# -- parity ----------------------------------------------------------------------------------------


NAMES = {
    "norm1": ["norm1"],
    "conv1": ["conv1"],
    "emb": ["time_emb_proj"],
    "norm2": ["norm2"],
    "conv2": ["conv2"],
    "skip": ["conv_shortcut"],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("out", [C, 12])
def test_parity_with_diffusers(out, scale_shift, dtype):
    pytest.importorskip("torch")
    resnet = pytest.importorskip("diffusers.models.resnet")
    from parity import agree

    block = drawn(nn.ResBlock(C, out, 5, scale_shift, groups=4, rng=rng())).astype(dtype)
    theirs = resnet.ResnetBlock2D(
        in_channels=C,
        out_channels=out,
        temb_channels=5,
        groups=4,
        eps=1e-5,
        time_embedding_norm="scale_shift" if scale_shift else "default",
    )
    emb = rng(2).standard_normal((B, 5)).astype(dtype)
    agree(block, theirs, NAMES, [maps(dtype=dtype), emb], 1e-5 if dtype is np.float32 else 1e-10)


@pytest.mark.parametrize(
    ("ours", "file", "name"),
    [(nn.Downsample, "downsampling", "Downsample2D"), (nn.Upsample, "upsampling", "Upsample2D")],
)
def test_sampling_parity_with_diffusers(ours, file, name):
    pytest.importorskip("torch")
    module = pytest.importorskip(f"diffusers.models.{file}")
    from parity import agree

    theirs = getattr(module, name)(C, use_conv=True, **({"name": "op"} if name == "Downsample2D" else {}))
    layer = drawn(ours(C, rng=rng())).astype(np.float32)
    agree(layer, theirs, {"conv": ["conv"]}, [maps(dtype=np.float32)], 1e-5)
