"""The contract of models (`tinygen/models/__init__.py`), checked of every model that there is.

`forward` is the network's output; `loss` a Tensor of shape (), what is minimized; `losses` the same with its
parts, named; `encode`, `decode` and `sample` take and return arrays; `sample_steps` yields what `sample` goes
through; `rng` is keyword-only, and a generator or an int."""

import importlib
import inspect
import pkgutil
import sys
import types

import numpy as np
import pytest
from foreign import Foreign, no_waiting
from sd_folders import small

from tinygen import Tensor, align, diffusion, judges, models, nn, no_grad, tape
from tinygen.diffusion import Process, cosine_schedule
from tinygen.models.language.bart import BART, BARTConfig
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.models.language.encoder_decoder import EncoderDecoder
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.linear import LinearLM
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.models.language.recurrent import RecurrentLM, Tagger
from tinygen.models.language.t5 import T5, T5Config
from tinygen.models.language.transformer import Transformer, TransformerConfig
from tinygen.models.language.wavenet import WaveNet
from tinygen.models.language.word2vec import Word2Vec
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.controlnet import ControlNet, ControlNetConfig
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.gan import ConvGenerator, DenseGenerator
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.plain_autoencoder import (
    SWAE,
    Autoencoder,
    SupervisedAutoencoder,
    conv_halves,
    dense_halves,
    linear_halves,
)
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.models.pictures.vgg import VGG
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import (
    END,
    ConvImageEncoder,
    TextTower,
    TowerConfig,
    VisionTransformer,
)
from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.noisy_clip import NoisyCLIP, NoisyImageEncoder
from tinygen.models.text_to_image.stable_diffusion import StableDiffusion
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.models.text_to_image.text_gan import TextGenerator

PARTS = ["encode", "decode", "sample", "sample_steps", "loss", "losses"]
"""The methods of the contract besides `forward`; a model has those that make sense for it."""

OTHER_NAMES = ["generate", "stream", "draw", "denoise", "reconstruct", "nll_loss", "compute_loss", "terms"]
"""Names in other libraries, or in earlier versions of this one."""

IDS = np.array([[0, 1, 2], [2, 1, 0]])
PICTURES = np.random.default_rng(0).random((2, 3, 8, 8), dtype=np.float32)
DIGITS = PICTURES[:, :1]
FLAT = PICTURES.reshape(2, -1)
CAPTIONS = ["red square", "red"]
T = np.array([1, 5])


def autoencoder(rng):
    return AutoencoderKL(AutoencoderConfig(latent=2, channels=8, multipliers=(1, 2)), rng=rng)


def supervised(rng):
    rng = np.random.default_rng(rng)
    return SupervisedAutoencoder(*conv_halves(1, 8, 4, 2, rng=rng), 2, 3, rng=rng)


def unet(rng, **given):
    return UNet(UNetConfig(2, 2, 8, (1, 2), 1, groups=2, **given), rng=rng)


WORDS = TextEncoderConfig(("red", "square"), 2, heads=2, channels=8)


def text_encoder(rng):
    return TextEncoder(WORDS, rng=rng)


def latent_diffusion(rng):
    rng = np.random.default_rng(rng)
    denoiser = TextDenoiser(unet(rng, context=8), text_encoder(rng))
    return LatentDiffusion(autoencoder(rng), denoiser, Process(cosine_schedule(20)), 8)


def controlnet(rng):
    return ControlNet(ControlNetConfig(2, 2, 8, (1, 2), 1, groups=2, hint_widths=(4, 6)), rng=rng)


def controlled_diffusion(rng):
    rng = np.random.default_rng(rng)
    base = latent_diffusion(rng)
    return ControlledDiffusion(base, ControlNet.copy_of(base.denoiser.unet, 3, (4, 6), rng=rng))


TOWER = TowerConfig(1, 2, 8)
TEXTS = np.array([[2, 3, END], [3, END, END]])


def text_tower(rng):
    return TextTower(4, 3, END, TOWER, 5, rng=rng)


