"""Digits by class from a GAN: its steps written out by hand, and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, flags, same
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen import grad
from tinygen.data import digits
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.optim import EMA, Adam

for package in ("matplotlib", "tqdm", "PIL", "sklearn"):
    pytest.importorskip(package)

EXAMPLE = "gan_digits.py"
SMALL = {"channels": 8, "batch": 16, "latent": 3, "steps": 3, "seed": 4, "ema": 0.25}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def nll(logits):
    return -np.mean(np.log(1 / (1 + np.exp(-logits))))


def test_the_steps(monkeypatch, example):
    """Both players get the labels of the real digits, the discriminator sees all pictures with noise; the
    learning rate falls to 0 in a line."""
    args = flags(monkeypatch, example, gamma=0.7, noise=0.3, lr=0.01, **SMALL)
    r = np.random.default_rng(4)
    players = (DenseGenerator(64, 8, 3, 3, 10, rng=r), DenseDiscriminator(64, 8, 3, 10, rng=r))
    g, d = (model.astype(np.float64) for model in players)
    by_g, by_d = copy.deepcopy(g), copy.deepcopy(d)
    ema, loop = EMA(g, 0.25), Loop(3)
    average = {name: p.data.copy() for name, p in g.named_parameters()}
    train, _ = digits.load()
    example.train(g, d, ema, train, args, loop)

    rng, losses = np.random.default_rng(5), []
    adam_g, adam_d = (Adam(m.parameters(), lr=0.01, betas=(0.0, 0.99)) for m in (by_g, by_d))
    for n in range(1, 4):
        adam_g.lr = adam_d.lr = 0.01 * (4 - n) / 3
        these = rng.integers(len(train.labels), size=16)
        real, y = train.pictures[these].reshape(16, 64), train.labels[these]
        z = rng.standard_normal((2, 16, 3), np.float32)
        noise = np.float32(0.3) * rng.standard_normal((3, 16, 64), np.float32)
        real = real + noise[0]
        loss = nll(by_d(real, y)) + nll(-by_d(by_g(z[0], y).data + noise[1], y))
        slope = grad(lambda x, y=y: by_d(x, y).sum())(real)
        by_d.zero_grad()
        (loss + 0.7 * 0.5 * np.sum(slope**2) / 16).backward()
        adam_d.step()
        of_g = nll(by_d(by_g(z[1], y) + noise[2], y))
        by_g.zero_grad()
        of_g.backward()
        adam_g.step()
        memory = min(0.25, (1 + n) / (10 + n))
        for name, p in by_g.named_parameters():
            average[name] = memory * average[name] + (1 - memory) * p.data
        losses.append((loss.item(), of_g.item()))
    same(g, by_g, 1e-6)
    same(d, by_d, 1e-6)
    for name, x in average.items():
        np.testing.assert_allclose(ema.average[name], x, rtol=1e-6)
    np.testing.assert_allclose(loop.column("D"), [a for a, _ in losses], rtol=1e-6)
    np.testing.assert_allclose(loop.column("G"), [b for _, b in losses], rtol=1e-6)
    assert len(loop.things) == 6


def test_drawings_are_digits_of_their_class(example):
    """A generator that knows the class alone, and goes beyond the pictures' values."""
    g = DenseGenerator(64, 8, 2, 3, 10, rng=0)
    z = 0.5 * np.random.default_rng(1).standard_normal((2, 3), np.float32)
    drawn = example.draw(g, np.array([3, 5]), 0.5, np.random.default_rng(1))
    grey = np.round(8 * np.clip(g(z, np.array([3, 5])).data, -1, 1) + 8)  # 0, ..., 16 as in the data
    np.testing.assert_allclose(drawn.reshape(2, 64), grey / 8 - 1, atol=1e-6)
    g.start.weight.data *= 0
    pictures = example.draw(g, np.array([3, 3, 5]), 0.9, np.random.default_rng(0))
    assert pictures.shape == (3, 1, 8, 8)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()
    g.out.bias.data += np.linspace(-9, 9, 64, dtype=np.float32)
    pictures = example.draw(g, np.array([3]), 0.9, np.random.default_rng(0))
    assert (pictures.min(), pictures.max()) == (-1, 1)


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 40 steps, as if it had been killed at step 40."""
    given = ["--steps", 80, "--out", tmp_path / "out", "--channels", 16, "--judged", 100, "--save-every", 40]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 80
    assert all(math.isfinite(row["measured"]) for row in result["table"])
    require_pictures(tmp_path / "out", "loss", "digits")
    require_same_from(40, tmp_path / "out", EXAMPLE, *given)
