"""Reads the sounds of `tinygen.data.sound`: which notes, which vowels? It has no learned parameters.

A note is read from the highest peak of its spectrum, the fundamental frequency. A vowel is read from its
formants, the resonances of the mouth. Linear prediction finds them (Atal & Hanauer 1971): the filter that
predicts a sample best from the ten before it has its poles there.

Both return a confidence, which is below 0.5 for a tone between two notes and for a sound without formants.
A sound is right if it is read as asked, with a confidence of at least 0.5. All sounds of the data are read
right after mu-law coding and with white noise of standard deviation 0.02, tones also at 0.05.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tinygen.data.sound import NOTES, RATE, VOWELS
from tinygen.types import Floats, Ids

ORDER = 10  # of the linear prediction: two poles per formant, and some for the voice
FFT = 16384  # points; with the parabola below the frequency is exact to 0.1 Hz


def read_notes(waves: ArrayLike) -> tuple[Ids, Floats]:
    """The note (N,) in each of N sounds (N, samples), and the confidence (N,): 1 at its frequency, 0.5 a
    quarter of a semitone beside it, less beyond."""
    peaks = np.array([peak(wave) for wave in np.asarray(waves, np.float64)])
    semitones = 12 * np.log2(peaks[:, None] / NOTES)  # (N, 15) distances
    notes: Ids = np.abs(semitones).argmin(axis=1)
    distance = np.abs(semitones).min(axis=1)
    return notes, 1 / (1 + (distance / 0.25) ** 2)


def peak(wave: Floats) -> float:
    """The frequency in Hz of the highest peak of the spectrum, between 100 and 2000 Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), FFT))
    level = np.log(np.maximum(spectrum, np.finfo(np.float64).tiny))
    low, high = 100 * FFT // RATE, 2000 * FFT // RATE
    i = low + int(level[low:high].argmax())
    left, middle, right = level[i - 1 : i + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend else 0.0  # the top of the parabola through the three
    return float((i + shift) * RATE / FFT)


def read_vowels(waves: ArrayLike) -> tuple[Ids, Floats]:
    """The vowel (N,) in each of N sounds (N, samples), in the order of `VOWELS`, and the confidence: 1 at its
    formants, 0.5 where their mean distance is 15 %."""
    found = np.log([formants(wave) for wave in np.asarray(waves, np.float64)])  # (N, 2)
    known = np.log(list(VOWELS.values()))  # (5, 2)
    distances = np.sqrt(((found[:, None] - known) ** 2).mean(axis=-1))  # (N, 5)
    vowels: Ids = distances.argmin(axis=1)
    return vowels, 1 / (1 + (distances.min(axis=1) / 0.15) ** 2)


def formants(wave: Floats) -> Floats:
    """The first two formants in Hz: the lowest two poles of the linear prediction with a bandwidth below 500
    Hz. If there are fewer, the highest frequency takes their place.

    Eq.: Σ_j a_j r(|i - j|) = r(i), i = 1 ... p, with the autocorrelation r  (Atal & Hanauer 1971)
    Held by: tests/judges/test_sound.py::test_linear_prediction_finds_the_poles_of_a_filter"""
    poles = np.roots(np.append(1, -prediction(wave * np.hamming(len(wave)), ORDER)))
    frequency = np.angle(poles) * RATE / (2 * np.pi)
    bandwidth = -np.log(np.maximum(np.abs(poles), 1e-9)) * RATE / np.pi
    sharp = np.sort(frequency[(frequency > 150) & (bandwidth < 500)])
    return np.append(sharp, [RATE / 2, RATE / 2])[:2]


def prediction(wave: Floats, order: int) -> Floats:
    """The coefficients a (order,) with the least squared error of x_t ≈ Σ_j a_j x_{t-j}, from the
    autocorrelation."""
    r = np.array([wave[: len(wave) - k] @ wave[k:] for k in range(order + 1)])
    r[0] = r[0] * (1 + 1e-4) + 1e-12  # a little white noise, so that silence has a solution, too
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    a: Floats = np.linalg.solve(r[lags], r[1:])
    return a
