"""The ladder of density models: from copies of the data to adversarial networks, on real digits of 8 × 8.

    python examples/pictures/density_ladder.py  # all rungs, a minute of one core
    python examples/pictures/density_ladder.py --rung VAE  # one of them
    python examples/pictures/density_ladder.py --resume  # goes on after Ctrl-C, or a kill

The rungs are in shared/rungs.py. One table compares them: the mean ln p of the test digits, exact or a lower
bound, with the same base measure for all; the Fréchet distance of 500 drawings by the common judge, beside
that of real digits and of noise; and the distance of drawings to the nearest training digit, 0 for copies.
All networks learn from the same batches, and the averages of their weights are judged.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.densities import PIXELS, Scale, excess_of_codes, levels_of
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.judged_digits import JudgedDigits
from shared.measures import distance_to_nearest
from shared.pictures import save_grid
from shared.run import Run
from shared.rungs import DENSITIES, NETWORKS, Rung
from shared.table import Figure, at_least, at_most, table_of_columns

from tinygen.arrays import to_device
from tinygen.data import digits
from tinygen.judges.digits import fingerprint
from tinygen.nn import ModuleList
from tinygen.optim import EMA, Adam, warmup_cosine

SIZES = {"quick": {"steps": 60, "draws": 5, "solver_steps": 1, "judged": 100, "width": 64}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--rung", choices=("all", *DENSITIES, *NETWORKS), default="all", help="the rung; by default all")
    add_run_flags(parser, "runs/density_ladder", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the drawings")
    add("--components", type=number(int, 1, PIXELS - 1), default=32, help="of PCA")
    add("--latent", type=size(2, PIXELS), default=16, help="numbers in a code, and in the GAN's noise")
    add("--width", type=size(2), default=256, help="of the hidden layers, but of RealNVP's")
    add("--batch", type=size(2), default=64, help="digits per step")
    add("--steps", type=number(int, 1), default=3000, help="optimizer steps of each network")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate")
    add("--ema", type=number(float, 0, 1), default=0.999, help="memory of the averages of the weights")
    add("--draws", type=size(1), default=200, help="codes a digit for a bound of ln p(x)")
    add("--solver-steps", type=size(1), default=20, help="of flow matching, between noise and digits")
    add("--judged", type=size(100, 500), default=500, help="test digits to compare with as many drawings")
    args = parser.parse_args()
    if args.width < args.latent:
        args.error(
            f"--width {args.width}: codes of {args.latent} numbers need hidden layers as wide at least"
        )
    args.save_every = args.save_every or max(1, args.steps // 10)
    args.names = [*DENSITIES, *NETWORKS] if args.rung == "all" else [args.rung]
    return args


class Learner:
    """A network, and the average of its weights. A GAN has two players, each with its loss and its optimizer;
    any other network is one player."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.network = NETWORKS[name]
        self.model = self.network.build(args, np.random.default_rng(args.seed)).to(args.device)
        self.players: list[Any] = [*self.model] if isinstance(self.model, ModuleList) else [self.model]
        betas = (0.0, 0.99) if len(self.players) > 1 else (0.9, 0.999)
        self.optimizers = [Adam(player.parameters(), betas=betas) for player in self.players]
        self.ema = EMA(self.model, args.ema)

    def step(self, x: Any, y: Any, lr: float, rng: np.random.Generator) -> float:
        """A step of each player on points x (B, 64) and labels y (B,). Returns the sum of their losses."""
        total = 0.0
        for player, loss, optimizer in zip(self.players, self.network.losses, self.optimizers, strict=True):
            optimizer.lr = lr
            value = loss(self.model, x, y, rng)
            player.zero_grad()
            value.backward()
            optimizer.step()
            total += value.item()
        self.ema.update()
        return total

    def rung(self, args: argparse.Namespace, x: Any, y: Any) -> Rung:
        """The rung, after training on points x (N, 64) and labels y (N,)."""
        return self.network.rung(self.model, args, x, y)


