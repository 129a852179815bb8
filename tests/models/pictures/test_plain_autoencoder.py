"""Autoencoders: each loss by hand, the linear one by PCA, the sliced-Wasserstein distance by its closed form
between round Gaussians, and that SWAE draws its codes to N(0, I)."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck
from tinygen.density import PCA
from tinygen.models.pictures.plain_autoencoder import (
    SWAE,
    Autoencoder,
    SupervisedAutoencoder,
    conv_halves,
    dense_halves,
    linear_halves,
    sliced_wasserstein2,
)
from tinygen.optim import Adam


def rows(n=40, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return rng.standard_normal((n, dim)) * [3.0, 1.5, *[0.5] * (dim - 2)] @ axes + 1


def train(model, loss, steps=500, lr=0.05):
    optimizer = Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.lr = lr * (1 - step / steps)
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return value.item()


# -- the losses --------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    model = Autoencoder(*linear_halves(6, 2, rng=0)).astype(np.float64)
    x = rows(5)
    (w, b), (v, c) = ((half.weight.data, half.bias.data) for half in (model.encoder, model.decoder))
    found = (x @ w.T + b) @ v.T + c
    assert model.loss(x).item() == pytest.approx(np.sum((x - found) ** 2) / 5, rel=1e-12)
    np.testing.assert_allclose(model(x).numpy(), found, rtol=1e-12)
    np.testing.assert_allclose(model.encode(x), x @ w.T + b, rtol=1e-12)
    np.testing.assert_allclose(model.decode(model.encode(x)), found, rtol=1e-12)


def test_the_supervised_loss_by_hand():
    model = SupervisedAutoencoder(*dense_halves(6, 5, 2, rng=0), 2, 3, weight=0.7, rng=1).astype(np.float64)
    x, labels = rows(5), np.array([0, 2, 1, 1, 0])
    parts = model.losses(x, labels)
    z = model.encode(x)
    logits = z @ model.classifier.weight.data.T + model.classifier.bias.data
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(model.log_probs(x), log_p, rtol=1e-10)
    error, cross = np.sum((model.decode(z) - x) ** 2) / 5, -log_p[np.arange(5), labels].mean()
    assert parts.reconstruction.item() == pytest.approx(error, rel=1e-12)
    assert parts.classification.item() == pytest.approx(cross, rel=1e-12)
    assert model.loss(x, labels).item() == pytest.approx(error + 0.7 * cross, rel=1e-12)


class Draws(np.random.Generator):
    """Gives these arrays as noise."""

    def __init__(self, *arrays):
        super().__init__(np.random.PCG64(0))
        self.arrays = list(arrays)

    def standard_normal(self, shape, dtype=None):
        array = self.arrays.pop(0)
        assert array.shape == shape
        return array


def test_the_loss_of_swae_by_hand():
    """Sorted along two directions, of any length, written out."""
    model = SWAE(*linear_halves(6, 2, rng=0), 2, weight=0.3, directions=2).astype(np.float64)
    x, prior = rows(4), np.random.default_rng(1).standard_normal((4, 2))
    theta = np.array([[3.0, 0.0], [4.0, -2.0]])  # the columns: (0.6, 0.8) and (0, -1)
    parts = model.losses(x, rng=Draws(prior, theta))
    z = model.encode(x)
    one = np.sort(z @ [0.6, 0.8]) - np.sort(prior @ [0.6, 0.8])
    two = np.sort(-z[:, 1]) - np.sort(-prior[:, 1])
    distance = (np.sum(one**2) + np.sum(two**2)) / 8
    error = np.sum((model.decode(z) - x) ** 2) / 4
    assert parts.distance.item() == pytest.approx(distance, rel=1e-12)
    assert parts.total.item() == pytest.approx(error + 0.3 * distance, rel=1e-12)
    assert model.loss(x, rng=Draws(prior, theta)).item() == parts.total.item()


# -- the halves --------------------------------------------------------------------------------------


def test_a_linear_autoencoder_spans_the_subspace_of_pca():
    """By principal angles, and no autoencoder with as many numbers loses less."""
    x = rows()
    model = Autoencoder(*linear_halves(6, 2, rng=0)).astype(np.float64)
    left = train(model, lambda step: model.loss(x))
    pca = PCA(2).fit(x)
    best = np.sum((pca.inverse_transform(pca.transform(x)) - x) ** 2) / len(x)
    assert left == pytest.approx(best, rel=1e-6)
    assert left >= best * (1 - 1e-12)
    for basis in (model.decoder.weight.data, model.encoder.weight.data.T):
        q, _ = np.linalg.qr(basis)
        outside = q - pca.components_.T @ (pca.components_ @ q)  # its size is the sine of the largest angle
        assert np.arcsin(np.linalg.norm(outside, 2)) <= 1e-3


@pytest.mark.parametrize("in_channels", [1, 3])
def test_convolutional_halves(in_channels):
    model = Autoencoder(*conv_halves(in_channels, 8, 4, 5, rng=0))
    x = np.random.default_rng(0).random((3, in_channels, 8, 8), dtype=np.float32)
    assert model.encode(x).shape == (3, 5)
    assert model(x).shape == x.shape
    first = model.loss(x).item()
    assert train(model, lambda step: model.loss(x), 60, 0.01) < 0.5 * first
    with pytest.raises(ValueError, match="side must be a multiple of 4, as it is halved twice, got 6"):
        conv_halves(1, 6, 4, 5, rng=0)
    smallest = Autoencoder(*conv_halves(1, 4, 4, 5, rng=0))
    assert smallest(x[:, :1, :4, :4]).shape == (3, 1, 4, 4)


def test_dense_halves_are_not_linear():
    """Points on a circle: one number tells where on it, for ReLUs; a line through it cannot."""
    angles = np.linspace(-2.5, 2.5, 40)
    x = np.column_stack([np.cos(angles), np.sin(angles)])
    model = Autoencoder(*dense_halves(2, 24, 1, rng=3)).astype(np.float64)
    left = train(model, lambda step: model.loss(x), 500, 0.02)
    pca = PCA(1).fit(x)
    assert left < 0.3 * np.sum((pca.inverse_transform(pca.transform(x)) - x) ** 2) / len(x)


def test_labels_make_codes_that_tell_the_class():
    """The class is in the direction with the least variance, which an autoencoder leaves out."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)) * [3.0, 0.5, 0.2, 0.2]
    labels = (x[:, 3] > 0).astype(int)
    right = {}
    for weight in (0.0, 100.0):
        model = SupervisedAutoencoder(*linear_halves(4, 1, rng=0), 1, 2, weight, rng=1).astype(np.float64)
        train(model, lambda step, model=model: model.loss(x, labels), 300)
        classifier = model.log_probs(x).argmax(axis=1)
        right[weight] = max(np.mean(classifier == labels), np.mean(classifier != labels))
    assert right[0.0] < 0.8
    assert right[100.0] > 0.95


