"""Train a diffusion model to write digits on demand, and ask a judge who has learned from real ones.

    python examples/pictures/ddpm_digits.py  # scikit-learn's digits, 8 × 8
    python examples/pictures/ddpm_digits.py --resume  # goes on after Ctrl-C or a kill, to the same bits

A UNet learns what the noise in a noisy digit is (DDPM: Ho, Jain & Abbeel 2020, arXiv:2006.11239), being told
which digit it is nine times in ten. So it can draw with and without a class in mind, and classifier-free
guidance (Ho & Salimans 2022, arXiv:2207.12598) goes from the second through the first and beyond. The sweep
shows what that buys, digits that are read right more often, and what it costs, digits that are all alike.
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
from shared.flags import Flags, add_run_flags, generator, number, numpy_function, size
from shared.pictures import Figure, save_film, save_grid, table
from shared.run import Run
from tqdm import tqdm

from tinygen.data import digits
from tinygen.diffusion import (
    Process,
    ancestral,
    bits_per_dim,
    classifier_free_guidance,
    cosine,
    ddim,
    evenly_spaced,
    last_state,
    simple_loss,
)
from tinygen.judges.digits import bounds, train_judge
from tinygen.judges.frechet import frechet
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine
from tinygen.tensor import to_device

NO_CLASS = digits.CLASSES
LEVELS = digits.INK + 1  # a pixel has one of 17 values
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
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
    add("--judge-steps", type=number(int, 21), default=2000, help="optimizer steps of the judge")
    add("--sampler-steps", type=number(int, 1), default=50, help="steps of DDIM in the sweep")
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    if args.channels % 2:
        args.error(
            f"--channels {args.channels} is odd: of the numbers for a step, half are cosines, half sines"
        )
    return args


def train_model(model: UNet, ema: EMA, process: Process, data: Any, args: Any, run: Run) -> None:
    """The loop. The average of the weights is in `ema`."""
    rng, pictures = generator(args.seed + 1, args.device), to_device(data.pictures, args.device)
    optimizer = AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    with run:
        for step in run.loop({"model": model, "ema": ema, "optimizer": optimizer, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 10, min(100, args.steps // 2), args.steps)
            these = rng.integers(len(pictures), size=args.batch)
            withheld = rng.random(args.batch) < args.drop
            labels = np.where(withheld, NO_CLASS, data.labels[these])
            loss = simple_loss(process, partial(model, labels=labels), pictures[these], rng=rng)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
            run.log(step=step, loss=loss.item())
            run.show(loss.item())


class Drawn(NamedTuple):
    """Pictures that were to be the digits `labels`, and what the judge makes of them."""

    pictures: Any
    accuracy: float
    distance: float  # Fréchet, to the test pictures
    nearest: float  # to a training picture


def nearest(pictures: Any, others: Any) -> float:
    """The median distance of pictures (N, ...) to the nearest of `others` (M, ...): 0 for copies."""
    x, y = (np.asarray(p, np.float64).reshape(len(p), -1) for p in (pictures, others))
    squared = np.square(x).sum(1)[:, None] - 2 * x @ y.T + np.square(y).sum(1)  # (N, M)
    return float(np.median(np.sqrt(np.maximum(squared.min(axis=1), 0))))


def pixelwise_bits(train: Any, test: Any) -> float:
    """Bits a pixel of a model that knows how often each pixel has each level, and nothing else."""
    x, y = (np.rint((p.reshape(len(p), -1) + 1) * (LEVELS - 1) / 2).astype(int) for p in (train, test))
    counts = np.ones((x.shape[1], LEVELS))  # each level once before anything was seen
    np.add.at(counts, (np.arange(x.shape[1]), x), 1)
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log2(p[np.arange(x.shape[1]), y]).mean())


def films(process: Process, model: Any, x: Any, rng: np.random.Generator) -> list[Any]:
    """x (B, 1, 8, 8) on its way from noise to a digit, by ancestral sampling: some thirty pictures of it."""
    every, steps = max(1, len(process.schedule) // 30), range(len(process.schedule) - 1, -1, -1)
    states = ancestral(process, model, x, rng=rng, clip=1.0)  # x_{T-1}, ..., x_0
    return [x, *(state for t, state in zip(steps, states, strict=True) if t % every == 0)]


def sweep_plot(path: Any, sweep: dict[float, Drawn], floor: float) -> None:
    """guidance.png: what each scale of guidance gives."""
    import matplotlib.pyplot as plt

    figure, left = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    left.plot(list(sweep), [100 * drawn.accuracy for drawn in sweep.values()], "o-", color="C0")
    left.set(xlabel="guidance scale", title="What guidance buys, and what it costs")
    left.set_ylabel("read as what they were to be, %", color="C0")
    right = left.twinx()
    right.plot(list(sweep), [drawn.distance for drawn in sweep.values()], "s-", color="C1")
    right.axhline(floor, color="0.45", lw=0.8, ls="--")
    right.set_ylabel("Fréchet distance (dashed: of real digits)", color="C1")
    right.set_ylim(bottom=0)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(args: argparse.Namespace) -> None:
    config = UNetConfig(1, 1, args.channels, (1, 2), blocks=1, classes=digits.CLASSES)
    model = UNet(config, rng=np.random.default_rng(args.seed)).to(args.device)
    train, test = digits.load()
    run = Run(args, ["step", "loss"])
    print(f"a judge learns from real digits, {args.judge_steps} steps")
    judge = train_judge(train.pictures, train.labels, args.judge_steps, rng=args.seed + 2)
    real = judge.look(test.pictures)
    known = real.accuracy(test.labels)
    floor, ceiling = bounds(judge, train.pictures, test.pictures, rng=args.seed + 3)
    print(
        f"the judge knows {known:.1%} of the test digits; Fréchet distance of real digits {floor:.1f}, "
        f"of noise {ceiling:.0f}"
    )

    ema = EMA(model, args.ema)
    process = Process(cosine(args.timesteps))
    print(f"UNet with {model.num_parameters():,} parameters")
    train_model(model, ema, process, train, args, run)
    ema.copy_to(model)
    run.model(model.state_dict())
    model.eval()
    learned = numpy_function(model, args.device)

    rng = np.random.default_rng(args.seed + 4)
    noise = rng.standard_normal(test.pictures.shape, dtype=np.float32)
    quick = process.respace(evenly_spaced(args.timesteps, min(args.sampler_steps, args.timesteps)))

    def draw(scale: float) -> Drawn:
        """As many pictures of each class as the test has, from the same noise for all scales."""
        guided = classifier_free_guidance(learned, (test.labels,), (np.array(NO_CLASS),), scale)
        pictures = last_state(ddim(quick, guided, noise, clip=1.0))
        seen = judge.look(pictures)
        return Drawn(
            pictures,
            seen.accuracy(test.labels),
            frechet(seen.features, real.features),
            nearest(pictures, train.pictures),
        )

    sweep = {}
    for scale in tqdm(SCALES, unit="scale", desc="guidance", dynamic_ncols=True):
        sweep[scale] = draw(scale)
    best = min((scale for scale in SCALES if scale), key=lambda scale: sweep[scale].distance)
    print(f"ten of each digit with guidance {best:g}, by all {args.timesteps} steps")
    labels = np.repeat(np.arange(digits.CLASSES), 10)
    one_of_each = classifier_free_guidance(learned, (labels,), (np.array(NO_CLASS),), best)
    frames = films(process, one_of_each, noise[: len(labels)], rng)
    print(f"the bound of ln p of {len(test.pictures)} test digits, {args.timesteps} steps for each")
    told = classifier_free_guidance(learned, (test.labels,), (np.array(NO_CLASS),), 1)
    bits = bits_per_dim(process, told, test.pictures, rng=rng, levels=LEVELS, clip=1.0).total
    blind = pixelwise_bits(train.pictures, test.pictures)

    run.curve(
        {"loss": "a batch"}, {"all noise is 0": 1.0}, "DDPM on digits", "mean squared error of the noise"
    )
    sweep_plot(run.path / "guidance.png", sweep, floor)
    save_grid(run.path / "digits.png", frames[-1], 10)
    save_grid(run.path / "real.png", test.pictures[np.argsort(test.labels, kind="stable")][::5], 10)
    save_film(run.path / "denoising.gif", frames, 10)

    copies = nearest(test.pictures, train.pictures)
    rows = [
        row
        for scale, drawn in sweep.items()
        for row in (
            Figure(
                f"guidance {scale:g}: read as the digit",
                drawn.accuracy,
                "≥ 0.95" * (scale == best),
                known,
                0.1,
            ),
            Figure(
                f"guidance {scale:g}: Fréchet distance",
                drawn.distance,
                "≤ 3 × best" * (scale == best),
                floor,
                ceiling,
            ),
        )
    ]
    rows.append(Figure("bits a pixel of test digits", bits, "", None, blind))
    rows.append(Figure("distance to the nearest training digit", sweep[best].nearest, "", copies, 0.0))
    run.result(
        table(rows),
        sweep={str(scale): drawn._replace(pictures=None)._asdict() for scale, drawn in sweep.items()},
        best_scale=best,
        judge_accuracy=known,
        frechet_floor=floor,
        frechet_ceiling=ceiling,
        bits_per_pixel=bits,
        bits_per_pixel_blind=blind,
        nearest_test=copies,
        steps=run.steps,
    )


if __name__ == "__main__":
    start(parse_args, main)
