"""The rows of models: every field of their configurations, every argument of their methods."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from arguments.table import Row, learned, loss_of, rng
from golden.formula import filled, wave
from sd_folders import small

from tinygen import nn
from tinygen.data.digits import Digits
from tinygen.diffusion import Process, cosine_schedule, ddim
from tinygen.judges.digits import Judge, bounds
from tinygen.judges.ssim import ssim
from tinygen.models.language.bart import BART, BARTConfig
from tinygen.models.language.bert import BERT, BERTConfig
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
from tinygen.models.pictures.gan import (
    ConvDiscriminator,
    ConvGenerator,
    DenseDiscriminator,
    DenseGenerator,
)
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.plain_autoencoder import SWAE, SupervisedAutoencoder, linear_halves
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.models.pictures.unet import Control, UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.models.pictures.vgg import VGG
from tinygen.models.pictures.vqvae import VQVAE, VectorQuantizer
from tinygen.models.text_to_image.clip_encoders import END, TextTower, TowerConfig
from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.models.text_to_image.text_gan import TextDiscriminator, TextGenerator
from tinygen.text.ngram import NGram

IDS = np.array([[0, 1, 2, 0], [2, 1, 0, 1]])
PICTURES, STEPS = wave(2, 3, 8, 8, k=90), np.array([1, 30])
PAINTED = wave(1, 3, 8, 8, k=96)
DIGITS = wave(6, 1, 8, 8, k=91).astype(np.float32)


class Noise(np.random.Generator):
    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape: Any, dtype: Any = np.float64) -> Any:
        return wave(*shape, k=92).astype(dtype)


def gpt(**given: Any) -> GPT:
    """Whose weights matter."""
    return filled(
        GPT(GPTConfig(**{"vocab_size": 5, "block_size": 6, "n_embd": 4, "n_head": 2, **given}), rng=rng())
    )


def bert(**given: Any) -> BERT:
    sizes = {"vocab_size": 5, "block_size": 6, "layers": 1, "heads": 2, "channels": 4, "hidden": 6}
    return filled(BERT(BERTConfig(**{**sizes, "dropout": 0.0, **given}), rng=rng()))


def llama(**given: Any) -> Llama:
    sizes = {"vocab_size": 5, "block_size": 6, "channels": 8, "heads": 2, "hidden": 6, **given}
    return filled(Llama(LlamaConfig(**sizes), rng=rng()))


SOURCE, TARGET = np.array([[3, 4, 0], [4, 3, 3]]), np.array([[1, 4, 2], [1, 3, 3]])


def transformer(**given: Any) -> Transformer:
    sizes = {"vocab_size": 5, "layers": 1, "heads": 1, "channels": 4, "hidden": 6, "dropout": 0.0, **given}
    return filled(Transformer(TransformerConfig(**sizes), rng=rng()))


def t5(**given: Any) -> T5:
    sizes = {"vocab_size": 5, "layers": 1, "decoder_layers": 1, "heads": 1, "channels": 4, "head_channels": 4}
    sizes |= {"hidden": 6, "buckets": 4, "max_distance": 3, "dropout": 0.0, **given}
    return filled(T5(T5Config(**sizes), rng=rng()))


def bart(**given: Any) -> BART:
    sizes = {"vocab_size": 5, "block_size": 8, "layers": 1, "decoder_layers": 1, "heads": 1, "channels": 4}
    sizes |= {"hidden": 6, "dropout": 0.0, "inner_dropout": 0.0, "pad": 0, "begin": 1, **given}
    return filled(BART(BARTConfig(**sizes), rng=rng()))


def translation(make: Any, **given: Any) -> Any:
    """Its loss in training, its scores, and what it writes until it ends."""
    model = make(**given)
    scores = [[h.score for h in row] for row in model.beam_search(SOURCE, 3)]
    return [
        [p.shape for p in model.parameters()],
        model.loss(SOURCE, TARGET),
        scores,
        model.greedy_search(SOURCE, 6),
    ]


def unet(**given: Any) -> Any:
    sizes = {"channels": 4, "blocks": 1, "groups": 2, **given}
    module = UNet(UNetConfig(3, 3, **sizes), rng=rng())
    more = {}
    if sizes.get("classes"):
        more["labels"] = np.array([1, 2])
    if sizes.get("context"):
        more["context"] = wave(2, 3, sizes["context"], k=93)
    filled(module)
    return [[p.shape for p in module.parameters()], module(PICTURES, STEPS, **more)]


def told(**given: Any) -> Any:
    """A UNet with classes and texts, told some of it."""
    config = UNetConfig(3, 3, 4, blocks=1, groups=2, classes=3, context=5)
    usual = {"labels": np.array([1, 2]), "context": wave(2, 3, 5, k=93)}
    return filled(UNet(config, rng=rng()))(PICTURES, STEPS, **{**usual, **given})


def controlnet(config: ControlNetConfig, **given: Any) -> Any:
    """What a ControlNet adds to each feature map; its last layers are random here, too."""
    f = 2 ** (len(config.hint_widths) - 1)
    hints = wave(2, config.hint_channels, *(f * side for side in PICTURES.shape[2:]), k=94)
    module = ControlNet(config, rng=rng())
    found = filled(module)(PICTURES, STEPS, hints, **given)
    return [[p.shape for p in module.parameters()], found.middle, *found.skips]


def control(**given: Any) -> Any:
    sizes = {"channels": 4, "blocks": 1, "groups": 2, "hint_widths": (2, 3), **given}
    more = {}
    if sizes.get("classes"):
        more["labels"] = np.array([1, 2])
    if sizes.get("context"):
        more["context"] = wave(2, 3, sizes["context"], k=93)
    return controlnet(ControlNetConfig(3, 3, **sizes), **more)


def told_control(**given: Any) -> Any:
    """A ControlNet with classes and texts, told some of it."""
    config = ControlNetConfig(3, 3, 4, blocks=1, groups=2, classes=3, context=5, hint_widths=(2, 3))
    return controlnet(config, **{"labels": np.array([1, 2]), "context": wave(2, 3, 5, k=93), **given})


def autoencoder(**given: Any) -> Any:
    config = AutoencoderConfig(**{"channels": 4, "groups": 2, **given})
    x = wave(2, config.in_channels, 8, 8, k=90)
    return loss_of(AutoencoderKL(config, rng=rng()), x, rng=Noise())


def painting(**given: Any) -> dict[str, Any]:
    """The arguments of Stable Diffusion, with a picture for those that are about one."""
    return ({"picture": PAINTED} if given.keys() & {"strength", "hole"} else {}) | given


def painter() -> Any:
    config = UNetConfig(2, 2, 4, blocks=1, groups=2, context=4)
    words = TextEncoderConfig(("red", "square"), 2, heads=2, channels=4)
    denoiser = TextDenoiser(UNet(config, rng=rng()), TextEncoder(words, rng=rng()))
    coder = AutoencoderKL(AutoencoderConfig(1, 2, 4, (1, 2), groups=2), rng=rng())
    return filled(LatentDiffusion(coder, denoiser, Process(cosine_schedule(30), "v"), 8), 0.1)


EDITED = (PICTURES, PICTURES[:, :1] > 0, np.array([0, 2]))


def palette() -> Any:
    net = UNet(UNetConfig(7, 3, 4, blocks=1, groups=2, classes=2), rng=rng())
    return filled(Palette(net, Process(cosine_schedule(30), "v")), 0.1)


def controlled() -> Any:
    base = painter()
    net = ControlNet.copy_of(base.denoiser.unet, 1, (2, 3), rng=rng())
    return filled(ControlledDiffusion(base, net), 0.1)


HINTS = wave(1, 1, 8, 8, k=95)


def denoised(**given: Any) -> Any:
    return learned(
        Denoiser(**{"dim": 2, "channels": 6, **given}, rng=rng()), wave(2, given.get("dim", 2), k=94), STEPS
    )


def read(**given: Any) -> Any:
    config = TextEncoderConfig(("red", "square"), 2, **{"channels": 4, "heads": 2, **given})
    return learned(TextEncoder(config, rng=rng()), ["red square", "red"])


def told_in_words(kind: type, shape: Any, **given: Any) -> Any:
    """A network of an adversarial game with captions, and its output."""
    words = TextEncoderConfig(("red", "square"), 2, layers=0, channels=4)
    return learned(kind(words, **given, rng=rng()), wave(2, *shape, k=99), ["red square", "red"])


def tower(**given: Any) -> Any:
    config = TowerConfig(**{"layers": 1, "channels": 4, "heads": 2, **given})
    return learned(TextTower(4, 4, END, config, 3, rng=rng()), np.array([[2, 3, END]]))


def coded(kind: type, **given: Any) -> Any:
    """A VAE's loss, and the means of what it draws."""
    model = kind(**given, rng=rng())
    shape = (2, given.get("in_channels", 1), given.get("side", 8), given.get("side", 8))
    if kind is VAE:
        shape = (2, given.get("data", 784))
    return loss_of(model, (wave(*shape, k=95) + 1) / 2, rng=Noise())


