"""Defaults that a paper or a library has set, each with its source."""

import inspect

import pytest

from tinygen import nn, ops, optim
from tinygen.align import dpo, grpo, kl, ppo
from tinygen.diffusion import guidance, inpaint, karras, loss, sampling, schedule
from tinygen.diffusion.dpm_solver import dpm_solver
from tinygen.diffusion.plms import plms
from tinygen.models.language import bart, bert, gpt, llama, t5, transformer
from tinygen.models.pictures import autoencoder, controlnet, unet, vae, vqvae
from tinygen.models.text_to_image import clip, controlled_diffusion, latent_diffusion
from tinygen.text import beam, corruption, masking
from tinygen.text.mask_predict import mask_predict

HO, NICHOL = "Ho et al. 2020, section 4", "Nichol & Dhariwal 2021"
TORCH = "PyTorch"

DEFAULTS = [
    (dpo.dpo_loss, {"beta": 0.1, "smoothing": 0.0}, "Rafailov et al. 2023, appendix B; trl"),
    (dpo.ipo_loss, {"tau": 0.1}, "trl's beta, which IPO takes for τ"),
    (dpo.response_log_probs, {"length_normalize": False}, "Rafailov et al. 2023, eq. 7: the sum"),
    (grpo.grpo_loss, {"clip": 0.2, "beta": 0.04}, "Shao et al. 2024, section 4.2; PPO's ε"),
    (
        kl.AdaptiveKL,
        {"beta": 0.15, "target": 6.0, "horizon": 10_000},
        "Ziegler et al. 2019, their experiments",
    ),
    (ppo.policy_loss, {"clip": 0.2}, "Schulman et al. 2017, table 1: the best ε"),
    (ppo.clip_fraction, {"clip": 0.2}, "as policy_loss"),
    (ppo.value_loss, {"clip": 0.2}, "lm-human-preferences: cliprange_value"),
    (ppo.gae, {"gamma": 1.0, "lam": 0.95}, "lm-human-preferences: gamma, lam"),
    (
        ppo.ppo_loss,
        {"value_weight": 0.1, "ptx": 0.0, "pretraining": 0.0},
        "lm-human-preferences: vf_coef 0.1",
    ),
    (ppo.whiten, {"shift_mean": True}, "lm-human-preferences: advantages are shifted"),
    (optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}, "Kingma & Ba 2014"),
    (optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}, TORCH),
    (optim.SGD, {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, TORCH),
    (optim.EMA, {"decay": 0.9999, "warmup": True}, "Ho et al. 2020, appendix B; TensorFlow's num_updates"),
    (guidance.classifier_free_guidance, {"rescale": 0.0}, "Lin et al. 2024, section 3.4: 0 is no rescaling"),
    (schedule.linear_schedule, {"first": 1e-4, "last": 0.02}, HO),
    (
        schedule.sqrt_linear_schedule,
        {"first": 0.0015, "last": 0.0195},
        "Rombach et al. 2022, ImageNet models",
    ),
    (schedule.cosine_schedule, {"offset": 0.008, "largest": 0.999}, f"{NICHOL}, section 3.2"),
    (loss.hybrid_loss, {"weight": 1e-3}, f"{NICHOL}, section 3.1: λ"),
    (loss.hybrid_loss_at, {"weight": 1e-3}, f"{NICHOL}, section 3.1: λ"),
    (loss.min_snr, {"gamma": 5.0}, "Hang et al. 2023: γ = 5"),
    (inpaint, {"repeats": 1, "jump": 10}, "Lugmayr et al. 2022: jumps of 10; 1 is plain blending"),
    (sampling.ddim, {"eta": 0.0, "clip": None}, "Song et al. 2020: DDIM is η = 0"),
    (sampling.ddim_step, {"eta": 0.0, "clip": None}, "Song et al. 2020"),
    (sampling.ancestral_sampling, {"variance": "small", "clip": None}, "Ho et al. 2020, section 3.2"),
    (nn.LayerNorm, {"eps": 1e-5, "bias": True}, TORCH),
    (nn.GroupNorm, {"eps": 1e-5}, TORCH),
    (nn.BatchNorm, {"eps": 1e-5, "momentum": 0.1}, TORCH),
    (nn.RMSNorm, {"eps": 1e-6}, "LLaMA"),
    (nn.rotary, {"start": 0, "base": 10_000.0, "scaling": None}, "Su et al. 2021, section 3.2.2"),
    (nn.GroupedQueryAttention, {"base": 10_000.0}, "Su et al. 2021, section 3.2.2"),
    (nn.timestep_embedding, {"max_period": 10_000.0}, "Vaswani et al. 2017, section 3.5"),
    (nn.Block, {"dropout": 0.0, "bias": True, "gelu": "tanh", "norm_eps": 1e-5}, "GPT-2"),
    (nn.MLP, {"gelu": "tanh", "bias": True}, "GPT-2"),
    (nn.ResBlock, {"eps": 1e-5, "dropout": 0.0, "scale_shift": False}, "diffusers"),
    (nn.SpatialAttention, {"eps": 1e-5, "heads": 1}, "diffusers"),
    (ops.leaky_relu, {"slope": 0.01}, TORCH),
    (ops.huber, {"delta": 1.0}, TORCH),
    (ops.cross_entropy, {"ignore_index": -100, "label_smoothing": 0.0}, TORCH),
    (ops.gelu, {"approximate": "none"}, TORCH),
    (
        bert.BERTConfig,
        {"layers": 12, "heads": 12, "channels": 768, "dropout": 0.1, "gelu": "none", "next_sentence": True},
        "Devlin et al. 2019, sections 3 and A.2: BERT-base",
    ),
    (
        bert.BERTConfig,
        {"vocab_size": 30522, "block_size": 512, "hidden": 3072, "segments": 2, "norm_eps": 1e-12},
        "the published bert-base-uncased",
    ),
    (
        t5.T5Config,
        {
            "layers": 12,
            "decoder_layers": 12,
            "heads": 12,
            "channels": 768,
            "head_channels": 64,
            "hidden": 3072,
        }
        | {"buckets": 32, "max_distance": 128, "dropout": 0.1},
        "Raffel et al. 2020, sections 2.1 and 3.1.1: base",
    ),
    (
        t5.T5Config,
        {"vocab_size": 32128, "norm_eps": 1e-6, "gated": False, "tie_weights": True}
        | {"pad": 0, "begin": 0, "end": 1},
        "the published t5-base",
    ),
    (
        bart.BARTConfig,
        {"layers": 12, "decoder_layers": 12, "channels": 1024, "dropout": 0.1, "gelu": "none"},
        "Lewis et al. 2020, sections 2.1 and 5.1: large",
    ),
    (
        bart.BARTConfig,
        {"vocab_size": 50265, "block_size": 1024, "heads": 16, "hidden": 4096, "inner_dropout": 0.1}
        | {"pad": 1, "begin": 2, "end": 2},
        "the published bart-large",
    ),
    (corruption.corrupt_spans, {"density": 0.15, "mean_length": 3.0}, "Raffel et al. 2020, section 3.3.4"),
    (corruption.infill_text, {"rate": 0.3, "mean_length": 3.0}, "Lewis et al. 2020, sections 2.2 and 5.1"),
    (mask_predict, {"passes": 10}, "Ghazvininejad et al. 2019, section 4.2: the most they use"),
    (masking.mask_tokens, {"rate": 0.15}, "Devlin et al. 2019, section 3.1"),
    (gpt.GPTConfig, {"gelu": "none", "bias": True, "tie_weights": True, "norm_eps": 1e-5}, "nanoGPT"),
    (
        llama.LlamaConfig,
        {"rope_base": 10_000.0, "norm_eps": 1e-5, "tie_weights": False},
        "Meta's llama, model.py",
    ),
    (
        transformer.TransformerConfig,
        {"layers": 6, "heads": 8, "channels": 512, "hidden": 2048, "dropout": 0.1, "label_smoothing": 0.1}
        | {"pre_norm": False},
        "Vaswani et al. 2017, table 3: base",
    ),
    (
        transformer.Transformer.beam_search,
        {"width": 4, "alpha": 0.6},
        "Vaswani et al. 2017, section 6.1",
    ),
    (beam.beam_search, {"alpha": 0.6}, "Vaswani et al. 2017, section 6.1"),
    (optim.noam, {"warmup": 4000}, "Vaswani et al. 2017, section 5.3"),
    (
        nn.RopeScaling,
        {"factor": 8.0, "low": 1.0, "high": 4.0, "original_length": 8192},
        "Meta's llama-models, models/llama3/model.py",
    ),
    (vae.VAE, {"data": 784, "hidden": 400, "latent": 20, "beta": 1.0}, "the usual sizes for MNIST"),
    (vqvae.VQVAE, {"beta": 0.25, "decay": 0.99}, "van den Oord et al. 2017, section 3.2, appendix A.1"),
    (vqvae.VectorQuantizer, {"decay": 0.99}, "van den Oord et al. 2017, appendix A.1"),
    (vqvae.VectorQuantizer.restart, {"below": 1.0}, "Dhariwal et al. 2020, section 3.1: their threshold"),
    (vqvae.VQVAE.restart, {"below": 1.0}, "Dhariwal et al. 2020, section 3.1: their threshold"),
    (karras.karras_sigmas, {"rho": 7.0}, "Karras et al. 2022, table 1"),
    (plms, {"order": 4}, "Liu et al. 2022: F-PNDM"),
    (dpm_solver, {"order": 2, "heun": False}, "Lu et al. 2022, algorithm 2: 2M"),
    (autoencoder.AutoencoderConfig, {"kl_weight": 1e-6, "latent": 4}, "latent diffusion's configurations"),
    (unet.UNetConfig, {"dropout": 0.0, "groups": None, "scale_shift": False}, "Ho et al. 2020, appendix B"),
    (
        controlnet.ControlNetConfig,
        {"hint_channels": 3, "hint_widths": (16, 32, 96, 256)},
        "Zhang et al. 2023: their configuration, and diffusers' ControlNetModel",
    ),
]

CONSTANTS = [
    (controlled_diffusion.DROPPED, 0.5, "Zhang et al. 2023, section 3.3: half of the prompts"),
    (latent_diffusion.DROPPED, 0.1, "Ho & Salimans 2022: p_uncond"),
    (autoencoder.EPS, 1e-6, "latent diffusion's group norms"),
    (vqvae.SMOOTHING, 1e-5, "the usual ε of the running means"),
    (clip.FIRST_SCALE, 1 / 0.07, "Radford et al. 2021, section 2.5"),
    (clip.LARGEST_SCALE, 100.0, "Radford et al. 2021, section 2.5"),
    (schedule.TERMINAL_ALPHA, 0.05, "a warning's bound"),
]


@pytest.mark.parametrize(("function", "wanted", "source"), DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_defaults(function, wanted, source):
    parameters = inspect.signature(getattr(function, "body", function)).parameters
    found = {name: parameters[name].default for name in wanted}
    assert found == wanted, source


@pytest.mark.parametrize(("found", "wanted", "source"), CONSTANTS)
def test_constants(found, wanted, source):
    assert found == wanted, source
