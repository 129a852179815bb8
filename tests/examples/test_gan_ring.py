"""Adversarial networks on a ring: a step written out by hand, the measurements on points with known results,
and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, flags, same
from example_runs import module, outcome, require_pictures, require_same_from, run

from tinygen import Tensor, grad
from tinygen.data.mixtures import ring
from tinygen.optim import Adam

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "gan_ring.py"
SMALL = {"width": 8, "batch": 16, "latent": 3, "steps": 3, "seed": 4, "ema": 0.25}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- the steps -------------------------------------------------------------------------------------


def test_the_steps(monkeypatch, example):
    """The discriminator first, then the generator against the new one, each with noise of its own; the
    average of the generator's weights."""
    args = flags(monkeypatch, example, gamma=0.7, lr=0.01, **SMALL)
    pair, loop = example.Pair(args.gamma, args), Loop(3)
    for model in (pair.generator, pair.discriminator):
        model.astype(np.float64)
    pair.ema.average = {name: x.astype(np.float64) for name, x in pair.ema.average.items()}
    g, d = copy.deepcopy(pair.generator), copy.deepcopy(pair.discriminator)
    average = {name: p.data.copy() for name, p in g.named_parameters()}
    example.train({"R1": pair}, ring(), args, loop)

    rng, losses = np.random.default_rng(5), []
    adam_g, adam_d = (Adam(m.parameters(), lr=0.01, betas=(0.0, 0.99)) for m in (g, d))
    nll = lambda logits: -np.mean(np.log(1 / (1 + np.exp(-logits))))
    for n in range(1, 4):
        real = ring().sample(16, rng).astype(np.float32)
        z = rng.standard_normal((2, 16, 3), np.float32)
        loss = nll(d(real)) + nll(-d(g(z[0]).data))
        slope = grad(lambda x: d(x).sum())(real)
        d.zero_grad()
        (loss + 0.7 * 0.5 * np.sum(slope**2) / 16).backward()
        adam_d.step()
        of_g = nll(d(g(z[1])))
        g.zero_grad()
        of_g.backward()
        adam_g.step()
        memory = min(0.25, (1 + n) / (10 + n))
        for name, p in g.named_parameters():
            average[name] = memory * average[name] + (1 - memory) * p.data
        losses.append((loss.item(), of_g.item()))
    same(pair.generator, g, 1e-6)
    same(pair.discriminator, d, 1e-6)
    for name, x in average.items():
        np.testing.assert_allclose(pair.ema.average[name], x, rtol=1e-6)
    np.testing.assert_allclose(loop.column("R1: D"), [a for a, _ in losses], rtol=1e-6)
    np.testing.assert_allclose(loop.column("R1: G"), [b for _, b in losses], rtol=1e-6)
    assert loop.column("step") == [0, 1, 2]


def test_pairs_differ_by_the_penalty_alone(monkeypatch, example):
    """The same start, data and noise: with the weight 0 all is equal, and else the first fakes only."""
    args = flags(monkeypatch, example, **SMALL)
    for gamma, equal in ((0.0, True), (0.5, False)):
        pairs = {"R1": example.Pair(gamma, args), "no penalty": example.Pair(0.0, args)}
        loop = Loop(3)
        example.train(pairs, ring(), args, loop)
        assert loop.column("R1: D")[0] == loop.column("no penalty: D")[0]
        for key in ("R1: D", "R1: G"):
            assert (loop.column(key) == loop.column(key.replace("R1", "no penalty"))) == equal
        assert len(loop.things) == 11  # five of each pair, and the batches


# -- what is measured ------------------------------------------------------------------------------


def test_the_best_discriminator_of_known_densities(example):
    """Fakes from four of the eight modes: q = 2p there, and so 1/3; at the others q = 0, and so 1. The
    estimate is from 20,000 points: of a mean over a mode's core it is off by some percent."""
    data, rng = ring(), np.random.default_rng(0)
    core = 0.05 * rng.standard_normal((200, 2))
    at = lambda k, fakes: example.best_discriminator(data, fakes, data.means[k] + core)
    fakes = data.part([0, 1, 2, 3]).sample(20_000, rng)
    assert at(1, fakes).mean() == pytest.approx(1 / 3, abs=0.02)
    assert at(6, fakes).min() > 0.99
    assert at(5, data.sample(20_000, rng)).mean() == pytest.approx(0.5, abs=0.02)


def test_the_best_response(monkeypatch, example):
    """Against a generator with one point, far from the data: the copy learns to tell it, and the generator
    and the pair's own discriminator stay as they are."""
    args = flags(monkeypatch, example, response=150, lr=0.01, **SMALL)
    pair = example.Pair(0.1, args)
    pair.generator.out.weight.data *= 0
    pair.generator.out.bias.data = np.array([4, 3], np.float32)
    before = copy.deepcopy(pair.discriminator)
    response = example.best_response(pair, ring(), args)
    same(pair.discriminator, before, 0)
    says = example.probability(response, args.device)
    assert says(np.array([[4.0, 3.0]]))[0] < 0.1
    assert says(ring().means).min() > 0.8
    assert response is not pair.discriminator


def test_the_figures_of_a_pair(monkeypatch, example):
    """A linear discriminator has its slope everywhere; one that says 1/2 has the error of 1/2."""
    args = flags(monkeypatch, example, samples=400, response=2, **SMALL)
    pair = example.Pair(0.1, args)

    def says(w):
        w = Tensor(np.array(w, np.float32))
        monkeypatch.setattr(type(pair.discriminator), "forward", lambda self, x: (x * w).sum(axis=1))

    monkeypatch.setattr(example, "best_response", lambda pair, *_: pair.discriminator)
    says([0.3, -0.4])
    found, points = example.judge(pair, ring(), args)
    assert found["slope"] == pytest.approx(0.5, rel=1e-6)
    assert found["modes"] < 8
    assert points["points"].shape == points["fakes"].shape == (400, 2)
    says([0.0, 0.0])
    found, _ = example.judge(pair, ring(), args)
    assert found["error"] == found["error of response"] == found["error of 1/2"]
    assert found["last"]["modes"] < 8
    half = example.map_of(example.probability(pair.discriminator, args.device))
    np.testing.assert_array_equal(half, np.full((60, 60), 0.5))


def test_the_square_of_the_maps(example):
    """Rows from the bottom, columns from the left."""
    x, y = example.map_of(lambda x: x[:, 0]), example.map_of(lambda x: x[:, 1])
    np.testing.assert_array_equal(x, np.tile(np.linspace(-2.6, 2.6, 60), (60, 1)))
    np.testing.assert_array_equal(y, x.T)


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path):
    """Resumed after it lost its last 40 steps, as if it had been killed at step 40."""
    given = ["--steps", 80, "--out", tmp_path / "out", "--width", 16, "--samples", 500, "--save-every", 40]
    given += ["--response", 20]
    done = run(EXAMPLE, *given)
    assert done.returncode == 0, done.stderr
    result = outcome(tmp_path / "out")[2]
    assert result["steps"] == 80
    assert result["quality"]["data"]["modes"] == 8
    assert set(result["quality"]) == {"R1", "no penalty", "data", "noise"}
    assert all(math.isfinite(row["measured"]) for row in result["table"])
    require_pictures(tmp_path / "out", "loss", "maps")
    require_same_from(40, tmp_path / "out", EXAMPLE, *given)
