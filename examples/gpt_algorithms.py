"""A GPT learns two algorithms from examples and is tested on inputs that it has never seen.

    python examples/gpt_algorithms.py               # both tasks, a few minutes on 2 cores
    python examples/gpt_algorithms.py --task sorting
    python examples/gpt_algorithms.py --resume      # goes on after Ctrl-C, or a kill

Sorting six digits is minGPT's demo (all of 5,000 right); adding two-digit numbers is its adder, the sum
written backwards, so that a carry goes the way the model writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from common import Flags, RunFolder, Stop, add_run_flags, number, settings_of, start
from tqdm import tqdm

from tinygen.data import Task, addition, sorting
from tinygen.models.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine

TASKS = {"sorting": sorting, "addition": addition}
STEPS = {"sorting": 1000, "addition": 4000}
EXPECTED = {"sorting": 1.0, "addition": 0.99}


def flags() -> argparse.Namespace:
    parser = Flags(__doc__.split("\n")[0])
    add = parser.add_argument
    add("--task", choices=[*TASKS, "both"], default="both", help="what to learn")
    add_run_flags(parser, "runs/gpt_algorithms", "every 500 steps")
    add("--seed", type=number(int, 0), default=1337, help="of the weights and the batches")
    add("--layers", type=number(int, 1), default=3, help="Transformer blocks")
    add("--heads", type=number(int, 1), default=4, help="attention heads; must divide the width")
    add("--width", type=number(int, 1), default=64, help="channels of the stream")
    add("--dropout", type=number(float, 0, 0.99), default=0.0, help="probability")
    add("--batch", type=number(int, 1), default=128, help="examples per step")
    add("--steps", type=number(int, 1), default=None, help=f"optimizer steps; by default {STEPS}")
    add("--lr", type=number(float, 0), default=2e-3, help="highest learning rate")
    args = parser.parse_args()
    if args.width % args.heads:
        args.error(f"--heads {args.heads} does not divide --width {args.width}")
    args.save_every = args.save_every or 500
    return args


def accuracy(model: GPT, task: Task, prompts: np.ndarray) -> float:
    """The fraction of prompts whose greedy answer is right in every digit."""
    ids = model.generate(prompts, task.answer_size, np.random.default_rng(0), temperature=0)
    return task.accuracy(prompts, ids[:, prompts.shape[1] :])


def learn_one(name: str, args: argparse.Namespace) -> dict[str, float]:
    task = TASKS[name]()
    steps = args.steps or STEPS[name]
    columns = ["step", "batch_loss", "test_accuracy"]
    folder = Path(args.out, name)
    resume = args.resume and (folder / "checkpoints").is_dir()  # of two tasks, the second may not have begun
    run = RunFolder(folder, columns, {**settings_of(args), "task": name, "steps": steps}, resume)
    config = GPTConfig(task.vocab_size, task.block_size, args.layers, args.heads, args.width, args.dropout)
    model = GPT(config, np.random.default_rng(args.seed)).to(args.device)
    rng = np.random.default_rng(args.seed + 1)
    optimizer = AdamW(decay_groups(model, 0.1), lr=args.lr, betas=(0.9, 0.95))
    step = run.restore({"model": model, "optimizer": optimizer, "batches": rng})
    with Stop() as stop, tqdm(total=steps, initial=step, desc=name, unit="step", dynamic_ncols=True) as bar:
        while step < steps and not stop.asked:
            optimizer.lr = warmup_cosine(step, args.lr, args.lr / 10, min(100, steps // 2), steps)
            x, y = task.random_batch(args.batch, rng)
            _, loss = model(x, y)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            run.log(step=step, batch_loss=loss.item())
            step += 1
            right = None
            if step % 100 == 0:
                right = accuracy(model, task, task.test)
                run.log(step=step - 1, test_accuracy=right)
                bar.set_postfix_str(f"loss {loss.item():.4f}, {right:.1%} of unseen inputs right")
            bar.update()
            if step % args.save_every == 0:
                run.save(step, None if right is None else 1 - right)
    run.save(step)
    if stop.asked:
        sys.exit(f"{name} was stopped at step {step}; --resume goes on from there")
    drawn = task.test[np.random.default_rng(args.seed + 2).integers(len(task.test), size=5000)]
    result = {
        "test_accuracy": accuracy(model, task, task.test),
        "test_inputs": len(task.test),
        "accuracy_of_5000_draws": accuracy(model, task, drawn),
        "expected": EXPECTED[name],
        "final_loss": [row["batch_loss"] for row in run.rows if "batch_loss" in row][-1],
        "steps": steps,
    }
    run.curve({"batch_loss": "one batch"}, {}, f"GPT learns {name}", "cross-entropy (nats per answer token)")
    run.model(model.state_dict())
    run.result(args, **result)
    return result


def learn(args: argparse.Namespace) -> None:
    names = list(TASKS) if args.task == "both" else [args.task]
    results = {name: learn_one(name, args) for name in names}
    print(f"{'unseen inputs':16}{'right':>9}{'of':>7}{'5,000 draws':>14}{'expected':>10}")
    for name, r in results.items():
        print(
            f"{name:16}{r['test_accuracy']:9.2%}{r['test_inputs']:7d}{r['accuracy_of_5000_draws']:14.2%}"
            f"{r['expected']:10.0%}"
        )


if __name__ == "__main__":
    start(flags, learn)