def quantized(**given: Any) -> Any:
    model = VQVAE(**{"in_channels": 1, "channels": 4, "dim": 2, "num_codes": 5, **given}, rng=rng())
    done = loss_of(model, wave(2, given.get("in_channels", 1), 8, 8, k=96))
    return [done, model.quantizer.count]


def quantizer(**given: Any) -> Any:
    layer = VectorQuantizer(5, 2, **given, rng=rng())
    return [learned(layer, wave(2, 2, 3, 3, k=97)), layer.count, layer.codebook]


def restarted(make: Callable[[], Any], x: Any, **given: Any) -> Any:
    module = make()
    return module.restart(x, **given, rng=rng())


def judged(**given: Any) -> Any:
    judge = Judge(rng=rng())
    known = Digits(DIGITS, np.arange(len(DIGITS)) % 2)
    some = Digits(DIGITS[:3], known.labels[:3])
    return tuple(bounds(judge, known, some, **given, rng=rng()))


CLASSES = {"labels": np.array([0, 2])}


def generated(kind: type, **given: Any) -> Any:
    """A generator with or without classes, and its output."""
    labels = [np.array([0, 1])] if given.get("classes") else []
    return learned(kind(**given, rng=rng()), wave(2, given.get("latent", kind(rng=0).latent), k=99), *labels)


