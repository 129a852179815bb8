"""The losses of adversarial networks: the best discriminator of known densities, gradients in closed form,
penalties of discriminators whose gradient is known, parity with torch through second derivatives."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck
from tinygen.models.pictures.gan_losses import (
    GAMES,
    gradient_penalty,
    hinge_loss,
    input_gradient,
    linear_loss,
    logistic_loss,
    minimax_loss,
    non_saturating_loss,
    r1_penalty,
    wasserstein_loss,
)


def rng():
    return np.random.default_rng(7)


def leaf(x):
    return Tensor(np.array(x, np.float64), requires_grad=True)


# -- the best discriminator of discrete densities ------------------------------------------------------

P, Q = np.array([8, 4, 2, 1, 1]), np.array([1, 1, 2, 8, 4])  # sixteenths: so often each of five points comes
REAL, FAKE = (np.repeat(np.arange(5), counts) for counts in (P, Q))


def test_the_best_discriminator():
    """The loss is convex in the logits, and its gradient is 0 where they are ln p - ln q and nowhere else: so
    σ of them is p/(p + q)."""
    best = np.log(P / Q)
    np.testing.assert_allclose(1 / (1 + np.exp(-best)), P / (P + Q), rtol=1e-15)
    logits = leaf(best)
    loss = logistic_loss(logits[REAL], logits[FAKE])
    loss.backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-16)
    for k in range(5):
        for step in (-0.1, 0.1):
            other = best + step * np.eye(5)[k]
            assert logistic_loss(other[REAL], other[FAKE]).item() > loss.item()


def test_the_value_of_the_best_discriminator():
    """V(D*) = -loss: -ln 4 + 2 JS(p ‖ q); -ln 4 for p = q; 0 where p and q have no point in common."""
    p, q = P / 16, Q / 16
    middle = (p + q) / 2
    js = 0.5 * np.sum(p * np.log(p / middle)) + 0.5 * np.sum(q * np.log(q / middle))
    best = np.log(P / Q)
    assert logistic_loss(best[REAL], best[FAKE]).item() == pytest.approx(math.log(4) - 2 * js, rel=1e-15)
    same = np.zeros(5)
    assert logistic_loss(same[REAL], same[REAL]).item() == pytest.approx(math.log(4), rel=1e-15)
    assert logistic_loss(np.full(3, 800.0), np.full(3, -800.0)).item() == 0.0


def test_the_generator_s_two_losses():
    """Minimax is minus the discriminator's loss in all that depends on the generator. At p = q both pull
    with the same strength."""
    real, fake = rng().standard_normal((2, 6))
    others = logistic_loss(real, fake) - logistic_loss(real, 2 * fake)
    assert (minimax_loss(2 * fake) - minimax_loss(fake)).item() == pytest.approx(others.item(), rel=1e-14)
    grads = []
    for loss in (minimax_loss, non_saturating_loss):
        logits = leaf(np.zeros(4))
        loss(logits).backward()
        grads.append(logits.grad)
    np.testing.assert_array_equal(*grads)


# -- gradients ---------------------------------------------------------------------------------------

R, F = np.array([-2.0, -0.5, 0.25, 3.0]), np.array([-4.0, -0.25, 0.5])
SIGMOID = lambda x: 1 / (1 + np.exp(-x))

GRADIENTS = {  # by `real` and `fake`: of a mean over 4, and over 3
    logistic_loss: (-SIGMOID(-R) / 4, SIGMOID(F) / 3),
    hinge_loss: ((R < 1) / -4, (F > -1) / 3),
    wasserstein_loss: (np.full(4, -1 / 4), np.full(3, 1 / 3)),
    minimax_loss: (-SIGMOID(F) / 3,),
    non_saturating_loss: (-SIGMOID(-F) / 3,),
    linear_loss: (np.full(3, -1 / 3),),
}
VALUES = {
    logistic_loss: -np.log(SIGMOID(R)).mean() - np.log(1 - SIGMOID(F)).mean(),
    hinge_loss: (3 + 1.5 + 0.75) / 4 + (0.75 + 1.5) / 3,
    wasserstein_loss: F.mean() - R.mean(),
    minimax_loss: np.log(1 - SIGMOID(F)).mean(),
    non_saturating_loss: -np.log(SIGMOID(F)).mean(),
    linear_loss: -F.mean(),
}


@pytest.mark.parametrize("loss", GRADIENTS, ids=lambda f: f.__name__)
def test_gradients(loss):
    logits = [leaf(x) for x in ((R, F) if len(GRADIENTS[loss]) == 2 else (F,))]
    value = loss(*logits)
    assert value.shape == ()
    assert value.item() == pytest.approx(VALUES[loss], rel=1e-14)
    value.backward()
    for x, expected in zip(logits, GRADIENTS[loss], strict=True):
        np.testing.assert_allclose(x.grad, expected, rtol=1e-14)


def test_logits_of_any_size_stay_finite():
    for loss in (minimax_loss, non_saturating_loss):
        logits = leaf([-1e4, 1e4])
        loss(logits).backward()
        assert np.all(np.isfinite(logits.grad))
    assert non_saturating_loss(np.array([-1e4])).item() == 1e4


def test_games():
    assert {name: (game.discriminator, game.generator) for name, game in GAMES.items()} == {
        "minimax": (logistic_loss, minimax_loss),
        "non-saturating": (logistic_loss, non_saturating_loss),
        "hinge": (hinge_loss, linear_loss),
        "wasserstein": (wasserstein_loss, linear_loss),
    }


# -- penalties ---------------------------------------------------------------------------------------


def linear_discriminator(w):
    return lambda x: x @ w + 3.0


def quadratic_discriminator(a, w):
    """½ xᵀAx + wᵀx, whose gradient is (A + Aᵀ)x/2 + w."""
    return lambda x: 0.5 * ((x @ a) * x).sum(axis=1) + x @ w


def test_r1_of_a_linear_discriminator():
    w = leaf([3.0, -4.0])
    penalty = r1_penalty(linear_discriminator(w), rng().standard_normal((5, 2)))
    assert penalty.item() == 12.5
    penalty.backward()
    np.testing.assert_allclose(w.grad, w.data, rtol=1e-15)


def test_r1_of_a_quadratic_discriminator():
    """½ E|Sx + w|² with S = (A + Aᵀ)/2: by w, E(Sx + w); by A, the symmetric part of E(Sx + w)xᵀ."""
    a, w, x = leaf(rng().standard_normal((3, 3))), leaf([1.0, -2.0, 0.5]), rng().standard_normal((6, 3))
    penalty = r1_penalty(quadratic_discriminator(a, w), x)
    gradient = x @ (a.data + a.data.T) / 2 + w.data
    assert penalty.item() == pytest.approx(0.5 * np.sum(gradient**2) / 6, rel=1e-14)
    penalty.backward()
    np.testing.assert_allclose(w.grad, gradient.mean(axis=0), rtol=1e-13)
    product = gradient.T @ x / 6
    np.testing.assert_allclose(a.grad, (product + product.T) / 2, rtol=1e-13)


def test_gradient_penalty_of_a_linear_discriminator():
    """(|w| - 1)², wherever x̂ is; by w, 2(|w| - 1) w/|w|. It is 0 for a slope of 1."""
    w = leaf([3.0, -4.0])
    real, fake = rng().standard_normal((2, 5, 2))
    penalty = gradient_penalty(linear_discriminator(w), real, fake, rng=0)
    assert penalty.item() == pytest.approx(16, rel=1e-14)
    penalty.backward()
    np.testing.assert_allclose(w.grad, 8 * w.data / 5, rtol=1e-14)
    assert gradient_penalty(linear_discriminator(np.array([0.6, 0.8])), real, fake, rng=0).item() < 1e-30
    flat = linear_discriminator(np.array([0.3, 0.4]))  # a slope below 1 is penalized as well
    assert gradient_penalty(flat, real, fake, rng=0).item() == pytest.approx(0.25, rel=1e-14)


def test_gradient_penalty_of_a_quadratic_discriminator():
    """D(x) = a|x|²/2 + wᵀx at x̂: the length of ax̂ + w."""
    a, w = leaf(2.0), leaf([0.5, -1.0, 2.0])
    real, fake = rng().standard_normal((2, 6, 3))
    eps = np.random.default_rng(3).random((6, 1), np.float32)
    x = eps * real + (1 - eps) * fake
    penalty = gradient_penalty(lambda x: 0.5 * a * (x * x).sum(axis=1) + x @ w, real, fake, rng=3)
    gradient = 2.0 * x + w.data
    length = np.linalg.norm(gradient, axis=1)
    assert penalty.item() == pytest.approx(np.mean((length - 1) ** 2), rel=1e-14)
    penalty.backward()
    by_gradient = (2 * (length - 1) / length)[:, None] * gradient / 6
    np.testing.assert_allclose(w.grad, by_gradient.sum(axis=0), rtol=1e-13)
    np.testing.assert_allclose(a.grad, (by_gradient * x).sum(), rtol=1e-13)


def test_penalties_of_pictures():
    """A point of any shape: the gradient is one vector of all its numbers."""
    real, fake = rng().standard_normal((2, 4, 2, 3, 3))
    w = rng().standard_normal((2, 3, 3))
    d = lambda x: (x * w).sum(axis=(1, 2, 3))
    length = np.linalg.norm(w)
    assert r1_penalty(d, real).item() == pytest.approx(0.5 * length**2, rel=1e-14)
    assert gradient_penalty(d, real, fake, rng=0).item() == pytest.approx((length - 1) ** 2, rel=1e-14)


def network(w1, b1, w2, tanh):
    return lambda x: (tanh(x @ w1 + b1) @ w2)[:, 0]


def weights():
    return [rng().standard_normal(shape) for shape in ((3, 5), (5,), (5, 1))]


def test_penalties_by_gradcheck():
    """The gradient by the weights of the gradient by the points."""
    real, fake = rng().standard_normal((2, 4, 3))
    r1 = lambda *w: r1_penalty(network(*w, np.tanh), real)
    between = lambda *w: gradient_penalty(network(*w, np.tanh), real, fake, rng=0)
    gradcheck(r1, *weights()).raise_if_failed()
    gradcheck(between, *weights()).raise_if_failed()


def parity(ours, theirs):
    """The penalty and its gradient by the weights of a perceptron, here and there."""
    torch = pytest.importorskip("torch")
    w = [leaf(x) for x in weights()]
    v = [torch.tensor(x, requires_grad=True) for x in weights()]
    value, expected = ours(network(*w, np.tanh)), theirs(torch, network(*v, torch.tanh))
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    for x, y in zip(w, v, strict=True):
        theirs_grad = np.zeros(x.shape) if y.grad is None else y.grad.numpy()
        np.testing.assert_allclose(x.grad, theirs_grad, rtol=1e-10, atol=1e-12)


def gradient_there(torch, d, x):
    x = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad(d(x).sum(), x, create_graph=True)
    return gradient


def test_r1_parity_with_torch():
    real = rng().standard_normal((6, 3))
    parity(
        lambda d: r1_penalty(d, real),
        lambda torch, d: 0.5 * gradient_there(torch, d, real).square().sum(1).mean(),
    )


def test_gradient_penalty_parity_with_torch():
    real, fake = rng().standard_normal((2, 6, 3))
    eps = np.random.default_rng(3).random((6, 1), np.float32)
    between = eps * real + (1 - eps) * fake
    parity(
        lambda d: gradient_penalty(d, real, fake, rng=3),
        lambda torch, d: ((gradient_there(torch, d, between).norm(2, dim=1) - 1) ** 2).mean(),
    )


def test_penalties_do_not_reach_the_generator():
    """The points are constants, also if they are on the tape."""
    z, w = leaf(rng().standard_normal((4, 2))), leaf([1.0, 2.0])
    d = quadratic_discriminator(np.eye(2), w)
    (r1_penalty(d, 2 * z) + gradient_penalty(d, z * 1.0, z * 3.0, rng=0)).backward()
    assert z.grad is None
    assert w.grad is not None


def test_what_is_refused():
    x = np.ones((4, 2))
    with pytest.raises(ValueError, match=r"one value for each of 4 points, it gave \(\)"):
        r1_penalty(lambda x: np.sum(x), x)
    with pytest.raises(ValueError, match=r"same shape, got \(4, 2\) and \(3, 2\)"):
        gradient_penalty(lambda x: x.sum(axis=1), x, x[:3], rng=0)


def test_gradients_of_each_point_alone():
    """(B, 1) or (B,): one row for each point, in float32 as the points."""
    x = rng().standard_normal((4, 2)).astype(np.float32)
    for keep in (False, True):
        found = input_gradient(lambda x, keep=keep: (x**3).sum(axis=1, keepdims=keep), x)
        np.testing.assert_allclose(found.data, 3 * x**2, rtol=1e-6)
        assert found.dtype == np.float32
