"""WaveNet's sounds: a step written out by hand, waves that are played and read, and the whole run."""

import wave

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import Tensor
from tinygen.data import sound
from tinygen.models.language.wavenet import WaveNet

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "wavenet_tones.py"
SMALL = {"channels": 4, "skip_channels": 6, "layers": 2, "batch": 2, "length": 40, "seconds": 0.25}
SMALL |= {"steps": 3, "warmup": 1, "lr": 0.01, "seed": 3}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.mark.parametrize("kind", ["notes", "vowels"])
def test_the_steps(monkeypatch, example, kind):
    """A part of new waves; the class of the sample to be predicted is the condition; Adam."""
    args, loop = flags(monkeypatch, example, kind=kind, **SMALL), Loop(3)
    classes = {"notes": 15, "vowels": 5}[kind]
    model, copy = exact(WaveNet(256, 4, 6, (1, 2), classes, rng=0))
    example.train(model, args, loop)

    rng, training, losses = np.random.default_rng(4), Training(copy), []
    for step in range(3):
        draw, samples = (sound.melodies, 1000) if kind == "notes" else (sound.vowel_scores, 2000)
        scores = draw(2, 2000 // samples, rng=rng)
        waves, _ = sound.render(kind, scores, rng=rng)
        i = rng.integers(0, 2000 - 40 + 1)
        codes = np.concatenate([np.full((2, 1), 128), sound.mu_law(waves)], axis=1)
        heard = np.array([[row[t // samples] for t in range(i, i + 40)] for row in scores])
        log_p = log_softmax(copy(codes[:, i : i + 40], heard))
        picked = log_p[np.arange(2)[:, None], np.arange(40), codes[:, i + 1 : i + 41]]
        losses.append(training.step(-np.mean(picked), warmup_cosine(step, 0.01, 0.0002, 1, 3)))
    same(model, copy)
    np.testing.assert_allclose(loop.losses(), losses, rtol=1e-9)
    np.testing.assert_allclose(loop.column("batch_loss"), losses, rtol=1e-9)


def test_a_model_that_knows_the_wave_plays_it(monkeypatch, example):
    """A model whose logits are those of one wave: what is played is that wave, with its classes read."""
    args = flags(monkeypatch, example, **SMALL)
    scores = np.array([[0, 7], [14, 7]])
    waves, classes = sound.render("notes", scores, rng=np.random.default_rng(0))
    codes, kind = sound.mu_law(waves), example.KINDS["notes"]

    class Known:
        def sample(self, first, n, *, rng, condition):
            assert first.tolist() == [[128], [128]]
            np.testing.assert_array_equal(condition, classes)
            return np.concatenate([first, codes], axis=1)

    played = example.play(Known(), scores, args)
    np.testing.assert_allclose(played, waves, atol=0.02)
    assert example.share_right(played, scores, kind) == (1.0, 1.0)
    assert example.share_right(played, scores[::-1], kind) == (0.5, 0.5)
    hum = 0.3 * np.sin(2 * np.pi * 1.02 * sound.NOTES[7] * np.arange(2000) / sound.RATE)
    read, right = example.share_right(np.stack([hum, hum]), np.full((2, 2), 7), kind)
    assert (read, right) == (1.0, 0.0)  # a third of a semitone too high: the nearest note, but not right


def test_more_samples_than_a_wave_has_are_all_of_it(monkeypatch, example):
    args = flags(monkeypatch, example, **SMALL | {"length": 5000})
    assert args.length == 2000
    codes, targets, classes = example.batch_of(args, np.random.default_rng(0))
    assert codes.shape == targets.shape == classes.shape == (2, 2000)
    np.testing.assert_array_equal(codes[:, 1:], targets[:, :-1])
    assert Tensor(codes).shape == (2, 2000)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = ["--seconds", 0.25, "--channels", 4, "--layers", 2, "--batch", 2, "--length", 50]
    tiny += ["--steps", 6, "--sounds", 4, "--save-every", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")
    assert (tmp_path / "whole" / "spectrogram.png").read_bytes().startswith(b"\x89PNG")
    with wave.open(str(tmp_path / "whole" / "sound.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 2 * 2000)