def told_apart(kind: type, shape: Any, **given: Any) -> Any:
    """A discriminator with or without classes, and its output."""
    labels = [np.array([0, 1])] if given.get("classes") else []
    return learned(kind(**given, rng=rng()), wave(2, *shape, k=99), *labels)


def shape_of(dim: int = 2, in_channels: int = 0, side: int = 8, **_: Any) -> tuple[int, ...]:
    return (in_channels, side, side) if in_channels else (dim,)


SIZES = {"channels": 8, "multipliers": (1, 3), "blocks": 2, "attention": (True, True), "heads": 2}
UNETS = {
    **SIZES,
    "head_channels": 2,
    "classes": 3,
    "context": 5,
    "dropout": 0.5,
    "scale_shift": True,
    "groups": 4,
}
STEPS_OF_A_SAMPLER = {"steps": 5, "sampler": partial(ddim, clip=0.1)}
SAMPLING = {"guidance": 1.0, "rescale": 0.7} | STEPS_OF_A_SAMPLER
PAINTING = {
    "negative": "cat",
    "guidance": 1.0,
    "steps": 5,
    "size": (4, 8),
    "picture": PAINTED,
    "strength": 0.5,
    "hole": np.arange(8) < np.full((8, 1), 4),
}
CONTROLLED = {name: value for name, value in SAMPLING.items() if name != "rescale"} | {"strength": 0.5}
DRAW = {"temperature": 9.0, "top_k": 1, "top_p": 0.01}

SKIPS = ((4, 8), (4, 8), (4, 4), (8, 4))  # channels and sides of `told`'s feature maps

