"""Train a diffusion model to draw digits of a given class, and let a classifier of real digits judge them.

    python examples/pictures/ddpm_digits.py  # scikit-learn's digits, 8 × 8
    python examples/pictures/ddpm_digits.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A UNet learns to predict the noise in a noisy digit (DDPM: Ho, Jain & Abbeel 2020, arXiv:2006.11239). In nine
of ten cases it also gets the class. So it has a prediction with the class and one without, and
classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) extrapolates from the second beyond the first.
The sweep over scales shows the gain (more digits are read right) and the price (the digits look alike).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, numpy_function, size
from shared.judged_digits import JudgedDigits
from shared.measures import LEVELS, distance_to_nearest, pixelwise_bits
from shared.pictures import save_film, save_grid
from shared.plots import save_two_scales
from shared.run import Run
from shared.table import Figure, at_least, at_most
from tqdm import tqdm

from tinygen import diffusion
from tinygen.arrays import to_device
from tinygen.data import digits
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

NO_CLASS = digits.CLASSES
QUICK = {"steps": 60, "batch": 32, "channels": 16, "timesteps": 20, "sampler_steps": 4, "judged": 100}
SIZES = {"quick": QUICK, "full": FULL}
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/ddpm_digits", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the samples")
    add("--channels", type=size(4), default=32, help="of the UNet's upper level; the lower has twice")
    add("--timesteps", type=size(2), default=250, help="steps of the diffusion, on a cosine schedule")
    add("--drop", type=number(float, 0, 1), default=0.1, help="how often the class is withheld in training")
    add("--batch", type=size(1), default=64, help="pictures per step")
    add("--steps", type=number(int, 1), default=2400, help="optimizer steps")
    add("--lr", type=number(float, 0), default=1e-3, help="highest learning rate")
    add("--ema", type=number(float, 0, 1), default=0.999, help="decay of the average of the weights")
    add("--judged", type=size(100, 500), default=500, help="test digits to compare with as many drawings")
    add("--sampler-steps", type=number(int, 1), default=50, help="steps of DDIM in the sweep")
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    if args.channels % 2:
        args.error(f"--channels {args.channels} is odd: half of a step's numbers are cosines, half sines")
    return args


def train_model(model: UNet, ema: EMA, process: diffusion.Process, data: Any, args: Any, run: Run) -> None:
    """The loop. The average of the weights is in `ema`."""
    rng, pictures = generator(args.seed + 1, args.device), to_device(data.pictures, args.device)
    optimizer = AdamW(model.parameters())
    with run:
        for step in run.loop({"model": model, "ema": ema, "optimizer": optimizer, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 10, min(100, args.steps // 2), args.steps)
            these = rng.integers(len(pictures), size=args.batch)
            withheld = rng.random(args.batch) < args.drop
            labels = np.where(withheld, NO_CLASS, data.labels[these])
            optimizer.zero_grad()
            with run.share(pictures[these], labels) as (x, y):
                predict = partial(model, labels=y)
                loss = run.backward(diffusion.simple_loss(process, predict, x, rng=rng), model)
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
            run.log(step=step, loss=loss)
            run.show(loss)


class Drawn(NamedTuple):
    """Pictures drawn for the digits `labels`, and the judge's measurements of them."""

    pictures: Any
    accuracy: float
    distance: float  # Fréchet, to the test pictures
    nearest: float  # to a training picture


