"""Train a GAN that draws captioned shapes (`tinygen.data.shapes`), and let a parser read its drawings.

    python examples/text_to_image/gan_shapes.py  # three minutes of one core
    python examples/text_to_image/gan_shapes.py --resume  # goes on after Ctrl-C or a kill, to the same bits
    python examples/text_to_image/gan_shapes.py --blind  # the discriminator sees no wrong captions

The generator makes a picture of 16 × 16 from noise and a caption, in one step. The discriminator refuses
generated pictures, and real pictures with the caption of another one (Reed et al. 2016, arXiv:1605.05396). A
parser without learned parameters reads the drawings, also for pairs of a shape and a color that were in no
training caption. A drawing is right if its words are read, and if it explains as much of itself as 99 % of
noisy real drawings do: else any blob would be read as something.
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
from shared.captioned import BOTH, SPLITS, SURELY, WORDS, all_pairs
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.measures import interval
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data import shapes
from tinygen.data.shapes import batch, caption
from tinygen.judges.shapes_parser import SURE, accuracy
from tinygen.models.pictures.gan_losses import logistic_loss, non_saturating_loss, r1_penalty
from tinygen.models.text_to_image.text_encoder import TextEncoderConfig
from tinygen.models.text_to_image.text_gan import TextDiscriminator, TextGenerator, matching_aware_loss
from tinygen.optim import EMA, Adam

SIDE = 16  # pixels
EVERY = 4  # the steps from one penalty to the next, which then counts as often (Karras et al. 2020)
EXPECTED = {"train": at_least(90), "held_out": at_least(60)}  # of BOTH, in per cent
QUICK = {"steps": 200, "channels": 16, "batch": 16, "lr": 4e-3, "ema": 0.95, "drawings": 1024, "judged": 64}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--gamma", type=number(float, 0), default=0.3, help="weight of R1")
    add("--blind", action="store_true", help="show the discriminator no real pictures with wrong captions")
    add_run_flags(parser, "runs/gan_shapes", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the drawings")
    add("--drawings", type=size(64, 1_000_000), default=8192, help="pictures to learn from")
    add("--latent", type=size(1), default=8, help="numbers of the generator's noise")
    add("--channels", type=size(1), default=24, help="of the maps of 16 × 16, or 8 × 8 in the discriminator")
    add("--batch", type=size(2), default=32, help="pictures per step")
    add("--steps", type=number(int, 1), default=8000, help="optimizer steps of each network")
    add(
        "--lr", type=number(float, 0), default=2e-3, help="learning rate, which falls to 0 in the second half"
    )
    add("--ema", type=number(float, 0, 1), default=0.998, help="memory of the average of the weights")
    add("--judged", type=size(1), default=500, help="drawings for each figure")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


def build(args: argparse.Namespace) -> tuple[TextGenerator, TextDiscriminator]:
    rng, text = np.random.default_rng(args.seed), TextEncoderConfig(WORDS, 8, layers=0)
    sizes = {"side": SIDE, "channels": args.channels, "rng": rng}
    g, d = TextGenerator(text, latent=args.latent, **sizes), TextDiscriminator(text, **sizes)
    return g.to(args.device), d.to(args.device)


def train(g: TextGenerator, d: TextDiscriminator, ema: EMA, args: argparse.Namespace, run: Run) -> None:
    """The loop: a step of the discriminator, then one of the generator. The average of the generator's
    weights is in `ema`."""
    drawings, scenes = batch(args.drawings, SIDE, np.random.default_rng(args.seed + 1))
    pictures, sentences = to_device(drawings, args.device), [caption(scene) for scene in scenes]
    rng, n = generator(args.seed + 2, args.device), args.batch
    of_g, of_d = (Adam(model.parameters(), lr=args.lr, betas=(0.0, 0.99)) for model in (g, d))
    things = {"generator": g, "discriminator": d, "of_g": of_g, "of_d": of_d, "ema": ema, "batches": rng}
    with run:
        for step in run.loop(things):
            of_g.lr = of_d.lr = args.lr * min(1.0, 2 * (1 - step / args.steps))
            these = rng.integers(len(pictures), size=n)
            real, right = pictures[these], [sentences[i] for i in these]
            wrong = [*right[1:], right[0]]  # each picture with the caption of the next
            z, other_z = to_device(rng.standard_normal((2, n, args.latent), dtype=np.float32), args.device)
            with no_grad():
                fake = g(z, right).data
            if args.blind:
                loss_d = logistic_loss(d(real, right), d(fake, right))
            else:
                logits = d(np.concatenate([real, real, fake]), [*right, *wrong, *right])  # (3B,)
                loss_d = matching_aware_loss(logits[:n], logits[n : 2 * n], logits[2 * n :])
            penalized: Any = loss_d
            if step % EVERY == 0:
                penalized = loss_d + EVERY * args.gamma * r1_penalty(partial(d, captions=right), real)
            d.zero_grad()
            penalized.backward()
            of_d.step()
            loss_g = non_saturating_loss(d(g(other_z, right), right))
            g.zero_grad()
            loss_g.backward()
            of_g.step()
            ema.update()
            run.log(step=step, D=loss_d.item(), G=loss_g.item())
            run.show(loss_d.item())


def figures_of(found: dict[str, dict[str, float]], n: int) -> list[Figure]:
    """The final table. The baseline is a picture of any shape in any color at any place."""
    rows, places = [], len(shapes.POSITIONS)
    chance = 100 / (len(shapes.SHAPES) * len(shapes.COLORS))
    for split, title in SPLITS.items():
        right = 100 * found[split]["position"]
        rows.append(Figure(f"{title}: position (%)", right, at_least(95), 100.0, 100 / places))
        share = found[split][SURELY]
        rows.append(Figure(f"{title}: {SURELY} (%)", 100 * share, EXPECTED[split], 100.0, chance))
        ends = zip(("from", "to"), interval(share, n), strict=True)
        rows += [Figure(f"    the 95 % interval, {word}", 100 * end) for word, end in ends]
        for name in (BOTH, "shape", "color", "size", "all", "surely all"):
            rows.append(Figure(f"{title}: {name} (%)", 100 * found[split][name]))
    return rows


def main(args: argparse.Namespace) -> None:
    g, d = build(args)
    ema, run = EMA(g, args.ema), Run(args, ["step", "D", "G"])
    print(f"parameters: generator {g.num_parameters():,}, discriminator {d.num_parameters():,}")
    train(g, d, ema, args, run)
    ema.copy_to(g)
    run.model(g.state_dict())
    rng, found = np.random.default_rng(args.seed + 3), {}
    for split in SPLITS:
        scenes = shapes.draw_from_split(shapes.SPLITS, split, args.judged, rng)
        drawn = to_device(g.sample([caption(scene) for scene in scenes], rng=rng), "cpu")
        found[split] = accuracy(drawn, scenes)
    says = 1 / 2 if args.blind else 2 / 3  # of drawings as good as real pictures, by the best discriminator
    refused = 1 if args.blind else 1 / 2  # the weight of generated pictures in its loss
    levels = {"best D": -np.log(says) - refused * np.log(1 - says), "its G": -np.log(says)}
    run.curve({"D": "discriminator", "G": "generator"}, levels, "Losses of the game", "loss")
    drawn, names = (
        to_device(g.sample(all_pairs(), rng=rng), "cpu"),
        (list(shapes.SHAPES), list(shapes.COLORS)),
    )
    save_grid(run.path / "drawings.png", drawn, len(shapes.COLORS), 5, "Every shape in every color", *names)
    head = f"\n{args.judged} drawings for each figure; sure: a confidence of at least {SURE[SIDE]}"
    run.result(figures_of(found, args.judged), head, steps=run.steps, judged=found)


if __name__ == "__main__":
    start(parse_args, main)
