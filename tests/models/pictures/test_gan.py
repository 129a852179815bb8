"""Generators and discriminators: shapes, the projection in closed form, spectral norm everywhere, parity with
torch; one whole step of each game."""

import numpy as np
import pytest

from tinygen import gradcheck, nn
from tinygen.models.pictures.gan import (
    ConvDiscriminator,
    ConvGenerator,
    DenseDiscriminator,
    DenseGenerator,
)
from tinygen.models.pictures.gan_losses import GAMES, gradient_penalty, r1_penalty
from tinygen.optim import Adam

LABELS = np.array([0, 2, 1])


def rng(seed=0):
    return np.random.default_rng(seed)


def labels_of(classes):
    return LABELS if classes else None


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("side", [8, 16, 32])
def test_pictures_of_each_side(side, classes):
    generator = ConvGenerator(3, side, 4, 5, classes, rng=0)
    discriminator = ConvDiscriminator(3, side, 4, classes, rng=0)
    x = generator.sample(3, labels_of(classes), rng=0)
    assert x.shape == (3, 3, side, side)
    assert np.abs(x).max() < 1
    assert discriminator(x, labels_of(classes)).shape == (3,)
    widths = {8: [4], 16: [4, 8], 32: [4, 8, 16]}[side]
    assert [down.weight.shape[0] for down in discriminator.downs] == widths
    assert generator.shape == (widths[-1], 4, 4)


@pytest.mark.parametrize("classes", [0, 3])
def test_points(classes):
    x = DenseGenerator(4, 6, 2, 5, classes, rng=0).sample(3, labels_of(classes), rng=0)
    assert x.shape == (3, 4)
    assert DenseDiscriminator(4, 6, 2, classes, rng=0)(x, labels_of(classes)).shape == (3,)


def test_the_projection():
    """f(x, y) - f(x, y') = (v_y - v_y')·φ(x); without a class it is a linear function of φ(x)."""
    d, x = DenseDiscriminator(2, 6, 2, 3, rng=0).astype(np.float64), rng().standard_normal((3, 2))
    h = d.features(x).data
    v = d.label.weight.data
    plain = h @ d.out.weight.data[0] + d.out.bias.data
    for y in (LABELS, LABELS[::-1]):
        np.testing.assert_allclose(d(x, y).data, plain + np.sum(v[y] * h, axis=1), rtol=1e-13)


def test_the_features_of_points_by_hand():
    """Linear layers, with a slope of 0.2 below 0."""
    d, x = DenseDiscriminator(2, 6, 3, rng=0).astype(np.float64), rng().standard_normal((3, 2))
    h = x
    for layer in d.layers:
        h = h @ layer.weight.data.T + layer.bias.data
        h = np.where(h > 0, h, 0.2 * h)
    np.testing.assert_allclose(d.features(x).data, h, rtol=1e-12)


def test_a_class_moves_the_first_layer():
    """As a label in one-hot form beside z would."""
    g, z = DenseGenerator(2, 6, 1, 4, 3, rng=0).astype(np.float64), rng().standard_normal((3, 4))
    joined = np.concatenate([z, np.eye(3)[LABELS]], axis=1)
    weight = np.concatenate([g.start.weight.data, g.label.weight.data.T], axis=1)
    h = np.maximum(joined @ weight.T + g.start.bias.data, 0)
    np.testing.assert_allclose(g(z, LABELS).data, h @ g.out.weight.data.T + g.out.bias.data, rtol=1e-13)


def test_spectral_norm_is_everywhere():
    for d in (DenseDiscriminator(2, 6, 3, 3, True, rng=0), ConvDiscriminator(1, 16, 4, 3, True, rng=0)):
        normalized = [m.layer for _, m in d.named_modules() if isinstance(m, nn.SpectralNorm)]
        kinds = (nn.Linear, nn.Embedding, nn.Conv2d)
        assert normalized == [m for _, m in d.named_modules() if isinstance(m, kinds)]
    plain = DenseDiscriminator(2, 6, 3, 3, rng=0)
    assert not [m for _, m in plain.named_modules() if isinstance(m, nn.SpectralNorm)]


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("game", GAMES)
def test_a_step_of_each_game(game, spectral):
    """Both losses fall when one network takes small steps alone, and every parameter has a gradient."""
    r = rng()
    generator = ConvGenerator(1, 8, 4, 5, 3, rng=r)
    discriminator = ConvDiscriminator(1, 8, 4, 3, spectral, rng=r)
    y = r.integers(0, 3, 16)
    z, real = r.standard_normal((16, 5), np.float32), r.uniform(-1, 1, (16, 1, 8, 8)).astype(np.float32)
    losses = GAMES[game]
    fake = generator(z, y).data
    d = lambda x: discriminator(x, y)

    def of_discriminator():
        penalty = r1_penalty(d, real) + gradient_penalty(d, real, fake, rng=0)
        return losses.discriminator(d(real), d(fake)) + 0.1 * penalty

    for model, loss in (
        (discriminator, of_discriminator),
        (generator, lambda: losses.generator(d(generator(z, y)))),
    ):
        optimizer, values = Adam(model.parameters(), lr=1e-3), []
        for _ in range(8):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
            values.append(value.item())
        assert values[-1] < values[0]


