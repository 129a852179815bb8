"""Latent diffusion: the exact values that the three networks pass to each other, on models too small to
draw."""

from functools import partial

import numpy as np
import pytest

from tinygen import no_grad
from tinygen.diffusion import (
    Process,
    ancestral_sampling,
    classifier_free_guidance,
    cosine_schedule,
    ddim,
    evenly_spaced,
    last_state,
    loss_at,
)
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL, latent_scale
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.latent_diffusion import DROPPED, LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig

CAPTIONS = ["a red square", "a blue circle", "red"]
WORDS = ("a", "red", "blue", "square", "circle")


def rng(seed=0):
    return np.random.default_rng(seed)


def small(latent=4, made=4, context=8, side=8):
    autoencoder = AutoencoderKL(AutoencoderConfig(latent=latent, channels=8, multipliers=(1, 1)), rng=rng())
    unet = UNet(UNetConfig(4, made, 8, (1, 1), 1, (False, True), 2, context=context), rng=rng(1))
    text = TextEncoder(TextEncoderConfig(WORDS, 4, heads=2, channels=8), rng=rng(2))
    return LatentDiffusion(autoencoder, TextDenoiser(unet, text), Process(cosine_schedule(50), "v"), side)


def stirred():
    """A model whose UNet does not say 0."""
    model = small()
    for i, p in enumerate(model.denoiser.parameters()):
        p.data += 0.1 * rng(i).standard_normal(p.shape, np.float32)
    return model


PICTURES = rng(3).uniform(-1, 1, (3, 3, 8, 8)).astype(np.float32)


def test_codes_have_the_variance_1_and_come_back():
    model = small()
    plain = model.encode(PICTURES)
    model.autoencoder.scale.data = latent_scale(plain)
    codes = model.encode(PICTURES)
    assert codes.shape == (3, *model.code_shape) == (3, 4, 4, 4)
    assert abs(codes.std() - 1) < 1e-5
    wanted = model.autoencoder.decode(plain)
    np.testing.assert_allclose(model.decode(codes), wanted, atol=1e-5)


def test_the_loss_at_the_start_is_that_of_a_model_that_says_nothing():
    """The UNet's end is 0, so the loss is the mean square of v, 1 for codes of variance 1: here of 300 codes
    of 64 numbers that are N(0, 1), whose mean has the standard deviation sqrt(2/19200) = 0.0102."""
    codes = rng().standard_normal((300, 4, 4, 4), np.float32)
    assert abs(small().loss(codes, ["a"] * 300, rng=1).item() - 1) < 6 * 0.0102


def test_the_loss_is_its_formula_with_a_tenth_of_the_captions_left_out():
    model, codes, n = stirred(), rng().standard_normal((40, 4, 4, 4), np.float32), 40
    captions = ["a red square"] * n
    draws = rng(5)
    texts = [c if draws.random() >= DROPPED else "" for c in captions]
    assert 0 < texts.count("") < n
    t = 1 + draws.integers(50, size=n)
    noise = draws.standard_normal(codes.shape, np.float32)
    context, mask = model.denoiser.text_encoder(texts)
    wanted = loss_at(model.process, lambda x, t: model.denoiser(x, t, context, mask), codes, t, noise)
    np.testing.assert_allclose(model.loss(codes, captions, rng=rng(5)).item(), wanted.item(), rtol=1e-6)


def test_the_loss_trains_the_denoiser_and_leaves_the_autoencoder_alone():
    model = stirred()
    model.loss(model.encode(PICTURES), CAPTIONS, rng=rng()).backward()
    for name, p in model.named_parameters():
        if name.startswith("autoencoder"):
            assert p.grad is None, name
        else:
            assert np.abs(p.grad).max() > 0, name


