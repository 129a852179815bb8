"""ControlNet: a trained latent diffusion of captioned shapes learns to fill outlines (Zhang, Rao & Agrawala
2023, arXiv:2302.05543).

    python examples/text_to_image/controlnet_shapes.py  # trains a small latent diffusion first
    python examples/text_to_image/controlnet_shapes.py --from runs/latent_diffusion_shapes --channels 64
    python examples/text_to_image/controlnet_shapes.py --resume  # goes on after Ctrl-C, or a kill

The latent diffusion (`latent_diffusion_shapes.py`) draws a shape for a caption, and places it within the
caption's words as chance has it. Here it is frozen, and a ControlNet learns to draw the shape exactly where
an outline is, in the color that the caption says: the outline tells nothing of colors. While it learns, its
drawings are compared with the outlines: does the ControlNet follow them from one moment on, as the paper saw
it ("sudden convergence", section 3.3)?
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
from shared.captioned import SIDE
from shared.controlled import HINTS, build, encode_some, make_codes
from shared.flags import FULL, Flags, add_from_flag, add_run_flags, generator, number, size
from shared.folder import load_stage
from shared.outlines import figures_of, judge_control, outlines, overlap, save_sweep
from shared.plots import save_curves
from shared.run import Run

from tinygen.arrays import to_device
from tinygen.data.shapes import batch, caption
from tinygen.models.pictures.autoencoder import latent_scale
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion
from tinygen.optim import AdamW, clip_grad_norm, warmup_cosine

STAGES = ("autoencoder", "diffusion", "controlnet")
QUICK = {"ae_steps": 40, "ae_channels": 8, "ae_lr": 4e-3, "batch": 16, "diffusion_steps": 6, "channels": 16}
QUICK |= {"control_steps": 6, "drawings": 256, "judged": 12, "sampler_steps": 2, "look_every": 3}
SIZES = {"quick": QUICK, "full": FULL | {"judged": 500}}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/controlnet_shapes", "every 500")
    add_from_flag(parser, "model")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the drawings, the noise")
    add("--ae-steps", type=number(int, 2), default=700, help="steps of the autoencoder")
    add("--ae-channels", type=size(4), default=16, help="its channels, a quarter of those at the code")
    add("--ae-lr", type=number(float, 0), default=2e-3, help="its highest learning rate")
    add("--diffusion-steps", type=number(int, 2), default=2000, help="steps of the latent diffusion")
    add("--control-steps", type=number(int, 2), default=4000, help="steps of the ControlNet")
    add("--channels", type=size(8), default=32, help="of the UNet and the text encoder; multiple of 4")
    add(
        "--lr", type=number(float, 0), default=2e-3, help="highest learning rate of both; falls to a fiftieth"
    )
    add("--drawings", type=size(1, 1_000_000), default=8192, help="pictures that both learn from")
    add("--batch", type=size(2), default=32, help="codes per step; half as many pictures before")
    add("--look-every", type=number(int, 1), default=100, help="steps between two comparisons with outlines")
    add("--judged", type=size(1), default=200, help="drawings for each figure")
    add("--guidance", type=number(float, 0), default=3.0, help="scale of the guidance by captions")
    add("--sampler-steps", type=number(int, 1, 500), default=20, help="steps of DDIM, of 500 in training")
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    args.ae_steps, args.diffusion_steps = (0, 0) if args.source else (args.ae_steps, args.diffusion_steps)
    args.steps = args.ae_steps + args.diffusion_steps + args.control_steps
    if args.channels % 4:
        args.error(f"--channels {args.channels} is no multiple of 4, the number of attention heads")
    return args


def stage_of(step: int, args: argparse.Namespace) -> tuple[str, int, int]:
    """The stage that this step is in, the number of the step there, and the stage's steps."""
    for stage, steps in zip(STAGES, (args.ae_steps, args.diffusion_steps, args.control_steps), strict=True):
        if step < steps:
            return stage, step, steps
        step -= steps
    raise ValueError(f"{args.steps} steps are all")


