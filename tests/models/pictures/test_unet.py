"""The UNet: its initial output, its number of parameters, the effect of each input, and the inputs that it
refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tinygen import Tensor, no_grad
from tinygen.diffusion import Process, cosine_schedule, loss_at, simple_loss
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import Adam

TINY = UNetConfig(2, 2, channels=4, blocks=1)
LABELLED = replace(TINY, classes=3, scale_shift=True)
TEXT = replace(TINY, context=5, heads=2)
DEEP = replace(TINY, multipliers=(1, 1, 1, 1), attention=(False,) * 4)


def rng(seed=0):
    return np.random.default_rng(seed)


def make(config, scale=0.3, dtype=np.float64):
    """A UNet with every parameter drawn anew, so that nothing is hidden behind zeros."""
    model = UNet(config, rng=rng()).astype(dtype).eval()
    for i, p in enumerate(model.parameters()):
        p.data = (scale * rng(100 + i).standard_normal(p.shape)).astype(dtype)
    return model


def pictures(b=3, size=4, seed=1, dtype=np.float64):
    return rng(seed).standard_normal((b, 2, size, size)).astype(dtype)


T = np.array([0, 7, 400])
LABELS = np.array([0, 2, 3])
CONTEXT = rng(2).standard_normal((3, 4, 5))
MASK = np.arange(4) < np.array([[2], [4], [3]])
CASES = [(TINY, ()), (LABELLED, (LABELS,)), (TEXT, (None, CONTEXT, MASK))]


# -- heads -----------------------------------------------------------------------------------------


def test_heads_by_their_number_and_by_their_width():
    assert [replace(TINY, heads=2).heads_of(n) for n in (4, 8)] == [2, 2]
    config = replace(TINY, head_channels=2, attention=(True, True))
    assert [config.heads_of(n) for n in (4, 8)] == [2, 4]
    model = UNet(config, rng=rng())
    assert [level.attentions[0].attn.heads for level in (*model.down, model.middle, *model.up)] == [
        2,
        4,
        4,
        4,
        2,
    ]
    with pytest.raises(ValueError, match="8 channels cannot be split into heads of 3"):
        UNet(replace(TINY, head_channels=3), rng=rng())


# -- at the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "given"), CASES)
def test_the_output_starts_as_zero(config, given):
    model = UNet(config, rng=rng())
    given = [a.astype(np.float32) if a is CONTEXT else a for a in given]
    y = model(pictures(dtype=np.float32), T, *given)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.data, np.zeros((3, 2, 4, 4)))


def test_the_first_loss_is_one():
    """It is the mean of ε² over N numbers, of which N times the mean is χ² with N degrees of freedom: farther
    from 1 than 2 sqrt(a/N) + 2 a/N with probability 2 exp(-a) at most (Laurent & Massart 2000, lemma 1)."""
    process, model, noise = Process(cosine_schedule(1000)), UNet(TINY, rng=rng()), pictures(64, 16)
    loss = loss_at(process, model, pictures(64, 16, seed=2), rng(3).integers(1000, size=64), noise).item()
    assert loss == pytest.approx((noise**2).mean(), rel=1e-6)
    a = math.log(2e7)  # a false alarm in 10 million runs
    assert abs(loss - 1) < 2 * math.sqrt(a / noise.size) + 2 * a / noise.size


# -- how large it is -------------------------------------------------------------------------------


def test_parameters_by_hand():
    """Channels 4 and 8, one block a level down and two up, attention in the lower level and in the middle."""
    conv = lambda into, out, k=3: k * k * into * out + out
    norm = lambda channels: 2 * channels
    attention = lambda c: norm(c) + conv(c, 3 * c, 1) + conv(c, c, 1)

    def block(into, out):
        skip = conv(into, out, 1) if into != out else 0
        return norm(into) + conv(into, out) + conv(16, out, 1) + norm(out) + conv(out, out) + skip

    ends = conv(2, 4) + norm(4) + conv(4, 2)
    steps = conv(4, 16, 1) + conv(16, 16, 1)
    down = block(4, 4) + conv(4, 4) + block(4, 8) + attention(8)
    middle = 2 * block(8, 8) + attention(8)
    # the maps kept are 4 (the first convolution), 4, 4 (half the size), 8: on top of the stack is 8
    up = block(8 + 8, 8) + block(8 + 4, 8) + 2 * attention(8) + conv(8, 8) + block(8 + 4, 4) + block(4 + 4, 4)
    assert UNet(TINY, rng=rng()).num_parameters() == ends + steps + down + middle + up


def test_parameters_of_ddpm():
    """The model for CIFAR-10: "35.7 million parameters" (Ho et al. 2020, appendix B); to the last one, those
    of diffusers' conversion of it, google/ddpm-cifar10-32."""
    config = UNetConfig(3, 3, 128, (1, 2, 2, 2), blocks=2, attention=(False, True, False, False))
    assert UNet(config, rng=rng()).num_parameters() == 35_746_307


# -- what depends on what --------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "given"), CASES)
def test_pictures_of_a_batch_do_not_mix(config, given):
    """A picture alone, and the pictures in another order, give what they give together."""
    model, x, order = make(config), pictures(), [2, 0, 1]
    with no_grad():
        y = model(x, T, *given).data
        for some in ([1], order):
            part = model(x[some], T[some], *[a if a is None else a[some] for a in given]).data
            np.testing.assert_allclose(part, y[some], rtol=1e-9, atol=1e-11)


