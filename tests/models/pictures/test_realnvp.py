"""RealNVP: its determinant, its inverse and its density are exact, so they are compared with autograd, with
each other, and with the integral of a density."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, jacobian, tape
from tinygen.models.pictures.realnvp import Coupling, RealNVP
from tinygen.optim import Adam


def filled(dim=2, couplings=4, std=0.6):
    """A model with random parameters, in float64; at its start the last layers would be 0."""
    rng = np.random.default_rng(0)
    model = RealNVP(dim, 8, 2, couplings, rng=rng).astype(np.float64)
    for parameter in model.parameters():
        parameter.replace(std * rng.standard_normal(parameter.shape))
    return model


def points(n, dim=2):
    return np.random.default_rng(1).standard_normal((n, dim))


# -- one coupling ----------------------------------------------------------------------------------


def test_a_coupling_by_hand():
    """One hidden number, h = silu(x_0), of which s_1 = 0.5 tanh(2 h) and t_1 = 3 h + 1. What the network says
    of x_0, which stays, counts for nothing."""
    coupling = Coupling(np.array([1, 0]), 1, 1, rng=0).astype(np.float64)
    weights = {
        "hidden.0.weight": [[1.0, 9.0]],  # x_1 is masked: the 9 has no effect
        "hidden.0.bias": [0.0],
        "out.weight": [[7.0], [2.0], [7.0], [3.0]],
        "out.bias": [7.0, 0.0, 7.0, 1.0],
        "factor": [7.0, 0.5],
    }
    coupling.load_state_dict({name: np.array(w) for name, w in weights.items()})
    y, log_det = coupling(np.array([[2.0, -1.0]]))
    h = 2 / (1 + math.exp(-2))
    s, t = 0.5 * math.tanh(2 * h), 3 * h + 1
    np.testing.assert_allclose(y.numpy(), [[2.0, -math.exp(s) + t]], rtol=1e-14)
    np.testing.assert_allclose(log_det.numpy(), [s], rtol=1e-14)


def test_masks_alternate():
    masks = [coupling.mask.numpy().tolist() for coupling in RealNVP(3, 4, 1, 3, rng=0).couplings]
    assert masks == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


# -- the chain -------------------------------------------------------------------------------------


def test_at_the_start_it_is_the_normal_density():
    model = RealNVP(3, rng=0)
    x = points(5, 3).astype(np.float32)
    np.testing.assert_array_equal(model(x).numpy(), x)
    expected = -0.5 * np.sum(x**2, axis=1) - 1.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(model.log_prob(x).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(model.loss(x).item(), -expected.mean(), rtol=1e-6)


@pytest.mark.parametrize(("dim", "couplings"), [(2, 2), (2, 5), (5, 3)])
def test_the_log_determinant_is_the_jacobian_s(dim, couplings):
    model = filled(dim, couplings)
    x = points(3, dim)
    _, log_det = model.codes_and_log_det(x)
    for k in range(3):
        matrix = jacobian(lambda point: model(point.reshape(1, dim)).reshape(dim))(x[k]).numpy()
        sign, expected = np.linalg.slogdet(matrix)
        assert sign == 1
        assert abs(expected) > 0.1
        np.testing.assert_allclose(log_det.numpy()[k], expected, rtol=1e-10)


@pytest.mark.parametrize(("dim", "couplings"), [(2, 2), (2, 5), (5, 3)])
def test_the_inverse_undoes_forward(dim, couplings):
    model = filled(dim, couplings)
    x = points(50, dim)
    z = model(x)
    assert np.abs(z.numpy() - x).max() > 1
    np.testing.assert_allclose(model.inverse(z).numpy(), x, atol=1e-11)
    np.testing.assert_allclose(model(model.inverse(x)).numpy(), x, atol=1e-11)


def test_points_do_not_mix():
    model = filled()
    x = points(6)
    alone = [model.log_prob(x[k : k + 1]).item() for k in range(6)]
    np.testing.assert_allclose(model.log_prob(x).numpy(), alone, rtol=1e-13)


# -- the density -----------------------------------------------------------------------------------


def on_a_grid(model, half=10.0, n=81):
    """ln p (n, n) on a grid of the plane, its axis (n,), and the area of one of its cells."""
    axis = np.linspace(-half, half, n)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return model.log_prob(grid).numpy().reshape(n, n), axis, (axis[1] - axis[0]) ** 2


def test_the_density_integrates_to_1():
    """On a grid the sum over such a smooth function is as good as exact."""
    log_p, _, area = on_a_grid(filled(std=0.4))
    assert log_p.max() - log_p[len(log_p) // 2, len(log_p) // 2] > 0.1  # it is not N(0, 1)
    np.testing.assert_allclose(np.sum(np.exp(log_p)) * area, 1, rtol=1e-11)


def test_the_density_is_that_of_the_samples():
    """The mean of tanh(x) of samples, within four standard errors of its integral."""
    model = filled(std=0.4)
    log_p, axis, area = on_a_grid(model)
    x = model.sample(20_000, rng=0)
    for d in (0, 1):
        expected = np.sum(np.exp(log_p).sum(axis=1 - d) * np.tanh(axis)) * area
        values = np.tanh(x[:, d])
        assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(len(values))


def test_points_come_to_the_dtype_of_the_weights():
    model, x = RealNVP(rng=0), Tensor(points(3))
    assert {y.dtype for y in (model(x), model.inverse(x), model.log_prob(x))} == {np.dtype(np.float32)}


def test_sampling_records_nothing(monkeypatch):
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    assert RealNVP(rng=0).sample(3, rng=0).dtype == np.float32
    assert not recorded


def test_gradients_of_the_loss():
    model = filled(3, 2)
    x = points(4, 3)
    gradcheck(model.loss, Tensor(x, requires_grad=True))
    parameters = list(model.parameters())
    model.loss(x).backward()
    assert all(np.abs(p.grad).max() > 0 for p in parameters)
    direction = [np.random.default_rng(k).standard_normal(p.shape) for k, p in enumerate(parameters)]
    slope = sum(np.sum(p.grad * v) for p, v in zip(parameters, direction, strict=True))
    starts = [p.numpy().copy() for p in parameters]

    def along(step):
        for p, start, v in zip(parameters, starts, direction, strict=True):
            p.replace(start + step * v)
        return model.loss(x).item()

    np.testing.assert_allclose((along(1e-6) - along(-1e-6)) / 2e-6, slope, rtol=1e-7)


def test_it_learns_a_density_that_is_not_gaussian():
    """x_1 = x_0² - 1 with noise of standard deviation 0.3, whose entropy is known. The best Gaussian is 1.5
    nats above it; training comes close to it, on points it has not seen."""
    rng = np.random.default_rng(0)

    def banana(n):
        x = rng.standard_normal((n, 2))
        x[:, 1] = x[:, 0] ** 2 - 1 + 0.3 * x[:, 1]
        return x.astype(np.float32)

    entropy = math.log(2 * math.pi * math.e) + math.log(0.3)
    gaussian = math.log(2 * math.pi * math.e) + 0.5 * math.log(2 + 0.09)
    assert gaussian - entropy > 1.5
    model = RealNVP(2, 32, 2, 4, rng=0)
    optimizer = Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        model.loss(banana(128)).backward()
        optimizer.step()
    loss = model.loss(banana(4000)).item()
    assert entropy - 0.05 < loss < entropy + 0.2


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dim": 1}, "dim must be at least 2, got 1"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"couplings": 1}, "couplings must be at least 2, got 1"),
    ],
)
def test_bad_sizes_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        RealNVP(**given, rng=0)


@pytest.mark.parametrize("shape", [(4, 3), (2,), (4, 2, 1)])
def test_points_of_another_shape_are_refused(shape):
    model = RealNVP(rng=0)
    for call in (model, model.inverse, model.log_prob, model.loss):
        with pytest.raises(ValueError, match=r"points must be \(B, 2\), got shape"):
            call(np.zeros(shape, np.float32))
