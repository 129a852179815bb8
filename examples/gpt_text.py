"""Train a small GPT on text, character by character, and compare it with n-gram models.

    python examples/gpt_text.py  # English that comes with Python; some 100 seconds on 2 cores
    python examples/gpt_text.py --data my.txt --out runs/mine
    python examples/gpt_text.py --data shakespeare --preset nanogpt-cpu
    python examples/gpt_text.py --resume  # goes on after Ctrl-C or a kill, to the same bits
    mpiexec -n 4 python -m mpi4py examples/gpt_text.py  # four processes share each batch

The preset is nanoGPT's recipe for a laptop's CPU, whose README reports a validation loss of 1.88.
"""

from __future__ import annotations

from shared.endings import start

import argparse
import hashlib
import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, generator, number, size
from shared.language import evaluate, whole_loss
from shared.run import Run
from shared.table import Figure, less_than

from tinygen import no_grad
from tinygen.data import load_text, random_batch, train_val_split
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine
from tinygen.storage.files import replace_file
from tinygen.text import CharTokenizer, NGram

PRESETS: dict[str, dict[str, Any]] = {
    "plain": {},
    # nanoGPT's README, "I only have a macbook": config/train_shakespeare_char.py with --block_size=64
    # --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0
    "nanogpt-cpu": {
        "block": 64,
        "batch": 12,
        "steps": 2000,
        "lr": 1e-3,
        "eval_batches": 20,
        "expected": 1.88,
    },
}
SIZES = {
    "quick": {"steps": 120, "eval_every": 120, "layers": 2, "width": 64, "block": 64, "eval_batches": 4},
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--data", default="topics", help="topics (in Python's library), shakespeare, names, or a UTF-8 file")
    add("--preset", choices=PRESETS, default="plain", help="a recipe; flags that are given win over it")
    add_run_flags(parser, "runs/gpt_text", "at every evaluation")
    add("--seed", type=number(int, 0), default=1337, help="of the weights, the batches and the samples")
    add("--layers", type=size(1, 1000), default=4, help="Transformer blocks")
    add("--heads", type=size(1), default=4, help="attention heads; must divide the width")
    add("--width", type=size(1), default=128, help="channels of the stream")
    add("--block", type=size(1), default=128, help="context, in characters")
    add("--dropout", type=number(float, 0, 0.99), default=0.0, help="probability")
    add("--batch", type=size(1), default=12, help="pieces of text per step")
    add("--steps", type=number(int, 1), default=1300, help="optimizer steps")
    add("--lr", type=number(float, 0), default=3e-3, help="highest learning rate")
    add("--min-lr", type=number(float, 0), default=1e-4, help="learning rate at the end of the cosine")
    add("--warmup", type=number(int, 0), default=100, help="steps to the highest rate; at most half of all")
    add("--beta2", type=number(float, 0, 0.9999), default=0.99, help="AdamW's memory for squared gradients")
    add("--weight-decay", type=number(float, 0), default=0.1, help="of all matrices")
    add("--clip", type=number(float, 0), default=1.0, help="largest norm of the gradient")
    add("--eval-every", type=number(int, 1), default=250, help="steps between evaluations")
    add("--eval-batches", type=number(int, 0), default=0, help="batches of an evaluation; 0: all the text")
    add("--expected", type=number(float, 0, 100), help="a published validation loss to compare with")
    add("--sample", type=number(int, 0), default=500, help="characters to write at the end")
    add("--temperature", type=number(float, 0), default=0.8, help="of the samples; 0 is greedy")
    chosen, _ = parser.parse_known_args()
    parser.set_defaults(**PRESETS[chosen.preset])
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.width % args.heads:
        args.error(f"--heads {args.heads} does not divide --width {args.width}")
    return args


def train_model(model: GPT, train: Any, val: Any, args: argparse.Namespace, run: Run) -> float:
    """The loop. Returns tokens per second."""
    batch_rng, eval_rng = np.random.default_rng(args.seed + 1), np.random.default_rng(args.seed + 2)
    optimizer = AdamW(decay_groups(model, args.weight_decay), betas=(0.9, args.beta2))
    warmup = min(args.warmup, args.steps // 2)
    seconds, tokens = 1e-9, 0

    def log_evaluation(step: int) -> float:
        train_loss, val_loss = evaluate(model, train, val, args, eval_rng)
        run.log(step=step, train_loss=train_loss, val_loss=val_loss)
        run.say(f"step {step:5d}   train {train_loss:.4f}   validation {val_loss:.4f} nats")
        return val_loss

    things = {"model": model, "optimizer": optimizer, "batches": batch_rng, "evaluation": eval_rng}
    with run:
        for step in run.loop(things):
            if step == 0:
                log_evaluation(step)
            began = time.perf_counter()
            optimizer.lr = warmup_cosine(step, args.lr, args.min_lr, warmup, args.steps)
            optimizer.zero_grad()
            with run.share(*random_batch(train, args.block, args.batch, batch_rng)) as (x, y):
                _, loss = model(x, y)
                batch_loss = run.backward(loss, model)
            clip_grad_norm(model.parameters(), args.clip)
            optimizer.step()
            seconds, tokens = seconds + time.perf_counter() - began, tokens + args.batch * args.block
            run.log(step=step, batch_loss=batch_loss)
            run.show(batch_loss, f", {tokens / seconds:,.0f} tokens/s")
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                run.score = log_evaluation(step + 1)
    return float(tokens / seconds)


def figures_of(orders: dict[int, float], size: int, whole: float, published: float | None) -> list[Figure]:
    """The rows of the final table: validation losses in nats a character, the highest first."""
    gpt = Figure("GPT, all of the validation text", whole, less_than(orders[3]), baseline=orders[1])
    rows = [Figure("uniform", float(np.log(size))), gpt]
    rows += [Figure(f"{n}-gram", loss) for n, loss in orders.items()]
    if published is not None:
        rows.append(Figure("published", published))
    return sorted(rows, key=lambda row: -row.measured)


def main(args: argparse.Namespace) -> None:
    text = load_text(args.data)
    if len(text) < 10 * (args.block + 1):
        need = f"--block {args.block} needs {10 * (args.block + 1)}"
        args.error(f"{args.data!r} has {len(text)} characters; {need}")
    digest = hashlib.sha256(text.encode()).hexdigest()
    run = Run(args, ["step", "batch_loss", "train_loss", "val_loss"], text_sha256=digest)
    tokenizer = CharTokenizer(text)
    sizes = (args.block, args.layers, args.heads, args.width, args.dropout)
    config = GPTConfig(tokenizer.vocab_size, *sizes, bias=False)
    model = GPT(config, rng=generator(args.seed, args.device)).to(args.device)
    train, val = train_val_split(tokenizer.encode(text))
    print(f"{args.data}: {len(train):,} characters to learn from, {len(val):,} to validate on, ", end="")
    print(f"{tokenizer.vocab_size} different ones; GPT with {model.num_parameters():,} parameters")
    orders = {n: NGram(n).fit(train, tokenizer.vocab_size).cross_entropy(val) for n in range(1, 7)}
    speed = train_model(model, train, val, args, run)
    last = run.rows[-1]
    run.model(model.state_dict())
    about = json.dumps({**asdict(config), "chars": tokenizer.chars}, indent=2)
    replace_file(run.path / "config.json", [about.encode()])

    with no_grad():
        model.eval()
        whole = whole_loss(model, val, args.block)
    prompt = tokenizer.encode("\n" if "\n" in tokenizer.chars else text[0])
    ids = model.sample(prompt[None], args.sample, args.temperature, rng=np.random.default_rng(args.seed + 3))
    sample = tokenizer.decode(ids[0])
    run.curve(
        {"batch_loss": "one batch", "train_loss": "training text", "val_loss": "validation text"},
        {f"{n}-gram": orders[n] for n in (2, 3, 4, 5)},
        f"GPT on {args.data}: {last['val_loss']:.3f} nats a character on unseen text",
        "cross-entropy (nats per character)",
    )
    line = "-" * 80
    run.result(
        figures_of(orders, tokenizer.vocab_size, whole, args.expected),
        f"\n{line}{sample}\n{line}\n",
        f"validation loss in nats a character; the GPT's in bits is {whole / np.log(2):.3f}",
        val_loss=last["val_loss"],
        val_loss_whole=whole,
        expected=args.expected,
        train_loss=last["train_loss"],
        ngram={str(n): loss for n, loss in orders.items()},
        steps=last["step"],
        tokens_per_second=speed,
        sample=sample,
    )


if __name__ == "__main__":
    start(parse_args, main)
