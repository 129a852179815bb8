"""Whole models on arrays that refuse to mix with NumPy arrays, as CuPy's do, and refuse to be read during a
step. Without a GPU, this shows that training stays on the GPU and never waits for it.
(`test_arrays_that_refuse_numpy` in tests/ops/test_every_op.py tests each op alone.)"""

import copy
import sys
import types

import numpy as np
import pytest
from foreign import Foreign, Waited, no_waiting

import tinygen
from tinygen import DeviceGenerator, Tensor, nn, ops
from tinygen.align import add_lora, merge_lora, unload_lora, without_adapters
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    annealed_langevin,
    bits_per_dim,
    classifier_free_guidance,
    classifier_guidance,
    clip_guidance,
    cosine_schedule,
    ddim,
    ddim_encode,
    dpm_solver,
    euler,
    flow_log_prob,
    flow_matching_loss,
    hybrid_loss,
    inpaint,
    last_state,
    midpoint,
    min_snr,
    noise_levels,
    plms,
    score_matching_loss,
    sigma_euler,
    simple_loss,
)
from tinygen.models.huggingface.peft import load_adapters, save_adapters
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.gan import DenseDiscriminator
from tinygen.models.pictures.gan_losses import gradient_penalty, r1_penalty
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.nn import RopeScaling
from tinygen.optim import EMA, Adam, AdamW, clip_grad_norm, decay_groups


@pytest.fixture
def cupy(monkeypatch):
    """A module that stands in for CuPy, with a GPU."""
    module = types.ModuleType("cupy")
    module.asarray = Foreign
    module.cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def rng(kind=np.random.default_rng):
    return kind(0)


def gpt(model, device, step, rng):
    """Tokens stay with NumPy, where they can be looked at without waiting for the GPU."""
    ids = np.random.default_rng(step).integers(7, size=(2, 6))
    logits, _ = model(ids[:, :-1])
    return ops.cross_entropy(logits, ids[:, 1:])


def gpt_of_ids_on_the_gpu(model, device, step, rng):
    ids = Tensor(np.random.default_rng(step).integers(7, size=(2, 6))).to(device)
    logits, _ = model(ids[:, :-1])
    return ops.cross_entropy(logits, ids[:, 1:])


def pictures(device, step, *shape):
    return Tensor(np.random.default_rng(step).random(shape, dtype=np.float32)).to(device)


def unet(model, device, step, rng):
    x = pictures(device, step, 2, 2, 4, 4).data
    denoiser = lambda noisy, t: model(noisy, t, np.array([0, 2]))
    return simple_loss(Process(cosine_schedule(10)), denoiser, x, rng=rng)


def vae(model, device, step, rng):
    return model.loss(pictures(device, step, 3, 16), rng=rng)


def conv_vae(model, device, step, rng):
    return model.loss(pictures(device, step, 2, 1, 8, 8), rng=rng)


UNET = UNetConfig(2, 2, channels=4, multipliers=(1, 1), blocks=1, classes=3, dropout=0.1)
MODELS = {
    "gpt": (lambda rng: GPT(GPTConfig(7, 5, n_layer=1, n_head=2, n_embd=4, dropout=0.1), rng=rng), gpt),
    "gpt-ids": (
        lambda rng: GPT(GPTConfig(7, 5, n_layer=1, n_head=2, n_embd=4), rng=rng),
        gpt_of_ids_on_the_gpu,
    ),
    "llama": (lambda rng: Llama(LlamaConfig(7, 5, 1, 2, 1, 8, dropout=0.1, qk_norm=True), rng=rng), gpt),
    "llama-ids": (
        lambda rng: Llama(LlamaConfig(7, 5, 1, 2, 1, 8, rope_scaling=RopeScaling()), rng=rng),
        gpt_of_ids_on_the_gpu,
    ),
    "unet": (lambda rng: UNet(UNET, rng=rng), unet),
    "vae": (lambda rng: VAE(16, 5, 2, rng=rng), vae),
    "conv_vae": (lambda rng: ConvVAE(channels=2, latent=2, pixels="gaussian", rng=rng), conv_vae),
}


