"""Sounds: the companding formula, the grammar of melodies, and waves with the spectrum that was asked for."""

import io
import itertools
import wave

import numpy as np
import pytest

from tinygen.data import sound

RNG = lambda seed=0: np.random.default_rng(seed)


def test_mu_law_is_the_formula_and_its_inverse():
    x = np.array([-1.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 1.0])
    f = np.sign(x) * np.log(1 + 255 * np.abs(x)) / np.log(256)
    np.testing.assert_array_equal(sound.mu_law(x), np.floor((f + 1) / 2 * 255 + 0.5))
    assert sound.mu_law([-2.0, 3.0]).tolist() == [0, 255]
    for levels in (4, 256):
        codes = np.arange(levels)
        np.testing.assert_array_equal(sound.mu_law(sound.inverse_mu_law(codes, levels), levels), codes)
    # the largest error is half a step, and steps grow with the sample
    x = np.linspace(-1, 1, 10_001)
    error = np.abs(sound.inverse_mu_law(sound.mu_law(x)) - x)
    assert np.all(error <= 1.02 * (1 / 255 + np.abs(x)) * np.log(256) / 255)


def test_melodies_follow_the_grammar():
    scores = sound.melodies(2000, 6, rng=RNG())
    assert set(scores[:, 0]) == {0, 7, 14}
    steps = np.abs(np.diff(scores[:, :-1], axis=1))
    assert set(steps.ravel()) <= {0, 1, 2}  # 0 where a step of 2 turns around at distance 1 from the end
    assert np.all((steps > 0) | np.isin(scores[:, 1:-1], (1, 13)))
    assert scores.min() == 0
    assert scores.max() == 14
    inner = scores[np.isin(scores[:, 1], range(2, 13)), 1:3]  # far enough from the ends of the scale
    counts = np.bincount(inner[:, 1] - inner[:, 0] + 2)
    assert np.all(np.abs(counts[[0, 1, 3, 4]] - len(inner) / 4) < 6 * np.sqrt(len(inner) / 4))
    for before, last in scores[:, -2:]:
        assert last == min((0, 7, 14), key=lambda c: abs(c - before))
    with pytest.raises(ValueError, match="at least two notes, got length=1"):
        sound.melodies(3, 1, rng=RNG())


def test_the_scale_is_c_major_in_equal_temperament():
    np.testing.assert_allclose(sound.NOTES[[0, 5, 7, 14]], [261.6256, 440.0, 523.2511, 1046.5023], rtol=1e-6)
    assert [round(12 * np.log2(b / a)) for a, b in itertools.pairwise(sound.NOTES[:8])] == [
        2,
        2,
        1,
        2,
        2,
        2,
        1,
    ]


@pytest.mark.parametrize("note", range(15))
def test_a_note_has_four_harmonics(note):
    [wave] = sound.note_waves([note], rng=RNG(note))
    t = np.arange(len(wave)) / sound.RATE
    power = [abs(np.exp(-2j * np.pi * k * sound.NOTES[note] * t) @ wave) for k in range(1, 6)]
    np.testing.assert_allclose(power[1:4] / power[0], sound.HARMONICS[1:], rtol=0.05)
    assert power[4] < (0.03 * power[0] if 5 * sound.NOTES[note] < 4000 else np.inf)
    assert abs(wave[0]) < 1e-12
    assert abs(wave[-1]) < 1e-12
    assert np.abs(wave).max() < 1


def test_vowels_have_the_harmonics_of_one_pitch_weighted_by_the_mouth():
    waves = sound.vowel_waves([[0, 2]], rng=RNG())
    pitch = RNG().uniform(*sound.PITCHES)
    t = np.arange(sound.VOWEL_SAMPLES) / sound.RATE
    window = np.hanning(len(t))
    for x, name in zip(waves[0], ("a", "i"), strict=True):
        k = np.arange(1, int(4000 / pitch))
        found = np.abs(np.exp(-2j * np.pi * np.outer(k * pitch, t)) @ (x * window))
        # each resonance is a damped oscillator: |H(f)|² = 1 / ((1 - f²/F²)² + (f B / F²)²)
        gain = np.ones(len(k))
        for formant in sound.VOWELS[name]:
            f = k * pitch
            gain /= np.sqrt((1 - f**2 / formant**2) ** 2 + (f * sound.BANDWIDTH / formant**2) ** 2)
        np.testing.assert_allclose(found / found.max(), gain / gain.max(), atol=0.02)


def test_vowels_are_the_sums_of_all_harmonics_below_4000_hz():
    """Written out, with the drawn pitches and loudnesses: of the lowest voices, 44 harmonics."""
    vowels = np.tile(np.arange(5), (30, 1))
    waves, rng = sound.vowel_waves(vowels, rng=RNG(0)), RNG(0)
    pitch, loudness = rng.uniform(90, 160, 30), rng.uniform(0.4, 0.8, 30)
    assert pitch.min() < 4000 / 44
    t = np.arange(2000) / 8000
    fade = np.minimum(np.minimum(t, t[-1] - t) / 0.01, 1)
    for row, name in itertools.product((pitch.argmin(), pitch.argmax()), range(5)):
        k = np.arange(1, int(np.ceil(4000 / pitch[row])))
        gain = sound.mouth(k * pitch[row], np.array(sound.VOWELS["aeiou"[name]], float))
        wave = gain @ np.cos(2 * np.pi * pitch[row] * np.outer(k, t))
        expected = loudness[row] * wave / np.abs(wave).max() * fade
        np.testing.assert_allclose(waves[row, name], expected, atol=1e-12)


def test_the_phase_of_a_note_is_uniform():
    """The mean of 500 points on the circle, within six standard deviations."""
    t = np.arange(1000) / sound.RATE
    points = sound.note_waves([5] * 500, rng=RNG()) @ np.exp(-2j * np.pi * sound.NOTES[5] * t)
    assert abs(np.mean(points / abs(points))) < 6 / np.sqrt(500)


def test_the_published_formants():
    """Peterson & Barney 1952, table II, men."""
    first, second = zip(*sound.VOWELS.values(), strict=True)
    assert "".join(sound.VOWELS) == "aeiou"
    assert first == (730, 530, 270, 570, 300)
    assert second == (1090, 1840, 2290, 840, 870)


@pytest.mark.parametrize(("kind", "samples"), [("notes", 1000), ("vowels", 2000)])
def test_rendered_scores_have_a_class_for_each_sample(kind, samples):
    scores = np.array([[0, 3, 1], [4, 4, 2]])
    waves, classes = sound.render(kind, scores, rng=RNG())
    assert waves.shape == classes.shape == (2, 3 * samples)
    np.testing.assert_array_equal(
        classes.reshape(2, 3, samples)[:, :, [0, -1]], np.stack([scores, scores], -1)
    )


def test_vowels_are_uniform():
    counts = np.bincount(sound.vowel_scores(5000, 2, rng=RNG()).ravel(), minlength=5)
    assert np.all(np.abs(counts - 2000) < 6 * np.sqrt(10_000 * 0.2 * 0.8))


def test_wav_bytes_are_read_by_the_standard_library():
    x = np.array([0.0, 0.5, -1.0, 1.0, 2.0, -2.0])
    with wave.open(io.BytesIO(sound.wav_bytes(x))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        found = np.frombuffer(file.readframes(6), "<i2")
    assert found.tolist() == [0, 16384, -32767, 32767, 32767, -32767]
