"""From GPT to Llama: what each of the four changes buys, at equal numbers of parameters.

    python examples/language/gpt_to_llama.py  # English that comes with Python
    python examples/language/gpt_to_llama.py --data shakespeare
    python examples/language/gpt_to_llama.py --resume  # goes on after Ctrl-C or a kill, to the same bits

GPT-2 (2019) and Llama (2023) differ in four parts of a block: RoPE in place of learned positions, RMSNorm in
place of layer norm, SwiGLU in place of GELU, grouped-query attention (GQA) in place of multi-head attention.
Each change is made alone, and they are added one after the other; all four without biases are Llama. What a
change saves in parameters, the perceptron gets back. All models read the same batches. The learning rate of
each was chosen with another seed on another part of the text: `--seed 10 --part choice --lr RATE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from shared.decoders import CHANGES, FOUR, GROUP, Decoder, Sizes, equal_hidden
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.ladder import loss_on
from shared.plots import save_gains
from shared.run import Run
from shared.table import Expectation, Figure, at_most, less_than, more_than

from tinygen import ops
from tinygen.data import load_text, random_batch
from tinygen.optim import AdamW, clip_grad_norm, decay_groups, warmup_cosine
from tinygen.text import CharTokenizer, NGram

ALONE = {f"GPT with {name}": (name,) for name in FOUR}
ADDED = {f"GPT with {', '.join(FOUR[:n])}": FOUR[:n] for n in (2, 3, 4)} | {"Llama": CHANGES}
VARIANTS = {"GPT": (), **ALONE, **ADDED}
RATES = dict.fromkeys(VARIANTS, 4e-3) | {  # chosen among 2e-3, 4e-3 and 8e-3: see above
    "GPT with RMSNorm": 8e-3,
    "GPT with GQA": 8e-3,
    "GPT with RoPE, RMSNorm, SwiGLU": 2e-3,
}
PARTS = {"choice": (0.8, 0.9), "test": (0.9, 1.0)}  # of the text; the first 0.8 are for training
SIZES = {
    "quick": {"steps": 40, "layers": 1, "width": 48, "batch": 8, "lr": 0.02, "evaluations": 2, "rounds": 3},
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--data", default="topics", help="topics (in Python's library), shakespeare, names, or a UTF-8 file")
    add_run_flags(parser, "runs/gpt_to_llama", "at every evaluation")
    add("--seed", type=number(int, 0), default=0, help="of the weights and the batches")
    add("--part", choices=PARTS, default="test", help="of the text, to measure on; choice: to choose rates")
    add("--layers", type=size(1, 100), default=4, help="blocks")
    add("--heads", type=size(GROUP), default=6, help=f"attention heads; a multiple of {GROUP}")
    add("--width", type=size(1), default=96, help="channels of the stream")
    add("--block", type=size(2), default=64, help="context in training, in characters")
    add("--batch", type=size(1), default=12, help="pieces of text per step")
    add("--steps", type=number(int, 2), default=800, help="optimizer steps of each model")
    add("--lr", type=number(float, 0), help=f"highest learning rate of all models; by default {RATES}")
    add("--evaluations", type=number(int, 1), default=20, help="points of the curves")
    add("--rounds", type=number(int, 1), default=41, help="steps of each model that are timed, in turns")
    args = parser.parse_args()
    if args.heads % GROUP or args.width % (2 * args.heads):
        need = f"the heads must be a multiple of {GROUP}, and the width of twice the heads"
        args.error(f"--heads {args.heads}, --width {args.width}: {need}")
    args.every = max(1, args.steps // args.evaluations)
    args.save_every = args.save_every or args.every
    args.warmup = min(50, args.steps // 2)
    return args


class Learner:
    """A model and its optimizer."""

    def __init__(self, name: str, vocab_size: int, args: argparse.Namespace) -> None:
        sizes, changes = Sizes(vocab_size, args.block, args.layers, args.heads, args.width), VARIANTS[name]
        rng = np.random.default_rng(args.seed)
        self.model = Decoder(sizes, equal_hidden(sizes, changes), changes, rng=rng).to(args.device)
        self.optimizer = AdamW(decay_groups(self.model, 0.1), betas=(0.9, 0.99))
        self.lr = RATES[name] if args.lr is None else args.lr

    def step(self, x: Any, y: Any, rate: float) -> float:
        """A step on pieces of text (B, T) and the characters after each (B, T); `rate` is 1 at most."""
        self.optimizer.lr = rate * self.lr
        loss = ops.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def train(text: Any, held_out: Any, learners: Mapping[str, Learner], args: Any, run: Run) -> None:
    """The loop."""
    rng = np.random.default_rng(args.seed + 1)
    things: dict[str, Any] = {"batches": rng}
    for name, learner in learners.items():
        things |= {name: learner.model, f"{name}: optimizer": learner.optimizer}
    with run:
        for step in run.loop(things):
            x, y = random_batch(text, args.block, args.batch, rng)
            rate = warmup_cosine(step, 1.0, 0.05, args.warmup, args.steps)
            losses = {name: learner.step(x, y, rate) for name, learner in learners.items()}
            run.show(max(losses.values()))
            if (step + 1) % args.every == 0:
                found = {name: loss_on(each.model, held_out, args.block) for name, each in learners.items()}
                run.log(step=step + 1, **found)


def take_turns(learners: Mapping[str, Learner], x: Any, y: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds of `rounds` steps of each model, (rounds,) each. The models take turns, so that a machine
    that is slow for a while is slow for all. The rate of these steps is 0: no weight changes."""
    found: dict[str, list[float]] = {name: [] for name in learners}
    for _ in range(rounds):
        for name, learner in learners.items():
            began = time.perf_counter()
            learner.step(x, y, 0.0)
            found[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(each) for name, each in found.items()}