def trained(name, device, kind, steps=2):
    make, loss_of = MODELS[name]
    generator = rng(kind)
    model = make(generator).to(device)
    optimizer = AdamW(decay_groups(model, 0.1), lr=0.01)
    average = EMA(model, 0.9)
    losses, norms = [], []
    for step in range(steps):
        with no_waiting():
            loss = loss_of(model, device, step, generator)
            optimizer.zero_grad()
            loss.backward()
            norms.append(clip_grad_norm(model.parameters(), 1.0))
            optimizer.step()
            average.update()
        losses.append(loss.item())
    return losses, [float(norm) for norm in norms], model, average.state_dict()["average"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", [np.random.default_rng, DeviceGenerator])
def test_training(cupy, name, kind):
    """On the GPU as on the CPU, without waiting; what NumPy draws is copied over."""
    losses, norms, model, average = trained(name, "cpu", kind)
    Foreign.seen.clear()
    there, moved_norms, moved, moved_average = trained(name, "cuda", kind)
    for key, a in average.items():
        np.testing.assert_allclose(moved_average[key], a, atol=1e-3)
    np.testing.assert_allclose(moved_norms, norms, rtol=1e-4)
    np.testing.assert_allclose(there, losses, rtol=1e-5)
    for p, reference in zip(moved.parameters(), model.parameters(), strict=True):
        assert type(p.data) is Foreign
        assert type(p.grad) is Foreign
        np.testing.assert_allclose(p.numpy(), reference.data, atol=1e-3)
    assert np.dtype(np.float64) not in Foreign.seen


def test_lengths_of_sequences(cupy):
    """They come from NumPy, and are compared with the places on the GPU."""
    x, lengths = np.ones((3, 4, 2), np.float32), np.array([4, 0, 2])
    here, _ = nn.LSTM(2, 3, bidirectional=True, rng=0)(x, lengths=lengths)
    layer = nn.LSTM(2, 3, bidirectional=True, rng=0).to("cuda")
    with no_waiting():
        there, _ = layer(Foreign(x), lengths=lengths)
    np.testing.assert_allclose(there.numpy(), here.numpy(), rtol=1e-6)


def test_waiting_is_seen(cupy):
    """In whatever way a value is looked at."""
    x = Foreign(np.ones(1, np.float32))
    looks = [Foreign.get, bool, float, int, lambda x: x.item(), lambda x: x[x > 0], np.flatnonzero]
    for look in looks:
        with no_waiting(), pytest.raises(Waited):
            look(x)
    with no_waiting(), pytest.raises(Waited):
        Tensor(x).item()


def test_what_a_step_leaves_on_the_gpu(cupy):
    """The optimizer's parameters, and its means, are parts of one array; a checkpoint has them one by one."""
    _, _, model, _ = trained("vae", "cuda", DeviceGenerator, steps=1)
    arrays = [p.data.inner for p in model.parameters()]
    assert len({id(a.base) for a in arrays}) == 2  # of two groups
    optimizer = AdamW(model.parameters())
    for p in model.parameters():
        p.grad = p.data
    optimizer.step()
    state = optimizer.state_dict()
    assert [s["m"].shape for s in state["state"]] == [p.shape for p in model.parameters()]
    for twin in (copy.deepcopy(optimizer), AdamW(optimizer.params)):
        twin.load_state_dict(state)
        for p in twin.params:
            p.grad = p.data
        before = [p.numpy() for p in twin.params]
        twin.step()
        assert all(np.any(p.numpy() != b) for p, b in zip(twin.params, before, strict=True))


def test_a_copy_of_an_average(cupy):
    """Has an array of its own, and goes on."""
    model = MODELS["vae"][0](rng()).to("cuda")
    average = EMA(model, 0.5, warmup=False)
    average.update()
    twin = copy.deepcopy(average)
    for p in twin.params.values():
        p.data = p.data + 1
    twin.update()
    for name, a in average.state_dict()["average"].items():
        np.testing.assert_allclose(twin.state_dict()["average"][name], a + 0.5, rtol=1e-5)
    for each in (average, twin):
        wholes = [a.inner.base for a in each.average.values()]
        assert wholes[0] is not None
        assert all(whole is wholes[0] for whole in wholes)


def test_other_arrays_in_place_of_parameters(cupy):
    """As after load_state_dict: the next step takes those."""
    p = Tensor(Foreign(np.ones(3, np.float32)), requires_grad=True)
    q = Tensor(Foreign(np.ones((2, 2), np.float32)), requires_grad=True)
    optimizer = Adam([p, q], lr=0.1)
    for _ in range(2):
        p.data, p.grad, q.grad = (Foreign(np.full(3, 5, np.float32)), *(x.data * 0 + 1 for x in (p, q)))
        optimizer.step()
    np.testing.assert_allclose(p.numpy(), 4.9, rtol=1e-6)
    np.testing.assert_allclose(q.numpy(), 0.8, rtol=1e-6)


def test_parameters_of_two_dtypes(cupy):
    """One launch each, then; their gradients cannot be clipped together."""
    params = [Tensor(Foreign(np.ones(3, dtype)), requires_grad=True) for dtype in (np.float32, np.float64)]
    empty = Tensor(Foreign(np.ones((0, 3))), requires_grad=True)
    optimizer = Adam([*params, empty], lr=0.1)
    for p in optimizer.params:
        p.grad = p.data * 2
    optimizer.step()
    assert [p.dtype for p in params] == [np.float32, np.float64]
    np.testing.assert_allclose([p.numpy() for p in params], 0.9, rtol=1e-6)
    with pytest.raises(TypeError, match=r"from dtype\('float64'\) to dtype\('float32'\)"):
        clip_grad_norm(params, 1.0)


@pytest.mark.parametrize("most", [1.0, 100.0])
def test_clipping(cupy, most):
    gradients = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    here, there = [[Tensor(put(g), requires_grad=True) for g in gradients] for put in (np.array, Foreign)]
    for p, q, g in zip(here, there, gradients, strict=True):
        p.grad, q.grad = g.copy(), Foreign(g)
    with no_waiting():
        norm = clip_grad_norm(there, most)
    assert float(norm) == pytest.approx(clip_grad_norm(here, most), rel=1e-6)
    for p, q in zip(here, there, strict=True):
        np.testing.assert_allclose(q.grad.get(), p.grad, rtol=1e-6)


def test_clipping_nan(cupy):
    p = Tensor(Foreign(np.ones(2, np.float32)), requires_grad=True)
    p.grad = Foreign(np.array([np.nan, 1], np.float32))
    assert np.isnan(float(clip_grad_norm([p], 1.0)))
    np.testing.assert_array_equal(p.grad.get(), [np.nan, 1])  # as it was: there is nothing to scale by


def test_an_array_to_the_left(cupy):
    x = Tensor(Foreign(np.ones(2, np.float32)), requires_grad=True)
    y = Foreign(np.full(2, 5, np.float32)) - x
    assert type(y) is Tensor
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.get(), -1)


