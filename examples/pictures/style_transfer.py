"""Paint photographs in the style of textures: style transfer (Gatys, Ecker & Bethge 2016).

    python examples/pictures/style_transfer.py  # scikit-learn's two photographs, three textures
    python examples/pictures/style_transfer.py --resume  # goes on after Ctrl-C or a kill
    python examples/pictures/style_transfer.py --content ME.jpg --style PAINTING.jpg
    python examples/pictures/style_transfer.py --vgg vgg19-dcbb9e9d.pth --content-layer conv4_2

The network of the paper, VGG-19, is used if its file is given. Without it a small network learns to tell from
which place of the photographs, or from which texture, a patch comes; beside it stands the same network with
random filters. Each picture starts as the photograph. Two figures say what becomes of it: by which factor the
style loss falls, and the correlation of the features in the content layer with those of the photograph.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from itertools import product
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.photographs import Patches, load_photographs, read_picture
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_least

from tinygen import nn, ops
from tinygen.arrays import to_device
from tinygen.data.textures import TEXTURES
from tinygen.models.pictures.style import StyleTransfer, color_factor, transfer
from tinygen.models.pictures.vgg import VGG, load_torchvision
from tinygen.optim import Adam

WIDTHS = ((32,), (64,), (64,), (64,))
STYLES = ("strokes", "waves", "cells")
SWEEP = (0.1, 1, 10)  # factors of --alpha
QUICK = {"steps": 3, "batch": 4, "side": 32, "evaluations": 8}
SIZES = {"quick": QUICK, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/style_transfer", "a tenth of the training")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the patches and the textures")
    add("--content", nargs="+", metavar="FILE", help="pictures, in place of the photographs")
    add("--style", nargs="+", metavar="FILE", help="pictures, in place of the textures")
    add("--vgg", metavar="FILE", help="torchvision's weights of VGG-19, in place of the small network")
    add("--side", type=size(16, 1024), default=128, help="pixels; pictures are cut to squares")
    add("--steps", type=number(int, 1), default=500, help="optimizer steps of the small network")
    add("--batch", type=size(1), default=24, help="patches per step")
    add("--lr", type=number(float, 0), default=2e-3, help="learning rate at the start; it falls to 0")
    add("--alpha", type=number(float, 0), default=8e-6, help="weight of the content; the style's is 1")
    add("--content-layer", default="conv4_1", help="whose features are kept")
    add("--style-layers", type=size(1, 5), default=4, help="conv1_1 to at most conv5_1, so many of them")
    add("--evaluations", type=number(int, 1), default=150, help="of the loss and its gradient, a picture")
    add("--power", type=number(float, 0, 2), default=0.7, help="of the frequencies; 0: pixels, as the paper")
    args = parser.parse_args()
    args.save_every = args.save_every or max(1, args.steps // 10)
    if not args.vgg and not (args.style_layers <= 4 and args.content_layer in VGG(WIDTHS, rng=0).names):
        parser.error("the small network has conv1_1, conv2_1, conv3_1 and conv4_1: more layers need --vgg")
    return args


def train(network: VGG, head: nn.Linear, patches: Patches, args: Any, run: Run) -> None:
    """The loop: the network and a linear layer on the means of its features learn whence patches come."""
    rng = generator(args.seed + 1, args.device)
    optimizer = Adam([*network.parameters(), *head.parameters()])
    things = {"network": network, "head": head, "optimizer": optimizer, "patches": rng}
    with run:
        for step in run.loop(things):
            optimizer.lr = args.lr * (1 - step / args.steps)
            pictures, labels = patches.draw(args.batch, rng)
            features = network(to_device(pictures, args.device))  # (B, 64, 5, 5)
            loss = ops.cross_entropy(head(features.mean(axis=(2, 3))), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(step=step, loss=loss.item())
            run.show(loss.item())


def paint(network: VGG, content: Any, style: Any, alpha: float, args: Any) -> tuple[Any, dict[str, float]]:
    """A picture (1, 3, side, side), and how far its style and its content are from those wanted."""
    layers = [f"conv{stage}_1" for stage in range(1, args.style_layers + 1)]
    on = [to_device(picture, args.device) for picture in (content, style)]
    objective = StyleTransfer(network, on[0], on[1], args.content_layer, layers, alpha)
    x = transfer(objective, on[0], args.evaluations, args.power, color_factor(style) if args.power else None)
    before, after = (objective.losses(picture)["style"].item() for picture in (on[0], x))
    figures = {"factor": before / after, "kept": objective.correlation(x)}
    return to_device(x, "cpu"), figures


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed)
    contents = [read_picture(path, args.side) for path in args.content or ()] or load_photographs(args.side)
    if args.style:
        styles = {Path(path).name: read_picture(path, args.side) for path in args.style}
    else:
        styles = {name: TEXTURES[name](args.side, rng=rng)[None] for name in STYLES}
    run = Run(args, ["step", "loss"])
    shown = to_device(np.concatenate([*contents, *styles.values()]), args.device)
    if args.vgg:
        networks = {"VGG-19": load_torchvision(args.vgg, "average").to(args.device)}
        run.begin()  # the folder: nothing is trained
    else:
        patches = Patches(rng)
        networks = {name: VGG(WIDTHS, rng=args.seed).to(args.device) for name in ("trained", "random")}
        for network in networks.values():
            network.initialize(to_device(patches.draw(64, rng)[0], args.device))
        head = nn.Linear(WIDTHS[-1][0], patches.classes, rng=args.seed).to(args.device)
        train(networks["trained"], head, patches, args, run)
        run.model(networks["trained"].state_dict())
    for network in networks.values():
        network.equalize(shown)
    run.enter("transfer")
    figures, painted = [], {}
    for name, network in networks.items():
        made = [paint(network, *pair, args.alpha, args) for pair in product(contents, styles.values())]
        painted[name] = [found for _, found in made]
        for what, text, bar, best, start_ in (
            ("factor", "style loss falls by a factor of", 20, None, 1.0),
            ("kept", "correlation with the content's features", 0.8, 1.0, 0.0),
        ):
            values = [found[what] for found in painted[name]]
            expected = at_least(bar) if name != "random" else None
            figures.append(Figure(f"{name}: {text}", float(np.mean(values)), expected, best, start_))
            figures.append(Figure("    the lowest of all pictures", min(values)))
        rows = [np.ones_like(contents[0]), *styles.values()]
        for i, content in enumerate(contents):
            rows += [content, *(x for x, _ in made[i * len(styles) : (i + 1) * len(styles)])]
        title, labels = f"Features: {name}", ["", *styles]
        save_grid(run.path / f"{name}.png", np.concatenate(rows), len(labels), 1, title, (), labels)
    first = next(iter(networks.values()))
    sweep = [paint(first, contents[0], next(iter(styles.values())), args.alpha * by, args) for by in SWEEP]
    for by, (_, found) in zip(SWEEP, sweep, strict=True):
        figures.append(Figure(f"α × {by}: style loss falls by a factor of", found["factor"]))
        figures.append(Figure(f"α × {by}: correlation with the content's features", found["kept"]))
    save_grid(
        run.path / "sweep.png",
        np.concatenate([x for x, _ in sweep]),
        len(SWEEP),
        2,
        "",
        (),
        [f"α × {by}" for by in SWEEP],
    )
    run.result(figures, "", steps=run.steps, pictures=painted)


if __name__ == "__main__":
    start(parse_args, main)
