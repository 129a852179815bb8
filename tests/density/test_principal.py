"""PCA and probabilistic PCA: eigenvectors, the maximum of the likelihood, the Gaussian that it is, parity
with scikit-learn."""

import math

import numpy as np
import pytest

from tinygen.density import PCA, ProbabilisticPCA


def rows(n=50, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + rng.standard_normal(dim)


# -- PCA ---------------------------------------------------------------------------------------------


def test_components_are_eigenvectors_of_the_covariance():
    x = rows()
    model, covariance = PCA(4).fit(x), np.cov(x.T)
    np.testing.assert_allclose(
        covariance @ model.components_.T, model.components_.T * model.explained_variance_, atol=1e-10
    )
    np.testing.assert_allclose(model.components_ @ model.components_.T, np.eye(4), atol=1e-13)
    values = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(model.explained_variance_, values[:4], rtol=1e-11)
    np.testing.assert_allclose(model.explained_variance_ratio_, values[:4] / values.sum(), rtol=1e-11)
    np.testing.assert_allclose(np.cov(model.transform(x).T), np.diag(values[:4]), atol=1e-10)


def test_the_largest_entry_of_a_component_is_positive():
    components = PCA().fit(rows()).components_
    assert np.all(components[np.arange(6), np.abs(components).argmax(axis=1)] > 0)


@pytest.mark.parametrize("whiten", [False, True])
def test_back_from_all_components_is_the_row_itself(whiten):
    x = rows()
    model = PCA(whiten=whiten).fit(x)
    np.testing.assert_allclose(model.inverse_transform(model.transform(x)), x, atol=1e-12)


@pytest.mark.parametrize("whiten", [False, True])
def test_what_is_lost_is_the_variance_that_is_not_explained(whiten):
    x = rows()
    model = PCA(2, whiten=whiten).fit(x)
    lost = np.sum((x - model.inverse_transform(model.transform(x))) ** 2) / 49
    total = np.trace(np.cov(x.T))
    assert lost == pytest.approx(total * (1 - model.explained_variance_ratio_.sum()), rel=1e-11)


def test_whitened_codes_have_variance_1():
    x = rows()
    np.testing.assert_allclose(np.cov(PCA(3, whiten=True).fit(x).transform(x).T), np.eye(3), atol=1e-12)


def test_no_other_subspace_loses_less():
    x = rows()
    lost = lambda basis: np.sum((x - x.mean(0)) ** 2) - np.sum(((x - x.mean(0)) @ basis) ** 2)
    best = lost(PCA(2).fit(x).components_.T)
    rng = np.random.default_rng(0)
    assert all(best < lost(np.linalg.qr(rng.standard_normal((6, 2)))[0]) for _ in range(50))


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(("n", "dim", "q"), [(50, 6, 3), (50, 6, None), (5, 12, 3)])
def test_parity_with_scikit_learn(whiten, n, dim, q):
    decomposition = pytest.importorskip("sklearn.decomposition")
    x, new = rows(n, dim), rows(7, dim, 1)
    ours = PCA(q, whiten=whiten).fit(x)
    theirs = decomposition.PCA(q, whiten=whiten, svd_solver="full").fit(x)
    for name in (
        *("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "singular_values_"),
        "n_features_in_",
    ):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10, atol=1e-10)
    codes = ours.transform(new)
    np.testing.assert_allclose(codes, theirs.transform(new), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        ours.inverse_transform(codes), theirs.inverse_transform(codes), rtol=1e-9, atol=1e-9
    )


def test_more_components_than_there_are():
    with pytest.raises(
        ValueError, match=r"7 components need as many rows and columns at least, got x \(50, 6\)"
    ):
        PCA(7).fit(rows())
    with pytest.raises(ValueError, match=r"at least 2 rows and 1 column, got \(1, 6\)"):
        PCA(1).fit(rows()[:1])
    with pytest.raises(ValueError, match="n_components must be at least 1, got 0"):
        PCA(0)


def test_components_without_variance_cannot_be_whitened():
    x = rows()[:, :2] @ np.ones((2, 4)) + rows()[:, :1] * np.arange(4)  # of rank 2
    assert PCA(3).fit(x).explained_variance_[2] < 1e-12
    with pytest.raises(ValueError, match="only 2 of 3 have one: take n_components=2 at most"):
        PCA(3, whiten=True).fit(x)


# -- probabilistic PCA -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(50, 6), (8, 20)])
def test_ppca_by_the_eigenvalues_of_the_covariance(n, dim):
    """The smaller eigenvalues are all replaced by their mean, with fewer rows than columns the zeros among
    them, too; the others, and the mean, are the data's."""
    x = rows(n, dim)
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0))
    values[: dim - 2] = values[: dim - 2].mean()
    model = ProbabilisticPCA(2).fit(x)
    found = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(dim)
    np.testing.assert_allclose(found, (vectors * values) @ vectors.T, atol=1e-11)
    np.testing.assert_allclose(model.mean_, x.mean(axis=0), rtol=1e-14)
    assert model.noise_variance_ == pytest.approx(values[0], rel=1e-12)


