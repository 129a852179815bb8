"""Draw captions with a diffusion that has seen no captions: a CLIP of noisy pictures leads it (GLIDE; Nichol
et al. 2021, arXiv:2112.10741).

    python examples/text_to_image/clip_guided_shapes.py  # some six minutes of one core
    python examples/text_to_image/clip_guided_shapes.py --resume  # goes on after Ctrl-C or a kill
    python examples/text_to_image/clip_guided_shapes.py --clip-scale 4  # another strength of CLIP's gradient

Three networks learn from the same pictures of 16 × 16: a UNet without captions; a CLIP that sees pictures
with noise, and the step; and, to compare, a UNet with captions, for guidance without a classifier. Both ways
make equally many evaluations of a network for a picture, where a backward pass counts two. A parser without
learned parameters reads the drawings, also for pairs of a shape and a color that no network has seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.captioned import WORDS as WORDS_OF_SCENES
from shared.captioned import all_pairs
from shared.contrast import MAX_WORDS, WORDS, draw_scenes, ids_of
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.guided import SIDE, WAYS, draw, figures_of, judge_drawings
from shared.pictures import save_grid
from shared.run import Run

from tinygen.arrays import to_device
from tinygen.diffusion import Process, cosine_schedule, simple_loss
from tinygen.judges.shapes_parser import SURE
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.clip_encoders import END, TextTower, TowerConfig
from tinygen.models.text_to_image.latent_diffusion import DROPPED, TextDenoiser
from tinygen.models.text_to_image.noisy_clip import NoisyCLIP, NoisyImageEncoder
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.nn import ModuleList
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

PARTS = ("unconditional", "clip", "conditional")
QUICK = {"steps": 30, "channels": 8, "batch": 16, "lr": 4e-3, "evaluations": 32, "judged": 16, "ema": 0.8}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/clip_guided_shapes", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the pictures and the noise")
    add("--channels", type=size(8), default=24, help="of the UNets at full resolution, a multiple of 8")
    add("--timesteps", type=size(1), default=200, help="steps of the diffusion")
    add("--steps", type=number(int, 1), default=1000, help="optimizer steps of each network")
    add("--batch", type=size(1, 180), default=32, help="pictures per step, new ones every time; CLIP: twice")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate; it falls to a fiftieth")
    add("--ema", type=number(float, 0, 1), default=0.995, help="memory of the averages of the weights")
    add("--clip-scale", type=number(float, 0), default=3.0, help="factor of the gradient of CLIP's match")
    add("--guidance", type=number(float, 0), default=3.0, help="scale of the guidance without a classifier")
    add("--evaluations", type=number(int, 4), default=96, help="of networks, for a drawing")
    add("--judged", type=size(2), default=500, help="drawings for each figure")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    if args.channels % 8:
        parser.error(f"--channels {args.channels} is not a multiple of 8")
    if args.evaluations > args.timesteps:
        parser.error(f"--evaluations {args.evaluations} are more than --timesteps {args.timesteps}")
    return args


def build(args: argparse.Namespace) -> ModuleList:
    """The three networks, in the order of `PARTS`."""
    rng, c = np.random.default_rng(args.seed), args.channels
    process = Process(cosine_schedule(args.timesteps), "v")
    sizes: dict[str, Any] = {
        "multipliers": (1, 2, 2),
        "blocks": 1,
        "attention": (False, False, True),
        "scale_shift": True,
    }
    unet = UNet(UNetConfig(3, 3, c, **sizes), rng=rng)
    images = NoisyImageEncoder(SIDE, 3, 16, 2, 64, rng=rng)
    texts = TextTower(len(WORDS) + 2, MAX_WORDS + 2, END, TowerConfig(1), 64, rng=rng)
    words = TextEncoder(TextEncoderConfig(WORDS_OF_SCENES, MAX_WORDS, channels=c), rng=rng)
    denoiser = TextDenoiser(UNet(UNetConfig(3, 3, c, **sizes, heads=4, context=c), rng=rng), words)
    return ModuleList([unet, NoisyCLIP(images, texts, process), denoiser]).to(args.device)


def loss_of(part: str, model: Any, process: Process, pictures: Any, captions: list[str], rng: Any) -> Any:
    """The loss of a network for twice as many captioned pictures as the diffusions use."""
    if part == "clip":
        return model.loss(pictures, ids_of(captions), rng=rng)
    half = len(pictures) // 2
    if part == "unconditional":
        return simple_loss(process, model, pictures[:half], rng=rng)
    texts = np.where(rng.random(half) < DROPPED, "", captions[:half]).tolist()
    context, mask = model.text_encoder(texts)
    return simple_loss(process, lambda x, t: model(x, t, context, mask), pictures[:half], rng=rng)


def train(models: ModuleList, ema: EMA, args: argparse.Namespace, run: Run) -> None:
    """The loop: a step of each network. The averages of the weights are in `ema`."""
    rng, process = generator(args.seed + 1, args.device), models[1].process
    optimizers = [AdamW(model.parameters(), args.lr, (0.9, 0.99), weight_decay=0.0) for model in models]
    things = {"models": models, "ema": ema, "batches": rng}
    things |= {f"of_{part}": each for part, each in zip(PARTS, optimizers, strict=True)}
    with run:
        for step in run.loop(things):
            drawn, captions = draw_scenes(2 * args.batch, SIDE, rng)
            pictures, losses = to_device(drawn, args.device), {}
            for part, model, optimizer in zip(PARTS, models, optimizers, strict=True):
                run.enter(part)
                optimizer.lr = warmup_cosine(
                    step, args.lr, args.lr / 50, min(100, args.steps // 2), args.steps
                )
                loss = loss_of(part, model, process, pictures, captions, rng)
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm(model.parameters(), 1.0)
                optimizer.step()
                losses[part] = loss.item()
            models[1].clamp_scale()
            ema.update()
            run.log(step=step, **losses)
            run.show(sum(losses.values()))


def main(args: argparse.Namespace) -> None:
    models = build(args)
    ema, run = EMA(models, args.ema), Run(args, ["step", *PARTS])
    counts = dict(zip(PARTS, (model.num_parameters() for model in models), strict=True))
    print("parameters:", ", ".join(f"{part} {n:,}" for part, n in counts.items()))
    train(models, ema, args, run)
    ema.copy_to(models)
    run.model(models.state_dict())
    found = judge_drawings(models, args, np.random.default_rng(args.seed + 2), run.enter)
    few = all_pairs()[::2]
    rows = np.concatenate([draw(way, models, few, args, args.seed + 4) for way in WAYS])
    title = "Every second shape and color, in three ways from the same noise"
    save_grid(run.path / "drawings.png", rows, len(few), 5, title, list(WAYS))
    curves = {"unconditional": "UNet", "conditional": "UNet with captions", "clip": "CLIP of noisy pictures"}
    run.curve(curves, {}, "Training", "loss")
    head = f"\n{args.evaluations} evaluations for a drawing, {args.judged} drawings for each figure; sure: a "
    head += f"confidence of at least {SURE[SIDE]}"
    run.result(figures_of(found, args.judged), head, steps=run.steps, judged=found, parameters=counts)


if __name__ == "__main__":
    start(parse_args, main)
