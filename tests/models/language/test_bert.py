"""BERT: exact facts. Parity with transformers is in tests/models/huggingface/test_bert.py."""

import math

import numpy as np
import pytest
from golden.formula import filled, wave

from tinygen import Tensor, nn, ops
from tinygen.models.huggingface.bert import shapes
from tinygen.models.language.bert import BERT, BERTBlock, BERTConfig

IDS = np.array([[1, 5, 3, 2, 6], [1, 4, 2, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]])
MASK = IDS != 0
TARGETS = np.array([[-100, 4, -100, -100, 6], [-100, 3, -100, -100, -100]])


def config(**changes):
    sizes = {"vocab_size": 7, "block_size": 6, "layers": 2, "heads": 2, "channels": 8, "hidden": 10}
    return BERTConfig(**{**sizes, "dropout": 0.0, **changes})


def bert(**changes):
    """In float64, with weights that matter."""
    return filled(BERT(config(**changes), rng=0))


def layer_norm(x, weight, bias, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def weights(module):
    return {name: p.data for name, p in module.named_parameters()}


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, x, eps=1e-12):
    return layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], eps)


def block_by_hand(w, x, mask, heads, eps=1e-12):
    """One head at a time, one text at a time."""
    d = x.shape[-1] // heads
    q, k, v = np.split(linear(w, "attn.qkv", x), 3, axis=-1)
    seen = np.zeros_like(x)
    for b in range(len(x)):
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            scores = q[b, :, part] @ k[b, mask[b], part].T / np.sqrt(d)
            seen[b, :, part] = softmax(scores) @ v[b, mask[b], part]
    x = norm(w, "norm1", x + linear(w, "attn.proj", seen), eps)
    return norm(w, "norm2", x + linear(w, "proj", gelu(linear(w, "fc", x))), eps)


def test_block_by_hand():
    block = filled(BERTBlock(config(norm_eps=0.1), rng=0))
    x = wave(2, 5, 8, k=3)
    found = block(x, MASK[:, None, None, :]).numpy()
    np.testing.assert_allclose(found, block_by_hand(weights(block), x, MASK, 2, 0.1), rtol=1e-12, atol=1e-12)


def test_dropout_is_on_the_embeddings_and_both_branches(monkeypatch):
    """Where it lets nothing pass, only the norms of the stream are left."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda _, x: x * 0)
    model = bert()
    block, x = model.h[0], wave(2, 5, 8, k=3)
    np.testing.assert_array_equal(block(x, None).numpy(), block.norm2(block.norm1(x)).numpy())
    features = model.features(IDS, SEGMENTS, MASK).numpy()
    assert (features == features[0, 0]).all()


def test_the_head_has_the_gelu_of_the_blocks():
    model, x = bert(gelu="tanh"), wave(2, 5, 8, k=3)
    h = model.transform_norm(ops.gelu(model.transform(x), "tanh"))
    np.testing.assert_array_equal(model.token_logits(x).numpy(), model.lm_head(h).numpy())


def test_loss_by_hand():
    """Both heads, written out; the loss of the tokens is the mean over the three that are hidden."""
    model = bert()
    w = weights(model)
    x = w["wte.weight"][IDS] + w["wpe.weight"][:5] + w["segment.weight"][SEGMENTS]
    x = norm(w, "norm", x)
    for i in range(2):
        inside = {name.removeprefix(f"h.{i}."): a for name, a in w.items() if name.startswith(f"h.{i}.")}
        x = block_by_hand(inside, x, MASK, 2)
    h = norm(w, "transform_norm", gelu(linear(w, "transform", x)))
    p = softmax(h @ w["wte.weight"].T + w["lm_head.bias"])
    masked = -np.log([p[0, 1, 4], p[0, 4, 6], p[1, 1, 3]]).mean()
    order = softmax(linear(w, "next_head", np.tanh(linear(w, "pooler", x[:, 0]))))
    order = -np.log([order[0, 1], order[1, 0]]).mean()
    losses = model.losses(IDS, TARGETS, SEGMENTS, MASK, np.array([1, 0]))
    np.testing.assert_allclose(softmax(model(IDS, SEGMENTS, MASK).numpy())[MASK], p[MASK], rtol=1e-10)
    np.testing.assert_allclose(losses.masked.item(), masked, rtol=1e-12)
    np.testing.assert_allclose(losses.next_sentence.item(), order, rtol=1e-12)
    np.testing.assert_allclose(losses.total.item(), masked + order, rtol=1e-12)
    alone = model.losses(IDS, TARGETS, SEGMENTS, MASK)
    assert alone.total is alone.masked
    assert alone.masked.item() == losses.masked.item()
    assert alone.next_sentence is None


@pytest.mark.parametrize("position", range(5))
def test_reads_both_ways(position):
    """The logits at each position depend on every embedding before and after it, which a GPT's do not."""
    model = bert()
    (model(IDS[:1])[0, position] * wave(7)).sum().backward()
    moved = np.abs(model.wpe.weight.grad).max(axis=1)
    assert (moved[:5] > 1e-6).all()
    assert moved[5] == 0


