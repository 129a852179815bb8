"""Scaling laws: the loss of GPTs of eight sizes after several numbers of tokens, beside the exact entropy.

    python examples/language/scaling_laws.py           # what the table of finished runs lacks, minutes
    python examples/language/scaling_laws.py --resume  # goes on after Ctrl-C, or a kill

Each step trains one model, and each token comes once. L(N, D) = E + A/N^α + B/D^β is fitted to all models
(Hoffmann et al. 2022, arXiv:2203.15556). The text is a Markov chain whose entropy is known, so the fitted E
can be compared with it. --predictions first writes down the losses of larger models, and then trains them.
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
from shared import scaling
from shared.flags import Flags, add_run_flags, number
from shared.run import Run
from shared.table import Figure, at_least, at_most

from tinygen.arrays import to_device
from tinygen.data.markov import MarkovSource
from tinygen.models import GPT
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine
from tinygen.text.scaling_laws import fit_power_law

TABLE = Path(__file__).parents[2] / "docs" / "results" / "scaling_laws.csv"
WIDTHS = (8, 12, 16, 20, 24, 32, 48, 64)
LARGER = ((144, 2**22), (64, 2**24))  # width and tokens: at least 8 times the compute of all others
SIZES = {
    "quick": {"sizes": 4, "smallest": 14, "budgets": 3, "bootstrap": 20},
    "full": {"seed": 0, "predictions": len(LARGER)},
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/scaling_laws", "after each model")
    add("--seed", type=number(int, 0), default=0, help="of the weights and the text for training")
    add("--sizes", type=number(int, 3, len(WIDTHS)), default=len(WIDTHS), help="models, smallest first")
    add("--smallest", type=number(int, 10, 20), default=18, help="log2 of the least number of tokens")
    add("--budgets", type=number(int, 3, 8), default=4, help="numbers of tokens, each twice the one before")
    add("--predictions", type=number(int, 0, len(LARGER)), default=0, help="larger models, predicted first")
    add("--table", default=str(TABLE), help="finished runs, which are not repeated")
    add("--bootstrap", type=number(int, 2, 10_000), default=200, help="draws for the intervals")
    add("--lr", type=number(float, 0), default=0.25, help="highest learning rate, times the width")
    args = parser.parse_args()
    args.save_every = args.save_every or 1
    return args


def train(model: GPT, text: MarkovSource, tokens: int, lr: float, seed: int, device: str) -> None:
    """The training of one model, on each token once. The schedule ends with the tokens."""
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98))
    steps = -(-tokens // (scaling.ROWS * scaling.CONTEXT))
    parts = scaling.batches(text, tokens, scaling.ROWS, np.random.default_rng(seed))
    for step, batch in enumerate(parts):
        _, loss = model(*(to_device(part, device) for part in batch))
        assert loss is not None
        optimizer.lr = warmup_cosine(step, lr, 0.05 * lr, steps // 20 + 1, steps)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()


def measure_all(cells: list[tuple[int, int]], text: MarkovSource, args: argparse.Namespace, run: Run) -> None:
    """The loop: a model in each step, the cheapest first. The larger ones come last; before the first of
    them, what the fit predicts for them is written down."""
    entropy, table = text.entropy_rate(), scaling.read_table(Path(args.table))
    fitted = len(cells) - args.predictions
    with run:
        for step in run.loop({}, "models"):
            if step == fitted:
                scaling.write_predictions(run.path / "predictions.csv", run.rows, cells[fitted:])
            width, tokens = cells[step]
            row: Any = table.get((args.seed, width, tokens, args.lr))
            if row is None:
                model = scaling.build(width, args.seed).to(args.device)
                train(model, text, tokens, args.lr / width, args.seed, args.device)
                loss = entropy + scaling.loss_above_entropy(model, text, args.device)
                numbers = (args.seed, width, scaling.parameters(width), tokens, args.lr, loss)
                row = dict(zip(scaling.COLUMNS, numbers, strict=True))
                run.model(model.state_dict())  # the last one that was trained
            run.log(**row)
            run.show(row["loss"], f", width {width}, {tokens:,} tokens")


def main(args: argparse.Namespace) -> None:
    text, tokens = scaling.source(), [2 ** (args.smallest + i) for i in range(args.budgets)]
    cells = sorted(
        product(WIDTHS[: args.sizes], tokens), key=lambda each: scaling.parameters(each[0]) * each[1]
    )
    run = Run(args, [*scaling.COLUMNS], steps=len(cells) + args.predictions)
    measure_all([*cells, *LARGER[: args.predictions]], text, args, run)

    entropy, rows, larger = text.entropy_rate(), run.rows[: len(cells)], run.rows[len(cells) :]
    law, above = scaling.fit(rows), [row["loss"] - entropy for row in rows]
    errors = [law.loss(row["parameters"], row["tokens"]) / row["loss"] - 1 for row in rows]
    figures = [
        Figure("loss above the entropy falls, times", max(above) / min(above), at_least(5), None, 1.0),
        Figure("fitted E: distance from the entropy, nats", abs(law.E - entropy), at_most(0.05), 0.0),
        *(Figure(f"fit: {name}", getattr(law, name)) for name in vars(law)),
        Figure("fit: largest error of a loss, %", 100 * float(np.max(np.abs(errors))), at_most(2)),
        Figure("best size: exponent of compute", law.beta / (law.alpha + law.beta)),
    ]
    compute = [6 * row["parameters"] * row["tokens"] for row in rows]
    budgets = np.geomspace(4 * min(compute), max(compute) / 4, 9).tolist()
    curves = scaling.isoflops(rows, budgets)
    lowest = scaling.frontier(curves, budgets)  # (compute, size, loss)
    if len(lowest) >= 4:
        spent, sizes, losses = np.array(lowest).T
        power = fit_power_law(spent, losses)
        figures += [
            Figure(
                "best size: exponent of compute, by parabolas", np.polyfit(np.log(spent), np.log(sizes), 1)[0]
            ),
            Figure("L(C) = a C^b + c: b", power.b),
            Figure("L(C) = a C^b + c: c", power.c, None, entropy),
        ]
    for row in larger:
        error = abs(float(law.loss(row["parameters"], row["tokens"])) - row["loss"])
        name = f"predicted, {row['parameters']:,.0f} parameters, {row['tokens']:,.0f} tokens: error of"
        figures += [
            Figure(f"{name} L, %", 100 * error / row["loss"], at_most(2)),
            Figure(f"{name} L - H, %", 100 * error / (row["loss"] - entropy), at_most(15)),
        ]
    scaling.save_scaling(run.path / "scaling.png", rows, law, entropy, curves, lowest)
    foot = scaling.intervals(rows, args.bootstrap, args.seed)
    run.result(figures, foot=f"entropy {entropy:.4f}; 95 % intervals: {foot}", entropy=entropy)


if __name__ == "__main__":
    start(parse_args, main)
