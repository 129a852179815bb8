"""The shape comments of the library are true as well: models, layers and data are run at tiny sizes."""

from pathlib import Path

import numpy as np
from pages.shape_comments import checking
from sd_folders import small

import tinygen
from tinygen import nn
from tinygen.align.reward import RewardModel
from tinygen.align.world import World
from tinygen.data import (
    algorithms,
    linear_functions,
    luminance,
    markov,
    mixtures,
    review_pairs,
    shapes,
    shapes_pairs,
    sound,
    textures,
)
from tinygen.data.text import random_batch
from tinygen.density import GaussianKDE, GaussianMixture, ProbabilisticPCA
from tinygen.diffusion import (
    Process,
    cosine_schedule,
    dpm_solver,
    last_state,
    score_matching_loss,
    sigma_euler,
)
from tinygen.judges import digits as judge
from tinygen.judges import pairs_parser, shapes_parser
from tinygen.judges import shapes as features_of_shapes
from tinygen.judges import sound as ears
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
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.gan import ConvDiscriminator, ConvGenerator, DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import gradient_penalty
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.plain_autoencoder import (
    SWAE,
    SupervisedAutoencoder,
    conv_halves,
    dense_halves,
)
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.models.pictures.style import StyleTransfer, color_factor, transfer
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.models.pictures.vgg import VGG
from tinygen.models.pictures.vqvae import VQVAE
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import END, TextTower, TowerConfig, VisionTransformer
from tinygen.models.text_to_image.noisy_clip import NoisyCLIP, NoisyImageEncoder
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.models.text_to_image.text_gan import TextDiscriminator, TextGenerator
from tinygen.text import decoding
from tinygen.text.beam import beam_search
from tinygen.text.mask_predict import mask_any_number, mask_predict
from tinygen.text.scaling_laws import fit_scaling_law
from tinygen.text.tokenizers import CharTokenizer

HOUSE = Path(tinygen.__file__).parent
ROOMS = ("models", "nn", "ops", "align", "data", "density", "text", "diffusion", "judges", "optim")