# -- the sliced-Wasserstein distance -----------------------------------------------------------------


def test_sliced_distance_of_a_shift():
    """Every point of y is that of x, moved by c: along θ all distances are θ·c. On average |c|²/Z."""
    x, c = np.random.default_rng(0).standard_normal((7, 3)), np.array([1.0, -2.0, 0.5])
    found = [sliced_wasserstein2(x, x + c, 4000, rng=seed) for seed in range(4)]
    expected, spread = c @ c / 3, c @ c * np.sqrt(4 / 45)  # of (θ·c)², where cos² has the variance 4/45
    assert abs(np.mean(found) - expected) < 4 * spread / np.sqrt(16_000)
    assert sliced_wasserstein2(x, x[::-1], 5, rng=0) == 0  # in another order they are the same points


def test_sliced_distance_of_round_gaussians():
    """N(m, a² I) and N(n, b² I) are N(θ·m, a²) and N(θ·n, b²) along θ: SW₂² = |m - n|²/Z + (a - b)².
    The points have the quantiles of a Gaussian along their axis; Z = 1, where it is exact up to a grid."""
    quantiles = quantiles_of_a_normal(4000)
    x, y = 1.0 + 0.5 * quantiles[:, None], -1.0 + 2.0 * quantiles[:, None]
    assert sliced_wasserstein2(x, y, 1, rng=0) == pytest.approx(4 + 1.5**2, rel=1e-3)
    rng = np.random.default_rng(0)
    x, y = 0.5 * rng.standard_normal((5_000, 3)), 2 * rng.standard_normal((5_000, 3)) + [1, 0, 1]
    assert sliced_wasserstein2(x, y, 100, rng=1) == pytest.approx(2 / 3 + 1.5**2, rel=0.1)


def quantiles_of_a_normal(n):
    """By a sum of its density: the x at which it is (i + ½)/n."""
    grid = np.linspace(-6, 6, 200_001)
    cdf = np.cumsum(np.exp(-(grid**2) / 2))
    return np.interp((np.arange(n) + 0.5) / n, cdf / cdf[-1], grid)


def test_any_number_of_directions_has_one_expectation():
    """In the plane the mean over all directions is an integral over the angle."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 2)), 2 * rng.standard_normal((6, 2)) + 1
    angles = 2 * np.pi * np.arange(2000) / 2000
    along = np.stack([np.cos(angles), np.sin(angles)])
    exact = np.mean((np.sort(x @ along, axis=0) - np.sort(y @ along, axis=0)) ** 2)
    for directions in (1, 2, 10):
        found = np.array([sliced_wasserstein2(x, y, directions, rng=rng) for _ in range(2000)])
        assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(2000)


def test_the_gradient_of_the_sliced_distance():
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3))
    gradcheck(lambda a, b: sliced_wasserstein2(a, b, 4, rng=0), x, y)
    assert isinstance(sliced_wasserstein2(Tensor(x), y, 4, rng=0), Tensor)


@pytest.mark.parametrize("y", [np.zeros((4, 3)), np.zeros((5, 2)), np.zeros(5)])
def test_sets_of_points_that_do_not_match(y):
    with pytest.raises(ValueError, match=r"of one shape, got \(5, 3\) and "):
        sliced_wasserstein2(np.zeros((5, 3)), y, 2, rng=0)
    with pytest.raises(ValueError, match="directions must be at least 1, got 0"):
        sliced_wasserstein2(np.zeros((5, 3)), np.zeros((5, 3)), 0, rng=0)


def test_swae_draws_the_codes_to_the_prior():
    """Codes of mean 0 and variance 1, uncorrelated; so draws of N(0, I) decode to rows like the data's."""
    x = rows(400)
    model = SWAE(*linear_halves(6, 2, rng=0), 2, weight=10.0, directions=20).astype(np.float64)
    rng = np.random.default_rng(0)
    before = model.encode(x)
    train(model, lambda step: model.loss(x, rng=rng), 300)
    z = model.encode(x)
    assert np.abs(np.cov(before.T) - np.eye(2)).max() > 0.5
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.25)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.2)
    drawn = model.sample(2000, rng=0)
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.4)
    assert np.trace(np.cov(drawn.T)) == pytest.approx(np.trace(np.cov(model.decode(z).T)), rel=0.25)
