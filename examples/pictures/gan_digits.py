"""Train a GAN to draw digits of a given class, and let the common judge read them.

    python examples/pictures/gan_digits.py  # scikit-learn's digits, 8 × 8; four minutes on 2 cores
    python examples/pictures/gan_digits.py --resume  # goes on after Ctrl-C or a kill, to the same bits
    python examples/pictures/gan_digits.py --gamma 0  # without the penalty

Generator and discriminator are perceptrons on the 64 pixels, and both get the class: the generator adds a
vector of the class to its first layer, the discriminator compares its features with one (the projection
discriminator: Miyato & Koyama 2018, arXiv:1802.05637). R1 holds the discriminator's slope at real digits, and
noise on all pictures that it sees keeps it from learning the 1,297 training digits by heart (Arjovsky &
Bottou 2017, arXiv:1701.04862). The judge reads 500 drawings, as many of each class as there are test digits,
and compares the set with the test digits by the Fréchet distance. Drawings are made from slightly less noise
than in training, which makes them better and a little less varied (Brock et al. 2019, arXiv:1809.11096).
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
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.judged_digits import JudgedDigits
from shared.measures import distance_to_nearest, interval
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_least, at_most

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data import digits
from tinygen.judges.digits import fingerprint
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import GAMES, r1_penalty
from tinygen.optim import EMA, Adam

PIXELS, SHAPE = digits.SIDE**2, (1, digits.SIDE, digits.SIDE)
SIZES = {"quick": {"steps": 500, "channels": 128, "batch": 64, "ema": 0.99, "judged": 200}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--game", choices=GAMES, default="non-saturating", help="the pair of losses")
    add("--gamma", type=number(float, 0), default=1.0, help="weight of R1")
    add("--noise", type=number(float, 0), default=0.2, help="deviation of the noise on what D sees")
    add("--scale", type=number(float, 0), default=0.9, help="deviation of the generator's noise in drawings")
    add_run_flags(parser, "runs/gan_digits", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the drawings")
    add("--latent", type=size(1), default=32, help="numbers of the generator's noise")
    add("--channels", type=size(1), default=256, help="width of the hidden layers, three in each network")
    add("--batch", type=size(1), default=512, help="digits per step")
    add("--steps", type=number(int, 1), default=5000, help="optimizer steps of each network")
    add("--lr", type=number(float, 0), default=2e-3, help="learning rate at the start; it falls to 0")
    add("--ema", type=number(float, 0, 1), default=0.999, help="memory of the average of the weights")
    add("--judged", type=size(100, 500), default=500, help="test digits to compare with as many drawings")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


def train(g: DenseGenerator, d: DenseDiscriminator, ema: EMA, data: Any, args: Any, run: Run) -> None:
    """The loop: a step of the discriminator, then one of the generator. The average of the generator's
    weights is in `ema`."""
    rng, game = generator(args.seed + 1, args.device), GAMES[args.game]
    pictures = to_device(data.pictures.reshape(-1, PIXELS), args.device)
    of_g, of_d = (Adam(model.parameters(), lr=args.lr, betas=(0.0, 0.99)) for model in (g, d))
    things = {"generator": g, "discriminator": d, "of_g": of_g, "of_d": of_d, "ema": ema, "batches": rng}
    with run:
        for step in run.loop(things):
            of_g.lr = of_d.lr = args.lr * (1 - step / args.steps)
            these = rng.integers(len(pictures), size=args.batch)
            real, y = pictures[these], data.labels[these]
            noise = rng.standard_normal((2, args.batch, args.latent), dtype=np.float32)
            z, other_z = to_device(noise, args.device)
            noise = args.noise * rng.standard_normal((3, args.batch, PIXELS), dtype=np.float32)
            n, of_fake, of_other = to_device(noise, args.device)
            with run.share(real + n, y, z, other_z, of_fake, of_other) as (real, y, z, other_z, n, other_n):
                with no_grad():
                    fake = g(z, y).data + n
                loss = game.discriminator(d(real, y), d(fake, y))
                penalty = args.gamma * r1_penalty(partial(d, labels=y), real)
                d.zero_grad()
                run.backward(loss + penalty, d)
                of_d.step()
                loss_d, r1 = run.mean(loss), run.mean(penalty)
                g.zero_grad()
                loss_g = run.backward(game.generator(d(g(other_z, y) + other_n, y)), g)
                of_g.step()
            ema.update()
            run.log(step=step, D=loss_d, G=loss_g, R1=r1)
            run.show(loss_d)


@no_grad()
def draw(g: DenseGenerator, labels: Any, scale: float, rng: np.random.Generator) -> Any:
    """Digits (N, 1, 8, 8) of the classes (N,), with the 17 values of the data, on the CPU. The noise
    has the deviation `scale`."""
    z = scale * rng.standard_normal((len(labels), g.latent), dtype=np.float32)
    pictures = to_device(g(np.asarray(z, like=g.start.weight.data), labels).data, "cpu")
    half = digits.INK // 2
    return (np.round(half * np.clip(pictures, -1, 1)) / half).reshape(-1, *SHAPE)


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    g = DenseGenerator(PIXELS, args.channels, 3, args.latent, digits.CLASSES, rng=rng).to(args.device)
    d = DenseDiscriminator(PIXELS, args.channels, 3, digits.CLASSES, rng=rng).to(args.device)
    ema = EMA(g, args.ema)
    train_set, test = digits.load()
    test = digits.Digits(test.pictures[: args.judged], test.labels[: args.judged])
    run = Run(args, ["step", "D", "G", "R1"])
    judged = JudgedDigits(train_set, test)
    print(f"parameters: generator {g.num_parameters():,}, discriminator {d.num_parameters():,}")
    train(g, d, ema, train_set, args, run)

    rng = np.random.default_rng(args.seed + 2)
    by_last = draw(g, test.labels, args.scale, rng)
    ema.copy_to(g)
    run.model(g.state_dict())
    drawn = draw(g, test.labels, args.scale, rng)
    seen, last = judged.judge.opinion(drawn), judged.judge.opinion(by_last)
    share, n = seen.accuracy(test.labels), len(test.labels)
    low, high = interval(share, n)
    nearest, copies = (distance_to_nearest(x, train_set.pictures) for x in (drawn, test.pictures))
    rows = [
        judged.distance_figure("", judged.distance(seen), at_most(1.5 * judged.floor)),
        judged.read_figure("read as asked", share, at_least(0.98)),
        Figure("    the 95 % interval, from", low),
        Figure("    to", high),
        judged.spread_figure(),
        judged.distance_figure("last weights: ", judged.distance(last)),
        judged.read_figure("last weights: read as asked", last.accuracy(test.labels)),
        Figure("distance to the nearest training digit", nearest, None, copies),
    ]
    levels = {"ln 4": np.log(4), "ln 2": np.log(2)}
    run.curve({"D": "discriminator", "G": "generator"}, levels, "Losses of the game", "loss")
    classes = np.repeat(np.arange(digits.CLASSES), 10)
    names = [str(label) for label in range(digits.CLASSES)]
    save_grid(
        run.path / "digits.png",
        draw(g, classes, args.scale, rng),
        10,
        4,
        "Drawn digits, a class a row",
        names,
    )
    run.result(rows, f"\n{n} drawings", steps=run.steps, judge=fingerprint(judged.judge))


if __name__ == "__main__":
    start(parse_args, main)
