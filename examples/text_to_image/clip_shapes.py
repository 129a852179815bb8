"""Train CLIP on captioned shapes: one space for pictures and texts (Radford et al. 2021, arXiv:2103.00020).

    python examples/text_to_image/clip_shapes.py  # a minute and a half of one core
    python examples/text_to_image/clip_shapes.py --resume  # goes on after Ctrl-C or a kill, to the same bits
    python examples/text_to_image/clip_shapes.py --image vit  # a Vision Transformer for the pictures

Four models learn in as many steps, with batches of as many pictures. The first sees single shapes: it finds
captions of pictures and pictures of captions, and classifies pictures of which it has no labels, by prompts.
The others see pairs, "a red circle left of a blue square". There the words of a caption are not enough: the
same words in another order describe another picture. CLIP is known to miss this (Thrush et al. 2022,
arXiv:2204.03162), since its batches, drawn from millions of captions, can be told apart without the order
(Yuksekgonul et al. 2022, arXiv:2210.01936). So one model has batches in which no two captions have the same
words (easy negatives); one has them by chance; and one has all captions of the same words together (hard).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from shared.captioned import SPLITS, all_pairs
from shared.contrast import (
    SWAPS,
    WAYS,
    WORDS,
    Answers,
    draw_pairs,
    draw_scenes,
    ids_of,
    image_vectors,
    judge_pairs,
    judge_single,
    save_matrices,
    swapped,
    text_vectors,
)
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.measures import interval
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_least, at_most, less_than, table_of_columns

from tinygen import nn, ops
from tinygen.arrays import to_device
from tinygen.data import shapes, shapes_pairs
from tinygen.data.shapes_pairs import parse_caption
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import (
    END,
    ConvImageEncoder,
    TextTower,
    TowerConfig,
    VisionTransformer,
)
from tinygen.optim import AdamW, clip_grad_norm, warmup_cosine

SIDE = 32  # pixels
MODELS = ("single", "easy", "by chance", "hard")
EXPECTED = {"train": at_least(95), "held_out": at_least(90)}  # of single shapes, in per cent
CHANCE = {WAYS[0]: 100 / 432, WAYS[1]: 100 / 432, "by 18 prompts": 100 / 24, "by one": 100 / 24}
QUICK = {"steps": 24, "batch": 32, "lr": 4e-3, "judged": 1, "layers": 1}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--image", choices=("conv", "vit"), default="conv", help="encoder of the pictures")
    add_run_flags(parser, "runs/clip_shapes", "a tenth of the run")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the batches and the pictures")
    add("--channels", type=size(4), default=16, help="of the first convolution; a quarter of the towers'")
    add("--layers", type=size(1), default=2, help="of the text tower and of a Vision Transformer")
    add("--batch", type=size(2, 360), default=64, help="pictures per step of each model, new ones every time")
    add("--steps", type=number(int, 1), default=700, help="optimizer steps of each model")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate; it falls to a fiftieth")
    add("--judged", type=size(1), default=7, help="pictures of each scene, and of each fourth part of a pair")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    return args


def build(args: argparse.Namespace) -> nn.ModuleList:
    """The four models, with the same first weights."""

    def make() -> CLIP:
        rng, c = np.random.default_rng(args.seed), args.channels
        tower = TowerConfig(args.layers, 4, 4 * c)
        text = TextTower(len(WORDS) + 2, 10, END, tower, 4 * c, rng=rng)
        if args.image == "vit":
            return CLIP(VisionTransformer(SIDE, 4, 3, tower, 4 * c, rng=rng), text)
        return CLIP(ConvImageEncoder(SIDE, 3, c, 3, 4 * c, rng=rng), text)

    return nn.ModuleList(make() for _ in MODELS).to(args.device)


def train(models: nn.ModuleList, args: argparse.Namespace, run: Run) -> None:
    """The loop: a step of each model."""
    rng, warmup = generator(args.seed + 1, args.device), min(100, args.steps // 2)
    optimizers = [AdamW(model.parameters(), args.lr, (0.9, 0.98), weight_decay=0.0) for model in models]
    things = {"models": models, "batches": rng, **{f"of_{i}": each for i, each in enumerate(optimizers)}}
    with run:
        for step in run.loop(things):
            losses = {}
            for name, model, optimizer in zip(MODELS, models, optimizers, strict=True):
                if name == "single":
                    pictures, captions = draw_scenes(args.batch, SIDE, rng)
                else:
                    pictures, captions = draw_pairs(args.batch, SIDE, name, rng)
                optimizer.lr = warmup_cosine(step, args.lr, args.lr / 50, warmup, args.steps)
                loss = model.loss(to_device(pictures, args.device), ids_of(captions))
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm(model.parameters(), 1.0)
                optimizer.step()
                model.clamp_scale()
                losses[name] = loss.item()
            run.log(step=step, **losses)
            run.show(sum(losses.values()))


def share_rows(name: str, right: Any, expected: Any = None, chance: float | None = None) -> list[Figure]:
    """The share of right answers (N,) in per cent, and its 95 % interval."""
    rows = [Figure(f"{name} (%)", 100 * right.mean(), expected, 100.0, chance)]
    ends = zip(("from", "to"), interval(right.mean(), len(right)), strict=True)
    return rows + [Figure(f"    the 95 % interval, {word}", 100 * end) for word, end in ends]


def figures_of(found: dict[str, Answers], first: Mapping[str, float], batch: int) -> list[Figure]:
    """The final table. Figures with a colon are a table of their own, a row for each model and split."""
    rows = []
    for split, title in SPLITS.items():
        for what, right in found["single"][split].items():
            expected = EXPECTED[split] if what != "by one" else None
            rows += share_rows(f"single shapes, {what}, {title}", right, expected, CHANCE[what])
    for what in (f"{word} swapped, group" for word in SWAPS):
        easy, hard = (found[name]["train"][what] for name in ("easy", "hard"))
        rows += share_rows(f"hard negatives, {what}", hard, at_least(90), 100 / 6)
        rows += share_rows(f"easy negatives, {what}", easy, less_than(100 * hard.mean() - 10), 100 / 6)
    for name in MODELS:
        ln_b = math.log(batch)
        rows.append(Figure(f"first loss, {name}", first[name], at_most(1.1 * ln_b), ln_b))
    for name, split in product(MODELS[1:], SPLITS):
        for what, right in found[name][split].items():
            rows.append(Figure(f"{name}, {SPLITS[split]}: {what}", 100 * right.mean()))
    return rows


def save_examples(folder: Path, models: nn.ModuleList, args: argparse.Namespace) -> None:
    """matrices.png: four pictures and four captions of the same words. retrieved.png: captions, and the
    pictures that are nearest to them, of all single shapes."""
    rng = np.random.default_rng(args.seed + 3)
    pairs = swapped(parse_caption("a red circle left of a white square"))
    pictures, captions = shapes_pairs.draw(pairs, SIDE, rng), [shapes_pairs.caption(pair) for pair in pairs]
    matrices = {}
    for name, model in list(zip(MODELS, models, strict=True))[1:]:
        cosines = image_vectors(model, pictures, args.device) @ text_vectors(model, captions).T
        z = np.exp(model.logit_scale.numpy()) * cosines
        matrices[f"negatives: {name}"] = ops.softmax(z)
    save_matrices(folder / "matrices.png", pictures, captions, matrices)
    texts = ["a red circle", "a cross at the top", *all_pairs()[3::5]]
    there = shapes.draw(shapes.SCENES, SIDE, rng)
    cosines = text_vectors(models[0], texts) @ image_vectors(models[0], there, args.device).T
    nearest = np.argsort(-cosines, axis=1)[:, :8]
    save_grid(folder / "retrieved.png", there[nearest.ravel()], 8, 3, "The 8 nearest pictures of 432", texts)


def main(args: argparse.Namespace) -> None:
    models = build(args)
    run = Run(args, ["step", *MODELS])
    parts = (models[0].image_encoder, models[0].text_encoder)
    print("parameters: image encoder {:,}, text encoder {:,}".format(*(p.num_parameters() for p in parts)))
    train(models, args, run)
    run.model(models.state_dict())
    found = {}
    for name, model in zip(MODELS, models, strict=True):
        judge = judge_single if name == "single" else judge_pairs
        found[name] = judge(model, args.judged, SIDE, args.device, np.random.default_rng(args.seed + 2))
    run.curve({name: name for name in MODELS}, {"ln B": math.log(args.batch)}, "CLIP", "loss of a batch")
    save_examples(run.path, models, args)
    figures = figures_of(found, run.rows[0], args.batch)
    run.result(figures, "", table_of_columns(figures), steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
