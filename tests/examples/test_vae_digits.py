"""The VAEs on digits as a person runs them: from the command line, stopped and resumed."""

import argparse
import csv
import json
import math

import numpy as np
import pytest
from example_runs import module, require_pictures, require_same_from, run

from tinygen.storage.safetensors import load_file

for package in ("matplotlib", "tqdm", "PIL", "sklearn"):
    pytest.importorskip(package)

EXAMPLE = "vae_digits.py"
TINY = ["--steps", 40, "--eval-every", 20, "--batch", 16, "--draws", 2]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def test_a_short_run_and_the_same_resumed(tmp_path):
    """Taken back to its checkpoint half-way, the run ends in the same bits."""
    out = tmp_path / "out"
    done = run(EXAMPLE, "--out", out, *TINY)
    assert done.returncode == 0, done.stderr
    result = json.loads((out / "result.json").read_text())
    assert result["steps"] == 40
    for figure in result["table"]:
        assert figure["name"] in done.stdout
        assert math.isfinite(figure["measured"])
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["20", "40"]
    require_pictures(out, "loss", "samples", "samples_small_beta", "reconstructions", "walk")
    weights = load_file(out / "model.safetensors")
    assert weights["0.encoder.mean.weight"].shape == weights["1.encoder.mean.weight"].shape == (16, 256)

    require_same_from(20, out, EXAMPLE, "--out", out, *TINY)


def test_what_is_wrong_is_one_line(tmp_path):
    done = run(EXAMPLE, "--out", tmp_path / "out", "--latent", 1)
    assert done.returncode == 2
    assert "argument --latent: must be an int from 2 to 63, not '1'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("model", "shape"), [("dense", (1, 64)), ("conv", (1, 1, 8, 8))])
def test_pixels_there_and_back(example, model, shape):
    args = argparse.Namespace(model=model, pixels="bernoulli")
    x = np.array([-1.0, 0.0, 1.0, 0.5]).repeat(16).reshape(1, 1, 8, 8)
    seen = example.as_inputs(x, args)
    assert seen.shape == shape
    np.testing.assert_array_equal(seen.ravel(), np.array([0.0, 0.5, 1.0, 0.75]).repeat(16))
    np.testing.assert_array_equal(example.as_pictures(seen, args), x)


@pytest.mark.parametrize("model", ["dense", "conv"])
@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
def test_every_kind_of_model(example, model, pixels):
    """At first it knows less than the mean picture; no model knows more than all."""
    args = argparse.Namespace(model=model, pixels=pixels, latent=2, seed=0)
    train, test = (part.pictures for part in example.digits.load())
    mean_only, linear, best = example.simple_likelihoods(train, test, pixels, 2)
    vae = example.build(1.0, args)
    assert example.bound(vae, example.as_inputs(test, args), np.random.default_rng(0)) < mean_only
    assert example.as_pictures(example.walk(vae, example.as_inputs(train, args)), args).shape == (
        144,
        1,
        8,
        8,
    )
    assert (linear is None) == (pixels == "bernoulli") != (best is None)
    assert mean_only < (linear or best) < 0
