"""Train adversarial networks on a ring of eight Gaussians, with R1 and without a penalty.

    python examples/pictures/gan_ring.py  # half a minute of one core
    python examples/pictures/gan_ring.py --gamma 1  # a stronger penalty
    python examples/pictures/gan_ring.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The density p of the data is known. The density q of the generator is not, but in the plane a kernel density
estimate of many of its points is near it. So the discriminator can be compared with the best one, p/(p + q).
Both pairs of networks start from the same weights, and see the same data and noise; the only difference is
the penalty on the discriminator's slope at the data. With it the losses come to rest at ln 4 and ln 2, their
values where the discriminator says 1/2; without it they move on around these values.
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
from shared.measures import quality_of
from shared.plots import save_maps
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data.mixtures import Mixture, ring
from tinygen.density import GaussianKDE
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import GAMES, input_gradient, r1_penalty
from tinygen.optim import EMA, Adam

SIZES = {"quick": {"steps": 600, "samples": 1000}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--game", choices=GAMES, default="non-saturating", help="the pair of losses")
    add("--gamma", type=number(float, 0), default=0.1, help="weight of R1")
    add_run_flags(parser, "runs/gan_ring", "a tenth of the run")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the batches and the samples")
    add("--latent", type=size(1), default=2, help="numbers of the generator's noise")
    add("--width", type=size(1), default=64, help="of the hidden layers")
    add("--steps", type=number(int, 1), default=2500, help="optimizer steps of each network")
    add("--batch", type=size(1), default=128, help="points per step")
    add("--lr", type=number(float, 0), default=2e-3, help="learning rate")
    add("--ema", type=number(float, 0, 1), default=0.999, help="memory of the average of the weights")
    add("--samples", type=size(100, 100_000), default=5000, help="points to sample and to measure with")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


# -- the two players -------------------------------------------------------------------------------


class Pair:
    """A generator and a discriminator, their optimizers, and the average of the generator's weights."""

    def __init__(self, gamma: float, args: argparse.Namespace) -> None:
        rng = np.random.default_rng(args.seed)
        self.gamma, self.game = gamma, GAMES[args.game]
        self.generator = DenseGenerator(2, args.width, latent=args.latent, rng=rng).to(args.device)
        self.discriminator = DenseDiscriminator(2, args.width, rng=rng).to(args.device)
        self.ema = EMA(self.generator, args.ema)
        self.of_generator, self.of_discriminator = (
            Adam(model.parameters(), lr=args.lr, betas=(0.0, 0.99))
            for model in (self.generator, self.discriminator)
        )

    def things(self, name: str) -> dict[str, Any]:
        """All that a step changes."""
        return {f"{name}: {key}": x for key, x in vars(self).items() if key not in ("gamma", "game")}

    def step(self, real: Any, z: Any, other_z: Any) -> tuple[float, float]:
        """One step of the discriminator, then one of the generator, with noise of its own. Both losses,
        without the penalty."""
        with no_grad():
            fake = self.generator(z).data
        loss = self.game.discriminator(self.discriminator(real), self.discriminator(fake))
        penalty = self.gamma * r1_penalty(self.discriminator, real) if self.gamma else 0.0
        self.discriminator.zero_grad()
        (loss + penalty).backward()
        self.of_discriminator.step()
        of_generator = self.game.generator(self.discriminator(self.generator(other_z)))
        self.generator.zero_grad()
        of_generator.backward()
        self.of_generator.step()
        self.ema.update()
        return loss.item(), of_generator.item()


def train(pairs: dict[str, Pair], data: Mixture, args: argparse.Namespace, run: Run) -> None:
    """The loop, of all pairs with the same points and the same noise."""
    rng = generator(args.seed + 1, args.device)
    things = {name: x for key, pair in pairs.items() for name, x in pair.things(key).items()}
    with run:
        for step in run.loop({**things, "batches": rng}):
            real = to_device(data.sample(args.batch, rng).astype(np.float32), args.device)
            z = to_device(rng.standard_normal((2, args.batch, args.latent), dtype=np.float32), args.device)
            row: dict[str, float] = {}
            for name, pair in pairs.items():
                row[f"{name}: D"], row[f"{name}: G"] = pair.step(real, *z)
            run.log(step=step, **row)
            run.show(max(row.values()))


# -- what is measured ------------------------------------------------------------------------------


