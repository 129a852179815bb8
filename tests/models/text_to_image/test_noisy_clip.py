"""CLIP of noisy pictures: logits and loss by hand, what each picture's step changes, what is refused."""

import math

import numpy as np
import pytest

from tinygen import ops
from tinygen.diffusion import Process, cosine_schedule
from tinygen.models.text_to_image.clip_encoders import END, TextTower, TowerConfig, ids_with_end
from tinygen.models.text_to_image.noisy_clip import NoisyCLIP, NoisyImageEncoder

IDS = ids_with_end(["red", "blue", ""], ["red", "blue"], 2)
PICTURES = np.random.default_rng(5).standard_normal((3, 3, 8, 8)).astype(np.float32)


def noisy_clip(process=None, seed=0):
    """With weights that are not 0 where training starts with 0."""
    rng = np.random.default_rng(seed)
    encoder = NoisyImageEncoder(8, 3, 4, 2, 5, rng=rng)
    for block in encoder.blocks:
        block.conv2.weight.data = 0.1 * rng.standard_normal(block.conv2.weight.shape, dtype=np.float32)
    text = TextTower(4, 4, END, TowerConfig(1, 2, 8), 5, rng=rng)
    return NoisyCLIP(encoder, text, process or Process(cosine_schedule(50)))


def test_logits_are_cosines_times_the_factor():
    model, t = noisy_clip(), np.array([0, 20, 49])
    model.logit_scale.data = np.array(math.log(7), np.float32)
    image, text = model.image_encoder(PICTURES, t).numpy(), model.text_encoder(IDS).numpy()
    logits = model(PICTURES, t, IDS).numpy()
    for i, x in enumerate(image):
        for j, y in enumerate(text):
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            assert logits[i, j] == pytest.approx(7 * cosine, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.image_vectors(PICTURES, t).numpy(), axis=1), 7, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(model.text_vectors(IDS).numpy(), axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("kept", [range(1, 51), [4, 21, 50]])
def test_loss_by_hand(kept):
    """Each picture has the noise of its own step; the encoder sees the step's number, which counts from 0,
    also in a process with fewer steps."""
    process = Process(cosine_schedule(50)).respace(kept)
    model, s = noisy_clip(process), cosine_schedule(50)
    rng = np.random.default_rng(3)
    t = np.array(kept)[rng.integers(len(kept), size=3)]
    noise = rng.standard_normal(PICTURES.shape, np.float32)
    parts = [s.alpha[t], s.sigma[t]]
    alpha, sigma = (part.astype(np.float32)[:, None, None, None] for part in parts)
    logits = model(alpha * PICTURES + sigma * noise, t - 1, IDS)
    rows, columns = (np.exp(ops.log_softmax(logits, axis=axis).numpy()) for axis in (1, 0))
    wanted = -(np.log(np.diag(rows)).mean() + np.log(np.diag(columns)).mean()) / 2
    assert model.loss(PICTURES, IDS, rng=3).item() == pytest.approx(wanted, rel=1e-4)


def test_a_picture_sees_its_own_step_and_no_other_picture():
    model = noisy_clip()
    all_at_once = model.image_vectors(PICTURES, np.array([0, 20, 49])).numpy()
    for i, t in enumerate((0, 20, 49)):
        alone = model.image_vectors(PICTURES[i : i + 1], np.array([t])).numpy()
        np.testing.assert_allclose(alone[0], all_at_once[i], rtol=1e-4, atol=1e-5)
        other = model.image_vectors(PICTURES[i : i + 1], np.array([t ^ 1])).numpy()
        assert abs(other - alone).max() > 1e-4


def test_what_is_refused():
    model = noisy_clip()
    with pytest.raises(ValueError, match=r"t has shape \(2,\): give a number for each of the 3 pictures"):
        model.image_vectors(PICTURES, np.array([1, 2]))
    with pytest.raises(
        ValueError, match=r"pictures have shape \(3, 3, 4, 4\), the encoder needs \(B, 3, 8, 8\)"
    ):
        model.image_vectors(PICTURES[:, :, :4, :4], np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="a side of 12 cannot be halved 3 times"):
        NoisyImageEncoder(12, 3, 4, 3, 5, rng=0)
    text = TextTower(4, 4, END, TowerConfig(1, 2, 8), 6, rng=0)
    with pytest.raises(
        ValueError, match="vectors of 5 numbers, and the text encoder of 6: give both the same"
    ):
        NoisyCLIP(NoisyImageEncoder(8, 3, 4, 2, 5, rng=0), text, Process(cosine_schedule(50)))
