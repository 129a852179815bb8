"""Whole models on arrays that refuse to mix with NumPy's, as CuPy's do: without a card, this shows that
training stays on it. (Every op by itself: `test_arrays_that_refuse_numpy` in tests/ops/test_every_op.py.)"""

import sys
import types

import numpy as np
import pytest
from foreign import Foreign

from tinygen import Tensor, ops
from tinygen.diffusion import Process, cosine, simple_loss
from tinygen.models.gpt import GPT, GPTConfig
from tinygen.models.unet import UNet, UNetConfig
from tinygen.models.vae import VAE, ConvVAE
from tinygen.optim import EMA, AdamW, clip_grad_norm, decay_groups


@pytest.fixture
def cupy(monkeypatch):
    """A module that stands in for CuPy, with a card."""
    module = types.ModuleType("cupy")
    module.asarray = Foreign
    module.cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def rng():
    return np.random.default_rng(0)


def gpt(model, device, step):
    """Tokens stay with NumPy, where they can be looked at without waiting for the card."""
    ids = np.random.default_rng(step).integers(7, size=(2, 6))
    logits, _ = model(ids[:, :-1])
    return ops.cross_entropy(logits, ids[:, 1:])


def gpt_of_ids_on_the_card(model, device, step):
    ids = Tensor(np.random.default_rng(step).integers(7, size=(2, 6))).to(device)
    logits, _ = model(ids[:, :-1])
    return ops.cross_entropy(logits, ids[:, 1:])


def pictures(device, step, *shape):
    return Tensor(np.random.default_rng(step).random(shape, dtype=np.float32)).to(device)


def unet(model, device, step):
    x = pictures(device, step, 2, 2, 4, 4).data
    denoiser = lambda noisy, t: model(noisy, t, np.array([0, 2]))
    return simple_loss(Process(cosine(10)), denoiser, x, np.random.default_rng(step))


def vae(model, device, step):
    return model(pictures(device, step, 3, 16), np.random.default_rng(step))


def conv_vae(model, device, step):
    return model(pictures(device, step, 2, 1, 8, 8), np.random.default_rng(step))


UNET = UNetConfig(2, 2, channels=4, multipliers=(1, 1), blocks=1, classes=3, dropout=0.1)
MODELS = {
    "gpt": (lambda: GPT(GPTConfig(7, 5, n_layer=1, n_head=2, n_embd=4, dropout=0.1), rng()), gpt),
    "gpt-ids": (lambda: GPT(GPTConfig(7, 5, n_layer=1, n_head=2, n_embd=4), rng()), gpt_of_ids_on_the_card),
    "unet": (lambda: UNet(UNET, rng=rng()), unet),
    "vae": (lambda: VAE(16, 5, 2, rng=rng()), vae),
    "conv_vae": (lambda: ConvVAE(width=2, latent=2, pixels="gaussian", rng=rng()), conv_vae),
}


def trained(name, device, steps=2):
    make, loss_of = MODELS[name]
    model = make().to(device)
    optimizer = AdamW(decay_groups(model, 0.1), lr=0.01)
    average = EMA(model, 0.9)
    losses = []
    for step in range(steps):
        loss = loss_of(model, device, step)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("name", MODELS)
def test_training(cupy, name):
    losses, model = trained(name, "cpu")
    Foreign.seen.clear()
    there, moved = trained(name, "cuda")
    np.testing.assert_allclose(there, losses, rtol=1e-5)
    for p, reference in zip(moved.parameters(), model.parameters(), strict=True):
        assert type(p.data) is Foreign
        assert type(p.grad) is Foreign
        np.testing.assert_allclose(p.numpy(), reference.data, atol=1e-3)
    assert np.dtype(np.float64) not in Foreign.seen


def test_writing(cupy):
    model = MODELS["gpt-ids"][0]()
    expected = model.generate(np.array([[1, 2]]), 3, rng(), temperature=0)
    np.testing.assert_array_equal(
        model.to("cuda").generate(np.array([[1, 2]]), 3, rng(), temperature=0), expected
    )


def test_a_whole_model_there_and_back(cupy):
    model = MODELS["conv_vae"][0]()
    before = model.state_dict()
    assert model.to("cuda") is model
    assert {t.device for _, t in model.named_tensors(Tensor)} == {"cuda"}
    after = model.to("cpu").state_dict()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


# -- what goes wrong, and what it says -------------------------------------------------------------


def test_without_a_card(cupy):
    cupy.cuda.is_available = lambda: False
    with pytest.raises(
        RuntimeError, match='device "cuda" needs an NVIDIA card and its driver: CuPy finds none'
    ):
        MODELS["vae"][0]().to("cuda")


def test_devices_that_do_not_mix(cupy):
    x = Tensor(np.ones((2, 16), np.float32))
    model = VAE(16, 5, 2, rng=rng()).to("cuda")
    with pytest.raises(
        TypeError, match=r"^linear\(.*arrays on cpu and on cuda do not mix; move one with \.to"
    ):
        model(x, rng())


def test_targets_on_the_card_and_logits_not(cupy):
    targets = Tensor(np.array([0, 1])).to("cuda")
    with pytest.raises(TypeError, match="targets are on cuda, logits on cpu: move one"):
        ops.cross_entropy(Tensor(np.ones((2, 3), np.float32)), targets)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_ids_out_of_range(cupy, where):
    """CuPy would take the id modulo the number of rows, and say nothing."""
    weight = Tensor(np.ones((3, 2), np.float32), requires_grad=True).to("cuda")
    with pytest.raises(IndexError, match=r"ids must be in \[0, 3\), got 0 to 3"):
        ops.embedding(weight, Tensor(np.array([0, 3])).to(where))
    with pytest.raises(IndexError, match=r"target 3 is outside \[0, 2\)"):
        ops.cross_entropy(weight, Tensor(np.array([0, 1, 3])).to(where))
