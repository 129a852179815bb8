"""Learning in context: models answer with functions, and with words, that only their prompt shows.

    python examples/language/in_context.py           # some minutes on 2 cores
    python examples/language/in_context.py --resume  # goes on after Ctrl-C, or a kill

Linear functions (Garg et al. 2022, arXiv:2208.01066): a prompt has pairs x, y of a random linear function,
and a decoder predicts the next y. The best answer is known: least squares, with noise ridge regression.
Copying (Olsson et al. 2022, arXiv:2209.11895): texts repeat themselves, and an induction head looks at what
came after the last token when it was there before. The score of each head shows when such heads appear.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any

import numpy as np
from shared.contexts import (
    HEADS,
    LENGTH,
    SYMBOLS,
    PairDecoder,
    errors_of_kinds,
    measure_copies,
    repeated_texts,
    save_errors,
    save_heads,
)
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.run import Run
from shared.table import Figure, at_least, at_most

from tinygen.arrays import to_device
from tinygen.data.linear_functions import LinearFunctions
from tinygen.models import GPT, GPTConfig
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine

SIZES = {
    "quick": {"dim": 1, "layers": 2, "channels": 32, "batch": 32, "steps": 400, "copy_steps": 20, "lr": 3e-3},
    "full": FULL | {"steps": 40_000},
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/in_context", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the prompts and the texts")
    add("--dim", type=size(1, 100), default=5, help="dimensions of x; a prompt has 2 dim + 1 pairs")
    add("--noise", type=number(float, 0), default=0.5, help="standard deviation, in the prompts with noise")
    add("--layers", type=size(1, 100), default=4, help="blocks of the decoders of pairs")
    add("--channels", type=size(4), default=64, help="their width, a multiple of their 4 heads")
    add("--batch", type=size(1), default=64, help="prompts per step; a quarter as many texts")
    add("--steps", type=number(int, 20), default=12_000, help="optimizer steps of the decoders of pairs")
    add("--copy-steps", type=number(int, 1), default=3000, help="the first of these steps also train copying")
    add("--lr", type=number(float, 0), default=1e-3, help="highest learning rate")
    args = parser.parse_args()
    if args.channels % 4:
        args.error(f"--channels {args.channels} is no multiple of 4")
    args.save_every = args.save_every or 500
    args.copy_steps = min(args.copy_steps, args.steps)
    return args


class Learner:
    """A model and its optimizer."""

    def __init__(self, model: Any, lr: float, steps: int) -> None:
        self.model, self.lr, self.steps = model, lr, steps
        self.optimizer = Adam(model.parameters(), betas=(0.9, 0.98))

    def update(self, step: int, loss: Any) -> float:
        """A step down the gradient of the loss."""
        self.optimizer.lr = warmup_cosine(step, self.lr, 0.0, self.steps // 50, self.steps)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.item())


def train(learners: dict[str, Learner], noises: dict[str, float], args: Any, run: Run) -> None:
    """The loop. The decoders of pairs see the same x. Their curriculum begins with one dimension and three
    pairs. After each twentieth of the steps it adds a dimension and two pairs, up to D (Garg et al. 2022)."""
    rng = np.random.default_rng(args.seed + 1)
    copier, test = learners["copying"], repeated_texts(200, rng=np.random.default_rng(args.seed + 2))
    things = {name: each.model for name, each in learners.items()}
    things |= {f"{name} optimizer": each.optimizer for name, each in learners.items()}
    with run:
        for step in run.loop({**things, "batches": rng}, "pairs"):
            dims, row = min(args.dim, 1 + 20 * step // args.steps), {}
            x = rng.standard_normal((args.batch, 2 * dims + 1, args.dim), np.float32)
            x[..., dims:] = 0
            for name, noise in noises.items():
                y = LinearFunctions(args.dim, noise).answer(x, rng=rng).astype(np.float32)
                there = to_device(x, args.device), to_device(y, args.device)
                loss = ((learners[name].model(*there) - there[1]) ** 2).mean()
                row[name] = learners[name].update(step, loss)
            run.show(row["without noise"])
            if step < args.copy_steps:
                run.enter("copying")
                text, targets, _ = repeated_texts(-(-args.batch // 4), rng=rng)
                row["copying"] = copier.update(step, copier.model(text, targets)[1])
                if step % 50 == 0 or step + 1 == args.copy_steps:
                    row |= measure_copies(copier.model, *test)
                run.enter("pairs")
            run.log(step=step, **row)


def main(args: argparse.Namespace) -> None:
    noises, rng = {"without noise": 0.0, "with noise": args.noise}, np.random.default_rng(args.seed)
    pairs, shape = 2 * args.dim + 1, (args.layers, 4, args.channels)
    models: dict[str, Any] = {name: PairDecoder(args.dim, pairs, *shape, rng=rng) for name in noises}
    models["copying"] = GPT(GPTConfig(SYMBOLS, LENGTH, 2, 4, 64), rng=rng)
    steps = {**dict.fromkeys(noises, args.steps), "copying": args.copy_steps}
    learners = {name: Learner(each.to(args.device), args.lr, steps[name]) for name, each in models.items()}
    run = Run(args, ["step", *learners, "right", *HEADS])
    train(learners, noises, args, run)
    run.model({f"{name}.{key}": p for name, model in models.items() for key, p in model.state_dict().items()})

    rows, errors, bar = [], {}, at_most(0.05 if args.size == "full" else 0.1)
    for name, noise in noises.items():
        f = LinearFunctions(args.dim, noise)
        for kind, found in errors_of_kinds(models[name], f, pairs, args.device, rng=args.seed + 3).items():
            errors[f"{name}{kind}"] = found
            above, zero = found["model"] - found["best"], found["zero"] - found["best"]
            title = f"{name}{kind}: most of error / D above the best"
            rows.append(Figure(title, above.max(), None if kind else bar, 0.0, zero.max()))
    measured = [row for row in run.rows if "right" in row]
    scores = [max(row[head] for head in HEADS) for row in measured]
    begun = next(row["step"] for row, x in zip(measured, scores, strict=True) if x >= scores[-1] / 2)
    rows += [
        Figure("copying: right", measured[-1]["right"], at_least(0.95), 1.0, 1 / SYMBOLS),
        Figure("copying: score of the best induction head", scores[-1], at_least(0.5), 1.0, 2 / LENGTH),
        Figure("copying: step at which this score was half as high", begun),
    ]
    save_errors(run.path / "errors.png", errors)
    save_heads(run.path / "heads.png", measured)
    run.result(rows)


if __name__ == "__main__":
    start(parse_args, main)