def use_everything():
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, np.float32)
    gpt = GPT(GPTConfig(5, 8, n_layer=1, n_head=2, n_embd=8), rng=rng)
    gpt(rng.integers(0, 5, (2, 8)), rng.integers(0, 5, (2, 8)))[1].backward()
    gpt.sample(np.zeros((2, 1), int), 10, top_k=3, rng=rng)
    bert, ids = BERT(BERTConfig(5, 8, 1, 2, 8, 6), rng=rng), rng.integers(0, 5, (2, 8))
    bert.loss(ids, ids, ids % 2, ids > 0, np.array([0, 1])).backward()
    llama = Llama(LlamaConfig(5, 8, 1, 4, 2, 8), rng=rng)
    llama(ids, ids)[1].backward()
    llama.sample(ids[:, :2], 2, rng=rng)
    for model in (gpt, llama):
        model.features(ids, mask=ids >= 0)
    translator = Transformer(TransformerConfig(7, 1, 2, 8, 8), rng=rng)
    t5 = T5(T5Config(7, 1, 1, 2, 8, 3, 6, gated=True), rng=rng)
    bart = BART(BARTConfig(7, 12, 1, 1, 2, 8, 6), rng=rng)
    for repairer in (translator, t5, bart):
        repairer.loss(2 + ids, 2 + ids).backward()
        repairer.greedy_search(2 + ids, 3)
        repairer.beam_search(2 + ids[:1], 3, 2)
    mask_predict(lambda holes: np.full((2, 5, 4), np.log(0.25)), (2, 5), 9, 3)
    mask_any_number(ids, 9, rng=rng)
    beam_search(lambda live: np.log(np.full((len(live), 4), 0.25)), 2, 3, begin=1, end=2)
    for writer in (LinearLM(5, 3, 4, rng=rng), RecurrentLM(5, 4, rng=rng)):
        writer.sample(np.zeros((2, 2), int), 3, rng=rng)
    writer.loss(ids, ids).backward()
    wavenet = WaveNet(5, 4, 6, (1, 2), 3, rng=rng)
    wavenet.loss(ids, ids, ids % 3)
    wavenet.sample(ids[:, :2], 3, rng=rng, condition=ids % 3)
    Tagger(5, 2, 4, rng=rng)(rng.integers(0, 5, (2, 6)))
    vectors = Word2Vec(np.ones(5), 4, rng=rng)
    vectors.loss(rng.integers(0, 5, (2, 3)), np.array([1, 4]), rng=rng)
    vectors.expected_loss(np.ones((5, 5)))
    RewardModel(gpt, rng=rng)(rng.integers(0, 5, (2, 6)))
    World([[2, 0], [1, 3]], 5, 2, lambda prompt, responses: np.zeros(len(responses))).log_probs(gpt)
    decoding.keep_top_k(rng.random((2, 5)), 2)
    decoding.sequence_log_prob(normal(2, 3, 5), rng.integers(0, 5, (2, 3)))
    VAE(6, 5, 3, rng=rng).loss(rng.random((4, 6)), rng=rng).backward()
    HierarchicalVAE(6, 5, (3, 2), rng=rng).sample(4, rng=rng)
    HierarchicalVAE(6, 5, (3, 2), rng=rng).loss(rng.random((4, 6)), rng=rng).backward()
    ConvVAE(1, 8, 4, 3, rng=rng).loss(rng.random((4, 1, 8, 8)), rng=rng).backward()
    vqvae = VQVAE(1, 8, 3, 5, rng=rng)
    vqvae.loss(normal(2, 1, 8, 8))
    vqvae.quantizer.restart(normal(2, 3, 2, 2), rng=rng)
    photographs = normal(2, 1, 3, 8, 8)
    goal = StyleTransfer(VGG(((4,), (5,)), rng=rng), *photographs, "conv2_1", ["conv1_1"], 1.0)
    goal.network.initialize(photographs[0])
    goal.network.equalize(photographs[0])
    transfer(goal, photographs[0], 2, 0.5, color_factor(photographs[1]))
    SWAE(*dense_halves(6, 5, 3, rng=rng), 3).loss(normal(4, 6), rng=rng).backward()
    labeled = SupervisedAutoencoder(*conv_halves(1, 8, 4, 3, rng=rng), 3, 2, rng=rng)
    labeled.loss(normal(4, 1, 8, 8), np.array([0, 1, 1, 0]))
    generator = ConvGenerator(1, 8, 4, 3, 2, rng=rng)
    ConvDiscriminator(1, 8, 4, 2, True, rng=rng)(generator(normal(2, 3), [0, 1]), [0, 1])
    DenseDiscriminator(2, 4, 1, rng=rng)(DenseGenerator(2, 4, 1, 3, rng=rng)(normal(5, 3)))
    gradient_penalty(DenseDiscriminator(2, 4, 1, rng=rng), normal(5, 2), normal(5, 2), rng=rng)
    mixtures_of_two = (GaussianMixture(2, kind, rng=0) for kind in ("tied", "diag"))
    for density in (GaussianKDE(), *mixtures_of_two, ProbabilisticPCA(2)):
        density.fit(normal(20, 3)).score(density.sample(4, rng=rng))
    RealNVP(3, 8, rng=rng).loss(normal(4, 3)).backward()
    Denoiser(2, 8, 2, 3, rng=rng)(normal(5, 2), np.arange(5))
    words = TextEncoderConfig(("a", "b"), 3, heads=2, channels=8)
    TextEncoder(words, rng=rng)(["a b", "a"])
    painted = TextGenerator(words, 5, 1, 8, 4, 3, rng=rng).sample(["a b", "a"], rng=rng)
    TextDiscriminator(words, 1, 8, 4, rng=rng)(painted, ["a b", "a"])
    towers = TowerConfig(1, 2, 8)
    image_encoder = VisionTransformer(8, 4, 3, towers, 5, rng=rng)
    clip = CLIP(image_encoder, TextTower(4, 4, END, towers, 5, rng=rng))
    clip.loss(normal(2, 3, 8, 8), np.array([[2, 3, END], [3, END, END]])).backward()
    noisy = NoisyImageEncoder(8, 3, 4, 2, 5, rng=rng)
    noisy_clip = NoisyCLIP(noisy, TextTower(4, 4, END, towers, 5, rng=rng), Process(cosine_schedule(20)))
    noisy_clip.loss(normal(2, 3, 8, 8), np.array([[2, 3, END], [3, END, END]]), rng=rng)
    small(rng, 5).sample(["a", "b"], picture=normal(2, 3, 8, 8), hole=np.eye(8) > 0, steps=2, rng=rng)
    unet = UNet(UNetConfig(2, 2, channels=4, blocks=1, context=5), rng=rng)
    unet(normal(3, 2, 4, 4), np.arange(3), context=normal(3, 4, 5), mask=np.ones((3, 4), bool))
    painter = Palette(UNet(UNetConfig(5, 2, 4, blocks=1, classes=2), rng=rng), Process(cosine_schedule(20)))
    edited = (normal(3, 2, 4, 4), np.ones((3, 1, 4, 4), bool), np.arange(3))
    painter.loss(normal(3, 2, 4, 4), *edited, rng=rng).backward()
    control = ControlNet.copy_of(unet, 1, (3, 4), rng=rng)(
        *(normal(3, 2, 4, 4), np.arange(3), normal(3, 1, 8, 8)), context=normal(3, 4, 5)
    )
    unet(normal(3, 2, 4, 4), np.arange(3), context=normal(3, 4, 5), control=control)
    nn.MultiHeadAttention(8, 2, use_rotary=True, rng=rng)(normal(2, 3, 8))
    judge.shift_at_random(normal(3, 1, 8, 8), rng=rng)
    judge.Judge(rng=rng)(normal(3, 1, 8, 8))
    random_batch(np.arange(50), 8, 4, rng)
    CharTokenizer("abc")
    textures.strokes(8, rng=rng)
    for kind, score in (("notes", sound.melodies), ("vowels", sound.vowel_scores)):
        waves, _ = sound.render(kind, score(2, 2, rng=rng), rng=rng)
        {"notes": ears.read_notes, "vowels": ears.read_vowels}[kind](waves)
    review_pairs.best_answers(review_pairs.write_pairs(2, 6, rng=rng).ids)
    for task in (algorithms.sorting(), algorithms.addition()):
        task.examples(task.train[:3])
    shapes_parser.read(shapes.batch(3, 16, rng)[0])
    features_of_shapes.features(shapes.batch(3, 16, rng)[0])
    pairs_parser.read(shapes_pairs.batch(3, 16, rng)[0])
    luminance.color_posterior([0.49, 0.8], ["square", "circle"])
    luminance.grey(shapes.batch(2, 16, rng)[0])
    markov.zipf_source(3, 2, rng=rng).sample(9, rng=rng)
    hidden = markov.HiddenMarkovSource([[0.5, 0.5], [1.0, 0.0]], rng.dirichlet(np.ones(3), 2))
    hidden.log_prob(hidden.sample(5, rng=rng))
    markov.skewed_source(3, [1.0, 0.5], rng=rng)
    sizes = np.geomspace(1e3, 1e5, 8)
    fit_scaling_law(sizes, sizes[::-1], 2 + normal(8) ** 2)
    functions = linear_functions.LinearFunctions(3, 0.5)
    functions.predictions(*functions.sample(2, 4, rng=rng))
    functions.best_errors(4, 2, rng=rng)
    mixture = mixtures.lattice(3)
    mixture.score(normal(4, 2))
    mixture.x0(normal(4, 2), 0.8, 0.6)
    score_matching_loss(lambda x, sigma: x, normal(4, 2), np.array([1.0, 0.1], np.float32), rng=rng)
    process = Process(cosine_schedule(3))
    for sampler in (dpm_solver, sigma_euler):
        last_state(sampler(process, lambda x, t: x, normal(4, 2)))
    mixture.eps_floor(0.8, 0.6, fineness=1.0)


def test_shapes_in_the_library():
    paths = [path for room in ROOMS for path in (HOUSE / room).rglob("*.py")]
    with tinygen.kernels("off"), checking(*paths, strict=False) as files:
        use_everything()
    faults = {f"{c.path.relative_to(HOUSE)}, {fault}" for c in files for fault in c.faults}
    assert not faults
    unseen = {f"{c.path.relative_to(HOUSE)}, line {line}" for c in files for line in c.unseen()}
    assert not unseen, "use_everything() does not run these lines"
