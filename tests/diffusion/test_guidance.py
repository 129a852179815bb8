"""Guidance: both ends to the bit, Gaussians and mixtures in closed form, one batch for two predictions."""

import numpy as np
import pytest

from tinygen import Tensor, nn, no_grad, ops
from tinygen.diffusion import (
    Process,
    ancestral_step,
    classifier_free_guidance,
    classifier_guidance,
    clip_guidance,
    cosine_schedule,
    ddim,
    guide,
    last_state,
    rescale_guidance,
    rescale_zero_terminal_snr,
)
from tinygen.diffusion.process import coefficient


def exact(process, m):
    """The best prediction if the data is N(m, 1): ε is σ(x - αm). Networks count steps from 0."""
    s = process.schedule
    return lambda x, t: (s.sigma[t + 1][:, None] * (x - s.alpha[t + 1][:, None] * m)).astype(x.dtype)


# -- without a classifier --------------------------------------------------------------------------


def test_guide():
    conditional, unconditional = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(guide(conditional, unconditional, 1.0), conditional)
    np.testing.assert_array_equal(guide(conditional, unconditional, 0.0), unconditional)
    np.testing.assert_allclose(
        guide(conditional, unconditional, 3.0),
        unconditional + 3 * (conditional - unconditional),
        rtol=0,
        atol=2e-6,
    )
    assert guide(conditional, unconditional, 7.5).dtype == np.float32


def test_guided_gaussians():
    """Guidance with scale w between the scores of N(0, 1) and N(m, 1): at every t the result is the score
    of N(w·m, 1), so DDIM ends there."""
    process = Process(cosine_schedule(200))
    with_, without = exact(process, 0.7), exact(process, 0.0)
    x = np.array([[-1.0], [0.5]])
    got = last_state(ddim(process, lambda x, t: guide(with_(x, t), without(x, t), 3.0), x))
    np.testing.assert_allclose(got, last_state(ddim(process, exact(process, 2.1), x)), rtol=1e-9)


def labeled(process, asked):
    """Data of class y is N(y, 1), of no class (0) N(0, 1), in one model; what it is asked goes to `asked`."""

    def model(x, t, y):
        asked.append((x.copy(), t.copy(), y.copy()))
        return exact(process, y[:, None])(x, t)

    return model


@pytest.mark.parametrize("nothing", [np.zeros(3, int), 0], ids=["one for each", "one for all"])
def test_one_model_for_both(nothing):
    """Every class goes where its own guided Gaussian is, and the model is asked once a step."""
    process, asked = Process(cosine_schedule(50)), []
    labels, x = np.array([2, -1, 1]), np.random.default_rng(0).standard_normal((3, 2))
    led = classifier_free_guidance(labeled(process, asked), (labels,), (nothing,), 3.0)
    got = last_state(ddim(process, led, x))
    wanted = last_state(ddim(process, exact(process, 3.0 * labels[:, None]), x))
    np.testing.assert_allclose(got, wanted, atol=1e-8)
    assert len(asked) == 50
    xs, t, y = asked[0]
    np.testing.assert_array_equal(xs, np.concatenate([x, x]))
    np.testing.assert_array_equal(t, np.full(6, 49))
    np.testing.assert_array_equal(y, [2, -1, 1, 0, 0, 0])


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, [2, -1, 1]), (1, [2, -1, 1]), (0, [0, 0, 0])])
def test_one_end_is_asked_alone(scale, wanted):
    process, asked = Process(cosine_schedule(50)), []
    x, t = np.random.default_rng(0).standard_normal((3, 2)), np.full(3, 20)
    model = labeled(process, asked)
    got = classifier_free_guidance(model, (np.array([2, -1, 1]),), (0,), scale)(x, t)
    np.testing.assert_array_equal(got, model(x, t, np.array(wanted)))
    np.testing.assert_array_equal(asked[0][2], wanted)