def train(model: ControlledDiffusion, args: argparse.Namespace, run: Run) -> None:
    """The loop: the autoencoder, the latent diffusion, then the ControlNet, with one count of steps."""
    base, rng = model.base, generator(args.seed + 2, args.device)
    on = partial(to_device, device=args.device)
    parts = dict(zip(STAGES, (base.autoencoder, base.denoiser, model.controlnet), strict=True))
    rates = dict(zip(STAGES, (args.ae_lr, args.lr, args.lr), strict=True))
    optimizers = {
        stage: AdamW(part.parameters(), rates[stage], (0.9, 0.99), weight_decay=0.0)
        for stage, part in parts.items()
    }
    things = {"model": model, "rng": rng} | {f"of_{stage}": each for stage, each in optimizers.items()}
    codes, now = None, ""
    with run:
        for step in run.loop(things, STAGES[0]):
            stage, at, steps = stage_of(step, args)
            part, optimizer, row = parts[stage], optimizers[stage], {}
            if stage != now:
                run.enter(stage)
                model.freeze()
                part.unfreeze()
                now = stage
            if stage == "autoencoder":
                pictures = on(batch(args.batch // 2, SIDE, rng)[0])
                loss = base.autoencoder.loss(pictures, rng=rng) / (pictures.size // len(pictures))
            else:
                if codes is None:
                    if at == 0 and stage == "diffusion":
                        base.autoencoder.scale.data = on(latent_scale(encode_some(base, rng, args)))
                    codes, captions, hints = make_codes(base, args)
                chosen = rng.integers(len(codes), size=args.batch)
                batch_of = codes[chosen], [captions[i] for i in chosen]
                if stage == "diffusion":
                    loss = base.loss(*batch_of, rng=rng)
                else:
                    if at == 0:
                        copy = ControlNet.copy_of(base.denoiser.unet, *HINTS, rng=args.seed + 3)
                        model.controlnet.load_state_dict(copy.state_dict())
                    if at % args.look_every == 0:
                        row["iou"] = look(model, args)
                    loss = model.loss(*batch_of, hints[chosen], rng=rng)
            optimizer.lr = warmup_cosine(at, rates[stage], rates[stage] / 50, min(100, steps // 2), steps)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(part.parameters(), 1.0)
            optimizer.step()
            run.log(step=step, **{f"{stage}_loss": loss.item()}, **row)
            run.show(loss.item(), f" of the {stage}")


def draw(
    model: ControlledDiffusion, args: argparse.Namespace, captions: list[str], hints: Any, strength: float
) -> Any:
    """Draw captions along outlines; the noise is the same for every strength."""
    drawn = model.sample(
        *(captions, hints),
        rng=np.random.default_rng(args.seed + 4),
        guidance=args.guidance,
        strength=strength,
        steps=args.sampler_steps,
    )
    return to_device(drawn, "cpu")


def look(model: ControlledDiffusion, args: argparse.Namespace) -> float:
    """The mean overlap of 32 drawings with the shapes whose outlines they should fill."""
    pictures, scenes = batch(32, SIDE, np.random.default_rng(args.seed + 5))
    drawn = draw(model, args, [caption(scene) for scene in scenes], outlines(pictures), 1.0)
    return float(overlap(drawn, pictures).mean())


def main(args: argparse.Namespace) -> None:
    model = build(args)
    run = Run(args, ["step", *(f"{stage}_loss" for stage in STAGES), "iou"])
    base = model.base
    if args.source and not args.resume:
        load_stage("model", base, args)
    print(f"parameters: frozen {base.num_parameters():,}, ControlNet {model.controlnet.num_parameters():,}")
    train(model, args, run)
    run.model(base.state_dict())
    run.model(model.controlnet.state_dict(), "controlnet")

    on = partial(to_device, device=args.device)
    copy = lambda pictures: to_device(base.decode(base.encode(on(pictures))), "cpu")
    found = judge_control(partial(draw, model, args), copy, args.judged, args.seed + 6)
    save_sweep(run.path / "control.png", partial(draw, model, args), args.seed + 7)
    run.curve({f"{stage}_loss": stage for stage in STAGES}, {}, "Training", "loss")
    first = args.steps - args.control_steps
    looks = [{"step": row["step"] - first, "iou": row["iou"]} for row in run.rows if "iou" in row]
    levels = {
        "without control": found["train"]["0"]["iou"],
        "the autoencoder's copies": found["train"]["copies"]["iou"],
    }
    save_curves(run.path / "iou.png", looks, {"iou": "drawings"}, levels, "Following the outline", "IoU")
    head = f"\n{args.judged} drawings for each figure, guidance {args.guidance:g}"
    run.result(figures_of(found), head, looks=looks, judged=found)


if __name__ == "__main__":
    start(parse_args, main)
