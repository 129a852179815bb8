"""LoRA: it starts as the identity, merged and unmerged adapters agree, unloading restores the model, and only
adapters are trained."""

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from policies import gpt

from tinygen import Tensor, nn, no_grad, ops
from tinygen.align.dpo import dpo_loss, margins, response_log_probs
from tinygen.align.grpo import grpo_loss
from tinygen.align.lora import (
    LoRALinear,
    adapters,
    add_lora,
    load_lora_state,
    lora_state,
    merge_lora,
    merged_state,
    unload_lora,
    unmerge_lora,
    without_adapters,
)
from tinygen.align.ppo import policy_loss
from tinygen.align.reinforce import reinforce_loss
from tinygen.align.reward import RewardModel
from tinygen.align.rollouts import Responses, response_mask, rollout, token_log_probs
from tinygen.align.sft import sft_loss
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE
from tinygen.optim import AdamW
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.state import restore

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
        sft_loss(model, Responses(X, MASK)).backward()
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
    merge_lora(model)
    np.testing.assert_allclose(model(X)[0].numpy(), beside, rtol=1e-9, atol=1e-12)
    merge_lora(model)  # a second time changes nothing
    np.testing.assert_allclose(model(X)[0].numpy(), beside, rtol=1e-9, atol=1e-12)
    unmerge_lora(model)
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
    matrices = sum(adapter.weight.size for adapter in adapters(model))
    parts = {name: x.size for name, x in lora_state(model).items()}
    assert Fraction(sum(parts.values()), matrices) == Fraction(4 * 2, 3 * 8)  # 4r / (3 width)
    square = parts["h.0.attn.proj.lora_a"] + parts["h.0.attn.proj.lora_b"]
    assert Fraction(square, 8 * 8) == Fraction(2 * 2, 8)  # 2r / width


def test_how_it_starts():
    """A is uniform within ±1/sqrt(in), as peft has it (Kaiming's with a = sqrt(5)): mean and variance within
    4 standard errors, and the largest of 40,000. B is 0. Each layer's A is drawn anew."""
    layer = nn.Linear(400, 100, rng=np.random.default_rng(0))
    lora = LoRALinear(layer, 100, 8.0, rng=np.random.default_rng(1))
    a, bound = lora.lora_a.numpy().ravel() * 400**0.5, 1
    assert abs(a.mean()) < 4 * (1 / 3 / a.size) ** 0.5
    assert abs(a.var() - 1 / 3) < 4 * (4 / 45 / a.size) ** 0.5
    assert bound - 10 / a.size < np.abs(a).max() <= bound
    assert not lora.lora_b.numpy().any()
    a, again, other = (lora_state(adapted(seed)) for seed in (0, 0, 1))
    for name in a:
        np.testing.assert_array_equal(a[name], again[name])
        assert name.endswith("lora_b") or np.all(a[name] != other[name])
    layers = [x.ravel() for name, x in a.items() if name.endswith("lora_a")]
    assert len(np.unique(np.concatenate(layers))) == sum(x.size for x in layers)