def test_a_context_and_its_mask():
    """As text is given: a context (B, T, W) and a mask (B, T); the text for nothing is one row for all.
    Tensors come in and out, of a module."""
    layer, rng = nn.Linear(4, 2, rng=np.random.default_rng(0)), np.random.default_rng(1)
    context, mask = rng.standard_normal((3, 5, 4)).astype(np.float32), rng.random((3, 5)) < 0.5
    nothing = rng.standard_normal((5, 4)).astype(np.float32), np.arange(5) < 1

    def model(x, t, context, mask):
        return layer((context * mask[..., None]).sum(axis=1)) + x

    x, t = rng.standard_normal((3, 2)).astype(np.float32), np.full(3, 7)
    with no_grad():
        none = Tensor(nothing[0]), nothing[1]
        got = classifier_free_guidance(model, (Tensor(context), mask), none, 5.0)(x, t)
        rows = [np.broadcast_to(n, (3, *n.shape)) for n in nothing]
        wanted = guide(model(x, t, context, mask), model(x, t, *rows), 5.0)
    assert isinstance(got, Tensor)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.data, wanted.data, rtol=1e-5, atol=1e-5)


def test_learned_variances_are_those_of_the_condition():
    """Guidance is for the prediction: the second half of twice the channels stays as it is."""
    both = np.arange(24.0).reshape(4, 6)  # x and x again, 3 channels each, and as many for the variance
    led = classifier_free_guidance(lambda x, t, y: both, (np.zeros(2),), (0,), 3.0)
    got = led(np.zeros((2, 3)), np.zeros(2, int))
    np.testing.assert_array_equal(got[:, :3], 3 * both[:2, :3] - 2 * both[2:, :3])
    np.testing.assert_array_equal(got[:, 3:], both[:2, 3:])


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_rescaled_guidance(scale):
    """phi = 1 gives each example the std of its conditional prediction, and changes nothing else but its
    length; phi between is a mean of both; the rescaled prediction is what the guided model makes."""
    rng = np.random.default_rng(0)
    with_, without = rng.standard_normal((2, 4, 3, 5)) * np.array([1.0, 2, 3, 4])[:, None, None]
    mixed = guide(with_, without, scale)
    full = rescale_guidance(mixed, with_, 1.0)
    np.testing.assert_allclose(full.std(axis=(1, 2)), with_.std(axis=(1, 2)), rtol=1e-12)
    ratio = full / mixed
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-12)
    np.testing.assert_array_equal(rescale_guidance(mixed, with_, 0.0), mixed)
    np.testing.assert_allclose(rescale_guidance(mixed, with_, 0.7), 0.7 * full + 0.3 * mixed, rtol=1e-12)

    model = lambda x, t, y: np.where(
        y[:, None, None] == 1, *(np.concatenate([p, p]) for p in (with_, without))
    )
    led = classifier_free_guidance(model, (np.ones(4),), (0,), scale, rescale=0.7)
    got = led(np.zeros((4, 3, 5)), np.zeros(4, int))
    np.testing.assert_allclose(got, 0.7 * full + 0.3 * mixed, rtol=1e-12)


def test_rescaled_guidance_of_a_module():
    """In float32, and Tensors; at scale 1 there is nothing to rescale, and the model is asked once."""
    layer, x = nn.Linear(3, 3, rng=np.random.default_rng(0)), np.ones((2, 3), np.float32)
    sizes = []

    def model(x, t, y):
        sizes.append(len(x))
        return layer(x * y[:, None])

    labels, t = np.array([1, 2], np.float32), np.zeros(2, int)
    with no_grad():
        for scale in (1.0, 4.0):
            got = classifier_free_guidance(model, (labels,), (np.float32(0.5),), scale, rescale=1.0)(x, t)
            assert isinstance(got, Tensor)
            assert got.dtype == np.float32
            wanted = layer(x * labels[:, None]).data
            np.testing.assert_allclose(got.data.std(axis=1), wanted.std(axis=1), rtol=1e-5)
    assert sizes == [2, 4]


# -- by a classifier -------------------------------------------------------------------------------

