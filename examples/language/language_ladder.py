"""The ladder of language models: from counting to attention, each beside the exact entropy of its text.

    python examples/language/language_ladder.py                # a Markov source of order 3, some minutes
    python examples/language/language_ladder.py --data hidden  # a hidden Markov source: no context is enough
    python examples/language/language_ladder.py --data topics  # Python's help pages: the entropy is unknown
    python examples/language/language_ladder.py --model lstm   # one rung

Each model is trained twice, with different weights. On the text, its loss in nats a token is compared with
the least possible loss. In a periodic text each token is the one a period before, so a model must remember
a whole period: the share of right predictions by period shows which periods it remembers.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.ladder import (
    DISTANCES,
    SYMBOLS,
    load,
    loss_on,
    next_tokens,
    ngrams,
    operations,
    reach,
    recalls,
    repeats,
)
from shared.plots import save_memory
from shared.run import Run
from shared.table import Figure, at_least, less_than

from tinygen import ops
from tinygen.data import random_batch
from tinygen.models import GPT, GPTConfig, LinearLM, Llama, LlamaConfig, RecurrentLM, WaveNet
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine

LADDER: dict[str, Callable[..., Any]] = {  # models for a vocabulary of V, of width C, that see W tokens
    "linear": lambda V, C, W, rng: LinearLM(V, min(8, W), C, rng=rng),
    "rnn": lambda V, C, W, rng: RecurrentLM(V, C, kind="rnn", rng=rng),
    "gru": lambda V, C, W, rng: RecurrentLM(V, C, kind="gru", rng=rng),
    "lstm": lambda V, C, W, rng: RecurrentLM(V, C, kind="lstm", rng=rng),
    "wavenet": lambda V, C, W, rng: WaveNet(V, C // 2, C, doubling(W), rng=rng),
    "gpt": lambda V, C, W, rng: GPT(GPTConfig(V, W, 2, 4, C), rng=rng),
    "llama": lambda V, C, W, rng: Llama(LlamaConfig(V, W, 2, 4, 4, C), rng=rng),
}
WINDOWS = ("gpt", "llama")  # they cannot read more than W tokens
SIZES = {
    "quick": {"steps": 30, "tokens": 20_000, "width": 16, "window": 16, "batch": 8, "draws": 10},
    "full": FULL,
}


def doubling(window: int) -> list[int]:
    """Dilations 1, 2, 4, ... with which a WaveNet sees `window` tokens or somewhat fewer."""
    return [2**layer for layer in range(window.bit_length() - 1)]


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--data", choices=("markov", "hidden", "topics"), default="markov", help="the text")
    add("--model", choices=("all", *LADDER), default="all", help="the rung; by default all")
    add_run_flags(parser, "runs/language_ladder", "every 250 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the texts and the batches")
    add("--tokens", type=size(1000, 10**7), default=300_000, help="of the text for training; half for a test")
    add("--width", type=size(8), default=64, help="channels, a multiple of 8")
    add("--window", type=size(8, 1024), default=128, help="tokens that attention and the WaveNet see")
    add("--batch", type=size(1), default=16, help="parts of the text per step")
    add("--steps", type=number(int, 2), default=2000, help="optimizer steps of each model on each text")
    add("--lr", type=number(float, 0), default=3e-3, help="highest learning rate")
    add("--draws", type=size(1, 10_000), default=500, help="periodic texts for each distance, at the end")
    args = parser.parse_args()
    if args.width % 8:
        args.error(f"--width {args.width} is no multiple of 8")
    args.save_every = args.save_every or 250
    args.names = [*LADDER] if args.model == "all" else [args.model]
    args.warmup = min(20, args.steps // 2)
    return args


# -- the models ------------------------------------------------------------------------------------


class Learner:
    """A model and its optimizer."""

    def __init__(self, name: str, vocab_size: int, args: argparse.Namespace) -> None:
        rng = np.random.default_rng(args.seed)
        self.window = args.window if name in WINDOWS else None
        self.model = LADDER[name](vocab_size, args.width, args.window, rng).to(args.device)
        self.optimizer = Adam(self.model.parameters(), betas=(0.9, 0.98))

    def logits(self, idx: Any) -> Any:
        """Logits (B, T, V), or (B, W, V) of the last W tokens."""
        out = self.model(idx[:, -self.window :] if self.window else idx)
        return out[0] if isinstance(out, tuple) else out

    def step(self, idx: Any, targets: Any) -> float:
        """A step on parts of a text (B, T) and the tokens after them (B, T)."""
        logits = self.logits(idx)
        loss = ops.cross_entropy(logits, targets[:, -logits.shape[1] :], ignore_index=-1)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()


def train(text: Any, learners: dict[str, dict[str, Learner]], args: argparse.Namespace, run: Run) -> None:
    """The loop: all models see the same batches. Each text has its own model."""
    rng = np.random.default_rng(args.seed + 2)
    things: dict[str, Any] = {"batches": rng}
    for name, pair in learners.items():
        for kind, learner in pair.items():
            things |= {f"{name} {kind}": learner.model, f"{name} {kind} optimizer": learner.optimizer}
    with run:
        for step in run.loop(things, "texts"):
            batches = {"text": random_batch(text, args.window, args.batch, rng)}
            batches["periodic"] = repeats(args.batch, rng.integers(0, len(DISTANCES), args.batch), rng=rng)
            lr = warmup_cosine(step, args.lr, 0.05 * args.lr, args.warmup, args.steps)
            row: dict[str, float] = {}
            for name, pair in learners.items():
                for kind, learner in pair.items():
                    run.enter(f"{name} {kind}")
                    learner.optimizer.lr = lr
                    row[f"{name} {kind}"] = learner.step(*batches[kind])
            run.enter("texts")
            run.log(step=step, **row)
            run.show(max(row.values()))


def main(args: argparse.Namespace) -> None:
    text, test, vocab_size, best = load(args.data, args.tokens, args.seed + 1)
    sizes = {"text": vocab_size, "periodic": SYMBOLS * len(DISTANCES)}
    learners = {
        name: {kind: Learner(name, vocab, args) for kind, vocab in sizes.items()} for name in args.names
    }
    run = Run(args, ["step", *(f"{name} {kind}" for name in args.names for kind in sizes)])
    train(text, learners, args, run)
    weights = {name: pair["text"].model.state_dict() for name, pair in learners.items()}
    run.model({f"{name}.{key}": x for name, state in weights.items() for key, x in state.items()})
    found = ngrams(text, test, vocab_size, args.draws, args.seed + 3)
    trigram, foot = found["3-gram"][0], "parameters, and operations a token:"
    for name, pair in learners.items():
        shares = recalls(partial(next_tokens, pair["periodic"].logits), args.draws, args.seed + 4)
        found[name] = loss_on(pair["text"].logits, test, args.window), shares
        model = pair["text"].model
        count = sum(p.size for p in model.parameters())
        foot += f" {name} {count:,}, {operations(model, args.window):,};"
    save_memory(run.path / "memory.png", DISTANCES, {name: shares for name, (_, shares) in found.items()})
    good = {name: less_than(trigram) for name in args.names if name != "linear"}
    rows = [
        Figure(f"{name}: nats a token", loss, good.get(name), best, math.log(vocab_size))
        for name, (loss, _) in found.items()
    ]
    far = {name: at_least(args.window // 4) for name in WINDOWS}
    rows += [
        Figure(f"{name}: tokens that it remembers", reach(shares), far.get(name), None, 0.0)
        for name, (_, shares) in found.items()
    ]
    run.result(rows, foot=foot, accuracy={name: shares for name, (_, shares) in found.items()}, best=best)


if __name__ == "__main__":
    start(parse_args, main)
