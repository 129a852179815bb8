"""A Transformer translates numbers in words from one language into another, character by character.

    python examples/language/translate_numbers.py  # from English into German, a few minutes on 2 cores
    python examples/language/translate_numbers.py --source german --target french
    python examples/language/translate_numbers.py --resume  # goes on after Ctrl-C, or a kill

German says the ones before the tens and writes a number as one word, and French counts by twenties
(`tinygen/data/number_words.py`). A second grammar reads each translation: it is right if it is the number of
the source. The optimizer, its schedule and the smoothed labels are from Vaswani et al. 2017, section 5.
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
from shared.table import Figure, at_least

from tinygen.data import number_words
from tinygen.models.language.transformer import Transformer, TransformerConfig
from tinygen.optim import Adam, noam

EXPECTED = at_least(0.9)
SIZES = {
    "quick": {"steps": 110, "warmup": 35, "batch": 16, "tests": 100, "beam": 1},
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add, languages = parser.add_argument, list(number_words.WRITERS)
    add("--source", choices=languages, default="english", help="the language that is read")
    add("--target", choices=languages, default="german", help="the language that is written")
    add("--largest", type=number(int, 999, number_words.LARGEST), default=999, help="the largest number")
    add_run_flags(parser, "runs/translate_numbers", "every 500 steps")
    add("--seed", type=number(int, 0), default=1, help="of the weights, the numbers and the batches")
    add("--layers", type=size(1, 1000), default=1, help="layers of the encoder, and of the decoder")
    add("--heads", type=size(1), default=4, help="attention heads; must divide the width")
    add("--width", type=size(2), default=32, help="channels of the stream, an even number")
    add("--dropout", type=number(float, 0, 0.99), default=0.0, help="probability")
    add("--smoothing", type=number(float, 0, 0.99), default=0.1, help="of the labels")
    add("--beam", type=size(1), default=4, help="hypotheses of the beam search at the end; 1 is greedy")
    add("--batch", type=size(1), default=64, help="numbers per step")
    add("--tests", type=size(1, 500), default=500, help="numbers that are never trained on")
    add("--steps", type=number(int, 1), default=400, help="optimizer steps")
    add("--warmup", type=number(int, 1), default=100, help="steps until the learning rate is highest")
    add("--lr", type=number(float, 0), default=0.5, help="factor of the paper's learning rate")
    args = parser.parse_args()
    if args.width % args.heads or args.width % 2:
        args.error(f"--width {args.width} must be even, and --heads {args.heads} must divide it")
    if args.source == args.target:
        args.error(f"--source and --target are both {args.source}: choose two languages")
    args.save_every = args.save_every or 500
    return args


def texts(numbers: np.ndarray, language: str) -> list[str]:
    return [number_words.WRITERS[language](n) for n in numbers.tolist()]


def is_right(text: str, n: int, language: str) -> bool:
    """Whether the text is the number n in words."""
    try:
        return number_words.READERS[language](text) == n
    except ValueError:
        return False


def translations(model: Transformer, numbers: np.ndarray, args: argparse.Namespace, width: int) -> list[str]:
    """By greedy decoding (width 1), of all numbers at once, or by beam search, one after the other."""
    source = number_words.encode(texts(numbers, args.source))
    longest = 2 + max(map(len, texts(numbers, args.target)))
    if width == 1:
        return number_words.decode(model.greedy_search(source, longest))
    return [number_words.decode([best.tokens])[0] for best, *_ in model.beam_search(source, longest, width)]


def share_right(model: Transformer, numbers: np.ndarray, args: argparse.Namespace, width: int) -> float:
    """The share of numbers whose translation is right."""
    written = translations(model, numbers, args, width)
    return float(
        np.mean([is_right(x, n, args.target) for x, n in zip(written, numbers.tolist(), strict=True)])
    )


def train(
    model: Transformer, numbers: np.ndarray, tests: np.ndarray, args: argparse.Namespace, run: Run
) -> None:
    """The loop."""
    rng = np.random.default_rng(args.seed + 1)
    optimizer = Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)
    note = ""
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "batches": rng}):
            optimizer.lr = args.lr * noam(step, args.width, args.warmup)
            batch = rng.choice(numbers, args.batch)
            source, target = (number_words.encode(texts(batch, x)) for x in (args.source, args.target))
            loss = model.loss(source, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log(step=step, batch_loss=loss.item())
            if (step + 1) % 500 == 0:
                right = share_right(model, tests[:100], args, 1)
                run.log(step=step, test_accuracy=right)
                run.score, note = 1 - right, f", {right:.0%} of 100 unseen numbers right"
            run.show(loss.item(), note)


def main(args: argparse.Namespace) -> None:
    order = np.random.default_rng(args.seed + 2).permutation(args.largest + 1)
    tests, numbers = order[: args.tests], order[args.tests :]
    shape = (args.layers, args.heads, args.width, 4 * args.width, args.dropout, args.smoothing)
    config = TransformerConfig(number_words.VOCAB_SIZE, *shape)
    model = Transformer(config, rng=np.random.default_rng(args.seed)).to(args.device)
    run = Run(args, ["step", "batch_loss", "test_accuracy"])
    train(model, numbers, tests, args, run)
    run.model(model.state_dict())
    for text, translation in zip(
        texts(tests[:5], args.source), translations(model, tests[:5], args, args.beam), strict=True
    ):
        print(f"{text}  ->  {translation}")
    run.curve(
        {"batch_loss": "one batch"}, {}, "A Transformer translates numbers", "loss (nats per character)"
    )
    share = f"{args.source} to {args.target}, right of {args.tests} unseen numbers"
    right = {width: share_right(model, tests, args, width) for width in sorted({1, args.beam})}
    rows = [
        Figure(f"{share}: {f'beam of {width}' if width > 1 else 'greedy'}", right[width], EXPECTED, 1.0, 0.0)
        for width in right
    ]
    run.result(rows, right={str(width): x for width, x in right.items()}, tests=args.tests, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