def vision(rng):
    return VisionTransformer(8, 4, 3, TOWER, 5, rng=rng)


def clip(rng):
    rng = np.random.default_rng(rng)
    return CLIP(vision(rng), text_tower(rng))


def noisy_pictures(rng):
    return NoisyImageEncoder(8, 3, 4, 2, 5, rng=rng)


def noisy_clip(rng):
    rng = np.random.default_rng(rng)
    return NoisyCLIP(noisy_pictures(rng), text_tower(rng), Process(cosine_schedule(50)))


def palette(rng):
    net = UNet(UNetConfig(7, 3, 8, (1, 2), 1, groups=2, classes=2), rng=rng)
    return Palette(net, Process(cosine_schedule(20), "v"))


EDITED = (PICTURES, PICTURES[:, :1] > 0.5, np.array([1, 2]))  # condition, mask, labels

CODES = np.random.default_rng(1).standard_normal((2, 2, 4, 4), dtype=np.float32)
CONTEXT = np.random.default_rng(2).standard_normal((2, 6, 8), dtype=np.float32)

MODELS = {  # how it is made, the inputs of forward, the batch of loss, the arguments of sample
    GPT: (lambda rng: GPT(GPTConfig(3, 8, 1, 2, 8), rng=rng), (IDS,), None, (IDS, 2)),
    Llama: (lambda rng: Llama(LlamaConfig(3, 8, 1, 2, 1, 8), rng=rng), (IDS,), None, (IDS, 2)),
    BERT: (lambda rng: BERT(BERTConfig(3, 8, 1, 2, 8, 6, dropout=0.0), rng=rng), (IDS,), (IDS, IDS), None),
    Transformer: (
        lambda rng: Transformer(TransformerConfig(3, 1, 2, 8, 8), rng=rng),
        (IDS[:, 1:], IDS),
        (IDS[:, 1:], IDS),
        (IDS[:, 1:], 2),
    ),
    T5: (
        lambda rng: T5(T5Config(3, 1, 1, 2, 8, 3, 6, 4, 8), rng=rng),
        (IDS[:, 1:], IDS),
        (IDS[:, 1:], IDS),
        (IDS[:, 1:], 2),
    ),
    BART: (
        lambda rng: BART(BARTConfig(3, 8, 1, 1, 2, 8, 6), rng=rng),
        (IDS, IDS),
        (IDS, IDS),
        (IDS, 2),
    ),
    LinearLM: (lambda rng: LinearLM(3, 2, 4, rng=rng), (IDS,), (IDS, IDS), (IDS, 2)),
    RecurrentLM: (lambda rng: RecurrentLM(3, 4, rng=rng), (IDS,), (IDS, IDS), (IDS, 2)),
    WaveNet: (lambda rng: WaveNet(3, 4, 5, (1, 2), rng=rng), (IDS,), (IDS, IDS), (IDS, 2)),
    Tagger: (lambda rng: Tagger(3, 2, 4, rng=rng), (IDS,), (IDS, IDS % 2), None),
    Word2Vec: (lambda rng: Word2Vec([3, 2, 1], 4, rng=rng), (IDS, IDS), (IDS, IDS[:, 0]), None),
    VAE: (lambda rng: VAE(192, 6, 2, rng=rng), (FLAT,), (FLAT,), (3,)),
    ConvVAE: (lambda rng: ConvVAE(1, 8, 4, 2, rng=rng), (DIGITS,), (DIGITS,), (3,)),
    HierarchicalVAE: (lambda rng: HierarchicalVAE(192, 6, (3, 2), rng=rng), (FLAT,), (FLAT,), (3,)),
    Autoencoder: (lambda rng: Autoencoder(*linear_halves(192, 2, rng=rng)), (FLAT,), (FLAT,), None),
    SupervisedAutoencoder: (supervised, (DIGITS,), (DIGITS, np.array([0, 2])), None),
    SWAE: (lambda rng: SWAE(*dense_halves(192, 6, 2, rng=rng), 2), (FLAT,), (FLAT,), (3,)),
    VGG: (lambda rng: VGG(((4,), (6,)), rng=rng), (PICTURES,), None, None),
    VQVAE: (lambda rng: VQVAE(3, 8, 2, 5, rng=rng), (PICTURES,), (PICTURES,), None),
    AutoencoderKL: (autoencoder, (PICTURES,), (PICTURES,), None),
    DenseGenerator: (lambda rng: DenseGenerator(latent=2, rng=rng), (FLAT[:, :2],), None, (3,)),
    ConvGenerator: (lambda rng: ConvGenerator(latent=2, rng=rng), (FLAT[:, :2],), None, (3,)),
    Denoiser: (lambda rng: Denoiser(2, rng=rng), (FLAT[:, :2], T), None, None),
    RealNVP: (lambda rng: RealNVP(rng=rng), (FLAT[:, :2],), (FLAT[:, :2],), (3,)),
    UNet: (unet, (CODES, T), None, None),
    Palette: (palette, (PICTURES[::-1], T, *EDITED), (PICTURES, *EDITED), EDITED),
    ControlNet: (controlnet, (CODES, T, PICTURES), None, None),
    TextEncoder: (text_encoder, (CAPTIONS,), None, None),
    TextTower: (text_tower, (TEXTS,), None, None),
    VisionTransformer: (vision, (PICTURES,), None, None),
    ConvImageEncoder: (lambda rng: ConvImageEncoder(8, 3, 4, 2, 5, rng=rng), (PICTURES,), None, None),
    CLIP: (clip, (PICTURES, TEXTS), (PICTURES, TEXTS), None),
    NoisyImageEncoder: (noisy_pictures, (PICTURES, T), None, None),
    NoisyCLIP: (noisy_clip, (PICTURES, T, TEXTS), (PICTURES, TEXTS), None),
    TextGenerator: (
        lambda rng: TextGenerator(WORDS, latent=2, rng=rng),
        (FLAT[:, :2], CAPTIONS),
        None,
        (CAPTIONS,),
    ),
    LatentDiffusion: (latent_diffusion, (CODES, T, CAPTIONS), (CODES, CAPTIONS), (CAPTIONS,)),
    StableDiffusion: (small, (CODES, T, CONTEXT), None, (CAPTIONS,)),
    ControlledDiffusion: (
        controlled_diffusion,
        (CODES, T, CAPTIONS, PICTURES),
        (CODES, CAPTIONS, PICTURES),
        (CAPTIONS, PICTURES),
    ),
}

