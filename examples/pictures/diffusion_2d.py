"""Train a diffusion model on points in the plane. Their best denoiser is known, so measure the distance to
it.

    python examples/pictures/diffusion_2d.py  # a ring of eight; some 15 seconds on 2 cores
    python examples/pictures/diffusion_2d.py --data moons
    python examples/pictures/diffusion_2d.py --waves 0  # coordinates alone: blurred near the data
    python examples/pictures/diffusion_2d.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The loss of a diffusion cannot reach 0, because noise and data cannot be separated completely. For a mixture
of Gaussians the least possible loss is known at every step; the loss above it is the mean squared distance
between the model's prediction and the best one. The samplers also run with the exact score: the errors that
they make then come from too few steps, and no training can remove them.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, numpy_function, size
from shared.plots import save_floor, save_points
from shared.points import exact_denoiser, excess_loss, quality_of, sliced_wasserstein
from shared.run import Run
from shared.table import Figure, at_most

from tinygen.arrays import to_device
from tinygen.data.mixtures import Mixture, lattice, moons, ring
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    ddim,
    dpm_solver,
    evenly_spaced,
    last_state,
    linear_schedule,
    simple_loss,
)
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

DATA: dict[str, Callable[[], Mixture]] = {"ring": ring, "lattice": lattice, "moons": moons}
SIZES = {"quick": {"steps": 300, "batch": 256, "samples": 1000, "timesteps": 100}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--data", choices=DATA, default="ring", help="a mixture of Gaussians")
    add_run_flags(parser, "runs/diffusion_2d", "at every evaluation")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the batches and the samples")
    add("--timesteps", type=size(21), default=200, help="steps of the diffusion")
    add("--width", type=size(1), default=128, help="of the hidden layers")
    add("--waves", type=number(int, 0, 20), default=4, help="frequencies at which coordinates are seen")
    add("--steps", type=number(int, 1), default=4000, help="optimizer steps")
    add("--batch", type=size(1), default=512, help="points per step")
    add("--lr", type=number(float, 0), default=3e-3, help="highest learning rate; it falls to a hundredth")
    add("--ema", type=number(float, 0, 1), default=0.999, help="memory of the average of the weights")
    add("--eval-every", type=number(int, 1), default=1000, help="steps between evaluations")
    add("--samples", type=size(100, 1_000_000), default=5000, help="points to sample and to measure with")
    add("--ddim-steps", type=number(int, 1), default=20, help="steps of the short samplers")
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.ddim_steps > args.timesteps:
        parser.error(f"--ddim-steps {args.ddim_steps} is more than --timesteps {args.timesteps}")
    return args


# -- training --------------------------------------------------------------------------------------


def train(model: Any, ema: EMA, data: Mixture, process: Process, args: Any, run: Run) -> None:
    """The loop. The average of the weights is in `ema`."""
    rng, learned = generator(args.seed + 1, args.device), numpy_function(model, args.device)
    optimizer = AdamW(model.parameters(), weight_decay=0.0)
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "ema": ema, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 100, min(100, args.steps // 2), args.steps)
            x = to_device(data.sample(args.batch, rng).astype(np.float32), args.device)
            optimizer.zero_grad()
            with run.share(x) as (x,):
                loss = run.backward(simple_loss(process, model, x, rng=rng), model)
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            ema.update()
            run.log(step=step, batch_loss=loss)
            run.show(loss)
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                with ema.averaged_weights():
                    above = excess_loss(learned, data, process, 500, args.seed + 2)[0].mean()
                run.log(step=step + 1, excess=above)
                run.say(f"step {step + 1:5d}   loss above the floor {above:.5f}")


# -- all of it -------------------------------------------------------------------------------------


def paths(process: Process, model: Any, x: Any) -> Any:
    """The paths of the points x (n, 2) under DDIM: (steps + 1, n, 2)."""
    return np.array([x, *ddim(process, model, x)])


def main(args: argparse.Namespace) -> None:
    data, process = DATA[args.data](), Process(linear_schedule(args.timesteps))
    run = Run(args, ["step", "batch_loss", "excess"])
    s = process.schedule
    floor = np.array([data.eps_floor(*level) for level in zip(s.alpha[1:], s.sigma[1:], strict=True)])
    model = Denoiser(2, args.width, waves=args.waves, rng=np.random.default_rng(args.seed)).to(args.device)
    ema = EMA(model, args.ema)
    print(f"{args.data}: least possible loss {floor.mean():.4f}; {model.num_parameters():,} parameters")
    train(model, ema, data, process, args, run)
    ema.copy_to(model)
    run.model(model.state_dict())
    learned = numpy_function(model, args.device)

    above, error, sampled = excess_loss(learned, data, process, args.samples, args.seed + 3)
    least, percent = floor.mean(), 100 * above.mean() / floor.mean()
    rng = np.random.default_rng(args.seed + 4)
    truth, *others = (data.sample(args.samples, rng) for _ in range(11))
    noise = rng.standard_normal((args.samples, 2))
    short = process.respace(evenly_spaced(args.timesteps, args.ddim_steps))
    ddpm = lambda m: ancestral_sampling(process, m, noise, rng=args.seed + 5, variance="large")
    best, worst = quality_of(others[0], truth, data), quality_of(noise, truth, data)
    best["distance"] = float(np.mean([sliced_wasserstein(a, b) for a, b in pairwise(others)]))
    points, quality, exact = {"truth": truth}, {}, exact_denoiser(data, process)
    samplers: dict[str, Any] = {
        f"DDPM, {args.timesteps} steps": ddpm,
        f"DDIM, {args.ddim_steps} steps": lambda m: ddim(short, m, noise),
        f"DPM-Solver++, {args.ddim_steps} steps": lambda m: dpm_solver(short, m, noise),
    }
    for name, sampler in samplers.items():
        points[name] = last_state(sampler(learned))
        quality[name] = quality_of(points[name], truth, data)
        quality[f"{name}, exact score"] = quality_of(last_state(sampler(exact)), truth, data)
    loss = least + above.mean()
    figures = [Figure("loss, mean over the steps", loss, at_most(1.03 * least), least, 1.0)]
    figures.append(Figure("loss above the floor, %", percent, at_most(3), 0.0, 100 * (1 / least - 1)))
    for n in best:
        figures += [Figure(f"{n}: {k}", q[n], None, best[n], worst[n]) for k, q in quality.items()]
    run.curve({"batch_loss": "one batch"}, {"floor": least}, f"Diffusion of the {args.data}", "loss")
    save_floor(run.path / "floor.png", floor, above)
    save_points(run.path / "samples.png", points, paths(short, learned, noise[:80]))
    run.result(
        figures,
        loss=loss,
        floor=least,
        excess_percent=percent,
        excess_percent_error=100 * np.sqrt(np.sum(error**2)) / len(error) / least,
        sampled_loss=sampled.mean(),
        at_each_step={"floor": floor.tolist(), "loss": (floor + above).tolist()},
        quality={**quality, "data": best, "noise": worst},
        steps=run.steps,
    )


if __name__ == "__main__":
    start(parse_args, main)
