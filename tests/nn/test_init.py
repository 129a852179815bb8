"""Initial weights: the variance and the range that each formula promises.

Each scheme draws n = 10^6 numbers or so. The sample variance of a normal has relative standard deviation
sqrt(2/n), of a uniform sqrt(0.8/n). A bound of 5 of them gives a false alarm for one in 1.7 million seeds;
the seed is fixed, so a test that passes once always passes."""

import math

import numpy as np
import pytest

from tinygen import nn, ops
from tinygen.nn import init

N_OUT, N_IN, KERNEL = 320, 240, (3, 4)  # 921,600 numbers
SHAPE = (N_OUT, N_IN, *KERNEL)
FAN_IN, FAN_OUT = N_IN * 12, N_OUT * 12


def rng():
    return np.random.default_rng(0)


def test_fans_count_the_kernel():
    assert init.fans((4, 3)) == (3, 4)
    assert init.fans((8, 4, 3, 5)) == (60, 120)
    with pytest.raises(ValueError, match=r"got \(4,\)"):
        init.fans((4,))


@pytest.mark.parametrize(
    ("draw", "variance"),
    [
        (lambda: init.normal(SHAPE, rng=rng()), 1),
        (lambda: init.normal(SHAPE, 0.02, rng=rng()), 0.02**2),
        (lambda: init.xavier_normal(SHAPE, rng=rng()), 2 / (FAN_IN + FAN_OUT)),
        (lambda: init.xavier_normal(SHAPE, gain=3, rng=rng()), 9 * 2 / (FAN_IN + FAN_OUT)),
        (lambda: init.kaiming_normal(SHAPE, rng=rng()), 2 / FAN_IN),
        (lambda: init.kaiming_normal(SHAPE, "fan_out", rng=rng()), 2 / FAN_OUT),
    ],
)
def test_normal_draws_have_their_variance(draw, variance):
    w = draw()
    assert w.dtype == np.float32
    assert w.shape == SHAPE
    w = w.astype(np.float64)
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 5 * math.sqrt(2 / w.size)
    assert np.abs(w).max() > 4 * math.sqrt(variance)  # a uniform draw ends at 1.7; fails at rate e^-58


@pytest.mark.parametrize(
    ("draw", "bound"),
    [
        (lambda: init.uniform(SHAPE, 0.3, rng=rng()), 0.3),
        (lambda: init.xavier_uniform(SHAPE, rng=rng()), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (lambda: init.xavier_uniform(SHAPE, gain=2, rng=rng()), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
        (lambda: init.kaiming_uniform(SHAPE, rng=rng()), math.sqrt(6 / FAN_IN)),
        (lambda: init.fan_in_uniform(SHAPE, FAN_IN, rng=rng()), 1 / math.sqrt(FAN_IN)),
    ],
)
def test_uniform_draws_have_their_range_and_variance(draw, bound):
    w = draw()
    assert w.dtype == np.float32
    assert w.shape == SHAPE
    w = w.astype(np.float64)
    assert 0.999 * bound < w.max() <= bound * (1 + 1e-6)
    assert -bound * (1 + 1e-6) <= w.min() < -0.999 * bound
    assert abs(w.mean()) < 5 * bound / math.sqrt(3 * w.size)
    assert abs(w.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / w.size)


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (4, 3, 2, 2), (8, 2, 3), (1, 1)])
def test_orthogonal_rows_or_columns(shape):
    w = init.orthogonal(shape, gain=2.0, rng=rng())
    assert w.dtype == np.float32
    assert w.shape == shape
    w = w.reshape(shape[0], -1).astype(np.float64) / 2
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-6)


def test_orthogonal_is_uniform_over_the_group():
    """For a uniform (Haar) matrix the trace has mean 0 and variance 1; QR without its signs has mean far
    from 0 (LAPACK's R has a negative diagonal). 2,000 draws; bounds of 5 standard deviations."""
    generator = rng()
    traces = np.array([np.trace(init.orthogonal((4, 4), rng=generator)) for _ in range(2000)])
    assert abs(traces.mean()) < 5 / math.sqrt(2000)
    assert abs(traces.var() - 1) < 5 * math.sqrt(2 / 2000)


