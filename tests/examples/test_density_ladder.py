"""The ladder of density models: its densities where the answer is known, the steps written out by hand, and
the whole run."""

import copy
import json
import math
import sys

import numpy as np
import pytest
from by_hand import Loop, Training, flags, kl_to_standard, log_p, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import grad
from tinygen.data import digits
from tinygen.density import Empirical, GaussianKDE, GaussianMixture, ProbabilisticPCA
from tinygen.models.pictures.plain_autoencoder import Autoencoder, linear_halves
from tinygen.storage.safetensors import load_file

for package in ("matplotlib", "tqdm", "PIL", "sklearn"):
    pytest.importorskip(package)

EXAMPLE = "density_ladder.py"
SMALL = {"width": 8, "latent": 4, "batch": 6, "steps": 3, "seed": 4, "lr": 0.01, "ema": 0.25}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def densities(example):
    return sys.modules["shared.densities"]


@pytest.fixture(scope="module")
def training_set():
    return digits.load()[0]


def log_normal(x, mean, covariance):
    """ln N(x; mean, covariance) of rows x."""
    away = x - mean
    distances = np.einsum("nd,de,ne->n", away, np.linalg.inv(covariance), away)
    return -0.5 * (distances + np.linalg.slogdet(2 * np.pi * covariance)[1])


# -- digits as points ------------------------------------------------------------------------------


def test_points_and_pictures(densities, training_set):
    levels = densities.levels_of(training_set.pictures)
    assert (levels.min(), levels.max(), levels.shape) == (0, 16, (1297, 64))
    scale = densities.Scale.of(levels)
    x = scale.points(levels, np.random.default_rng(0))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=0.06)
    np.testing.assert_array_equal(scale.pictures(x), training_set.pictures)
    noisy = x * scale.std + scale.mean - levels
    assert 0 <= noisy.min() < 0.001
    assert 0.999 < noisy.max() <= 1.00001
    far = scale.pictures(np.array([[-99.0] * 64, [99.0] * 64]))
    assert (far[0] == -1).all()
    assert (far[1] == 1).all()


def test_the_density_of_the_levels(densities):
    """A Gaussian of the points is a Gaussian of the noisy levels."""
    rng = np.random.default_rng(0)
    scale = densities.Scale(rng.standard_normal(64), 1 + rng.random(64))
    levels = rng.integers(0, 17, (5, 64))
    x = scale.points(levels, np.random.default_rng(1))
    noisy = levels + np.random.default_rng(1).random((5, 64))
    found = log_normal(x, np.zeros(64), np.eye(64)) + scale.log_det()
    np.testing.assert_allclose(found, log_normal(noisy, scale.mean, np.diag(scale.std**2)), rtol=1e-6)


# -- densities of codes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.standard_normal((60, 5)) @ rng.standard_normal((5, 5)) + 3


def test_with_one_gaussian_on_the_codes_it_is_probabilistic_pca(densities, rows):
    model = densities.PrincipalDensity(2, GaussianMixture(1, rng=0)).fit(rows)
    wanted = ProbabilisticPCA(2).fit(rows)
    np.testing.assert_allclose(
        model.score_samples(rows[:9] + 1), wanted.score_samples(rows[:9] + 1), rtol=1e-9
    )
    drawn = model.sample(500, rng=0)
    np.testing.assert_allclose(model.pca.inverse_transform(model.pca.transform(drawn)), drawn, atol=1e-9)
    np.testing.assert_allclose(
        np.cov(model.pca.transform(drawn).T), np.cov(model.pca.transform(rows).T), rtol=0.2, atol=0.5
    )


def test_a_gaussian_for_each_class(densities, rows):
    labels = np.arange(60) % 3 // 2  # 40 of class 0, 20 of class 1
    model = densities.ClassGaussians(labels).fit(rows)
    wanted = 0.0
    for k, share in ((0, 2 / 3), (1, 1 / 3)):
        x = rows[labels == k]
        wanted = wanted + share * np.exp(log_normal(rows + 1, x.mean(axis=0), np.cov(x.T, bias=True)))
    np.testing.assert_allclose(model.score_samples(rows + 1), np.log(wanted), rtol=1e-9)
    far = rows + 1000 * labels[:, None]
    drawn = densities.ClassGaussians(labels).fit(far).sample(600, rng=0)
    assert drawn.shape == (600, 5)
    of_second = drawn.mean(axis=1) > 500
    assert of_second.mean() == pytest.approx(1 / 3, abs=0.06)
    assert 0 < of_second[:300].mean() < 1  # the classes are mixed


