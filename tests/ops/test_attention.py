"""Attention: who sees whom, limits, and symmetry."""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, ops

rng = np.random.default_rng(0)
Q, K, V = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 5))


@pytest.fixture(params=["off", "auto"], autouse=True)
def kernels(request, at_every_size):
    with tinygen.kernels(request.param):
        yield


def test_no_gradient_reaches_the_future():
    """The exact test of a causal mask: query t depends on keys and values up to t, and on no later ones."""
    for t in range(4):
        q, k, v = (Tensor(x.astype(np.float32), requires_grad=True) for x in (Q, K, V))
        ops.attention(q, k, v, causal=True)[:, t].sum().backward()
        for x in (k, v):
            assert not x.grad[:, t + 1 :].any()
            assert (x.grad[:, : t + 1] != 0).any() or t == 0
        assert not q.grad[:, :t].any()
        assert not q.grad[:, t + 1 :].any()


def test_causal_attention_with_a_cache():
    """The last queries alone give what they give among all."""
    full = ops.attention(Q, K, V, causal=True)
    for n in range(1, 5):
        np.testing.assert_allclose(ops.attention(Q[:, -n:], K, V, causal=True), full[:, -n:], rtol=1e-12)


def test_more_queries_than_keys():
    """The first queries then see nothing, and get 0, without NaN forward or backward."""
    q = Tensor(Q[:, :, :], requires_grad=True)
    k, v = (Tensor(x[:, :2], requires_grad=True) for x in (K, V))
    y = ops.attention(q, k, v, causal=True)
    assert not y.numpy()[:, :2].any()
    np.testing.assert_allclose(y.numpy()[:, 2], V[:, 0])  # only the first key
    y.sum().backward()
    assert all(np.isfinite(x.grad).all() for x in (q, k, v))
    assert not q.grad[:, :2].any()


def test_a_query_that_may_look_nowhere():
    mask = np.ones((4, 4), bool)
    mask[1] = False
    q, k, v = (Tensor(x, requires_grad=True) for x in (Q, K, V))
    y = ops.attention(q, k, v, mask)
    assert not y.numpy()[:, 1].any()
    y.sum().backward()
    assert not q.grad[:, 1].any()
    assert np.isfinite(k.grad).all()


def test_masks_of_all_kinds():
    mask = rng.random((4, 4)) < 0.6
    mask[:, 0] = True
    expected = ops.attention(Q, K, V, mask)
    both = ops.attention(Q, K, V, mask, causal=True)
    np.testing.assert_allclose(ops.attention(Q, K, V, np.stack([mask, mask])), expected)
    np.testing.assert_allclose(ops.attention(Tensor(Q), K, V, mask=Tensor(mask)).numpy(), expected)
    np.testing.assert_allclose(both, ops.attention(Q, K, V, mask & np.tri(4, dtype=bool)))
    np.testing.assert_allclose(
        ops.attention(Q, K, V, np.tri(4, dtype=bool)), ops.attention(Q, K, V, causal=True)
    )


def test_limits():
    np.testing.assert_allclose(
        ops.attention(0 * Q, K, V), np.broadcast_to(V.mean(axis=1, keepdims=True), V.shape)
    )
    hard = ops.attention(1e6 * K, K / (K * K).sum(axis=-1, keepdims=True) ** 0.5, V)
    best = (K @ (K / (K * K).sum(axis=-1, keepdims=True) ** 0.5).swapaxes(-1, -2)).argmax(axis=-1)
    np.testing.assert_allclose(hard, np.take_along_axis(V, best[..., None], 1))


def test_the_order_of_keys_does_not_matter():
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(ops.attention(Q, K[:, order], V[:, order]), ops.attention(Q, K, V))


def test_dropout_of_weights():
    kept = np.ones((2, 4, 4))
    found = ops.attention(Q, K, kept, dropout=0.5, seed=3)
    plain = ops.attention(Q, K, kept)
    np.testing.assert_allclose(plain, 1.0)  # the weights sum to one,
    assert (np.abs(found - 1.0) > 1e-3).any()  # but not what dropout leaves of them
    np.testing.assert_array_equal(found, ops.attention(Q, K, kept, dropout=0.5, seed=3))
    assert (found != ops.attention(Q, K, kept, dropout=0.5, seed=4)).any()
    unseeded = ops.attention(Q, K, kept, dropout=0.5)
    np.testing.assert_array_equal(unseeded, ops.attention(Q, K, kept, dropout=0.5, seed=0))
    mean = np.mean([ops.attention(Q, K, V, dropout=0.5, seed=s) for s in range(2000)], axis=0)
    np.testing.assert_allclose(mean, ops.attention(Q, K, V), atol=0.15)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"attention\(float64 \(2, 4, 3\), float64 \(2, 4, 5\)"):
        ops.attention(Tensor(Q), Tensor(V), V)


@pytest.mark.parametrize("of", [np.asarray, Tensor, np.ndarray.tolist])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
def test_a_mask_that_is_not_of_bools_is_refused(of, dtype):
    """Of 0 where a query may look and -inf where not, bool() says the opposite."""
    seen = np.tri(4, dtype=bool)
    mask = np.where(seen, 0, -np.inf).astype(dtype) if np.dtype(dtype).kind == "f" else seen.astype(dtype)
    for q in (Q, Q.astype(np.float32), Tensor(Q, requires_grad=True)):
        with pytest.raises(TypeError, match=r"bools are needed, .* take mask == 0; .* mask\.astype\(bool\)"):
            ops.attention(q, K.astype(q.dtype), V.astype(q.dtype), of(mask))
    np.testing.assert_array_equal(ops.attention(Q, K, V, seen), ops.attention(Q, K, V, causal=True))


def test_a_probability_of_dropping_everything_is_refused():
    for p in (1.0, 1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
            ops.attention(Tensor(Q), K, V, dropout=p)