def train(learners: dict[str, Learner], levels: Any, labels: Any, scale: Scale, args: Any, run: Run) -> None:
    """The loop: all networks see the same batches, with new noise on the levels each time."""
    rng = generator(args.seed + 1, args.device)
    things: dict[str, Any] = {"batches": rng}
    for name, learner in learners.items():
        things |= {name: learner.model, f"{name}: average": learner.ema}
        things |= {f"{name}: optimizer {i}": each for i, each in enumerate(learner.optimizers)}
    with run:
        for step in run.loop(things, "batches"):
            these = rng.integers(len(levels), size=args.batch)
            x, y = to_device(scale.points(levels[these], rng), args.device), labels[these]
            lr = warmup_cosine(step, args.lr, 0.0, min(50, args.steps // 2), args.steps)
            row: dict[str, float] = {}
            for name, learner in learners.items():
                run.enter(name)
                row[name] = learner.step(x, y, lr, rng)
            run.enter("batches")
            run.log(step=step, **row)
            run.show(max(row.values(), default=0.0))


# -- the table -------------------------------------------------------------------------------------


def figures_of(row: str, values: dict[str, float]) -> list[Figure]:
    return [Figure(f"{row}: {column}", x) for column, x in values.items() if np.isfinite(x)]


def expectations(nats: dict[str, float], learners: dict[str, Learner], y: Any, args: Any) -> list[Figure]:
    """The order of the ladder where it is expected."""
    rows = []
    if "SWAE" in learners:
        models: Any = learners["SWAE"].model, NETWORKS["SWAE"].build(args, np.random.default_rng(args.seed))
        codes = [model.encode(y) for model in models]
        ratio, untrained = (excess_of_codes(each, np.random.default_rng(args.seed)) for each in codes)
        name = "distance of SWAE's codes from N(0, I), beside that of draws"
        rows.append(Figure(name, ratio, at_most(2), 1.0, untrained))
    if {"VAE", "hierarchical VAE"} <= nats.keys():
        gain = nats["hierarchical VAE"] - nats["VAE"]
        rows.append(Figure("bound of the hierarchical VAE above the VAE's, nats", gain, at_least(0)))
    return rows


def main(args: argparse.Namespace) -> None:
    train_set, test = digits.load()
    test = digits.Digits(test.pictures[: args.judged], test.labels[: args.judged])
    levels, labels = levels_of(train_set.pictures), train_set.labels
    scale = Scale.of(levels)
    learners = {name: Learner(name, args) for name in args.names if name in NETWORKS}
    run = Run(args, ["step", *learners])
    real = JudgedDigits(train_set, test)
    train(learners, levels, labels, scale, args, run)
    for learner in learners.values():
        learner.ema.copy_to(learner.model)
        learner.model.to("cpu")
    weights = {name: learner.model.state_dict() for name, learner in learners.items()}
    run.model({f"{name}.{key}": x for name, state in weights.items() for key, x in state.items()})

    rng = np.random.default_rng(args.seed + 2)
    x, y = scale.points(levels, rng), scale.points(levels_of(test.pictures), rng)
    nats: dict[str, float] = {}
    figures, shown = [], {"test digits": test.pictures[:16]}
    for name in args.names:
        run.enter(name)
        rung = learners[name].rung(args, x, labels) if name in learners else DENSITIES[name](args, x)
        drawn = scale.pictures(rung.sample(len(y), rng))
        values = {}
        if rung.log_p:
            nats[name] = float(np.mean(rung.log_p(y, rng))) + scale.log_det()
            values[f"nats, {rung.kind}"] = nats[name]
        run.enter("evaluation")
        values["Fréchet distance"] = real.distance(real.judge.opinion(drawn))
        values["distance to nearest"] = distance_to_nearest(drawn, train_set.pictures)
        values |= {"parameters": rung.parameters, "seconds": run.clock.read()[name]}
        figures += figures_of(name, values)
        shown[name] = drawn[:16]
    noise = np.random.default_rng(0).uniform(-1, 1, test.pictures.shape)
    for name, distance, pictures in (
        ("real digits", real.floor, test.pictures),
        ("noise", real.ceiling, noise),
    ):
        nearest = distance_to_nearest(pictures, train_set.pictures)
        figures += figures_of(name, {"Fréchet distance": distance, "distance to nearest": nearest})
    figures.append(real.spread_figure())
    title, pictures = "Drawings of each rung", np.concatenate([*shown.values()])
    save_grid(run.path / "drawings.png", pictures, 16, 3, title, [*shown])
    foot = f"\n{table_of_columns(figures)}\n\nempirical: ln p is -inf; GAN: there is no density\n"
    run.result([*expectations(nats, learners, y, args), *figures], foot=foot, judge=fingerprint(real.judge))


if __name__ == "__main__":
    start(parse_args, main)