def test_the_standard_normal(densities, rows):
    model = densities.StandardNormal().fit(rows)
    wanted = log_normal(rows, np.zeros(5), np.eye(5))
    np.testing.assert_allclose(model.score_samples(rows), wanted, rtol=1e-12)
    np.testing.assert_allclose(np.cov(model.sample(4000, rng=0).T), np.eye(5), atol=0.08)


def test_parameters_are_counted(densities, rows):
    count = densities.count_of
    assert count(GaussianKDE().fit(rows)) == 60 * 5 + 1
    assert count(Empirical().fit(rows)) == 60 * 5
    assert count(GaussianMixture(3, "diag", rng=0).fit(rows)) == 2 + 3 * 10
    one = 2 + 3  # of a Gaussian in two dimensions
    assert count(densities.PrincipalDensity(2, GaussianMixture(1, rng=0)).fit(rows)) == 2 * 5 + 5 + 1 + one
    assert count(densities.ClassGaussians(np.arange(60) % 2).fit(rows[:, :2])) == 1 + 2 * one
    assert count(densities.StandardNormal().fit(rows)) == 0


# -- the density of an autoencoder -----------------------------------------------------------------


@pytest.fixture
def linear(densities):
    """A linear decoder, codes from N(0, I), and the encoder that has the mean of p(z|x)."""
    rng = np.random.default_rng(0)
    encoder, decoder = linear_halves(5, 2, rng=rng)
    model = Autoencoder(encoder, decoder).astype(np.float64)
    w, b, variance = rng.standard_normal((5, 2)), rng.standard_normal(5), 0.3
    posterior = np.linalg.solve(w.T @ w + variance * np.eye(2), w.T)  # (2, 5)
    for layer, weight, bias in ((decoder, w, b), (encoder, posterior, -posterior @ b)):
        layer.weight.data, layer.bias.data = weight, bias
    x = rng.standard_normal((40, 5))
    density = densities.DecodedDensity(model, densities.StandardNormal(), x)
    density.precision, density.variance = np.eye(2), variance
    return density, x, log_normal(x, b, w @ w.T + variance * np.eye(5))


def test_the_bound_is_exact_for_a_linear_decoder(linear):
    """With p(z|x) itself, p(x, z)/p(z|x) = p(x) for every z."""
    density, x, exact = linear
    for draws in (1, 3):
        np.testing.assert_allclose(density.bound(x, draws, np.random.default_rng(0)), exact, rtol=1e-6)


def test_with_another_encoder_it_is_a_lower_bound(linear):
    density, x, exact = linear
    density.model.encoder.bias.data += 0.2
    few, many = (density.bound(x, draws, np.random.default_rng(0)).mean() for draws in (1, 400))
    assert few < many < exact.mean() + 0.01
    assert exact.mean() - many < 0.05 < exact.mean() - few


def test_what_it_fits(densities, linear):
    density, x, _ = linear
    again = densities.DecodedDensity(density.model, GaussianMixture(1, rng=0), x)
    assert again.variance == pytest.approx(np.mean((density.model.decode(density.model.encode(x)) - x) ** 2))
    codes = density.model.encode(x)
    np.testing.assert_allclose(again.precision, np.linalg.inv(np.cov(codes.T)))
    np.testing.assert_allclose(again.of_codes.means_[0], codes.mean(axis=0))
    drawn = again.sample(3000, np.random.default_rng(0))
    w = density.model.decoder.weight.data
    np.testing.assert_allclose(np.cov(drawn.T), w @ np.cov(codes.T) @ w.T, atol=0.15)


def test_the_excess_of_codes(densities):
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((200, 6))
    excess = lambda codes: densities.excess_of_codes(codes, np.random.default_rng(1), 100)
    assert excess(normal) == pytest.approx(1, abs=0.25)
    shift = np.array([1.0, 0, 0, 0, 0, 0])
    own = excess(normal + shift) / excess(normal + 2 * shift)
    assert own == pytest.approx(0.5, abs=0.06)  # the distance, not its square


# -- the steps -------------------------------------------------------------------------------------


def squares(model, x):
    return np.sum((model.decoder(model.encoder(x)) - x) ** 2) / len(x)


def of_supervised(model, x, y, rng):
    return squares(model, x) - 10 * np.mean(log_p(model.classifier(model.encoder(x)), y))


