"""The reader of sounds: exact frequencies, the poles of known filters, and all sounds of the data."""

import numpy as np
import pytest

from tinygen.data import sound
from tinygen.judges import sound as judge
from tinygen.judges.sound import formants, peak, prediction, read_notes, read_vowels

RNG = lambda seed=0: np.random.default_rng(seed)
READERS = {"notes": (sound.melodies, read_notes), "vowels": (sound.vowel_scores, read_vowels)}


@pytest.mark.parametrize("f", [261.6, 300.0, 987.77])
def test_the_peak_of_a_sinusoid_is_its_frequency(f):
    t = np.arange(1000) / sound.RATE
    assert peak(np.sin(2 * np.pi * f * t + 1)) == pytest.approx(f, abs=0.1)


def test_linear_prediction_finds_the_poles_of_a_filter():
    """Noise through two resonances: the prediction is the filter's recursion, its formants are the poles."""
    poles = [0.98 * np.exp(2j * np.pi * f / sound.RATE) for f in (500.0, 1500.0)]
    a = -np.poly([*poles, *np.conj(poles)]).real[1:]
    x = np.zeros(200_000)
    noise = RNG().standard_normal(len(x))
    for t in range(4, len(x)):
        x[t] = noise[t] + a @ x[t - 4 : t][::-1]
    np.testing.assert_allclose(prediction(x, 4), a, atol=0.05)  # the added noise moves it by some 0.04
    np.testing.assert_allclose(formants(x), [500, 1500], rtol=0.01)


def test_the_prediction_is_the_solution_of_least_squares():
    x = np.concatenate([np.zeros(6), RNG().standard_normal(50), np.zeros(6)])  # zeros beside: no edge
    rows = np.stack([np.roll(x, j) for j in range(1, 5)], axis=1)
    best, *_ = np.linalg.lstsq(rows, x, rcond=None)
    np.testing.assert_allclose(prediction(x, 4), best, rtol=1e-3)


@pytest.mark.parametrize("kind", READERS)
def test_all_sounds_are_read_also_with_codes_and_noise(kind):
    draw, read = READERS[kind]
    scores = draw(60, 4, rng=RNG())
    waves, _ = sound.render(kind, scores, rng=RNG(1))
    coded = sound.inverse_mu_law(sound.mu_law(waves))
    for x in (waves, coded, waves + 0.02 * RNG(2).standard_normal(waves.shape)):
        found, confidence = read(x.reshape(scores.size, -1))
        np.testing.assert_array_equal(found, scores.ravel())
        assert confidence.min() > 0.7


def test_the_confidence_by_hand(monkeypatch):
    """A half at a quarter of a semitone, and where the formants are 15 % away; of each sound by itself."""
    away = np.array([0.0, 0.25, 0.5])
    peaks = iter(sound.NOTES[[0, 1, 3]] * 2 ** (away / 12))
    monkeypatch.setattr(judge, "peak", lambda wave: next(peaks))
    notes, confidence = read_notes(np.zeros((3, 9)))
    assert notes.tolist() == [0, 1, 3]
    np.testing.assert_allclose(confidence, [1, 0.5, 0.2], rtol=1e-9)
    known = iter(np.array([*sound.VOWELS.values()])[:3] * np.exp(away[:, None] * 0.6))
    monkeypatch.setattr(judge, "formants", lambda wave: next(known))
    np.testing.assert_allclose(read_vowels(np.zeros((3, 9)))[1], [1, 0.5, 0.2], rtol=1e-9)


def test_silence_has_no_formants():
    """The highest frequency takes their place."""
    assert formants(np.zeros(2000)).tolist() == [4000, 4000]


def test_other_sounds_have_a_low_confidence():
    t = np.arange(1000) / sound.RATE
    between = np.sqrt(sound.NOTES[1:] * sound.NOTES[:-1])  # half a semitone away at least
    assert read_notes(np.sin(2 * np.pi * between[:, None] * t))[1].max() < 0.3
    noise = RNG().standard_normal((100, 2000))
    assert np.mean(read_vowels(noise)[1] >= 0.5) < 0.05
    assert read_vowels(np.zeros((1, 2000)))[1] < 0.5
    assert read_notes(np.zeros((1, 1000)))[1] < 0.5
