"""Train adversarial networks on a ring of eight Gaussians, with R1 and without a penalty.

    python examples/pictures/gan_ring.py  # half a minute of one core
    python examples/pictures/gan_ring.py --gamma 1  # a stronger penalty
    python examples/pictures/gan_ring.py --resume  # goes on after Ctrl-C or a kill, to the same bits

The density p of the data is known. The density q of the generator is not, but in the plane a kernel density
estimate of many of its points is near it. So the discriminator can be compared with the best one, p/(p + q).
Both pairs of networks start from the same weights, and see the same data and noise; the only difference is
the penalty on the discriminator's slope at the data. With it the losses come to rest at ln 4 and ln 2, their
values where the discriminator says 1/2; without it they move on around these values. At the end a copy of
each discriminator is trained on, against a generator that does not move: it comes nearer to p/(p + q).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.plots import save_maps
from shared.points import best_discriminator, map_of, probability, quality_of
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data.mixtures import Mixture, ring
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import GAMES, input_gradient, logistic_loss, r1_penalty
from tinygen.optim import EMA, Adam

SIZES = {"quick": {"steps": 600, "response": 200, "samples": 1000}, "full": FULL}


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
    add("--response", type=number(int, 1), default=2000, help="steps of a discriminator alone, at the end")
    add("--samples", type=size(100, 100_000), default=5000, help="points to sample and to measure with")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


# -- the two players -------------------------------------------------------------------------------


def adam(model: Any, args: argparse.Namespace) -> Adam:
    return Adam(model.parameters(), lr=args.lr, betas=(0.0, 0.99))


def descend(loss: Any, model: Any, optimizer: Adam) -> None:
    """One step of one player."""
    model.zero_grad()
    loss.backward()
    optimizer.step()


class Pair:
    """A generator and a discriminator, their optimizers, and the average of the generator's weights."""

    def __init__(self, gamma: float, args: argparse.Namespace) -> None:
        rng = np.random.default_rng(args.seed)
        self.gamma, self.game = gamma, GAMES[args.game]
        self.generator = DenseGenerator(2, args.width, latent=args.latent, rng=rng).to(args.device)
        self.discriminator = DenseDiscriminator(2, args.width, rng=rng).to(args.device)
        self.ema = EMA(self.generator, args.ema)
        self.of_generator, self.of_discriminator = adam(self.generator, args), adam(self.discriminator, args)

    def things(self, name: str) -> dict[str, Any]:
        """All that a step changes."""
        return {f"{name}: {key}": x for key, x in vars(self).items() if key not in ("gamma", "game")}

    def step(self, real: Any, z: Any, other_z: Any) -> tuple[float, float]:
        """One step of the discriminator, then one of the generator, with noise of its own. Both losses,
        without the penalty."""
        with no_grad():
            fake = self.generator(z).data
        loss = whole = self.game.discriminator(self.discriminator(real), self.discriminator(fake))
        if self.gamma:
            whole = loss + self.gamma * r1_penalty(self.discriminator, real)
        descend(whole, self.discriminator, self.of_discriminator)
        of_generator = self.game.generator(self.discriminator(self.generator(other_z)))
        descend(of_generator, self.generator, self.of_generator)
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


# -- the measurements ------------------------------------------------------------------------------


def best_response(pair: Pair, data: Mixture, args: argparse.Namespace) -> DenseDiscriminator:
    """A copy of the pair's discriminator after `args.response` more steps against the generator as it is,
    which does not move, without a penalty: the inner loop of Goodfellow et al.'s algorithm 1."""
    d, rng = copy.deepcopy(pair.discriminator), generator(args.seed + 4, args.device)
    optimizer = adam(d, args)
    for step in range(args.response):
        optimizer.lr = args.lr * (1 - step / args.response)
        real = to_device(data.sample(args.batch, rng).astype(np.float32), args.device)
        descend(logistic_loss(d(real), d(pair.generator.sample(args.batch, rng=rng))), d, optimizer)
    return d


def judge(pair: Pair, data: Mixture, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures; points; the best response. Figures: the quality of the averaged generator's points, and of
    those with its last weights; the discriminator's mean distance to the best one, on equally many points of
    the data and of its opponent, and the same of its best response and of a discriminator that always says
    1/2; its mean slope at the data."""
    rng, n = np.random.default_rng(args.seed + 2), args.samples
    truth, real = data.sample(n, rng), data.sample(n, rng)
    fakes, others = points_of(pair.generator, n, rng), points_of(pair.generator, n, rng)
    with pair.ema.averaged_weights():
        points = points_of(pair.generator, n, rng)
    x, response = np.concatenate([real[: n // 2], others[: n // 2]]), best_response(pair, data, args)
    best = best_discriminator(data, fakes, x)
    error: Callable[[Any], float] = lambda says: float(np.mean(np.abs(says - best)))
    at_data = to_device(real.astype(np.float32), args.device)
    found = {
        **quality_of(points, truth, data),
        "last": quality_of(fakes, truth, data),
        "error": error(probability(pair.discriminator, args.device)(x)),
        "error of response": error(probability(response, args.device)(x)),
        "error of 1/2": error(0.5),
        "slope": float(np.linalg.norm(input_gradient(pair.discriminator, at_data).numpy(), axis=1).mean()),
    }
    return found, {"points": points, "fakes": fakes, "response": response}


def points_of(model: DenseGenerator, n: int, rng: np.random.Generator) -> Any:
    """n points of the generator (n, 2), in float64 on the CPU."""
    return np.array(to_device(model.sample(n, rng=rng), "cpu"), np.float64)


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
        figures.append(Figure(f"{name}, last weights: modes", q["last"]["modes"], None, 8, noise["modes"]))
        for which, key in (("D", "error"), ("D trained alone", "error of response")):
            figures.append(Figure(f"{name}: |{which} - p/(p + q)|", q[key], None, 0.0, q["error of 1/2"]))
        figures.append(Figure(f"{name}: slope of D at the data", q["slope"], None, 0.0))
        figures.append(Figure(f"{name}: std of D's last losses", q["drift"]))
    curves = {f"{name}: {player}": f"{player}, {name}" for name in pairs for player in "DG"}
    run.curve(curves, {"ln 4": np.log(4), "ln 2": np.log(2)}, "Losses of the two games", "loss")
    drawn = {"data": truth, **{name: x["points"] for name, x in points.items()}}
    players = {"discriminator": ours.discriminator, "trained alone": points["R1"]["response"]}
    maps = {name: map_of(probability(d, args.device)) for name, d in players.items()}
    maps["p/(p + q)"] = map_of(partial(best_discriminator, data, points["R1"]["fakes"]))
    save_maps(run.path / "maps.png", drawn, maps)
    run.result(figures, quality={**found, "data": best, "noise": noise}, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
