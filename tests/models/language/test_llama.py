"""Llama: exact facts. Parity with transformers is in tests/models/huggingface/test_llama.py."""

import math
from itertools import islice

import numpy as np
import pytest

from tinygen import nn, no_grad
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.optim import AdamW


def small(seed=0, **changes):
    sizes = {"vocab_size": 11, "block_size": 8, "layers": 2, "heads": 4, "kv_heads": 2, "channels": 16}
    return Llama(LlamaConfig(**{**sizes, **changes}), rng=seed)


def sharp(**changes):
    """Weights so large that greedy choices are clear."""
    model, rng = small(**changes), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.5 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def tokens(*shape, vocab_size=11, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def test_initial_loss_is_that_of_a_uniform_guess():
    model = small(vocab_size=65, block_size=64, channels=64)
    _, loss = model(tokens(4, 64, vocab_size=65), tokens(4, 64, vocab_size=65, seed=1))
    assert abs(loss.item() - math.log(65)) < 0.05


def test_initial_weights():
    model = small(channels=128, layers=2, vocab_size=65, qkv_bias=True, qk_norm=True)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            expected = 0.02 / 2 if name.endswith(("proj.weight", "down.weight")) else 0.02
            assert abs(p.data.std() / expected - 1) < 0.05, name
            assert abs(p.data.mean()) < 6 * expected / math.sqrt(p.size), name
        else:
            np.testing.assert_array_equal(p.data, 1.0 if name.endswith("weight") else 0.0)


def test_parameter_counts_of_published_models():
    """From the shapes in their config.json; the sums are those that their authors name."""

    def count(vocab, c, layers, heads, kv_heads, hidden, tied, d=None, qkv_bias=False, qk_norm=False):
        d = d or c // heads
        block = 2 * c * heads * d + 2 * c * kv_heads * d + 3 * c * hidden + 2 * c
        block += (heads + 2 * kv_heads) * d * qkv_bias + 2 * d * qk_norm
        return vocab * c * (1 if tied else 2) + layers * block + c

    assert count(49152, 576, 30, 9, 3, 1536, True) == 134_515_008  # SmolLM2-135M
    assert count(32000, 4096, 32, 32, 32, 11008, False) == 6_738_415_616  # Llama 2, 7 billion
    assert count(151936, 896, 24, 14, 2, 4864, True, qkv_bias=True) == 494_032_768  # Qwen2.5-0.5B
    assert count(151936, 1024, 28, 16, 8, 3072, True, 128, qk_norm=True) == 596_049_920  # Qwen3-0.6B
    for tied in (False, True):
        for given in ({}, {"qkv_bias": True}, {"qk_norm": True}):
            model = small(tie_weights=tied, head_channels=6, hidden=24, **given)
            assert model.num_parameters() == count(11, 16, 2, 4, 2, 24, tied, 6, **given)


def test_the_config_of_a_model_is_complete():
    c = Llama(LlamaConfig(5, channels=48, heads=6, layers=1), rng=0).config
    assert (c.kv_heads, c.head_channels, c.hidden) == (6, 8, 128)
    assert c.complete() == c


def test_tied_weights_get_the_gradient_of_both_uses():
    tied, untied = small(tie_weights=True), small()
    untied.load_state_dict({**tied.state_dict(), "lm_head.weight": tied.wte.weight.data})
    for model in (tied, untied):
        model(tokens(3, 8), tokens(3, 8, seed=1))[1].backward()
    both = untied.wte.weight.grad + untied.lm_head.weight.grad
    np.testing.assert_allclose(tied.wte.weight.grad, both, atol=1e-7)


def test_the_future_does_not_reach_the_past():
    model, idx = small(), tokens(2, 8)
    changed = idx.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = model(idx)[0].numpy(), model(changed)[0].numpy()
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=-1).all()


def test_no_gradient_reaches_the_future():
    """Of logits at position t by the embedding of each token, all of them different."""
    model, idx = small(vocab_size=8), np.arange(8)[None]
    for t in range(8):
        model.zero_grad()
        model(idx)[0][:, t].sum().backward()
        reached = (model.wte.weight.grad != 0).any(axis=1)
        np.testing.assert_array_equal(reached, np.arange(8) <= t)


def test_cached_logits_equal_the_full_pass():
    model, idx = sharp(qk_norm=True).eval(), tokens(2, 8)
    with no_grad():
        full = model.features(idx).numpy()
        for cuts in ([8], [3, 8], list(range(1, 9))):
            caches = [nn.KVCache(8) for _ in model.h]
            parts = [
                model.features(idx[:, a:b], caches).numpy() for a, b in zip([0, *cuts], cuts, strict=False)
            ]
            np.testing.assert_allclose(np.concatenate(parts, axis=1), full, atol=1e-5)


def test_generation_is_that_of_the_full_pass():
    """Also beyond block_size, where it is of the last 8 tokens."""
    model, idx = sharp(), tokens(3, 2)
    found = model.sample(idx, 12, temperature=0, rng=0)
    with no_grad():
        for _ in range(12):
            logits = model(idx[:, -8:])[0].numpy()
            idx = np.concatenate([idx, logits[:, -1].argmax(axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(found, idx)


def test_generation_repeats_with_the_seed_and_leaves_the_mode_alone():
    model = small(dropout=0.5)
    first = model.sample(tokens(1, 2), 9, top_k=4, rng=5)
    np.testing.assert_array_equal(first, model.sample(tokens(1, 2), 9, top_k=4, rng=5))
    stream = list(islice(model.sample_steps(tokens(1, 2), top_k=4, rng=5), 9))
    np.testing.assert_array_equal(np.stack(stream, axis=1), first[:, 2:])
    assert model.training


def test_targets_of_minus_one_do_not_count():
    model, x, y = small(), tokens(2, 8), tokens(2, 8, seed=1)
    y[:, :5] = -1
    logits, loss = model(x, y)
    z = logits.numpy().astype(np.float64)
    logp = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(logp[:, 5:], y[:, 5:, None], axis=-1)
    assert abs(loss.item() + picked.mean()) < 1e-6


def test_it_learns():
    """A text of period 11, by heart."""
    model = small(channels=32)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    text = np.arange(40) % 11
    batch = text[np.arange(16)[:, None] + np.arange(9)]
    for _ in range(30):
        _, loss = model(batch[:, :-1], batch[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    np.testing.assert_array_equal(model.sample(text[None, :3], 9, temperature=0, rng=0)[0], text[:12])


def test_errors():
    with pytest.raises(ValueError, match=r"9 tokens are more than block_size=8: crop the context"):
        small()(tokens(1, 9))
    with pytest.raises(IndexError):
        small()(np.array([[11]]))
    with pytest.raises(ValueError, match="16 channels cannot be split into 3 equal heads"):
        small(heads=3)
    with pytest.raises(ValueError, match="4 heads cannot share 3 heads"):
        small(kv_heads=3)
