"""Losses and divergences: closed forms, conventions and errors."""

import math

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, grad, ops

rng = np.random.default_rng(0)


@pytest.fixture(params=["off", "auto"], autouse=True)
def kernels(request, at_every_size):
    with tinygen.kernels(request.param):
        yield


# -- cross-entropy ---------------------------------------------------------------------------------


def test_equal_logits_cost_ln_v():
    for v in (1, 2, 65):
        loss = ops.cross_entropy(np.full((3, v), 7.0), np.zeros(3, int))
        assert loss == pytest.approx(math.log(v), abs=1e-12)


def test_the_gradient_is_softmax_minus_one_hot():
    logits = rng.normal(size=(4, 5))
    targets = np.array([0, 4, 2, 2])
    found = grad(lambda x: ops.cross_entropy(x, targets, reduction="sum"))(logits).numpy()
    np.testing.assert_allclose(found, ops.softmax(logits) - np.eye(5)[targets], atol=1e-12)


def test_ignored_targets_count_for_nothing():
    logits = rng.normal(size=(3, 5))
    targets = np.array([1, -100, 3])
    kept = ops.cross_entropy(logits[[0, 2]], targets[[0, 2]])
    assert ops.cross_entropy(logits, targets) == pytest.approx(kept)
    slope = grad(lambda x: ops.cross_entropy(x, targets))(logits).numpy()
    assert not slope[1].any()
    assert slope[0].any()
    none = ops.cross_entropy(logits, targets, reduction="none")
    assert none.shape == (3,)
    assert none[1] == 0
    assert ops.cross_entropy(logits, targets, reduction="sum") == pytest.approx(2 * kept)


def test_an_ignored_number_that_is_a_class_of_its_own():
    logits = rng.normal(size=(2, 3))
    kept = ops.cross_entropy(logits[:1], np.array([1]))
    assert ops.cross_entropy(logits, np.array([1, 2]), ignore_index=2) == pytest.approx(kept)


def test_label_smoothing_is_a_mixture():
    logits, targets = rng.normal(size=(3, 4)), np.array([0, 3, 1])
    logp = ops.log_softmax(logits)
    plain = -logp[range(3), targets].mean()
    uniform = -logp.mean()
    found = ops.cross_entropy(logits, targets, label_smoothing=0.3)
    assert found == pytest.approx(0.7 * plain + 0.3 * uniform)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_classes_ruled_out_by_minus_infinity(dtype):
    """They cost and move nothing, unless one of them is the target."""
    x = Tensor(np.array([[1.0, -np.inf, 2.0], [0.0, 1.0, -np.inf]], dtype), requires_grad=True)
    loss = ops.cross_entropy(x, np.array([0, 1]))
    loss.backward()
    p, q = 1 / (1 + math.e), math.e / (1 + math.e)
    assert loss.item() == pytest.approx((-math.log(p) - math.log(q)) / 2, rel=1e-6)
    np.testing.assert_allclose(x.grad, [[(p - 1) / 2, 0, q / 2], [p / 2, (q - 1) / 2, 0]], atol=1e-6)
    assert ops.cross_entropy(x, np.array([1, 0])).item() == np.inf


def test_large_logits_do_not_overflow():
    x = np.array([[1000.0, -1000.0], [-1000.0, 1000.0]], np.float32)
    assert ops.cross_entropy(x, np.array([0, 0])) == 1000.0


def test_targets_may_be_tensors_or_lists():
    logits = rng.normal(size=(2, 3))
    expected = ops.cross_entropy(logits, np.array([0, 2]))
    assert ops.cross_entropy(logits, [0, 2]) == expected
    assert ops.cross_entropy(Tensor(logits), Tensor([0, 2])).item() == expected


@pytest.mark.parametrize(
    ("logits", "targets", "options", "error", "words"),
    [
        ((2, 3), [0, 1, 2], {}, ValueError, r"targets \(3,\) must have the shape of logits \(2, 3\) without"),
        ((2, 3), [0.0, 1.0], {}, TypeError, "targets must be integers, got float64"),
        (
            (2, 3),
            [0, 3],
            {},
            IndexError,
            r"targets must be in \[0, 3\) or -100, which is ignored; got 0 to",
        ),
        ((2, 3), [-1, 5], {}, IndexError, r"targets must be in \[0, 3\) or -100.*; got -1 to 5"),
        ((1, 2, 3), [[0, 7]], {}, IndexError, r"targets must be in \[0, 3\).*; got 0 to 7"),
        ((2, 3), [-1, -1], {"ignore_index": -1}, ValueError, "every target is ignore_index=-1"),
        ((0, 3), np.zeros(0, int), {}, ValueError, "there is nothing to average"),
        ((2, 3), [0, 1], {"reduction": "avg"}, ValueError, 'must be "mean", "sum" or "none", got \'avg\''),
    ],
)
def test_errors(logits, targets, options, error, words):
    with pytest.raises(error, match=words):
        ops.cross_entropy(np.zeros(logits), targets, **options)


