"""Flows of points beside the exact density: the steps written out by hand, the measurements on densities and
scores that are known, and the whole run."""

import copy
import math

import numpy as np
import pytest
from by_hand import Loop, Training, flags, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import Tensor, nn
from tinygen.data.mixtures import Mixture, ring
from tinygen.diffusion import Process, linear_schedule
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.optim import EMA

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)

EXAMPLE = "flows_2d.py"
NAMES = ["RealNVP", "flow", "score", "diffusion"]
SMALL = {"couplings": 2, "channels": 5, "width": 8, "seed": 4}
ONE = Mixture([1.0], [[0.3, -0.2]], 0.5)


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


# -- the steps -------------------------------------------------------------------------------------


def test_the_steps(monkeypatch, example):
    """RealNVP learns from 24 points, the others from the first 6 of them, each by its own loss, with noise,
    clipping and Adam of its own. RealNVP has a learning rate of its own; all rates fall alike."""
    rates = {"lr": 0.02, "lr_others": 0.05}
    args = flags(monkeypatch, example, batch=6, steps=4, ema=0.25, **rates, **SMALL)
    models = {name: model.astype(np.float64) for name, model in example.build(args).items()}
    others = copy.deepcopy(models)
    together, data, loop = nn.ModuleList(models.values()), ring(), Loop(4)
    ema = EMA(together, args.ema)
    example.train(models, ema, data, Process(linear_schedule(200)), args, loop)

    rng, d = np.random.default_rng(5), 2
    alpha_bar = np.cumprod(1 - np.linspace(1e-4 * 5, 0.02 * 5, 200))
    sigmas = 3.0 * (0.05 / 3.0) ** (np.arange(12) / 11)
    trainings = {name: Training(model, clip=1.0, average=0.25) for name, model in others.items()}
    logged = {name: [] for name in NAMES}
    for step in range(4):
        x = data.sample(24, rng).astype(np.float32)
        losses = {}
        z, log_det = others["RealNVP"].codes_and_log_det(x)
        log_q = -0.5 * np.sum(z * z, axis=1) - d / 2 * math.log(2 * math.pi) + log_det
        losses["RealNVP"] = -log_q.sum() / 24
        x = x[:6]
        t, noise = rng.random(6).astype(np.float32)[:, None], rng.standard_normal((6, d), np.float32)
        v = others["flow"]((1 - t) * noise + t * x, 1000 * t[:, 0])
        losses["flow"] = np.mean((v - (x - noise)) ** 2)
        sigma = sigmas[rng.integers(12, size=6)].astype(np.float32)[:, None]
        noise = rng.standard_normal((6, d), np.float32)
        noisy = (x + sigma * noise) / np.sqrt(1 + sigma**2)
        score = -others["score"](noisy, 250 * np.log(sigma[:, 0])) / sigma
        losses["score"] = 0.5 * np.sum((sigma * score + noise) ** 2) / 6
        t, noise = rng.integers(200, size=6), rng.standard_normal((6, d), np.float32)
        alpha, sigma = (np.sqrt(a[t]).astype(np.float32)[:, None] for a in (alpha_bar, 1 - alpha_bar))
        losses["diffusion"] = np.mean((others["diffusion"](alpha * x + sigma * noise, t) - noise) ** 2)
        for name, loss in losses.items():
            high = 0.02 if name == "RealNVP" else 0.05
            logged[name].append(trainings[name].step(loss, warmup_cosine(step, high, high / 100, 2, 4)))
    for k, name in enumerate(NAMES):
        same(models[name], others[name], 1e-6)
        for key, average in trainings[name].average.items():
            np.testing.assert_allclose(ema.average[f"{k}.{key}"], average, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(loop.column(name), logged[name], rtol=1e-6)
    np.testing.assert_allclose(loop.losses(), np.sum([*logged.values()], axis=0), rtol=1e-6)
    assert loop.column("step") == [0, 1, 2, 3]
    assert [*loop.things] == [*NAMES, "optimizer", "ema", "batches"]


def test_the_schedule_of_a_long_run(monkeypatch, example):
    """A warmup of 100 steps, and a fall to a hundredth."""
    args, asked = flags(monkeypatch, example, batch=2, steps=1000, **SMALL), []

    def schedule(*given):
        asked.append(given)
        return 0.0

    monkeypatch.setattr(example, "warmup_cosine", schedule)
    models = example.build(args)
    ema = EMA(nn.ModuleList(models.values()), args.ema)
    example.train(models, ema, ring(), Process(linear_schedule(200)), args, Loop(2))
    assert asked == [(step, 1.0, 0.01, 100, 1000) for step in (0, 1)]


def test_the_networks(monkeypatch, example):
    """`--slope` multiplies the first layer of each coupling, and nothing else."""
    plain, steep = (example.build(flags(monkeypatch, example, slope=a, **SMALL)) for a in (1, 7))
    assert [*plain] == NAMES
    same(plain["RealNVP"], RealNVP(2, 5, couplings=2, rng=np.random.default_rng(4)))
    for name in NAMES:
        for key, p in plain[name].named_parameters():
            factor = 7 if name == "RealNVP" and ".hidden.0." in key else 1
            other = dict(steep[name].named_parameters())[key].data
            np.testing.assert_allclose(other, factor * p.data, rtol=1e-6, err_msg=key)
    assert [plain[name].out.weight.shape for name in NAMES[1:]] == [(2, 8)] * 3
    assert plain["RealNVP"].couplings[0].out.weight.shape == (4, 5)


# -- what is measured ------------------------------------------------------------------------------


def test_a_score_from_predicted_noise(example):
    """A network that predicts the noise as well as possible has the exact score."""
    levels = []

    def net(y, time):
        sigma = np.exp(time / 250)
        levels.append(sigma)
        x = y * np.sqrt(1 + sigma[:, None] ** 2)
        return np.concatenate([ring().eps(one[None], 1.0, s) for one, s in zip(x, sigma, strict=True)])

    sigma = np.array([0.1, 2.0, 0.7])
    x = np.random.default_rng(0).standard_normal((3, 2))
    found = example.score_of(net)(x, sigma)
    np.testing.assert_allclose(levels, [sigma])
    for k in range(3):
        exact_score = ring().diffuse(1.0, sigma[k]).score(x[k : k + 1])[0]
        np.testing.assert_allclose(found[k], exact_score, rtol=1e-9)


def test_nats_above_the_entropy(example):
    """KL(N(m, s²) ‖ N(0, 1)) in two dimensions is 1/2 (|m|² + 2 s² - 2) - 2 ln s: from 40,000 points, within
    6 standard errors. With the density itself it is 0."""
    x = ONE.sample(40_000, np.random.default_rng(0))
    assert example.nats_above(ONE, x, ONE.log_density(x)) == 0
    log_q = -0.5 * np.sum(x**2, axis=1) - math.log(2 * math.pi)
    error = 6 * np.std(ONE.log_density(x) - log_q) / 200
    wanted = 0.5 * (0.13 + 0.5 - 2) - 2 * math.log(0.5)
    assert example.nats_above(ONE, x, log_q) == pytest.approx(wanted, abs=error)


def test_the_errors_of_a_score(example):
    """Of the exact score 0; of a score a tenth larger, 0.01 E|σ score|²/2, and for one Gaussian that is 0.01
    σ²/(s² + σ²), within 6 standard errors; of a score of 0, the mean itself."""
    levels = np.array([0.2, 1.0])
    there = lambda sigma: ONE.diffuse(1.0, sigma[0])
    rng = np.random.default_rng(1)
    errors, of_zero = example.score_errors(lambda x, s: there(s).score(x), ONE, levels, 50, rng)
    assert np.all(errors == 0)
    of_one = levels**2 / (0.25 + levels**2)
    np.testing.assert_allclose(of_zero, of_one, atol=1e-6)
    errors, _ = example.score_errors(lambda x, s: 1.1 * there(s).score(x), ONE, levels, 20_000, rng)
    np.testing.assert_allclose(errors, 0.01 * of_one, rtol=6 / math.sqrt(20_000))  # χ² of 2: std = mean


def test_the_map(example):
    """The highest value is 1, the lowest shown is 0, and rows go upward."""
    seen = example.log_density_map(lambda x: x[:, 1] - 3 * (x[:, 0] > 0), lowest=-1.0)
    assert seen.shape == (120, 120)
    assert (seen[-1, 0], seen[0, 0], seen[0, -1]) == (1, 0, 0)
    middle = 2.6 * (2 * 90 / 119 - 1)
    assert seen[90, 0] == pytest.approx((middle + 1) / 3.6, rel=1e-5)


def test_calls_and_names_of_the_samplers(monkeypatch, example):
    """A sampler with n calls in its name calls its network n times. With exact networks for one Gaussian, the
    points are its points. All samplers begin with the same noise."""
    args = flags(monkeypatch, example, samples=400, **SMALL)
    calls = []

    class Counted:
        def __init__(self, name, function):
            self.name, self.function = name, function

        def __call__(self, x, t):
            calls.append(self.name)
            return Tensor(self.function(x, t))

    def velocity(x, time):
        """Of N(m, s²): x_t is N(t m, (1 - t)² + t² s²)."""
        t = time[0] / 1000
        m, s, variance = ONE.means[0], ONE.stds[0], (1 - t) ** 2 + t**2 * ONE.stds[0] ** 2
        return m + (t * s**2 - (1 - t)) / variance * (x - t * m)

    def noise_in(x, time):
        alpha = math.sqrt(Process(linear_schedule(200)).schedule.alpha_bar[time[0] + 1])
        return ONE.eps(x, alpha, math.sqrt(1 - alpha**2))

    def noise_at_level(y, time):
        sigma = float(np.exp(time[0] / 250))
        return ONE.eps(y * math.sqrt(1 + sigma**2), 1.0, sigma)

    def annealed(model, x, levels, steps, *given, **more):
        begun.append((x, steps))
        return langevin(model, x, levels, steps, *given, **more)

    langevin, begun = example.diffusion.annealed_langevin, []
    monkeypatch.setattr(example.diffusion, "annealed_langevin", annealed)
    models = {"RealNVP": example.build(args)["RealNVP"], "flow": Counted("flow", velocity)}
    models |= {"score": Counted("score", noise_at_level), "diffusion": Counted("diffusion", noise_in)}
    points = example.draw(models, Process(linear_schedule(200)), args)
    wanted = {"flow": 2 * (10 + 20 + 50), "diffusion": 2 * (10 + 20 + 50), "score": 480}
    assert {name: calls.count(name) for name in wanted} == wanted
    kinds = ["DDPM", "DDIM", "flow by Euler", "flow by midpoints"]
    several = [f"{kind}, {n} calls" for n in (10, 20, 50) for kind in kinds]
    assert [*points] == ["RealNVP, 1 call", *several, "Langevin, 480 calls"]
    assert set(example.SHOWN) < set(points)
    noise = np.random.default_rng(7).standard_normal((400, 2), np.float32)
    np.testing.assert_allclose(points["RealNVP, 1 call"], noise, rtol=1e-6)  # the model at its start
    np.testing.assert_allclose(points["flow by midpoints, 50 calls"], ONE.means + 0.5 * noise, atol=0.01)
    ((begin, steps),) = begun
    assert steps == 40
    np.testing.assert_allclose(begin, 3 * noise, rtol=1e-6)  # of the variance of the largest level
    for name, x in points.items():
        if name != "RealNVP, 1 call":
            assert np.abs(x.mean(axis=0) - ONE.means[0]).max() < 0.2, name
            assert np.abs(x.std(axis=0) - 0.5).max() < 0.15, name


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(monkeypatch, tmp_path, example):
    tiny = ["--steps", 6, "--couplings", 2, "--channels", 8, "--width", 8, "--batch", 16, "--samples", 200]
    tiny += ["--solver-steps", 4, "--save-every", 2]
    assert run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole") == 0
    parts = [*tiny, "--out", tmp_path / "parts"]
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert run_here(monkeypatch, example, *parts, "--resume") == 0
    whole = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "parts") == whole
    result = whole[2]
    assert result["steps"] == 6
    assert {"data", "noise", *example.SHOWN} < set(result["quality"])
    assert all(math.isfinite(row["measured"]) for row in result["table"])
    for name in ("loss", "points"):
        assert (tmp_path / "whole" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
