"""Train two VAEs on real digits of 8 × 8 pixels, with β = 1 and with a small β, and compare them with PPCA.

    python examples/pictures/vae_digits.py  # some 20 seconds on 2 cores
    python examples/pictures/vae_digits.py --model conv --steps 2000  # some two minutes
    python examples/pictures/vae_digits.py --pixels bernoulli --latent 2  # the plane of codes, in walk.png
    python examples/pictures/vae_digits.py --resume  # goes on after Ctrl-C, or a kill

At β = 1 the loss is the negative lower bound of ln p(x), and samples from the prior are digits, but
blurred. With a small β the codes keep more of each picture, but their distribution is not the prior any
more, and samples from the prior are no digits. Such a model is the first stage of latent diffusion, where a
second model learns to sample codes.

Probabilistic PCA (PPCA) is the same model with Gaussian pixels and a linear decoder. Its ln p(x) is known
exactly, and the VAE's bound must be higher.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.judged_digits import JudgedDigits
from shared.measures import simple_likelihoods
from shared.pictures import save_grid
from shared.run import Run
from shared.table import Figure, at_most, more_than

from tinygen import nn, no_grad
from tinygen.arrays import to_device
from tinygen.data import digits
from tinygen.density import ProbabilisticPCA
from tinygen.judges.ssim import ssim
from tinygen.models.pictures.vae import VAE, ConvVAE
from tinygen.optim import Adam, warmup_cosine

PIXELS, WALK = digits.SIDE**2, 12  # pictures along each side of the walk
MOST = 60  # components of PPCA: three pixels never have ink
SIZES = {"quick": {"steps": 700, "lr": 4e-3, "eval_every": 700, "draws": 5}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/vae_digits", "at every evaluation")
    add("--model", choices=["dense", "conv"], default="dense", help="perceptrons or convolutions")
    add("--pixels", choices=["gaussian", "bernoulli"], default="gaussian", help="given a code")
    add("--latent", type=number(int, 2, PIXELS - 1), default=16, help="numbers in a code")
    add("--small-beta", type=number(float, 0, 1), default=1e-3, help="of the second model; the first has 1")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the batches and the samples")
    add("--batch", type=size(1), default=64, help="pictures per step")
    add("--steps", type=number(int, 1), default=4000, help="optimizer steps")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate")
    add("--eval-every", type=number(int, 1), default=400, help="steps between evaluations")
    add("--draws", type=size(1), default=200, help="codes a picture for the closer bound of ln p(x)")
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.pixels == "gaussian" and args.latent > MOST:
        args.error(f"--latent {args.latent}: three pixels never have ink, so PPCA needs {MOST} at most")
    return args


# -- pictures (N, 1, 8, 8) in [-1, 1], and inputs of the models ------------------------------------


def as_inputs(pictures: Any, args: argparse.Namespace) -> Any:
    """The pictures as inputs: in [0, 1] for Bernoulli pixels, as rows (N, 64) for perceptrons."""
    x = (pictures + 1) / 2 if args.pixels == "bernoulli" else pictures
    return x.reshape(len(x), PIXELS) if args.model == "dense" else x


def as_pictures(x: Any, args: argparse.Namespace) -> Any:
    x = x.reshape(len(x), 1, digits.SIDE, digits.SIDE)
    return 2 * x - 1 if args.pixels == "bernoulli" else x


# -- the loop --------------------------------------------------------------------------------------


def build(beta: float, args: argparse.Namespace) -> VAE:
    """A VAE with this β. Its initial weights do not depend on β."""
    rng = np.random.default_rng(args.seed)
    more: dict[str, Any] = {"latent": args.latent, "beta": beta, "pixels": args.pixels, "rng": rng}
    return ConvVAE(1, digits.SIDE, 16, **more) if args.model == "conv" else VAE(PIXELS, 256, **more)


@no_grad()
def bound(model: VAE, x: Any, rng: np.random.Generator) -> float:
    """The lower bound of ln p(x), in nats a picture, with one code each."""
    _, reconstruction, kl = model.losses(x, rng=rng)
    return -float(reconstruction.item() + kl.item())


def codes(model: VAE, x: Any) -> Any:
    """The means of q(z|x), (N, Z), on the CPU."""
    return to_device(model.encode(to_device(x, model.encoder.mean.weight.device)), "cpu")


def learn_both(models: Any, train: Any, test: Any, args: argparse.Namespace, run: Run) -> None:
    """The loop: each step, both models see the same pictures."""
    optimizer, rng = Adam(models.parameters()), generator(args.seed + 1, args.device)
    with run:
        for step in run.loop({"models": models, "optimizer": optimizer, "rng": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, 0.0, min(50, args.steps // 2), args.steps)
            batch = train[rng.integers(len(train), size=args.batch)]
            optimizer.zero_grad()
            with run.share(batch) as (x,):  # the two models share no weights
                loss = run.backward(sum(model.loss(x, rng=rng) for model in models), *models)
            optimizer.step()
            run.show(loss)
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                look = np.random.default_rng(args.seed + 2)  # the same noise at every evaluation
                row = {name: -bound(models[0], x, look) for name, x in (("train", train), ("test", test))}
                row["small_beta"] = -bound(models[1], test, look)
                run.log(step=step + 1, **row)
                run.say(f"step {step + 1:5d}   {'   '.join(f'{k} {v:.2f}' for k, v in row.items())} nats")


# -- the results -----------------------------------------------------------------------------------


def walk(model: VAE, x: Any) -> Any:
    """WALK × WALK pictures decoded from a plane of codes. The two numbers of the code that carry the most
    information about the pictures x go from the 2nd to the 98th percentile of the prior, ±2.05; the others
    are 0."""
    first, second = np.argsort(codes(model, x).var(axis=0))[-2:]
    z, steps = np.zeros((WALK, WALK, model.latent), np.float32), np.linspace(-2.05, 2.05, WALK)
    z[..., first], z[..., second] = steps[:, None], steps
    return to_device(model.decode(z.reshape(WALK * WALK, model.latent)), "cpu")


def judge_samples(models: Any, train: Any, test: Any, args: argparse.Namespace, run: Run) -> list[Figure]:
    """The judge's figures for samples and reconstructions; their pictures are saved in the run's folder."""
    judged = JudgedDigits(train, test)
    rng, n, opinion = np.random.default_rng(args.seed + 3), len(test.pictures), judged.judge.opinion
    ppca = ProbabilisticPCA(min(args.latent, MOST)).fit(train.pictures.reshape(-1, PIXELS))
    # The means of the pixels, without noise, as for the VAEs.
    linear = rng.multivariate_normal(ppca.mean_, ppca.loadings_ @ ppca.loadings_.T, n, method="eigh")

    by_ppca = judged.distance(opinion(linear.reshape(test.pictures.shape).astype(np.float32)))
    figures = [judged.spread_figure(), judged.distance_figure("PPCA: samples' ", by_ppca)]
    rows = [test.pictures[:16]]
    for model, file in zip(models, ("samples", "samples_small_beta"), strict=True):
        samples = as_pictures(to_device(model.sample(n, rng=rng), "cpu"), args)
        again = to_device(model.decode(codes(model, as_inputs(test.pictures, args))), "cpu")
        again = as_pictures(again, args)
        rows.append(again[:16])
        name, seen = f"β = {model.beta:g}", opinion(samples)
        save_grid(run.path / f"{file}.png", samples[:64], 16, title=f"Samples of the VAE with {name}")
        expected = at_most(1.2 * by_ppca) if model.beta == 1 else None
        figures += [
            judged.distance_figure(f"{name}: samples' ", judged.distance(seen), expected),
            judged.distance_figure(f"{name}: reconstructions' ", judged.distance(opinion(again))),
            Figure(f"{name}: reconstructions' SSIM", ssim(again, test.pictures, sigma=0.8), None, 1.0),
            judged.confidence_figure(f"{name}: the judge's confidence in samples", seen),
        ]
    labels = ["test digits", *(f"with β = {model.beta:g}" for model in models)]
    save_grid(run.path / "reconstructions.png", np.concatenate(rows), 16, 4, "Reconstructions", labels)
    plane = as_pictures(walk(models[0], as_inputs(train.pictures, args)), args)
    save_grid(run.path / "walk.png", plane, WALK, title="A walk through the plane of two numbers of the code")
    return figures


def main(args: argparse.Namespace) -> None:
    train, test = digits.load()
    run = Run(args, ["step", "train", "test", "small_beta"])
    mean_only, linear, best = simple_likelihoods(train.pictures, test.pictures, args.pixels, args.latent)
    models = nn.ModuleList([build(beta, args) for beta in (1.0, args.small_beta)]).to(args.device)
    print(f"1297 digits to learn from, 500 to test on; twice {models[0].num_parameters():,} parameters")
    x, y = (to_device(as_inputs(part.pictures, args), args.device) for part in (train, test))
    learn_both(models, x, y, args, run)
    run.model(models.state_dict())

    rng = np.random.default_rng(args.seed + 4)
    lower = float(np.mean([bound(models[0], y, rng) for _ in range(10)]))
    closer = float(models[0].log_p(y, args.draws, rng=rng).mean())
    bar = more_than(mean_only if linear is None else linear)
    figures = [
        Figure("β = 1: bound of ln p, nats a test picture", lower, bar, best, mean_only),
        Figure(f"β = 1: the same by {args.draws} codes", closer, more_than(lower), best, mean_only),
        Figure(f"β = {args.small_beta:g}: bound of ln p", bound(models[1], y, rng), None, best, mean_only),
        *judge_samples(models, train, test, args, run),
    ]
    run.curve(
        {"train": "β = 1, training digits", "test": "β = 1, test digits"},
        {"the mean picture": -mean_only} | ({} if linear is None else {"PPCA": -linear}),
        f"VAE on digits: {-lower:.1f} nats a picture",
        "- bound of ln p (nats a picture)",
    )
    about = "baseline: the mean picture, or noise; best distance: equally many other real digits"
    run.result(figures, "", about, bound=lower, ppca=linear, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
