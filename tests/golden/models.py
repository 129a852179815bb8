"""The golden cases of whole models, of samplers, of optimizers and of the tokenizer: {name: Case}."""

import numpy as np
from golden.formula import Case, wave
from sd_folders import small

from tinygen import no_grad
from tinygen.diffusion import (
    Process,
    ancestral_step,
    annealed_langevin,
    cosine_schedule,
    ddim_step,
    dpm_solver,
    euler,
    evenly_spaced,
    flow_log_prob,
    flow_matching_loss_at,
    guide,
    karras_sigmas,
    linear_schedule,
    midpoint,
    noise_levels,
    plms,
    rescale_guidance,
    rescale_zero_terminal_snr,
    score_matching_loss_at,
    sigma_euler,
    sigma_schedule,
    sqrt_linear_schedule,
)
from tinygen.judges.digits import Judge
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
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.gan import ConvDiscriminator, ConvGenerator
from tinygen.models.pictures.gan_losses import r1_penalty
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.plain_autoencoder import (
    SWAE,
    SupervisedAutoencoder,
    conv_halves,
    dense_halves,
)
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.models.pictures.style import StyleTransfer
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.models.pictures.vgg import VGG
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.models.text_to_image.clip import CLIP as PicturesAndTexts
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.models.text_to_image.latent_diffusion import TextDenoiser
from tinygen.models.text_to_image.noisy_clip import NoisyCLIP, NoisyImageEncoder
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.models.text_to_image.text_gan import TextDiscriminator, TextGenerator, matching_aware_loss
from tinygen.nn import RopeScaling
from tinygen.optim import SGD, Adam, AdamW, clip_grad_norm
from tinygen.tensor import Tensor

RNG = np.random.default_rng(0)
IDS = np.array([[0, 3, 1, 4, 4], [2, 2, 0, 3, 1]])
NEXT = np.array([[-1, 3, 1, 4, 0], [2, -1, 0, 3, 1]])
MASKED = np.where(NEXT > 2, NEXT, -100)
SEGMENTS = np.array([[0, 1, 2, 1, 0], [0, 0, 1, 1, 2]])
REAL_TOKENS = np.arange(5) < np.array([[4], [5]])
PAIRS = np.arange(25.0).reshape(5, 5) % 7
CAPTIONS = ["red square", "", "a red"]
STEPS = np.array([1, 30])
SCHEDULES = {
    "linear": linear_schedule(1000),
    "sqrt_linear": sqrt_linear_schedule(1000),
    "cosine": cosine_schedule(1000),
}
PICTURES = wave(2, 3, 8, 8, k=40)
DIGITS = (wave(2, 1, 8, 8, k=41) + 1) / 2
LABELS = np.array([2, 0])


