"""GPT: exact facts, then parity with the same model in torch from the same weights."""

import math
from itertools import islice

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, nn, no_grad
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, decay_groups


def small(seed=0, **changes):
    config = GPTConfig(
        **{"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8, **changes}
    )
    return GPT(config, rng=np.random.default_rng(seed))


def tokens(*shape, vocab_size=11, seed=0):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


def test_initial_loss_is_that_of_a_uniform_guess():
    model = small(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128)
    _, loss = model(tokens(12, 64, vocab_size=65), tokens(12, 64, vocab_size=65, seed=1))
    assert abs(loss.item() - math.log(65)) < 0.05


def test_initial_weights():
    model = small(n_embd=128, n_layer=4, vocab_size=65, block_size=64)
    for name, p in model.named_parameters():
        if p.ndim == 2:  # 8,192 to 65,536 draws: 6 sigma of their standard deviation is below 5 %
            expected = 0.02 / math.sqrt(8) if name.endswith("proj.weight") else 0.02
            assert abs(p.data.std() / expected - 1) < 0.05, name
            assert abs(p.data.mean()) < 6 * expected / math.sqrt(p.size), name
        else:
            np.testing.assert_array_equal(p.data, 1.0 if name.endswith("weight") else 0.0)


def test_parameter_count_of_gpt2_small():
    """124,439,808: what GPT-2's smallest model has, its head tied to the embedding."""
    c, layers, v, t = 768, 12, 50257, 1024
    per_block = 2 * 2 * c + (3 * c * c + 3 * c) + (c * c + c) + (4 * c * c + 4 * c) + (4 * c * c + c)
    assert v * c + t * c + layers * per_block + 2 * c == 124_439_808
    model = small(n_embd=24, n_layer=3, vocab_size=11, block_size=8)
    c, layers, v, t = 24, 3, 11, 8
    per_block = 2 * 2 * c + (3 * c * c + 3 * c) + (c * c + c) + (4 * c * c + 4 * c) + (4 * c * c + c)
    assert model.num_parameters() == v * c + t * c + layers * per_block + 2 * c


def test_tied_weights_get_the_gradient_of_both_uses():
    tied, untied = small(), small(tie_weights=False)
    state = tied.state_dict()
    untied.load_state_dict(state)
    x, y = tokens(3, 8), tokens(3, 8, seed=1)
    for model in (tied, untied):
        model(x, y)[1].backward()
    both = untied.wte.weight.grad + untied.lm_head.weight.grad
    np.testing.assert_allclose(tied.wte.weight.grad, both, atol=1e-7)
    assert np.abs(untied.lm_head.weight.grad).max() > 1e-3
    assert np.abs(untied.wte.weight.grad).max() > 1e-3


def test_the_future_does_not_reach_the_past():
    model, idx = small(), tokens(2, 8)
    changed = idx.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = model(idx)[0].numpy(), model(changed)[0].numpy()
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=-1).all()


def test_cached_logits_equal_the_full_pass():
    model, idx = small().eval(), tokens(2, 8)
    with no_grad():
        full = model.features(idx).numpy()
        for cuts in ([8], [3, 8], list(range(1, 9))):
            caches = [nn.KVCache(8) for _ in model.h]
            parts = [
                model.features(idx[:, a:b], caches).numpy() for a, b in zip([0, *cuts], cuts, strict=False)
            ]
            # not the same bits: BLAS adds in another order for other numbers of rows
            np.testing.assert_allclose(np.concatenate(parts, axis=1), full, atol=2e-6)