def expectations(gpt: float) -> dict[str, Expectation]:
    """What was expected of the losses before they were measured, beside the loss of GPT."""
    return {
        "GPT with RoPE": less_than(gpt),
        "GPT with RMSNorm": at_most(gpt + 0.01),
        "GPT with SwiGLU": less_than(gpt),
        "GPT with GQA": at_most(gpt + 0.02),
        "Llama": at_most(gpt - 0.02),
    }


def main(args: argparse.Namespace) -> None:
    characters = load_text(args.data)
    tokenizer = CharTokenizer(characters)
    ids, first, last = tokenizer.encode(characters), *PARTS[args.part]
    text, part = ids[: int(0.8 * len(ids))], ids[int(first * len(ids)) : int(last * len(ids))]
    if len(part) < 4 * args.block:
        need = f"--block {args.block} needs {40 * args.block}"
        args.error(f"{args.data!r} has {len(ids)} characters; {need}")
    learners = {name: Learner(name, tokenizer.vocab_size, args) for name in VARIANTS}
    models = {name: learner.model for name, learner in learners.items()}
    run = Run(args, ["step", *VARIANTS])
    train(text, part[: 100 * args.block], learners, args, run)
    run.model({f"{name}.{key}": x for name, each in models.items() for key, x in each.state_dict().items()})

    losses = {name: loss_on(model, part, args.block) for name, model in models.items()}
    single, five = (NGram(n).fit(text, tokenizer.vocab_size).cross_entropy(part) for n in (1, 5))
    expected = expectations(losses["GPT"])
    rows = [Figure(f"{name}: nats", x, expected.get(name), None, single) for name, x in losses.items()]
    rows.append(Figure("5-gram: nats", five, None, None, single))
    for name, model in models.items():
        if model.wpe is None:  # a table of positions ends where training ended
            beyond = loss_on(model, part, 2 * args.block)
            rows.append(Figure(f"{name}: nats beyond the context", beyond, more_than(losses[name])))
    batch = random_batch(text, args.block, args.batch, np.random.default_rng(args.seed + 2))
    times = take_turns(learners, *batch, args.rounds)
    rows.append(Figure("GPT: milliseconds a step", float(np.median(times["GPT"]))))
    for name in [*ALONE, *ADDED]:
        ratio = float(np.median(times[name] / times["GPT"]))
        rows.append(Figure(f"{name}: time of a step, GPT's is 1", ratio))
    rows += [
        Figure(f"{name}: bytes of cache a token", models[name].cache_bytes()) for name in ("GPT", "Llama")
    ]
    counts = {name: model.num_parameters() for name, model in models.items()}
    apart = max(abs(count / counts["GPT"] - 1) for count in counts.values())
    rows.append(Figure("parameters: largest difference from GPT, share", apart, at_most(0.02)))
    curves = {name: [row[name] for row in run.rows] for name in VARIANTS}
    groups = {"One change": ALONE, "One after the other": [*[*ALONE][:1], *ADDED]}
    save_gains(run.path / "gains.png", [int(row["step"]) for row in run.rows], curves, groups)
    foot = "nats a character, held out; parameters: " + ", ".join(f"{n} {x:,}" for n, x in counts.items())
    run.result(rows, foot=foot, parameters=counts)


if __name__ == "__main__":
    start(parse_args, main)
