"""Every argument with a default of the public functions and classes, and another value for it. A row is a
function of these arguments; it calls or builds something with them, and uses it in the usual way.
`test_arguments.py` tests that the other value changes the result."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from golden.formula import filled, wave
from sd_folders import vocabulary

from tinygen import Tensor, nn
from tinygen.align import dpo, grpo, kl, ppo, rollouts, world
from tinygen.data import (
    linear_functions,
    luminance,
    markov,
    mixtures,
    review_pairs,
    shapes,
    shapes_pairs,
    sound,
    text,
    word_grid,
)
from tinygen.data.reviews import Reviews
from tinygen.density import PCA, GaussianKDE, GaussianMixture, Parameters, estimator
from tinygen.diffusion import bound, guidance, karras, loss, process, sampling, schedule
from tinygen.diffusion.dpm_solver import dpm_solver, integral
from tinygen.diffusion.inpaint import inpaint
from tinygen.diffusion.plms import plms
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.nn import init
from tinygen.optim import EMA, SGD, Adam, AdamW, noam
from tinygen.text import beam, bleu, corruption, decoding, scaling_laws
from tinygen.text.bpe import BPE
from tinygen.text.clip_bpe import CLIPTokenizer
from tinygen.text.mask_predict import mask_any_number, mask_predict
from tinygen.text.masking import mask_tokens
from tinygen.text.unigram import Unigram, train_unigram
from tinygen.text.wordpiece import SPECIAL, WordPiece


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Row(NamedTuple):
    f: Callable[..., Any]
    others: dict[str, Any]
    base: dict[str, Any] = {}  # what must be set for an argument to matter  # noqa: RUF012


def learned(module: nn.Module, *inputs: Any) -> list[Any]:
    """The state of a module, and its result in a training step."""
    filled(module)
    shapes = [p.shape for p in module.parameters()]
    return [shapes, module(*inputs)]


def loss_of(model: Any, x: Any, **given: Any) -> list[Any]:
    """The state of a model, and its loss."""
    filled(model)
    shapes = [p.shape for p in model.parameters()]
    return [shapes, model.loss(x, **given)]


def made(module: nn.Module, *inputs: Any) -> list[Any]:
    """The same with the values that it starts with."""
    return [[p.data for p in module.parameters()], module(*inputs)]


A, B, C = (wave(3, 4, k=k) for k in (70, 71, 72))
MASK = np.arange(4) < np.array([[4], [2], [3]])
PIECES = {name: i for i, name in enumerate((*SPECIAL, "a", "##b", "b", "ab", "##a"))}
TOKENS = np.array([[0, 1, 2, 0], [2, 1, 0, 1], [1, 2, 2, 2]])
ROWS, MAPS, TEXT = wave(2, 5, 8, k=73), wave(2, 8, 4, 4, k=74), wave(2, 3, 6, k=75)


RUNS = np.geomspace(1e3, 1e5, 8), np.array([1e6, 1e5] * 4), 2 + 0.5 * wave(8, k=76) ** 2


def small_gpt() -> GPT:
    return filled(GPT(GPTConfig(3, 6, 1, 2, 4), rng=rng()))


def small_world() -> world.World:
    return world.World(np.arange(3)[:, None], 3, 2, lambda x, y: wave(9, k=int(x[0])))


def adapted(**given: Any) -> float:
    control = kl.AdaptiveKL(**given)
    control.update(5.0, 100)
    return control.beta


ALIGN = {
    "align.dpo.dpo_loss": Row(lambda **k: dpo.dpo_loss(A[0], **k), {"beta": 0.3, "smoothing": 0.2}),
    "align.dpo.ipo_loss": Row(lambda **k: dpo.ipo_loss(A[0], **k), {"tau": 0.3}),
    "align.dpo.response_log_probs": Row(
        lambda **k: dpo.response_log_probs(A, MASK, **k), {"length_normalize": True}
    ),
    "align.grpo.grpo_loss": Row(
        lambda **k: grpo.grpo_loss(A, B, C, A[:, 0], MASK, **k), {"clip": 0.1, "beta": 0.3}
    ),
    "align.kl.AdaptiveKL": Row(adapted, {"beta": 0.3, "target": 5.5, "horizon": 500}),
    "align.ppo.clip_fraction": Row(lambda **k: ppo.clip_fraction(A, B, MASK, **k), {"clip": 0.7}),
    "align.ppo.gae": Row(lambda **k: ppo.gae(A[:, :3], B, ~MASK[:, 1:], **k), {"gamma": 0.5, "lam": 0.5}),
    "align.ppo.ppo_loss": Row(
        lambda **k: ppo.ppo_loss(1.0, 2.0, **k),
        {"pretraining": 4.0, "value_weight": 0.5, "ptx": 0.5},
        {"pretraining": 3.0, "ptx": 0.1},
    ),
    "align.ppo.penalize_missing_end": Row(
        lambda **k: ppo.penalize_missing_end(A[:, 0], rollouts.Responses(TOKENS, MASK), 9, **k),
        {"penalty": 2.0},
    ),
    "align.ppo.policy_loss": Row(lambda **k: ppo.policy_loss(A, B, C, MASK, **k), {"clip": 0.1}),
    "align.ppo.value_loss": Row(lambda **k: ppo.value_loss(A, B, C, MASK, **k), {"clip": 0.9}),
    "align.ppo.whiten": Row(lambda **k: ppo.whiten(A, MASK, **k), {"shift_mean": False}),
    "align.rollouts.token_log_probs": Row(
        lambda **k: rollouts.token_log_probs(small_gpt(), TOKENS, **k), {"temperature": 0.5}
    ),
    "align.rollouts.Responses.log_probs": Row(
        lambda **k: rollouts.Responses(TOKENS, MASK).log_probs(small_gpt(), **k), {"temperature": 0.5}
    ),
    "align.rollouts.response_mask": Row(lambda **k: rollouts.response_mask(TOKENS, 1, **k), {"end": 1}),
    "align.rollouts.rollout": Row(
        lambda **k: rollouts.rollout(small_gpt(), TOKENS[:, :1], 5, rng=rng(), **k),
        {"temperature": 0.05, "end": 1},
    ),
    "align.world.World.log_probs": Row(
        lambda **k: small_world().log_probs(small_gpt(), **k), {"temperature": 0.5}
    ),
    "align.world.World.preferences": Row(
        lambda **k: small_world().preferences(np.full((3, 9), np.log(1 / 9)), 200, rng=rng(), **k),
        {"temperature": 9.0},
    ),
    "align.world.accuracy": Row(
        lambda **k: world.accuracy(np.log(np.abs(A)), B, C, **k), {"temperature": 9.0}
    ),
    "align.world.preference": Row(lambda **k: world.preference(A, B, **k), {"temperature": 9.0}),
}

# -- diffusion -------------------------------------------------------------------------------------

P20 = process.Process(schedule.cosine_schedule(20))
X, SAID = wave(2, 3, 4, k=76), wave(2, 3, 4, k=77, scale=3.0)
FAR = {"variance": "large", "clip": 0.1}


def says(x: Any, t: Any) -> Any:
    return SAID + 0.1 * x


def says_twice(x: Any, t: Any) -> Any:
    """Of each step its own, for a learned variance as well."""
    return np.concatenate([SAID, wave(2, 3, 4, k=78)], axis=1)


def of_process(**given: Any) -> list[Any]:
    made = process.Process(schedule.cosine_schedule(20), **given)
    return [made.target(X, SAID, 4), made.x0_and_eps(SAID, X, 4)]


DIFFUSION = {
    "diffusion.bound.bits_per_dim": Row(
        lambda **k: tuple(bound.bits_per_dim(P20, says, X, rng=rng(), levels=None, **k)), FAR
    ),
    "diffusion.dpm_solver.dpm_solver": Row(
        lambda **k: list(dpm_solver(P20, says, X, **k)),
        {"clip": 0.1, "order": 2, "heun": True, "lower_order_final": True},
        {"order": 3},
    ),
    "diffusion.dpm_solver.integral": Row(
        lambda **k: integral([X, SAID], np.array([1.6, 0.9, 0.5]), **k), {"heun": True}
    ),
    "diffusion.karras.karras_sigmas": Row(lambda **k: karras.karras_sigmas(5, 0.1, 9.0, **k), {"rho": 3.0}),
    "diffusion.karras.sigma_euler": Row(
        lambda **k: list(karras.sigma_euler(P20, says, X, **copy.deepcopy(k))),
        {"eta": 0.2, "rng": np.random.default_rng(5)},
        {"eta": 0.5, "rng": np.random.default_rng(4)},
    ),
    "diffusion.karras.sigma_schedule": Row(
        lambda **k: karras.sigma_schedule(np.array([30.0, 2.0]), np.arange(2), **k).alpha_bar, {"last": 1.0}
    ),
    "diffusion.plms.plms": Row(
        lambda **k: list(plms(P20, says, X, **k)),
        {"order": 2, "calls": [20, 18, 12, 3], "stride": 1, "last": 2},
        {"calls": [20, 18, 18, 12, 3], "stride": 2},
    ),
    "diffusion.guidance.classifier_free_guidance": Row(
        lambda **k: guidance.classifier_free_guidance(
            lambda x, t, y: SAID[[0, 1, 1, 0][: len(x)]] * y[:, None, None], (np.ones(2),), (0.5,), 3.0, **k
        )(X, np.zeros(2, int)),
        {"rescale": 0.7},
    ),
    "diffusion.inpaint.inpaint": Row(
        lambda **k: list(inpaint(P20, says, X, 2 * X, X > 0, rng=rng(), **k)),
        {"repeats": 3, "jump": 2, **FAR},
        {"repeats": 2},
    ),
    "diffusion.loss.hybrid_loss": Row(
        lambda **k: loss.hybrid_loss(P20, says_twice, X, rng=rng(), levels=None, **k), {"weight": 0.5}
    ),
    "diffusion.loss.hybrid_loss_at": Row(
        lambda **k: loss.hybrid_loss_at(P20, says_twice, X, np.array([2, 10]), SAID, None, **k),
        {"weight": 0.5},
    ),
    "diffusion.loss.loss_at": Row(
        lambda **k: loss.loss_at(P20, says, X, np.array([2, 10]), X, **k), {"weights": np.arange(21.0)}
    ),
    "diffusion.loss.min_snr": Row(lambda **k: loss.min_snr(P20, **k), {"gamma": 2.0}),
    "diffusion.loss.simple_loss": Row(
        lambda **k: loss.simple_loss(P20, says, X, rng=rng(), **k), {"weights": np.arange(21.0)}
    ),
    "diffusion.process.Process": Row(of_process, {"predicts": "v"}),
    "diffusion.process.Process.log_variance": Row(
        lambda **k: P20.log_variance("learned", X, 4, **k), {"fraction": 0.5}, {"fraction": -0.5}
    ),
    "diffusion.sampling.ancestral_sampling": Row(
        lambda **k: list(sampling.ancestral_sampling(P20, says, X, rng=rng(), **k)), FAR
    ),
    "diffusion.sampling.ancestral_step": Row(
        lambda **k: sampling.ancestral_step(P20, says, X, 10, rng=rng(), **k), FAR
    ),
    "diffusion.sampling.ddim": Row(
        lambda **k: list(sampling.ddim(P20, says, X, **copy.deepcopy(k))),
        {"eta": 0.2, "clip": 0.1, "rng": np.random.default_rng(5)},
        {"eta": 0.5, "rng": np.random.default_rng(4)},
    ),
    "diffusion.sampling.ddim_encode": Row(
        lambda **k: sampling.ddim_encode(P20, says, X, **k), {"iterations": 3}
    ),
    "diffusion.sampling.ddim_step": Row(
        lambda **k: sampling.ddim_step(P20, says, X, 10, **copy.deepcopy(k)),
        {"eta": 0.2, "clip": 0.1, "rng": np.random.default_rng(5)},
        {"eta": 0.5, "rng": np.random.default_rng(4)},
    ),
    "diffusion.sampling.predict": Row(
        lambda **k: sampling.predict(P20, says, X, 10, None, **k), {"variance": "large"}
    ),
    "diffusion.schedule.Schedule": Row(
        lambda **k: [(s := schedule.Schedule([0.5, 0.999], **k)).timesteps, s.alpha_bar],
        {"timesteps": np.array([3, 8]), "noise": 0.1},
    ),
    "diffusion.schedule.cosine_schedule": Row(
        lambda **k: schedule.cosine_schedule(30, **k).beta, {"offset": 0.1, "largest": 0.9}
    ),
    "diffusion.schedule.linear_schedule": Row(
        lambda **k: schedule.linear_schedule(30, **k).beta, {"first": 0.001, "last": 0.025}
    ),
    "diffusion.schedule.sqrt_linear_schedule": Row(
        lambda **k: schedule.sqrt_linear_schedule(30, **k).beta, {"first": 0.01, "last": 0.025}
    ),
}

# -- optim, text, data -----------------------------------------------------------------------------


def optimized(kind: type) -> Callable[..., Any]:
    def run(**given: Any) -> Any:
        p = Tensor(wave(5, k=79), requires_grad=True)
        optimizer = kind([p], **given)
        for k in range(3):
            p.grad = wave(5, k=80 + k)
            optimizer.step()
        return p.data

    return run


def averaged(**given: Any) -> Any:
    layer = nn.Linear(2, 3, rng=rng())
    ema = EMA(layer, **given)
    for k in range(4):
        layer.weight.data = layer.weight.data + np.float32(k)
        ema.update()
    return list(ema.average.values())


ADAM = {"lr": 0.1, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.5}
LOGITS = wave(40, 6, k=84, scale=2.0)


POINTS = rng().standard_normal((40, 3))


def mixed(start: Parameters | None = None, **given: Any) -> float:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EM has not|components")
        return GaussianMixture(3, **{"n_init": 1, **given}, rng=0).fit(POINTS, start=start).score(POINTS)


def raised(f: Callable[..., Any], *args: Any, **given: Any) -> bool:
    """Whether it is refused."""
    try:
        f(*args, **given)
    except ValueError:
        return True
    return False


OTHERS = {
    "optim.adam.Adam": Row(optimized(Adam), ADAM),
    "optim.adam.AdamW": Row(optimized(AdamW), ADAM),
    "optim.sgd.SGD": Row(
        optimized(SGD), {"momentum": 0.5, "nesterov": True, "weight_decay": 0.5}, {"lr": 0.1, "momentum": 0.9}
    ),
    "optim.ema.EMA": Row(averaged, {"decay": 0.1, "warmup": False}),
    "optim.schedule.noam": Row(lambda **k: noam(5, 512, **k), {"warmup": 3}),
    "text.beam.length_penalty": Row(lambda **k: beam.length_penalty(7, **k), {"alpha": 0.5}),
    "text.beam.beam_search": Row(
        lambda **k: [
            h.score
            for h in beam.beam_search(
                lambda live: np.log([[0.2, 0.5, 0.3]] * len(live)), 3, 4, **k, begin=1, end=0
            )
        ],
        {"alpha": 0.0},
    ),
    "text.decoding.filtered_probs": Row(
        lambda **k: decoding.filtered_probs(LOGITS, **k), {"temperature": 0.5, "top_k": 2, "top_p": 0.5}
    ),
    "text.decoding.sample": Row(
        lambda **k: decoding.sample(LOGITS, rng(), **k), {"temperature": 0.1, "top_k": 2, "top_p": 0.5}
    ),
    "text.corruption.corrupt_spans": Row(
        lambda **k: corruption.corrupt_spans(np.arange(30), range(40, 60), **k, rng=rng()),
        {"density": 0.5, "mean_length": 1.0},
    ),
    "text.corruption.infill_text": Row(
        lambda **k: corruption.infill_text(np.arange(30), 40, **k, rng=rng()),
        {"rate": 0.6, "mean_length": 1.0},
    ),
    "text.mask_predict.mask_predict": Row(
        lambda **k: mask_predict(
            lambda ids: np.log(np.abs(wave(1, 5, 4, k=int(ids.sum()))) / 4), (1, 5), 9, **k
        ),
        {"passes": 2},
    ),
    "text.mask_predict.mask_any_number": Row(
        lambda **k: mask_any_number(np.tile(TOKENS, (50, 1)), 8, **k, rng=rng()),
        {"special": [int(TOKENS.flat[0])]},
    ),
    "text.masking.mask_tokens": Row(
        lambda **k: mask_tokens(np.tile(TOKENS, (50, 1)), 9, 8, **k, rng=rng()),
        {"special": [int(TOKENS.flat[0])], "rate": 0.6},
    ),
    "text.scaling_laws.fit_scaling_law": Row(
        lambda **k: vars(scaling_laws.fit_scaling_law(*RUNS, **k)), {"delta": 1.0}
    ),
    "text.scaling_laws.bootstrap_scaling_laws": Row(
        lambda **k: [vars(law) for law in scaling_laws.bootstrap_scaling_laws(*RUNS, 2, **k, rng=rng())],
        {"delta": 1.0},
    ),
    "text.scaling_laws.fit_power_law": Row(
        lambda **k: vars(scaling_laws.fit_power_law(*RUNS[::2], **k)), {"delta": 1.0}
    ),
    "text.bleu.corpus_bleu": Row(
        lambda **k: bleu.corpus_bleu([[1, 2, 3]], [[[1, 2, 4]]], **k), {"max_order": 2}
    ),
    "text.bpe.BPE": Row(
        lambda **k: BPE(
            [*(bytes([i]) for i in range(256)), b"ab", b"a b", "é".encode(), b"<m>"],
            {(97, 98): 256},
            {"<m>": 259},
            **k,
        ).encode("ab a b e\u0301 <m>", "all"),
        {"words": lambda text: list(text), "whole_words": True, "normal_form": True, "lstrip": ["<m>"]},
        {"words": lambda text: [text[:3], text[3:6], text[6:]]},
    ),
    "text.bpe.BPE.encode": Row(
        lambda **k: BPE([bytes([i]) for i in range(256)] + [b"<e>"], {}, {"<e>": 256}).encode("a<e>", **k),
        {"allowed_special": "all"},
    ),
    "text.clip_bpe.CLIPTokenizer": Row(
        lambda **k: CLIPTokenizer(*vocabulary(), **k).prompt_ids(["a red"]), {"pad": "!", "length": 9}
    ),
    "text.wordpiece.WordPiece": Row(
        lambda **k: WordPiece(PIECES, **k).encode("[PAD] Ab aba x", "all" if "special" in k else ()),
        {"special": ("[PAD]",), "lowercase": False, "unknown": "b", "longest": 2},
    ),
    "text.wordpiece.WordPiece.encode": Row(
        lambda **k: WordPiece(PIECES).encode("a[SEP]", **k), {"allowed_special": "all"}
    ),
    "text.unigram.Unigram": Row(
        lambda **k: Unigram({"<unk>": 0.0, "▁": -1.0, "a": -1.0, "<e>": -9.0}, **k).encode("a<e>x"),
        {"special": ["a"], "unknown": "a", "words": lambda text: [text]},
    ),
    "text.unigram.Unigram.encode": Row(
        lambda **k: Unigram({"<unk>": 0.0, "▁": -1.0, "a": -1.0, "<e>": 0.0}, ["<e>"]).encode("a<e>", **k),
        {"allowed_special": "all"},
    ),
    "text.unigram.train_unigram": Row(
        lambda **k: train_unigram("the cat the cat", 20, **k).pieces,
        {"special": ("?", "<e>"), "longest": 2},
    ),
    "data.review_pairs.best_answers": Row(
        lambda **k: review_pairs.best_answers(review_pairs.write_pairs(2, 5, rng=rng()).ids, **k).words,
        {"rate": 0.5},
    ),
    "data.reviews.Reviews.write": Row(
        lambda **k: Reviews().write(4, 12, rng(), **k), {"moods": np.array([0, 1, 1, 0])}
    ),
    "data.sound.mu_law": Row(lambda **k: sound.mu_law(A, **k), {"levels": 16}),
    "data.sound.inverse_mu_law": Row(lambda **k: sound.inverse_mu_law([3, 7], **k), {"levels": 16}),
    "data.word_grid.sentences": Row(lambda **k: word_grid.sentences(50, **k, rng=rng()), {"strays": 0.0}),
    "data.word_grid.second_meaning": Row(
        lambda **k: word_grid.second_meaning(word_grid.sentences(50, rng=rng()), **k), {"strays": 0.2}
    ),
    "data.mixtures.Mixture.eps_floor": Row(
        lambda **k: mixtures.ring().eps_floor(0.8, 0.6, **k), {"fineness": 1.0}
    ),
    "data.linear_functions.LinearFunctions": Row(
        lambda **k: linear_functions.LinearFunctions(2, **k).sample(1, 3, rng=rng())[1], {"noise": 0.5}
    ),
    "data.markov.zipf_source": Row(
        lambda **k: markov.zipf_source(3, 1, **k, rng=rng()).table, {"exponent": 0.5}
    ),
    "data.markov.skewed_source": Row(
        lambda **k: markov.skewed_source(3, [1.0], **k, rng=rng()).table, {"exponent": 0.5, "decay": 0.1}
    ),
    "data.mixtures.lattice": Row(lambda **k: vars(mixtures.lattice(**k)), {"side": 3, "std": 0.3}),
    "data.mixtures.moons": Row(lambda **k: vars(mixtures.moons(**k)), {"n": 5, "std": 0.3}),
    "data.mixtures.ring": Row(lambda **k: vars(mixtures.ring(**k)), {"n": 5, "std": 0.3}),
    "data.shapes.jitter": Row(
        lambda **k: shapes.jitter(shapes.SCENES[:2], **k, rng=rng()), {"colors": luminance.EQUAL}
    ),
    "data.luminance.color_posterior": Row(
        lambda **k: luminance.color_posterior([0.49], ["square"], **k), {"colors": luminance.EQUAL}
    ),
    "data.shapes.batch": Row(lambda **k: shapes.batch(4, 16, rng(), **k), {"split": "held_out"}),
    "data.shapes_pairs.batch": Row(lambda **k: shapes_pairs.batch(4, 32, rng(), **k), {"split": "held_out"}),
    "density.estimator.checked_count": Row(
        lambda **k: raised(estimator.checked_count, "n", 0, **k), {"at_least": 0}
    ),
    "density.estimator.checked_rows": Row(
        lambda **k: raised(estimator.checked_rows, A, **k), {"at_least": 4}
    ),
    "density.kernel.GaussianKDE": Row(lambda **k: GaussianKDE(**k).fit(A).score(B), {"bandwidth": "scott"}),
    "density.mixture.GaussianMixture": Row(
        mixed, {"covariance_type": "tied", "n_init": 6, "tol": 0.1, "max_iter": 2, "min_variance": 0.5}
    ),
    "density.mixture.GaussianMixture.fit": Row(
        mixed, {"start": Parameters(np.ones(3) / 3, POINTS[:3], np.array([np.eye(3)] * 3))}
    ),
    "density.principal.PCA": Row(
        lambda **k: PCA(**k).fit(POINTS).transform(POINTS), {"n_components": 2, "whiten": True}
    ),
    "data.text.train_val_split": Row(lambda **k: text.train_val_split(np.arange(30), **k), {"fraction": 0.5}),
}

# -- layers ----------------------------------------------------------------------------------------

RECURRENT = {"layers": 3, "bidirectional": True, "dropout": 0.5, "bias": False}
CONV = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False}
HEADS = {"dropout": 0.5, "bias": False, "qkv_bias": False}
READ = np.array([True, True, False])
SEEN = np.arange(5) < 3


def ran(kind: type, x: Any) -> Callable[..., Any]:
    return lambda **k: learned(kind(8, 4, 3, **k, rng=rng()), x)


def forward(module: nn.Module, *inputs: Any) -> Callable[..., Any]:
    return lambda **k: copy.deepcopy(filled(module))(*inputs, **k)


NN = {
    "nn.attention.CrossAttention": Row(
        lambda **k: learned(nn.CrossAttention(8, 2, 6, **k, rng=rng()), ROWS, TEXT), HEADS
    ),
    "nn.attention.CrossAttention.forward": Row(
        forward(nn.CrossAttention(8, 2, 6, rng=rng()), ROWS, TEXT), {"mask": READ}
    ),
    "nn.attention.MultiHeadAttention": Row(
        lambda **k: learned(nn.MultiHeadAttention(8, 2, **k, rng=rng()), ROWS),
        {"causal": True, "use_rotary": True, **HEADS},
    ),
    "nn.attention.MultiHeadAttention.forward": Row(
        forward(nn.MultiHeadAttention(8, 2, rng=rng()), ROWS), {"mask": SEEN}
    ),
    **{
        f"nn.conv.{kind.__name__}": Row(ran(kind, wave(2, 8, 9, k=85)), CONV)
        for kind in (nn.Conv1d, nn.ConvTranspose1d)
    },
    **{
        f"nn.conv.{kind.__name__}": Row(ran(kind, wave(2, 8, 9, 9, k=85)), CONV)
        for kind in (nn.Conv2d, nn.ConvTranspose2d)
    },
    "nn.grouped_attention.GroupedQueryAttention": Row(
        lambda **k: learned(nn.GroupedQueryAttention(8, 2, **k, rng=rng()), ROWS),
        {"kv_heads": 1, "head_channels": 6, "dropout": 0.5, "qkv_bias": True, "proj_bias": True}
        | {"qk_norm": 0.1, "base": 50.0, "scaling": nn.RopeScaling(original_length=4)},
    ),
    "nn.init.kaiming_normal": Row(
        lambda **k: init.kaiming_normal((3, 4), **k, rng=rng()), {"mode": "fan_out"}
    ),
    "nn.init.normal": Row(lambda **k: init.normal((3, 4), **k, rng=rng()), {"std": 2.0}),
    "nn.init.orthogonal": Row(lambda **k: init.orthogonal((3, 4), **k, rng=rng()), {"gain": 2.0}),
    "nn.init.xavier_normal": Row(lambda **k: init.xavier_normal((3, 4), **k, rng=rng()), {"gain": 2.0}),
    "nn.init.xavier_uniform": Row(lambda **k: init.xavier_uniform((3, 4), **k, rng=rng()), {"gain": 2.0}),
    "nn.linear.Linear": Row(lambda **k: learned(nn.Linear(8, 3, **k, rng=rng()), ROWS), {"bias": False}),
    "nn.norm.BatchNorm": Row(
        lambda **k: [learned(m := nn.BatchNorm(8, **k), MAPS), m.running_mean, m.eval()(MAPS)],
        {"eps": 0.1, "momentum": 0.5},
    ),
    "nn.norm.GroupNorm": Row(lambda **k: learned(nn.GroupNorm(2, 8, **k), MAPS), {"eps": 0.1}),
    "nn.norm.LayerNorm": Row(lambda **k: learned(nn.LayerNorm(8, **k), ROWS), {"eps": 0.1, "bias": False}),
    "nn.norm.RMSNorm": Row(lambda **k: learned(nn.RMSNorm(8, **k), ROWS), {"eps": 0.1}),
    **{
        f"nn.recurrent.{kind.__name__}": Row(
            lambda kind=kind, **k: learned(kind(8, 4, **k, rng=rng()), ROWS), RECURRENT, {"layers": 2}
        )
        for kind in (nn.RNN, nn.LSTM, nn.GRU)
    },
    "nn.residual.ResBlock": Row(
        lambda **k: learned(nn.ResBlock(8, 8, **k, rng=rng()), MAPS, wave(2, k.get("embedding", 6), k=86)),
        {"embedding": 4, "scale_shift": True, "dropout": 0.5, "groups": 4, "eps": 0.1},
        {"embedding": 6},
    ),
    "nn.residual.ResBlock.forward": Row(
        forward(nn.ResBlock(8, 8, 6, rng=rng()), MAPS), {"emb": ROWS[:, 0, :6]}, {"emb": ROWS[:, 1, :6]}
    ),
    "nn.residual.Upsample.forward": Row(forward(nn.Upsample(8, rng=rng()), MAPS), {"size": (3, 4)}),
    "nn.rope.RopeScaling": Row(
        lambda **k: nn.RopeScaling(**k).slow_down(np.geomspace(1e-4, 1, 20)),
        {"factor": 4.0, "low": 2.0, "high": 3.0, "original_length": 1000},
    ),
    "nn.rope.rotary": Row(
        lambda **k: nn.rotary(Tensor(ROWS), **k),
        {"start": 3, "base": 50.0, "scaling": nn.RopeScaling(original_length=4)},
    ),
    "nn.spatial.SpatialAttention": Row(
        lambda **k: learned(nn.SpatialAttention(8, **k, rng=rng()), MAPS),
        {"heads": 2, "groups": 4, "eps": 0.1},
    ),
    "nn.spatial.SpatialTransformer": Row(
        lambda **k: learned(nn.SpatialTransformer(8, 2, 6, **k, rng=rng()), MAPS, TEXT),
        {"layers": 2, "groups": 4},
    ),
    "nn.spatial.SpatialTransformer.forward": Row(
        forward(nn.SpatialTransformer(8, 2, 6, rng=rng()), MAPS, TEXT), {"mask": np.stack([READ, READ])}
    ),
    "nn.timesteps.timestep_embedding": Row(
        lambda **k: nn.timestep_embedding(np.arange(3), 6, **k), {"max_period": 50.0}
    ),
    "nn.transformer.SwiGLU": Row(
        lambda **k: learned(nn.SwiGLU(8, **k, rng=rng()), ROWS), {"hidden": 5, "bias": True}
    ),
    "nn.transformer.Block": Row(
        lambda **k: learned(nn.Block(8, 2, causal=True, **k, rng=rng()), ROWS),
        {"dropout": 0.5, "bias": False, "use_rotary": True, "gelu": "none", "norm_eps": 0.1},
    ),
    "nn.transformer.Block.forward": Row(
        forward(nn.Block(8, 2, causal=True, rng=rng()), ROWS), {"mask": SEEN}
    ),
    "nn.transformer.MLP": Row(
        lambda **k: learned(nn.MLP(8, **k, rng=rng()), ROWS), {"bias": False, "gelu": "none"}
    ),
    "nn.recurrent.Recurrent.forward": Row(
        forward(nn.GRU(8, 4, rng=rng()), ROWS),
        {"state": wave(1, 2, 4, k=87), "lengths": np.array([2, 5])},
    ),
    "nn.module.Module.load_state_dict": Row(
        lambda **k: (
            nn.Linear(2, 2, rng=rng()).load_state_dict({}, **k) if k.get("strict") is False else "refused"
        ),
        {"strict": False},
    ),
    "nn.module.Module.train": Row(
        lambda **k: nn.Linear(2, 2, rng=rng()).train(**k).training, {"mode": False}
    ),
}
