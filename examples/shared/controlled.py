"""Helpers of `controlnet_shapes.py`: its models, and the codes, captions and outlines from which
they learn."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from shared.captioned import SENTENCES, SIDE, WORDS
from shared.outlines import outlines

from tinygen.arrays import to_device
from tinygen.data.shapes import batch, caption
from tinygen.diffusion import Process, cosine_schedule
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig

HINTS = (1, (16, 32, 64))  # channels of the outlines, widths of their encoder: two halvings, as in the codes


def build(args: argparse.Namespace) -> ControlledDiffusion:
    """A latent diffusion as in latent_diffusion_shapes.py, and a ControlNet for it."""
    rng, c = np.random.default_rng(args.seed), args.channels
    config = UNetConfig(4, 4, c, (1, 2), 1, (False, True), 4, context=c, scale_shift=True)
    text = TextEncoderConfig(WORDS, max(len(s.split()) for s in SENTENCES), channels=c)
    shape = AutoencoderConfig(channels=args.ae_channels, multipliers=(1, 2, 4), attention=False)
    autoencoder = AutoencoderKL(shape, rng=rng)
    denoiser = TextDenoiser(UNet(config, rng=rng), TextEncoder(text, rng=rng))
    base = LatentDiffusion(autoencoder, denoiser, Process(cosine_schedule(500), "v"), SIDE)
    return ControlledDiffusion(base, ControlNet.copy_of(denoiser.unet, *HINTS, rng=rng)).to(args.device)


def make_codes(base: LatentDiffusion, args: argparse.Namespace) -> tuple[Any, list[str], Any]:
    """The codes (N, 4, 8, 8) of drawings, their captions and their outlines (N, 1, 32, 32)."""
    rng = np.random.default_rng(args.seed + 1)
    drawings = [batch(256, SIDE, rng) for _ in range(-(-args.drawings // 256))]
    codes = [base.encode(to_device(pictures, args.device)) for pictures, _ in drawings]
    hints = [to_device(outlines(pictures), args.device) for pictures, _ in drawings]
    captions = [caption(scene) for _, scenes in drawings for scene in scenes]
    return np.concatenate(codes), captions, np.concatenate(hints)


def encode_some(base: LatentDiffusion, rng: Any, args: argparse.Namespace) -> Any:
    """Codes of 256 drawings."""
    return to_device(base.encode(to_device(batch(256, SIDE, rng)[0], args.device)), "cpu")
