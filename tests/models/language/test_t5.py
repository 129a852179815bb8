"""T5: buckets of distances by brute force, biases that depend on distances alone, each part by hand."""

import numpy as np
import pytest

from tinygen import Tensor, ops
from tinygen.models.language.t5 import (
    T5,
    RelativeBias,
    T5Attention,
    T5Config,
    T5FeedForward,
    bucket,
    minus_infinity,
)

SMALL = T5Config(11, 2, 2, 3, 8, 4, 12, 8, 20, dropout=0.0)


def bucket_by_search(n, buckets, max_distance):
    """The last bucket whose border is at most n, in whole numbers: border k is m (max_distance / m)^(k / r)
    with r = buckets - m, so n >= border where n^r m^k >= max_distance^k m^r."""
    m = buckets // 2
    r = buckets - m
    if n < m:
        return n
    return max(m + k for k in range(r) if n**r * m**k >= max_distance**k * m**r)


@pytest.mark.parametrize(
    ("buckets", "max_distance"),
    [(32, 128), (16, 128), (5, 37), (7, 20), (4, 9), (8, 64), (10, 37), (32, 256)],
)
def test_buckets_by_brute_force(buckets, max_distance):
    distances = np.arange(3 * max_distance)
    expected = [bucket_by_search(int(n), buckets, max_distance) for n in distances]
    np.testing.assert_array_equal(bucket(-distances, buckets, max_distance, both_ways=False), expected)
    assert not bucket(distances, buckets, max_distance, both_ways=False).any()
    back = bucket(-distances, 2 * buckets, max_distance, both_ways=True)
    np.testing.assert_array_equal(back, expected)
    ahead = bucket(distances, 2 * buckets, max_distance, both_ways=True)
    np.testing.assert_array_equal(ahead[1:], back[1:] + buckets)
    assert ahead[0] == 0


def test_buckets_of_the_published_models():
    """Some by hand, of 32 buckets both ways: 8 = 16/2 exact ones on each side; borders at 8 · 16^(k/8)."""
    found = bucket(np.array([0, -1, 1, -7, -8, -11, -12, -16, -127, -128, 128]), 32, 128, both_ways=True)
    np.testing.assert_array_equal(found, [0, 1, 17, 7, 8, 8, 9, 10, 15, 15, 31])


@pytest.mark.parametrize("both_ways", [True, False])
def test_biases_depend_on_distances_alone(both_ways):
    table = RelativeBias(SMALL, both_ways, rng=0)
    bias = table(9, 9).numpy()[0]  # (H, T, S)
    assert bias.shape == (3, 9, 9)
    np.testing.assert_array_equal(bias[:, 1:, 1:], bias[:, :-1, :-1])
    np.testing.assert_array_equal(table(2, 9).numpy()[0], bias[:, -2:])  # the last queries, as with a cache
    np.testing.assert_array_equal(bias[:, 5, 3], table.table.weight.numpy()[2])  # 2 back


def test_shifting_a_text_changes_nothing_within_it():
    """Padding before a text moves it; the encoder's vectors and the logits stay."""
    model = T5(SMALL, rng=0).astype(np.float64).eval()
    text, target = np.array([[5, 6, 7, 8]]), np.array([[0, 9, 4]])
    moved = np.array([[0, 0, 0, 5, 6, 7, 8]])
    np.testing.assert_allclose(model.memory(moved).numpy()[:, 3:], model.memory(text).numpy(), atol=1e-12)
    np.testing.assert_allclose(model(moved, target).numpy(), model(text, target).numpy(), atol=1e-12)


def test_what_is_hidden_has_the_score_minus_infinity():
    """In the dtype of the stream; what is seen keeps its score."""
    found = minus_infinity(np.array([[True, False]]), Tensor(np.ones(2, np.float32)))
    np.testing.assert_array_equal(found, np.float32([[-np.inf, 0]]))
    assert found.dtype == np.float32