LANGUAGE = (GPT, Llama)
OF_CODES = (LatentDiffusion, StableDiffusion)  # whose forward takes codes, and encode pictures
WRITERS = (*LANGUAGE, LinearLM, RecurrentLM, WaveNet, Transformer, T5, BART)

PARTS_OF_MODELS = {
    "Encoder",
    "Decoder",
    "ConvEncoder",
    "ConvDecoder",
    "Bernoulli",
    "Gaussian",
    "Residual",
    "Coupling",
}
PARTS_OF_MODELS |= {"LanguageModel", "CausalLM", "LlamaBlock", "BERTBlock", "GatedLayer"}
PARTS_OF_MODELS |= {"EncoderDecoder", "BARTBlock", "T5Block", "T5Attention", "T5FeedForward", "RelativeBias"}
PARTS_OF_MODELS |= {"EncoderLayer", "DecoderLayer", "Sublayer", "FeedForward"}
PARTS_OF_MODELS |= {"Generator", "Discriminator", "DenseDiscriminator", "ConvDiscriminator"}
PARTS_OF_MODELS |= {"CaptionEncoder", "TextDiscriminator"}
PARTS_OF_MODELS |= {"TwoTowers", "Tower", "TowerBlock", "TowerMLP"}
PARTS_OF_MODELS |= {
    "VectorQuantizer",
    "Halve",
    "TextDenoiser",
    "TimestepEmbedding",
    "Level",
    "UNetEncoder",
    "HintEncoder",
    "Down",
    "Middle",
    "Up",
}


