"""The four tasks of Palette: conditions and masks, measures whose results are known, the training loop by
hand, and the whole run."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, same, warmup_cosine
from example_runs import EXAMPLES, module, outcome, require_average, require_pictures, require_same_from, run

sys.path.insert(0, str(EXAMPLES))
from shared import edits as shared
from shared import judged_edits as judged

sys.path.remove(str(EXAMPLES))

from tinygen import ops
from tinygen.data import luminance, shapes
from tinygen.data.shapes import COLORS, SCENES, coverage_of_each
from tinygen.diffusion import Process, cosine_schedule
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import EMA

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "palette_shapes.py"
TINY = ["--channels", "8", "--batch", "8", "--timesteps", "20", "--sample-steps", "3", "--pictures", "4"]
TINY += ["--eval-every", "3", "--repeats", "2", "--greys", "2", "--draws", "3", "--compared", "2"]
HOLES = {"uncrop": shared.beyond_a_line, "inpaint": shared.box}


# -- conditions and masks --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_tasks():
    """Every scene in some task, each task with 61 or 62 of them."""
    tasks = [shared.TASKS[i % 7] for i in range(len(SCENES))]
    return tasks, *shared.edits(tasks, list(SCENES), 16, np.random.default_rng(0))


def test_what_the_model_sees_of_each_task(all_tasks):
    tasks, made, parts = all_tasks
    assert [x.dtype for x in made] == [np.float32, np.float32, bool, int]
    assert made.mask.shape == (432, 1, 16, 16)
    for i, (task, scene) in enumerate(zip(tasks, SCENES, strict=True)):
        x, y, mask = made.pictures[i], made.condition[i], made.mask[i]
        if task in HOLES:
            assert 0 < mask.sum() < mask.size
            np.testing.assert_array_equal(y, np.where(mask, 0, x))
        else:
            assert mask.all()
        if task.startswith("colorize"):
            np.testing.assert_allclose(
                y, np.broadcast_to(np.einsum("c,chw", luminance.LUMINANCE, x), y.shape), atol=1e-6
            )
        if task == "enlarge":
            small = x.reshape(3, 4, 4, 4, 4).mean(axis=(2, 4))
            np.testing.assert_allclose(y, shared.bicubic(small[None])[0], atol=1e-6)
        if task == "draw":
            assert not y.any()
        names = luminance.EQUAL if task == "colorize, equal luminance" else COLORS
        assert np.abs(parts.ink[i] - names[scene.color]).max() <= 0.05
        label = list(COLORS).index(scene.color) if task == "colorize, named" else 5 + shared.TASKS.index(task)
        assert made.labels[i] == label


@pytest.mark.parametrize("task", HOLES)
def test_the_rest_determines_what_is_missing(task):
    """The known pixels of every scene change when x, y or r do, each in a way of its own: the smallest
    singular value of their slopes is far from 0. Of the upper half of a triangle it is 0."""
    rng = np.random.default_rng(1)
    names, place = [s.shape for s in SCENES], shapes.jitter(SCENES, rng=rng).place
    known = ~HOLES[task](place, 16, rng)[:, 0]

    def smallest(known):
        slopes = [
            (coverage_of_each(names, place + d, 16) - coverage_of_each(names, place - d, 16)) / 2e-4
            for d in 1e-4 * np.eye(3)
        ]
        seen = np.stack(slopes, axis=-1) * known[..., None]
        return np.linalg.svd(seen.reshape(len(place), -1, 3), compute_uv=False)[:, -1]

    assert smallest(known).min() > 4
    top = (np.arange(16)[:, None] + 1) / 16 <= place[:, 1, None, None]
    assert smallest(np.broadcast_to(top, known.shape))[[n == "triangle" for n in names]].max() < 1e-6


@pytest.mark.parametrize("task", HOLES)
def test_holes_go_through_the_center_and_in_all_ways(task):
    place = np.tile([[0.5, 0.3, 0.2]], (200, 1))
    masks = HOLES[task](place, 16, np.random.default_rng(0))[:, 0]
    kinds = {tuple(map(tuple, np.argwhere(m)[[0, -1]])) for m in masks}
    if task == "uncrop":  # left, right, above; x = 8 pixels, y = 4.8
        assert kinds == {((0, 0), (15, 6)), ((0, 9), (15, 15)), ((0, 0), (3, 15))}
    else:  # four quarters of a box that reaches 0.3 = 4.8 pixels from the center
        assert kinds == {((0, 3), (3, 7)), ((0, 8), (3, 12)), ((5, 3), (9, 7)), ((5, 8), (9, 12))}


def test_bicubic_is_that_of_pillow():
    from PIL import Image

    small = np.random.default_rng(0).standard_normal((1, 1, 4, 5)).astype(np.float32)
    theirs = Image.fromarray(small[0, 0]).resize((20, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(shared.bicubic(small)[0, 0], np.asarray(theirs), atol=1e-5)
    flat = np.ones((1, 2, 4, 4))
    np.testing.assert_allclose(shared.bicubic(flat), 1, rtol=1e-12)
    np.testing.assert_allclose(shared.reduce(np.arange(16.0).reshape(1, 1, 4, 4)), [[[[7.5]]]])


# -- measures --------------------------------------------------------------------------------------


def test_which_pixels_are_right(all_tasks):
    """The truth has all, paper none, and an error of a tenth of the range is the limit."""
    tasks, made, parts = all_tasks
    chosen = np.flatnonzero([task in HOLES for task in tasks])
    made, parts = made.rows(chosen), shapes.Parts(*(part[chosen] for part in parts))
    paper = np.broadcast_to((2 * parts.paper - 1)[..., None, None], made.pictures.shape)
    right = lambda x: judged.drawn_right(x, made, parts)
    assert right(made.pictures) == 1
    assert right(paper) == 0
    off = made.pictures.copy()
    off[:, 1] += 0.19
    assert right(off) == 1
    off[:, 1] += 0.02
    assert right(off) == 0
    assert right(np.where(made.mask, made.pictures, 9)) == 1  # the known part does not count
    assert 0.1 < right(judged.nearest_known(made)) < 0.6


def test_the_nearest_known_pixel():
    mask = np.zeros((1, 1, 4, 4), bool)
    mask[..., 2:] = True
    x = np.arange(16.0, dtype=np.float32).reshape(1, 1, 4, 4)
    made = shared.Edits(x, np.where(mask, 0, x), mask, np.zeros(1, int))
    np.testing.assert_array_equal(judged.nearest_known(made)[0, 0], x[0, 0][:, [0, 1, 1, 1]])


def test_colors_are_counted():
    """Two groups of drawings; noise is no color."""
    scenes = [SCENES[i] for i in (0, 40, 100, 200, 300, 431)]
    for colors in (COLORS, luminance.EQUAL):
        parts = shapes.jitter(scenes, colors, rng=np.random.default_rng(0))
        pictures = shapes.draw_parts(scenes, parts, 16)
        pictures[5] = np.random.default_rng(1).standard_normal((3, 16, 16))
        words = [list(COLORS).index(s.color) for s in scenes]
        wanted = np.stack([np.bincount(words[:3], minlength=6), np.bincount(words[3:5], minlength=6)])
        np.testing.assert_array_equal(judged.color_counts(pictures, 3, colors), wanted)


def test_divergence_by_hand():
    p = np.array([[0.5, 0.5, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    counts = np.array([[2, 7, 0, 0, 0, 0], [0, 9, 0, 0, 0, 0]])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert judged.divergence(p, counts, 9) == pytest.approx((first + np.log(10)) / 2)
    assert judged.divergence(p, 9 * p, 9) == 0


# -- training --------------------------------------------------------------------------------------


def test_the_loop(monkeypatch):
    """Each picture has a task, drawn by its share; the loss is the mean over the drawn part of each."""
    example = module(EXAMPLE)
    sizes = {
        "timesteps": 9,
        "sample_steps": 5,
        "batch": 3,
        "steps": 4,
        "lr": 0.01,
        "ema": 0.2,
        "eval_every": 3,
    }
    args = flags(monkeypatch, example, **sizes)
    config = UNetConfig(7, 3, 4, (1,), blocks=1, attention=(False,), groups=2, classes=11)
    process = Process(cosine_schedule(9), "v")
    model, other = exact(Palette(UNet(config, rng=np.random.default_rng(1)), process))
    ema, run = EMA(model, args.ema), Loop(4)

    def unseen_loss(*given):
        assert given == (model, args)
        same(model, ema.average)  # of the averaged weights
        return 0.25, 1.0

    monkeypatch.setattr(example, "unseen_loss", unseen_loss)
    example.train(model, ema, args, run)

    rng, training, losses = np.random.default_rng(args.seed + 1), Training(other, clip=1.0, average=0.2), []
    s = process.schedule
    for step in range(4):
        tasks = rng.choice(shared.TASKS, 3, p=np.array([2, 3, 3, 3, 2, 2, 2]) / 17)
        scenes = [shapes.SPLITS["train"][i] for i in rng.integers(360, size=3)]
        (x, y, mask, labels), _ = shared.edits(tasks, scenes, 16, rng)
        t = 1 + rng.integers(9, size=3)
        alpha, sigma = (values[t].astype(np.float32)[:, None, None, None] for values in (s.alpha, s.sigma))
        eps = rng.standard_normal(x.shape, np.float32)
        noisy = np.where(mask, alpha * x + sigma * eps, y)
        v = other.unet(np.concatenate([noisy, y, mask.astype(np.float32)], axis=1), t - 1, labels)
        each = [ops.mse(v[i], (alpha * eps - sigma * x)[i], "none") * mask[i] for i in range(3)]
        loss = sum(np.sum(e) / (3 * m.sum()) for e, m in zip(each, mask, strict=True)) / 3
        losses.append(training.step(loss, warmup_cosine(step, 0.01, 0.0001, 2, 4)))
    np.testing.assert_allclose(run.column("batch_loss"), losses, rtol=1e-5)
    assert [row for row in run.rows if "val_loss" in row] == [{"step": n, "val_loss": 0.25} for n in (3, 4)]
    same(model, other, 1e-5)
    same(ema.average, training.average, 1e-5)


def test_the_loss_on_unseen_pictures(monkeypatch):
    """Of a network that says 0 it is the second number."""
    example = module(EXAMPLE)
    args = flags(monkeypatch, example, timesteps=8, sample_steps=8, seed=4)
    config = UNetConfig(7, 3, 4, (1,), blocks=1, attention=(False,), groups=2, classes=11)
    model = Palette(UNet(config, rng=1), Process(cosine_schedule(8), "v"))  # its last layer is 0
    loss, nothing = example.unseen_loss(model, args)
    assert loss == pytest.approx(nothing, rel=1e-5)
    assert 0.5 < nothing < 1.1


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    flags = ["--steps", 6, "--out", tmp_path / "out", *TINY]
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    for row in ("colorize, named: surely all words", "uncrop: pixels of the shape", "enlarge: PSNR"):
        assert f"pairs never seen, {row}" in done.stdout
    assert "colorize, equal luminance: KL from the exact posterior, nats" in done.stdout
    assert "compared, inpaint, RePaint, 2 times: pixels" in done.stdout
    assert 0.1 < outcome(tmp_path / "out")[2]["val_loss"] < 1.5
    require_pictures(tmp_path / "out", "loss", "train", "held_out", "colors")
    require_average(tmp_path / "out")
    require_same_from(3, tmp_path / "out", EXAMPLE, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sample-steps", "300"], "--sample-steps 300 is more than --timesteps 200"),
        (["--channels", "12"], "--channels 12 is not a multiple of 8"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, flags, message):
    done = run(EXAMPLE, *flags, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
