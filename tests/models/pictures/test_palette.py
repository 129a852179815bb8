"""Conditional diffusion: what the network sees, the loss by hand, one training step, what sampling keeps."""

import numpy as np
import pytest
from golden.formula import filled

from tinygen import Tensor, no_grad
from tinygen.diffusion import Process, cosine_schedule, ddim, evenly_spaced, last_state
from tinygen.models.pictures.palette import Palette
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.optim import SGD

CONFIG = UNetConfig(5, 2, 4, (1,), blocks=1, attention=(False,), groups=2, classes=3)
RNG = np.random.default_rng(0)
TRUTH = RNG.standard_normal((3, 2, 4, 4))
CONDITION = RNG.standard_normal((3, 2, 4, 4))
MASK = RNG.random((3, 1, 4, 4)) < [[[[0.2]]], [[[0.5]]], [[[1.0]]]]
LABELS, T = np.array([2, 0, 3]), np.array([1, 9, 20])
EPS = RNG.standard_normal((3, 2, 4, 4))


def palette(predicts="v"):
    """In float64, with weights that are not 0 where training starts with 0."""
    return filled(Palette(UNet(CONFIG, rng=1), Process(cosine_schedule(20), predicts)))


def written_loss(model, x, condition, mask, labels, t, eps):
    """The objective in plain loops over pictures and pixels."""
    alpha, sigma = model.process.schedule.alpha, model.process.schedule.sigma
    total = 0.0
    for i in range(len(x)):
        known = ~mask[i, 0]
        noisy = alpha[t[i]] * x[i] + sigma[t[i]] * eps[i]
        noisy[:, known] = condition[i][:, known]
        seen = np.concatenate([noisy, condition[i], mask[i].astype(float)])
        with no_grad():
            v = model.unet(seen[None], np.array([t[i] - 1]), labels[i : i + 1]).numpy()[0]
        wanted = alpha[t[i]] * eps[i] - sigma[t[i]] * x[i]
        errors = [(v[c, a, b] - wanted[c, a, b]) ** 2 for c, a, b in np.ndindex(v.shape) if mask[i, 0, a, b]]
        total += sum(errors) / len(errors)
    return total / len(x)


def test_the_loss_by_hand():
    model = palette()
    ours = model.loss_at(TRUTH, CONDITION, MASK, LABELS, T, EPS).item()
    assert ours == pytest.approx(written_loss(model, TRUTH, CONDITION, MASK, LABELS, T, EPS), rel=1e-12)


def test_a_random_step_and_noise_for_each_picture():
    model, rng = palette(), np.random.default_rng(7)
    t = 1 + rng.integers(20, size=3)
    wanted = model.loss_at(TRUTH, CONDITION, MASK, LABELS, t, rng.standard_normal(TRUTH.shape))
    assert model.loss(TRUTH, CONDITION, MASK, LABELS, rng=7).item() == wanted.item()


def test_one_training_step_follows_the_gradient_of_the_written_loss():
    """A step of gradient descent, beside differences of the loops: along the gradient, and along a random
    direction."""
    model = palette()
    arguments = (TRUTH, CONDITION, MASK, LABELS, T, EPS)
    model.loss_at(*arguments).backward()
    start = [p.data.copy() for p in model.parameters()]
    gradients = [p.grad.copy() for p in model.parameters()]
    rng = np.random.default_rng(2)
    for along in (gradients, [rng.standard_normal(g.shape) for g in gradients]):
        values = []
        for h in (1e-5, -1e-5):
            for p, x, d in zip(model.parameters(), start, along, strict=True):
                p.data = x + h * d
            values.append(written_loss(model, *arguments))
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, along, strict=True))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)
    for p, x in zip(model.parameters(), start, strict=True):
        p.data = x.copy()
    SGD(model.parameters(), lr=0.01).step()
    for p, x, g in zip(model.parameters(), start, gradients, strict=True):
        np.testing.assert_allclose(p.data, x - 0.01 * g, rtol=1e-12, atol=1e-15)