class Noise(np.random.Generator):
    """A generator whose every draw is a wave."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype=np.float64):
        return wave(*shape, k=44).astype(np.float32).astype(dtype)


def gpt(**changes):
    return lambda: GPT(GPTConfig(5, 6, 2, 2, 8, **changes), rng=RNG)


def bert():
    return BERT(BERTConfig(5, 6, 2, 2, 8, 6, segments=3, dropout=0.0, norm_eps=0.1), rng=RNG)


def roberta():
    sizes = {"segments": 1, "dropout": 0.0, "norm_eps": 0.1, "next_sentence": False, "pad": 1}
    return BERT(BERTConfig(5, 6, 2, 2, 8, 6, **sizes), rng=RNG)


def bert_outputs(model, ids):
    """The two parts of the loss, and the logits."""
    losses = model.losses(ids, MASKED, SEGMENTS, REAL_TOKENS, np.array([1, 0]))
    return losses.masked, losses.next_sentence, model(ids, SEGMENTS, REAL_TOKENS)


def llama(**changes):
    return lambda: Llama(LlamaConfig(5, 6, 2, 4, 2, 8, hidden=6, **changes), rng=RNG)


PADDED = np.array([[0, 3, 1, 4, 4], [2, 2, 0, 4, 4]])
"""Sources and targets; 4 is the padding."""


def transformer(**options):
    return lambda: Transformer(
        TransformerConfig(5, 2, 2, 8, 6, dropout=0.0, norm_eps=0.1, pad=4, **options), rng=RNG
    )


WORDS = TextEncoderConfig(("a", "red", "square"), 3, layers=2, heads=2, channels=6)


def t5(**options):
    return lambda: T5(
        T5Config(5, 2, 2, 2, 8, 3, 6, 4, 6, dropout=0.0, norm_eps=0.1, pad=4, **options), rng=RNG
    )


def bart():
    sizes = {"layers": 2, "decoder_layers": 2, "heads": 2, "channels": 8, "hidden": 6}
    return BART(BARTConfig(5, 6, **sizes, dropout=0.0, inner_dropout=0.0, pad=4), rng=RNG)


def repair(model):
    """Logits and loss."""
    return model(PADDED, PADDED[::-1]), model.loss(PADDED, PADDED[::-1])


def text_encoder():
    return TextEncoder(WORDS, rng=RNG)


TEXTS = np.array([[2, 1, 4, 0], [3, 4, 1, 4]])  # 4 is the end token


def clip():
    config = TowerConfig(2, 2, 4, hidden=6, norm_eps=0.1)
    image = VisionTransformer(4, 2, 3, config, 3, rng=RNG)
    return PicturesAndTexts(image, TextTower(5, 4, 4, config, 3, rng=RNG))


def noisy_clip():
    text = TextTower(5, 4, 4, TowerConfig(1, 2, 4, hidden=6), 3, rng=RNG)
    return NoisyCLIP(NoisyImageEncoder(4, 3, 4, 2, 3, rng=RNG), text, Process(SCHEDULES["cosine"]))


def unet(**options):
    sizes = {"heads": 2, "groups": 2, "attention": (False, True), "multipliers": (1, 2)}
    return UNet(UNetConfig(3, 3, 4, blocks=1, **sizes, **options), rng=RNG)


HOLE = wave(2, 1, 8, 8, k=74) > 0


def palette():
    sizes = {"heads": 2, "groups": 2, "attention": (False, True), "multipliers": (1, 2), "classes": 3}
    return Palette(UNet(UNetConfig(7, 3, 4, blocks=1, **sizes), rng=RNG), Process(SCHEDULES["cosine"], "v"))


def flat_control(control):
    return control.middle, *control.skips


def autoencoder():
    return AutoencoderKL(AutoencoderConfig(3, 2, 4, (1, 2), groups=2), rng=RNG)


def sums(losses, x):
    """The parts of a VAE's loss, summed over the batch."""
    return losses.reconstruction * len(x), losses.kl * len(x)


def losses_and_code(model, x):
    """The two parts of the loss, and the moments of the code."""
    q = model.encoder(x)
    return *sums(model.losses(x, rng=Noise()), x), q.mean, q.logvar


def texts_to_codes(model, x):
    context, mask = model.text_encoder(CAPTIONS[:2])
    return model(x, STEPS, context, mask)


PROMPTS, NEGATIVE = ["a red cat", "the"], "blue!"
HOLE_OF_CODES = np.arange(8) < np.full((8, 1), 3)


def painted(model, x):
    """The prediction for codes, with gradients; then codes after three steps of guided sampling, from noise,
    and from a picture with a hole."""
    prediction = model(x, STEPS[:2] % 60, model.encode_text(PROMPTS))
    *_, codes = model.sample_steps(PROMPTS, negative=NEGATIVE, guidance=3.0, steps=3, rng=Noise())
    given = {"picture": PICTURES, "hole": HOLE_OF_CODES, "strength": 0.7}
    *_, kept = model.sample_steps(PROMPTS, guidance=3.0, steps=3, rng=Noise(), **given)
    return prediction, codes, model.decode(codes), kept


def text_gan_losses(model, x):
    """Of pictures with their captions and with the others', and of the same pictures from below as fakes."""
    right, wrong = CAPTIONS[:2], CAPTIONS[1::-1]
    logits = [model(*pair) for pair in ((x, right), (x, wrong), (x[:, :, ::-1], right))]
    return matching_aware_loss(*logits), r1_penalty(lambda x: model(x, right), x)