def test_generation_is_that_of_the_full_pass():
    model, rng = small(seed=3), np.random.default_rng
    for p in model.parameters():
        p.data = p.data * 8  # sharp, so that the argmax is not a matter of rounding
    idx = tokens(3, 2)
    found = model.sample(idx, 12, temperature=0, rng=rng(0))
    with no_grad():
        for _ in range(12):
            logits = model(idx[:, -8:])[0].numpy()
            idx = np.concatenate([idx, logits[:, -1].argmax(axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(found, idx)


def test_generation_repeats_with_the_seed_and_leaves_the_mode_alone():
    model = small(dropout=0.5)
    first = model.sample(tokens(1, 2), 9, top_k=4, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(first, model.sample(tokens(1, 2), 9, top_k=4, rng=np.random.default_rng(5)))
    assert first.shape == (1, 11)
    assert model.training
    with pytest.raises(ValueError, match="temperature"):
        model.sample(tokens(1, 2), 1, temperature=-1, rng=np.random.default_rng(0))
    assert model.training


def test_a_stream_is_what_generate_gives():
    model, rng = small(dropout=0.5), np.random.default_rng
    whole = model.sample(tokens(2, 3), 9, 0.7, top_k=4, rng=rng(5))
    stream = model.sample_steps(tokens(2, 3), 0.7, top_k=4, rng=rng(5))
    np.testing.assert_array_equal(np.stack(list(islice(stream, 9)), axis=1), whole[:, 3:])
    np.testing.assert_array_equal(model.sample(tokens(2, 3), 0, rng=rng(5)), tokens(2, 3))


def test_between_two_tokens_of_a_stream_gradients_flow():
    """And the model is in evaluation mode until the stream is closed."""
    model = small(dropout=0.5)
    stream = model.sample_steps(tokens(1, 3), rng=np.random.default_rng(0))
    for _ in range(2):
        next(stream)
        assert not model.training
        assert model(tokens(1, 3))[0].requires_grad
    stream.close()
    assert model.training


def test_the_epsilon_of_every_norm():
    model = small(norm_eps=0.25)
    norms = [m for _, m in model.named_modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 5
    assert all(norm.eps == 0.25 for norm in norms)


def test_targets_of_minus_one_do_not_count():
    model, x, y = small(), tokens(2, 8), tokens(2, 8, seed=1)
    y[:, :5] = -1
    logits, loss = model(x, y)
    logp = tinygen.ops.log_softmax(Tensor(logits.numpy())).numpy()
    picked = np.take_along_axis(logp[:, 5:], y[:, 5:, None], axis=-1)
    assert abs(loss.item() + picked.mean()) < 1e-6


def test_errors():
    model = small()
    with pytest.raises(ValueError, match="9 tokens are more than block_size=8"):
        model(tokens(1, 9))
    with pytest.raises(IndexError, match=r"\[0, 11\); got 11 to 11"):
        model(np.full((1, 3), 11))


def test_flops_per_token():
    model = small()
    weights = model.num_parameters() - 8 * 8
    assert model.flops_per_token() == 6 * weights + 12 * 2 * 8 * 8
    # A look-up is no product: two matrices of the vocabulary are no more work than one that serves twice.
    assert small(tie_weights=False).flops_per_token() == model.flops_per_token()


def test_gradient_of_a_whole_gpt():
    """Every parameter along a random direction, in float64, with weights large enough to matter."""
    model = small(n_layer=2, vocab_size=5, block_size=4, n_embd=4).astype(np.float64)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = p.data + 0.5 * rng.standard_normal(p.shape)
    x, y = tokens(2, 4, vocab_size=5), tokens(2, 4, vocab_size=5, seed=1)
    model(x, y)[1].backward()
    for name, p in model.named_parameters():
        base, direction, h = p.data.copy(), rng.standard_normal(p.shape), 1e-6
        p.data = base + h * direction
        above = model(x, y)[1].item()
        p.data = base - h * direction
        slope = (above - model(x, y)[1].item()) / (2 * h)
        p.data = base
        assert abs(slope - (p.grad * direction).sum()) <= 1e-8 * max(1, abs(slope)), name


# -- parity with torch -----------------------------------------------------------------------------


def torch_logits(torch, state, config, idx):
    """The same GPT written with torch.nn.functional, straight from the weights."""
    f = torch.nn.functional
    c, heads = config.n_embd, config.n_head
    b, t = idx.shape

    def norm(x, name):
        return f.layer_norm(x, (c,), state[f"{name}.weight"], state.get(f"{name}.bias"), 1e-5)

    def linear(x, name):
        return f.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    x = state["wte.weight"][idx] + state["wpe.weight"][:t]
    for i in range(config.n_layer):
        h = linear(norm(x, f"h.{i}.ln1"), f"h.{i}.attn.qkv")
        q, k, v = (part.view(b, t, heads, c // heads).transpose(1, 2) for part in h.split(c, dim=2))
        a = f.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(a.transpose(1, 2).reshape(b, t, c), f"h.{i}.attn.proj")
        h = f.gelu(linear(norm(x, f"h.{i}.ln2"), f"h.{i}.mlp.fc"), approximate=config.gelu)
        x = x + linear(h, f"h.{i}.mlp.proj")
    return f.linear(norm(x, "ln_f"), state["wte.weight"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", ["none", "tanh"])
def test_parity_with_torch(bias, gelu):
    torch = pytest.importorskip("torch")
    changes = {"vocab_size": 65, "block_size": 32, "n_layer": 3, "n_head": 4, "n_embd": 64}
    model = small(**changes, bias=bias, gelu=gelu)
    config = model.config
    names = [name for name, _ in model.named_parameters()]
    state = {n: torch.tensor(p.data.copy(), requires_grad=True) for n, p in model.named_parameters()}
    optimizer = AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))
    decayed = [p for p in state.values() if p.ndim >= 2]
    others = [p for p in state.values() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-8)
    for step in range(5):
        x, y = tokens(4, 32, vocab_size=65, seed=step), tokens(4, 32, vocab_size=65, seed=100 + step)
        logits, loss = model(x, y)
        expected = torch_logits(torch, state, config, torch.tensor(x))
        expected_loss = torch.nn.functional.cross_entropy(expected.flatten(0, 1), torch.tensor(y).flatten())
        assert np.abs(logits.numpy() - expected.detach().numpy()).max() <= 1e-5
        assert abs(loss.item() - expected_loss.item()) <= 1e-5
        optimizer.zero_grad()
        reference.zero_grad()
        loss.backward()
        expected_loss.backward()
        parameters = dict(model.named_parameters())
        for name in names:
            g, e = parameters[name].grad, state[name].grad.numpy()
            assert np.linalg.norm(g - e) <= 1e-4 * np.linalg.norm(e), (step, name)
        optimizer.step()
        reference.step()
    for name in names:
        found, e = parameters[name].data, state[name].detach().numpy()
        if name.endswith("qkv.bias"):  # the keys' bias has no effect: its gradient is rounding, which Adam
            found, e = np.delete(found, np.s_[64:128]), np.delete(e, np.s_[64:128])  # scales up to steps
        assert np.linalg.norm(found - e) <= 1e-4 * np.linalg.norm(e), name
