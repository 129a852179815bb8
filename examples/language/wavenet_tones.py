"""A WaveNet plays melodies, or speaks vowels, as it is asked: one network, one sample after the other.

    python examples/language/wavenet_tones.py                # notes of two octaves, a minute on 2 cores
    python examples/language/wavenet_tones.py --kind vowels  # five vowels
    python examples/language/wavenet_tones.py --resume       # goes on after Ctrl-C, or a kill

The waves have 8000 samples per second, each coded by the mu-law as one of 256 values. The condition of a
sample is its note, or its vowel. At the end the model plays new scores, and a program without learned
parameters reads the waves: a note by its frequency, a vowel by its formants. `sound.wav` can be played.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
from typing import Any, NamedTuple

import numpy as np
from shared.flags import FULL, Flags, add_run_flags, number, size
from shared.plots import save_spectrogram
from shared.run import Run
from shared.table import Figure, at_least

from tinygen.data import sound
from tinygen.judges.sound import read_notes, read_vowels
from tinygen.models.language.wavenet import WaveNet
from tinygen.optim import Adam, warmup_cosine
from tinygen.storage.files import replace_file

LEVELS, SILENCE = 256, 128  # how many codes there are; the code of 0, with which a wave begins
EXPECTED = at_least(0.95)
SIZES = {
    "quick": {"steps": 100, "batch": 2, "seconds": 0.25, "sounds": 60, "warmup": 10},
    "full": FULL,
}


class Kind(NamedTuple):
    """A kind of sounds: the number of classes, the samples of a sound, a function that draws scores, and a
    function that reads waves."""

    classes: int
    samples: int
    draw: Any
    read: Any


KINDS = {
    "notes": Kind(len(sound.NOTES), sound.NOTE_SAMPLES, sound.melodies, read_notes),
    "vowels": Kind(len(sound.VOWELS), sound.VOWEL_SAMPLES, sound.vowel_scores, read_vowels),
}


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__, SIZES)
    add = parser.add_argument
    add("--kind", choices=KINDS, default="notes", help="which sounds")
    add_run_flags(parser, "runs/wavenet_tones", "every 250 steps")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the scores and the draws")
    add("--channels", type=size(1), default=32, help="width of the layers")
    add("--skip-channels", type=size(1), default=64, help="width of the skip connections")
    add("--layers", type=size(1, 12), default=8, help="with dilations 1, 2, 4, ...")
    add("--seconds", type=number(float, 0.25, 60), default=1.0, help="length of a wave")
    add("--batch", type=size(1), default=4, help="waves per step")
    add("--length", type=size(2), default=1500, help="samples of each wave that a step sees")
    add("--steps", type=number(int, 1), default=1000, help="optimizer steps")
    add("--warmup", type=number(int, 1), default=50, help="steps until the learning rate is highest")
    add("--lr", type=number(float, 0), default=5e-3, help="highest learning rate")
    add("--sounds", type=size(1, 100_000), default=500, help="read at least so many sounds at the end")
    args = parser.parse_args()
    args.save_every, args.warmup = args.save_every or 250, min(args.warmup, args.steps - 1)
    args.sounds_each = int(args.seconds * sound.RATE) // KINDS[args.kind].samples
    args.length = min(args.length, args.sounds_each * KINDS[args.kind].samples)
    return args


def batch_of(args: argparse.Namespace, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Parts of new waves, each (B, T): codes, the next codes, and the classes of the next codes."""
    kind = KINDS[args.kind]
    scores = kind.draw(args.batch, args.sounds_each, rng=rng)
    waves, classes = sound.render(args.kind, scores, rng=rng)
    codes = np.pad(sound.mu_law(waves, LEVELS), ((0, 0), (1, 0)), constant_values=SILENCE)
    begin = rng.integers(0, waves.shape[1] - args.length + 1)
    part = slice(begin, begin + args.length)
    return codes[:, part], codes[:, 1:][:, part], classes[:, part]


def train(model: WaveNet, args: argparse.Namespace, run: Run) -> None:
    """The loop."""
    rng, optimizer = np.random.default_rng(args.seed + 1), Adam(model.parameters())
    with run:
        for step in run.loop({"model": model, "optimizer": optimizer, "scores": rng}):
            optimizer.lr = warmup_cosine(step, args.lr, 0.02 * args.lr, args.warmup, args.steps)
            optimizer.zero_grad()
            with run.share(*batch_of(args, rng)) as (codes, targets, classes):
                loss = run.backward(model.loss(codes, targets, classes), model)
            optimizer.step()
            run.log(step=step, batch_loss=loss)
            run.show(loss)


def play(model: WaveNet, scores: Any, args: argparse.Namespace) -> Any:
    """The model's waves (n, samples) for scores (n, length)."""
    rng = np.random.default_rng(args.seed + 2)
    classes = np.repeat(scores, KINDS[args.kind].samples, axis=1)  # (n, samples)
    first = np.full((len(scores), 1), SILENCE)
    codes = model.sample(first, classes.shape[1], rng=rng, condition=classes)
    return sound.inverse_mu_law(codes[:, 1:], LEVELS)


def share_right(waves: Any, scores: Any, kind: Kind) -> tuple[float, float]:
    """The share of sounds that are read as asked, and of those with a confidence of at least 0.5."""
    found, confidence = kind.read(waves.reshape(scores.size, -1))
    asked = found == scores.ravel()
    return float(np.mean(asked)), float(np.mean(asked & (confidence >= 0.5)))


def main(args: argparse.Namespace) -> None:
    kind, rng = KINDS[args.kind], np.random.default_rng(args.seed)
    dilations = [2**layer for layer in range(args.layers)]
    widths = (args.channels, args.skip_channels)
    model = WaveNet(LEVELS, *widths, dilations, kind.classes, rng=rng).to(args.device)
    run = Run(args, ["step", "batch_loss"])
    train(model, args, run)
    run.model(model.state_dict())
    scores = kind.draw(-(-args.sounds // args.sounds_each), args.sounds_each, rng=rng)
    waves = play(model, scores, args)
    real = sound.inverse_mu_law(sound.mu_law(sound.render(args.kind, scores, rng=rng)[0], LEVELS), LEVELS)
    replace_file(run.path / "sound.wav", [sound.wav_bytes(waves[:4].ravel())])
    save_spectrogram(run.path / "spectrogram.png", {"played": waves[0], "data": real[0]}, sound.RATE)
    run.curve({"batch_loss": "one batch"}, {}, f"WaveNet: {args.kind}", "loss (nats per sample)")
    (read, right), (_, best) = share_right(waves, scores, kind), share_right(real, scores, kind)
    rows = [
        Figure(f"{args.kind}: right, of {scores.size} sounds", right, EXPECTED, best, 1 / kind.classes),
        Figure(f"{args.kind}: read as asked, with any confidence", read),
        Figure("context of a prediction, milliseconds", 1000 * model.receptive_field / sound.RATE),
    ]
    run.result(rows, sounds=scores.size, receptive_field=model.receptive_field, steps=run.steps)


if __name__ == "__main__":
    start(parse_args, main)
