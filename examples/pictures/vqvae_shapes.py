"""Train a VQ-VAE on captioned shapes: 32×32 pictures as 8×8 code numbers, and back, read by a judge.

    python examples/pictures/vqvae_shapes.py  # some 2 minutes on 2 cores
    python examples/pictures/vqvae_shapes.py --codes 512 --out runs/more_codes
    python examples/pictures/vqvae_shapes.py --resume  # goes on after Ctrl-C or a kill, to the same bits

There are two baselines: k-means of 4×4 patches, with the same number of bits a picture, and PCA with as
many numbers as there are codes. The judge, `tinygen.judges.shapes_parser`, is a program without learned
parameters; it reads shape, color, size and position from a picture. For pairs of shape and color that were
not in training, the reconstructions keep the color, but keep the shape less often.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.measures import join_patches, k_means, patches, psnr
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, more_than

from tinygen import no_grad
from tinygen.arrays import to_device
from tinygen.data import shapes
from tinygen.density import PCA
from tinygen.judges import shapes_parser
from tinygen.models.pictures.vqvae import VQVAE, perplexity
from tinygen.optim import Adam, warmup_cosine

SIDE, PATCH = 32, 4
MAP = SIDE // PATCH
QUICK = {"steps": 150, "eval_every": 150, "width": 32, "batch": 16, "lr": 4e-3, "codes": 64, "test": 100}
SIZES = {"quick": QUICK, "full": FULL}
RESTART_EVERY = 50  # steps; codes out of use get a new place, in the first three quarters of the run


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/vqvae_shapes", "at every evaluation")
    add("--seed", type=number(int, 0), default=0, help="of the weights and the pictures")
    add("--width", type=size(2), default=64, help="channels inside encoder and decoder")
    add("--dim", type=size(1), default=16, help="numbers of a code's vector")
    add("--codes", type=size(2), default=256, help="vectors in the codebook")
    add("--codebook", choices=("ema", "gradient"), default="ema", help="what moves the codes")
    add("--decay", type=number(float, 0, 0.9999), default=0.95, help="of the codes' means and counts")
    add("--beta", type=number(float, 0), default=0.25, help="weight of the commitment term")
    add("--batch", type=size(1), default=32, help="pictures per step")
    add("--steps", type=number(int, 1), default=3000, help="optimizer steps")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate")
    add("--eval-every", type=number(int, 1), default=250, help="steps between evaluations")
    add("--test", type=size(8), default=1000, help="pictures of each split to judge by")
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    return args


# -- baselines -------------------------------------------------------------------------------------


@no_grad()
def baselines(train: Any, tests: dict[str, Any], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Reconstructions of the pictures in `tests` without a network: k-means and PCA, fitted to `train`."""
    pca = PCA(min(MAP * MAP, len(train))).fit(train.reshape(len(train), -1))
    quantizer = k_means(patches(train, PATCH), args.codes, np.random.default_rng(args.seed + 4))
    found = {}
    for split, test in tests.items():
        flat = test.reshape(len(test), -1)
        found[split] = {
            "k-means": join_patches(quantizer(patches(test, PATCH)).z.data, PATCH),
            "PCA": pca.inverse_transform(pca.transform(flat)).reshape(test.shape),
            "mean picture": np.broadcast_to(pca.mean_.reshape(test.shape[1:]), test.shape),
        }
    return found


# -- the model -------------------------------------------------------------------------------------


def reconstruct(model: VQVAE, pictures: Any) -> tuple[Any, Any]:
    """The model's reconstructions, and the codes of the pictures."""
    device = model.quantizer.codebook.device
    model.eval()
    codes = [model.encode(to_device(pictures[i : i + 100], device)) for i in range(0, len(pictures), 100)]
    made = [to_device(model.decode(some), "cpu") for some in codes]
    model.train()
    return np.concatenate(made), np.concatenate([to_device(some, "cpu") for some in codes])