def classes_of_models():
    """Every Module that is defined under tinygen.models."""
    for info in pkgutil.walk_packages(models.__path__, "tinygen.models."):
        for _, found in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            if issubclass(found, nn.Module) and found.__module__ == info.name:
                yield found


def test_every_model_is_in_the_table():
    found = {kind.__name__ for kind in classes_of_models()}
    assert found - PARTS_OF_MODELS == {kind.__name__ for kind in MODELS}


@pytest.mark.parametrize("kind", MODELS)
def test_names(kind):
    """The methods are called as in the contract, and have no second name."""
    assert "forward" in vars(kind) or issubclass(kind, (VAE, Autoencoder, EncoderDecoder))
    assert not [name for name in OTHER_NAMES if hasattr(kind, name)]
    assert hasattr(kind, "encode") == hasattr(kind, "decode")
    assert not hasattr(kind, "losses") or hasattr(kind, "loss")
    assert not hasattr(kind, "sample_steps") or hasattr(kind, "sample")
    for name in PARTS:
        if hasattr(kind, name):
            parameters = inspect.signature(getattr(kind, name)).parameters
            assert getattr(kind, name).__doc__, f"{kind.__name__}.{name} says what it takes and returns"
            assert "rng" not in parameters or parameters["rng"].default is inspect.Parameter.empty


@pytest.mark.parametrize("kind", MODELS)
def test_an_int_is_a_seed(kind):
    """A whole model from one int: the same as from a generator with this seed."""
    make = MODELS[kind][0]
    ours, theirs = make(3).state_dict(), make(np.random.default_rng(3)).state_dict()
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("kind", MODELS)
def test_forward_is_the_output_and_loss_a_number(kind):
    make, inputs, batch, _ = MODELS[kind]
    model = make(0)
    out = model(*inputs)
    if kind in LANGUAGE:  # (logits, loss), as in nanoGPT
        assert [type(x) for x in model(*inputs, IDS)] == [Tensor, Tensor]
        out, loss = out
        assert loss is None
    if kind is TextEncoder:
        out, mask = out
        assert mask.dtype == bool
    if kind is ControlNet:  # residuals for a UNet
        out, skips = out
        assert all(isinstance(skip, Tensor) for skip in skips)
    if kind is RecurrentLM:
        out, state = out
        assert [type(x) for x in state] == [Tensor, Tensor]
    assert isinstance(out, Tensor)
    assert out.ndim >= 2
    assert len(out) == 2  # the batch
    assert hasattr(kind, "loss") == (batch is not None)
    if batch is None:
        return
    given = {"rng": 0} if "rng" in inspect.signature(model.loss).parameters else {}
    loss = model.loss(*batch, **given)
    assert isinstance(loss, Tensor)
    assert loss.shape == ()
    assert loss.requires_grad
    if hasattr(kind, "losses"):
        parts = model.losses(*batch, **given)
        assert parts._fields[0] == "total"
        assert parts.total.item() == loss.item()
    if hasattr(kind, "encode"):
        assert out.shape == inputs[0].shape  # a reconstruction, or a prediction for codes


@pytest.mark.parametrize("kind", [kind for kind in MODELS if hasattr(kind, "encode")])
def test_encode_and_decode_are_of_arrays(kind):
    make, inputs, *_ = MODELS[kind]
    model = make(0)
    x = PICTURES if kind in OF_CODES else inputs[0]
    codes = model.encode(x)
    pictures = model.decode(codes)
    for array in (codes, pictures):
        assert type(array) is np.ndarray
    assert len(codes) == len(x)
    assert pictures.shape == x.shape
    if kind not in OF_CODES:
        np.testing.assert_allclose(model.eval()(x).data, pictures, rtol=1e-6)  # the reconstruction