def test_ppca_is_the_maximum_of_the_likelihood():
    """Any step away from the parameters lowers it; and their own terms are known: the mean of the distances
    is D, as for every Gaussian of the data's variance along and across W."""
    x = rows()
    model = ProbabilisticPCA(2).fit(x)
    best = model.score(x)
    c = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(6)
    assert best == pytest.approx(-0.5 * (np.linalg.slogdet(2 * np.pi * c)[1] + 6), rel=1e-12)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3):
        for _ in range(20):
            other = ProbabilisticPCA(2).fit(x)
            step = rng.standard_normal((6, 2))
            # The density wants orthogonal columns: W turned by V is the same W Wᵀ.
            u, s, _ = np.linalg.svd(model.loadings_ + size * step, full_matrices=False)
            other.loadings_ = u * s
            other.mean_ = model.mean_ + size * rng.standard_normal(6)
            other.noise_variance_ = model.noise_variance_ * math.exp(size * rng.standard_normal())
            assert other.score(x) < best


@pytest.mark.parametrize("q", [0, 1, 3, 5])
@pytest.mark.parametrize(("n", "dim"), [(50, 6), (8, 20)])
def test_ppca_s_density_is_the_gaussian_s(q, n, dim):
    x, new = rows(n, dim), rows(9, dim, 1)
    model = ProbabilisticPCA(q).fit(x)
    c = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(dim)
    distances = np.einsum("ni,ij,nj->n", new - model.mean_, np.linalg.inv(c), new - model.mean_)
    expected = -0.5 * (distances + np.linalg.slogdet(2 * np.pi * c)[1])
    np.testing.assert_allclose(model.score_samples(new), expected, rtol=1e-9)


def test_with_no_components_it_is_isotropic():
    """Each term of the mean of ln N is -(ln 2πσ² + distance/σ²)/2, and the distances have the mean Dσ²."""
    x = rows()
    model = ProbabilisticPCA(0).fit(x)
    variance = np.trace(np.cov(x.T, ddof=0)) / 6
    assert model.noise_variance_ == pytest.approx(variance, rel=1e-13)
    assert model.score(x) == pytest.approx(-3 * (math.log(2 * math.pi * variance) + 1), rel=1e-12)


def test_parity_of_the_density_with_scikit_learn():
    """Theirs has variances divided by N - 1: with theirs times (N - 1)/N, it is ours."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    stats = pytest.importorskip("scipy.stats")
    x, new = rows(), rows(9, 6, 1)
    theirs = decomposition.PCA(2, svd_solver="full").fit(x)
    ours = ProbabilisticPCA(2).fit(x)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_ * 49 / 50, rel=1e-11)
    gaussian = stats.multivariate_normal(theirs.mean_, theirs.get_covariance() * 49 / 50)
    np.testing.assert_allclose(ours.score_samples(new), gaussian.logpdf(new), rtol=1e-10)
    assert ours.score(x) > theirs.score(x)  # N - 1 is not the maximum


def test_ppca_s_codes_are_conditional_means():
    """z and x are jointly Gaussian, with covariances I, W and W Wᵀ + σ²: E[z|x] = Wᵀ C⁻¹ (x - μ)."""
    x = rows()
    model = ProbabilisticPCA(3).fit(x)
    c = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(6)
    expected = (x - model.mean_) @ np.linalg.solve(c, model.loadings_)
    np.testing.assert_allclose(model.transform(x), expected, atol=1e-11)
    z = np.eye(3)
    np.testing.assert_allclose(model.inverse_transform(z), model.loadings_.T + model.mean_, rtol=1e-14)


def test_ppca_s_samples_have_its_moments():
    model, n = ProbabilisticPCA(2).fit(3 * rows()), 100_000
    drawn = model.sample(n, rng=0)
    c = model.loadings_ @ model.loadings_.T + model.noise_variance_ * np.eye(6)
    np.testing.assert_allclose(drawn.mean(axis=0), model.mean_, atol=5 * np.sqrt(c.max() / n))
    np.testing.assert_allclose(np.cov(drawn.T), c, atol=0.03 * c.max())
    across = np.linalg.svd(model.loadings_)[0][:, 2:]  # the four directions across W, where noise is alone
    np.testing.assert_allclose(np.var(drawn @ across, axis=0), model.noise_variance_, rtol=0.03)


def test_equal_eigenvalues_leave_no_direction():
    """The corners of a cross vary alike in all directions: W is 0, and the Gaussian is round."""
    x = np.concatenate([np.eye(3), -np.eye(3)])
    model = ProbabilisticPCA(1).fit(x)
    np.testing.assert_allclose(model.loadings_, 0, atol=1e-7)
    assert model.score(x) == pytest.approx(-1.5 * (math.log(2 * math.pi / 3) + 1), rel=1e-12)


def test_data_without_noise():
    x = rows(50, 2) @ np.ones((2, 5))
    with pytest.raises(ValueError, match="the 50 rows lie in a space of 2 dimensions or fewer"):
        ProbabilisticPCA(2).fit(x)
    with pytest.raises(ValueError, match="the 3 rows lie in a space of 2 dimensions or fewer"):
        ProbabilisticPCA(2).fit(rows(3, 9))
    with pytest.raises(
        ValueError, match="5 components of 5 columns leave none for the noise: take 4 at most"
    ):
        ProbabilisticPCA(5).fit(x)
    with pytest.raises(ValueError, match="n_components must be at least 0, got -1"):
        ProbabilisticPCA(-1)