def test_attention_by_hand():
    rng = np.random.default_rng(0)
    attention = T5Attention(SMALL, rng=0).astype(np.float64)
    x, context = rng.standard_normal((2, 5, 8)), rng.standard_normal((2, 4, 8))
    bias = rng.standard_normal((2, 3, 5, 4))
    bias[:, :, :, 3] = -np.inf
    q, k, v, o = (layer.weight.numpy() for layer in (attention.q, attention.k, attention.v, attention.proj))
    heads = []
    for h in range(3):
        rows = slice(4 * h, 4 * h + 4)
        scores = np.exp(x @ q[rows].T @ np.swapaxes(context @ k[rows].T, 1, 2) + bias[:, h])
        heads.append(scores / scores.sum(axis=-1, keepdims=True) @ (context @ v[rows].T))
    expected = np.concatenate(heads, axis=-1) @ o.T
    np.testing.assert_allclose(attention(x, context, bias).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_by_hand(gated):
    x = np.random.default_rng(0).standard_normal((2, 5, 8))
    mlp = T5FeedForward(T5Config(11, channels=8, hidden=12, gated=gated, dropout=0.0), rng=0).astype(
        np.float64
    )
    h = x @ mlp.fc.weight.numpy().T
    if gated:
        h = (
            0.5
            * h
            * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
            * (x @ mlp.up.weight.numpy().T)
        )
    else:
        h = np.maximum(h, 0)
    np.testing.assert_allclose(mlp(x).numpy(), h @ mlp.proj.weight.numpy().T, rtol=1e-12)


def test_the_tied_head_is_the_scaled_embedding():
    """A head of its own that has the embedding, divided by sqrt(C), gives the same logits."""
    tied = T5(SMALL, rng=0).astype(np.float64)
    untied = T5(T5Config(**{**vars(SMALL), "tie_weights": False}), rng=1).astype(np.float64)
    state = tied.state_dict()
    untied.load_state_dict(state | {"lm_head.weight": state["embedding.weight"] / np.sqrt(8)})
    source, target = np.array([[5, 6, 1]]), np.array([[0, 7]])
    np.testing.assert_allclose(untied(source, target).numpy(), tied(source, target).numpy(), rtol=1e-12)


def test_no_layer_has_a_bias_and_norms_take_out_no_mean():
    model = T5(SMALL, rng=0)
    assert not [name for name, _ in model.named_parameters() if name.endswith(".bias")]
    x = np.random.default_rng(0).standard_normal((2, 8)) + 5
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(model.astype(np.float64).encoder_norm(x).numpy(), expected, rtol=1e-12)


def test_the_initial_variances():
    config = T5Config(2000, 1, 1, 4, 64, 25, 300, dropout=0.0, tie_weights=False, gated=True)
    state = T5(config, rng=0).state_dict()
    expected = {
        "embedding.weight": 1,
        "lm_head.weight": 1,
        "encoder.0.attn.q.weight": 1 / (64 * 25),
        "encoder.0.attn.k.weight": 1 / 64,
        "decoder.0.cross.v.weight": 1 / 64,
        "decoder.0.cross.proj.weight": 1 / 100,
        "encoder.0.mlp.fc.weight": 1 / 64,
        "encoder.0.mlp.up.weight": 1 / 64,
        "encoder.0.mlp.proj.weight": 1 / 300,
    }
    for name, variance in expected.items():
        assert state[name].var() / variance == pytest.approx(1, abs=5 * np.sqrt(2 / state[name].size)), name
    assert state["decoder_bias.table.weight"].var() * 64 == pytest.approx(1, abs=5 * np.sqrt(2 / 128))
    assert (state["encoder.0.norm1.weight"] == 1).all()


def test_the_stream_by_hand():
    """The whole model of one layer, from the parts."""
    model = T5(T5Config(11, 1, 1, 2, 8, 4, 12, 8, 20, dropout=0.0), rng=0).astype(np.float64)
    source, target = np.array([[5, 6, 7]]), np.array([[0, 9]])
    e, d = model.encoder[0], model.decoder[0]
    x = model.embedding(source)
    x = x + e.attn(e.norm1(x), None, model.encoder_bias(3, 3))
    memory = model.encoder_norm(x + e.mlp(e.norm2(x)))
    y = model.embedding(target)
    future = np.where(np.tri(2, dtype=bool), 0.0, -np.inf)
    y = y + d.attn(d.norm1(y), None, model.decoder_bias(2, 2) + future)
    y = y + d.cross(d.norm_cross(y), memory, np.zeros((1, 1, 1, 3)))
    y = model.decoder_norm(y + d.mlp(d.norm2(y)))
    expected = ops.linear(y, model.embedding.weight).numpy() / np.sqrt(8)
    np.testing.assert_allclose(model(source, target).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("place", ["embedding", "weights", "hidden", "branch", "end"])
def test_dropout_is_in_each_of_its_places(place):
    """With the dropout of one place alone, the output changes in training."""
    model = T5(T5Config(11, 1, 1, 2, 8, 4, 12, 8, 20, dropout=0.5), rng=0)
    blocks = [*model.encoder, *model.decoder]
    drops = {
        "embedding": [model.drop],
        "end": [model.drop],
        "branch": [block.drop for block in blocks],
        "hidden": [block.mlp.drop for block in blocks],
        "weights": [block.attn.drop for block in blocks] + [model.decoder[0].cross.drop],
    }
    source, target = np.array([[5, 6, 7]]), np.array([[0, 9]])
    plain = model.eval()(source, target).numpy()
    for drop in drops[place]:
        drop.train()
        assert np.abs(model(source, target).numpy() - plain).max() > 1e-3
        drop.eval()