def test_padding_changes_nothing():
    """A text alone, without padding and mask; and beside a longer text, with any tokens as padding."""
    model = bert()
    alone = model(IDS[1:, :3], SEGMENTS[1:, :3]).numpy()
    padded = model(IDS, SEGMENTS, MASK).numpy()[1:, :3]
    np.testing.assert_allclose(padded, alone, rtol=1e-12)
    others, segments = IDS.copy(), SEGMENTS.copy()
    others[1, 3:], segments[1, 3:] = (6, 3), (1, 0)
    np.testing.assert_array_equal(
        model(others, segments, MASK).numpy()[MASK], model(IDS, SEGMENTS, MASK).numpy()[MASK]
    )
    assert np.abs(model(IDS, SEGMENTS).numpy() - model(IDS, SEGMENTS, MASK).numpy())[1, :3].max() > 1e-3


def test_padding_gets_no_gradient():
    model = bert()
    model.loss(IDS[1:], TARGETS[1:], SEGMENTS[1:], MASK[1:], np.array([1])).backward()
    by_position = np.abs(model.wpe.weight.grad).max(axis=1)
    assert (by_position[3:] == 0).all()
    assert (by_position[:3] > 0).all()


def test_tokens_that_do_not_count_get_no_gradient_from_their_logits():
    model = bert()
    x = model.features(IDS, SEGMENTS, MASK)
    logits = Tensor(model.token_logits(x).numpy(), requires_grad=True)
    ops.cross_entropy(logits, TARGETS).backward()
    assert (logits.grad[TARGETS == -100] == 0).all()
    assert (
        model.losses(IDS, TARGETS, SEGMENTS, MASK).masked.item() == ops.cross_entropy(logits, TARGETS).item()
    )


def test_the_head_is_tied_and_the_start_is_uniform():
    """At the start the logits are small: the loss is about ln V, and ln 2 for the sentences."""
    model = BERT(config(vocab_size=50), rng=0)
    assert model.lm_head.weight is model.wte.weight
    losses = model.losses(IDS, TARGETS, SEGMENTS, MASK, np.array([1, 0]))
    assert abs(losses.masked.item() - np.log(50)) < 0.2
    assert abs(losses.next_sentence.item() - np.log(2)) < 0.05
    for name, p in model.named_parameters():
        if p.ndim == 2:
            assert 0.015 < p.data.std() < 0.025, name
        else:
            assert (p.data == (0.0 if name.endswith("bias") else 1.0)).all(), name


def test_base_has_the_parameters_of_the_paper():
    """110 million, section 3; counted from the shapes, without making them."""
    base = vars(BERTConfig())
    count = sum(len(parts) * math.prod(shape) for parts, shape in shapes(base).values())
    assert count == 110_106_428
    large = {**base, "layers": 24, "heads": 16, "channels": 1024, "hidden": 4096}
    assert round(sum(len(p) * math.prod(s) for p, s in shapes(large).values()) / 1e6) == 336


def test_errors():
    model = bert(next_sentence=False)
    with pytest.raises(ValueError, match=r"ids have shape \(5,\): they must be \(B, T\)"):
        model(IDS[0])
    with pytest.raises(ValueError, match=r"segments have shape \(2, 4\), ids \(2, 5\)"):
        model(IDS, SEGMENTS[:, :4])
    with pytest.raises(ValueError, match=r"mask have shape \(1, 5\), ids \(2, 5\)"):
        model(IDS, SEGMENTS, MASK[:1])
    with pytest.raises(TypeError, match="bools are needed"):
        model(IDS, SEGMENTS, MASK.astype(int))
    with pytest.raises(ValueError, match="7 tokens are more than block_size=6"):
        model(np.ones((1, 7), int))
    with pytest.raises(IndexError):
        model(IDS + 7)
    with pytest.raises(IndexError):
        model(IDS, SEGMENTS + 2)
    with pytest.raises(ValueError, match="no next-sentence head"):
        model.loss(IDS, TARGETS, random_next=np.array([0, 1]))
    with pytest.raises(ValueError, match="nothing to average"):
        model.loss(IDS, np.full_like(IDS, -100))
