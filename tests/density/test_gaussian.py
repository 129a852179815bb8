"""KL divergence and 2-Wasserstein distance of Gaussians: by their formulas, in limits; what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.density import GaussianMixture, kl_of_gaussians, wasserstein2_of_gaussians
from tinygen.ops import kl_gaussian


def gaussian(dim, seed):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dim, dim)) + np.eye(dim)
    return rng.standard_normal(dim), factor @ factor.T


def square_root(a):
    values, vectors = np.linalg.eigh(a)
    return vectors @ np.diag(np.sqrt(values)) @ vectors.T


# -- KL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_kl_by_its_formula(dim):
    (m_p, c_p), (m_q, c_q) = gaussian(dim, 0), gaussian(dim, 1)
    inverse = np.linalg.inv(c_q)
    ratio = np.log(np.linalg.det(c_q) / np.linalg.det(c_p))
    expected = 0.5 * (np.trace(inverse @ c_p) + (m_q - m_p) @ inverse @ (m_q - m_p) - dim + ratio)
    assert kl_of_gaussians(m_p, c_p, m_q, c_q) == pytest.approx(expected, rel=1e-10)


def test_kl_is_the_mean_of_log_ratios():
    """E_p[ln p - ln q] by 200,000 draws, with the densities of the mixture of one component."""
    (m_p, c_p), (m_q, c_q) = gaussian(2, 3), gaussian(2, 4)
    p, q = GaussianMixture(1, rng=0), GaussianMixture(1, rng=0)
    for model, m, c in ((p, m_p, c_p), (q, m_q, c_q)):
        model.weights_, model.means_, model.covariances_ = np.ones(1), m[None], c[None]
        model.n_features_in_ = 2
    x = p.sample(200_000, rng=0)
    ratios = p.score_samples(x) - q.score_samples(x)
    found = kl_of_gaussians(m_p, c_p, m_q, c_q)
    assert abs(ratios.mean() - found) < 4 * ratios.std() / np.sqrt(len(x))


def test_kl_from_the_standard_normal_is_that_of_the_vae():
    mean, logvar = np.array([[0.3, -1.0, 2.0]]), np.array([[0.1, -0.7, 0.5]])
    found = kl_of_gaussians(mean[0], np.diag(np.exp(logvar[0])), np.zeros(3), np.eye(3))
    assert found == pytest.approx(float(kl_gaussian(mean, logvar, "sum").item()), rel=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_kl_is_0_for_the_same_and_no_less(seed, dim):
    (m, c), (m_q, c_q) = gaussian(dim, seed), gaussian(dim, seed + 1)
    assert abs(kl_of_gaussians(m, c, m, c)) < 1e-12
    assert kl_of_gaussians(m, c, m_q, c_q) > 0
    # A change of units and axes changes nothing.
    change = 3.0 * np.linalg.qr(gaussian(dim, seed + 2)[1])[0]
    moved = kl_of_gaussians(change @ m, change @ c @ change.T, change @ m_q, change @ c_q @ change.T)
    assert moved == pytest.approx(kl_of_gaussians(m, c, m_q, c_q), rel=1e-8)


# -- Wasserstein -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_wasserstein_by_its_formula(dim):
    (m_p, c_p), (m_q, c_q) = gaussian(dim, 0), gaussian(dim, 1)
    root = square_root(c_p)
    shared = np.trace(square_root(root @ c_q @ root))
    expected = np.sum((m_p - m_q) ** 2) + np.trace(c_p) + np.trace(c_q) - 2 * shared
    found = wasserstein2_of_gaussians(m_p, c_p, m_q, c_q)
    assert found**2 == pytest.approx(expected, rel=1e-9)


def test_wasserstein_of_covariances_that_commute():
    """|μ - ν|² + Σ (√a - √b)², on any axes; eigenvalues of 0 too."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    a, b = np.array([4.0, 1.0, 0.0, 0.0]), np.array([1.0, 9.0, 0.0, 2.0])
    m, n = rng.standard_normal((2, 4))
    found = wasserstein2_of_gaussians(m, (axes * a) @ axes.T, n, (axes * b) @ axes.T)
    expected = np.sum((m - n) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    assert found**2 == pytest.approx(expected, rel=1e-7)


def test_wasserstein_keeps_its_digits_where_gaussians_are_nearly_the_same():
    m, c = gaussian(4, 0)
    assert wasserstein2_of_gaussians(m, c, m, c) < 1e-13
    # √(1 + δ)² - 1 in each direction of c; as a difference of traces, 1e-18 would be lost beside 1.
    near = wasserstein2_of_gaussians(m, c, m, c * (1 + 1e-9) ** 2)
    assert near == pytest.approx(1e-9 * np.sqrt(np.trace(c)), rel=1e-4)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_wasserstein_is_a_distance(seed, dim):
    p, q, r = (gaussian(dim, seed + i) for i in range(3))
    assert wasserstein2_of_gaussians(*p, *q) == pytest.approx(wasserstein2_of_gaussians(*q, *p), rel=1e-9)
    there = wasserstein2_of_gaussians(*p, *r) + wasserstein2_of_gaussians(*r, *q)
    assert wasserstein2_of_gaussians(*p, *q) <= there * (1 + 1e-12)


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [kl_of_gaussians, wasserstein2_of_gaussians])
@pytest.mark.parametrize(
    ("mean", "covariance", "said"),
    [
        ([[0.0, 1.0]], np.eye(2), r"a mean is \(D,\) and its covariance \(D, D\), got \(1, 2\) and \(2, 2\)"),
        ([0.0, 1.0], np.eye(3), r"got \(2,\) and \(3, 3\)"),
        ([0.0, np.nan], np.eye(2), "must be finite"),
        ([0.0, 1.0], [[1.0, 0.5], [0.4, 1.0]], "a covariance is symmetric"),
        ([0.0, 1.0], [[1.0, 2.0], [2.0, 1.0]], "eigenvalue"),
        ([0.0], [[1.0]], "the Gaussians have 2 and 1 dimensions|the Gaussians have 1 and 2 dimensions"),
    ],
)
def test_what_is_no_gaussian(distance, mean, covariance, said):
    good = gaussian(2, 0)
    for p, q in ((good, (mean, covariance)), ((mean, covariance), good)):
        with pytest.raises(ValueError, match=said):
            distance(*p, *q)


def test_kl_of_a_singular_covariance():
    with pytest.raises(ValueError, match="positive definite"):
        kl_of_gaussians([0.0, 0.0], np.eye(2), [0.0, 0.0], np.diag([1.0, 0.0]))