@pytest.mark.parametrize("name", ["gpt-ids", "llama-ids"])
def test_writing(cupy, name):
    model = MODELS[name][0](rng())
    expected = model.sample(np.array([[1, 2]]), 3, temperature=0, rng=rng())
    np.testing.assert_array_equal(
        model.to("cuda").sample(np.array([[1, 2]]), 3, temperature=0, rng=rng()), expected
    )


def test_drawing(cupy):
    """Codes and noise come from NumPy, and move to the device of the weights."""
    z = np.random.default_rng(1).standard_normal((3, 2), np.float32)
    for name in ("vae", "conv_vae"):
        model = MODELS[name][0](rng())
        expected = model.decode(z)
        drawn = model.to("cuda").decode(z)
        assert type(drawn) is Foreign
        np.testing.assert_allclose(drawn.get(), expected, atol=1e-6)
    codes = AutoencoderKL(AutoencoderConfig(latent=2, channels=8, multipliers=(1, 2)), rng=rng())
    unet = UNet(UNetConfig(2, 2, 8, (1, 2), 1, groups=2, context=8), rng=rng())
    text = TextEncoder(TextEncoderConfig(("red", "square"), 2, heads=2, channels=8), rng=rng())
    model = LatentDiffusion(codes, TextDenoiser(unet, text), Process(cosine_schedule(20)), 8)
    expected = model.sample(["red square"], steps=3, rng=rng())
    drawn = model.to("cuda").sample(["red square"], steps=3, rng=rng())
    assert type(drawn) is Foreign
    np.testing.assert_allclose(drawn.get(), expected, atol=1e-4)


def test_a_whole_model_there_and_back(cupy):
    model = MODELS["conv_vae"][0](rng())
    before = model.state_dict()
    assert model.to("cuda") is model
    assert {t.device for _, t in model.named_tensors(Tensor)} == {"cuda"}
    after = model.to("cpu").state_dict()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


# -- diffusion -------------------------------------------------------------------------------------

PROCESS, LEVELS, STEPS = Process(cosine_schedule(6)), noise_levels(2.0, 0.1, 3), np.array([0, 1, 5])
MASK = np.array([[True, False], [False, False], [True, True]])


def both_halves(model):
    """A model that learns the variance, too."""
    return lambda x, t: np.concatenate([model(x, t), 0.5 * model(x, t)], axis=1)


