"""A ControlNet on a latent diffusion: the base is frozen, strength 0 is the base, half of the captions are
left out in training, and each picture follows its own hint."""

import numpy as np

from tinygen.diffusion import Process, cosine_schedule, loss_at
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.controlnet import ControlNet
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.controlled_diffusion import ControlledDiffusion
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig

CAPTIONS = ["red square", "red"]


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=1):
    return rng(seed).standard_normal(shape, np.float32)


def make(randomized=True):
    """A model whose parameters are all drawn anew, so that no layer says 0."""
    denoiser = TextDenoiser(
        UNet(UNetConfig(2, 2, 4, (1, 2), 1, context=4), rng=rng()),
        TextEncoder(TextEncoderConfig(("red", "square"), 2, heads=2, channels=4), rng=rng()),
    )
    coder = AutoencoderKL(AutoencoderConfig(1, 2, 4, (1, 2)), rng=rng())
    base = LatentDiffusion(coder, denoiser, Process(cosine_schedule(30), "v"), 8)
    for i, p in enumerate(base.parameters()):
        p.data = 0.3 * normal(*p.shape, seed=100 + i)
    model = ControlledDiffusion(base, ControlNet.copy_of(denoiser.unet, 1, (2, 3), rng=rng()))
    for i, p in enumerate(model.controlnet.parameters() if randomized else ()):
        p.data = 0.3 * normal(*p.shape, seed=200 + i)
    return model


HINTS, CODES = normal(2, 1, 8, 8), normal(2, 2, 4, 4)


def test_without_strength_and_at_the_start_it_draws_what_the_base_draws():
    model = make()
    alone = model.base.sample(CAPTIONS, rng=5, steps=3)
    np.testing.assert_array_equal(model.sample(CAPTIONS, HINTS, rng=5, steps=3, strength=0.0), alone)
    assert np.abs(model.sample(CAPTIONS, HINTS, rng=5, steps=3) - alone).max() > 1e-3
    np.testing.assert_array_equal(make(False).sample(CAPTIONS, HINTS, rng=5, steps=3), alone)


def test_each_picture_follows_its_own_hint():
    """Also where guidance makes a batch of twice the size."""
    model, other = make(), HINTS.copy()
    other[1] += 1
    one, two = (model.sample(CAPTIONS, hints, rng=5, steps=2, guidance=3.0) for hints in (HINTS, other))
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
    assert np.abs(one[1] - two[1]).max() > 1e-3


def test_the_loss_is_the_diffusion_s_with_half_of_the_captions():
    """The draws in their order: which captions are left out, the steps, the noise."""
    model, draws = make(), rng(3)
    captions, hints, codes = CAPTIONS * 8, normal(16, 1, 8, 8), normal(16, 2, 4, 4, seed=6)
    texts = ["" if u < 0.5 else caption for u, caption in zip(draws.random(16), captions, strict=True)]
    assert 0 < texts.count("") < 16
    t = 1 + draws.integers(30, size=16)
    noise = draws.standard_normal(codes.shape, np.float32)
    predict = lambda x, steps: model(x, steps, texts, hints)
    wanted = loss_at(model.base.process, predict, codes, t, noise)
    assert model.loss(codes, captions, hints, rng=rng(3)).item() == wanted.item()


def test_only_the_controlnet_learns():
    model = make()
    model.loss(CODES, CAPTIONS, HINTS, rng=0).backward()
    assert all(p.grad is None and not p.requires_grad for p in model.base.parameters())
    assert all(p.grad is not None for p in model.controlnet.parameters())