MODELS = {
    "gpt": Case(gpt(gelu="tanh"), (IDS,), lambda m, ids: m(ids, NEXT)),
    "gpt-untied": Case(
        gpt(gelu="none", tie_weights=False, norm_eps=0.1), (IDS,), lambda m, ids: m(ids, NEXT)
    ),
    "bert": Case(bert, (IDS,), bert_outputs),
    "roberta": Case(roberta, (IDS,), lambda m, ids: m(ids, mask=REAL_TOKENS)),
    "transformer": Case(transformer(), (), repair),
    "transformer-pre_norm": Case(transformer(pre_norm=True), (), lambda m: m(PADDED, PADDED[::-1])),
    "t5": Case(t5(), (), repair, 1e-6),  # norms are float32 there
    "t5-v1.1": Case(t5(gated=True, tie_weights=False), (), repair, 1e-6),
    "bart": Case(bart, (), repair),
    "llama": Case(
        llama(rope_base=100.0, rope_scaling=RopeScaling(4.0, 1.0, 3.0, 8)),
        (IDS,),
        lambda m, ids: m(ids, NEXT),
        1e-6,
    ),
    "llama-qwen3": Case(
        llama(head_channels=4, qk_norm=True, qkv_bias=True, proj_bias=True, tie_weights=True, norm_eps=0.1),
        (IDS,),
        lambda m, ids: m(ids, NEXT),
        1e-6,
    ),
    "linear_lm": Case(lambda: LinearLM(5, 3, 4, rng=RNG), (IDS,), lambda m, ids: (m(ids), m.loss(ids, NEXT))),
    **{
        f"recurrent_lm-{kind}": Case(
            lambda kind=kind: RecurrentLM(5, 4, 2, kind, rng=RNG),
            (IDS,),
            lambda m, ids: (m(ids)[0], m.loss(ids, NEXT)),
        )
        for kind in ("rnn", "gru", "lstm")
    },
    "wavenet": Case(
        lambda: WaveNet(5, 4, 3, (1, 2), 3, rng=RNG),
        (IDS,),
        lambda m, ids: (m(ids, ids % 3), m.loss(ids, NEXT, ids % 3)),
    ),
    "tagger": Case(
        lambda: Tagger(5, 3, 4, rng=RNG), (IDS,), lambda m, ids: (m(ids), m.loss(ids, np.minimum(NEXT, 2)))
    ),
    "word2vec": Case(
        lambda: Word2Vec(np.arange(5), 4, 3, rng=RNG), (IDS,), lambda m, ids: m.expected_loss(PAIRS)
    ),
    "text_encoder": Case(text_encoder, (), lambda m: m(CAPTIONS)[0] * m(CAPTIONS)[1][..., None]),
    "unet-classes": Case(
        lambda: unet(classes=3), (PICTURES,), lambda m, x: m(x, STEPS, np.array([2, 3])), 1e-5
    ),
    "unet-scale_shift": Case(lambda: unet(scale_shift=True), (PICTURES,), lambda m, x: m(x, STEPS), 1e-5),
    "unet-texts": Case(
        lambda: unet(context=5),
        (PICTURES, wave(2, 4, 5, k=31)),
        lambda m, x, c: m(x, STEPS, context=c, mask=np.arange(4) < np.array([[3], [4]])),
        1e-5,
    ),
    "controlnet": Case(
        lambda: ControlNet.copy_of(unet(context=5), 2, (3, 4), rng=RNG),
        (PICTURES, wave(2, 2, 16, 16, k=32), wave(2, 4, 5, k=31)),
        lambda m, x, h, c: flat_control(m(x, STEPS, h, context=c, strength=0.5)),
        1e-5,
    ),
    "latent_diffusion": Case(
        lambda: TextDenoiser(unet(context=6), text_encoder()), (PICTURES,), texts_to_codes, 1e-5
    ),
    "stable_diffusion": Case(lambda: small(0), (wave(2, 2, 4, 4, k=77),), painted, 1e-5),
    "palette": Case(
        palette,
        (PICTURES, wave(2, 3, 8, 8, k=75)),
        lambda m, x, y: (
            m(x, STEPS, y, HOLE, np.array([2, 3])),
            m.loss(x.data, y, HOLE, np.array([2, 3]), rng=Noise()),
        ),
        1e-5,
    ),
    "clip": Case(clip, (wave(2, 3, 4, 4, k=49),), lambda m, x: (m(x, TEXTS), m.loss(x, TEXTS))),
    "noisy_clip": Case(
        noisy_clip,
        (wave(2, 3, 4, 4, k=49),),
        lambda m, x: (m.image_vectors(x, STEPS), m(x, STEPS, TEXTS), m.loss(x.data, TEXTS, rng=Noise())),
        1e-5,
    ),
    "autoencoder": Case(
        autoencoder, (PICTURES,), lambda m, x: (*m.posterior(x), *sums(m.losses(x, rng=Noise()), x))
    ),
    "autoencoder-decoder": Case(autoencoder, (wave(2, 2, 3, 4, k=42),), lambda m, z: m.to_pictures(z)),
    "vae": Case(lambda: VAE(6, 5, 2, rng=RNG), ((wave(3, 6, k=43) + 1) / 2,), losses_and_code),
    "vae-gaussian": Case(
        lambda: VAE(6, 5, 2, pixels="gaussian", beta=0.3, rng=RNG),
        (wave(3, 6, k=43),),
        lambda m, x: m.loss(x, rng=Noise()),
    ),
    "conv_vae": Case(
        lambda: ConvVAE(1, 8, 2, 3, beta=0.3, rng=RNG), (DIGITS,), lambda m, x: m.loss(x, rng=Noise())
    ),
    "autoencoder-supervised": Case(
        lambda: SupervisedAutoencoder(*conv_halves(1, 8, 2, 3, rng=RNG), 3, 4, weight=0.3, rng=RNG),
        (DIGITS,),
        lambda m, x: m.losses(x, np.arange(len(x))),
    ),
    "swae": Case(
        lambda: SWAE(*dense_halves(6, 5, 2, rng=RNG), 2, weight=0.3, directions=4),
        (wave(3, 6, k=43),),
        lambda m, x: m.losses(x, rng=Noise()),
        1e-7,
    ),
    "vqvae": Case(lambda: VQVAE(3, 4, 2, 5, beta=0.4, rng=RNG), (PICTURES,), lambda m, x: m.losses(x)[:4]),
    "style-transfer": Case(
        lambda: VGG(((4, 3), (5,)), rng=RNG),
        (PICTURES[:1], 0.8 * PICTURES[1:, :, ::-1], wave(1, 3, *PICTURES.shape[2:], k=55)),
        lambda m, content, style, x: tuple(
            StyleTransfer(m, content, style, "conv2_1", ["conv1_1", "conv2_1"], 0.3).losses(x).values()
        ),
    ),
    "gan-generator": Case(
        lambda: ConvGenerator(2, 8, 4, 5, 3, rng=RNG), (wave(2, 5, k=49),), lambda m, z: m(z, LABELS)
    ),
    "gan-discriminator": Case(
        lambda: ConvDiscriminator(3, 8, 4, 3, rng=RNG),
        (PICTURES,),
        lambda m, x: (m(x, LABELS), r1_penalty(lambda x: m(x, LABELS), x)),
    ),
    "text_gan-generator": Case(
        lambda: TextGenerator(WORDS, 5, 2, 8, 4, 3, rng=RNG),
        (wave(3, 3, k=49),),
        lambda m, z: m(z, CAPTIONS),
        1e-7,
    ),
    "text_gan-discriminator": Case(
        lambda: TextDiscriminator(WORDS, 3, 8, 4, rng=RNG), (PICTURES,), text_gan_losses, 1e-7
    ),
    "judge": Case(lambda: Judge(rng=RNG), (wave(2, 1, 8, 8, k=41),), lambda m, x: (m(x), m.features(x))),
    "hierarchical_vae": Case(
        lambda: HierarchicalVAE(6, 5, (3, 2), rng=RNG),
        (DIGITS.reshape(2, -1)[:, :6].copy(),),
        lambda m, x: (m(x), m.log_weights(x, rng=Noise()), m.loss(x, rng=Noise())),
    ),
    "hierarchical_vae-gaussian": Case(
        lambda: HierarchicalVAE(6, 5, (4, 3, 2), pixels="gaussian", rng=RNG),
        (wave(2, 6, k=73),),
        lambda m, x: (m(x), m.log_weights(x, rng=Noise())),
    ),
    "realnvp": Case(
        lambda: RealNVP(3, 5, couplings=3, rng=RNG),
        (wave(4, 3, k=49),),
        lambda m, x: (m(x), m.log_prob(x), m.inverse(x), m.loss(x)),
    ),
    "denoiser": Case(
        lambda: Denoiser(2, 6, waves=3, rng=RNG), (wave(2, 2, k=45),), lambda m, x: m(x, STEPS), 1e-6
    ),
}