def test_gradcheck_of_the_penalty_of_pictures():
    """Second derivatives of convolutions and of the projection, by every weight."""
    x = rng().standard_normal((2, 1, 8, 8))

    class Penalty(nn.Module):
        def __init__(self):
            self.d = ConvDiscriminator(1, 8, 2, 2, rng=0)

        def forward(self):
            return r1_penalty(lambda x: self.d(x, np.array([0, 1])), x)

    gradcheck(Penalty().astype(np.float64)).raise_if_failed()


def torch_weights(torch, model):
    return {name: torch.tensor(p.data, requires_grad=True) for name, p in model.named_parameters()}


def compare(torch, model, w, ours, theirs):
    """Values, and the gradients by all weights that have one."""
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-10)
    (ours**2).sum().backward()
    (theirs**2).sum().backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, w[name].grad.numpy(), rtol=1e-9, atol=1e-12)


def test_a_discriminator_s_parity_with_torch():
    """Its penalty, too."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    d = ConvDiscriminator(2, 16, 3, 3, rng=0).astype(np.float64)
    x = rng().standard_normal((3, 2, 16, 16))
    w = torch_weights(torch, d)

    def there(x):
        for i in range(2):
            x = F.conv2d(x, w[f"downs.{i}.weight"], w[f"downs.{i}.bias"], stride=2, padding=1)
            x = F.leaky_relu(x, 0.2)
        h = x.flatten(1)
        label = w["label.weight"][torch.tensor(LABELS)]
        return F.linear(h, w["out.weight"], w["out.bias"])[:, 0] + (label * h).sum(1)

    compare(torch, d, w, d(x, LABELS), there(torch.tensor(x)))
    d.zero_grad()
    penalty = r1_penalty(lambda x: d(x, LABELS), x)
    penalty.backward()
    points = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(there(points).sum(), points, create_graph=True)
    for t in w.values():
        t.grad = None
    expected = 0.5 * gradient.square().flatten(1).sum(1).mean()
    expected.backward()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-12)
    for name, p in d.named_parameters():
        theirs = 0 if w[name].grad is None else w[name].grad.numpy()
        np.testing.assert_allclose(0 if p.grad is None else p.grad, theirs, rtol=1e-9, atol=1e-14)


def test_a_generator_s_parity_with_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    g = ConvGenerator(2, 16, 3, 5, 3, rng=0).astype(np.float64)
    z = rng().standard_normal((3, 5))
    w = torch_weights(torch, g)
    h = F.linear(torch.tensor(z), w["start.weight"], w["start.bias"])
    h = F.relu(h + w["label.weight"][torch.tensor(LABELS)]).reshape(3, 6, 4, 4)
    for i in range(2):
        h = F.relu(F.conv_transpose2d(h, w[f"ups.{i}.weight"], w[f"ups.{i}.bias"], stride=2, padding=1))
    theirs = torch.tanh(F.conv2d(h, w["out.weight"], w["out.bias"], padding=1))
    compare(torch, g, w, g(z, LABELS), theirs)


@pytest.mark.parametrize("side", [0, 4, 7, 12, 24])
def test_sides_that_are_refused(side):
    for kind in (ConvGenerator, ConvDiscriminator):
        with pytest.raises(ValueError, match=f"side must be one of 8, 16, 32, .*got {side}"):
            kind(1, side, rng=0)


def test_what_is_refused():
    for kind in (DenseGenerator, DenseDiscriminator):
        with pytest.raises(ValueError, match="layers must be at least 1 hidden layer, got 0"):
            kind(layers=0, rng=0)
    with pytest.raises(ValueError, match=r"needs labels in \[0, 3\)"):
        DenseGenerator(classes=3, rng=0).sample(2, rng=0)
    with pytest.raises(ValueError, match="needs no labels"):
        DenseDiscriminator(rng=0)(np.ones((1, 2)), np.zeros(1, int))
