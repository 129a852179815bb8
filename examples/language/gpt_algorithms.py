"""A GPT learns two algorithms from examples and is tested on inputs that it has never seen.

    python examples/language/gpt_algorithms.py  # both tasks, a few minutes on 2 cores
    python examples/language/gpt_algorithms.py --task sorting
    python examples/language/gpt_algorithms.py --resume  # goes on after Ctrl-C, or a kill

Sorting six digits is minGPT's demo (it sorts all of 5,000 inputs correctly). Adding two-digit numbers is
minGPT's adder: the sum is written backwards, because the model writes from left to right, and the carry
must go the same way.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.run import Run
from shared.table import Figure, at_least, table

from tinygen.data import Task, addition, sorting
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine

TASKS = {"sorting": sorting, "addition": addition}
STEPS = {"sorting": 1000, "addition": 4000}
EXPECTED = {"sorting": 1.0, "addition": 0.99}
SIZES = {"quick": {"task": "sorting", "steps": 100}, "full": FULL}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--task", choices=[*TASKS, "both"], default="both", help="what to learn")
    add_run_flags(parser, "runs/gpt_algorithms", "every 500 steps")
    add("--seed", type=number(int, 0), default=1337, help="of the weights and the batches")
    add("--layers", type=size(1, 1000), default=3, help="Transformer blocks")
    add("--heads", type=size(1), default=4, help="attention heads; must divide the width")
    add("--width", type=size(1), default=64, help="channels of the stream")
    add("--dropout", type=number(float, 0, 0.99), default=0.0, help="probability")
    add("--batch", type=size(1), default=128, help="examples per step")
    add("--steps", type=number(int, 1), default=None, help=f"optimizer steps; by default {STEPS}")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate")
    args = parser.parse_args()
    if args.width % args.heads:
        args.error(f"--heads {args.heads} does not divide --width {args.width}")
    args.save_every = args.save_every or 500
    return args


def accuracy(model: GPT, task: Task, prompts: np.ndarray) -> float:
    """The fraction of prompts whose greedy answer is right in every digit."""
    ids = model.sample(prompts, task.answer_size, temperature=0, rng=np.random.default_rng(0))
    return task.accuracy(prompts, ids[:, prompts.shape[1] :])


def train(model: GPT, task: Task, args: argparse.Namespace, run: Run) -> None:
    """The loop."""
    rng = np.random.default_rng(args.seed + 1)
    optimizer = AdamW(decay_groups(model, 0.1), betas=(0.9, 0.95))
    note = ""
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "batches": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 10, min(100, run.steps // 2), run.steps)
            x, y = task.random_batch(args.batch, rng)
            _, loss = model(x, y)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            run.log(step=step, batch_loss=loss.item())
            if (step + 1) % 100 == 0:
                right = accuracy(model, task, task.test)
                run.log(step=step, test_accuracy=right)
                run.score, note = 1 - right, f", {right:.1%} of unseen inputs right"
            run.show(loss.item(), note)


def learn_one(name: str, args: argparse.Namespace) -> list[Figure]:
    """One task, and its rows of the final table."""
    task = TASKS[name]()
    config = GPTConfig(task.vocab_size, task.block_size, args.layers, args.heads, args.width, args.dropout)
    model = GPT(config, rng=np.random.default_rng(args.seed)).to(args.device)
    run = run_of(name, args)
    train(model, task, args, run)
    run.model(model.state_dict())
    drawn = task.test[np.random.default_rng(args.seed + 2).integers(len(task.test), size=5000)]
    right, of_draws = accuracy(model, task, task.test), accuracy(model, task, drawn)
    run.curve({"batch_loss": "one batch"}, {}, f"GPT learns {name}", "cross-entropy (nats per answer token)")
    guess = float(task.vocab_size) ** -task.answer_size
    unseen = f"{name}: right, of {len(task.test)} unseen inputs"
    rows = [
        Figure(unseen, right, at_least(EXPECTED[name]), 1.0, guess),
        Figure(f"{name}: right, of 5,000 draws", of_draws, None, 1.0, guess),
    ]
    run.result(
        rows,
        test_accuracy=right,
        test_inputs=len(task.test),
        accuracy_of_5000_draws=of_draws,
        expected=EXPECTED[name],
        final_loss=[row["batch_loss"] for row in run.rows if "batch_loss" in row][-1],
        steps=run.steps,
    )
    return rows


def run_of(name: str, args: argparse.Namespace) -> Run:
    """The run of one task. Each task has its own folder, since a stopped run of two tasks may not have
    begun the second one when it is resumed."""
    folder = Path(args.out, name)
    of_task = argparse.Namespace(
        **{**vars(args), "resume": args.resume and (folder / "checkpoints").is_dir()}
    )
    columns = ["step", "batch_loss", "test_accuracy"]
    return Run(of_task, columns, folder, task=name, steps=args.steps or STEPS[name])


def main(args: argparse.Namespace) -> None:
    names = list(TASKS) if args.task == "both" else [args.task]
    for name in names:
        run_of(name, args)  # refuse a bad folder before the first task begins
    rows = [row for name in names for row in learn_one(name, args)]
    if len(names) > 1:
        print(table(rows))


if __name__ == "__main__":
    start(parse_args, main)