def test_every_pixel_sees_the_step_the_label_and_the_whole_picture():
    model, x = make(LABELLED), pictures()
    with no_grad():
        y = model(x, T, LABELS).data
        assert (model(x, T + 1, LABELS).data != y).all()
        other = model(x, T, np.array([3, 2, 3])).data
        np.testing.assert_array_equal((other != y).all(axis=(1, 2, 3)), [True, False, False])
        x[:, 0, 0, 0] += 1
        assert (model(x, T, LABELS).data != y).all()


def test_a_text_is_read_and_its_padding_is_not():
    model, x = make(TEXT), pictures()
    noisy = CONTEXT + rng(4).standard_normal(CONTEXT.shape)
    with no_grad():
        y = model(x, T, context=CONTEXT, mask=MASK).data
        assert (model(x, T, context=noisy, mask=MASK).data != y).all()
        padding_only = np.where(MASK[..., None], CONTEXT, noisy)
        np.testing.assert_array_equal(model(x, T, context=padding_only, mask=MASK).data, y)


def test_every_map_that_is_kept_is_used():
    """One step of training moves every parameter: none is behind a map that nobody took back."""
    for config, given in CASES:
        model = make(config).train()
        model(pictures(), T, *given).sum().backward()
        still = [name for name, p in model.named_parameters() if not np.any(p.grad)]
        assert still == []


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "given"), CASES)
def test_gradient(config, given):
    """Along random directions in all parameters and x at once, beside differences of the fourth order."""
    model, x, g = make(config), Tensor(pictures(), requires_grad=True), rng(6).standard_normal((3, 2, 4, 4))
    model(x, T, *given).backward(g)
    leaves = [x, *model.parameters()]
    points = [leaf.data.copy() for leaf in leaves]

    def value(h, direction):
        for leaf, point, d in zip(leaves, points, direction, strict=True):
            leaf.data = point + h * d
        with no_grad():
            return (model(x, T, *given).data * g).sum()

    h = 1e-4
    for seed in range(3):
        direction = [rng([seed, i]).standard_normal(p.shape) for i, p in enumerate(points)]
        slope = sum((leaf.grad * d).sum() for leaf, d in zip(leaves, direction, strict=True))
        at = {k: value(k * h, direction) for k in (-2, -1, 1, 2)}
        wanted = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
        assert slope == pytest.approx(wanted, rel=1e-8)


@pytest.mark.slow
def test_it_learns_the_noise_of_eight_pictures():
    """The loss on average over 25 steps goes from 1 to below 0.4 in 250 steps."""
    data = np.sign(pictures(8, 8, dtype=np.float32)).repeat(2, axis=2)[:, :, :8]
    model, process, draws = UNet(replace(TINY, channels=16), rng=rng()), Process(cosine_schedule(100)), rng(5)
    optimizer, losses = Adam(model.parameters(), lr=2e-3), []
    for _ in range(250):
        loss = simple_loss(process, model, data, rng=draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-25:]) < 0.4, (np.mean(losses[:25]), np.mean(losses[-25:]))


def test_any_size_comes_back():
    """A side that is odd on one of the levels is rounded up on the way down, and cut on the way up. The last
    pixel has an effect, and all get gradients."""
    model = make(DEEP)
    for height, width in ((1, 1), (5, 9), (6, 8), (7, 3)):
        x = Tensor(rng(4).standard_normal((3, 2, height, width)), requires_grad=True)
        out = model(x, T)
        assert out.shape == x.shape
        out.sum().backward()
        assert np.all(x.grad != 0)


# -- what it refuses -------------------------------------------------------------------------------

X, MANY = pictures(), np.zeros((3, 3), int)
REFUSED = [
    (TINY, (X[0], T), r"takes x \(B, 2, H, W\), got \(2, 4, 4\)"),
    (TINY, (X[:, :1], T), r"takes x \(B, 2, H, W\), got \(3, 1, 4, 4\)"),
    (TINY, (X, T[:2]), r"t has shape \(2,\): one number for each"),
    (TINY, (X, 3), r"t has shape \(\): one number for each"),
    (TINY, (X, T, LABELS), "made without classes: pass no labels, or set classes"),
    (TINY, (X, T, None, CONTEXT), "made without texts: pass no context, or set context"),
    (TINY, (X, T, None, None, MASK), "the mask is for the context's tokens"),
    (LABELLED, (X, T), "has 3 classes: pass labels, 3 for no class"),
    (LABELLED, (X, T, MANY), r"labels have shape \(3, 3\): one for each"),
    (TEXT, (X, T), r"made for texts: pass context \(B, S, 5\)"),
    (TEXT, (X, T, None, CONTEXT[..., :4]), r"context has shape \(3, 4, 4\): \(3, S, 5\) is needed"),
    (TEXT, (X, T, None, CONTEXT[:2]), r"context has shape \(2, 4, 5\): \(3, S, 5\) is needed"),
    (TEXT, (X, T, None, CONTEXT, MASK[:, :2]), r"the mask has shape \(3, 2\): \(3, 4\) is needed"),
]


@pytest.mark.parametrize(("config", "arguments", "said"), REFUSED)
def test_what_does_not_fit_is_refused(config, arguments, said):
    with pytest.raises(ValueError, match=said):
        make(config)(*arguments)


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(IndexError):
        make(LABELLED)(X, T, np.array([0, 1, 4]))


def test_a_config_needs_one_bool_a_level():
    with pytest.raises(
        ValueError, match=r"attention=\(False, True\) needs one bool for each of the 3 levels"
    ):
        UNetConfig(3, 3, multipliers=(1, 2, 2))
