"""Arguments that every density refuses, with the errors that users of scikit-learn expect."""

import numpy as np
import pytest

from tinygen.density import (
    PCA,
    Empirical,
    GaussianKDE,
    GaussianMixture,
    NotFittedError,
    ProbabilisticPCA,
)
from tinygen.density.estimator import log_sum_exp

MAKERS = {
    "Empirical": Empirical,
    "GaussianKDE": lambda: GaussianKDE(0.5),
    "GaussianMixture": lambda: GaussianMixture(2, rng=0),
    "PCA": lambda: PCA(2),
    "ProbabilisticPCA": lambda: ProbabilisticPCA(2),
}
every = pytest.mark.parametrize("name", MAKERS)
X = np.random.default_rng(0).standard_normal((12, 3))
JUDGES = ("score_samples", "score", "predict_proba", "bic", "transform")  # methods of rows


def judges(model):
    return [getattr(model, name) for name in JUDGES if hasattr(model, name)]


@every
def test_not_fitted(name):
    model = MAKERS[name]()
    calls = [lambda method=method: method(X) for method in judges(model)]
    calls += [lambda: model.sample(2, rng=0)] * hasattr(model, "sample")
    calls += [lambda: model.inverse_transform(X[:, :2])] * hasattr(model, "inverse_transform")
    assert calls
    for call in calls:
        with pytest.raises(NotFittedError, match=rf"this {name} is not fitted yet: call fit\(x\) first"):
            call()


def test_the_error_is_caught_as_scikit_learn_s_is():
    theirs = pytest.importorskip("sklearn.exceptions").NotFittedError
    assert set(NotFittedError.__bases__) == set(theirs.__bases__) == {ValueError, AttributeError}


WRONG = {
    "nan": (np.where(np.eye(12, 3, -2), np.nan, X), r"got nan in row 2, column 0"),
    "infinite": (np.where(np.eye(12, 3, 1), -np.inf, X), r"got -inf in row 0, column 1"),
    "a vector": (X[:, 0], r"x must be \(rows, columns\), got \(12,\)"),
    "pictures": (X.reshape(12, 1, 3), r"x must be \(rows, columns\), got \(12, 1, 3\)"),
    "complex": (X + 1j, "complex"),
    "words": ([["a", "b", "c"]], "x must be real numbers"),
    "of two lengths": ([[1.0, 2.0, 3.0], [1.0]], "x must be real numbers"),
    "no rows": (X[:0], r"at least \d rows? and 1 column, got \(0, 3\)"),
    "no columns": (X[:, :0], r"at least \d rows? and 1 column, got \(12, 0\)"),
}


@every
@pytest.mark.parametrize("case", WRONG)
def test_no_rows_of_numbers(name, case):
    x, said = WRONG[case]
    model = MAKERS[name]()
    with pytest.raises(ValueError, match=said):
        model.fit(x)
    with pytest.raises(NotFittedError):
        judges(model)[0](X)  # what failed has left nothing behind
    model.fit(X)
    for method in judges(model):
        with pytest.raises(ValueError, match=said):
            method(x)


@every
def test_another_number_of_columns(name):
    model = MAKERS[name]().fit(X)
    for method in judges(model):
        with pytest.raises(ValueError, match=f"x has 2 columns, but this {name} was fitted to 3"):
            method(X[:, :2])


@pytest.mark.parametrize("name", ["PCA", "ProbabilisticPCA"])
def test_another_number_of_codes(name):
    model = MAKERS[name]().fit(X)
    for z in (X, X[:, 0]):
        with pytest.raises(ValueError, match=r"codes must be \(rows, 2\), got "):
            model.inverse_transform(z)


@every
def test_a_sample_has_its_shape_and_its_seed(name):
    model = MAKERS[name]().fit(X)
    if not hasattr(model, "sample"):
        return
    a, b = model.sample(5, rng=3), model.sample(5, rng=np.random.default_rng(3))
    assert a.shape == (5, 3)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, model.sample(5, rng=4))
    for n, said in ((0, "at least 1, got 0"), (-1, "at least 1, got -1"), (2.5, "a whole number, got 2.5")):
        with pytest.raises(ValueError, match=f"n must be {said}"):
            model.sample(n, rng=0)


@every
def test_fit_returns_the_model_and_keeps_no_view(name):
    x = X.copy()
    model = MAKERS[name]()
    assert model.fit(x) is model
    before = [method(X) for method in judges(model)]
    x += 1
    for a, b in zip(before, [method(X) for method in judges(model)], strict=True):
        np.testing.assert_array_equal(a, b)


def test_score_is_the_mean():
    model = ProbabilisticPCA(1).fit(X)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean(), rel=1e-15)


def test_log_sum_exp():
    rows = np.array(
        [[1000.0, 1000 + np.log(3)], [-2000, -2000 - np.log(3)], [-np.inf, 5], [-np.inf, -np.inf]]
    )
    expected = [1000 + np.log(4), -2000 + np.log(4 / 3), 5, -np.inf]
    np.testing.assert_allclose(log_sum_exp(rows), expected, rtol=1e-15)