def test_nothing_of_the_known_part_is_learned():
    """The loss and its gradient do not depend on the truth or the noise outside of the mask; the prediction
    there has no gradient."""
    changed = [np.where(MASK, x, 100 * x + 7) for x in (TRUTH, EPS)]
    found = []
    for truth, eps in ((TRUTH, EPS), changed):
        model = palette()
        loss = model.loss_at(truth, CONDITION, MASK, LABELS, T, eps)
        loss.backward()
        found.append([loss.item(), *[p.grad for p in model.parameters()]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)

    seen = []
    model = palette()

    def unet(x, t, labels):
        seen.append(Tensor(np.zeros_like(TRUTH), requires_grad=True))
        return seen[0] * 1.0

    object.__setattr__(model, "forward", lambda x, t, c, m, labels: unet(x, t, labels))
    model.loss_at(TRUTH, CONDITION, MASK, LABELS, T, EPS).backward()
    np.testing.assert_array_equal(seen[0].grad != 0, np.broadcast_to(MASK, TRUTH.shape))


def test_the_condition_the_mask_and_the_label_matter():
    model = palette()
    usual = model(TRUTH, T, CONDITION, MASK, LABELS).numpy()
    for other in (
        (CONDITION + 1, MASK, LABELS),
        (CONDITION, MASK[::-1], LABELS),
        (CONDITION, MASK, LABELS[::-1]),
    ):
        assert np.abs(model(TRUTH, T, *other).numpy() - usual).max() > 1e-3


# -- sampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0, 1])
def test_the_known_part_is_kept_bit_for_bit(eta):
    model = palette()

    def sampler(process, model, x):
        return ddim(process, model, x, eta=eta, rng=3)

    states = list(model.sample_steps(CONDITION, MASK, LABELS, rng=5, steps=4, sampler=sampler))
    assert len(states) == 5
    for state in states:
        np.testing.assert_array_equal(np.where(MASK, 0, state), np.where(MASK, 0, CONDITION))
        assert (state != CONDITION)[np.broadcast_to(MASK, state.shape)].all()
    np.testing.assert_array_equal(
        model.sample(CONDITION, MASK, LABELS, rng=5, steps=4, sampler=sampler), states[-1]
    )


def test_sampling_is_the_sampler_with_a_network_that_sees_the_known_part():
    """By hand: DDIM of a model whose input is the condition outside of the mask, whatever the state is."""
    model = palette()
    process = model.process.respace(evenly_spaced(20, 4))

    def network(x, t):
        known = np.where(MASK, x, CONDITION)
        return model.unet(np.concatenate([known, CONDITION, MASK.astype(float)], axis=1), t, LABELS)

    x = np.random.default_rng(5).standard_normal(CONDITION.shape)
    wanted = np.where(MASK, last_state(ddim(process, network, x)), CONDITION)
    found = model.sample(CONDITION, MASK, LABELS, rng=5, steps=4)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_a_perfect_network_draws_the_truth(predicts):
    """One that knows the picture, and says what the process asks for, ends at the picture."""
    model = palette(predicts)
    process = model.process

    def perfect(x, t, *_):
        s = 1 + t[0]
        x = np.asarray(x)
        return process.target(TRUTH, process.eps_of(TRUTH, x, s), s)

    object.__setattr__(model, "forward", perfect)
    condition = np.where(MASK, 0.0, TRUTH)
    found = model.sample(condition, MASK, LABELS, rng=1, steps=20)
    np.testing.assert_allclose(found, TRUTH, atol=1e-10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 4}, "makes 2 channels and takes 4: it needs 5"),
        ({"classes": None}, "made without classes"),
    ],
)
def test_a_unet_that_does_not_fit(changes, message):
    config = UNetConfig(**{**vars(CONFIG), **changes})
    with pytest.raises(ValueError, match=message):
        Palette(UNet(config, rng=0), Process(cosine_schedule(20)))


def test_a_picture_of_which_nothing_is_drawn():
    mask = MASK.copy()
    mask[1] = False
    with pytest.raises(ValueError, match=r"picture 1 .* nothing to draw"):
        palette().loss_at(TRUTH, CONDITION, mask, LABELS, T, EPS)
