"""Train a small GPT on text, character by character, beside the n-gram models that it has to beat.

    python examples/gpt_text.py  # English that comes with Python; some 100 seconds on 2 cores
    python examples/gpt_text.py --data my.txt --out runs/mine
    python examples/gpt_text.py --data shakespeare --preset nanogpt-cpu
    python examples/gpt_text.py --resume  # goes on after Ctrl-C or a kill, to the same bits

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
from shared.flags import Flags, add_run_flags, generator, number, size
from shared.run import Run

from tinygen import no_grad
from tinygen.data import load_text, random_batch, train_val_split
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine
from tinygen.storage.files import replace_file
from tinygen.text import CharTokenizer, NGram, perplexity

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
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


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add("--data", default="topics", help="topics (in Python's library), shakespeare, names, or a UTF-8 file")
    add("--preset", choices=PRESETS, default="quick", help="a recipe; flags that are given win over it")
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
    add(
        "--warmup",
        type=number(int, 0),
        default=100,
        help="steps up to the highest learning rate; at most half",
    )
    add("--beta2", type=number(float, 0, 0.9999), default=0.99, help="AdamW's memory for squared gradients")
    add("--weight-decay", type=number(float, 0), default=0.1, help="of all matrices")
    add("--clip", type=number(float, 0), default=1.0, help="largest norm of the gradient")
    add("--eval-every", type=number(int, 1), default=250, help="steps between evaluations")
    add(
        "--eval-batches",
        type=number(int, 0),
        default=0,
        help="random batches of an evaluation; 0: all the text",
    )
    add(
        "--expected",
        type=number(float, 0, 100),
        default=None,
        help="a published validation loss to print beside",
    )
    add("--sample", type=number(int, 0), default=500, help="characters to write at the end")
    add("--temperature", type=number(float, 0), default=0.8, help="of the samples; 0 is greedy")
    chosen, _ = parser.parse_known_args()
    parser.set_defaults(**PRESETS[chosen.preset])
    args = parser.parse_args()
    args.save_every = args.save_every or args.eval_every
    if args.width % args.heads:
        args.error(f"--heads {args.heads} does not divide --width {args.width}")
    return args


def batch_loss(model: GPT, ids: Any, args: argparse.Namespace, rng: np.random.Generator) -> float:
    """The mean loss of `eval_batches` random batches: nanoGPT's estimate."""
    batches = [random_batch(ids, args.block, args.batch, rng) for _ in range(args.eval_batches)]
    return float(np.mean([model(x, y)[1].item() for x, y in batches]))


def whole_loss(model: GPT, ids: Any, block: int) -> float:
    """The loss over all of `ids`, cut into pieces of `block`; each piece starts without a context."""
    pieces = (len(ids) - 1) // block
    x = ids[: pieces * block].reshape(pieces, block)
    y = ids[1 : pieces * block + 1].reshape(pieces, block)
    losses = [
        model(x[i : i + 64], y[i : i + 64])[1].item() * len(x[i : i + 64]) for i in range(0, pieces, 64)
    ]
    return float(sum(losses)) / pieces


@no_grad()
def evaluate(
    model: GPT, train: Any, val: Any, args: argparse.Namespace, rng: np.random.Generator
) -> list[float]:
    model.eval()
    if args.eval_batches:
        losses = [batch_loss(model, ids, args, rng) for ids in (train, val)]
    else:  # of the training text, a piece as long as the validation text
        losses = [whole_loss(model, ids, args.block) for ids in (train[: len(val)], val)]
    model.train()
    return losses


def train_model(model: GPT, train: Any, val: Any, args: argparse.Namespace, run: Run) -> float:
    """The loop. Returns tokens per second."""
    batch_rng, eval_rng = np.random.default_rng(args.seed + 1), np.random.default_rng(args.seed + 2)
    optimizer = AdamW(decay_groups(model, args.weight_decay), lr=args.lr, betas=(0.9, args.beta2))
    warmup = min(args.warmup, args.steps // 2)
    seconds, tokens = 1e-9, 0

    def look(step: int) -> Any:
        train_loss, val_loss = evaluate(model, train, val, args, eval_rng)
        run.log(step=step, train_loss=train_loss, val_loss=val_loss)
        run.say(f"step {step:5d}   train {train_loss:.4f}   validation {val_loss:.4f} nats")
        return val_loss

    with run:
        for step in run.loop(
            {"model": model, "optimizer": optimizer, "batches": batch_rng, "evaluation": eval_rng}
        ):
            if step == 0:
                look(step)
            began = time.perf_counter()
            optimizer.lr = warmup_cosine(step, args.lr, args.min_lr, warmup, args.steps)
            x, y = random_batch(train, args.block, args.batch, batch_rng)
            _, loss = model(x, y)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm(model.parameters(), args.clip)
            optimizer.step()
            seconds, tokens = seconds + time.perf_counter() - began, tokens + x.size
            run.log(step=step, batch_loss=loss.item())
            run.show(loss.item(), f", {tokens / seconds:,.0f} tokens/s")
            if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
                run.score = look(step + 1)
    return float(tokens / seconds)


def table(
    orders: dict[int, float], vocab_size: int, val_loss: float, whole: float, args: argparse.Namespace
) -> str:
    rows = {"uniform": float(np.log(vocab_size)), **{f"{n}-gram": loss for n, loss in orders.items()}}
    rows["GPT, all of the validation text"] = whole
    if args.eval_batches:
        rows[f"GPT, {args.eval_batches} random batches"] = val_loss
    if args.expected is not None:
        rows["published"] = args.expected
    lines = [f"{'validation loss':34}{'nats':>8}{'bits':>8}{'perplexity':>12}"]
    for name, loss in sorted(rows.items(), key=lambda row: -row[1]):
        lines.append(f"{name:34}{loss:8.3f}{loss / np.log(2):8.3f}{perplexity(loss):12.2f}")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    text = load_text(args.data)
    if len(text) < 10 * (args.block + 1):
        args.error(
            f"{args.data!r} has {len(text)} characters; --block {args.block} needs {10 * (args.block + 1)}"
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    run = Run(args, ["step", "batch_loss", "train_loss", "val_loss"], text_sha256=digest)
    tokenizer = CharTokenizer(text)
    config = GPTConfig(
        tokenizer.vocab_size, args.block, args.layers, args.heads, args.width, args.dropout, bias=False
    )
    model = GPT(config, rng=generator(args.seed, args.device)).to(args.device)
    train, val = train_val_split(tokenizer.encode(text))
    print(f"{args.data}: {len(train):,} characters to learn from, {len(val):,} to validate on, ", end="")
    print(f"{tokenizer.vocab_size} different ones")
    orders = {n: NGram(n).fit(train, tokenizer.vocab_size).cross_entropy(val) for n in range(1, 7)}
    print("n-grams, orders 1 to 6, validation loss in nats: ", *(f"{loss:.3f}" for loss in orders.values()))
    print(f"GPT with {model.num_parameters():,} parameters")
    speed = train_model(model, train, val, args, run)
    last = run.rows[-1]
    val_loss = last["val_loss"]
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
        f"GPT on {args.data}: {val_loss:.3f} nats a character on unseen text",
        "cross-entropy (nats per character)",
    )
    line = "-" * 80
    run.result(
        f"\n{line}{sample}\n{line}\n" + table(orders, tokenizer.vocab_size, val_loss, whole, args),
        val_loss=val_loss,
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