class OnlyFloat32(np.random.Generator):
    """A generator whose normal numbers must be asked for in float32: it has others for float64."""

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        assert dtype == np.float32
        return super().standard_normal(size, dtype, out)


@pytest.mark.parametrize("kind", MODELS)
def test_weights_noise_and_outputs_are_float32(kind):
    """A weight in float64 would be twice as large in memory, and in files."""
    make, inputs, batch, arguments = MODELS[kind]
    rng = OnlyFloat32(np.random.PCG64(0))
    model = make(rng)
    floats = {name: a.dtype for name, a in model.state_dict().items() if a.dtype.kind == "f"}
    assert {name for name, dtype in floats.items() if dtype != np.float32} == set()
    out = model(*inputs)
    assert (out[0] if isinstance(out, tuple) else out).dtype == np.float32
    if batch is not None and "rng" in inspect.signature(model.loss).parameters:
        assert model.loss(*batch, rng=rng).dtype == np.float32
    if arguments is not None:
        assert model.sample(*arguments, rng=rng).dtype == (np.int64 if kind in WRITERS else np.float32)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if hasattr(kind, "reader")])
def test_a_reader_returns_the_logits_after_the_last_token(kind):
    make, inputs, *_ = MODELS[kind]
    model = make(0).eval()
    out = model(*inputs)
    logits = out[0] if isinstance(out, tuple) else out  # (B, T, V)
    with no_grad():
        np.testing.assert_allclose(model.reader()(*inputs), logits.numpy()[:, -1], rtol=1e-5, atol=1e-6)


WITH_ARRAYS = [kind for kind in MODELS if hasattr(kind, "encode") or hasattr(kind, "sample")]


@pytest.mark.parametrize("kind", WITH_ARRAYS)
def test_encode_decode_and_sample_record_nothing(kind, monkeypatch):
    """Functions of arrays record nothing on the tape."""
    make, inputs, _, arguments = MODELS[kind]
    model = make(0)
    recorded = []
    monkeypatch.setattr(tape, "Node", lambda op, *_: recorded.append(op))
    if hasattr(kind, "encode"):
        model.decode(model.encode(PICTURES if kind in OF_CODES else inputs[0]))
    if arguments is not None:
        model.sample(*arguments, rng=0)
    assert not recorded


@pytest.mark.parametrize("kind", [kind for kind in MODELS if hasattr(kind, "sample")])
def test_sample_is_of_arrays_and_repeats_with_its_seed(kind):
    make, _, _, arguments = MODELS[kind]
    model = make(0)
    one, same, other = (model.sample(*arguments, rng=seed) for seed in (0, 0, 1))
    assert type(one) is np.ndarray
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(one, model.sample(*arguments, rng=np.random.default_rng(0)))
    assert kind in WRITERS or (one != other).any()
    if hasattr(kind, "sample_steps"):
        given = arguments[:1] if kind in WRITERS else arguments
        step = next(iter(model.sample_steps(*given, rng=0)))
        assert type(step) is np.ndarray
        assert len(step) == len(one)


def functions_of(package):
    """All functions and methods that a package's files define, by name."""
    for path in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(path.name)
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{module.__name__}.{name}", thing
            elif inspect.isclass(thing):
                for key, value in vars(thing).items():
                    function = inspect.unwrap(getattr(value, "__func__", value))
                    if inspect.isfunction(function):
                        yield f"{module.__name__}.{name}.{key}", function


@pytest.mark.parametrize(
    "package", [models, nn, judges, align, diffusion], ids=lambda package: package.__name__
)
def test_rng_is_given_by_name_everywhere(package):
    """`rng`, a generator or a seed; functions beside them may hand a generator on."""
    parameters = {name: inspect.signature(function).parameters for name, function in functions_of(package)}
    with_rng = {name: p["rng"] for name, p in parameters.items() if "rng" in p}
    with_rng = {name: p for name, p in with_rng.items() if p.annotation != "np.random.Generator"}
    assert len(with_rng) >= 3
    assert {name for name, p in with_rng.items() if p.kind is not p.KEYWORD_ONLY} == set()


