"""Guidance: both ends to the bit, Gaussians in closed form, one batch for two predictions."""

import numpy as np
import pytest

from tinygen import Tensor, nn, no_grad
from tinygen.diffusion import Process, classifier_free, cosine, ddim, guided


def exact(process, m):
    """What the best model predicts when the data is N(m, 1): ε is noise·(x - signal·m)."""
    s = process.schedule
    return lambda x, t: (s.noise[t][:, None] * (x - s.signal[t][:, None] * m)).astype(x.dtype)


# -- without a classifier --------------------------------------------------------------------------


def test_guided():
    conditional, unconditional = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(guided(conditional, unconditional, 1.0), conditional)
    np.testing.assert_array_equal(guided(conditional, unconditional, 0.0), unconditional)
    np.testing.assert_allclose(
        guided(conditional, unconditional, 3.0),
        unconditional + 3 * (conditional - unconditional),
        rtol=0,
        atol=2e-6,
    )
    assert guided(conditional, unconditional, 7.5).dtype == np.float32


def test_guided_gaussians():
    """Scores of N(m, 1) under N(0, 1) guided by w: at every t that of N(w·m, 1), so DDIM goes there."""
    process = Process(cosine(200))
    with_, without = exact(process, 0.7), exact(process, 0.0)
    x = np.array([[-1.0], [0.5]])
    got = ddim(process, lambda x, t: guided(with_(x, t), without(x, t), 3.0), x)
    np.testing.assert_allclose(got, ddim(process, exact(process, 2.1), x), rtol=1e-9)


def labelled(process, asked):
    """Data of class y is N(y, 1), of no class (0) N(0, 1), in one model; what it is asked goes to `asked`."""

    def model(x, t, y):
        asked.append((x.copy(), t.copy(), y.copy()))
        return exact(process, y[:, None])(x, t)

    return model


@pytest.mark.parametrize("nothing", [np.zeros(3, int), 0], ids=["one for each", "one for all"])
def test_one_model_for_both(nothing):
    """Every class goes where its own guided Gaussian is, and the model is asked once a step."""
    process, asked = Process(cosine(50)), []
    labels, x = np.array([2, -1, 1]), np.random.default_rng(0).standard_normal((3, 2))
    got = ddim(process, classifier_free(labelled(process, asked), (labels,), (nothing,), 3.0), x)
    np.testing.assert_allclose(got, ddim(process, exact(process, 3.0 * labels[:, None]), x), atol=1e-8)
    assert len(asked) == 50
    xs, t, y = asked[0]
    np.testing.assert_array_equal(xs, np.concatenate([x, x]))
    np.testing.assert_array_equal(t, np.full(6, 49))
    np.testing.assert_array_equal(y, [2, -1, 1, 0, 0, 0])


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, [2, -1, 1]), (1, [2, -1, 1]), (0, [0, 0, 0])])
def test_one_end_is_asked_alone(scale, wanted):
    process, asked = Process(cosine(50)), []
    x, t = np.random.default_rng(0).standard_normal((3, 2)), np.full(3, 20)
    model = labelled(process, asked)
    got = classifier_free(model, (np.array([2, -1, 1]),), (0,), scale)(x, t)
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
        got = classifier_free(model, (Tensor(context), mask), (Tensor(nothing[0]), nothing[1]), 5.0)(x, t)
        rows = [np.broadcast_to(n, (3, *n.shape)) for n in nothing]
        wanted = guided(model(x, t, context, mask), model(x, t, *rows), 5.0)
    assert isinstance(got, Tensor)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.data, wanted.data, rtol=1e-5, atol=1e-5)


def test_errors():
    model = lambda x, t, *condition: x
    with pytest.raises(ValueError, match=r"must be as many arrays, got 3 and 1: a single one is \(labels,\)"):
        classifier_free(model, np.array([1, 2, 3]), (0,), 2.0)
