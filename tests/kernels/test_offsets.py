"""Softmax and related functions for entries with a large common offset, or with infinities, in every
implementation.

softmax(x + c) = softmax(x) for every c. Here x + c is exact in float32, so that the implementation causes
every difference from the float64 result for x. If it adds the maximum and the logarithm of the sum first,
as in x - (max x + log Σ exp(x - max x)), no digits are left at c = 1e8.
"""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, ops
from tinygen.kernels import registry

OFFSETS = (0.0, 1e4, -1e4, 1e8, -1e8)
STEP = 8.0  # between neighbors in float32 near 1e8
FLOORS = ("off", "numpy", "auto")


@pytest.fixture(autouse=True, scope="module")
def at_every_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "LEAST", 0)
        patch.setattr(registry, "PRODUCTS", 0)
        yield


def rows() -> np.ndarray:
    """(5, 7): equal entries, neighbors, and entries far apart, multiples of STEP."""
    rng = np.random.default_rng(0)
    return np.concatenate([np.zeros((1, 7)), STEP * rng.integers(-2, 3, (4, 7))])


def reference(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log softmax and softmax of small x, in float64."""
    logp = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    return logp, np.exp(logp)


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("offset", OFFSETS)
class TestOffsets:
    def test_softmax(self, floor, offset):
        (_, p), g = reference(rows()), np.random.default_rng(1).standard_normal((5, 7))
        x = Tensor((rows() + offset).astype(np.float32), requires_grad=True)
        with tinygen.kernels(floor):
            y = ops.softmax(x)
            y.backward(g)
        np.testing.assert_allclose(y.numpy(), p, atol=1e-6)
        np.testing.assert_allclose(x.grad, p * (g - (g * p).sum(axis=-1, keepdims=True)), atol=3e-6)

    def test_log_softmax(self, floor, offset):
        (logp, p), g = reference(rows()), np.random.default_rng(1).standard_normal((5, 7))
        x = Tensor((rows() + offset).astype(np.float32), requires_grad=True)
        with tinygen.kernels(floor):
            y = ops.log_softmax(x)
            y.backward(g)
        np.testing.assert_allclose(y.numpy(), logp, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(x.grad, g - p * g.sum(axis=-1, keepdims=True), atol=3e-6)

    def test_logsumexp(self, floor, offset):
        """Its value is as large as the offset; the gradient, softmax, must not feel that."""
        logp, p = reference(rows())
        x = Tensor((rows() + offset).astype(np.float32), requires_grad=True)
        with tinygen.kernels(floor):
            y = ops.logsumexp(x, axis=-1)
            y.backward(np.arange(5.0))
        np.testing.assert_allclose(y.numpy(), offset + (rows() - logp)[:, 0], rtol=2e-7)
        np.testing.assert_allclose(x.grad, np.arange(5.0)[:, None] * p, atol=2e-6)

    @pytest.mark.parametrize("smoothing", [0.0, 0.25])
    def test_cross_entropy(self, floor, offset, smoothing):
        (logp, p), targets = reference(rows()), np.array([0, 1, 2, -100, 6])
        q = np.where((targets >= 0)[:, None], (1 - smoothing) * (np.arange(7) == targets[:, None]), 0.0)
        q += (targets >= 0)[:, None] * smoothing / 7
        x = Tensor((rows() + offset).astype(np.float32), requires_grad=True)
        with tinygen.kernels(floor):
            loss = ops.cross_entropy(x, targets, label_smoothing=smoothing)
            loss.backward()
        np.testing.assert_allclose(loss.item(), -(q * logp).sum() / 4, rtol=2e-6)
        np.testing.assert_allclose(x.grad, (p * (targets >= 0)[:, None] - q) / 4, atol=1e-6)


def attention_inputs(heads: int = 2, positions: int = 5) -> list[np.ndarray]:
    """q, k, v (B, H, T, 4) whose scores are multiples of 1/8 near 2^19 in each row, exact in float32."""
    rng = np.random.default_rng(2)
    q, k = rng.integers(-3, 4, (2, 1, heads, positions, 4)) / 2.0
    q[..., 0] = k[..., 0] = 2.0**10  # q·k / sqrt(4) is 2^19 and the rest
    return [q, k, rng.integers(-4, 5, (1, heads, positions, 4)) / 4.0]


def attention_reference(q: np.ndarray, k: np.ndarray, v: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
    """The value and the gradients by q, k, v of causal attention, in float64."""
    scores = q[..., 1:] @ k[..., 1:].swapaxes(-1, -2) / 2  # softmax does not feel what all share
    p = np.exp(np.where(np.tri(q.shape[-2], dtype=bool), scores, -np.inf))
    p /= p.sum(axis=-1, keepdims=True)
    dp = g @ v.swapaxes(-1, -2)
    dscores = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / 2
    return [p @ v, dscores @ k, dscores.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g]


@pytest.mark.parametrize("floor", FLOORS)
def test_attention_of_large_scores(floor):
    arrays = attention_inputs()
    g = np.random.default_rng(3).standard_normal(arrays[2].shape)
    tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    with tinygen.kernels(floor):
        y = ops.attention(*tensors, causal=True)
        y.backward(g)
    for found, expected in zip(
        [y.numpy(), *(t.grad for t in tensors)], attention_reference(*arrays, g), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=2e-7 * 2**10)  # q and k hold numbers of 2^10


# -- infinities --------------------------------------------------------------------------------------

INFINITE = np.array([[np.inf, 0, 1], [np.inf, np.inf, 0], [-np.inf] * 3, [0, -np.inf, 0]], np.float32)


@pytest.mark.parametrize("floor", FLOORS)
def test_infinite_entries(floor):
    """-inf has probability 0, a row of -inf has none at all, and +inf has no softmax: NaN, as in PyTorch."""
    nan, inf, half = np.nan, np.inf, np.log(0.5)
    with tinygen.kernels(floor), np.errstate(invalid="ignore"):
        p = ops.softmax(Tensor(INFINITE)).numpy()
        logp = ops.log_softmax(Tensor(INFINITE)).numpy()
        losses = [
            ops.cross_entropy(Tensor(INFINITE), np.full(4, i), reduction="none").numpy() for i in (0, 1)
        ]
    np.testing.assert_array_equal(p, [[nan] * 3, [nan] * 3, [0] * 3, [0.5, 0, 0.5]])
    np.testing.assert_allclose(logp, [[nan] * 3, [nan] * 3, [-inf] * 3, [half, -inf, half]], rtol=1e-6)
    np.testing.assert_allclose(losses, [[nan, nan, inf, -half], [nan, nan, inf, inf]], rtol=1e-6)
