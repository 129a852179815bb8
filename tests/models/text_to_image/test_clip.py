"""CLIP: the loss and its gradients by hand, what does not change it, the scale and its limit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import Tensor, no_grad, ops
from tinygen.gradcheck import gradcheck
from tinygen.models.text_to_image.clip import CLIP, contrastive_loss, unit_vectors
from tinygen.models.text_to_image.clip_encoders import (
    END,
    ConvImageEncoder,
    TextTower,
    TowerConfig,
    VisionTransformer,
    ids_with_end,
)
from tinygen.optim import Adam

WORDS = ("a", "red", "blue", "circle", "square")
CAPTIONS = ["a red circle", "", "a blue square", "circle"]
IDS = ids_with_end(CAPTIONS, WORDS, 4)
PICTURES = np.random.default_rng(5).standard_normal((4, 3, 8, 8)).astype(np.float32)


def clip(seed=0, kind="vision"):
    rng, config = np.random.default_rng(seed), TowerConfig(2, 2, 8)
    text = TextTower(7, 6, END, config, 5, rng=rng)
    if kind == "conv":
        return CLIP(ConvImageEncoder(8, 3, 4, 2, 5, rng=rng), text)
    return CLIP(VisionTransformer(8, 4, 3, config, 5, rng=rng), text)


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# -- the loss --------------------------------------------------------------------------------------


def test_loss_by_hand():
    """Two pairs: -½ Σ log of the probability of the own partner, by rows and by columns."""
    p = np.log(np.array([[3.0, 1.0], [2.0, 6.0]]))
    rows, columns = (3 / 4) * (6 / 8), (3 / 5) * (6 / 7)
    expected = -(math.log(rows) / 2 + math.log(columns) / 2) / 2
    assert contrastive_loss(p).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_loss_of_equal_logits_is_ln_b(n):
    assert contrastive_loss(np.full((n, n), 3.0)).item() == pytest.approx(math.log(n), abs=1e-12)


def test_loss_of_certain_pairs_is_zero():
    assert contrastive_loss(1e4 * np.eye(5)).item() == 0.0
    assert contrastive_loss(-1e4 * np.eye(5)).item() == pytest.approx(1e4 + math.log(4))


def test_gradient_by_the_logits():
    """(P + Q - 2 I) / 2B: P the softmax of the rows, Q of the columns."""
    logits = Tensor(draws(4, 4), requires_grad=True)
    contrastive_loss(logits).backward()
    e = np.exp(logits.numpy())
    expected = (e / e.sum(axis=1, keepdims=True) + e / e.sum(axis=0) - 2 * np.eye(4)) / 8
    np.testing.assert_allclose(logits.grad, expected, atol=1e-14)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_loss_does_not_depend_on_the_order_of_pairs_or_on_which_is_which(n, seed):
    logits = 5 * draws(n, n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    loss = contrastive_loss(logits).item()
    assert loss >= 0
    assert contrastive_loss(logits[order][:, order]).item() == pytest.approx(loss, rel=1e-12)
    assert contrastive_loss(logits.T).item() == pytest.approx(loss, rel=1e-12)


def test_wrong_pairs_cost_more():
    logits = 4 * np.eye(4)
    assert contrastive_loss(logits[[1, 0, 2, 3]]).item() > contrastive_loss(logits).item() + 1


def test_equal_captions_leave_ln_2():
    """The best that is possible where every caption comes twice: half of the mass on each."""
    logits = 1e4 * np.kron(np.eye(3), np.ones((2, 2)))
    assert contrastive_loss(logits).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("shape", [(3, 4), (3,), (2, 2, 2)])
def test_logits_that_are_refused(shape):
    with pytest.raises(ValueError, match=r"logits have shape \(.*a text for each picture, \(B, B\)"):
        contrastive_loss(np.zeros(shape))


def test_gradients_of_the_loss():
    assert gradcheck(contrastive_loss, draws(3, 3))
    loss = lambda x, y, t: contrastive_loss(unit_vectors(x) @ unit_vectors(y).T * np.exp(t))
    assert gradcheck(loss, draws(3, 4), draws(3, 4, seed=1), np.array(0.7))


# -- the model -------------------------------------------------------------------------------------


def test_logits_by_hand():
    model = clip()
    image, text = model.image_encoder(PICTURES).numpy(), model.text_encoder(IDS[:3]).numpy()
    logits = model(PICTURES, IDS[:3]).numpy()
    assert logits.shape == (4, 3)
    for i, x in enumerate(image):
        for j, y in enumerate(text):
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            assert logits[i, j] == pytest.approx(cosine / 0.07, abs=1e-4)


def test_vectors_have_length_1_and_lengths_do_not_count():
    model = clip()
    for x in (model.image_vectors(PICTURES), model.text_vectors(IDS)):
        np.testing.assert_allclose(np.linalg.norm(x.numpy(), axis=1), 1, rtol=1e-6)
    before = model(PICTURES, IDS).numpy()
    model.image_encoder.projection.weight.data *= 5
    np.testing.assert_allclose(model(PICTURES, IDS).numpy(), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["vision", "conv"])
def test_loss_is_of_its_logits(kind):
    model = clip(kind=kind)
    assert model.loss(PICTURES, IDS).item() == contrastive_loss(model(PICTURES, IDS)).item()
    order = np.array([2, 0, 3, 1])
    assert model.loss(PICTURES[order], IDS[order]).item() == pytest.approx(
        model.loss(PICTURES, IDS).item(), rel=1e-5
    )


@pytest.mark.parametrize("seed", range(3))
def test_first_loss_is_about_ln_b(seed):
    """If vectors have many numbers: then those of pictures and texts, which have nothing to do with each
    other yet, are almost orthogonal. In 32 dimensions the loss begins higher."""
    rng, config = np.random.default_rng(seed), TowerConfig(2, 2, 64)
    image = VisionTransformer(8, 4, 3, config, 512, rng=rng)
    model = CLIP(image, TextTower(50, 8, END, config, 512, rng=rng))
    ids = np.concatenate([rng.integers(2, 50, (16, 7)), np.full((16, 1), END)], axis=1)
    loss = model.loss(rng.standard_normal((16, 3, 8, 8), dtype=np.float32), ids).item()
    assert abs(loss - math.log(16)) < 0.1


def test_first_loss_is_ln_b_for_equal_pictures_and_equal_texts():
    loss = clip().loss(np.repeat(PICTURES[:1], 4, axis=0), np.repeat(IDS[:1], 4, axis=0)).item()
    assert loss == pytest.approx(math.log(4), rel=1e-5)


def test_gradient_of_the_scale():
    """By t, the logits z = cos · exp(t) have the derivative z: Σ (P + Q - 2 I) z / 2B."""
    model = clip().astype(np.float64)
    model.loss(PICTURES, IDS).backward()
    z = model(PICTURES, IDS).numpy()
    e = np.exp(z)
    expected = ((e / e.sum(axis=1, keepdims=True) + e / e.sum(axis=0) - 2 * np.eye(4)) * z).sum() / 8
    assert model.logit_scale.grad == pytest.approx(expected, rel=1e-9)


def test_scale_begins_at_1_over_0_07():
    assert np.exp(clip().logit_scale.numpy()) == pytest.approx(1 / 0.07)
    assert clip().logit_scale.shape == ()


@pytest.mark.parametrize(("scale", "clamped"), [(14.3, 14.3), (99.9, 99.9), (100.5, 100.0), (1e6, 100.0)])
def test_scale_is_clamped_at_100(scale, clamped):
    model = clip()
    model.logit_scale.data = np.array(math.log(scale), np.float32)
    model.clamp_scale()
    assert np.exp(model.logit_scale.numpy()) == pytest.approx(clamped, rel=1e-5)
    assert model.logit_scale.data.dtype == np.float32
    cosines = model(PICTURES, IDS).numpy()
    assert np.abs(cosines).max() <= 100.001


def test_the_scale_at_the_start_and_its_limit():
    """Those of Radford et al. 2021: a temperature of 0.07, and a factor of 100. NaN stays."""
    model = clip()
    assert math.exp(model.logit_scale.item()) == pytest.approx(1 / 0.07, rel=1e-6)
    for t, limited in ((4.605, 4.605), (4.606, math.log(100)), (50.0, math.log(100)), (np.nan, np.nan)):
        model.logit_scale.data = np.array(t, np.float32)
        model.clamp_scale()
        assert model.logit_scale.item() == pytest.approx(limited, rel=1e-6, nan_ok=True)


def test_clamped_scale_can_become_smaller_again():
    """It has its gradient at the limit: wrong pairs make the scale smaller."""
    model = clip()
    model.logit_scale.data = np.array(9.0, np.float32)
    model.clamp_scale()
    with no_grad():
        worst = np.argsort(model(PICTURES, IDS).numpy()[0])[0]
    ids = np.roll(IDS, -worst, axis=0)
    model.loss(PICTURES[:1].repeat(2, axis=0), ids[[0, 1]]).backward()
    assert model.logit_scale.grad != 0


def test_it_learns_its_pairs():
    model, losses = clip(kind="conv"), []
    opt = Adam(model.parameters(), 3e-3)
    for _ in range(60):
        opt.zero_grad()
        loss = model.loss(PICTURES, IDS)
        loss.backward()
        opt.step()
        model.clamp_scale()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert model(PICTURES, IDS).numpy().argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["vision", "conv"])
def test_every_parameter_has_a_gradient(kind):
    model = clip(kind=kind)
    model.loss(PICTURES, IDS).backward()
    for name, p in model.named_parameters():
        assert np.abs(p.grad).max() > 0, name


def test_vectors_of_different_lengths_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="vectors of 4 numbers, and the text encoder of 5"):
        CLIP(ConvImageEncoder(8, 3, 4, 2, 4, rng=rng), TextTower(7, 6, END, TowerConfig(2, 2, 8), 5, rng=rng))


def test_another_number_of_texts_is_refused_by_the_loss():
    with pytest.raises(ValueError, match=r"logits have shape \(4, 3\)"):
        clip().loss(PICTURES, IDS[:3])


def test_probabilities_of_texts_are_a_classifier():
    """The softmax of a row: zero-shot classification needs no more."""
    p = ops.softmax(clip()(PICTURES, IDS)).numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
