"""Sounds as sequences of codes: melodies and vowels that are computed, and a program can read them.

A *score* is a row of classes, one per sound: notes of two octaves of C major, or five vowels. `melodies`
draws scores from a small grammar, `vowel_scores` uniformly. `render` makes the wave of a score, `mu_law` its
codes; `judges/sound.py` reads a wave. Sounds of the same class differ in phase and loudness, vowels also in
pitch: a model must learn a distribution, not one wave per class.
"""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import ArrayLike

from tinygen.types import Floats, Ids

RATE = 8000
"""Samples per second."""

SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23, 24])
NOTES: Floats = 440.0 * 2.0 ** ((SCALE - 9) / 12)
"""The frequencies (15,) of two octaves of C major in Hz, from middle C; A is 440 Hz, in equal temperament."""
NOTE_SAMPLES = 1000  # an eighth of a second
HARMONICS = np.array([1.0, 0.5, 0.25, 0.125])  # the amplitudes of 1, 2, 3 and 4 times the frequency

VOWELS = {"a": (730, 1090), "e": (530, 1840), "i": (270, 2290), "o": (570, 840), "u": (300, 870)}
"""The first two formants in Hz, of men (Peterson & Barney 1952, table II: hod, head, heed, hawed, who'd)."""
VOWEL_SAMPLES = 2000
BANDWIDTH = 100.0  # of a formant, in Hz
PITCHES = (90.0, 160.0)  # of a voice, in Hz


def mu_law(x: ArrayLike, levels: int = 256) -> Ids:
    """The codes, 0 ... levels - 1, of samples x in [-1, 1]. The steps are small where x is small, as in a
    telephone; larger samples are clipped.

    Eq.: f(x) = sign(x) ln(1 + μ|x|) / ln(1 + μ), with μ = levels - 1  (van den Oord et al. 2016, section 2.2)
    Held by: tests/data/test_sound.py::test_mu_law_is_the_formula_and_its_inverse"""
    x = np.clip(np.asarray(x, np.float64), -1, 1)
    mu = levels - 1
    f = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    codes: Ids = np.round((f + 1) / 2 * mu).astype(np.int64)
    return codes


def inverse_mu_law(codes: ArrayLike, levels: int = 256) -> Floats:
    """The sample in [-1, 1] in the middle of each code."""
    mu = levels - 1
    f = 2 * np.asarray(codes) / mu - 1
    samples: Floats = np.sign(f) * np.expm1(np.abs(f) * np.log1p(mu)) / mu
    return samples


# -- scores ------------------------------------------------------------------------------------------


def melodies(n: int, length: int, *, rng: np.random.Generator) -> Ids:
    """n melodies (n, length) of at least two notes. A melody starts at one of the three Cs. It goes up or
    down by one or two notes of the scale, and ends on the C that is nearest to the note before.

    Raises ValueError for fewer than two notes."""
    if length < 2:
        raise ValueError(f"a melody has at least two notes, got length={length}")
    notes = np.empty((n, length), np.int64)
    notes[:, 0] = rng.choice([0, 7, 14], n)
    for i in range(1, length - 1):
        moved = notes[:, i - 1] + rng.choice([-2, -1, 1, 2], n)
        turned = np.where(moved < 0, -moved, moved)  # at the ends of the scale it turns around
        notes[:, i] = np.where(turned > 14, 28 - turned, turned)
    notes[:, -1] = 7 * np.round(notes[:, -2] / 7)
    return notes


def vowel_scores(n: int, length: int, *, rng: np.random.Generator) -> Ids:
    """n scores (n, length) of vowels, 0 ... 4 in the order of `VOWELS`, uniform and independent."""
    return rng.integers(0, len(VOWELS), (n, length))


# -- waves -------------------------------------------------------------------------------------------


def note_waves(notes: ArrayLike, *, rng: np.random.Generator) -> Floats:
    """The wave of each note, (..., NOTE_SAMPLES) for notes (...): four harmonics that start softly and
    decay."""
    notes = np.asarray(notes)[..., None]
    t = np.arange(NOTE_SAMPLES) / RATE
    phase = rng.uniform(0, 1, notes.shape)
    sound = sum(
        a * np.sin(2 * np.pi * k * (NOTES[notes] * t + phase)) for k, a in enumerate(HARMONICS, start=1)
    )
    envelope = np.minimum(t / 0.01, 1) * np.exp(-8 * t) * np.minimum((t[-1] - t) / 0.01, 1)
    waves: Floats = rng.uniform(0.4, 0.6, notes.shape) * envelope * sound
    return waves


def vowel_waves(vowels: ArrayLike, *, rng: np.random.Generator) -> Floats:
    """The wave of each vowel, (n, length, VOWEL_SAMPLES) for vowels (n, length). The voice has all harmonics
    of its pitch; the mouth makes those near the formants louder. A row has one voice: one pitch, one
    loudness."""
    vowels = np.asarray(vowels)
    pitch = rng.uniform(*PITCHES, (len(vowels), 1, 1))
    loudness = rng.uniform(0.4, 0.8, (len(vowels), 1, 1))
    formants = np.array(list(VOWELS.values()))[vowels]  # (n, length, 2)
    t = np.arange(VOWEL_SAMPLES) / RATE
    waves: Floats = np.zeros((*vowels.shape, VOWEL_SAMPLES))
    for k in range(1, int(RATE / 2 / PITCHES[0]) + 1):
        f = k * pitch[..., 0]  # (n, 1)
        gain = np.where(f < RATE / 2, mouth(f, formants), 0.0)  # (n, length)
        waves += gain[..., None] * np.cos(2 * np.pi * k * pitch * t)
    waves *= loudness / np.abs(waves).max(axis=-1, keepdims=True)
    return waves * np.minimum(np.minimum(t, t[-1] - t) / 0.01, 1)


def mouth(f: Floats, formants: Floats) -> Floats:
    """The gain of the frequency f in Hz, with formants (..., 2): one resonance after the other, each a damped
    oscillator with the width `BANDWIDTH`."""
    center = formants  # (..., 2)
    square = (1 - (f[..., None] / center) ** 2) ** 2 + (f[..., None] * BANDWIDTH / center**2) ** 2  # (..., 2)
    gain: Floats = np.sqrt(np.prod(1 / square, axis=-1))
    return gain


def render(kind: str, scores: ArrayLike, *, rng: np.random.Generator) -> tuple[Floats, Ids]:
    """The waves (n, samples) of scores (n, length), and the class of each sample, (n, samples). `kind` is
    "notes" or "vowels"."""
    waves = {"notes": note_waves, "vowels": vowel_waves}[kind](scores, rng=rng)  # (n, length, S)
    classes = np.repeat(np.asarray(scores), waves.shape[-1], axis=-1)  # (n, samples)
    return waves.reshape(len(waves), -1), classes


def wav_bytes(samples: ArrayLike) -> bytes:
    """The bytes of a WAV file, 16 bits, one channel, for samples (T,) in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(32767 * np.clip(samples, -1, 1)).astype("<i2").tobytes())
    return buffer.getvalue()
