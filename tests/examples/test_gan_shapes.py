"""Captioned shapes from a GAN: its steps written out by hand, its table, and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, flags, same
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen import grad
from tinygen.data.shapes import batch, caption
from tinygen.optim import EMA, Adam

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "gan_shapes.py"
SMALL = {"channels": 4, "batch": 8, "latent": 3, "steps": 6, "seed": 4, "ema": 0.25, "drawings": 64}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def nll(logits):
    return -np.mean(np.log(1 / (1 + np.exp(-logits))))


@pytest.mark.parametrize("blind", [False, True])
def test_the_steps(monkeypatch, example, blind):
    """The penalty comes at steps 0 and 4 with four times its weight; a wrong caption is the next picture's;
    the learning rate falls from the half on."""
    args = flags(monkeypatch, example, gamma=0.7, lr=0.01, **SMALL)
    args.blind = blind
    g, d = (model.astype(np.float64) for model in example.build(args))
    by_g, by_d = copy.deepcopy(g), copy.deepcopy(d)
    ema, loop = EMA(g, 0.25), Loop(6)
    example.train(g, d, ema, args, loop)

    drawings, scenes = batch(64, 16, np.random.default_rng(5))
    rng, losses = np.random.default_rng(6), []
    adam_g, adam_d = (Adam(m.parameters(), lr=0.01, betas=(0.0, 0.99)) for m in (by_g, by_d))
    for n in range(6):
        adam_g.lr = adam_d.lr = 0.01 * [1, 1, 1, 1, 2 / 3, 1 / 3][n]
        these = rng.integers(64, size=8)
        real, right = drawings[these], [caption(scenes[i]) for i in these]
        wrong = right[1:] + right[:1]
        z = rng.standard_normal((2, 8, 3), np.float32)
        fake = nll(-by_d(by_g(z[0], right).data, right))
        refused = fake if blind else (fake + nll(-by_d(real, wrong))) / 2
        loss = nll(by_d(real, right)) + refused
        total = loss
        if n in (0, 4):
            slope = grad(lambda x, t=right: by_d(x, t).sum())(real)
            total = loss + 4 * 0.7 * 0.5 * np.sum(slope**2) / 8
        by_d.zero_grad()
        total.backward()
        adam_d.step()
        of_g = nll(by_d(by_g(z[1], right), right))
        by_g.zero_grad()
        of_g.backward()
        adam_g.step()
        losses.append((loss.item(), of_g.item()))
    same(g, by_g, 1e-6)
    same(d, by_d, 1e-6)
    np.testing.assert_allclose(loop.column("D"), [a for a, _ in losses], rtol=1e-6)
    np.testing.assert_allclose(loop.column("G"), [b for _, b in losses], rtol=1e-6)
    assert len(loop.things) == 6


def test_the_interval(example):
    """Wilson's, by its definition: the probabilities p with (share - p)² = 1.96² p (1 - p)/n."""
    for share, n in ((0.9, 500), (0.0, 48), (1.0, 10)):
        low, high = example.interval(share, n)
        for p in (low, high):
            assert (share - p) ** 2 == pytest.approx(1.96**2 * p * (1 - p) / n, abs=1e-12)
        assert low <= share <= high


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 8 steps, as if it had been killed at step 8."""
    sizes = ["--channels", 4, "--judged", 9, "--drawings", 64, "--batch", 8]
    given = ["--steps", 16, "--out", tmp_path / "out", "--save-every", 8, *sizes]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 16
    assert all(math.isfinite(row["measured"]) for row in result["table"])
    for split in ("train", "held_out"):
        assert result["judged"][split]["surely all"] <= result["judged"][split]["all"]
    require_pictures(tmp_path / "out", "loss", "drawings")
    require_same_from(8, tmp_path / "out", EXAMPLE, *given)