# -- samplers --------------------------------------------------------------------------------------

X, SAID, FRACTION = (wave(2, 3, 4, k=k) for k in (46, 47, 48))


def schedule(kind):
    s = SCHEDULES[kind]
    return s.beta[[1, 2, 501, 999, 1000]], s.alpha_bar[[1, 2, 501, 999]]


def zero_terminal(kind):
    return rescale_zero_terminal_snr(SCHEDULES[kind]).beta[[1, 2, 501, 999, 1000]]


def ancestral(kind, variance, clip):
    """Steps back from three places, with each kind of prediction."""
    said = np.concatenate([SAID, FRACTION], axis=1) if variance == "learned" else SAID
    model = lambda x, t: said
    return [
        ancestral_step(
            Process(SCHEDULES[kind], predicts), model, X, t, rng=Noise(), variance=variance, clip=clip
        )
        for predicts in ("eps", "x0", "v")
        for t in (1, 2, 501)
    ]


def implicit(eta, clip):
    """DDIM in 50 steps of 1000, from three places."""
    kept = evenly_spaced(1000, 50)
    short = [Process(SCHEDULES["linear"], kind).respace(kept) for kind in ("eps", "x0", "v")]
    options = {"eta": eta, "rng": Noise(), "clip": clip}
    return [ddim_step(process, lambda x, t: SAID, X, t, **options) for process in short for t in (1, 2, 26)]


