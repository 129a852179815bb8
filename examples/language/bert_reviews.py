"""BERT reads both ways: it fills in hidden words, tells which reviews belong together, and needs few labels.

    python examples/language/bert_reviews.py           # some minutes on 2 cores
    python examples/language/bert_reviews.py --resume  # goes on after Ctrl-C, or a kill

Pretraining has BERT's two tasks on pairs of film reviews. The reviews come from a grammar, so the best
possible answers to both tasks are known exactly (`tinygen/data/review_pairs.py`). Then the network is
fine-tuned to tell praise from blame with 10, 100 and 1,000 labels, beside the same network without
pretraining.
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

from tinygen import Tensor, no_grad, ops
from tinygen.data.review_pairs import CLS, MASK, SEP, SPECIAL, VOCAB_SIZE, best_answers, write_pairs
from tinygen.data.reviews import Reviews, sentiment
from tinygen.models import BERT, BERTConfig
from tinygen.optim import Adam, clip_grad_norm, warmup_cosine
from tinygen.text.masking import IGNORED, mask_tokens

LABELS = (10, 100, 1000)
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
    add("--tuning-lr", type=number(float, 0), default=1e-3, help="its highest learning rate")
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


def labeled_reviews(n: int, length: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """n reviews as ids (n, length + 2), and labels (n,): 0 if praise outweighs blame, 1 the other way."""
    reviews = Reviews().write(4 * n + 100, length, rng)
    reviews = reviews[sentiment(reviews) != 0][:n]
    ends = [np.full((n, 1), token) for token in (CLS, SEP)]
    return np.concatenate([ends[0], reviews, ends[1]], axis=1), (sentiment(reviews) < 0).astype(np.int64)


def verdict(model: BERT, ids: Any) -> Tensor:
    """Logits (B, 2) of praise and blame, by the head that told whether reviews belong together."""
    return model.next_sentence_logits(model.features(ids, None, None))


def fine_tune(model: BERT, ids: Any, labels: Any, args: argparse.Namespace) -> BERT:
    """The model after training on these labels (n,), in batches of at most 32 reviews."""
    rng, optimizer = np.random.default_rng(args.seed + 3), Adam(model.parameters())
    for step in range(args.tuning_steps):
        optimizer.lr = warmup_cosine(step, args.tuning_lr, 0.0, args.tuning_steps // 10, args.tuning_steps)
        batch = rng.choice(len(labels), min(32, len(labels)), replace=False)
        loss = ops.cross_entropy(verdict(model, ids[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
    return model


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
    rng = np.random.default_rng(args.seed + 4)
    ids, labels = labeled_reviews(max(LABELS) + args.tests, args.length, rng)
    tests, answers = ids[max(LABELS) :], labels[max(LABELS) :]
    right: dict[str, dict[int, float]] = {"pretrained": {}, "from nothing": {}}
    for n in LABELS:
        for name, before in (("pretrained", model), ("from nothing", from_nothing)):
            tuned = fine_tune(copy.deepcopy(before), ids[:n], labels[:n], args)
            with no_grad():
                right[name][n] = float(np.mean(verdict(tuned, tests).numpy().argmax(axis=-1) == answers))
    near, uniform = at_most(found["floor"] + 0.04), float(np.log(VOCAB_SIZE))
    good = {("pretrained", 100): at_least(right["from nothing"][1000])}
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
    for name, by_labels in right.items():
        for n, share in by_labels.items():
            rows.append(Figure(f"{name}, {n} labels: right", share, good.get((name, n)), 1.0, 0.5))
    run.result(rows, tests=args.tests, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
