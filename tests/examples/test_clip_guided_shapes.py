"""CLIP-guided diffusion of shapes: its steps by hand, its evaluations counted, and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, Training, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, require_average, require_pictures, require_same_from, run

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "clip_guided_shapes.py"
SMALL = {"channels": 8, "batch": 6, "steps": 3, "seed": 4, "lr": 0.01, "ema": 0.25, "timesteps": 20}
SMALL["evaluations"] = 8


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def guided(example):
    import sys

    return sys.modules["shared.guided"]


def alpha_bar_cosine(steps):
    """ᾱ_1, ..., ᾱ_T, with the limit of β at 0.999."""
    f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))


def test_the_steps(monkeypatch, example):
    """CLIP sees all pictures, the diffusions the first half; a tenth of the captions is left out. Each has a
    step, noise and an optimizer of its own."""
    args = flags(monkeypatch, example, **SMALL)
    models = example.build(args).astype(np.float64)
    by_hand, loop = copy.deepcopy(models), Loop(3)
    ema = example.EMA(models, 0.25)
    example.train(models, ema, args, loop)

    rng, alpha_bar = np.random.default_rng(5), alpha_bar_cosine(20)
    unet, clip, denoiser = by_hand
    averages = [Training(model, (0.9, 0.99), clip=1.0, average=0.25) for model in by_hand]
    for n in range(3):
        pictures, captions = example.draw_scenes(12, 16, rng)
        rate, losses = warmup_cosine(n, 0.01, 0.01 / 50, 1, 3), {}

        def noisy(x):
            t = rng.integers(20, size=len(x))
            noise = rng.standard_normal(x.shape, np.float32)
            a = alpha_bar[t].reshape(-1, 1, 1, 1)
            alpha, sigma = (part.astype(np.float32) for part in (np.sqrt(a), np.sqrt(1 - a)))
            return t, alpha * x + sigma * noise, alpha * noise - sigma * x

        t, x, v = noisy(pictures[:6])
        losses["unconditional"] = averages[0].step(np.mean((unet(x, t) - v) ** 2), rate)
        t, x, _ = noisy(pictures)
        unit = lambda a: a / np.sqrt((a * a).sum(axis=1, keepdims=True))
        texts = unit(clip.text_encoder(example.ids_of(captions)))
        z = unit(clip.image_encoder(x, t)) @ texts.T * np.exp(clip.logit_scale)
        loss = -sum((log_softmax(each) * np.eye(12)).sum() for each in (z, z.T)) / 24
        losses["clip"] = averages[1].step(loss, rate)
        given = ["" if out else text for out, text in zip(rng.random(6) < 0.1, captions, strict=False)]
        context, mask = denoiser.text_encoder(given)
        t, x, v = noisy(pictures[:6])
        losses["conditional"] = averages[2].step(np.mean((denoiser(x, t, context, mask) - v) ** 2), rate)
        assert loop.rows[n] == pytest.approx({"step": n, **losses}, rel=1e-4)
    same(models, by_hand, 1e-4)
    for i, average in enumerate(averages):
        names = [name for name, _ in models[i].named_parameters()]
        for name in names:
            np.testing.assert_allclose(
                ema.average[f"{i}.{name}"], average.average[name], rtol=1e-4, atol=1e-4, err_msg=name
            )
    assert loop.stages == 3 * ["unconditional", "clip", "conditional"]


@pytest.mark.parametrize("way", ["unguided", "CLIP-guided", "classifier-free"])
def test_all_ways_cost_the_same(monkeypatch, example, guided, way):
    """Pictures that pass through a network; through CLIP they pass forward, and back, which counts two."""
    args = flags(monkeypatch, example, **SMALL)
    models, passed = example.build(args), []
    unet, clip, denoiser = models

    def count(module, weight):
        forward = type(module).forward
        watched = lambda x, *more, **given: (
            passed.append(weight * len(x)) or forward(module, x, *more, **given)
        )
        monkeypatch.setattr(module, "forward", watched)

    count(unet, 1)
    count(clip.image_encoder, 3)
    count(denoiser.unet, 1)
    captions = ["a red cross", "a small blue circle", "a white square"]
    drawn = guided.draw(way, models, captions, args, 0)
    assert drawn.shape == (3, 3, 16, 16)
    assert sum(passed) == 3 * args.evaluations
    np.testing.assert_array_equal(drawn, guided.draw(way, models, captions, args, 0))


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 2 steps, as if it had been killed at step 2."""
    given = ["--steps", 4, "--out", tmp_path / "out", "--save-every", 2, "--judged", 4]
    given += ["--channels", 8, "--batch", 4, "--timesteps", 20, "--evaluations", 8]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "out")[2]["steps"] == 4
    require_pictures(tmp_path / "out", "loss", "drawings")
    require_average(tmp_path / "out")
    require_same_from(2, tmp_path / "out", EXAMPLE, *given)