def bits(model, x):
    """Floats: so this one looks at values."""
    Foreign.readable = True
    return Tensor(bits_per_dim(PROCESS, model, np.sign(x), levels=2, rng=0).steps)


def guided_by_a_classifier(model, x):
    return classifier_guidance(PROCESS, model, lambda x, t: -np.square(x).sum(axis=1), 2.0)(x, STEPS)


def guided_by_clip(model, x):
    flat = lambda x, t: np.tanh(x.reshape(len(x), -1))
    return clip_guidance(PROCESS, model, flat, x.reshape(len(x), -1), 2.0)(x, STEPS)


def guided(model, x):
    conditional = lambda x, t, c: model(x, t) + c
    return classifier_free_guidance(conditional, [x], [x[:1]], 3.0, 0.5)(x, STEPS)


def learned_variance(model, x):
    return last_state(ancestral_sampling(PROCESS, both_halves(model), x, variance="learned", rng=0))


METHODS = {
    "simple_loss": lambda model, x: simple_loss(PROCESS, model, x, weights=min_snr(PROCESS), rng=0),
    "hybrid_loss": lambda model, x: hybrid_loss(PROCESS, both_halves(model), np.sign(x), levels=2, rng=0),
    "flow_matching_loss": lambda model, x: flow_matching_loss(model, x, rng=0),
    "score_matching_loss": lambda model, x: score_matching_loss(model, x, LEVELS, rng=0),
    "ancestral_sampling": learned_variance,
    "ddim": lambda model, x: last_state(ddim(PROCESS, model, x, eta=0.5, clip=1.0, rng=0)),
    "ddim_encode": lambda model, x: last_state(ddim_encode(PROCESS, model, x)),
    "dpm_solver": lambda model, x: last_state(dpm_solver(PROCESS, model, x, clip=1.0)),
    "dpm_solver_3": lambda model, x: last_state(dpm_solver(PROCESS, model, x, order=3)),
    "plms": lambda model, x: last_state(plms(PROCESS, model, x)),
    "sigma_euler": lambda model, x: last_state(sigma_euler(PROCESS, model, x, eta=0.5, rng=0)),
    "inpaint": lambda model, x: last_state(inpaint(PROCESS, model, x, x, MASK, repeats=2, jump=2, rng=0)),
    "euler": lambda model, x: last_state(euler(model, x, 3)),
    "midpoint": lambda model, x: last_state(midpoint(model, x, 3)),
    "annealed_langevin": lambda model, x: last_state(annealed_langevin(model, x, LEVELS, 2, 0.01, rng=0)),
    "flow_log_prob": lambda model, x: flow_log_prob(model, x, 3),
    "bits_per_dim": bits,
    "classifier_guidance": guided_by_a_classifier,
    "clip_guidance": guided_by_clip,
    "classifier_free_guidance": guided,
}