MEANS = np.array([[-0.9, 0.2], [0.8, -0.4], [0.1, 1.0]])
WIDTHS, SHARES = np.array([0.5, 0.3, 0.7]), np.array([0.2, 0.5, 0.3])


def log_densities(process, x, t):
    """ln of the share of each class k times its density N(α·m_k, α²·s_k² + σ²) at x (B, 2), but for a
    constant: (B, 3), and on the tape if x is."""
    a, n = process.schedule.alpha[t][:, None], process.schedule.sigma[t][:, None]  # (B, 1)
    variances = a**2 * WIDTHS**2 + n**2  # (B, 3)
    off = np.expand_dims(x, 1) - a[:, None] * MEANS  # (B, 3, 2)
    return np.log(SHARES) - np.log(variances) - 0.5 * np.sum(off * off, axis=-1) / variances


def of_a_score(process, score, x, step):
    """The prediction of the process, from the score of x_t: ε is -σ·score."""
    eps = -coefficient(process.schedule.sigma, step, x) * score
    return process.target(Process(process.schedule).x0_and_eps(eps, x, step)[0], eps, step)


def of_one_class(process, k, x, step):
    s = process.schedule
    a, n = s.alpha[step][:, None], s.sigma[step][:, None]
    return of_a_score(process, -(x - a * MEANS[k]) / (a**2 * WIDTHS[k] ** 2 + n**2), x, step)


def of_all_classes(process, x, step):
    """The mixture's score: the mean of the scores of the classes, weighted by their shares at x (in closed
    form, without a tape)."""
    s = process.schedule
    a, n = s.alpha[step][:, None], s.sigma[step][:, None]
    logs = log_densities(process, x, step)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    scores = -(x[:, None] - a[:, None] * MEANS) / (a**2 * WIDTHS**2 + n**2)[..., None]
    return of_a_score(process, (shares[..., None] * scores).sum(axis=1), x, step)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("kept", [range(1, 51), [4, 21, 50]])
def test_the_exact_classifier_makes_a_model_of_one_class(kind, kept):
    """A mixture of three Gaussians: p(y | x_t) is their shares at x_t. Guided by that at scale 1, the model
    of all is the model of that Gaussian alone; at scale 2 its score is twice as far off."""
    process = Process(cosine_schedule(50), kind).respace(kept)
    x = np.random.default_rng(0).standard_normal((6, 2))
    y = np.array([0, 1, 2, 0, 1, 2])
    numbers = process.schedule.timesteps

    def model(x, t):
        return of_all_classes(process, x, np.searchsorted(numbers, t))

    def log_probability(x, t):
        logs = ops.log_softmax(log_densities(process, x, np.searchsorted(numbers, t)), axis=1)
        return logs[np.arange(6), y]

    for step in range(1, len(process.schedule)):  # in the last one, where α is tiny, x_0 has no digits left
        steps, t = np.full(6, step), np.full(6, numbers[step])
        one = np.concatenate([of_one_class(process, k, x[i : i + 1], steps[:1]) for i, k in enumerate(y)])
        plain = model(x, t)
        with no_grad():  # as the samplers call it
            got, twice = (classifier_guidance(process, model, log_probability, w)(x, t) for w in (1.0, 2.0))
        np.testing.assert_allclose(got, one, rtol=0, atol=1e-11)
        np.testing.assert_allclose(twice, 2 * one - plain, rtol=0, atol=1e-11)


def test_algorithm_1():
    """But for the root, an ancestral step with the large variance is moved as there."""
    process, x = Process(cosine_schedule(50)), np.random.default_rng(0).standard_normal((4, 2))
    direction, t = np.array([0.3, -1.2]), 21
    model = classifier_guidance(process, lambda x, t: 0.5 * x, lambda x, t: x @ direction, 1.5)
    draw = lambda model: ancestral_step(process, model, x, t, rng=np.random.default_rng(0), variance="large")
    beta = process.schedule.beta[t]
    np.testing.assert_allclose(
        draw(model) - draw(lambda x, t: 0.5 * x), np.tile(1.5 * beta * direction / np.sqrt(1 - beta), (4, 1))
    )


