"""Train a text-to-image model from scratch: latent diffusion of captioned shapes (`tinygen.data.shapes`).

    python examples/text_to_image/latent_diffusion_shapes.py  # some 10 minutes on 2 cores
    python examples/text_to_image/latent_diffusion_shapes.py --resume  # goes on after Ctrl-C, or a kill
    python examples/text_to_image/latent_diffusion_shapes.py --from runs/latent_diffusion_shapes --out r2
    mpiexec -n 2 python -m mpi4py examples/text_to_image/latent_diffusion_shapes.py  # in two processes
    python examples/text_to_image/latent_diffusion_shapes.py --draw-only --prompt "a red cross"

First an autoencoder learns codes of 8 × 8 × 4 numbers for pictures of 32 × 32 × 3. Then a UNet and a text
encoder learn to turn noise into the code for a caption. A parser without learned parameters judges the
drawings, also for pairs of a shape and a color that were in no training caption; a drawing is right if its
words are read, and surely (the parser is as confident as for a drawing with a little noise).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from functools import partial
from typing import Any

import numpy as np
from shared.captioned import (
    SENTENCES,
    SIDE,
    WORDS,
    all_pairs,
    draw_sweep,
    figures_of,
    judge_drawings,
    save_drawings,
)
from shared.flags import FULL, Flags, add_from_flag, add_run_flags, generator, number, size
from shared.folder import load_stage, load_weights
from shared.run import Run

from tinygen.arrays import to_device
from tinygen.data.shapes import batch, caption
from tinygen.diffusion import Process, cosine_schedule
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL, latent_scale
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

QUICK = {"ae_steps": 100, "ae_channels": 8, "ae_lr": 4e-3, "batch": 16, "diffusion_steps": 6, "channels": 16}
SIZES = {"quick": QUICK | {"drawings": 256, "judged": 12, "sampler_steps": 2}, "full": FULL | {"judged": 512}}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/latent_diffusion_shapes", "every 500")
    add_from_flag(parser, "autoencoder")
    add("--prompt", action="append", help="what to draw, as often as you like; else all shapes and colors")
    add("--draw-only", action="store_true", help="draw with the model in --out, and train nothing")
    add("--guidance", type=number(float, 0), default=3.0, help="scale of the guidance, for the drawings")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the drawings, the noise")
    add("--ae-steps", type=number(int, 2), default=1000, help="steps of the autoencoder")
    add("--ae-channels", type=size(4), default=16, help="its channels, a quarter of those at the code")
    add("--ae-lr", type=number(float, 0), default=2e-3, help="its highest learning rate")
    add("--drawings", type=size(1, 1_000_000), default=8192, help="pictures that the diffusion learns from")
    add("--diffusion-steps", type=number(int, 2), default=2400, help="steps of the diffusion's training")
    add("--channels", type=size(8), default=64, help="of the UNet and the text encoder; multiple of 4")
    add("--lr", type=number(float, 0), default=1e-3, help="highest learning rate of the diffusion")
    add("--batch", type=size(2), default=32, help="codes per step; half as many pictures before")
    add("--judged", type=size(1), default=300, help="pictures for each figure")
    add("--sampler-steps", type=number(int, 1, 500), default=20, help="steps of DDIM, of 500 in training")
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    args.ae_steps = 0 if args.source else args.ae_steps
    args.steps = args.ae_steps + args.diffusion_steps
    if args.draw_only and args.size == "full":
        args.error("--draw-only draws with one model: --out RUN/seed-0, and not --full")
    if args.channels % 4:
        args.error(f"--channels {args.channels} is no multiple of 4, the number of attention heads")
    return args


def build(args: argparse.Namespace) -> LatentDiffusion:
    rng, c = np.random.default_rng(args.seed), args.channels
    unet = UNetConfig(4, 4, c, (1, 2), 1, (False, True), 4, context=c, scale_shift=True)
    text = TextEncoderConfig(WORDS, max(len(s.split()) for s in SENTENCES), channels=c)
    shape = AutoencoderConfig(channels=args.ae_channels, multipliers=(1, 2, 4), attention=False)
    autoencoder = AutoencoderKL(shape, rng=rng)
    denoiser = TextDenoiser(UNet(unet, rng=rng), TextEncoder(text, rng=rng))
    return LatentDiffusion(autoencoder, denoiser, Process(cosine_schedule(500), "v"), SIDE).to(args.device)


def make_codes(model: LatentDiffusion, args: argparse.Namespace) -> tuple[Any, list[str]]:
    """The codes (N, 4, 8, 8) of drawings, and their captions. They are made once, since the encoder is
    frozen."""
    rng = np.random.default_rng(args.seed + 1)
    drawings = [batch(256, SIDE, rng) for _ in range(-(-args.drawings // 256))]
    codes = [model.encode(to_device(pictures, args.device)) for pictures, _ in drawings]
    return np.concatenate(codes), [caption(scene) for _, scenes in drawings for scene in scenes]


def descend(run: Run, loss: Any, optimizer: AdamW, module: Any, lr: float, at: int, steps: int) -> float:
    """Step `at` of `steps` of a module's training. Returns the loss."""
    optimizer.lr = warmup_cosine(at, lr, lr / 50, min(100, steps // 2), steps)
    optimizer.zero_grad()
    value = run.backward(loss, module)
    clip_grad_norm(module.parameters(), 1.0)
    optimizer.step()
    return value


def train(model: LatentDiffusion, args: argparse.Namespace, run: Run) -> None:
    """The loop: first the autoencoder, then the UNet and the text encoder, with one count of steps for
    both. At the end the model has its averaged weights."""
    rng, on = generator(args.seed + 2, args.device), partial(to_device, device=args.device)
    first, second = model.autoencoder, model.denoiser
    optimizer1 = AdamW(first.parameters(), args.ae_lr, weight_decay=0.0)
    optimizer2 = AdamW(second.parameters(), args.lr, (0.9, 0.99), weight_decay=0.0)
    ema = EMA(second, 0.999)
    things = {"model": model, "optimizer1": optimizer1, "optimizer2": optimizer2, "ema": ema, "rng": rng}
    codes = None
    with run:
        for step in run.loop(things, "autoencoder"):
            if step < args.ae_steps:
                pictures = on(batch(args.batch // 2, SIDE, rng)[0])
                with run.share(pictures) as (own,):
                    loss = first.loss(own, rng=rng) / (pictures.size // len(pictures))
                    value = descend(run, loss, optimizer1, first, args.ae_lr, step, args.ae_steps)
                run.log(step=step, autoencoder_loss=value)
                if step + 1 == args.ae_steps:
                    codes_there = model.encode(on(batch(256, SIDE, rng)[0]))
                    first.scale.data = on(latent_scale(to_device(codes_there, "cpu")))
            else:
                if codes is None:
                    run.enter("diffusion")
                    run.model(first.state_dict(), "autoencoder")
                    codes, captions = make_codes(model, args)
                chosen = rng.integers(len(codes), size=args.batch)
                at = step - args.ae_steps
                with run.share(chosen) as (own,):
                    loss = model.loss(codes[own], [captions[i] for i in own], rng=rng)
                    value = descend(run, loss, optimizer2, second, args.lr, at, args.diffusion_steps)
                ema.update()
                run.log(step=step, diffusion_loss=value)
            run.show(value, " of the autoencoder" if codes is None else " of the diffusion")
    ema.copy_to(second)


def show(model: LatentDiffusion, args: argparse.Namespace, folder: Path) -> None:
    """Draw the prompts, and save the pictures in the folder."""
    prompts, rng = args.prompt or all_pairs(), np.random.default_rng(args.seed + 5)
    steps = model.sample_steps(prompts, rng=rng, guidance=args.guidance, steps=args.sampler_steps)
    frames = [to_device(model.decode(x), "cpu") for x in steps]
    save_drawings(folder, prompts, frames, f"Drawn with guidance {args.guidance:g}")


def main(args: argparse.Namespace) -> None:
    model = build(args)
    try:
        model.denoiser.text_encoder.tokens(args.prompt or [])
    except ValueError as error:  # report a bad prompt before the training
        args.error(str(error))
    if args.draw_only:
        load_weights(Path(args.out) / "model.safetensors", model, args)
        show(model, args, Path(args.out))
        return
    run = Run(args, ["step", "autoencoder_loss", "diffusion_loss"])
    if args.source and not args.resume:
        load_stage("autoencoder", model.autoencoder, args)
    parts = (model.autoencoder, model.denoiser.unet, model.denoiser.text_encoder)
    counts = [part.num_parameters() for part in parts]
    print("parameters: autoencoder {:,}, UNet {:,}, text encoder {:,}".format(*counts))
    train(model, args, run)
    run.model(model.state_dict())

    def draw(captions: list[str], scale: float) -> Any:
        """Draw the captions; the noise is the same for every scale."""
        rng = np.random.default_rng(args.seed + 4)
        drawn = model.sample(captions, rng=rng, guidance=scale, steps=args.sampler_steps)
        return to_device(drawn, "cpu")

    copy = lambda pictures: to_device(model.decode(model.encode(to_device(pictures, args.device))), "cpu")
    found = judge_drawings(draw, copy, args.judged, args.seed + 3)
    best, rows = figures_of(found)
    draw_sweep(run.path / "guidance.png", found)
    run.curve({"autoencoder_loss": "autoencoder", "diffusion_loss": "diffusion"}, {}, "Training", "loss")
    show(model, args, run.path)
    head = f"\nguidance {best:g}, {args.judged} pictures for each figure"
    run.result(rows, head, best_guidance=best, **found)


if __name__ == "__main__":
    start(parse_args, main)