def test_the_unet_does_not_look_at_padding():
    """To the bit, whatever the context has there; and it does look elsewhere."""
    denoiser, codes, t = stirred().denoiser, rng().standard_normal((3, 4, 4, 4), np.float32), np.arange(3)
    with no_grad():
        context, mask = denoiser.text_encoder(CAPTIONS)
        scribbled = rng(1).standard_normal(context.shape, np.float32)
        other = np.where(mask[..., None], context.data, scribbled)
        seen = denoiser(codes, t, context.data, mask).data
        np.testing.assert_array_equal(denoiser(codes, t, other, mask).data, seen)
        assert np.abs(denoiser(codes, t, scribbled, mask).data - seen).max() > 1e-3


def test_forward_is_the_prediction_for_captions():
    model, codes, t = stirred(), rng().standard_normal((3, 4, 4, 4), np.float32), np.arange(3)
    with no_grad():
        context, mask = model.denoiser.text_encoder(CAPTIONS)
        wanted = model.denoiser(codes, t, context, mask).data
        np.testing.assert_array_equal(model(codes, t, CAPTIONS).data, wanted)


def test_sampling_is_ddim_with_guidance_decoded():
    model = stirred()
    noise = rng(7).standard_normal((3, 4, 4, 4), np.float32)
    with no_grad():
        told, untold = (model.denoiser.text_encoder(texts) for texts in (CAPTIONS, [""] * 3))
    condition, nothing = ((context.data, mask) for context, mask in (told, untold))
    for scale, phi in ((0.0, 0.0), (1.0, 0.0), (2.5, 0.0), (2.5, 0.7)):
        led = classifier_free_guidance(model.denoiser, condition, nothing, scale, phi)
        codes = last_state(ddim(model.process.respace(evenly_spaced(50, 5)), led, noise))
        options = {"guidance": scale, "rescale": phi, "steps": 5}
        drawn = model.sample(CAPTIONS, rng=7, **options)
        assert drawn.shape == PICTURES.shape
        np.testing.assert_allclose(drawn, model.decode(codes), atol=1e-4)
        frames = list(model.sample_steps(CAPTIONS, rng=rng(7), **options))
        assert len(frames) == 6
        np.testing.assert_array_equal(frames[0], noise)
        np.testing.assert_array_equal(model.decode(frames[-1]), drawn)


def test_any_sampler_serves():
    """Those that draw take their generator beforehand; one may be written in a line."""
    model, options = stirred(), {"rng": 7, "guidance": 1.0, "steps": 5}
    with no_grad():
        context, mask = model.denoiser.text_encoder(CAPTIONS)
    process = model.process.respace(evenly_spaced(50, 5))
    noise = rng(7).standard_normal((3, 4, 4, 4), np.float32)
    led = lambda x, t: model.denoiser(x, t, context.data, mask)
    for sampler in (
        partial(ancestral_sampling, rng=3),
        partial(ddim, eta=0.5, rng=3),
        partial(ddim, clip=0.5),
    ):
        wanted = last_state(sampler(process, led, noise))
        got = model.sample(CAPTIONS, sampler=sampler, **options)
        np.testing.assert_allclose(got, model.decode(wanted), atol=1e-5)
    by_hand = lambda process, model, x: (x / t for t in range(1, len(process.schedule) + 1))
    frames = list(model.sample_steps(CAPTIONS, sampler=by_hand, **options))
    np.testing.assert_array_equal(frames[-1], noise / 5)


def test_the_caption_changes_the_picture_unless_guidance_is_0():
    model = stirred()
    for scale, same in ((0.0, True), (1.0, False), (3.0, False)):
        texts = ("a red square", "a blue circle")
        one, other = (model.sample([text], rng=0, guidance=scale, steps=5) for text in texts)
        assert (np.abs(one - other).max() == 0) == same


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 3}, "codes have 3 channels, and the UNet makes 4 of 4"),
        ({"made": 8}, "codes have 4 channels, and the UNet makes 8 of 4"),
        ({"context": 16}, "the UNet looks at a context of 16 channels, and the text encoder makes 8"),
    ],
)
def test_networks_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_words_that_nobody_knows():
    with pytest.raises(ValueError, match="unknown word 'pink' in 'a pink cat': the words are a, red, "):
        small().sample(["a pink cat"], rng=0)