def test_a_classifier_learns_nothing_from_guidance():
    """Its parameters get no gradients. And the variance that a model says beside stays."""
    layer = nn.Linear(2, 3, rng=np.random.default_rng(0))
    process, x = Process(cosine_schedule(50)), np.ones((4, 2), np.float32)
    log_probability = lambda x, t: ops.log_softmax(layer(x), axis=1)[:, 1]
    model = lambda x, t: np.concatenate([x, 7 * x], axis=1)
    got = classifier_guidance(process, model, log_probability, 3.0)(x, np.full(4, 20))
    assert layer.weight.grad is None
    assert got.dtype == np.float32
    assert np.all(got[:, :2] != x)
    np.testing.assert_array_equal(got[:, 2:], 7 * x)


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_pure_noise_says_nothing_of_the_class(kind):
    """Where α_T = 0 the model's prediction stays; a step before it does not."""
    process, x = Process(rescale_zero_terminal_snr(cosine_schedule(50)), kind), np.ones((4, 2))
    model = classifier_guidance(process, lambda x, t: 0.5 * x, lambda x, t: x.sum(axis=1), 2.0)
    np.testing.assert_array_equal(model(x, np.full(4, 49)), 0.5 * x)
    assert np.all(np.isfinite(model(x, np.full(4, 48))))
    assert np.all(model(x, np.full(4, 48)) != 0.5 * x)


# -- by CLIP ---------------------------------------------------------------------------------------

MEAN, VARIANCE = np.array([0.3, -0.5]), np.array([0.6, 0.2])  # of the data
WANTED, STRENGTH = np.array([[1.2, 0.4], [-0.7, 0.1], [0.0, 2.0]]), 3.0


def gaussian_model(process, mean, variance):
    """The exact prediction for data N(mean, variance), each of the two numbers on its own."""
    numbers = process.schedule.timesteps

    def model(x, t):
        step = np.searchsorted(numbers, t)
        a, n = process.schedule.alpha[step][:, None], process.schedule.sigma[step][:, None]
        return of_a_score(process, -(x - a * mean) / (a**2 * variance + n**2), x, step)

    return model


def quadratic_vectors(process):
    """Vectors (B, 4) of x (B, 2) whose product with (1, 1, -2c) is, but for a constant, ln E[exp(-½ STRENGTH
    |x_0 - c|²)] for the x_0 of data N(MEAN, VARIANCE) whose x_t is x. The x_0 are Gaussian: their mean is k
    and their variance w; and so it is -½ STRENGTH (k - c)²/(1 + STRENGTH w) in each of the two numbers."""
    numbers = process.schedule.timesteps

    def vectors(x, t):
        step = np.searchsorted(numbers, t)
        a, n = process.schedule.alpha[step][:, None], process.schedule.sigma[step][:, None]
        total = a**2 * VARIANCE + n**2
        k, w = (MEAN * n**2 + VARIANCE * a * x) / total, VARIANCE * n**2 / total
        factor = -0.5 * STRENGTH / (1 + STRENGTH * w)
        return np.concatenate([factor * k**2, factor * k], axis=1)

    return vectors


TEXTS = np.concatenate([np.ones((3, 2)), -2 * WANTED], axis=1)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("kept", [range(1, 51), [4, 21, 50]])
def test_a_quadratic_match_tilts_a_gaussian(kind, kept):
    """The data N(m, v) with weights exp(-½ λ |x - c|²) is N((m + λ v c)/(1 + λ v), v/(1 + λ v)): the guided
    model is the exact one for it, at every step, and a sampler ends where that one ends."""
    process = Process(cosine_schedule(50), kind).respace(kept)
    x = np.random.default_rng(0).standard_normal((3, 2))
    less = 1 + STRENGTH * VARIANCE
    wanted = gaussian_model(process, (MEAN + STRENGTH * VARIANCE * WANTED) / less, VARIANCE / less)
    model = gaussian_model(process, MEAN, VARIANCE)
    led = clip_guidance(process, model, quadratic_vectors(process), TEXTS, 1.0)
    for step in range(1, len(process.schedule)):
        t = np.full(3, process.schedule.timesteps[step])
        np.testing.assert_allclose(led(x, t), wanted(x, t), rtol=0, atol=1e-11)
    got, there = (last_state(ddim(process, f, x)) for f in (led, wanted))
    np.testing.assert_allclose(got, there, rtol=0, atol=1e-8)