def test_targets_and_tied_weights():
    rng = np.random.default_rng(0)
    assert add_lora(gpt(), 1, 1, targets=("qkv",), rng=rng) == ["h.0.attn.qkv"]
    assert add_lora(gpt(), 1, 1, targets="mlp.fc", rng=rng) == ["h.0.mlp.fc"]
    assert add_lora(gpt(), 1, 1, targets=["proj", "qkv"], rng=rng) == [
        *("h.0.attn.qkv", "h.0.attn.proj", "h.0.mlp.proj")
    ]
    assert "lm_head" not in add_lora(gpt(), 1, 1, rng=rng)  # its weight is the embedding's
    assert "lm_head" in add_lora(gpt(tie_weights=False), 1, 1, rng=rng)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ("lm_head",)}, "no Linear with a weight of its own"),
        ({"targets": ["qkv", "attn.porj"]}, r"ends with one of \['attn.porj'\]"),
        ({"targets": []}, "ends with one of"),
        ({"rank": 9}, "rank must be from 1 to 8, got 9"),
        ({"rank": 0}, "rank must be from 1 to 8, got 0"),
        ({"rank": 2.0}, "rank must be"),
        ({"rank": True}, "rank must be"),
        ({"alpha": 0}, "alpha must be a number above 0, and below 1e30, got 0"),
        ({"alpha": 1e-50}, "alpha must be"),  # 0 in float32
        ({"alpha": "16"}, "got '16'"),
        ({"alpha": np.nan}, "alpha must be"),
        ({"alpha": np.inf}, "alpha must be"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"rank": 5, "targets": ["mlp.fc", "narrow"]}, "rank must be from 1 to 4, got 5"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(changes, message):
    """Also where the first layer would have taken it."""
    model, rng = gpt(), np.random.default_rng(0)
    model.narrow = nn.Linear(8, 4, rng=rng)
    if "targets" not in changes:
        changes = {"targets": ["qkv"], **changes}
    with pytest.raises(ValueError, match=message):
        add_lora(model, **{"rank": 1, "alpha": 1, "rng": rng, **changes})
    assert not adapters(model)
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_are_not_put_beside_adapters():
    """They are refused before, during and after a merge; after `unload_lora` they are accepted."""
    model, _ = trained()
    for change in (lambda: None, lambda: merge_lora(model), lambda: unmerge_lora(model)):
        change()
        before = model.state_dict()
        with pytest.raises(
            ValueError, match=r"has adapters already: unload_lora\(model\).*merge_lora\(model\)"
        ):
            add_lora(model, 2, 4, rng=np.random.default_rng(1))
        assert model.state_dict().keys() == before.keys()
    with pytest.raises(TypeError, match="are for Linear layers, this is a LoRALinear"):
        LoRALinear(adapters(model)[0], 2, 4, rng=np.random.default_rng(1))
    with_them = model(X)[0].numpy()
    merge_lora(model)
    unload_lora(model)
    assert len(add_lora(model, 2, 4, rng=np.random.default_rng(1))) == 4
    np.testing.assert_allclose(model(X)[0].numpy(), with_them, rtol=1e-9, atol=1e-12)
    merge_lora(model)
    np.testing.assert_allclose(model(X)[0].numpy(), with_them, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("merged", [False, True])
def test_unloaded(merged):
    """The model is a plain GPT again: its names, its values, and it trains."""
    model, untouched = trained()
    with_them = model(X)[0].numpy()
    if merged:
        merge_lora(model)
    assert unload_lora(model) == ["h.0.attn.qkv", "h.0.attn.proj", "h.0.mlp.fc", "h.0.mlp.proj"]
    assert model.state_dict().keys() == untouched.state_dict().keys()
    assert repr(model) == repr(untouched)
    if merged:
        np.testing.assert_allclose(model(X)[0].numpy(), with_them, rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_array_equal(model(X)[0].numpy(), untouched(X)[0].numpy())
    assert unload_lora(model) == []
    model.unfreeze()
    sft_loss(model, Responses(X, MASK)).backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="take its `base`"):
        unload_lora(LoRALinear(nn.Linear(2, 2, rng=0), 1, 1, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("merged", [(False, True), (True, False), (True, True), (False, False)])
@pytest.mark.parametrize("way", ["state_dict", "checkpoint"])
def test_the_state_says_whether_adapters_are_merged(tmp_path, merged, way):
    """From a model where they are or are not into one where they are or are not: it becomes the first one,
    and stays it when it is merged, and unmerged, from there. Alpha comes along."""
    model, untouched = trained()
    expected = model(X)[0].numpy()
    other = gpt(seed=5)
    add_lora(other, rank=2, alpha=1, rng=np.random.default_rng(9))
    for each, yes in zip((model, other), merged, strict=True):
        if yes:
            merge_lora(each)
    if way == "state_dict":
        other.load_state_dict(model.state_dict())
    else:
        Checkpoints(tmp_path).save(1, {"model": model})
        restore({"model": other}, Checkpoints(tmp_path).load().state)
    assert [adapter.merged for adapter in adapters(other)] == [merged[0]] * 4
    for change in (lambda _: None, merge_lora, unmerge_lora):
        change(other)
        np.testing.assert_allclose(other(X)[0].numpy(), expected, rtol=1e-9, atol=1e-12)
    unload_lora(other)
    np.testing.assert_allclose(other(X)[0].numpy(), untouched(X)[0].numpy(), rtol=1e-9, atol=1e-12)


def test_dropout_of_the_adapters():
    """In training only, on the way to A only, drawn from the generator; never in a model that evaluates."""
    layer = nn.Linear(6, 3, rng=np.random.default_rng(0)).astype(np.float64)
    lora = LoRALinear(layer, 2, 5.0, dropout=0.5, rng=np.random.default_rng(2))
    lora.lora_b.data = np.random.default_rng(3).standard_normal((3, 2))
    x, change = (
        np.random.default_rng(1).standard_normal((4, 6)),
        2.5 * lora.lora_b.numpy() @ lora.lora_a.numpy(),
    )
    state = lora.drop.rng.bit_generator.state
    y = lora(x).numpy()
    lora.drop.rng.bit_generator.state = state
    dropped = ops.dropout(x, 0.5, lora.drop.rng)
    assert (dropped == 0).any()
    np.testing.assert_allclose(y, layer(x).numpy() + dropped @ change.T, rtol=1e-12)
    np.testing.assert_allclose(lora.eval()(x).numpy(), layer(x).numpy() + x @ change.T, rtol=1e-12)
    model = gpt().eval()
    add_lora(model, rank=2, alpha=4, dropout=0.5, rng=np.random.default_rng(0))
    assert {adapter.drop.p for adapter in adapters(model)} == {0.5}
    assert not any(m.training for _, m in model.named_modules())


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
    merge_lora(other)
    with pytest.raises(ValueError, match="unmerge"):
        load_lora_state(other, state)


@pytest.mark.parametrize("merged", [False, True])
def test_without_adapters_it_is_the_reference(merged):
    """To any depth, to the bit afterwards, and nothing is learned through it."""
    model, untouched = trained()
    if merged:
        merge_lora(model)
    with_them, state = model(X)[0].numpy(), model.state_dict()
    expected = token_log_probs(untouched, X).numpy()
    with without_adapters(model):
        for _ in range(2):
            with without_adapters(model), suppress(KeyError), without_adapters(model):
                np.testing.assert_allclose(token_log_probs(model, X).numpy(), expected, rtol=1e-9, atol=1e-12)
                raise KeyError
        ref = token_log_probs(model, X)
        np.testing.assert_allclose(ref.numpy(), expected, rtol=1e-9, atol=1e-12)
        assert not ref.requires_grad
    np.testing.assert_array_equal(model(X)[0].numpy(), with_them)
    assert all(adapter.merged == merged and adapter.enabled for adapter in adapters(model))
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x, state[name], err_msg=name)


def test_merging_while_they_are_switched_off():
    model, untouched = trained()
    with_them = model(X)[0].numpy()
    with without_adapters(model):
        merge_lora(model)
        np.testing.assert_allclose(model(X)[0].numpy(), untouched(X)[0].numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model(X)[0].numpy(), with_them, rtol=1e-9, atol=1e-12)
    assert all(adapter.merged for adapter in adapters(model))


def test_the_plain_state():
    """Of a model without adapters its state; of one with merged ones the state that unloading leaves."""
    model, untouched = trained()
    with pytest.raises(
        ValueError, match=r"4 adapters are not merged .* beside h\.0\.attn\.qkv: merge_lora\(model\)"
    ):
        merged_state(model)
    merge_lora(model)
    plain = merged_state(model)
    unload_lora(model)
    assert plain.keys() == model.state_dict().keys() == untouched.state_dict().keys()
    for name, x in merged_state(model).items():
        np.testing.assert_array_equal(x, plain[name])
    assert np.any(plain["h.0.attn.qkv.weight"] != untouched.state_dict()["h.0.attn.qkv.weight"])


def test_under_every_method():
    """The reference is the model without its adapters, so DPO starts at ln 2, PPO and GRPO at ratio 1; and
    all gradients are the adapters'."""
    model = adapted()
    tokens, mask = rollout(model, X[:, :2], 5, end=0, rng=0)
    mask = mask[:, 1:]
    with no_grad():
        old = token_log_probs(model, tokens).numpy()
        with without_adapters(model):
            ref = token_log_probs(model, tokens).numpy()
    np.testing.assert_array_equal(ref, old)
    whole = response_log_probs(ref, mask)
    advantages = np.arange(5.0) - 2

    def dpo():
        new = response_log_probs(token_log_probs(model, tokens), mask)
        return dpo_loss(margins(new[:2], new[2:4], whole[:2], whole[2:4]))

    losses = {
        "REINFORCE": lambda: reinforce_loss(token_log_probs(model, tokens), advantages, mask),
        "PPO": lambda: policy_loss(
            token_log_probs(model, tokens), old, np.outer(advantages, np.ones(6)), mask
        ),
        "GRPO": lambda: grpo_loss(token_log_probs(model, tokens), old, ref, advantages, mask),
        "DPO": dpo,
    }
    for name, loss in losses.items():
        model.zero_grad()
        loss().backward()
        moved = {n for n, p in model.named_parameters() if p.grad is not None}
        assert moved == set(lora_state(model)), name
    assert dpo().item() == pytest.approx(np.log(2), rel=1e-12)


def rng(seed=0):
    return np.random.default_rng(seed)


X32, T = rng(1).random((2, 12), dtype=np.float32), np.array([1, 30])
PICTURES = rng(1).standard_normal((2, 3, 8, 8), dtype=np.float32)
UNET = UNetConfig(3, 3, 8, (1, 2), blocks=1, heads=2, groups=4, classes=3)
MODELS = {  # a model, some outputs of it, and how many Linears it has
    "VAE": (lambda: VAE(12, 8, 3, rng=rng()), lambda m: m.loss(X32, rng=rng(2)), 5),
    "VAE's samples": (lambda: VAE(12, 8, 3, rng=rng()), lambda m: m.decode(rng(2).random((2, 3))), 5),
    "denoiser": (lambda: Denoiser(2, channels=8, layers=2, rng=rng()), lambda m: m(X32[:, :2], T), 4),
    "UNet, classes": (lambda: UNet(UNET, rng=rng()), lambda m: m(PICTURES, T, np.array([0, 2])), None),
    "UNet, texts": (
        lambda: UNet(replace(UNET, classes=None, context=5), rng=rng()),
        lambda m: m(PICTURES, T, context=rng(2).random((2, 4, 5), dtype=np.float32)),
        None,
    ),
    "reward model": (lambda: RewardModel(gpt(dtype=np.float32), rng=rng()), lambda m: m(X), 5),
    "GRU": (lambda: nn.GRU(12, 4, rng=rng()), lambda m: m(X32[None])[0], 0),
}


def values(y):
    return y.numpy() if isinstance(y, Tensor) else y


@pytest.mark.parametrize("name", MODELS)
def test_any_module(name):
    """The identity at first, merged as beside, and only adapters are trained; also where a model asks what
    dtype a weight has."""
    make, outputs, count = MODELS[name]
    model = make()
    for i, p in enumerate(model.parameters()):
        p.data = p.data + rng(i).standard_normal(p.shape, dtype=np.float32) * np.float32(0.1)
    before = values(outputs(model)).copy()
    if count == 0:
        with pytest.raises(ValueError, match="no Linear with a weight of its own"):
            add_lora(model, 1, 1, rng=rng(3))
        return
    names = add_lora(model, 1, 1, rng=rng(3))
    assert len(names) == (count or sum(isinstance(m, nn.Linear) for _, m in make().named_modules()))
    np.testing.assert_array_equal(values(outputs(model)), before)
    for i, adapter in enumerate(adapters(model)):
        adapter.lora_b.data = rng(i).standard_normal(adapter.lora_b.shape, dtype=np.float32)
    y = outputs(model)
    assert np.abs(values(y) - before).max() > 1e-3
    if isinstance(y, Tensor):
        y.sum().backward()
        assert {n for n, p in model.named_parameters() if p.grad is not None} == set(lora_state(model))
    merge_lora(model)
    scale = np.abs(values(y)).max()
    np.testing.assert_allclose(values(outputs(model)), values(y), rtol=1e-4, atol=1e-5 * scale)


def test_a_linear_in_a_tuple_is_refused_before_anything_is_changed():
    model = nn.Sequential(nn.Linear(3, 3, rng=rng()), nn.Linear(3, 3, rng=rng()))
    model.more = (nn.Linear(3, 3, rng=rng()),)
    with pytest.raises(TypeError, match=r"more\.0 is in a tuple"):
        add_lora(model, 1, 1, rng=rng())
    assert not adapters(model)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("state", ["beside", "merged", "off, merged"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_inputs_of_another_dtype(state, dtype):
    """It computes in the dtype of its weights, as a Linear does."""
    lora = LoRALinear(nn.Linear(6, 3, rng=rng()), 2, 4.0, rng=rng(1))
    if "merged" in state:
        lora.merge()
    lora.enabled = "off" not in state
    x = np.ones((2, 6), dtype)
    assert lora(Tensor(x)).dtype == lora(x).dtype == np.float32


def test_float32_stays():
    model = adapted(dtype=np.float32)
    assert all(x.dtype == np.float32 for x in lora_state(model).values())
    assert model(X)[0].dtype == np.float32
    merge_lora(model)
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
    merge_lora(ours)
    merged = theirs.merge_and_unload()
    np.testing.assert_allclose(lora.base.weight.numpy(), merged[0].weight.detach().numpy(), rtol=1e-12)


def test_linears_in_lists_and_dicts_are_adapted_and_put_back():
    class Lists(nn.Module):
        def __init__(self):
            self.blocks = [nn.Linear(3, 3, rng=np.random.default_rng(i)) for i in range(2)]
            self.heads = {"left": [nn.Linear(3, 2, rng=np.random.default_rng(2))]}

        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return self.heads["left"][0](x)

    model, x = Lists(), np.ones((1, 3), np.float32)
    before = model(x).data
    names = ["blocks.0", "blocks.1", "heads.left.0"]
    assert list(add_lora(model, rank=1, alpha=2, rng=np.random.default_rng(3))) == names
    np.testing.assert_array_equal(model(x).data, before)
    assert len([p for p in model.parameters() if p.requires_grad]) == 6
    assert list(unload_lora(model)) == names
    assert [type(b).__name__ for b in model.blocks] == ["Linear", "Linear"]
    np.testing.assert_array_equal(model(x).data, before)
