"""LoRA: nothing at the start, the same merged as beside, and no more trained or saved than the adapters."""

import numpy as np
import pytest
from policies import gpt

from tinygen import nn, no_grad
from tinygen.align.dpo import dpo_loss, margins, response_log_probs
from tinygen.align.grpo import grpo_loss
from tinygen.align.lora import (
    LoRALinear,
    adapters,
    add_lora,
    load_lora_state,
    lora_state,
    merge,
    unmerge,
    without_adapters,
)
from tinygen.align.ppo import policy_loss
from tinygen.align.reinforce import reinforce_loss
from tinygen.align.rollouts import log_probs, response_mask, rollout
from tinygen.align.sft import sft_loss
from tinygen.models.vae import VAE
from tinygen.optim import AdamW

X = np.random.default_rng(0).integers(0, 4, (5, 7))
MASK = response_mask(X, 2)


def adapted(seed=0, dtype=np.float64, **changes):
    model = gpt(dtype=dtype)
    add_lora(model, rank=2, alpha=4, rng=np.random.default_rng(seed), **changes)
    return model


def trained(steps=5):
    """An adapted model after some steps on random texts, and the untouched model."""
    model = adapted()
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        sft_loss(model, X, MASK).backward()
        optimizer.step()
    return model, gpt()