def multistep(predicts):
    """Four states of DPM-Solver++ in 10 steps of 1000, with a model that is linear in x."""
    process = Process(SCHEDULES["linear"], predicts).respace(evenly_spaced(1000, 10))
    states = list(dpm_solver(process, lambda x, t: 0.3 * x + SAID, X))
    return [states[i] for i in (0, 1, 5, 9)]


def of_order(order, heun):
    """Four states of DPM-Solver++ of another order, or with the exact integral of its line."""
    process = Process(SCHEDULES["linear"]).respace(evenly_spaced(1000, 10))
    states = list(dpm_solver(process, lambda x, t: 0.3 * x + SAID, X, order=order, heun=heun))
    return [states[i] for i in (0, 2, 5, 9)]


def pseudo_linear(predicts):
    """Six states of PLMS in 10 steps of 1000, with a model that is linear in x."""
    process = Process(SCHEDULES["linear"], predicts).respace(evenly_spaced(1000, 10))
    states = list(plms(process, lambda x, t: 0.3 * x + SAID, X))
    return [states[i] for i in (0, 1, 2, 3, 4, 10)]


def in_sigma(eta):
    """Three states of Euler's method in 5 steps, at Karras et al.'s levels."""
    s = SCHEDULES["linear"]
    ends = s.sigma[[1, 1000]] / s.alpha[[1, 1000]]
    process = Process(sigma_schedule(karras_sigmas(5, *ends), np.arange(5)[::-1]))
    states = list(sigma_euler(process, lambda x, t: 0.3 * x + SAID, X, eta=eta, rng=Noise()))
    return [states[i] for i in (0, 2, 4)]


def rescaled(phi):
    return rescale_guidance(guide(X, SAID, 7.5), X, phi)


POINTS, NOISE, TIMES = wave(4, 3, k=70), wave(4, 3, k=71), np.array([0.0, 0.25, 0.7, 1.0])
TURN, LEVELS = wave(3, 3, k=72), noise_levels(2.0, 0.25, 3)


def field(x, t, turn=TURN):
    """Velocities or scores (B, 3) of points x (B, 3) at times or levels t (B,)."""
    return np.tanh(x @ turn) - t[:, None] * x