def best_discriminator(data: Mixture, fakes: Any, x: Any) -> Any:
    """p/(p + q) at the points x (N, 2), (N,), with q estimated from the generator's points `fakes`. The
    kernels blur q, so p is blurred with the same kernel."""
    width = data.stds.min() / 3
    q = GaussianKDE(width).fit(fakes).score_samples(x)
    return sigmoid(data.diffuse(1.0, width).log_density(x) - q)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def judge(pair: Pair, data: Mixture, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and points. Figures: the quality of the averaged generator's points; the discriminator's mean
    distance to the best one, on equally many points of the data and of its opponent, and the distance of a
    discriminator that always says 1/2; its mean slope at the data."""
    rng, n = np.random.default_rng(args.seed + 2), args.samples
    truth, real = data.sample(n, rng), data.sample(n, rng)
    fakes, others = points_of(pair.generator, n, rng), points_of(pair.generator, n, rng)
    with pair.ema.averaged_weights():
        points = points_of(pair.generator, n, rng)
    x, d = np.concatenate([real[: n // 2], others[: n // 2]]), logits(pair, args)
    best = best_discriminator(data, fakes, x)
    at_data = to_device(real.astype(np.float32), args.device)
    found = {
        **quality_of(points, truth, data),
        "error": float(np.mean(np.abs(sigmoid(d(x)) - best))),
        "error of 1/2": float(np.mean(np.abs(0.5 - best))),
        "slope": float(np.linalg.norm(input_gradient(pair.discriminator, at_data).numpy(), axis=1).mean()),
    }
    return found, {"points": points, "fakes": fakes}


def points_of(model: DenseGenerator, n: int, rng: np.random.Generator) -> Any:
    """n points of the generator (n, 2), in float64 on the CPU."""
    return np.array(to_device(model.sample(n, rng=rng), "cpu"), np.float64)


def logits(pair: Pair, args: argparse.Namespace) -> Callable[[Any], Any]:
    """The discriminator as a function of NumPy arrays."""
    d = numpy_function(pair.discriminator, args.device)
    return lambda x: d(x.astype(np.float32)).astype(np.float64)


def maps_of(pair: Pair, data: Mixture, fakes: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The discriminator and the best one on a grid over the square of side 5.2: (60, 60) each."""
    line = np.linspace(-2.6, 2.6, 60)
    x = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    best = best_discriminator(data, fakes, x)
    maps = {"discriminator": sigmoid(logits(pair, args)(x)), "p/(p + q)": best}
    return {name: values.reshape(60, 60) for name, values in maps.items()}


# -- all of it -------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    data, pairs = ring(), {"R1": Pair(args.gamma, args), "no penalty": Pair(0.0, args)}
    run = Run(args, ["step", *(f"{name}: {player}" for name in pairs for player in "DG")])
    train(pairs, data, args, run)
    ours = pairs["R1"]
    with ours.ema.averaged_weights():
        run.model(ours.generator.state_dict())

    found, points = {}, {}
    for name, pair in pairs.items():
        found[name], points[name] = judge(pair, data, args)
        last = [row[f"{name}: D"] for row in run.rows[-max(1, args.steps // 4) :]]
        found[name]["drift"] = float(np.std(last))
    rng = np.random.default_rng(args.seed + 3)
    truth, other = (data.sample(args.samples, rng) for _ in range(2))
    best = quality_of(other, truth, data)
    noise = quality_of(rng.standard_normal(truth.shape), truth, data)
    figures = []
    for name, q in found.items():
        expected = {"modes": at_least(8), "near a mean": at_least(0.9)} if name == "R1" else {}
        for key in ("modes", "near a mean", "distance"):
            figures.append(Figure(f"{name}: {key}", q[key], expected.get(key), best[key], noise[key]))
    for name, q in found.items():
        figures.append(Figure(f"{name}: |D - p/(p + q)|", q["error"], None, 0.0, q["error of 1/2"]))
        figures.append(Figure(f"{name}: slope of D at the data", q["slope"], None, 0.0))
        figures.append(Figure(f"{name}: std of D's last losses", q["drift"]))
    curves = {f"{name}: {player}": f"{player}, {name}" for name in pairs for player in "DG"}
    run.curve(curves, {"ln 4": np.log(4), "ln 2": np.log(2)}, "Losses of the two games", "loss")
    drawn = {"data": truth, **{name: x["points"] for name, x in points.items()}}
    save_maps(run.path / "maps.png", drawn, maps_of(ours, data, points["R1"]["fakes"], args))
    run.result(figures, quality={**found, "data": best, "noise": noise}, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
