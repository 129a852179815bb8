"""Learn the density of points in the plane by RealNVP, flow matching and score matching, beside the exact
density; and beside a diffusion.

    python examples/pictures/flows_2d.py  # a ring of eight; some two and a half minutes of one core
    python examples/pictures/flows_2d.py --data moons
    python examples/pictures/flows_2d.py --slope 1  # RealNVP with an ordinary start: it learns much slower
    python examples/pictures/flows_2d.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The data is a mixture of Gaussians, so its entropy is known, and its score at every level of noise. RealNVP
and flow matching give each point a density q: the mean of ln p - ln q over new points is what they lack, in
nats. Score matching gives the score, whose error is known at each level. Flow matching and the diffusion have
networks of one size and see the same points in equally many steps of training; their samplers are compared at
equally many calls of the network.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, numpy_function, size
from shared.plots import log_density_map, save_maps
from shared.points import nats_above, quality_of, score_errors
from shared.run import Run
from shared.table import Figure, at_most

from tinygen import diffusion, nn, no_grad
from tinygen.arrays import to_device
from tinygen.data.mixtures import Mixture, moons, ring
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine

DATA: dict[str, Callable[[], Mixture]] = {"ring": ring, "moons": moons}
MOST_NATS = {"ring": (at_most(0.15), at_most(0.05)), "moons": (at_most(0.05), None)}  # RealNVP, the flow
LEVELS = diffusion.noise_levels(3.0, 0.05, 12)
LANGEVIN = 40  # steps at each level
CALLS = (10, 20, 50)  # of the network, by a sampler
NVP, FLOW, DDIM = "RealNVP, 1 call", "flow by midpoints, 20 calls", "DDIM, 20 calls"
WALK = f"Langevin, {LANGEVIN * len(LEVELS)} calls"
SHOWN = (NVP, FLOW, DDIM, WALK)
QUICK = {"steps": 300, "couplings": 8, "batch": 128, "width": 64, "samples": 500, "solver_steps": 20}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--data", choices=DATA, default="ring", help="a mixture of Gaussians")
    add_run_flags(parser, "runs/flows_2d", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the samples")
    add("--couplings", type=size(2), default=16, help="of RealNVP")
    add("--channels", type=size(1), default=64, help="width of the hidden layers of RealNVP")
    add("--slope", type=number(float, 0), default=40.0, help="factor of their first weights at the start")
    add("--width", type=size(1), default=128, help="of the hidden layers of the other networks")
    add("--steps", type=number(int, 2), default=6000, help="optimizer steps")
    add("--batch", type=size(1), default=256, help="points per step; RealNVP gets four times as many")
    add("--lr", type=number(float, 0), default=2e-3, help="highest rate of RealNVP; it falls to a hundredth")
    add("--lr-others", type=number(float, 0), default=1e-2, help="highest rate of the other networks")
    add("--ema", type=number(float, 0, 1), default=0.999, help="memory of the average of the weights")
    add("--samples", type=size(100, 100_000), default=5000, help="points to sample and to measure with")
    add("--solver-steps", type=number(int, 2), default=60, help="midpoint steps for the density of the flow")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


# -- the networks --------------------------------------------------------------------------------------


def build(args: argparse.Namespace) -> dict[str, Any]:
    """The four networks by name. What a coupling of RealNVP computes from one coordinate must change within
    0.1, the standard deviation of a cluster. A perceptron learns smooth functions first (Rahaman et al. 2019,
    "spectral bias", arXiv:1806.08734). With larger weights in the first layer it has steep functions from the
    start."""
    rng = np.random.default_rng(args.seed)
    nvp = RealNVP(2, args.channels, couplings=args.couplings, rng=rng)
    for coupling in nvp.couplings:
        for parameter in coupling.hidden[0].parameters():
            parameter.replace(args.slope * parameter.data)
    others = {name: Denoiser(2, args.width, rng=rng) for name in ("flow", "score", "diffusion")}
    return {name: model.to(args.device) for name, model in ({"RealNVP": nvp} | others).items()}


def velocity_of(net: Any) -> Callable[[Any, Any], Any]:
    """Flow matching: times t in [0, 1], which the network sees as 1000 t."""
    return lambda x, t: net(x, 1000 * t)


def score_of(net: Any) -> Callable[[Any, Any], Any]:
    """Score matching: the network predicts -σ times the score, from points that are scaled to variance 1."""
    return lambda x, sigma: -net(x / np.sqrt(1 + sigma[:, None] ** 2), 250 * np.log(sigma)) / sigma[:, None]


# -- training ------------------------------------------------------------------------------------------


def train(models: Any, ema: EMA, data: Mixture, process: diffusion.Process, args: Any, run: Run) -> None:
    """The loop. One optimizer for all is the same as one for each: Adam treats each weight alone. The average
    of the weights is in `ema`."""
    rng = generator(args.seed + 1, args.device)
    groups = [{"params": model.parameters()} for model in models.values()]
    optimizer, highest = AdamW(groups, weight_decay=0.0), [args.lr, *[args.lr_others] * 3]
    flow, score = velocity_of(models["flow"]), score_of(models["score"])
    with run:
        for step in run.loop({**models, "optimizer": optimizer, "ema": ema, "batches": rng}):
            rate = warmup_cosine(step, 1.0, 0.01, min(100, args.steps // 2), args.steps)
            for group, high in zip(optimizer.groups, highest, strict=True):
                group["lr"] = rate * high
            x = to_device(data.sample(4 * args.batch, rng).astype(np.float32), args.device)
            few = x[: args.batch]
            losses = {
                "RealNVP": models["RealNVP"].loss(x),
                "flow": diffusion.flow_matching_loss(flow, few, rng=rng),
                "score": diffusion.score_matching_loss(score, few, LEVELS, rng=rng),
                "diffusion": diffusion.simple_loss(process, models["diffusion"], few, rng=rng),
            }
            optimizer.zero_grad()
            for name, loss in losses.items():
                loss.backward()
                clip_grad_norm(models[name].parameters(), 1.0)
            optimizer.step()
            ema.update()
            row = {name: loss.item() for name, loss in losses.items()}
            run.log(step=step, **row)
            run.show(sum(row.values()))


# -- the measurements ----------------------------------------------------------------------------------


@no_grad()
def draw(models: dict[str, Any], process: diffusion.Process, args: Any) -> dict[str, Any]:
    """Points (n, 2) by each model and sampler, all from the same noise."""
    rng, last = np.random.default_rng(args.seed + 3), diffusion.last_state
    noise = rng.standard_normal((args.samples, 2), dtype=np.float32)
    net = {name: numpy_function(model, args.device) for name, model in models.items()}
    flow, eps, score = velocity_of(net["flow"]), net["diffusion"], score_of(net["score"])
    points = {NVP: models["RealNVP"].inverse(to_device(noise, args.device)).numpy()}
    for calls in CALLS:
        short = process.respace(diffusion.evenly_spaced(len(process.schedule), calls))
        ancestral = diffusion.ancestral_sampling(short, eps, noise, rng=rng, variance="large")
        points[f"DDPM, {calls} calls"] = last(ancestral)
        points[f"DDIM, {calls} calls"] = last(diffusion.ddim(short, eps, noise))
        points[f"flow by Euler, {calls} calls"] = last(diffusion.euler(flow, noise, calls))
        points[f"flow by midpoints, {calls} calls"] = last(diffusion.midpoint(flow, noise, calls // 2))
    begin = np.float32(LEVELS[0]) * noise
    points[WALK] = last(diffusion.annealed_langevin(score, begin, LEVELS, LANGEVIN, 5e-4, rng=rng))
    return points


# -- all of it -----------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    data, process = DATA[args.data](), diffusion.Process(diffusion.linear_schedule(200))
    run, models = Run(args, ["step", "RealNVP", "flow", "score", "diffusion"]), build(args)
    together = nn.ModuleList(models.values())
    ema = EMA(together, args.ema)
    print(f"{args.data}: parameters", {name: model.num_parameters() for name, model in models.items()})
    train(models, ema, data, process, args, run)
    ema.copy_to(together)
    run.model(together.state_dict())

    rng = np.random.default_rng(args.seed + 2)
    x = data.sample(20_000, rng).astype(np.float32)
    log_q = no_grad()(numpy_function(models["RealNVP"].log_prob, args.device))
    normal = -0.5 * np.sum(x**2, axis=1) - np.log(2 * np.pi)
    lacking, of_normal = nats_above(data, x, log_q(x)), nats_above(data, x, normal)
    some = x[: args.samples // 2]
    there, velocity = to_device(some, args.device), velocity_of(models["flow"])
    fine, coarse = (
        nats_above(data, some, to_device(diffusion.flow_log_prob(velocity, there, steps), "cpu"))
        for steps in (args.solver_steps, args.solver_steps // 2)
    )
    score = score_of(numpy_function(models["score"], args.device))
    errors, of_zero = score_errors(score, data, LEVELS, args.samples, rng)
    truth, other = (data.sample(args.samples, rng) for _ in range(2))
    points = draw(models, process, args)
    quality = {name: quality_of(drawn, truth, data) for name, drawn in points.items()}
    best, noise = (quality_of(x, truth, data) for x in (other, rng.standard_normal(truth.shape)))

    figures = [
        Figure("RealNVP: nats above the entropy", lacking, MOST_NATS[args.data][0], 0.0, of_normal),
        Figure("flow matching: nats above the entropy", fine, MOST_NATS[args.data][1], 0.0, of_normal),
        Figure("the same by half the solver's steps", coarse, None, 0.0, of_normal),
    ]
    for sigma, error, zero in zip(LEVELS, errors, of_zero, strict=True):
        figures.append(Figure(f"score at σ = {sigma:.3g}: error", error, None, 0.0, zero))
    expected = {f"distance: {FLOW}": at_most(quality[DDIM]["distance"])}
    for key, names in {"distance": [*quality], "near a mean": SHOWN}.items():
        for name in names:
            row = f"{key}: {name}"
            figures.append(Figure(row, quality[name][key], expected.get(row), best[key], noise[key]))
    run.curve({"RealNVP": args.data}, {"entropy": -data.log_density(x).mean()}, "RealNVP", "nats")
    drawn = {"data": truth, **{name: points[name] for name in SHOWN}}
    save_maps(run.path / "points.png", drawn, {"RealNVP: ln q": log_density_map(log_q)})
    run.result(figures, quality={**quality, "data": best, "noise": noise}, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