def test_the_identity_at_the_start():
    """To the bit, in the output and in the gradient that reaches further down."""
    layer = nn.Linear(6, 3, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((4, 6), dtype=np.float32)
    before = layer(x).numpy()
    lora = LoRALinear(layer, 2, 4.0, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(lora(x).numpy(), before)
    np.testing.assert_array_equal(adapted()(X)[0].numpy(), gpt()(X)[0].numpy())
    assert np.abs(lora.lora_a.numpy()).max() > 0  # or nothing would ever be learned
    lora(x).sum().backward()
    assert np.abs(lora.lora_b.grad).max() > 0
    assert layer.weight.grad is None


def test_the_definition():
    layer = nn.Linear(6, 3, rng=np.random.default_rng(0)).astype(np.float64)
    lora = LoRALinear(layer, 2, 5.0, rng=np.random.default_rng(2))
    lora.lora_b.data = np.random.default_rng(3).standard_normal((3, 2))
    x = np.random.default_rng(1).standard_normal((4, 6))
    w = layer.weight.numpy() + 5.0 / 2 * lora.lora_b.numpy() @ lora.lora_a.numpy()
    np.testing.assert_allclose(lora(x).numpy(), x @ w.T + layer.bias.numpy(), rtol=1e-12)


def test_merged_is_unmerged():
    model, _ = trained()
    beside = model(X)[0].numpy()
    weights = {name: x for name, x in model.state_dict().items() if "base" in name}
    merge(model)
    np.testing.assert_allclose(model(X)[0].numpy(), beside, rtol=1e-9, atol=1e-12)
    merge(model)  # a second time changes nothing
    np.testing.assert_allclose(model(X)[0].numpy(), beside, rtol=1e-9, atol=1e-12)
    unmerge(model)
    np.testing.assert_allclose(model(X)[0].numpy(), beside, rtol=1e-9, atol=1e-12)
    for name, x in weights.items():
        np.testing.assert_allclose(model.state_dict()[name], x, rtol=1e-12, atol=1e-14)


def test_only_the_adapters_are_trained():
    model, untouched = trained()
    frozen = {name.replace(".base.", "."): x for name, x in model.state_dict().items() if "lora" not in name}
    for name, x in untouched.state_dict().items():
        np.testing.assert_array_equal(frozen[name], x, err_msg=name)
    assert np.abs(model(X)[0].numpy() - untouched(X)[0].numpy()).max() > 0.01
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == set(lora_state(model))


def test_the_number_of_parameters():
    """rank·(in + out) for each of the four matrices of a block: qkv, proj, fc, proj of width 8."""
    model = adapted()
    assert sum(x.size for x in lora_state(model).values()) == 2 * ((8 + 24) + (8 + 8) + (8 + 32) + (32 + 8))
    assert len(adapters(model)) == 4


def test_targets_and_tied_weights():
    rng = np.random.default_rng(0)
    assert add_lora(gpt(), 1, 1, targets=("qkv",), rng=rng) == ["h.0.attn.qkv"]
    assert "lm_head" not in add_lora(gpt(), 1, 1, rng=rng)  # its weight is the embedding's
    assert "lm_head" in add_lora(gpt(tie_weights=False), 1, 1, rng=rng)
    with pytest.raises(ValueError, match="no Linear with a weight of its own"):
        add_lora(gpt(), 1, 1, targets=("lm_head",), rng=rng)
    with pytest.raises(ValueError, match="rank must be from 1 to 8, got 9"):
        add_lora(gpt(), 9, 1, rng=rng)


def test_saved_and_loaded():
    model, _ = trained()
    state = lora_state(model)
    assert all(name.endswith(("lora_a", "lora_b")) for name in state)
    other = adapted(seed=1)
    load_lora_state(other, state)
    np.testing.assert_array_equal(other(X)[0].numpy(), model(X)[0].numpy())
    with pytest.raises(ValueError, match="lacks adapters"):
        load_lora_state(other, dict(list(state.items())[1:]))
    with pytest.raises(ValueError, match="unexpected: elsewhere"):
        load_lora_state(other, {**state, "elsewhere.lora_a": np.zeros(2)})
    merge(other)
    with pytest.raises(ValueError, match="unmerge"):
        load_lora_state(other, state)


@pytest.mark.parametrize("merged", [False, True])
def test_without_adapters_it_is_the_reference(merged):
    model, untouched = trained()
    if merged:
        merge(model)
    with_them = model(X)[0].numpy()
    with no_grad(), without_adapters(model):
        ref = log_probs(model, X).numpy()
    np.testing.assert_allclose(ref, log_probs(untouched, X).numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model(X)[0].numpy(), with_them, rtol=1e-9, atol=1e-12)
    assert all(adapter.merged == merged and adapter.enabled for adapter in adapters(model))


def test_under_every_method():
    """The reference is the model without its adapters, so DPO starts at ln 2, PPO and GRPO at ratio 1; and
    all gradients are the adapters'."""
    model = adapted()
    tokens, mask = rollout(model, X[:, :2], 5, np.random.default_rng(0), end=0)
    mask = mask[:, 1:]
    with no_grad():
        old = log_probs(model, tokens).numpy()
        with without_adapters(model):
            ref = log_probs(model, tokens).numpy()
    np.testing.assert_array_equal(ref, old)
    whole = response_log_probs(ref, mask)
    advantages = np.arange(5.0) - 2

    def dpo():
        new = response_log_probs(log_probs(model, tokens), mask)
        return dpo_loss(margins(new[:2], new[2:4], whole[:2], whole[2:4]))

    losses = {
        "REINFORCE": lambda: reinforce_loss(log_probs(model, tokens), advantages, mask),
        "PPO": lambda: policy_loss(log_probs(model, tokens), old, np.outer(advantages, np.ones(6)), mask),
        "GRPO": lambda: grpo_loss(log_probs(model, tokens), old, ref, advantages, mask),
        "DPO": dpo,
    }
    for name, loss in losses.items():
        model.zero_grad()
        loss().backward()
        moved = {n for n, p in model.named_parameters() if p.grad is not None}
        assert moved == set(lora_state(model)), name
    assert dpo().item() == pytest.approx(np.log(2), rel=1e-12)


def test_any_module():
    model = VAE(12, 8, 3, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).random((5, 12), dtype=np.float32)
    before = model(x, np.random.default_rng(2)).item()
    names = add_lora(model, 1, 1, rng=np.random.default_rng(3))
    assert names == ["encoder.fc", "encoder.mean", "encoder.logvar", "decoder.fc", "decoder.out"]
    loss = model(x, np.random.default_rng(2))
    assert loss.item() == before
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(lora_state(model))


def test_float32_stays():
    model = adapted(dtype=np.float32)
    assert all(x.dtype == np.float32 for x in lora_state(model).values())
    assert model(X)[0].dtype == np.float32
    merge(model)
    assert all(p.dtype == np.float32 for p in model.parameters())


def test_peft():
    """The same output, gradients, merged weight and reference as Hugging Face's peft, in float64."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    x = np.random.default_rng(1).standard_normal((5, 6))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 3)).double()
    ours = nn.Sequential(nn.Linear(6, 3, rng=np.random.default_rng(0)).astype(np.float64))
    with torch.no_grad():
        theirs[0].weight.copy_(torch.tensor(ours[0].weight.numpy()))
        theirs[0].bias.copy_(torch.tensor(ours[0].bias.numpy()))
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=2, lora_alpha=5, target_modules=["0"])).double()
    add_lora(ours, rank=2, alpha=5, rng=np.random.default_rng(0))
    lora = ours[0]
    lora.lora_b.data = np.random.default_rng(2).standard_normal((3, 2))
    a, b = (next(p for n, p in theirs.named_parameters() if f"lora_{k}" in n) for k in "AB")
    with torch.no_grad():
        a.copy_(torch.tensor(lora.lora_a.numpy()))
        b.copy_(torch.tensor(lora.lora_b.numpy()))
    y, wanted = ours(x), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.numpy(), wanted.detach().numpy(), rtol=1e-12)
    np.tanh(y).sum().backward()
    wanted.tanh().sum().backward()
    np.testing.assert_allclose(lora.lora_a.grad, a.grad.numpy(), rtol=1e-10)
    np.testing.assert_allclose(lora.lora_b.grad, b.grad.numpy(), rtol=1e-10)
    assert {n for n, p in theirs.named_parameters() if p.requires_grad} == {
        n for n, p in theirs.named_parameters() if "lora" in n
    }
    with theirs.disable_adapter(), without_adapters(ours):
        np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12)
    merge(ours)
    merged = theirs.merge_and_unload()
    np.testing.assert_allclose(lora.base.weight.numpy(), merged[0].weight.detach().numpy(), rtol=1e-12)
