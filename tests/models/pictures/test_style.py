"""Style transfer: its losses by hand, the search with exact results, and gradients through the changes."""

import numpy as np
import pytest

from tinygen import Tensor
from tinygen.models.pictures.style import (
    Changes,
    StyleTransfer,
    color_factor,
    content_loss,
    gram_matrix,
    mean_gram,
    style_loss,
    transfer,
)
from tinygen.models.pictures.vgg import VGG

pytest.importorskip("scipy")

LAYERS = ("conv1_1", "conv2_1")


def picture(seed, h=8, w=8):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, h, w)).astype(np.float32)


def objective(alpha=1e-3, style=None):
    network = VGG(((4,), (6,)), rng=0)
    return StyleTransfer(
        network, picture(0), picture(1) if style is None else style, "conv2_1", LAYERS, alpha
    )


def test_a_gram_matrix_by_hand():
    features = np.array([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels at two places
    np.testing.assert_array_equal(gram_matrix(features), [[[5, 1], [1, 10]]])
    np.testing.assert_array_equal(mean_gram(features), [[[2.5, 0.5], [0.5, 5]]])


def test_a_gram_matrix_does_not_know_places():
    features = picture(2)
    shuffled = features.reshape(1, 3, 64)[:, :, np.random.default_rng(0).permutation(64)].reshape(1, 3, 4, 16)
    np.testing.assert_allclose(gram_matrix(features), gram_matrix(shuffled), rtol=1e-5)


def test_the_losses_by_hand():
    features, target = np.array([[[[1.0, 2.0]], [[3.0, -1.0]]]]), np.array([[[[0.0, 2.0]], [[1.0, 1.0]]]])
    assert content_loss(features, target) == 0.5 * (1 + 0 + 4 + 4)
    # Gram matrices [[5, 1], [1, 10]] and [[4, 2], [2, 2]], N = M = 2
    assert style_loss(features, mean_gram(target)) == (1 + 1 + 1 + 64) / (4 * 2**2 * 2**2)


def test_a_style_twice_as_large_is_the_same_style():
    """Each place four times: the mean over places stays."""
    features = picture(3)
    larger = features.repeat(2, axis=2).repeat(2, axis=3)
    assert style_loss(larger, mean_gram(features)) < 1e-12


def test_the_total_is_its_parts():
    goal, x = objective(alpha=0.25), picture(4)
    losses = goal.losses(x)
    features = goal.network.features(x, LAYERS)
    of_style = goal.network.features(picture(1), LAYERS)
    style = sum(style_loss(features[name], mean_gram(of_style[name].data)) for name in LAYERS) / 2
    content = content_loss(features["conv2_1"], goal.network(picture(0)).data)
    np.testing.assert_allclose(losses["content"].item(), content.item(), rtol=1e-6)
    np.testing.assert_allclose(losses["style"].item(), style.item(), rtol=1e-6)
    np.testing.assert_allclose(losses["total"].item(), 0.25 * content.item() + style.item(), rtol=1e-6)


def test_content_and_style_have_no_loss_of_their_own():
    goal = objective()
    assert goal.losses(picture(0))["content"].item() == 0
    assert goal.losses(picture(1))["style"].item() < 1e-12
    assert goal.correlation(picture(0)) == pytest.approx(1)
    assert goal.correlation(picture(5)) < 0.9


@pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
@pytest.mark.parametrize("power", [0.0, 0.7])
def test_the_gradient_of_the_changes(shape, power):
    """A linear function of z: <g, x(z) - x_start> = <gradient(g), z>."""
    rng = np.random.default_rng(0)
    start, z, g = rng.standard_normal((3, 1, 3, *shape))
    changes = Changes(start, power, rng.standard_normal((3, 3)))
    np.testing.assert_allclose(
        np.sum(g * (changes.picture(z) - start)), np.sum(changes.gradient(g) * z), rtol=1e-10
    )


def test_changes_of_pixels():
    """Without power and colors, x = x_start + z."""
    start, z = np.random.default_rng(0).standard_normal((2, 1, 3, 8, 8))
    changes = Changes(start, 0.0, None)
    np.testing.assert_allclose(changes.picture(z), start + z, atol=1e-12)
    np.testing.assert_allclose(changes.gradient(z), z, atol=1e-12)


def test_powers_of_frequencies():
    """A wave of frequency 4 is divided by 4^p, the mean by nothing."""
    changes = Changes(np.zeros((1, 3, 16, 16)), 0.5, None)
    wave = np.broadcast_to(np.cos(2 * np.pi * 4 * np.arange(16) / 16), (1, 3, 16, 16))
    scale = changes.smooth(np.ones((1, 3, 16, 16)))[0, 0, 0, 0]
    np.testing.assert_allclose(changes.smooth(wave), scale * wave / 2, atol=1e-12)


def test_color_factors():
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 50)) * np.array([1, 2, 3])[:, None, None]
    C = color_factor(x)
    covariance = np.cov(x.reshape(3, -1)) + 1e-3 * np.eye(3)
    np.testing.assert_allclose(C @ C.T, 3 * covariance / np.trace(covariance), rtol=1e-10)
    assert np.linalg.cond(color_factor(np.ones((1, 3, 4, 4)))) == pytest.approx(1)


def test_the_search_finds_the_content_again():
    """With the content alone, from another start, through a network of one layer that loses nothing."""
    network = VGG(((12,),), rng=0)
    goal = StyleTransfer(network, picture(0), picture(1), "conv1_1", ["conv1_1"], 1e4)
    found = transfer(goal, picture(2), 200, 0.0, None)
    assert goal.correlation(found) > 0.999


@pytest.mark.parametrize(("power", "colors"), [(0.0, False), (0.7, True)])
def test_the_search_lowers_the_loss(power, colors):
    goal, start = objective(), picture(0)
    found = transfer(goal, start, 40, power, color_factor(picture(1)) if colors else None)
    assert found.shape == start.shape
    assert found.dtype == np.float32
    assert np.abs(found).max() <= 1
    assert goal.losses(found)["style"].item() < 0.2 * goal.losses(start)["style"].item()
    assert np.array_equal(
        found, transfer(goal, start, 40, power, color_factor(picture(1)) if colors else None)
    )


def test_no_evaluations_are_wasted():
    goal, calls = objective(), []
    losses = goal.losses
    goal.losses = lambda x: calls.append(x) or losses(x)
    transfer(goal, picture(0), 7, 0.0, None)
    assert len(calls) <= 9  # the last line search may end a little later


def test_the_gradient_of_pixels():
    """Eq. 6 of the paper for the style: dE/dF = (Fᵀ(G - A))ᵀ / (N² M²)."""
    features = Tensor(np.random.default_rng(0).standard_normal((1, 3, 2, 5)), requires_grad=True)
    target = mean_gram(np.random.default_rng(1).standard_normal((1, 3, 2, 5)))
    style_loss(features, target).backward()
    F = features.data.reshape(3, 10)
    expected = (F @ F.T - 10 * target[0]) @ F / (3**2 * 10**2)
    np.testing.assert_allclose(features.grad.reshape(3, 10), expected, rtol=1e-10)


def test_pictures_that_do_not_fit():
    with pytest.raises(ValueError, match=r"style must be one picture \(1, 3, H, W\), got \(3, 8, 8\)"):
        objective(style=picture(1)[0])