def test_options_are_given_by_name():
    """A third number could be a class to ignore as well as a smoothing."""
    with pytest.raises(TypeError, match="positional"):
        ops.cross_entropy(np.zeros((2, 3)), [0, 1], 0.1)


def test_sums_over_nothing():
    targets = np.full(2, -100)
    assert ops.cross_entropy(np.zeros((2, 3)), targets, reduction="sum") == 0
    assert ops.cross_entropy(np.zeros((2, 3)), targets, reduction="none").tolist() == [0, 0]


# -- numbers ---------------------------------------------------------------------------------------


def test_zero_at_the_target():
    x = rng.normal(size=(2, 3))
    for loss in (ops.mse, ops.l1, ops.huber):
        assert loss(x, x) == 0
        assert loss(x, x + 1.0) > 0


def test_reductions():
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    for loss in (ops.mse, ops.l1, ops.huber, ops.bce_with_logits):
        each = loss(x, y, reduction="none")
        assert each.shape == (2, 3)
        assert loss(x, y, reduction="sum") == pytest.approx(each.sum())
        assert loss(x, y) == pytest.approx(each.mean())


def test_huber_is_a_parabola_within_delta_and_a_line_beyond():
    d = np.array([0.0, 0.5, 1.0, 3.0, -3.0])
    found = ops.huber(d, np.zeros(5), delta=1.0, reduction="none")
    np.testing.assert_allclose(found, [0, 0.125, 0.5, 2.5, 2.5])
    slope = grad(lambda x: ops.huber(x, np.zeros(5), delta=1.0, reduction="sum"))(d).numpy()
    np.testing.assert_allclose(slope, [0, 0.5, 1, 1, -1])  # smooth where they meet
    np.testing.assert_allclose(ops.huber(d, 0 * d, delta=2.0, reduction="none"), [0, 0.125, 0.5, 4, 4])


def test_bce_with_logits():
    assert ops.bce_with_logits(np.zeros(3), np.array([0.0, 1.0, 0.3])) == pytest.approx(math.log(2))
    x = Tensor(np.array([1000.0, -1000.0, 1000.0]), requires_grad=True)
    loss = ops.bce_with_logits(x, np.array([1.0, 0.0, 0.0]), reduction="none")
    assert loss.numpy().tolist() == [0, 0, 1000]
    loss.sum().backward()
    assert x.grad.tolist() == [0, 0, 1]  # σ(x) - y
    slope = grad(ops.bce_with_logits, 1)(np.array([2.0, -3.0]), np.array([0.5, 1.0]))
    assert slope.numpy().tolist() == [-1, 1.5]  # by the targets: -x, and a mean of two


def test_gradients_flow_to_both_sides():
    a, b = rng.normal(size=3), rng.normal(size=3)
    for loss in (ops.mse, ops.l1, ops.huber):
        da, db = grad(loss, (0, 1))(a, b)
        np.testing.assert_array_equal(da.numpy(), -db.numpy())


@pytest.mark.parametrize(
    "loss", [ops.mse, ops.l1, ops.huber, ops.bce_with_logits, ops.kl_categorical, ops.kl_gaussian]
)
def test_shapes_must_agree(loss):
    """(3, 1) beside (3,) would be broadcast to (3, 3): a silent error that is often made."""
    with pytest.raises(ValueError, match=r"prediction \(3, 1\) and target \(3,\) must have one shape"):
        loss(np.zeros((3, 1)), np.zeros(3))


# -- divergences -----------------------------------------------------------------------------------


def test_kl_categorical():
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert ops.kl_categorical(np.log(p), np.log(q)) == pytest.approx(expected)
    assert ops.kl_categorical(np.log(p), np.log(p)) == 0
    assert ops.kl_categorical(np.log(q), np.log(p)) > 0


def test_kl_gaussian():
    assert ops.kl_gaussian(np.zeros(3), np.zeros(3)) == 0
    # N(m, s²) from N(0, 1): (m² + s² - 1)/2 - ln s
    found = ops.kl_gaussian(np.array([2.0]), np.log(np.array([9.0])))
    assert found == pytest.approx((4 + 9 - 1) / 2 - math.log(3))
    slopes = grad(ops.kl_gaussian, (0, 1))(np.zeros(2), np.zeros(2))
    assert [s.numpy().tolist() for s in slopes] == [[0, 0], [0, 0]]  # the minimum


def test_kl_gaussian_is_the_mean_of_the_log_ratio():
    m, logvar = 0.7, -0.4
    z = m + math.exp(logvar / 2) * np.random.default_rng(0).normal(size=1_000_000)
    log_ratio = 0.5 * (z**2 - (z - m) ** 2 / math.exp(logvar) - logvar)
    found = ops.kl_gaussian(np.array(m), np.array(logvar))
    assert found == pytest.approx(log_ratio.mean(), abs=4 * log_ratio.std() / 1000)