def test_clip_guidance_moves_the_mean():
    """As in the paper, s Σ ∇(f · g) with Σ = β_t, but for a factor 1/√(1 - β_t): in an ancestral step with
    the large variance. f is a network, and its gradient is that of differences."""
    layer = nn.Linear(2, 4, rng=np.random.default_rng(0)).astype(np.float64)
    process, x = Process(cosine_schedule(50)), np.random.default_rng(1).standard_normal((3, 2))
    texts, t, scale = np.random.default_rng(2).standard_normal((3, 4)), 21, 1.7
    f = lambda x, t: np.tanh(layer(x)) * (1 + t[:, None])
    asked = lambda x: (f(x, np.full(3, t - 1)).data * texts).sum(axis=1)  # networks count from 0
    slopes = [(asked(x + 1e-6 * axis) - asked(x - 1e-6 * axis)) / 2e-6 for axis in np.eye(2)]
    model = clip_guidance(process, lambda x, t: 0.5 * x, f, texts, scale)
    draw = lambda model: ancestral_step(process, model, x, t, rng=np.random.default_rng(0), variance="large")
    beta = process.schedule.beta[t]
    moved = np.sqrt(1 - beta) * (draw(model) - draw(lambda x, t: 0.5 * x))
    np.testing.assert_allclose(moved, scale * beta * np.stack(slopes, axis=1), rtol=1e-6)
    assert layer.weight.grad is None


def test_clip_guidance_like_torch():
    """The same predictions with torch's gradient of the same match, for pictures and a convolution."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, w, texts = (rng.standard_normal(shape) for shape in ((2, 3, 6, 6), (4, 3, 6, 6), (2, 4)))
    process, t = Process(cosine_schedule(50)), np.array([11, 40])
    f = lambda x, t: np.tanh(ops.conv2d(x, w).reshape(2, 4) / 10)
    got = clip_guidance(process, lambda x, t: 0.5 * x, f, texts, 1.7)(x, t)
    y = torch.tensor(x, requires_grad=True)
    vectors = torch.tanh(torch.nn.functional.conv2d(y, torch.tensor(w)).reshape(2, 4) / 10)
    (slope,) = torch.autograd.grad((vectors * torch.tensor(texts)).sum(), y)
    sigma = process.schedule.sigma[t + 1][:, None, None, None]
    np.testing.assert_allclose(got, 0.5 * x - 1.7 * sigma * slope.numpy(), atol=1e-12)


def test_errors():
    process = Process(cosine_schedule(50)).respace([4, 21, 50])
    same, x = lambda x, t: x, np.ones((2, 3))
    guided_model = classifier_guidance(process, same, lambda x, t: x.sum(axis=1), 1.0)
    for t in (19, 50):
        with pytest.raises(ValueError, match=rf"the steps of the process, \[ 3 20 49\], got \[{t}"):
            guided_model(x, np.full(2, t))
    model = lambda x, t, *condition: x
    led = clip_guidance(process, same, lambda x, t: x, np.ones((1, 3)), 1.0)
    with pytest.raises(ValueError, match="1 texts for 2 x: give a text for each"):
        led(x, np.full(2, 20))
    with pytest.raises(ValueError, match=r"must be as many arrays, got 3 and 1: a single one is \(labels,\)"):
        classifier_free_guidance(model, np.array([1, 2, 3]), (0,), 2.0)
