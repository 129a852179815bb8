"""The figures in docs/density.md are measured correctly: rows needed, divergences, noise on levels."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import density as benchmark
from tinygen.data import digits
from tinygen.density import GaussianKDE, ProbabilisticPCA


@pytest.mark.parametrize(
    ("dim", "rows"), [(1, 4), (2, 19), (3, 67), (4, 223), (5, 768), (6, 2790), (8, 43_700), (10, 842_000)]
)
def test_rows_needed_are_silverman_s(dim, rows):
    """Table 4.2, which has three digits."""
    found = benchmark.rows_needed(dim)
    assert float(f"{found:.3g}") == rows


def test_the_relative_error_is_that_of_draws():
    rng, h, true = np.random.default_rng(0), 0.6, (2 * np.pi) ** -1
    at_0 = [
        np.exp(GaussianKDE(h).fit(rng.standard_normal((20, 2))).score_samples(np.zeros((1, 2)))[0])
        for _ in range(2000)
    ]
    errors = (np.array(at_0) / true - 1) ** 2
    exact = benchmark.relative_error(20, 2, np.array([h * h]))
    assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(2000)


def test_the_divergence_of_the_standard_normal_is_0():
    model = ProbabilisticPCA(0)
    model.mean_, model.noise_variance_, model.loadings_ = np.zeros(3), 1.0, np.zeros((3, 0))
    model.n_features_in_ = 3
    x = np.random.default_rng(0).standard_normal((50, 3))
    assert benchmark.divergence(model, x) == pytest.approx(0, abs=1e-14)


def test_levels_with_noise():
    pictures = digits.load()[1].pictures[:20]
    rows = benchmark.dequantize(pictures, np.random.default_rng(0))
    levels = (pictures.reshape(20, 64) + 1) * 8
    np.testing.assert_allclose(np.floor(rows), levels, atol=1e-5)
    assert 0.4 < (rows - levels).mean() < 0.6


def test_the_lines_of_the_tables(monkeypatch):
    monkeypatch.setattr(benchmark, "DIMENSIONS", (1, 8))
    lines = list(benchmark.curse(40, 50, 2))
    assert len({line.count("|") for line in lines[:4]}) == 1
    kl = [float(line.split("**")[1]) for line in lines[2:4]]
    assert kl[1] > kl[0]
