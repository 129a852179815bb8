"""The denoiser: what it sees of a point and a step, that it can learn fine scales, and errors."""

import numpy as np
import pytest

from tinygen import gradcheck
from tinygen.models.pictures.denoiser import TIME_CHANNELS, Denoiser
from tinygen.nn.timesteps import timestep_embedding


def make(**sizes):
    return Denoiser(**{"channels": 8, **sizes}, rng=np.random.default_rng(0))


def test_features_by_hand():
    x = np.array([[0.3, -1.2]])
    wanted = [0.3, -1.2]
    for f in (np.sin, np.cos):
        wanted += [f(w * coordinate) for coordinate in (0.3, -1.2) for w in (1, 2, 4)]
    got = make(waves=3).features(x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [wanted], rtol=1e-6)
    np.testing.assert_array_equal(make(waves=0).features(x), x.astype(np.float32))


def test_forward_by_hand():
    model, (x, t) = make(layers=2), (np.array([[0.3, -1.2], [0.5, 0.1]]), np.array([3, 90]))
    silu = lambda x: x / (1 + np.exp(-x))
    w = {name: value.astype(np.float64) for name, value in model.state_dict().items()}
    h = model.features(x) @ w["point.weight"].T + w["point.bias"]
    h = silu(h + timestep_embedding(t, TIME_CHANNELS) @ w["time.weight"].T)
    h = silu(h @ w["hidden.0.weight"].T + w["hidden.0.bias"])
    got = model(x, t)
    np.testing.assert_allclose(got.numpy(), h @ w["out.weight"].T + w["out.bias"], rtol=1e-4, atol=1e-6)
    assert got.shape == x.shape


@pytest.mark.parametrize("sizes", [{"dim": 3}, {"layers": 1}, {"layers": 4}, {"waves": 0}])
def test_sizes(sizes):
    model = make(**sizes)
    x = np.random.default_rng(1).standard_normal((5, sizes.get("dim", 2)))
    assert model(x, np.arange(5)).shape == x.shape
    assert len(model.hidden) == sizes.get("layers", 3) - 1


def test_each_point_by_itself_and_at_its_step():
    model, x = make(), np.random.default_rng(1).standard_normal((4, 2))
    together = model(x, np.array([0, 10, 20, 30])).numpy()
    for i in range(4):
        np.testing.assert_allclose(
            model(x[i : i + 1], [10 * i]).numpy()[0], together[i], rtol=1e-5, atol=1e-6
        )
    assert np.all(np.abs(model(x, np.full(4, 5)).numpy() - together).max(axis=1) > 1e-4)


def test_gradients():
    """Of the weights, and of the points."""
    x = np.random.default_rng(1).standard_normal((3, 2))
    gradcheck(make(layers=2, waves=2), x, np.array([1, 5, 9])).raise_if_failed()


def test_no_layer():
    with pytest.raises(ValueError, match="layers must be at least 1 hidden layer, got 0"):
        make(layers=0)