def test_kaiming_keeps_the_signal_through_relu_layers():
    """The purpose (He et al. 2015, section 2.2): after 20 ReLU layers the mean square is still near 1."""
    generator = rng()
    x = generator.standard_normal((64, 512), dtype=np.float32)
    for _ in range(20):
        x = np.maximum(x @ init.kaiming_normal((512, 512), rng=generator).T, 0) * 1.0
    # E[relu(z)²] = E[z²]/2 = E[x²]: each layer multiplies by 1 ± sqrt(5/512) at random, 20 of them by e^±0.44
    assert math.exp(-5 * 0.44) < 2 * np.square(x).mean() / 2 < math.exp(5 * 0.44)


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Linear(400, 300, rng=rng()), 400),
        (lambda: nn.Conv1d(40, 60, 5, rng=rng()), 200),
        (lambda: nn.Conv2d(40, 60, 3, groups=2, rng=rng()), 180),
        (lambda: nn.ConvTranspose2d(40, 60, 3, rng=rng()), 540),  # PyTorch counts the second axis here too
    ],
)
def test_layers_start_uniform_within_one_over_root_fan_in(layer, fan_in):
    layer = layer()
    bound = 1 / math.sqrt(fan_in)
    for p in (layer.weight, layer.bias):
        assert p.dtype == np.float32
        assert 0.9 * bound < np.abs(p.data).max() <= bound * (1 + 1e-6)
    variance = layer.weight.data.astype(np.float64).var()
    assert abs(variance / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / layer.weight.size)


def test_a_layer_without_inputs_starts_with_a_bias_of_zeros():
    layer = nn.Linear(0, 5, rng=rng())
    np.testing.assert_array_equal(layer(np.zeros((2, 0), np.float32)).data, np.zeros((2, 5)))


def test_embeddings_start_standard_normal():
    w = nn.Embedding(1000, 100, rng=rng()).weight.data.astype(np.float64)
    assert abs(w.var() - 1) < 5 * math.sqrt(2 / w.size)


def test_the_same_seed_draws_the_same_weights():
    a, b = nn.Block(8, 2, causal=True, rng=rng()), nn.Block(8, 2, causal=True, rng=rng())
    for name, array in a.state_dict().items():
        np.testing.assert_array_equal(array, b.state_dict()[name])
    assert (a.attn.qkv.weight.data[:8] != a.attn.proj.weight.data).any()


def test_a_weight_can_be_drawn_anew():
    layer = nn.Linear(3, 4, rng=rng())
    layer.weight.data = init.zeros(layer.weight.shape)
    layer.bias.data = init.ones(layer.bias.shape)
    assert ops.sum(layer(np.ones((2, 3), np.float32))).item() == 8


def test_kaiming_mode_is_checked():
    with pytest.raises(ValueError, match="fan_sideways"):
        init.kaiming_normal((2, 2), "fan_sideways", rng=rng())


def test_skipped_parameters_are_zeros_without_draws_or_memory():
    """A model of 4 GB is made in no time; afterwards parameters are drawn again, also after an error."""
    with init.skipped():
        layer = nn.Linear(32_000, 32_000, rng=0)
        assert layer.weight.shape == (32_000, 32_000)
        assert layer.weight.requires_grad
        assert layer.weight.dtype == np.float32
        assert not layer.weight.data[::5000].any()
        generator = rng()
        nn.Conv2d(3, 4, 3, rng=generator)
        assert generator.random() == rng().random()  # nothing was drawn
    with pytest.raises(ValueError, match="groups"), init.skipped():
        nn.GroupNorm(3, 4)
    assert nn.Linear(3, 4, rng=0).weight.data.all()
