"""ControlNet on shapes: its three stages by hand, the outlines, and the whole run."""

import copy
import sys

import numpy as np
import pytest
from by_hand import Loop, Training, flags, same, warmup_cosine
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen.data import shapes
from tinygen.diffusion import loss_at

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "controlnet_shapes.py"
SMALL = {"ae_steps": 2, "ae_channels": 4, "diffusion_steps": 2, "control_steps": 3, "channels": 8, "batch": 4}
SMALL |= {"drawings": 1, "sampler_steps": 1, "look_every": 9, "judged": 2}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def outlines(example):
    return sys.modules["shared.outlines"]


def test_the_steps(monkeypatch, example, outlines):
    """The autoencoder, the scale of its codes, the latent diffusion, then the ControlNet: a copy of the UNet
    as it is by then, with half of the captions left out. Each stage leaves the others as they are."""
    few = lambda n, side, rng, split="train": shapes.batch(min(n, 6), side, rng, split)
    for place in (example, sys.modules["shared.controlled"]):
        monkeypatch.setattr(place, "batch", few)
    args = flags(monkeypatch, example, **SMALL)
    model = example.build(args).astype(np.float64)
    other, loop = copy.deepcopy(model), Loop(7)
    example.train(model, args, loop)

    rng, base, losses = np.random.default_rng(args.seed + 2), other.base, []
    base.unfreeze()
    training = Training(base.autoencoder, (0.9, 0.99), clip=1.0)
    for step in range(2):
        x = shapes.batch(2, 32, rng)[0]
        loss = base.autoencoder.loss(x, rng=rng) / (3 * 32 * 32)
        losses.append(training.step(loss, warmup_cosine(step, args.ae_lr, args.ae_lr / 50, 1, 2)))
    codes = base.encode(shapes.batch(6, 32, rng)[0])
    base.autoencoder.scale.data = np.asarray(1 / codes.std(), np.float32)
    pictures, scenes = shapes.batch(6, 32, np.random.default_rng(args.seed + 1))
    codes, captions = base.encode(pictures), [shapes.caption(scene) for scene in scenes]
    hints = outlines.outlines(pictures)

    training = Training(base.denoiser, (0.9, 0.99), clip=1.0)
    for step in range(2):
        chosen = rng.integers(6, size=4)
        loss = base.loss(codes[chosen], [captions[i] for i in chosen], rng=rng)
        losses.append(training.step(loss, warmup_cosine(step, args.lr, args.lr / 50, 1, 2)))
    base.freeze()
    unet = base.denoiser.unet.state_dict()
    net = example.ControlNet.copy_of(base.denoiser.unet, *example.HINTS, rng=args.seed + 3)
    other.controlnet.load_state_dict(net.state_dict())
    training, dropped = Training(other.controlnet, (0.9, 0.99), clip=1.0), 0
    for step in range(3):
        chosen = rng.integers(6, size=4)
        left_out = rng.random(4) < 0.5
        dropped += left_out.sum()
        texts = ["" if out else captions[i] for i, out in zip(chosen, left_out, strict=True)]
        t = 1 + rng.integers(500, size=4)
        noise = rng.standard_normal((4, 4, 8, 8))
        predict = lambda x, t: other(x, t, texts, hints[chosen])  # noqa: B023
        loss = loss_at(base.process, predict, codes[chosen], t, noise)
        losses.append(training.step(loss, warmup_cosine(step, args.lr, args.lr / 50, 1, 3)))
    assert 0 < dropped < 12
    names = ["autoencoder"] * 2 + ["diffusion"] * 2 + ["controlnet"] * 3
    for step, (row, name, value) in enumerate(zip(loop.rows, names, losses, strict=True)):
        assert row["step"] == step
        assert row[f"{name}_loss"] == pytest.approx(value, rel=1e-5)
    assert [step for step, row in enumerate(loop.rows) if "iou" in row] == [4]
    assert loop.stages == ["autoencoder", "diffusion", "controlnet"]
    same(model.controlnet, other.controlnet, 1e-5)
    for name, array in model.base.denoiser.unet.state_dict().items():
        np.testing.assert_allclose(array, unet[name], rtol=1e-5, atol=1e-5, err_msg=name)


# -- outlines --------------------------------------------------------------------------------------


def test_an_outline_says_nothing_of_the_colors(outlines):
    """The same shape in two pairs of colors has the same outline; it is where the coverage changes."""
    place = np.array([[0.5, 0.4, 0.2]])
    covered = shapes.coverage("square", place, 32)
    colors = [np.array([[0.9, 0.1, 0.1]]), np.array([[0.2, 0.3, 0.9]]), np.array([[0.1, 0.1, 0.1]])]
    one, two = (outlines.outlines(shapes.paint(covered, ink, colors[2])) for ink in colors[:2])
    assert one.shape == (1, 1, 32, 32)
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert one.max() == 1
    changes = np.gradient(covered[0])
    np.testing.assert_array_equal(one[0, 0] > 1e-6, np.hypot(*changes) > 1e-9)


def test_what_is_filled(outlines):
    """The pixels of which a drawing's shape covers more than half."""
    rng = np.random.default_rng(0)
    pictures, _ = shapes.batch(20, 32, rng)
    np.testing.assert_allclose(outlines.overlap(pictures, pictures), 1)
    place = np.array([[0.3, 0.3, 0.15], [0.7, 0.7, 0.15], [0.7, 0.7, 0.15]])
    covered = shapes.coverage("square", place, 32)
    drawn = shapes.paint(covered, np.ones((3, 3)), np.zeros((3, 3)))
    np.testing.assert_array_equal(outlines.filled(drawn), covered > 0.5)
    np.testing.assert_array_equal(outlines.overlap(drawn[[0, 1]], drawn[[1, 2]]), [0, 1])


def test_half_of_a_shape(outlines):
    """4 × 8 pixels of a square of 8 × 8: half of the union."""
    pictures = np.zeros((2, 3, 32, 32))
    pictures[:, :, 8:16, 8:16] = 1
    pictures[1, :, 12:16] = 0
    np.testing.assert_array_equal(outlines.overlap(pictures[:1], pictures[1:]), [0.5])


# -- the whole run ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_the_same_one_resumed_and_its_base(tmp_path):
    given = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    given += ["--out", tmp_path / "out", "--save-every", 5]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    found = outcome(tmp_path / "out")[2]
    assert [look["step"] for look in found["looks"]] == [0]
    require_pictures(tmp_path / "out", "loss", "iou", "control")
    require_same_from(5, tmp_path / "out", EXAMPLE, *given)
    second = ["--from", tmp_path / "out", "--out", tmp_path / "second"]
    assert run(EXAMPLE, *given, *second).returncode == 0
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == outcome(tmp_path / "out")[1]
