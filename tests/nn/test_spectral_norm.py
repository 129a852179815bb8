"""SpectralNorm: σ is the largest singular value, its gradient has a closed form, the layer is not steeper
than 1, parity with torch."""

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn
from tinygen.transforms import grad


def rng(seed=0):
    return np.random.default_rng(seed)


LAYERS = {
    "linear": (lambda: nn.Linear(5, 4, rng=rng()), (3, 5)),
    "without bias": (lambda: nn.Linear(3, 6, bias=False, rng=rng()), (2, 4, 3)),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, rng=rng()), (2, 2, 6)),
    "conv2d": (lambda: nn.Conv2d(2, 5, 3, stride=2, padding=1, rng=rng()), (2, 2, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1, rng=rng()), (2, 4, 3, 3)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def converged(kind, steps=300):
    """The layer in float64, with u and v at the end of the iteration; and an input."""
    make, shape = LAYERS[kind]
    layer = nn.SpectralNorm(make(), rng=rng(1)).astype(np.float64)
    for _ in range(steps):
        layer.iterate()
    return layer, rng(2).standard_normal(shape)


def svd(layer):
    return np.linalg.svd(layer.matrix().data, full_matrices=False)


@every_layer
def test_sigma_is_the_largest_singular_value(kind):
    layer, _ = converged(kind)
    assert layer.sigma().item() == pytest.approx(svd(layer)[1][0], rel=1e-12)
    assert layer.sigma().shape == ()


def test_sigma_as_it_is_made():
    """The steps at the start come near, always from below."""
    layer = nn.SpectralNorm(nn.Linear(30, 20, rng=rng()), rng=rng(1))
    assert 0.9 * svd(layer)[1][0] < layer.sigma().item() <= svd(layer)[1][0] * (1 + 1e-6)


def test_as_many_steps_at_the_start_as_in_pytorch(monkeypatch):
    steps = []
    monkeypatch.setattr(nn.SpectralNorm, "iterate", lambda layer: steps.append(layer))
    nn.SpectralNorm(nn.Linear(3, 2, rng=rng()), rng=rng())
    assert len(steps) == 15


@every_layer
def test_the_layer_is_the_same_with_the_weight_divided(kind):
    layer, x = converged(kind)
    plain = LAYERS[kind][0]().astype(np.float64)
    plain.weight.data = plain.weight.data / svd(layer)[1][0]
    np.testing.assert_allclose(layer(x).data, plain(x).data, rtol=1e-12, atol=1e-14)


def test_an_embedding():
    layer = nn.SpectralNorm(nn.Embedding(5, 3, rng=rng()), rng=rng(1)).eval()
    np.testing.assert_allclose(
        layer(np.array([4, 0])).data, layer.layer.weight.data[[4, 0]] / layer.sigma().item(), rtol=1e-6
    )


@every_layer
def test_the_gradient_of_sigma_is_u_vt(kind):
    layer, _ = converged(kind)
    layer.sigma().backward()
    u, _, vt = svd(layer)
    gradient = layer.layer.weight.grad
    if kind == "transposed":
        gradient = gradient.swapaxes(0, 1)
    np.testing.assert_allclose(gradient.reshape(len(gradient), -1), np.outer(u[:, 0], vt[0]), atol=1e-7)


@every_layer
@pytest.mark.parametrize("training", [False, True])
def test_gradcheck(kind, training):
    """In evaluation u and v are constants. In training they move with W, at the fixed point without a change
    of σ to first order."""
    layer, x = converged(kind)
    gradcheck(layer.train(training), x).raise_if_failed()


def test_the_gradient_of_the_layer():
    """(G - λ u vᵀ)/σ with G the gradient by the divided weight and λ = <G, W/σ> (section 2.2, eq. 12): the
    part of G that would make σ larger is taken away."""
    layer, x = converged("linear")
    g = rng(3).standard_normal((3, 4))
    (layer(x) * g).sum().backward()
    u, s, vt = svd(layer)
    by_divided = g.T @ x
    share = np.sum(by_divided * layer.layer.weight.data) / s[0]
    expected = (by_divided - share * np.outer(u[:, 0], vt[0])) / s[0]
    np.testing.assert_allclose(layer.layer.weight.grad, expected, atol=1e-7)
    np.testing.assert_allclose(layer.bias.grad, g.sum(axis=0), rtol=1e-13)


def test_no_point_is_steeper_than_1():
    """Three layers and activations with slope at most 1."""
    layers = [nn.Linear(4, 30, rng=rng()), nn.Linear(30, 30, rng=rng(1)), nn.Linear(30, 1, rng=rng(2))]
    a, b, c = (nn.SpectralNorm(layer, rng=rng(3)).astype(np.float64) for layer in layers)
    for layer in (a, b, c):
        layer.layer.weight.data = 10 * layer.layer.weight.data
        for _ in range(300):
            layer.iterate()
        layer.eval()
    slope = grad(lambda x: c(np.tanh(b(np.tanh(a(x))))).sum())(rng(4).standard_normal((50, 4))).data
    lengths = np.linalg.norm(slope, axis=1)
    assert np.all(lengths <= 1 + 1e-9)
    assert lengths.max() > 0.1


def test_two_passes_before_backward():
    """As of a discriminator that sees real and fake points: each pass takes a step, and keeps its own u
    and v."""
    layer = nn.SpectralNorm(nn.Linear(5, 4, rng=rng()), rng=rng(1)).astype(np.float64)
    layer.layer.weight.data = rng(5).standard_normal((4, 5))
    x = Tensor(rng(2).standard_normal((3, 5)), requires_grad=True)
    first = layer(x)
    before = layer.u.data.copy()
    second = layer(x)
    assert not np.array_equal(before, layer.u.data)
    assert not np.array_equal(first.data, second.data)
    (first.sum() + second.sum()).backward()
    (layer.eval()(x)).sum().backward()


def test_evaluation_changes_nothing():
    layer = nn.SpectralNorm(nn.Linear(5, 4, rng=rng()), rng=rng(1)).eval()
    before = layer.state_dict()
    layer(np.ones((2, 5), np.float32))
    after = layer.state_dict()
    assert before.keys() == {"layer.weight", "bias", "u", "v"}
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_a_weight_of_zeros():
    layer = nn.SpectralNorm(nn.Linear(3, 2, rng=rng()), rng=rng(1))
    layer.layer.weight.data = np.zeros((2, 3))
    layer.iterate()
    assert np.all(np.isfinite(layer.u.data))


def test_what_is_refused():
    with pytest.raises(TypeError, match="a layer with a weight, got LayerNorm"):
        nn.SpectralNorm(nn.LayerNorm(3), rng=0)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "transposed"])
def test_parity_with_torch(kind):
    """With the right u and v: PyTorch's step begins with u, and the paper's with v."""
    torch = pytest.importorskip("torch")
    layer, x = converged(kind)
    there = {
        "linear": lambda: torch.nn.Linear(5, 4),
        "conv2d": lambda: torch.nn.Conv2d(2, 5, 3, stride=2, padding=1),
        "transposed": lambda: torch.nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1),
    }[kind]().double()
    there = torch.nn.utils.parametrizations.spectral_norm(there)
    weight, norm = there.parametrizations.weight.original, there.parametrizations.weight[0]
    with torch.no_grad():
        for theirs, ours in ((weight, layer.layer.weight), (there.bias, layer.bias)):
            theirs.copy_(torch.tensor(ours.data))
        norm._u.copy_(torch.tensor(layer.u.data))
        norm._v.copy_(torch.tensor(layer.v.data))
    for training in (True, False):
        ours, theirs = layer.train(training)(x), there.train(training)(torch.tensor(x))
        np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
        (ours**2).sum().backward()
        (theirs**2).sum().backward()
    np.testing.assert_allclose(layer.layer.weight.grad, weight.grad.numpy(), rtol=1e-7, atol=1e-9)
