"""Train a small diffusion model on colored shapes; then remove parts of pictures and let it paint them
(inpainting).

    python examples/pictures/inpaint_shapes.py  # some three minutes on 2 cores
    python examples/pictures/inpaint_shapes.py --repeats 10  # RePaint goes back and forth more often
    python examples/pictures/inpaint_shapes.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The model learns whole pictures, without captions, and never sees a mask. A shape is symmetric, left to
right, and has one color. So if a quarter or a half of it is missing, the rest determines it, and a parser
without learned parameters can say whether shape, color and size are right. If three quarters are missing,
the answer is not determined: the top of a triangle does not show how far down it goes.

Two methods are compared. "Blending" replaces the known part of the picture before each step. RePaint also
adds noise again and repeats steps. The table also has the picture with the part left empty, and the
original.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, numpy_function, size
from shared.holes import error_in, holes, share_read_right
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_least, less_than
from tqdm import tqdm

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data.shapes import BACKGROUND, batch
from tinygen.diffusion import Process, cosine_schedule, evenly_spaced, last_state, loss_at, simple_loss
from tinygen.diffusion.inpaint import inpaint, visited_times
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

SIDE = 16  # pixels
PAPER = 2 * BACKGROUND[0] - 1
EXPECTED = {"a quarter": at_least(0.9), "a half": at_least(0.75)}  # of RePaint
QUICK = {"steps": 40, "channels": 8, "batch": 32, "pictures": 4, "paint_steps": 10, "repeats": 2}
SIZES = {"quick": QUICK, "full": FULL | {"pictures": 512}}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/inpaint_shapes", "at every evaluation")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the batches and the paintings")
    add("--channels", type=size(8), default=24, help="of the UNet at full resolution, a multiple of 8")
    add("--timesteps", type=size(1), default=200, help="steps of the diffusion")
    add("--steps", type=number(int, 1), default=1000, help="optimizer steps")
    add("--batch", type=size(1), default=64, help="pictures per step, new ones every time")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate; it falls to a hundredth")
    add("--ema", type=number(float, 0, 1), default=0.995, help="memory of the average of the weights")
    add("--eval-every", type=number(int, 1), default=200, help="steps between evaluations")
    add("--pictures", type=size(1), default=64, help="pictures to paint in, for each kind of hole")
    add("--paint-steps", type=number(int, 1), default=50, help="steps in which they are painted")
    add("--repeats", type=number(int, 1), default=5, help="how often RePaint makes each step")
    add("--jump", type=number(int, 1), default=5, help="steps that RePaint goes back at a time")
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.paint_steps > args.timesteps:
        parser.error(f"--paint-steps {args.paint_steps} is more than --timesteps {args.timesteps}")
    if args.channels % 8:
        parser.error(f"--channels {args.channels} is not a multiple of 8")
    return args


def paint(model: UNet, process: Process, truth: Any, mask: Any, repeats: int, args: Any, name: str) -> Any:
    """The pictures, with the part outside of the mask painted by the model."""
    rng = np.random.default_rng(args.seed + 3)
    noise = rng.standard_normal(truth.shape, np.float32)
    times = visited_times(len(process.schedule), repeats, args.jump)
    down = sum(after < before for before, after in pairwise(times))
    with tqdm(desc=name, total=down, unit="step", dynamic_ncols=True, leave=False) as bar:

        def model_with_bar(x: Any, t: Any) -> Any:
            bar.update()
            return numpy_function(model, args.device)(x, t)

        options = {"repeats": repeats, "jump": args.jump, "clip": 1.0}
        return last_state(inpaint(process, model_with_bar, noise, truth, mask, rng=rng, **options))


# -- training --------------------------------------------------------------------------------------


@no_grad()
def unseen_loss(model: Any, process: Process, args: Any) -> float:
    """The loss on 256 fixed pictures that are not used in training, at steps t spread over 1 ... T."""
    rng, on = np.random.default_rng(args.seed + 2), partial(to_device, device=args.device)
    pictures = on(batch(256, SIDE, rng)[0])
    noise = on(rng.standard_normal(pictures.shape, np.float32))
    steps = 1 + np.arange(256) * args.timesteps // 256
    return float(loss_at(process, model, pictures, steps, noise).item())


def train(model: UNet, ema: EMA, process: Process, args: Any, run: Run) -> None:
    """The loop. The average of the weights is in `ema`."""
    rng, on = generator(args.seed + 1, args.device), partial(to_device, device=args.device)
    optimizer = AdamW(model.parameters(), weight_decay=0.0)
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "ema": ema, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 100, min(100, args.steps // 2), args.steps)
            optimizer.zero_grad()
            with run.share(on(batch(args.batch, SIDE, rng)[0])) as (pictures,):
                loss = run.backward(simple_loss(process, model, pictures, rng=rng), model)
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
            run.log(step=step, batch_loss=loss)
            run.show(loss)
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                with ema.averaged_weights():
                    val_loss = unseen_loss(model, process, args)
                run.log(step=step + 1, val_loss=val_loss)
                run.say(f"step {step + 1:5d}   loss of the averaged weights {val_loss:.4f}")


# -- all of it -------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    process = Process(cosine_schedule(args.timesteps), "v")
    config = UNetConfig(3, 3, args.channels, (1, 2, 2), blocks=1, attention=(False, False, True))
    model = UNet(config, rng=np.random.default_rng(args.seed)).to(args.device)
    ema = EMA(model, args.ema)
    run = Run(args, ["step", "batch_loss", "val_loss"])
    print(f"UNet with {model.num_parameters():,} parameters")
    train(model, ema, process, args, run)
    ema.copy_to(model)
    run.model(model.state_dict())
    model.eval()

    truth, scenes = batch(args.pictures, SIDE, np.random.default_rng(args.seed + 4))
    masks = holes(scenes, SIDE)
    short = process.respace(evenly_spaced(args.timesteps, args.paint_steps))
    whole, mask = np.tile(truth, (len(masks), 1, 1, 1)), np.concatenate(list(masks.values()))
    ways = {
        "as it is": np.where(mask, whole, np.float32(PAPER)),
        "blending": paint(model, short, whole, mask, 1, args, "blending"),
        "RePaint": paint(model, short, whole, mask, args.repeats, args, "RePaint"),
    }
    parts = {name: np.split(pictures, len(masks)) for name, pictures in ways.items()}
    best = share_read_right(truth, scenes)
    val_loss = next(row["val_loss"] for row in reversed(run.rows) if "val_loss" in row)
    nothing = unseen_loss(lambda x, t: np.zeros_like(x), process, args)
    figures = [Figure("squared error of v, unseen pictures", val_loss, less_than(nothing), 0.0, nothing)]
    results: dict[str, Any] = {}
    for i, (missing, known) in enumerate(masks.items()):
        right = {name: share_read_right(part[i], scenes) for name, part in parts.items()}
        error = {name: error_in(~known, part[i], truth) for name, part in parts.items()}
        results[missing] = {"right": right, "error": error}
        for name in ("blending", "RePaint"):
            row = f"{missing} away, {name}"
            expected = EXPECTED.get(missing) if name == "RePaint" else None
            figures.append(Figure(f"{row}: read right", right[name], expected, best, right["as it is"]))
            figures.append(Figure(f"{row}: error", error[name], None, 0.0, error["as it is"]))
    some = [p[i][:8] for i in range(len(masks)) for p in ([truth] * 3, *parts.values())]
    labels = [f"{missing}: {name}" for missing in masks for name in ("truth", *parts)]
    whole = np.concatenate(some)
    save_grid(run.path / "paintings.png", whole, len(some[0]), 4, "Parts away, and painted in", labels)
    curves = {"batch_loss": "one batch", "val_loss": "unseen pictures, averaged weights"}
    run.curve(curves, {}, "Diffusion of colored shapes", "squared error of v")
    about = "read right: shape, color and size are read as they were (by chance 0.02)"
    run.result(figures, "", about, **results, real=best, val_loss=val_loss, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
