"""The mixture of Gaussians: its density and a step of EM by their definitions, the likelihood that never
falls, parity with scikit-learn from the same start, components that are empty or collapse, the start, and
BIC."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.data.mixtures import Mixture
from tinygen.density import GaussianKDE, GaussianMixture, Parameters
from tinygen.density.covariance import KINDS, correlate, free_parameters
from tinygen.density.k_means import k_means_plus_plus
from tinygen.density.mixture import Climb

every_kind = pytest.mark.parametrize("kind", KINDS)
SHAPES = {"full": (3, 2, 2), "tied": (2, 2), "diag": (3, 2), "spherical": (3,)}


def clusters(n=90, seed=0, spread=4.0):
    """Three stretched clusters in the plane."""
    rng = np.random.default_rng(seed)
    centers, shape = spread * rng.standard_normal((3, 2)), rng.standard_normal((3, 2, 2))
    k = np.arange(n) % 3
    return centers[k] + np.einsum("nij,nj->ni", shape[k], rng.standard_normal((n, 2)))


def start(kind, seed=1):
    rng = np.random.default_rng(seed)
    factors = np.eye(2) + 0.3 * rng.standard_normal((3, 2, 2))
    full = factors @ factors.swapaxes(1, 2)
    covariances = {
        "full": full,
        "tied": full[0],
        "diag": full[:, [0, 1], [0, 1]],
        "spherical": full[:, 0, 0],
    }[kind]
    return Parameters(np.array([0.2, 0.3, 0.5]), 3 * rng.standard_normal((3, 2)), covariances)


def steps(kind, x, n, first=None):
    """A mixture after n steps from a start."""
    model = GaussianMixture(3, kind, max_iter=n, tol=0, rng=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EM has not converged")
        return model.fit(x, start=first or start(kind))


def as_full(kind, covariances):
    if kind == "diag":
        return np.array([np.diag(v) for v in covariances])
    if kind == "spherical":
        return np.array([v * np.eye(2) for v in covariances])
    return np.broadcast_to(covariances, (3, 2, 2))


# -- by the definitions ------------------------------------------------------------------------------


@every_kind
def test_the_density_by_its_definition(kind):
    model = steps(kind, clusters(), 2)
    x = clusters(seed=3)[:20]
    expected = 0.0
    for w, m, c in zip(model.weights_, model.means_, as_full(kind, model.covariances_), strict=True):
        distances = np.einsum("ni,ij,nj->n", x - m, np.linalg.inv(c), x - m)
        expected = expected + w * np.exp(-distances / 2) / (2 * np.pi * np.sqrt(np.linalg.det(c)))
    np.testing.assert_allclose(model.score_samples(x), np.log(expected), rtol=1e-12)


@every_kind
def test_a_step_by_its_definition(kind):
    """Sums over rows and components, written out."""
    x, (w, m, c) = clusters(), start(kind)
    c = as_full(kind, c)
    p = np.array(
        [
            [
                w[k]
                * np.exp(-(row - m[k]) @ np.linalg.inv(c[k]) @ (row - m[k]) / 2)
                / np.sqrt(np.linalg.det(2 * np.pi * c[k]))
                for k in range(3)
            ]
            for row in x
        ]
    )
    r = p / p.sum(axis=1, keepdims=True)
    n = r.sum(axis=0)
    means = np.array([sum(r[i, k] * x[i] for i in range(90)) / n[k] for k in range(3)])
    scatter = np.array(
        [sum(r[i, k] * np.outer(x[i] - means[k], x[i] - means[k]) for i in range(90)) for k in range(3)]
    )
    full = scatter / n[:, None, None]
    expected = {
        "full": full,
        "tied": scatter.sum(axis=0) / 90,
        "diag": full[:, [0, 1], [0, 1]],
        "spherical": full[:, [0, 1], [0, 1]].mean(axis=1),
    }[kind]
    model = steps(kind, x, 1)
    assert model.covariances_.shape == SHAPES[kind]
    np.testing.assert_allclose(model.weights_, n / 90, rtol=1e-12)
    np.testing.assert_allclose(model.means_, means, rtol=1e-11)
    np.testing.assert_allclose(model.covariances_, expected, rtol=1e-11)
    np.testing.assert_allclose(model.log_likelihoods_[0], np.log(p.sum(axis=1)).mean(), rtol=1e-12)
    again = GaussianMixture(3, kind, max_iter=1, rng=0)
    shares, _ = again.e_step(x, start(kind))
    np.testing.assert_allclose(shares, r, rtol=1e-11)


def test_one_component_is_the_gaussian_of_the_data():
    x = clusters()
    model = GaussianMixture(1, rng=0).fit(x)
    np.testing.assert_allclose(model.means_[0], x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.covariances_[0], np.cov(x.T, ddof=0), rtol=1e-12)
    np.testing.assert_array_equal(model.predict_proba(x), np.ones((90, 1)))


def test_it_is_the_mixture_of_the_data_s_room():
    """With spherical covariances, it has the same density as `tinygen.data.mixtures`."""
    model = steps("spherical", clusters(), 4)
    same = Mixture(model.weights_, model.means_, np.sqrt(model.covariances_))
    x = clusters(seed=2)
    np.testing.assert_allclose(model.score_samples(x), same.log_density(x), rtol=1e-11)
    np.testing.assert_allclose(model.predict_proba(x), same.responsibilities(x), atol=1e-11)


@every_kind
def test_parity_with_scikit_learn(kind):
    """From the same start, after 1, 5 and 40 steps: parameters, densities, responsibilities, BIC."""
    library = pytest.importorskip("sklearn.mixture")
    x, first = clusters(), start(kind)
    for n in (1, 5, 40):
        theirs = library.GaussianMixture(
            3,
            covariance_type=kind,
            weights_init=first.weights,
            means_init=first.means,
            precisions_init=1 / first.covariances
            if kind in ("diag", "spherical")
            else np.linalg.inv(first.covariances),
            reg_covar=0,
            tol=0,
            max_iter=n,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(x)
        ours = steps(kind, x, n)
        for name in ("weights_", "means_", "covariances_"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-8)
        new = clusters(seed=5)
        np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-10, atol=1e-8)
        np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), rtol=0, atol=1e-8)
        assert ours.bic(x) == pytest.approx(theirs.bic(x), rel=1e-9)
        assert ours.score(new) == pytest.approx(theirs.score(new), rel=1e-9)


# -- EM ----------------------------------------------------------------------------------------------


@every_kind
@settings(max_examples=12)
@given(st.integers(0, 10_000), st.integers(6, 30), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_the_likelihood_never_falls(kind, seed, n, k, dim, collapse):
    """Also with as many components as rows, with repeated rows, and where components sit at the floor."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim)) * 10.0 ** rng.integers(-3, 4, dim)
    if collapse:
        x[: n // 2] = x[0]
    model = GaussianMixture(k, kind, n_init=1, max_iter=30, tol=0, min_variance=1e-3, rng=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x)
    rises = np.diff(model.log_likelihoods_)
    assert len(rises) == model.n_iter_
    assert rises.min() > -1e-11 * np.abs(model.log_likelihoods_).max()
    assert model.log_likelihoods_[-1] == pytest.approx(model.score(x), rel=1e-12)


def test_it_finds_a_mixture_and_is_likelier_than_the_truth():
    truth = Mixture([0.5, 0.3, 0.2], [[0, 0], [4, 0], [0, 4]], [1.0, 0.5, 0.7])
    x = truth.sample(1500, np.random.default_rng(0))
    for kind in KINDS:
        model = GaussianMixture(3, kind, rng=0).fit(x)
        assert model.converged_
        order = np.argsort(-model.weights_)
        np.testing.assert_allclose(model.weights_[order], [0.5, 0.3, 0.2], atol=0.05)
        np.testing.assert_allclose(model.means_[order], truth.means, atol=0.2)
        if kind != "tied":
            assert model.score(x) > truth.log_density(x).mean()


def test_several_starts_keep_the_likeliest():
    x = clusters(60, 7, 2.0)
    one = [GaussianMixture(5, "spherical", n_init=1, rng=s).fit(x).score(x) for s in range(6)]
    rng = np.random.default_rng(0)
    first = [GaussianMixture(5, "spherical", n_init=1, rng=rng).fit(x).score(x) for _ in range(6)]
    best = GaussianMixture(5, "spherical", n_init=6, rng=0).fit(x).score(x)
    assert len(set(np.round(one, 6))) > 1, "starts that end in the same place would show nothing"
    assert best == pytest.approx(max(first), rel=1e-12)


def test_in_other_units_it_is_the_same_mixture():
    """A column in another unit, a thousandth of the first: each density is a thousandth of the one before."""
    x, scale = clusters(), np.array([1.0, 1e3])
    for kind in ("full", "tied", "diag"):
        a, b = (GaussianMixture(3, kind, rng=0).fit(y) for y in (x, x * scale))
        np.testing.assert_allclose(b.means_, a.means_ * scale, rtol=1e-6)
        np.testing.assert_allclose(b.score_samples(x * scale), a.score_samples(x) - np.log(1e3), rtol=1e-6)


def test_a_component_without_rows_is_empty_and_keeps_its_place():
    x, first = clusters(), start("full")
    first.means[1] = 1e4
    model = GaussianMixture(3, rng=0)
    with pytest.warns(UserWarning, match=r"components \[1\] are empty, and have the weight 0"):
        model.fit(x, start=first)
    np.testing.assert_array_equal(model.empty_, [False, True, False])
    np.testing.assert_array_equal(model.weights_ == 0, model.empty_)
    np.testing.assert_array_equal(model.means_[1], [1e4, 1e4])
    np.testing.assert_array_equal(model.covariances_[1], first.covariances[1])
    two = Parameters(*(part[[0, 2]] for part in first))
    two = two._replace(weights=two.weights / two.weights.sum())
    rest = GaussianMixture(2, rng=0).fit(x, start=two)
    np.testing.assert_allclose(model.score_samples(x), rest.score_samples(x), rtol=1e-6)
    assert np.diff(model.log_likelihoods_).min() > -1e-12
    assert np.all(np.isfinite(model.sample(100, rng=0)))


@every_kind
def test_a_component_that_collapses_is_at_the_floor(kind):
    """Thirty rows at one place, of any width above 0 they would be likelier the narrower it is."""
    x = clusters()
    x[:30] = x[0]
    model, first = GaussianMixture(3, kind, min_variance=1e-4, rng=0), start(kind)
    first.means[:] = x[0], x[30::3].mean(axis=0), x[31::3].mean(axis=0)
    if kind == "tied":
        model.fit(x, start=first)
        assert not model.collapsed_.any()  # one covariance for all rows
        return
    with pytest.warns(
        UserWarning, match=r"components \[\d\] have a variance at the floor, min_variance=0.0001"
    ):
        model.fit(x, start=first)
    assert model.collapsed_.sum() == 1
    [narrow] = as_full(kind, model.covariances_)[model.collapsed_]
    floor = 1e-4 * x.var(axis=0)
    floor = np.diag(np.full(2, floor.mean()) if kind == "spherical" else floor)
    np.testing.assert_allclose(narrow, floor, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.means_[model.collapsed_][0], x[0], atol=1e-6)


@every_kind
def test_a_start_below_the_floor_is_raised_to_it(kind):
    """Else its likelihood would be one that no step can keep."""
    x = clusters()
    model = GaussianMixture(3, kind, min_variance=0.5, max_iter=5, tol=0, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, start=steps(kind, x, 30).fitted_parameters())
    assert np.diff(model.log_likelihoods_).min() > -1e-12


RUNS = [
    (5.0, [True, True]),
    (-3.0, [True, False]),
    (-2.0, [False, True]),
    (-4.0, [False, False]),
]  # worst first


def test_collapsed_runs_are_not_the_best():
    """Two equal rows among noise: a component on them alone would be likelier than any true one."""
    x = np.random.default_rng(0).standard_normal((60, 2))
    x[1] = x[0]
    trap = Parameters(np.array([0.9, 0.1]), np.array([[0.0, 0], x[0]]), np.array([1.0, 1e-4]))
    with pytest.warns(UserWarning, match="at the floor"):
        collapsed = GaussianMixture(2, "spherical", rng=0).fit(x, start=trap)
    model = GaussianMixture(2, "spherical", n_init=10, rng=0).fit(x)
    assert not model.collapsed_.any()
    assert collapsed.score(x) > model.score(x)
    runs = [Climb(trap, [-9.0, value], np.array(where), True) for value, where in RUNS]
    assert sorted(runs, key=Climb.rank) == runs


def test_a_constant_column():
    x = np.column_stack([clusters(), np.full(90, 7.0)])
    with pytest.warns(UserWarning, match="at the floor"):
        model = GaussianMixture(2, rng=0).fit(x)
    assert np.all(np.isfinite(model.score_samples(x)))
    assert model.collapsed_.all()


def test_too_few_steps_are_said():
    with pytest.warns(UserWarning, match="EM has not converged in 2 steps"):
        model = GaussianMixture(3, n_init=1, max_iter=2, rng=0).fit(clusters())
    assert (model.n_iter_, model.converged_) == (2, False)


# -- the start ---------------------------------------------------------------------------------------


class Places(np.random.Generator):
    """`choice` notes the probabilities, and takes the most probable."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.seen = []

    def integers(self, n):
        return 0

    def choice(self, n, p):
        self.seen.append(p)
        return int(np.argmax(p))


def test_k_means_plus_plus():
    """Squared distances to the nearest center so far, in standard deviations."""
    x, rng = np.array([[0.0], [1.0], [3.0], [10.0]]), Places()
    shares = k_means_plus_plus(100 * x, 3, rng)
    np.testing.assert_allclose(rng.seen[0], np.array([0, 1, 9, 100]) / 110, rtol=1e-12)
    np.testing.assert_allclose(rng.seen[1], np.array([0, 1, 9, 0]) / 10, rtol=1e-12)
    np.testing.assert_array_equal(shares, [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_rows_and_components():
    with pytest.raises(ValueError, match="2 rows cannot be fitted by 3 components: take fewer"):
        GaussianMixture(3, rng=0).fit(clusters()[:2])
    few = np.repeat(clusters()[:2], 20, axis=0)
    with pytest.raises(ValueError, match="x has 2 different rows, fewer than 3 components"):
        GaussianMixture(3, rng=0).fit(few)
    with pytest.raises(ValueError, match="all rows are equal"):
        GaussianMixture(1, rng=0).fit(few[:20])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": np.ones(2) / 2}, r"start: weights must be finite and \(3,\), got \(2,\)"),
        ({"means": np.zeros((3, 3))}, r"start: means must be finite and \(3, 2\), got \(3, 3\)"),
        ({"covariances": np.ones(3)}, r"start: covariances must be finite and \(3, 2, 2\), got \(3,\)"),
        ({"means": np.full((3, 2), np.nan)}, "start: means must be finite"),
        ({"weights": np.array([0.5, 0.6, -0.1])}, "weights must be at least 0 and sum to 1"),
        ({"weights": np.ones(3)}, "weights must be at least 0 and sum to 1"),
    ],
)
def test_a_start_that_is_none(given, said):
    with pytest.raises(ValueError, match=said):
        GaussianMixture(3, rng=0).fit(clusters(), start=start("full")._replace(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"covariance_type": "round"}, "one of full, tied, diag, spherical, got 'round'"),
        ({"n_components": 2.5}, "n_components must be a whole number, got 2.5"),
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"n_init": 0}, "n_init must be at least 1, got 0"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"tol": -1.0}, "tol must be at least 0, got -1"),
        ({"min_variance": 0.0}, "min_variance must be from 1e-12"),
    ],
)
def test_wrong_arguments(given, said):
    with pytest.raises(ValueError, match=said):
        GaussianMixture(**{"n_components": 2, "rng": 0, **given})


# -- what is made of it ------------------------------------------------------------------------------


@every_kind
def test_samples_have_the_moments(kind):
    model, n = steps(kind, clusters(), 10), 60_000
    drawn = model.sample(n, rng=0)
    mean = model.weights_ @ model.means_
    off = model.means_ - mean
    covariance = np.einsum("k,kij->ij", model.weights_, as_full(kind, model.covariances_))
    covariance = covariance + (model.weights_[:, None] * off).T @ off
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * spread.max() / np.sqrt(n))
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.03 * spread.max() ** 2)
    share = model.predict_proba(drawn).mean(axis=0)
    np.testing.assert_allclose(share, model.weights_, atol=0.01)


@every_kind
def test_correlated_noise_has_the_covariance(kind):
    """Exactly: what becomes of the unit vectors, A, has AᵀA = Σ."""
    covariances = start(kind).covariances
    a = correlate(kind, np.eye(2), np.array([2, 2]), covariances)
    np.testing.assert_allclose(a.T @ a, as_full(kind, covariances)[2], rtol=1e-12, atol=1e-15)


def test_bic():
    x = clusters()
    for kind, free in (
        ("full", 2 + 6 + 9),
        ("tied", 2 + 6 + 3),
        ("diag", 2 + 6 + 6),
        ("spherical", 2 + 6 + 3),
    ):
        model = steps(kind, x, 3)
        assert free_parameters(kind, 3, 2) + 2 + 6 == free
        assert model.bic(x) == pytest.approx(free * np.log(90) - 2 * model.score_samples(x).sum(), rel=1e-14)


def test_bic_finds_the_number_of_components():
    truth = Mixture([0.4, 0.3, 0.3], [[0, 0], [6, 0], [0, 6]], 1.0)
    x = truth.sample(400, np.random.default_rng(0))
    found = {k: GaussianMixture(k, "spherical", rng=0).fit(x).bic(x) for k in range(1, 6)}
    assert min(found, key=found.get) == 3


def test_as_many_components_as_rows_is_the_kernel_density():
    """The KDE is a mixture: one component for each row, with weights 1/N and variances h²."""
    x = clusters(12)
    kde = GaussianKDE(0.5).fit(x)
    mixture = GaussianMixture(12, "spherical", rng=0)
    joint = mixture.log_joint(clusters(seed=4), Parameters(np.full(12, 1 / 12), x, np.full(12, 0.25)))
    np.testing.assert_allclose(
        np.log(np.exp(joint).sum(axis=1)), kde.score_samples(clusters(seed=4)), rtol=1e-11
    )