def denoising_frames(process: diffusion.Process, model: Any, x: Any, rng: np.random.Generator) -> list[Any]:
    """Some thirty pictures of x (B, 1, 8, 8) on the way from noise to a digit, by ancestral sampling."""
    every, steps = max(1, len(process.schedule) // 30), range(len(process.schedule) - 1, -1, -1)
    states = diffusion.ancestral_sampling(process, model, x, rng=rng, clip=1.0)  # x_{T-1}, ..., x_0
    return [x, *(state for t, state in zip(steps, states, strict=True) if t % every == 0)]


def main(args: argparse.Namespace) -> None:
    train, test = digits.load()
    test = test._replace(pictures=test.pictures[: args.judged], labels=test.labels[: args.judged])
    run = Run(args, ["step", "loss"])
    judged = JudgedDigits(train, test)
    config = UNetConfig(1, 1, args.channels, (1, 2), blocks=1, classes=digits.CLASSES)
    model = UNet(config, rng=np.random.default_rng(args.seed)).to(args.device)
    ema = EMA(model, args.ema)
    process = diffusion.Process(diffusion.cosine_schedule(args.timesteps))
    print(f"UNet with {model.num_parameters():,} parameters")
    train_model(model, ema, process, train, args, run)
    ema.copy_to(model)
    run.model(model.state_dict())
    model.eval()
    learned = numpy_function(model, args.device)

    rng = np.random.default_rng(args.seed + 4)
    noise = rng.standard_normal(test.pictures.shape, dtype=np.float32)
    quick = process.respace(diffusion.evenly_spaced(args.timesteps, min(args.sampler_steps, args.timesteps)))

    def draw(scale: float) -> Drawn:
        """Pictures of each class, as many as the test set has, from the same noise for all guidance
        scales."""
        guided = diffusion.classifier_free_guidance(learned, (test.labels,), (np.array(NO_CLASS),), scale)
        pictures = diffusion.last_state(diffusion.ddim(quick, guided, noise, clip=1.0))
        seen, nearest = judged.judge.opinion(pictures), distance_to_nearest(pictures, train.pictures)
        return Drawn(pictures, seen.accuracy(test.labels), judged.distance(seen), nearest)

    sweep = {}
    for scale in tqdm(SCALES, unit="scale", desc="guidance", dynamic_ncols=True):
        sweep[scale] = draw(scale)
    best = min((scale for scale in SCALES if scale), key=lambda scale: sweep[scale].distance)
    print(f"ten of each digit with guidance {best:g}, by all {args.timesteps} steps")
    labels = np.repeat(np.arange(digits.CLASSES), 10)
    one_of_each = diffusion.classifier_free_guidance(learned, (labels,), (np.array(NO_CLASS),), best)
    frames = denoising_frames(process, one_of_each, noise[: len(labels)], rng)
    print(f"the bound of ln p of {len(test.pictures)} test digits, {args.timesteps} steps for each")
    told = diffusion.classifier_free_guidance(learned, (test.labels,), (np.array(NO_CLASS),), 1)
    bits = diffusion.bits_per_dim(process, told, test.pictures, rng=rng, levels=LEVELS, clip=1.0).total
    blind = pixelwise_bits(train.pictures, test.pictures)

    run.curve({"loss": "a batch"}, {"all noise is 0": 1.0}, "DDPM on digits", "squared error of the noise")
    accuracies = [100 * drawn.accuracy for drawn in sweep.values()]
    distances = [drawn.distance for drawn in sweep.values()]
    words = {"title": "What guidance buys, and what it costs", "xlabel": "guidance scale"}
    words |= {"left_label": "read as the digit, %", "right_label": "Fréchet distance (dashed: real)"}
    save_two_scales(run.path / "guidance.png", SCALES, accuracies, distances, judged.floor, **words)
    classes = [str(label) for label in range(digits.CLASSES)]
    title = f"Digits drawn with guidance {best:g}, a class a row"
    save_grid(run.path / "digits.png", frames[-1], 10, title=title, row_labels=classes)
    some = test.pictures[np.argsort(test.labels, kind="stable")][::5]
    save_grid(run.path / "real.png", some, 10, title="Real digits of the test set, in order of their class")
    save_film(run.path / "denoising.gif", frames, 10)

    copies = distance_to_nearest(test.pictures, train.pictures)
    rows = [
        judged.distance_figure("best guidance: ", sweep[best].distance, at_most(3 * judged.floor)),
        judged.read_figure("best guidance: read as the digit", sweep[best].accuracy, at_least(0.95)),
        Figure("best guidance: its scale", best),
    ]
    for scale, drawn in sweep.items():
        rows.append(judged.distance_figure(f"guidance {scale:g}: ", drawn.distance))
        rows.append(judged.read_figure(f"guidance {scale:g}: read as the digit", drawn.accuracy))
    rows.append(judged.spread_figure())
    rows.append(Figure("bits a pixel of test digits", bits, baseline=blind))
    rows.append(Figure("distance to the nearest training digit", sweep[best].nearest, None, copies))
    run.result(
        rows,
        sweep={str(scale): drawn._replace(pictures=None)._asdict() for scale, drawn in sweep.items()},
        best_scale=best,
        judge_accuracy=judged.read_right,
        frechet_floor=judged.floor,
        frechet_ceiling=judged.ceiling,
        bits_per_pixel=bits,
        bits_per_pixel_blind=blind,
        steps=run.steps,
    )


if __name__ == "__main__":
    start(parse_args, main)