# -- on a GPU --------------------------------------------------------------------------------------


def moved(x):
    """Numbers on the GPU; tokens, steps and captions stay where they are."""
    return Foreign(x) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def on_the_cpu(x):
    """The values of an output; of several, those of the first."""
    x = x[0] if isinstance(x, tuple) else x
    return x.numpy() if isinstance(x, Tensor) else x.get() if isinstance(x, Foreign) else x


@pytest.mark.parametrize("kind", MODELS)
def test_a_stand_in_for_a_gpu(kind, monkeypatch):
    """Its arrays refuse to mix with NumPy's. Output, loss and gradients are those of the CPU, and no value is
    looked at on the way; so are samples."""
    cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(asarray=Foreign, cuda=cuda))
    make, inputs, batch, arguments = MODELS[kind]
    here, there = make(0), make(0).to("cuda")
    close = lambda one, other: np.testing.assert_allclose(on_the_cpu(one), on_the_cpu(other), 1e-4, 1e-5)
    with no_waiting():
        out = there(*map(moved, inputs))
    close(out, here(*inputs))
    if batch is not None:
        given = {"rng": 0} if "rng" in inspect.signature(here.loss).parameters else {}
        with no_waiting():
            loss = there.loss(*map(moved, batch), **given)
            loss.backward()
        expected = here.loss(*batch, **given)
        expected.backward()
        close(loss, expected)
        for p, q in zip(there.named_state().values(), here.named_state().values(), strict=True):
            close(p, q)  # what a step of training counts, too
            assert (p.grad is None) == (q.grad is None)
            if q.grad is not None:
                assert type(p.grad) is Foreign
                close(p.grad, q.grad)
    if arguments is not None:
        close(there.sample(*arguments, rng=0), here.sample(*arguments, rng=0))


def test_running_means_are_updated_on_the_gpu(monkeypatch):
    """In training, without looking at a value."""
    cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(asarray=Foreign, cuda=cuda))
    here, there = VQVAE(3, 8, 2, 5, ema=True, rng=0), VQVAE(3, 8, 2, 5, ema=True, rng=0).to("cuda")
    here.loss(PICTURES)
    with no_waiting():
        there.loss(Foreign(PICTURES))
    for (name, one), (_, other) in zip(here.named_buffers(), there.named_buffers(), strict=True):
        np.testing.assert_allclose(on_the_cpu(other), on_the_cpu(one), 1e-5, 1e-6, err_msg=name)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if hasattr(kind, "decode")])
def test_a_model_on_a_gpu_decodes_codes_in_numpy(kind, monkeypatch):
    """As codes come from a file, or from another model on the CPU."""
    cuda = types.SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(asarray=Foreign, cuda=cuda))
    make, inputs, *_ = MODELS[kind]
    here, there = make(0), make(0).to("cuda")
    codes = here.encode(PICTURES if kind in OF_CODES else inputs[0])
    pictures = there.decode(codes)
    assert type(pictures) is Foreign
    np.testing.assert_allclose(on_the_cpu(pictures), here.decode(codes), 1e-4, 1e-5)


def arrays_of(result):
    """All arrays in a model's result."""
    if isinstance(result, tuple | list):
        return [a for part in result for a in arrays_of(part)]
    return [result.numpy()] if isinstance(result, Tensor) else []


@pytest.mark.parametrize("kind", MODELS)
def test_with_weights_in_float16_a_model_computes_in_float32(kind):
    """As the model whose weights are the same numbers in float32."""
    make, inputs, *_ = MODELS[kind]
    half, rounded = make(0).eval().astype(np.float16), make(0).eval()
    for (_, p), (_, q) in zip(rounded.named_tensors(Tensor), half.named_tensors(Tensor), strict=True):
        p.data = q.data.astype(p.dtype)
    with no_grad():
        found, wanted = (arrays_of(model(*inputs)) for model in (half, rounded))
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