def of_swae(model, x, y, rng):
    z = model.encoder(x)
    normal, theta = rng.standard_normal((6, 4)), rng.standard_normal((4, 50))
    theta = theta / np.linalg.norm(theta, axis=0)
    distance = np.mean((np.sort(z @ theta, axis=0) - np.sort(normal @ theta, axis=0)) ** 2)
    return squares(model, x) + 100 * distance


def normal(x, mean, logvar):
    return -0.5 * (math.log(2 * math.pi) + logvar + (x - mean) ** 2 / np.exp(logvar))


def draw(mean, logvar, rng):
    return mean + np.exp(logvar / 2) * rng.standard_normal(mean.shape, np.float32)


def of_vae(model, x, y, rng):
    mean, logvar = model.encoder(x)
    out = model.decoder(draw(mean, logvar, rng))
    return (kl_to_standard(mean, logvar) - normal(x, out, model.pixels.logvar).sum()) / len(x)


def of_hierarchical(model, x, y, rng):
    first = model.encoders[0](x)
    z1 = draw(*first, rng)
    second = model.encoders[1](z1)
    z2 = draw(*second, rng)
    assert z2.shape == (6, 2)
    total = normal(x, model.decoder(z1), model.pixels.logvar).sum() + normal(z1, *model.priors[0](z2)).sum()
    total = total + normal(z2, 0.0, 0.0 * z2).sum() - normal(z1, *first).sum() - normal(z2, *second).sum()
    return -total / len(x)


def of_real_nvp(model, x, y, rng):
    z, log_det = model.codes_and_log_det(x)
    return -(normal(z, 0.0, 0.0 * z).sum() + log_det.sum()) / len(x)


def of_flow(model, x, y, rng):
    t = rng.random(6).astype(np.float32)
    eps = rng.standard_normal((6, 64), np.float32)
    found = model((1 - t[:, None]) * eps + t[:, None] * x, 1000 * t)
    return np.mean((found - (x - eps)) ** 2)


BY_HAND = {
    "autoencoder + GMM": lambda model, x, y, rng: squares(model, x),
    "class-supervised + Gaussians": of_supervised,
    "SWAE": of_swae,
    "VAE": of_vae,
    "hierarchical VAE": of_hierarchical,
    "RealNVP": of_real_nvp,
    "flow matching": of_flow,
}


def batches(densities, training_set, rng):
    """The batches of three steps; the losses draw from the same `rng` between them."""
    levels = densities.levels_of(training_set.pictures)
    scale = densities.Scale.of(levels)
    for step in range(3):
        these = rng.integers(1297, size=6)
        x = (levels[these] + rng.random((6, 64)) - scale.mean) / scale.std
        yield x.astype(np.float32), training_set.labels[these], warmup_cosine(step, 0.01, 0.0, 1, 3)


def learned(monkeypatch, example, densities, training_set, name):
    """A learner in float64 and a copy of its network; then the loop, with the learner alone."""
    args, loop = flags(monkeypatch, example, **SMALL), Loop(3)
    learner = example.Learner(name, args)
    learner.model.astype(np.float64)
    learner.ema = example.EMA(learner.model, 0.25)
    by_hand = copy.deepcopy(learner.model)
    levels = densities.levels_of(training_set.pictures)
    scale = densities.Scale.of(levels)
    example.train({name: learner}, levels, training_set.labels, scale, args, loop)
    return learner, by_hand, loop


@pytest.mark.parametrize("name", BY_HAND)
def test_the_steps(monkeypatch, example, densities, training_set, name):
    learner, by_hand, loop = learned(monkeypatch, example, densities, training_set, name)
    training, rng, losses = Training(by_hand, average=0.25), np.random.default_rng(5), []
    for x, y, rate in batches(densities, training_set, rng):
        losses.append(training.step(BY_HAND[name](by_hand, x, y, rng), rate))
    same(learner.model, by_hand, 1e-7)
    same(learner.ema.average, training.average, 1e-7)
    np.testing.assert_allclose(loop.column(name), losses, rtol=1e-7)
    assert loop.things.keys() == {"batches", name, f"{name}: average", f"{name}: optimizer 0"}


def nll(logits):
    return -np.mean(np.log(1 / (1 + np.exp(-logits))))


