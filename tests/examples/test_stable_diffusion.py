"""The example stable_diffusion.py as a user runs it: a PNG with what it was made of; one line for what is
wrong."""

import json
import shutil
import sys

import numpy as np
import pytest
from example_runs import module
from sd_folders import SCHEDULER, put, write_folder

from tinygen.models.huggingface.stable_diffusion import from_pretrained

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
Image = pytest.importorskip("PIL.Image")

EXAMPLE = "stable_diffusion.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    write_folder(folder)
    return folder


@pytest.fixture
def painted(folder, tmp_path, monkeypatch, capsys):
    """Run the example in the folder tmp_path: the exit code, what it prints, its errors."""
    example = module(EXAMPLE)
    monkeypatch.chdir(tmp_path)

    def run(*flags, model=folder):
        words = [EXAMPLE, "--model", model, "--steps", 2, *flags]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        try:
            example.start(example.parse_args, example.main)
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def pixels(path):
    return np.asarray(Image.open(path))


def drawn(path, height, width, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    Image.fromarray(np.random.default_rng(3).integers(0, 256, shape, np.uint8)).save(path)


def bytes_of(pictures):
    return np.round(np.clip(pictures[0] / 2 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def test_the_picture_is_the_models(painted, folder, tmp_path):
    """And holds what it was made of."""
    code, out, err = painted("--prompt", "a red cat", "--negative", "blé", "--seed", 3)
    assert (code, err) == (0, "")
    assert "parameters, read in" in out
    assert "\npicture.png: 32 × 32, " in out
    model = from_pretrained(folder)
    wanted = bytes_of(model.sample(["a red cat"], negative="blé", steps=2, rng=3))
    np.testing.assert_array_equal(pixels(tmp_path / "picture.png"), wanted)
    made_of = json.loads(Image.open(tmp_path / "picture.png").info["tinygen"])
    assert made_of["prompt"] == "a red cat"
    assert made_of["negative"] == "blé"
    assert (made_of["seed"], made_of["steps"], made_of["guidance"]) == (3, 2, 7.5)
    painted("--prompt", "a red cat", "--height", 16, "--width", 48, "--out", "wide.png")
    assert pixels(tmp_path / "wide.png").shape == (16, 48, 3)


def test_image_to_image_and_inpainting(painted, folder, tmp_path):
    drawn("image.png", 32, 16)
    mask = np.zeros((32, 16), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save("mask.png")
    picture = pixels("image.png").astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    model = from_pretrained(folder)
    for flags, given in (
        (["--strength", 0.5], {"strength": 0.5}),
        (["--steps", 10], {"strength": 0.8, "steps": 10}),
        (["--mask", "mask.png"], {"strength": 1.0, "hole": mask > 0}),
    ):
        code, _, err = painted("--image", "image.png", "--prompt", "cat", *flags)
        assert (code, err) == (0, "")
        wanted = bytes_of(model.sample(["cat"], picture=picture, **{"steps": 2, "rng": 0, **given}))
        np.testing.assert_array_equal(pixels("picture.png"), wanted)


def test_a_long_prompt_is_made_and_the_rest_named(painted, tmp_path):
    code, _, err = painted("--prompt", "the " * 80 + "red cat")
    assert code == 0
    assert err == (
        "warning: the text has 82 tokens, and 75 fit between begin and end. "
        "Cut off: 'the the the the the red cat'\n"
    )
    assert (tmp_path / "picture.png").exists()


WRONG = [
    (["--mask", "image.png"], "--mask and --strength are about an image: give --image, too"),
    (["--image", "image.png", "--height", 64], "an image has its own size"),
    (["--image", "none.png"], "--image none.png cannot be read as a picture"),
    (["--image", "text.png"], "--image text.png cannot be read as a picture"),
    (
        ["--image", "image.png", "--mask", "other.png"],
        "--mask is 16 × 48 and --image 16 × 32: both",
    ),
    (["--image", "odd.png"], "pictures of 30 × 16: both sides must be multiples of 8"),
    (["--image", "image.png", "--strength", 0.1], "strength=0.1 of 2 steps is no step"),
    (["--image", "image.png", "--strength", 2], "argument --strength: must be a float from 0 to 1"),
    (["--width", 20], "pictures of 32 × 20: both sides must be multiples of 8"),
    (["--prompt", "\udcff"], "lone surrogate"),
    (["--out", "picture.jpg"], "--out picture.jpg must be a .png in a folder that exists"),
    (["--out", "none/picture.png"], "must be a .png in a folder that exists"),
]


@pytest.mark.parametrize(("flags", "message"), WRONG)
def test_what_is_wrong_is_one_line(painted, tmp_path, flags, message):
    drawn("image.png", 32, 16)
    drawn("other.png", 48, 16, "L")
    drawn("odd.png", 30, 16)
    (tmp_path / "text.png").write_text("a text")
    before = sorted(tmp_path.iterdir())
    code, _, err = painted(*flags)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_lacks_a_part_or_has_another_scheduler(painted, folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    put(other / "scheduler" / "scheduler_config.json", SCHEDULER | {"_class_name": "LCMScheduler"})
    code, out, err = painted(model=other)
    assert (code, out) == (2, "")
    assert "the option _class_name: expected one of DDIMScheduler" in err
    shutil.rmtree(other / "vae")
    code, out, err = painted(model=other)
    assert (code, out) == (2, "")
    assert "lacks a part: expected the folder vae" in err
    assert err.count("\n") == 1
