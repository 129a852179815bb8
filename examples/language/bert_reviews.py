"""BERT reads both ways: it fills in hidden words, tells which reviews belong together, and needs few labels.

    python examples/language/bert_reviews.py           # some minutes on 2 cores
    python examples/language/bert_reviews.py --resume  # goes on after Ctrl-C, or a kill

Pretraining has BERT's two tasks on pairs of film reviews. The reviews come from a grammar, so the best
possible answers to both tasks are known exactly (`tinygen/data/review_pairs.py`). Then the network is to
tell praise from blame. It is asked in its own task, "the film was [MASK] .": with no labels, and fine-tuned
with 10, 100 and 1,000, beside the same network without pretraining (Schick & Schütze 2021, arXiv:2001.07676).
The labeled reviews have four of the ten adjectives with a sentiment, and the tests have all.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import copy
from typing import Any

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.language import start_wider
from shared.run import Run
from shared.table import Figure, at_least, at_most
from shared.verdicts import UNSEEN, labeled_reviews, verdict

from tinygen import no_grad, ops
from tinygen.data.review_pairs import MASK, SPECIAL, VOCAB_SIZE, best_answers, write_pairs
from tinygen.models import BERT, BERTConfig
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine
from tinygen.text.masking import IGNORED, mask_tokens

LABELS = (0, 10, 100, 1000)
SIZES = {
    "quick": {"steps": 150, "warmup": 20, "width": 32, "batch": 32, "tuning_steps": 20, "tests": 200},
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add_run_flags(parser, "runs/bert_reviews", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the reviews and the batches")
    add("--length", type=size(5, 100), default=12, help="words of a review, with padding")
    add("--layers", type=size(1, 100), default=2, help="blocks")
    add("--width", type=size(4), default=64, help="channels; a multiple of the 4 attention heads")
    add("--rate", type=number(float, 0.01, 0.9), default=0.15, help="share of the words that are hidden")
    add("--batch", type=size(2), default=64, help="pairs of reviews per step")
    add("--steps", type=number(int, 2), default=8000, help="steps of pretraining")
    add("--warmup", type=number(int, 1), default=100, help="steps until the learning rate is highest")
    add("--lr", type=number(float, 0), default=2.5e-3, help="highest learning rate of pretraining")
    add("--tuning-steps", type=number(int, 2), default=300, help="steps of each fine-tuning")
    add(
        "--tuning-lr",
        type=number(float, 0),
        default=1e-3,
        help="its highest learning rate from nothing; 0.3 times it after pretraining",
    )
    add("--tests", type=size(10, 100_000), default=2000, help="pairs, and reviews, for the test")
    args = parser.parse_args()
    if args.width % 4:
        args.error(f"--width {args.width} is no multiple of the 4 attention heads")
    args.save_every, args.warmup = args.save_every or 500, min(args.warmup, args.steps - 1)
    return args


def train(model: BERT, args: argparse.Namespace, run: Run) -> None:
    """The loop of pretraining: new pairs in each step."""
    rng = np.random.default_rng(args.seed + 1)
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98))
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "reviews": rng}, "pretraining"):
            optimizer.lr = warmup_cosine(step, args.lr, 0.02 * args.lr, args.warmup, args.steps)
            pairs = write_pairs(args.batch, args.length, rng=rng)
            ids, targets = mask_tokens(pairs.ids, VOCAB_SIZE, MASK, SPECIAL, args.rate, rng=rng)
            total, masked, _ = model.losses(ids, targets, pairs.segments, random_next=pairs.random_next)
            optimizer.zero_grad()
            total.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            run.log(step=step, masked=masked.item(), next_sentence=total.item() - masked.item())
            run.show(total.item())


def judge(model: BERT, args: argparse.Namespace) -> dict[str, float]:
    """Of the model and of the best possible one: the loss of hidden words, and the share of right answers to
    whether the second review follows."""
    rng = np.random.default_rng(args.seed + 2)
    pairs = write_pairs(args.tests, args.length, rng=rng)
    ids, targets = mask_tokens(pairs.ids, VOCAB_SIZE, MASK, SPECIAL, args.rate, rng=rng)
    with no_grad():
        x = model.features(ids, pairs.segments, None)
        log_p = ops.log_softmax(model.token_logits(x)).numpy()
        follows = model.next_sentence_logits(x).numpy().argmax(axis=-1) == 0
    best = best_answers(ids, args.rate)
    hidden = np.nonzero(targets != IGNORED)
    at = (*hidden, targets[hidden])
    right = pairs.random_next == 0
    return {
        "loss": -float(np.mean(log_p[at])),
        "floor": -float(np.mean(np.log(best.words[at]))),
        "accuracy": float(np.mean(follows == right)),
        "best accuracy": float(np.mean((best.follows >= 0.5) == right)),
    }


# -- fine-tuning -----------------------------------------------------------------------------------


def fine_tune(model: BERT, reviews: Any, labels: Any, lr: float, args: argparse.Namespace) -> None:
    """Train the model on reviews (n, L) with labels (n,), in batches of at most 32."""
    rng, optimizer = np.random.default_rng(args.seed + 3), Adam(model.parameters())
    for step in range(args.tuning_steps):
        optimizer.lr = warmup_cosine(step, lr, 0.0, args.tuning_steps // 10, args.tuning_steps)
        batch = rng.choice(len(labels), min(32, len(labels)), replace=False)
        loss = ops.cross_entropy(verdict(model, reviews[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()


def by_labels(model: BERT, lr: float, args: argparse.Namespace) -> dict[int, float]:
    """The share of right verdicts on reviews with all words, by the number of labels. The model stays as it
    is."""
    rng, right = np.random.default_rng(args.seed + 4), {}
    tests, answers = labeled_reviews(args.tests, args.length, (), rng)
    reviews, labels = labeled_reviews(max(LABELS), args.length, UNSEEN, rng)
    for n in LABELS:
        tuned = copy.deepcopy(model)
        if n:
            fine_tune(tuned, reviews[:n], labels[:n], lr, args)
        with no_grad():
            right[n] = float(np.mean(verdict(tuned, tests).numpy().argmax(axis=-1) == answers))
    return right


def main(args: argparse.Namespace) -> None:
    sizes = (args.layers, 4, args.width, 4 * args.width)
    config = BERTConfig(VOCAB_SIZE, 2 * args.length + 3, *sizes, dropout=0.0)
    model = BERT(config, rng=args.seed)
    start_wider(model, args.width)
    from_nothing = copy.deepcopy(model.to(args.device))
    run = Run(args, ["step", "masked", "next_sentence"])
    train(model, args, run)
    run.model(model.state_dict())
    found = judge(model, args)
    columns = {"masked": "hidden words", "next_sentence": "next sentence"}
    run.curve(columns, {"floor of the words": found["floor"]}, "BERT's two losses", "loss (nats)")
    pretrained = by_labels(model, 0.3 * args.tuning_lr, args)
    nothing = by_labels(from_nothing, args.tuning_lr, args)
    near, uniform = at_most(found["floor"] + 0.04), float(np.log(VOCAB_SIZE))
    good = {100: at_least(nothing[1000])}
    rows = [
        Figure("loss of the hidden words, nats", found["loss"], near, found["floor"], uniform),
        Figure(
            "next sentence: right",
            found["accuracy"],
            at_least(found["best accuracy"] - 0.02),
            found["best accuracy"],
            0.5,
        ),
    ]
    rows += [
        Figure(f"pretrained, {n} labels: right", p, good.get(n), 1.0, 0.5) for n, p in pretrained.items()
    ]
    rows += [Figure(f"from nothing, {n} labels: right", p, None, 1.0, 0.5) for n, p in nothing.items()]
    run.result(rows, tests=args.tests, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
