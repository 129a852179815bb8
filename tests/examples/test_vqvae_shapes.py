"""The VQ-VAE of shapes: its baselines, and the whole run, killed and resumed."""

import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
from example_runs import module, outcome, run

from tinygen.data import shapes
from tinygen.storage.checkpoints import Checkpoints
from tinygen.storage.safetensors import load_file

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("PIL")

EXAMPLE = "vqvae_shapes.py"
TINY = ["--width", "8", "--dim", "4", "--codes", "16", "--batch", "4", "--test", "12", "--steps", "32"]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- what is measured ------------------------------------------------------------------------------


def test_psnr(example):
    x = np.zeros((2, 3, 4, 4), np.float32)
    assert example.psnr(x, x + 0.2) == pytest.approx(20, abs=1e-5)  # a tenth of the range
    assert example.psnr(x, x + np.array([0, 2.0]).reshape(2, 1, 1, 1)) == pytest.approx(10 * np.log10(2))


def test_patches(example):
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32))
    maps = example.patches(x, 4)
    np.testing.assert_array_equal(maps[1, :, 5, 2].reshape(3, 4, 4), x[1, :, 20:24, 8:12])
    np.testing.assert_array_equal(example.join_patches(maps, 4), x)


def test_k_means_has_come_to_rest(example):
    """Each code is the mean of the patches that it is nearest to, with as little error as scikit-learn's."""
    cluster = pytest.importorskip("sklearn.cluster")
    pictures, _ = shapes.batch(60, 32, np.random.default_rng(1))
    maps = example.patches(pictures, 4)
    quantizer = example.k_means(maps, 8, np.random.default_rng(2))
    rows = maps.transpose(0, 2, 3, 1).reshape(-1, 48)
    _, codes, error, _ = quantizer(maps)
    means = [rows[codes.ravel() == k].mean(axis=0) for k in range(8)]
    np.testing.assert_allclose(quantizer.codebook.data, means, atol=0.02)
    theirs = cluster.KMeans(8, n_init=3, random_state=0).fit(rows)
    assert error.item() < 1.15 * theirs.inertia_ / rows.size


def test_baselines(example):
    """PCA with as many numbers as there are pictures, less one, forgets nothing of them; all three are worse
    with less to say, and the mean picture is what PCA with none would be."""
    args = Namespace(seed=0, codes=16)
    pictures, _ = shapes.batch(40, 32, np.random.default_rng(3))
    found = example.baselines(pictures, {"a": pictures, "b": pictures[:5]}, args)
    assert example.psnr(found["a"]["PCA"], pictures) > 80
    assert example.psnr(found["a"]["mean picture"], pictures) == pytest.approx(
        10 * np.log10(4 / pictures.var(axis=0).mean()), abs=1e-3
    )
    assert example.psnr(found["a"]["k-means"], pictures) > example.psnr(found["a"]["mean picture"], pictures)
    for name, made in found["a"].items():
        np.testing.assert_allclose(found["b"][name], made[:5], atol=1e-5)


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    done = run(EXAMPLE, *TINY, "--eval-every", 8, "--out", out)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] == 32
    assert result["bits"] == 64 * 4
    for split in ("train", "held_out"):
        assert set(result[split]["read"]) >= {"shape", "color", "size", "position", "all"}
        assert 1 <= result[split]["perplexity"] <= result[split]["codes in use"] <= 16
        assert (out / f"{split}.png").read_bytes().startswith(b"\x89PNG")
        assert f"{result[split]['psnr']:.4g}" in done.stdout
    assert (out / "loss.png").exists()
    assert load_file(out / "model.safetensors")["quantizer.codebook"].shape == (16, 4)

    shutil.copytree(out, again)
    checkpoints = Checkpoints(again / "checkpoints")
    assert [int(path.name.split("-")[-1]) for path in checkpoints.paths()] == [16, 24, 32]
    for path in checkpoints.paths():  # as if it had been killed after step 16
        if not path.name.endswith("16"):
            shutil.rmtree(path)
    done = run(EXAMPLE, *TINY, "--eval-every", 8, "--out", again, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(again) == outcome(out)


def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path):
    done = run(EXAMPLE, "--codes", 1, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "argument --codes: must be an int at least 2, not '1'" in done.stderr
    assert done.stderr.count("\n") == 1
