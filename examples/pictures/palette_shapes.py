"""Train one conditional diffusion for four tasks on colored shapes (Palette): from grey to color, beyond an
edge, into a hole, and from small to large.

    python examples/pictures/palette_shapes.py  # some ten minutes on 2 cores
    python examples/pictures/palette_shapes.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A label tells the model the task, and the color where it is named. Without a name the grey picture leaves
several colors open, and how likely each one is follows from how the shapes are drawn: the exact posterior.
A good model draws each color as often as that. In a second palette, with a label of its own, all colors have
the same luminance, and the grey picture says nothing.

Where a part is missing, the rest determines it: shapes are symmetric and have one color. Beside the model
stand fills that know nothing, and two methods that need no masks in training, with the same network: it also
learns to draw pictures without any condition. Four pairs of shape and color are never seen in training.
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
from shared.edits import LABELS, TASKS, Edits, make
from shared.flags import FULL, Flags, add_run_flags, generator, number, numpy_function, size
from shared.judged_edits import PALETTES, SPLIT_TITLES, compare, judge, judge_colors, save_edits
from shared.run import Run
from shared.table import Figure, less_than

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.diffusion import Process, cosine_schedule, ddim, evenly_spaced, last_state
from tinygen.diffusion.inpaint import inpaint
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

SHARES = np.array([2, 3, 3, 3, 2, 2, 2]) / 17  # of TASKS, in training
QUICK = {"steps": 20, "channels": 8, "batch": 16, "pictures": 4, "greys": 2, "draws": 4, "compared": 2}
QUICK |= {"sample_steps": 3, "repeats": 2}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/palette_shapes", "at every evaluation")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the batches and the drawings")
    add("--channels", type=size(8), default=24, help="of the UNet at full resolution, a multiple of 8")
    add("--timesteps", type=size(1), default=200, help="steps of the diffusion")
    add("--steps", type=number(int, 1), default=1400, help="optimizer steps")
    add("--batch", type=size(1), default=64, help="pictures per step, new ones every time")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate; it falls to a hundredth")
    add("--ema", type=number(float, 0, 1), default=0.995, help="memory of the average of the weights")
    add("--eval-every", type=number(int, 1), default=200, help="steps between evaluations")
    add("--pictures", type=size(1), default=512, help="drawings that are judged, for each task and split")
    add("--greys", type=size(1), default=24, help="grey pictures whose colors are counted")
    add("--draws", type=size(1), default=96, help="drawings of each of them")
    add("--compared", type=size(1), default=128, help="pictures that the other methods complete")
    add("--sample-steps", type=number(int, 1), default=16, help="steps in which a picture is drawn")
    add("--repeats", type=number(int, 1), default=5, help="how often RePaint makes each step")
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.sample_steps > args.timesteps:
        parser.error(f"--sample-steps {args.sample_steps} is more than --timesteps {args.timesteps}")
    if args.channels % 8:
        parser.error(f"--channels {args.channels} is not a multiple of 8")
    return args


# -- training --------------------------------------------------------------------------------------


@no_grad()
def unseen_loss(model: Palette, args: Any) -> tuple[float, float]:
    """The loss on 256 fixed pictures that are not used in training, at steps t spread over 1 ... T; the loss
    of predicting 0."""
    rng, on = np.random.default_rng(args.seed + 2), partial(to_device, device=args.device)
    made, *_ = make([TASKS[i % len(TASKS)] for i in range(256)], "train", rng)
    noise = rng.standard_normal(made.pictures.shape, np.float32)
    steps = 1 + np.arange(256) * args.timesteps // 256
    target = np.square(model.process.target(made.pictures, noise, steps))
    nothing = np.mean([v[:, hole[0]].mean() for v, hole in zip(target, made.mask, strict=True)])
    x, condition, mask, labels = made
    loss = model.loss_at(on(x), on(condition), mask, labels, steps, on(noise))
    return float(loss.item()), float(nothing)


def train(model: Palette, ema: EMA, args: Any, run: Run) -> None:
    """The loop. The average of the weights is in `ema`."""
    rng, on = generator(args.seed + 1, args.device), partial(to_device, device=args.device)
    optimizer = AdamW(model.parameters(), weight_decay=0.0)
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "ema": ema, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 100, min(100, args.steps // 2), args.steps)
            optimizer.zero_grad()
            made, *_ = make(rng.choice(TASKS, args.batch, p=SHARES), "train", rng)
            with run.share(*made) as (x, condition, *rest):
                loss = run.backward(model.loss(on(x), on(condition), *rest, rng=rng), model)
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
            run.log(step=step, batch_loss=loss)
            run.show(loss)
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                with ema.averaged_weights():
                    val_loss, _ = unseen_loss(model, args)
                run.log(step=step + 1, val_loss=val_loss)
                run.say(f"step {step + 1:5d}   loss of the averaged weights {val_loss:.4f}")


# -- what it draws ---------------------------------------------------------------------------------


def paint(model: Palette, edited: Edits, args: Any) -> Any:
    """The model's drawings, as NumPy's arrays."""
    options = {"rng": args.seed + 3, "steps": args.sample_steps, "sampler": partial(ddim, clip=1.0)}
    return to_device(model.sample(edited.condition, edited.mask, edited.labels, **options), "cpu")


def paint_without_mask(model: Palette, edited: Edits, repeats: int, args: Any) -> Any:
    """The same by `inpaint`: the network draws whole pictures, and the known part is put in at every step."""
    x = np.random.default_rng(args.seed + 4).standard_normal(edited.pictures.shape, np.float32)
    everywhere, label = np.ones_like(edited.mask), np.full(len(x), LABELS["draw"])
    network = numpy_function(model, args.device)
    blind = (to_device(np.zeros_like(x), args.device), everywhere, label)
    short = model.process.respace(evenly_spaced(args.timesteps, args.sample_steps))
    options = {"rng": args.seed + 5, "repeats": repeats, "jump": 5, "clip": 1.0}
    return last_state(
        inpaint(short, lambda x, t: network(x, t, *blind), x, edited.condition, ~edited.mask, **options)
    )


# -- all of it -------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    process = Process(cosine_schedule(args.timesteps), "v")
    config = UNetConfig(7, 3, args.channels, (1, 2, 2), 1, (False, False, True), classes=LABELS["draw"])
    model = Palette(UNet(config, rng=np.random.default_rng(args.seed)), process).to(args.device)
    ema = EMA(model, args.ema)
    run = Run(args, ["step", "batch_loss", "val_loss"])
    print(f"UNet with {model.num_parameters():,} parameters")
    train(model, ema, args, run)
    ema.copy_to(model)
    run.model(model.state_dict())
    model.eval()

    val_loss, nothing = unseen_loss(model, args)
    found: dict[str, Any] = {}
    figures = [Figure("squared error of v, unseen pictures", val_loss, less_than(nothing), 0.0, nothing)]
    draw = partial(paint, model, args=args)
    others = {f"RePaint, {args.repeats} times": args.repeats, "blending": 1}
    ways = {name: partial(paint_without_mask, model, repeats=n, args=args) for name, n in others.items()}
    figures += judge(draw, args.pictures, args.seed + 6, found)
    figures += judge_colors(draw, args.greys, args.draws, args.seed + 8, found)
    figures += compare({"Palette": draw} | ways, args.compared, args.seed + 7)
    for name, title in SPLIT_TITLES.items():
        save_edits(run.path / f"{name}.png", {k: v for k, v in found.items() if k.startswith(title)})
    save_edits(run.path / "colors.png", {task: found[task] for task in PALETTES})
    curves = {"batch_loss": "one batch", "val_loss": "unseen pictures, averaged weights"}
    run.curve(curves, {}, "Conditional diffusion of colored shapes", "squared error of v")
    run.result(figures, "", "", val_loss=val_loss, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
