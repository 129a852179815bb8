"""A Transformer translates numbers and dates in words between English, German and French; why an encoder?

    python examples/language/translate_numbers.py           # some minutes on 2 cores
    python examples/language/translate_numbers.py --resume  # goes on after Ctrl-C, or a kill

German says the ones before the tens and writes a number as one word, and French counts by twenties
(`tinygen/data/number_words.py`, `dates.py`). Two networks with equally many parameters learn from the same
batches, in all six directions at once: the encoder–decoder of Vaswani et al. 2017, and a decoder alone that
reads "source => target" as one text. A translation is right if it is exactly what the grammar writes.
The optimizer and the smoothed labels are from Vaswani et al. 2017, section 5; unlike there, the learning rate
falls to 0, since its noise makes single words wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from collections.abc import Mapping

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.plots import save_attention
from shared.run import Run
from shared.table import Figure, at_least, at_most, more_than
from shared.translation import (
    BEGIN,
    DIRECTIONS,
    END,
    PAD,
    DecoderAlone,
    Model,
    Things,
    Translations,
    bleu,
    cross_attention,
    learn_tokens,
    search,
    share_right,
    split_dates,
    split_numbers,
    take_turns,
    translate,
)

from tinygen.data import number_words
from tinygen.models.language.transformer import Transformer, TransformerConfig
from tinygen.optim import Adam, warmup_cosine
from tinygen.text import BPE

NAMES = ("encoder-decoder", "decoder alone")
PICTURE = (84_093, (DIRECTIONS.index(("english", "german")), DIRECTIONS.index(("english", "french"))))
EXPECTED = at_least(0.99)
SIZES = {
    "quick": {
        "largest": 999,
        "train": 100,
        "layers": 1,
        "width": 32,
        "batch": 32,
        "steps": 260,
        "warmup": 60,
        "lr": 1e-2,
        "tests": 50,
        "beam": 1,
    },
    "full": FULL,
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--largest", type=number(int, 999, number_words.LARGEST), default=10**6, help="the largest number")
    add_run_flags(parser, "runs/translate_numbers", "every 500 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the texts and the batches")
    add("--train", type=size(100, 100_000), default=10_000, help="numbers, and dates, to learn from")
    add("--merges", type=size(0, 10_000), default=200, help="merges of the byte-pair encoding")
    add("--layers", type=size(1, 100), default=2, help="layers of the encoder, and of the decoder")
    add("--heads", type=size(1), default=4, help="attention heads; must divide the width")
    add("--width", type=size(2), default=64, help="channels of the stream, an even number")
    add("--smoothing", type=number(float, 0, 0.99), default=0.1, help="of the labels")
    add("--beam", type=size(1), default=4, help="hypotheses of the beam search at the end; 1 is greedy")
    add("--batch", type=size(1), default=64, help="translations per step")
    add("--tests", type=size(1, 500), default=500, help="numbers, and dates, that are never trained on")
    add("--steps", type=number(int, 2), default=1250, help="optimizer steps")
    add("--warmup", type=number(int, 1), default=150, help="steps until the learning rate is highest")
    add("--lr", type=number(float, 0), default=5e-3, help="the highest learning rate")
    args = parser.parse_args()
    if args.width % args.heads or args.width % 2:
        args.error(f"--width {args.width} must be even, and --heads {args.heads} must divide it")
    args.save_every, args.warmup = args.save_every or 500, min(args.warmup, args.steps - 1)
    return args


def train(models: Mapping[str, Model], texts: Translations, args: argparse.Namespace, run: Run) -> None:
    """The loop: both models learn from the same batches."""
    rng = np.random.default_rng(args.seed + 1)
    optimizers = {name: Adam(x.parameters(), betas=(0.9, 0.98), eps=1e-9) for name, x in models.items()}
    things = {**models, **{f"{name}: optimizer": x for name, x in optimizers.items()}, "batches": rng}
    with run:
        for step in run.loop(things):
            batch = texts.batch(rng.integers(len(texts), size=args.batch), rng.integers(6, size=args.batch))
            losses = {}
            for name, model in models.items():
                optimizers[name].lr = warmup_cosine(step, args.lr, 0.0, args.warmup, args.steps)
                optimizers[name].zero_grad()
                with run.share(batch.source, batch.target) as pair:
                    losses[name] = run.backward(model.loss(*pair), model)
                optimizers[name].step()
            run.log(step=step, **losses)
            run.show(max(losses.values()))


def draw_attention(model: Transformer, tokenizer: BPE, run: Run) -> None:
    """attention.png: where the last layer of the decoder looks while it writes a number in two languages."""
    number, directions = PICTURE
    texts = Translations(Things.write([number], number_words.WRITERS), tokenizer)
    maps = []
    for direction in directions:
        source, target, *_ = texts.batch([0], [direction])
        weights = cross_attention(model, source, target)[-1, 0].mean(axis=0)[:-1]
        names = ([tokenizer.decode([i]) for i in ids[0]] for ids in (source, target[:, 1:]))
        maps.append((*names, weights))
    save_attention(run.path / "attention.png", maps)


def main(args: argparse.Namespace) -> None:
    rng = np.random.default_rng(args.seed + 2)
    numbers = split_numbers(args.tests, args.train, args.largest, rng)
    days = split_dates(args.tests, args.train, rng)
    tokenizer = learn_tokens([numbers[1], days[1]], args.merges)
    learned = Translations(numbers[1] + days[1], tokenizer)
    rows_of = np.arange(args.tests)
    turns = rows_of % 6  # the six directions, one after the other
    tests = {
        kind: Translations(things[0], tokenizer).batch(rows_of, turns)
        for kind, things in (("numbers", numbers), ("dates", days))
    }
    shape = (args.layers, args.heads, args.width, 4 * args.width, 0.0, args.smoothing)
    pad, begin, end = (tokenizer.special[name] for name in (PAD, BEGIN, END))
    config = TransformerConfig(tokenizer.vocab_size, *shape, pre_norm=True, pad=pad, begin=begin, end=end)
    one = Transformer(config, rng=args.seed).to(args.device)
    two = DecoderAlone(config, rng=args.seed).to(args.device)
    models: dict[str, Model] = dict(zip(NAMES, (one, two), strict=True))
    run = Run(args, ["step", *NAMES])
    train(models, learned, args, run)
    run.model({f"{name}.{key}": x for name, each in models.items() for key, x in each.state_dict().items()})
    run.curve({name: name for name in NAMES}, {}, "One batch", "smoothed loss (nats per token)")
    draw_attention(one, tokenizer, run)

    rows = []
    for name, model in models.items():
        for kind, batch in tests.items():
            expected = EXPECTED if model is one else None
            written, copied = translate(model, batch, tokenizer), bleu(batch.read, batch.right, tokenizer)
            score, share = bleu(written, batch.right, tokenizer), share_right(written, batch.right)
            rows.append(Figure(f"{name}: {kind}, BLEU", score, expected, 1.0, copied))
            rows.append(Figure(f"{name}: {kind} right", share, expected, 1.0, 0.0))
    if args.beam > 1:
        batch = tests["numbers"]
        share = share_right(search(one, batch, tokenizer, args.beam), batch.right)
        rows.append(Figure(f"{NAMES[0]}: numbers right, beam of {args.beam}", share, None, 1.0, 0.0))
    batch = learned.batch(np.arange(args.batch) % len(learned), np.arange(args.batch) % 6)
    seconds = take_turns(models, batch)
    ratio = seconds[NAMES[1]] / seconds[NAMES[0]]
    rows.append(Figure(f"{NAMES[1]}: time of a step, {NAMES[0]}'s is 1", ratio, more_than(1.0)))
    counts = [model.num_parameters() for model in models.values()]
    rows.append(Figure("parameters: difference, share", abs(counts[1] / counts[0] - 1), at_most(0.05)))
    run.result(rows, parameters=counts, tests=args.tests, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
