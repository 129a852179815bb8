"""ControlNet: at the start it changes nothing; its zero convolutions learn from the first step on, the copy
from the second; the UNet stays as it is."""

from dataclasses import replace

import numpy as np
import pytest

from tinygen import Tensor
from tinygen.models.pictures.controlnet import ControlNet, HintEncoder
from tinygen.models.pictures.unet import Control, UNet, UNetConfig
from tinygen.optim import SGD

TINY = UNetConfig(2, 2, channels=4, blocks=1, context=5, heads=2)
WIDTHS = (3, 4)
T = np.array([0, 400])


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=1):
    return rng(seed).standard_normal(shape, np.float32)


X, HINTS, CONTEXT, TARGET = (
    normal(2, 2, 4, 4),
    normal(2, 1, 8, 8),
    normal(2, 3, 5),
    normal(2, 2, 4, 4, seed=2),
)


def randomize(model):
    """Every parameter drawn anew, so that nothing is hidden behind zeros."""
    for i, p in enumerate(model.parameters()):
        p.data = 0.3 * normal(*p.shape, seed=100 + i)
    return model


def pair(config=TINY):
    unet = randomize(UNet(config, rng=rng())).freeze()
    return unet, ControlNet.copy_of(unet, 1, WIDTHS, rng=rng(1))


def controlled(unet, controlnet, strength=1.0):
    control = controlnet(X, T, HINTS, context=CONTEXT, strength=strength)
    return unet(X, T, context=CONTEXT, control=control)


def is_zero_conv(name):
    return name.startswith(("zero_", "hint.conv_out."))


# -- at the start ----------------------------------------------------------------------------------


def test_the_copy_has_the_weights_of_the_unet_in_arrays_of_its_own():
    unet, controlnet = pair()
    theirs, ours = unet.state_dict(), controlnet.state_dict()
    copied = {name for name in theirs if not name.startswith(("up.", "norm_out.", "conv_out."))}
    assert {name for name in ours if not name.startswith(("hint.", "zero_"))} == copied
    for name in copied:
        np.testing.assert_array_equal(ours[name], theirs[name])
    next(controlnet.parameters()).data[:] = 0
    assert next(unet.parameters()).data.any()


def test_at_the_start_the_unet_computes_the_same_bits():
    unet, controlnet = pair()
    assert controlled(unet, controlnet).data.tobytes() == unet(X, T, context=CONTEXT).data.tobytes()


def test_strength_zero_is_the_unet_and_half_scales_the_residuals():
    unet, controlnet = pair()
    randomize(controlnet)
    whole, half, none = (controlnet(X, T, HINTS, context=CONTEXT, strength=s) for s in (1.0, 0.5, 0.0))
    for one, other in zip([whole.middle, *whole.skips], [half.middle, *half.skips], strict=True):
        np.testing.assert_array_equal(one.data / 2, other.data)
        assert one.data.any()
    assert not any(skip.data.any() for skip in none.skips)
    alone = unet(X, T, context=CONTEXT).data
    np.testing.assert_array_equal(controlled(unet, controlnet, 0.0).data, alone)
    assert np.abs(controlled(unet, controlnet, 0.5).data - alone).max() > 0.01


# -- gradients -------------------------------------------------------------------------------------


def gradients(unet, controlnet):
    """{name: is its gradient anywhere not 0}, after the backward pass of a squared error."""
    controlnet.zero_grad()
    np.mean((controlled(unet, controlnet) - TARGET) ** 2).backward()
    return {name: bool(p.grad.any()) for name, p in controlnet.named_parameters() if p.grad is not None}


def test_first_the_zero_convolutions_learn_and_then_the_copy():
    """In the first step the gradient reaches the zero convolutions behind the feature maps; after it the copy
    and the last layer of the hints; after the second step all of the hints' layers."""
    unet, controlnet = pair()
    optimizer, before = SGD(controlnet.parameters(), lr=0.1), unet.state_dict()
    names = [name for name, _ in controlnet.named_parameters()]
    for step, wanted in enumerate(
        [
            lambda name: name.startswith("zero_"),
            lambda name: is_zero_conv(name) or not name.startswith("hint."),
            lambda name: True,
        ]
    ):
        found = gradients(unet, controlnet)
        assert {name for name in names if found[name]} == {name for name in names if wanted(name)}, step
        optimizer.step()
    assert all(p.grad is None for p in unet.parameters())
    for name, array in unet.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_gradient_of_a_zero_convolution():
    """y = w x + b with w = b = 0 is 0; ∂y/∂w is x, ∂y/∂b is 1, and ∂y/∂x is 0 (section 3.1)."""
    zero_conv = pair()[1].zero_middle
    x = Tensor(normal(1, 8, 1, 1), requires_grad=True)
    y = zero_conv(x)
    np.sum(y).backward()
    assert not y.data.any()
    assert not x.grad.any()
    np.testing.assert_array_equal(zero_conv.weight.grad[3, :, 0, 0], x.data[0, :, 0, 0])
    np.testing.assert_array_equal(zero_conv.bias.grad, np.ones(8))


# -- hints -----------------------------------------------------------------------------------------


def test_a_hint_changes_what_is_near_it():
    """The HintEncoder is made of convolutions: with two halvings a pixel reaches a 5 × 5 neighborhood."""
    encoder = randomize(HintEncoder(1, (2, 2, 2), 3, rng=rng()))
    hints, other = normal(1, 1, 64, 64), normal(1, 1, 64, 64)
    other[0, 0, 32, 32] += 1
    one, two = encoder(hints).data, encoder(other).data
    assert one.shape == (1, 3, 16, 16)
    changed = np.argwhere((one != two).any(axis=(0, 1)))
    assert len(changed)
    assert np.abs(changed - 8).max() <= 3


@pytest.mark.parametrize(
    ("config", "given"),
    [(TINY, {"context": CONTEXT}), (replace(TINY, context=None, classes=3), {"labels": T * 0})],
)
def test_texts_and_classes(config, given):
    unet, controlnet = pair(config)
    randomize(controlnet)
    one = unet(X, T, control=controlnet(X, T, HINTS, **given), **given).data
    other = unet(X, T, control=controlnet(X, T, -HINTS, **given), **given).data
    assert np.abs(one - other).max() > 0.01


# -- what is refused -------------------------------------------------------------------------------


def test_hints_of_another_size():
    _, controlnet = pair()
    with pytest.raises(ValueError, match=r"hints have shape \(2, 1, 4, 4\): \(2, 1, 8, 8\) is needed"):
        controlnet(X, T, HINTS[..., :4, :4], context=CONTEXT)


def test_control_for_another_unet():
    unet, controlnet = pair()
    control = controlnet(X, T, HINTS, context=CONTEXT)
    with pytest.raises(ValueError, match=r"the control has the shapes .* and the UNet's feature maps"):
        unet(X, T, context=CONTEXT, control=Control(control.middle, control.skips[:-1]))


def test_the_middle_and_each_skip_get_their_own_residual():
    """A residual on one map alone changes the output, for each map in another way."""
    unet, controlnet = pair()
    control = controlnet(X, T, HINTS, context=CONTEXT)
    maps = [control.middle, *control.skips]
    outputs = []
    for i in range(len(maps)):
        ones = [m.data + (j == i) for j, m in enumerate(maps)]
        outputs.append(unet(X, T, context=CONTEXT, control=Control(ones[0], ones[1:])).data)
    alone = unet(X, T, context=CONTEXT).data
    assert all(np.abs(output - alone).max() > 1e-4 for output in outputs)
    assert len({output.tobytes() for output in outputs}) == len(maps)
