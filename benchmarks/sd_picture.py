"""A whole picture of Stable Diffusion, from the prompt to pixels: 20 steps of PNDM with guidance, 256 × 256.
The parts have the structure of Stable Diffusion 1, at a fifth of the UNet's width. Beside `diffusers`, which
draws the same picture of the same noise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import sd_folder
from benchmarks.paired import THREADS
from benchmarks.worker import OURS

UNIT = "s a picture"
SCALE = 1.0
BESIDE: tuple[str, ...] = ()
PEERS = ("diffusers",)
MODES = False
ROUNDS = 3
STEPS, GUIDANCE, PROMPT = 20, 7.5, "a red cat"

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    with TemporaryDirectory() as folder:
        sd_folder.write_elsewhere(folder, "pipeline")
        size = 8 * sd_folder.SMALL["sample_size"]
        paint = tinygen_picture(folder) if side == OURS else diffusers_picture(folder)
    return {f"{STEPS} steps, {size}×{size}": paint}


def tinygen_picture(folder: str) -> Step:
    """A function that returns the picture (1, 3, H, W) in 0 … 1."""
    from tinygen.models.huggingface.stable_diffusion import from_pretrained

    model = from_pretrained(folder)
    return lambda: np.clip(model.sample([PROMPT], rng=0, steps=STEPS, guidance=GUIDANCE) / 2 + 0.5, 0, 1)


def diffusers_picture(folder: str) -> Step:
    import torch

    diffusers: Any = importlib.import_module("diffusers")  # half of it has no types
    torch.set_num_threads(THREADS)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    side = sd_folder.SMALL["sample_size"]
    noise = np.random.default_rng(0).standard_normal((1, 4, side, side), np.float32)

    def paint() -> Any:
        options = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}
        return pipe(PROMPT, latents=torch.from_numpy(noise.copy()), **options).images.transpose(0, 3, 1, 2)

    return paint