def flow(solver):
    """Three states of a flow in 5 steps."""
    states = list(solver(field, NOISE, 5))
    return [states[i] for i in (0, 2, 4)]


def flow_likelihood():
    return flow_log_prob(lambda x, t: np.tanh(x @ Tensor(TURN)) - t[:, None] * x, POINTS, 4)


def langevin():
    """Four states of six."""
    states = list(annealed_langevin(field, NOISE, LEVELS, 2, 0.05, rng=Noise()))
    return [states[i] for i in (0, 1, 2, 5)]


def flow_loss(turn):
    return flow_matching_loss_at(lambda x, t: field(x, t, turn), POINTS, TIMES, NOISE)


def score_loss(turn):
    return score_matching_loss_at(lambda x, t: field(x, t, turn), POINTS, LEVELS[[0, 1, 2, 0]], NOISE)


PATHS = {
    "flow-loss": Case(None, (TURN,), flow_loss),
    "flow-euler": Case(None, (), lambda: flow(euler), 1e-5),
    "flow-midpoint": Case(None, (), lambda: flow(midpoint)),
    "flow-log_prob": Case(None, (), flow_likelihood),
    "score-loss": Case(None, (TURN,), score_loss),
    "score-langevin": Case(None, (), langevin),
}

SAMPLERS = {
    **{f"schedule-{kind}": Case(None, (), lambda kind=kind: schedule(kind), 1e-5) for kind in SCHEDULES},
    **{
        f"ancestral-{kind}-{variance}-{clip}": Case(
            None, (), lambda kind=kind, variance=variance, clip=clip: ancestral(kind, variance, clip)
        )
        for kind, variance, clip in (
            ("linear", "small", None),
            ("linear", "large", None),
            ("linear", "learned", None),
            ("cosine", "small", 1.0),
        )
    },
    **{
        f"ddim-{eta}-{clip}": Case(None, (), lambda eta=eta, clip=clip: implicit(eta, clip))
        for eta, clip in ((0.0, None), (0.5, None), (1.0, None), (0.5, 1.0))
    },
    **{
        f"dpm_solver-{kind}": Case(None, (), lambda kind=kind: multistep(kind)) for kind in ("eps", "x0", "v")
    },
    **{
        f"zero_terminal-{kind}": Case(None, (), lambda kind=kind: zero_terminal(kind), 1e-8)
        for kind in SCHEDULES
    },
    **{
        f"order-{order}-{heun}": Case(None, (), lambda order=order, heun=heun: of_order(order, heun))
        for order, heun in ((1, False), (2, True), (3, False))
    },
    **{f"plms-{kind}": Case(None, (), lambda kind=kind: pseudo_linear(kind)) for kind in ("eps", "v")},
    **{f"sigma_euler-{eta}": Case(None, (), lambda eta=eta: in_sigma(eta)) for eta in (0.0, 1.0)},
    **{f"rescaled-{phi}": Case(None, (), lambda phi=phi: rescaled(phi)) for phi in (0.7, 1.0)},
}

# -- optimizers ------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}),
    "sgd-nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (Adam, {"lr": 0.1, "weight_decay": 0.2}),
    "adam-betas": (Adam, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 0.1}),
    "adamw": (AdamW, {"lr": 0.1}),
    "adamw-decay": (AdamW, {"lr": 0.1, "weight_decay": 0.3}),
}
START, CLIP = (wave(2, 3, k=60), wave(3, k=61)), 0.9


def gradients(step):
    return wave(2, 3, k=62 + step) * 10.0 ** (-step), wave(3, k=65 + step)


def optimized(name):
    """Two parameters after three steps, whose gradients are cut to length 0.9."""
    params = [Tensor(x.copy(), requires_grad=True) for x in START]
    kind, options = OPTIMIZERS[name]
    optimizer = kind(params, **options)
    for step in range(3):
        for p, g in zip(params, gradients(step), strict=True):
            p.grad = g
        clip_grad_norm(params, CLIP)
        with no_grad():
            optimizer.step()
    return [p.data for p in params]


CASES: dict[str, Case] = {
    **MODELS,
    **PATHS,
    **SAMPLERS,
    **{name: Case(None, (), lambda name=name: optimized(name)) for name in OPTIMIZERS},
}