def train_model(model: VQVAE, tests: dict[str, Any], args: argparse.Namespace, run: Run) -> None:
    """The loop."""
    rng = np.random.default_rng(args.seed + 1)
    optimizer = Adam(model.parameters())

    def log_evaluation(step: int) -> None:
        seen: dict[str, float] = {}
        for split, pictures in tests.items():
            made, codes = reconstruct(model, pictures[:200])
            seen |= {split: psnr(made, pictures[:200]), "perplexity": perplexity(codes, args.codes)}
        run.log(step=step, **seen)
        found = "   ".join(f"{name} {value:.2f}" for name, value in seen.items())
        run.say(f"step {step:5d}   PSNR in dB: {found}")

    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "rng": rng}):
            if step == 0:
                model.restart(
                    to_device(shapes.batch(args.batch, SIDE, rng)[0], args.device), below=np.inf, rng=rng
                )
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 20, min(100, args.steps // 2), args.steps)
            pictures = to_device(shapes.batch(args.batch, SIDE, rng)[0], args.device)
            optimizer.zero_grad()
            with run.share(pictures) as (own,):
                losses = model.losses(own)
                total = run.backward(losses.total, model)
                error, commitment = run.mean(losses.reconstruction), run.mean(losses.commitment)
            optimizer.step()
            if step % RESTART_EVERY == 0 and step < 0.75 * args.steps:
                model.restart(pictures, rng=rng)
            run.log(step=step + 1, reconstruction=error, commitment=commitment)
            run.show(total)
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                log_evaluation(step + 1)


def judge(made: Any, codes: Any, others: dict[str, Any], truth: Any, scenes: Any, k: int) -> dict[str, Any]:
    """All figures for one split, for result.json."""
    return {
        "psnr": psnr(made, truth),
        **{f"psnr of {name}": psnr(other, truth) for name, other in others.items()},
        "read": shapes_parser.accuracy(made, scenes),
        "read of k-means": shapes_parser.accuracy(others["k-means"], scenes),
        "perplexity": perplexity(codes, k),
        "codes in use": len(np.unique(codes)),
    }


def figures(found: dict[str, Any], which: str, k: int) -> list[Figure]:
    """The rows of the final table for one split."""
    better, mean = more_than(found["psnr of k-means"]), found["psnr of mean picture"]
    rows = [Figure(f"PSNR in dB, {which}", found["psnr"], better, None, mean)]
    rows += [Figure(f"    of {name}", found[f"psnr of {name}"]) for name in ("k-means", "PCA")]
    kinds: tuple[Any, ...] = (shapes.SHAPES, shapes.COLORS, shapes.SIZES, shapes.POSITIONS, shapes.SCENES)
    counts = [len(kind) for kind in kinds]
    for name, count in zip(("shape", "color", "size", "position", "all"), counts, strict=True):
        rows.append(Figure(f"{name} read right, {which}", found["read"][name], None, 1.0, 1 / count))
    rows.append(Figure("    of k-means", found["read of k-means"]["all"], None, 1.0))
    rows.append(Figure(f"all surely read right, {which}", found["read"]["surely all"], None, 1.0))
    rows.append(Figure(f"perplexity of the codes, {which}", found["perplexity"], None, k, 1))
    return [*rows, Figure("    codes in use", found["codes in use"], None, k, 1)]


def main(args: argparse.Namespace) -> None:
    run = Run(args, ["step", "reconstruction", "commitment", "train", "held_out", "perplexity"])
    rng = np.random.default_rng(args.seed + 2)
    some, _ = shapes.batch(args.test, SIDE, rng)
    drawn = {split: shapes.batch(args.test, SIDE, rng, split) for split in shapes.SPLITS}
    tests = {split: pictures for split, (pictures, _) in drawn.items()}
    ema, rng = args.codebook == "ema", np.random.default_rng(args.seed)
    model = VQVAE(3, args.width, args.dim, args.codes, args.beta, ema, args.decay, rng=rng).to(args.device)
    bits = MAP * MAP * float(np.log2(args.codes))
    print(f"VQ-VAE with {model.num_parameters():,} parameters; a picture is {bits:.0f} bits of codes")
    train_model(model, tests, args, run)
    run.model(model.state_dict())

    rows: list[Figure] = []
    result: dict[str, Any] = {}
    others = baselines(some, tests, args)
    for split, (pictures, scenes) in drawn.items():
        made, codes = reconstruct(model, pictures)
        result[split] = judge(made, codes, others[split], pictures, scenes, args.codes)
        rows += figures(result[split], f"{split.replace('_', ' ')} pairs", args.codes)
        shown = (pictures, made, others[split]["k-means"], others[split]["PCA"])
        some, title = np.concatenate([p[:12] for p in shown]), f"Pictures of {split.replace('_', ' ')} pairs"
        save_grid(run.path / f"{split}.png", some, 12, 3, title, ["truth", "VQ-VAE", "k-means", "PCA"])
    found = result["held_out"]
    run.curve(
        {"train": "training pairs", "held_out": "held-out pairs"},
        {name: found[f"psnr of {name}"] for name in ("k-means", "mean picture")},
        f"VQ-VAE: {found['psnr']:.1f} dB on pairs of shape and color never seen",
        "PSNR (dB)",
    )
    run.result(rows, **result, steps=run.steps, bits=bits)


if __name__ == "__main__":
    start(parse_args, main)