def test_the_steps_of_a_gan(monkeypatch, example, densities, training_set):
    """The discriminator moves first, then the generator. R1 has a weight of 1."""
    learner, by_hand, loop = learned(monkeypatch, example, densities, training_set, "GAN")
    d, g = by_hand
    of_d, of_g = (Training(player, betas=(0.0, 0.99)) for player in (d, g))
    rng, losses = np.random.default_rng(5), []
    for x, _, rate in batches(densities, training_set, rng):
        fake = g(rng.standard_normal((6, 4), np.float32)).data
        slope = grad(lambda x: d(x).sum())(x)
        loss = nll(d(x)) + nll(-d(fake)) + 0.5 * np.sum(slope**2) / 6
        first = of_d.step(loss, rate)
        losses.append(first + of_g.step(nll(d(g(rng.standard_normal((6, 4), np.float32)))), rate))
    same(learner.model, by_hand, 1e-6)
    np.testing.assert_allclose(loop.column("GAN"), losses, rtol=1e-6)


def test_all_networks_see_the_same_batches(monkeypatch, example, densities, training_set):
    seen = []
    monkeypatch.setattr(example.Learner, "step", lambda self, x, y, lr, rng: seen.append((x, y, lr)) or 0.0)
    args = flags(monkeypatch, example, **SMALL)
    learners = {name: example.Learner(name, args) for name in ("VAE", "GAN")}
    levels = densities.levels_of(training_set.pictures)
    example.train(learners, levels, training_set.labels, densities.Scale.of(levels), args, Loop(2))
    (x, y, lr), (other_x, other_y, other_lr), (next_x, *_), _ = seen
    np.testing.assert_array_equal(x, other_x)
    np.testing.assert_array_equal(y, other_y)
    assert lr == other_lr
    assert (x != next_x).any()


# -- the whole run ---------------------------------------------------------------------------------

TINY = ["--width", 8, "--latent", 4, "--batch", 4, "--draws", 2, "--solver-steps", 1, "--judged", 100]


def without_seconds(out):
    metrics, model, figures = outcome(out)
    rows = [row for row in figures.pop("table") if not row["name"].endswith(": seconds")]
    return metrics, model, figures, rows


@pytest.mark.parametrize("name", ["empirical", "VAE"])
def test_one_rung(tmp_path, monkeypatch, capsys, example, name):
    run_here(monkeypatch, example, *TINY, "--steps", 2, "--rung", name, "--out", tmp_path)
    table = {
        row["name"]: row["measured"] for row in json.loads((tmp_path / "result.json").read_text())["table"]
    }
    if name == "empirical":
        assert table["empirical: distance to nearest"] == 0
        assert "empirical: nats, exact" not in table
    else:
        assert table["VAE: nats, bound"] < 0 < table["VAE: distance to nearest"]
    assert (tmp_path / "drawings.png").read_bytes().startswith(b"\x89PNG")


def test_the_averages_are_saved_and_judged(tmp_path, monkeypatch, capsys, example):
    """Training only adds 1 to the averages: so all weights that are saved and judged are 1 above the first
    ones."""
    judged = []

    def train(learners, *_):
        for learner in learners.values():
            learner.ema.average = {name: x + 1 for name, x in learner.ema.average.items()}

    def rung(self, *given):
        judged.append(self.model)
        return original(self, *given)

    original = example.Learner.rung
    monkeypatch.setattr(example, "train", train)
    monkeypatch.setattr(example.Learner, "rung", rung)
    (tmp_path / "checkpoints").mkdir()
    run_here(monkeypatch, example, *TINY, "--rung", "VAE", "--seed", 4, "--out", tmp_path)
    args = flags(monkeypatch, example, width=8, latent=4, seed=4)
    first = example.Learner("VAE", args).model
    wanted = {name: p.data + 1 for name, p in first.named_parameters()}
    same(judged[0], wanted, 1e-6)
    same(load_file(tmp_path / "model.safetensors"), {f"VAE.{name}": x for name, x in wanted.items()}, 1e-6)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = [*TINY, "--steps", 6, "--save-every", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert without_seconds(tmp_path / "whole") == without_seconds(tmp_path / "parts")
    rows = json.loads((tmp_path / "whole" / "result.json").read_text())["table"]
    found = {row["name"] for row in rows}
    for name in [*example.DENSITIES, *example.NETWORKS]:
        assert {f"{name}: Fréchet distance", f"{name}: parameters"} <= found
        assert (f"{name}: nats, exact" in found) + (f"{name}: nats, bound" in found) == (
            name not in ("empirical", "GAN")
        )
    assert all(math.isfinite(row["measured"]) for row in rows)
