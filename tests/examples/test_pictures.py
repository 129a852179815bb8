"""The examples' functions for pictures: the place of every pixel, and pictures that cannot be shown."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image")

spec = importlib.util.spec_from_file_location(
    "pictures", Path(__file__).parents[2] / "examples" / "shared" / "pictures.py"
)
pictures = importlib.util.module_from_spec(spec)
sys.modules["pictures"] = pictures
spec.loader.exec_module(pictures)


def test_every_pixel_has_its_place():
    """Three pictures in two columns: each pixel is a square of 3 × 3, with a gap of 2 all around."""
    x = np.linspace(-1.2, 1.2, 3 * 3 * 2 * 5).reshape(3, 3, 2, 5)
    whole = pictures.grid(x, 2, scale=3)
    assert whole.shape == (2 * 8 + 2, 2 * 17 + 2, 3)
    seen = np.zeros(whole.shape[:2], bool)
    for n, c, i, j in np.ndindex(x.shape):
        top, left = 2 + (n // 2) * 8 + 3 * i, 2 + (n % 2) * 17 + 3 * j
        seen[top : top + 3, left : left + 3] = True
        wanted = np.clip((x[n, c, i, j] + 1) / 2, 0, 1) * 255
        assert np.abs(whole[top : top + 3, left : left + 3, c] - wanted).max() <= 0.5 + 1e-9
    assert np.all(whole[~seen] == 255)


def test_gray():
    x = np.array([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(pictures.grid(x, 1, 1)[2, 2:5], [[0] * 3, [128] * 3, [255] * 3])


def test_two_channels_are_no_picture():
    with pytest.raises(ValueError, match=r"1 channel or 3, got \(1, 2, 4, 4\)"):
        pictures.grid(np.zeros((1, 2, 4, 4)), 1)


def test_files(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.uniform(-1, 1, (4, 3, 8, 8)) for _ in range(3)]
    pictures.save_grid(tmp_path / "a.png", frames[0], 2)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), pictures.grid(frames[0], 2))
    pictures.save_film(tmp_path / "a.gif", frames, 2)
    film = Image.open(tmp_path / "a.gif")
    assert film.n_frames == 3
    assert film.size == pictures.grid(frames[0], 2).shape[1::-1]


def test_labels_move_no_pixel(tmp_path):
    """With a title, labels and the line that says the scale, the pictures are the same, further in."""
    x = np.random.default_rng(0).uniform(-1, 1, (6, 1, 8, 8))
    pictures.save_grid(tmp_path / "a.png", x, 3, 4, "β = 1", ["truth", "copies"], ["0", "1", "2"])
    whole, plain = np.array(Image.open(tmp_path / "a.png")), pictures.grid(x, 3, 4)
    height, width = plain.shape[:2]
    top = 2 * pictures.LINE
    left = next(
        i for i in range(whole.shape[1]) if np.array_equal(whole[top:][:height, i:][:, :width], plain)
    )
    assert left > 0
    assert (whole[:top] < 255).any()
    assert (whole[top : top + height, :left] < 255).any()
    assert (whole[top + height :] < 255).any()