@pytest.mark.parametrize("name", METHODS)
def test_diffusion(cupy, name):
    """Each method on the GPU as on the CPU, without waiting; numbers of steps, times, levels and masks come
    from NumPy."""
    x = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)
    here = METHODS[name](Denoiser(2, 8, rng=0), x)
    model, moved = Denoiser(2, 8, rng=0).to("cuda"), Foreign(x)
    with no_waiting():
        there = METHODS[name](model, moved)
    assert type(there) is (Tensor if isinstance(here, Tensor) else Foreign)
    expected, values = (y if isinstance(y, Tensor) else Tensor(y) for y in (here, there))
    np.testing.assert_allclose(values.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_penalties_of_a_discriminator(cupy):
    x = np.random.default_rng(1).standard_normal((2, 3, 2)).astype(np.float32)
    of = lambda model, real, fake: [
        r1_penalty(model, real),
        gradient_penalty(model, real, fake, rng=0),
    ]
    expected = of(DenseDiscriminator(2, 4, rng=0), *x)
    with no_waiting():
        penalties = of(DenseDiscriminator(2, 4, rng=0).to("cuda"), *map(Foreign, x))
    np.testing.assert_allclose([p.item() for p in penalties], [p.item() for p in expected], rtol=1e-5)


@pytest.mark.parametrize("loss", [flow_matching_loss, score_matching_loss])
def test_times_that_a_unet_embeds(cupy, loss):
    """Times and levels are beside the pictures, and conditions on the CPU."""
    x, given = np.ones((2, 2, 4, 4), np.float32), () if loss is flow_matching_loss else (LEVELS,)
    seen = []
    of_two = lambda model: lambda x, t: seen.append((type(x), type(t))) or model(x, t, np.array([0, 2]))
    of = lambda model, x: loss(of_two(model), x, *given, rng=0)
    here = of(MODELS["unet"][0](rng()).eval(), x)
    model, there = MODELS["unet"][0](rng()).eval().to("cuda"), Foreign(x)
    with no_waiting():
        moved = of(model, there)
        moved.backward()
    assert moved.item() == pytest.approx(here.item(), rel=1e-5)
    assert seen == [(np.ndarray, np.ndarray), (Foreign, Foreign)]


# -- what goes wrong, and what it says -------------------------------------------------------------


def test_adapters_stand_beside_their_weights(cupy, tmp_path):
    """Whether they are merged is looked at once; and their files are those of the CPU."""
    model = GPT(GPTConfig(7, 6, n_layer=1, n_head=2, n_embd=8), rng=rng())
    there = copy.deepcopy(model).to("cuda")
    for each in (model, there):
        add_lora(each, 2, 4.0, rng=rng())
    assert {p.device for p in there.parameters()} == {"cuda"}
    ids = np.arange(6)[None]
    np.testing.assert_allclose(there(ids)[0].numpy(), model(ids)[0].numpy(), rtol=1e-5, atol=1e-6)
    for name, each in (("here", model), ("there", there)):
        save_adapters(each, tmp_path / name)
        unload_lora(each)
        load_adapters(each, tmp_path / name)
        merge_lora(each)
        each(ids)
        each.save_pretrained(tmp_path / name)
    with no_waiting(), without_adapters(there):
        there(ids)
    for here in (tmp_path / "here").iterdir():
        assert here.read_bytes() == (tmp_path / "there" / here.name).read_bytes()


def test_without_a_gpu(cupy):
    cupy.cuda.is_available = lambda: False
    with pytest.raises(
        RuntimeError, match='device "cuda" needs an NVIDIA GPU and its driver: CuPy finds none'
    ):
        MODELS["vae"][0](rng()).to("cuda")


def test_devices_that_do_not_mix(cupy):
    x = Tensor(np.ones((2, 16), np.float32))
    model = VAE(16, 5, 2, rng=rng()).to("cuda")
    with pytest.raises(
        TypeError, match=r"^linear\(.*arrays on cpu and on cuda do not mix; move one with \.to"
    ):
        model.loss(x, rng=rng())


def test_targets_on_the_gpu_and_logits_not(cupy):
    targets = Tensor(np.array([0, 1])).to("cuda")
    with pytest.raises(TypeError, match="targets are on cuda, logits on cpu: move one"):
        ops.cross_entropy(Tensor(np.ones((2, 3), np.float32)), targets)


def test_ids_out_of_range(cupy):
    """CuPy would take the id modulo the number of rows, and say nothing."""
    weight = Tensor(np.ones((3, 2), np.float32), requires_grad=True).to("cuda")
    with pytest.raises(IndexError, match=r"ids must be in \[0, 3\); got 0 to 3"):
        ops.embedding(weight, np.array([0, 3]))
    with pytest.raises(IndexError, match=r"targets must be in \[0, 2\)"):
        ops.cross_entropy(weight, np.array([0, 1, 3]))


def test_ids_on_the_gpu_out_of_range(cupy):
    """An error would have to wait for the GPU: NaN says it when somebody looks."""
    weight = Tensor(np.ones((3, 2), np.float32), requires_grad=True).to("cuda")
    with no_waiting():
        rows = ops.embedding(weight, Foreign(np.array([0, 3, -1])))
        rows.sum().backward()
        losses = ops.cross_entropy(weight, Foreign(np.array([0, -100, 3])), reduction="none")
        mean = ops.cross_entropy(weight, Foreign(np.array([0, -100, 3])))
        with np.errstate(invalid="ignore"):
            nothing = ops.cross_entropy(weight, Foreign(np.full(3, -100)))
    np.testing.assert_array_equal(rows.numpy(), np.float32([[1, 1], [np.nan] * 2, [np.nan] * 2]))
    np.testing.assert_allclose(losses.numpy(), np.float32([np.log(2), 0, np.nan]), rtol=1e-6)
    assert np.isnan(mean.item())
    assert np.isnan(nothing.item())
    where = r"NaN at index \(1, 0\) in the value of embedding"
    with tinygen.anomaly(), pytest.raises(tinygen.AnomalyError, match=where):
        ops.embedding(weight, Foreign(np.array([0, 3, -1])))