MODELS = {
    "models.language.gpt.GPTConfig": Row(
        lambda **k: learned(gpt(**k), IDS),
        {"block_size": 7, "n_layer": 2, "n_head": 1, "n_embd": 6, "dropout": 0.5, "bias": False}
        | {"gelu": "tanh", "tie_weights": False, "norm_eps": 0.1},
    ),
    "models.language.gpt.GPT.forward": Row(
        lambda **k: gpt()(IDS, **k), {"targets": np.array([[1, 2, 0, 1], [1, -1, 1, 0]])}
    ),
    "models.language.causal_lm.LanguageModel.sample": Row(
        lambda **k: gpt().sample(np.tile(IDS, (20, 1)), 4, **k, rng=rng()), DRAW | {"end": 3}
    ),
    "models.language.causal_lm.LanguageModel.sample_steps": Row(
        lambda **k: list(islice(gpt().sample_steps(np.tile(IDS, (20, 1)), **k, rng=rng()), 4)),
        DRAW | {"end": 3},
    ),
    "models.language.bert.BERTConfig": Row(
        lambda **k: learned(bert(**k), IDS),
        {"vocab_size": 6, "block_size": 7, "layers": 2, "heads": 1, "channels": 8, "hidden": 7, "segments": 3}
        | {"dropout": 0.5, "gelu": "tanh", "norm_eps": 0.1, "next_sentence": False, "pad": 0},
    ),
    "models.language.bert.BERT.forward": Row(
        lambda **k: bert()(IDS, **k), {"segments": IDS % 2, "mask": IDS != 0}
    ),
    "models.language.bert.BERT.loss": Row(
        lambda **k: bert().loss(IDS, IDS, **k),
        {"segments": IDS % 2, "mask": IDS != 0, "random_next": np.array([0, 1])},
    ),
    "models.language.bert.BERT.losses": Row(
        lambda **k: bert().losses(IDS, IDS, **k).total,
        {"segments": IDS % 2, "mask": IDS != 0, "random_next": np.array([0, 1])},
    ),
    "models.language.llama.LlamaConfig": Row(
        lambda **k: learned(llama(**k), IDS),
        {"layers": 2, "heads": 4, "kv_heads": 1, "channels": 16, "head_channels": 2}
        | {"hidden": 7, "dropout": 0.5, "rope_base": 50.0, "rope_scaling": nn.RopeScaling(original_length=4)}
        | {"qkv_bias": True, "proj_bias": True, "mlp_bias": True, "qk_norm": True}
        | {"tie_weights": True, "norm_eps": 0.1},
    ),
    "models.language.llama.Llama.forward": Row(
        lambda **k: llama()(IDS, **k), {"targets": np.array([[1, 2, 0, 1], [1, -1, 1, 0]])}
    ),
    "models.language.transformer.TransformerConfig": Row(
        lambda **k: translation(transformer, **k),
        {"layers": 2, "heads": 2, "channels": 8, "hidden": 7, "dropout": 0.5, "label_smoothing": 0.3}
        | {"pre_norm": True, "norm_eps": 0.1, "pad": 3, "begin": 3, "end": 3},
    ),
    "models.language.t5.T5Config": Row(
        lambda **k: [translation(t5, **k), t5(**k)(np.tile(SOURCE, 3), np.tile(TARGET, 3))],
        {"vocab_size": 6, "layers": 2, "decoder_layers": 2, "heads": 2, "channels": 8, "head_channels": 2}
        | {"hidden": 7, "buckets": 5, "max_distance": 9, "dropout": 0.5, "gated": True, "tie_weights": False}
        | {"norm_eps": 0.1, "pad": 3, "begin": 3, "end": 3},
    ),
    "models.language.bart.BARTConfig": Row(
        lambda **k: translation(bart, **k),
        {"vocab_size": 6, "block_size": 9, "layers": 2, "decoder_layers": 2, "heads": 2, "channels": 8}
        | {"hidden": 7, "dropout": 0.5, "inner_dropout": 0.5, "gelu": "tanh", "pad": 3, "begin": 3, "end": 3},
    ),
    "models.language.encoder_decoder.EncoderDecoder.beam_search": Row(
        lambda **k: [[h.score for h in row] for row in transformer().beam_search(SOURCE, 5, **k)],
        {"width": 2, "alpha": 1.0},
    ),
    "models.language.encoder_decoder.EncoderDecoder.sample": Row(
        lambda **k: t5().sample(np.tile(SOURCE, (20, 1)), 4, **k, rng=rng()), DRAW
    ),
    "models.language.encoder_decoder.EncoderDecoder.sample_steps": Row(
        lambda **k: next(t5().sample_steps(np.tile(SOURCE, (20, 1)), **k, rng=rng())), DRAW
    ),
    "models.language.linear.LinearLM": Row(
        lambda **k: learned(LinearLM(5, **k, rng=rng()), IDS), {"context": 2, "channels": 3}
    ),
    "models.language.recurrent.RecurrentLM": Row(
        lambda **k: learned(RecurrentLM(5, **k, rng=rng()), IDS),
        {"channels": 3, "layers": 2, "kind": "gru", "dropout": 0.5},
    ),
    "models.language.recurrent.RecurrentLM.forward": Row(
        lambda **k: RecurrentLM(5, 4, kind="rnn", rng=rng())(IDS, **k), {"state": wave(1, 2, 4, k=99)}
    ),
    "models.language.wavenet.WaveNet": Row(
        lambda **k: learned(WaveNet(5, **k, rng=rng()), IDS, IDS % 2 if "classes" in k else None),
        {"channels": 3, "skip_channels": 5, "dilations": (1, 2), "classes": 2},
    ),
    "models.language.wavenet.WaveNet.loss": Row(
        lambda **k: WaveNet(5, classes=3 if k else 0, rng=rng()).loss(IDS, IDS, **k), {"condition": IDS % 3}
    ),
    "models.language.recurrent.Tagger": Row(
        lambda **k: learned(Tagger(5, 3, **k, rng=rng()), IDS),
        {"channels": 3, "layers": 3, "kind": "gru", "dropout": 0.5},
        {"layers": 2},
    ),
    "models.language.recurrent.Tagger.forward": Row(
        lambda **k: Tagger(5, 3, 4, rng=rng())(IDS, **k), {"lengths": [3, 4]}
    ),
    "models.language.recurrent.Tagger.loss": Row(
        lambda **k: Tagger(5, 3, 4, rng=rng()).loss(IDS, IDS, **k), {"lengths": [3, 4]}
    ),
    "models.language.word2vec.Word2Vec": Row(
        lambda **k: loss_of(filled(Word2Vec([3, 2, 1], **k, rng=rng())), IDS, words=IDS[:, 1], rng=rng()),
        {"channels": 3, "negatives": 2, "power": 0.0},
    ),
    "models.text_to_image.text_encoder.TextEncoderConfig": Row(
        read, {"layers": 2, "heads": 1, "channels": 8, "dropout": 0.5}
    ),
    "models.text_to_image.clip_encoders.TowerConfig": Row(
        tower,
        {"layers": 2, "heads": 1, "channels": 8, "hidden": 6}
        | {"activation": "gelu", "dropout": 0.5, "norm_eps": 0.1},
    ),
    "models.pictures.unet.UNet.forward": Row(
        told,
        {
            "control": Control(wave(2, 8, 4, 4, k=97), [wave(2, n, s, s, k=n) for n, s in SKIPS]),
            "labels": np.array([3, 0]),
            "context": wave(2, 3, 5, k=98),
            "mask": np.array([[True, True, False]] * 2),
        },
    ),
    "models.pictures.controlnet.ControlNetConfig": Row(
        control, {**UNETS, "hint_channels": 1, "hint_widths": (4, 6)}
    ),
    "models.pictures.controlnet.ControlNet.forward": Row(
        told_control,
        {
            "labels": np.array([3, 0]),
            "context": wave(2, 3, 5, k=98),
            "mask": np.array([[True, True, False]] * 2),
            "strength": 0.5,
        },
    ),
    "models.pictures.autoencoder.AutoencoderConfig": Row(
        autoencoder,
        {"in_channels": 1, "latent": 2, "channels": 8, "multipliers": (1, 2), "blocks": 2, "attention": False}
        | {"groups": 1, "reconstruction": "l1", "kl_weight": 0.5},
    ),
    "models.pictures.denoiser.Denoiser": Row(denoised, {"dim": 3, "channels": 5, "layers": 2, "waves": 2}),
    "models.pictures.gan.DenseGenerator": Row(
        lambda **k: generated(DenseGenerator, **k),
        {"dim": 3, "channels": 5, "layers": 2, "latent": 3, "classes": 2},
    ),
    "models.pictures.gan.ConvGenerator": Row(
        lambda **k: generated(ConvGenerator, **k),
        {"in_channels": 2, "side": 16, "channels": 5, "latent": 3, "classes": 2},
    ),
    "models.pictures.gan.DenseDiscriminator": Row(
        lambda **k: told_apart(DenseDiscriminator, shape_of(**k), **k),
        {"dim": 3, "channels": 5, "layers": 2, "classes": 2, "spectral": True},
    ),
    "models.pictures.gan.ConvDiscriminator": Row(
        lambda **k: told_apart(ConvDiscriminator, shape_of(**{"in_channels": 1, **k}), **k),
        {"in_channels": 2, "side": 16, "channels": 5, "classes": 2, "spectral": True},
    ),
    **{
        f"models.pictures.gan.{name}": Row(
            lambda f=f, **k: filled(f()).forward(wave(2, 2, k=99), **k), CLASSES, {"labels": np.array([1, 1])}
        )
        for name, f in {
            "DenseGenerator.forward": lambda: DenseGenerator(latent=2, classes=3, rng=rng()),
            "ConvGenerator.forward": lambda: ConvGenerator(latent=2, classes=3, rng=rng()),
            "Discriminator.forward": lambda: DenseDiscriminator(2, classes=3, rng=rng()),
        }.items()
    },
    "models.pictures.gan.Generator.sample": Row(
        lambda **k: DenseGenerator(classes=3, rng=rng()).sample(2, **k, rng=rng()),
        CLASSES,
        {"labels": np.array([1, 1])},
    ),
    "models.text_to_image.text_gan.TextGenerator": Row(
        lambda **k: told_in_words(TextGenerator, (k.get("latent", 8),), **k),
        {"dim": 3, "in_channels": 2, "side": 8, "channels": 5, "latent": 3},
    ),
    "models.text_to_image.text_gan.TextDiscriminator": Row(
        lambda **k: told_in_words(TextDiscriminator, shape_of(**{"in_channels": 3, "side": 16, **k}), **k),
        {"in_channels": 2, "side": 8, "channels": 5},
    ),
    "models.text_to_image.latent_diffusion.LatentDiffusion.sample": Row(
        lambda **k: painter().sample(["red square"], rng=rng(), **k), SAMPLING
    ),
    "models.text_to_image.latent_diffusion.LatentDiffusion.sample_steps": Row(
        lambda **k: list(painter().sample_steps(["red"], rng=rng(), **k)), SAMPLING
    ),
    "models.text_to_image.stable_diffusion.StableDiffusion.sample": Row(
        lambda **k: filled(small(0), 0.1).sample(["a red"], rng=rng(), **painting(**k)),
        PAINTING,
        {"steps": 2},
    ),
    "models.text_to_image.stable_diffusion.StableDiffusion.sample_steps": Row(
        lambda **k: list(filled(small(0), 0.1).sample_steps(["a red"], rng=rng(), **painting(**k))),
        PAINTING,
        {"steps": 2},
    ),
    "models.text_to_image.stable_diffusion.StableDiffusion.forward": Row(
        lambda beside=None: filled(small(0, 2 if beside is None else 5))(
            wave(2, 2, 4, 4, k=7), STEPS, wave(2, 6, 8), beside
        ),
        {"beside": wave(2, 3, 4, 4, k=8)},
    ),
    "models.pictures.palette.Palette.sample": Row(
        lambda **k: palette().sample(*EDITED, rng=rng(), **k), STEPS_OF_A_SAMPLER
    ),
    "models.pictures.palette.Palette.sample_steps": Row(
        lambda **k: list(palette().sample_steps(*EDITED, rng=rng(), **k)), STEPS_OF_A_SAMPLER
    ),
    "models.text_to_image.controlled_diffusion.ControlledDiffusion.forward": Row(
        lambda **k: controlled()(wave(1, 2, 4, 4, k=96), STEPS[:1], ["red"], HINTS, **k), {"strength": 0.5}
    ),
    "models.text_to_image.controlled_diffusion.ControlledDiffusion.sample": Row(
        lambda **k: controlled().sample(["red square"], HINTS, rng=rng(), **k), CONTROLLED
    ),
    "models.text_to_image.controlled_diffusion.ControlledDiffusion.sample_steps": Row(
        lambda **k: list(controlled().sample_steps(["red"], HINTS, rng=rng(), **k)), CONTROLLED
    ),
    "models.pictures.vae.VAE": Row(
        lambda **k: coded(VAE, **k),
        {"data": 9, "hidden": 5, "latent": 3, "beta": 0.5, "pixels": "gaussian"},
    ),
    "models.pictures.vae.ConvVAE": Row(
        lambda **k: coded(ConvVAE, **k),
        {"in_channels": 2, "side": 4, "channels": 4, "latent": 3, "beta": 0.5, "pixels": "gaussian"},
    ),
    "models.pictures.plain_autoencoder.SupervisedAutoencoder": Row(
        lambda **k: loss_of(
            SupervisedAutoencoder(*linear_halves(64, 2, rng=rng()), 2, 3, **k, rng=rng()),
            DIGITS.reshape(6, 64),
            labels=np.arange(6) % 3,
        ),
        {"weight": 0.5},
    ),
    "models.pictures.realnvp.RealNVP": Row(
        lambda **k: learned(RealNVP(**k, rng=rng()), wave(6, k.get("dim", 2), k=98)),
        {"dim": 3, "channels": 5, "layers": 1, "couplings": 3},
    ),
    "models.pictures.hierarchical_vae.HierarchicalVAE": Row(
        lambda **k: learned(HierarchicalVAE(**k, rng=rng()), wave(2, k.get("data", 784), k=93)),
        {"data": 64, "hidden": 5, "latents": (3, 2), "pixels": "gaussian"},
    ),
    "models.pictures.plain_autoencoder.SWAE": Row(
        lambda **k: loss_of(SWAE(*linear_halves(64, 2, rng=rng()), 2, **k), DIGITS.reshape(6, 64), rng=rng()),
        {"weight": 0.5, "directions": 3},
    ),
    "models.pictures.vgg.VGG": Row(
        lambda **k: learned(VGG(((4,), (5,)), **k, rng=rng()), PICTURES), {"pooling": "max"}
    ),
    "models.pictures.vqvae.VQVAE": Row(
        quantized,
        {"in_channels": 2, "channels": 6, "dim": 3, "num_codes": 4, "beta": 0.5, "ema": True, "decay": 0.5},
    ),
    "models.pictures.vqvae.VectorQuantizer": Row(quantizer, {"ema": True, "decay": 0.5}),
    "models.pictures.vqvae.VectorQuantizer.restart": Row(
        lambda **k: restarted(lambda: VectorQuantizer(5, 2, rng=rng()), wave(2, 2, 3, 3, k=97), **k),
        {"below": np.inf},
    ),
    "models.pictures.vqvae.VQVAE.restart": Row(
        lambda **k: restarted(lambda: VQVAE(1, 4, 2, 5, rng=rng()), DIGITS, **k), {"below": np.inf}
    ),
    "judges.digits.bounds": Row(judged, {"draws": 2}),
    "judges.ssim.ssim": Row(
        lambda **k: ssim(PICTURES, 0.5 * PICTURES, **{"sigma": 0.8} | k), {"sigma": 0.6, "span": 1.0}
    ),
    "text.ngram.NGram.sample": Row(
        lambda **k: NGram(3).fit(np.arange(40) % 3, 3).sample(5, rng(), **k),
        {"prompt": [1, 2]},
        {"prompt": [0, 1]},
    ),
    "models.pictures.unet.UNetConfig": Row(unet, UNETS),
}
