"""The linear language model: its formula, what it cannot see, and a bigram model that it is exactly."""

import numpy as np
import pytest

from tinygen import ops
from tinygen.data.markov import zipf_source
from tinygen.models.language.linear import LinearLM, window_means


def model(vocab_size=5, context=3, channels=4):
    return LinearLM(vocab_size, context, channels, rng=0).astype(np.float64)


def test_the_formula():
    """softmax(Vᵀ W Σ_t e_t / N), token by token."""
    lm, idx = model(), np.array([[0, 3, 1, 4, 4, 2], [2, 2, 0, 3, 1, 1]])
    W, V = lm.embedding.weight.numpy().T, lm.head.weight.numpy().T
    probs = ops.softmax(lm(idx)).numpy()
    for b, t in np.ndindex(idx.shape):
        window = idx[b, max(0, t - 2) : t + 1]
        logits = V.T @ W @ np.eye(5)[window].sum(axis=0) / len(window)
        p = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(probs[b, t], p, rtol=1e-12)


def test_the_window():
    expected = [[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [0, 1 / 2, 1 / 2, 0], [0, 0, 1 / 2, 1 / 2]]
    np.testing.assert_array_equal(window_means(4, 2), expected)
    np.testing.assert_array_equal(window_means(4, 1), np.eye(4))


def test_the_order_of_the_context_does_not_matter():
    lm = model()
    one, other = (lm(np.array([idx])).numpy()[0, -1] for idx in ([0, 4, 1, 2, 3], [4, 4, 3, 1, 2]))
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_bigram_model_that_is_best():
    """With context 1 and the logits ln p(next | token) of a Markov source, the expected loss is the best loss
    with one token of context, and no direction lowers it: every gradient is 0."""
    source = zipf_source(5, 2, rng=0)
    lm = model(context=1, channels=5)
    lm.embedding.weight.data = np.eye(5)
    lm.head.weight.data = np.log(source.conditional_distribution(1)).T
    pairs = source.block(2)  # (V, V)
    loss = -(ops.log_softmax(lm(np.arange(5)[:, None])[:, 0]) * pairs).sum()
    loss.backward()
    np.testing.assert_allclose(loss.item(), source.best_loss(1), rtol=1e-12)
    for p in lm.parameters():
        np.testing.assert_allclose(p.grad, 0.0, atol=1e-14)


def test_loss_leaves_out_what_does_not_count():
    lm, idx = model(), np.array([[0, 3, 1]])
    log_p = ops.log_softmax(lm(idx)).numpy()
    np.testing.assert_allclose(
        lm.loss(idx, np.array([[2, -1, 4]])).item(), -(log_p[0, 0, 2] + log_p[0, 2, 4]) / 2
    )


def test_it_writes_what_it_predicts():
    """Greedy: each token is the most probable one after the last three, also beyond the context."""
    lm = model()
    [text] = lm.sample([[1, 2]], 8, temperature=0, rng=0)
    for t in range(2, 10):
        assert text[t] == lm(text[None, max(0, t - 3) : t]).numpy()[0, -1].argmax()


def test_no_context_is_refused():
    with pytest.raises(ValueError, match="at least one token, got 0"):
        LinearLM(5, 0, rng=0)
