"""Stable Diffusion: what guidance, a picture and a hole do, exactly; what is refused. Parity with diffusers
is in tests/models/huggingface/test_stable_diffusion.py."""

import warnings

import numpy as np
import pytest
from sd_folders import write_folder

from tinygen import Tensor
from tinygen.models.huggingface.stable_diffusion import from_pretrained
from tinygen.models.text_to_image.stable_diffusion import StableDiffusion

PROMPTS = ["a red cat", "the cat"]
PICTURES = np.tanh(np.random.default_rng(1).standard_normal((2, 3, 32, 16), dtype=np.float32))
HOLE = np.zeros((32, 16), bool)
HOLE[8:20, 5:] = True


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    write_folder(folder)
    return from_pretrained(folder)


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd")
    write_folder(folder, channels=9)
    return from_pretrained(folder)


def codes_of(model, **given):
    *_, codes = model.sample_steps(PROMPTS, **{"rng": 0, "steps": 3, **given})
    return codes


def test_a_picture_is_the_decoded_code(model):
    """Of the folder's size, where nothing else is said; the same seed makes the same picture."""
    painted = model.sample(PROMPTS, rng=0, steps=3)
    assert painted.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(painted, model.decode(codes_of(model)))
    assert not np.array_equal(painted, model.sample(PROMPTS, rng=1, steps=3))
    assert model.sample(PROMPTS, rng=0, steps=2, size=(16, 40)).shape == (2, 3, 16, 40)


def test_the_noise_of_a_row_is_its_own(model):
    """A batch of prompts makes the pictures that each would have from its own noise."""
    noise = np.random.default_rng(0).standard_normal((2, 4, 4, 4), np.float32)

    class Noise(np.random.Generator):
        def standard_normal(self, shape, dtype):
            return noise[1:]

    both, second = codes_of(model), model.sample_steps(PROMPTS[1:], rng=Noise(np.random.PCG64(0)), steps=3)
    *_, alone = second
    np.testing.assert_allclose(alone, both[1:], rtol=1e-4, atol=1e-5)


def test_guidance(model):
    """At 1 the negative prompt has no part; a prompt that is its own negative is not guided; else it is."""
    np.testing.assert_array_equal(codes_of(model, guidance=1), codes_of(model, guidance=1, negative="red"))
    same = codes_of(model, negative=PROMPTS, guidance=5)
    np.testing.assert_allclose(same, codes_of(model, guidance=1), rtol=1e-3, atol=1e-4)
    assert np.abs(codes_of(model, guidance=5) - same).max() > 1e-3


def test_the_prediction_is_the_unets_for_the_context_of_the_prompt(model):
    x, t = np.random.default_rng(2).standard_normal((2, 4, 4, 4)).astype(np.float32), np.array([7, 900])
    context = model.encode_text(PROMPTS)
    assert context.shape == (2, 77, 8)
    ids = model.tokenizer.prompt_ids(PROMPTS)
    np.testing.assert_array_equal(context.data, model.text_encoder.states(ids).data)
    np.testing.assert_array_equal(model(x, t, context).data, model.unet(x, t, context=context).data)


def test_little_strength_keeps_more_of_a_picture(model):
    """The fewer steps are made, the less the code changes; no step is refused."""
    kept = model.encode(PICTURES)
    changes = [
        np.abs(codes_of(model, picture=PICTURES, strength=s, steps=10) - kept).mean() for s in (0.1, 0.4, 0.9)
    ]
    assert changes[0] < changes[1] < changes[2]
    with pytest.raises(ValueError, match="is no step"):
        codes_of(model, picture=PICTURES, strength=0.2)


def test_the_code_outside_of_the_hole_is_the_pictures(model):
    """Exactly, for a UNet of 4 channels: a position of the code is in the hole if its first pixel is."""
    codes = codes_of(model, picture=PICTURES, hole=HOLE)
    drawn = model.draw_codes(PICTURES, rng=np.random.default_rng(0))
    inside = np.broadcast_to(HOLE[::8, ::8], codes.shape)
    assert 0 < inside.mean() < 1
    np.testing.assert_array_equal(codes[~inside], drawn[~inside])
    assert np.abs(codes - drawn)[inside].min() > 1e-5
    whole = codes_of(model, picture=PICTURES, hole=np.ones((2, 1, 32, 16), bool), rng=3)
    assert np.abs(whole - codes).min() > 0


def test_a_unet_that_inpaints_sees_the_hole_and_the_rest(inpainter, monkeypatch):
    """Beside the noisy code: 1 in the hole, and a code of the picture with zeros in the hole. With strength 1
    nothing else of the picture has an effect."""
    seen = []
    forward = inpainter.unet.forward
    monkeypatch.setattr(
        inpainter.unet, "forward", lambda x, t, **given: (seen.append(x), forward(x, t, **given))[1]
    )
    codes = codes_of(inpainter, picture=PICTURES, hole=HOLE)
    x = seen[0].data if isinstance(seen[0], Tensor) else seen[0]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 4, 4, 2), np.float32)
    rest = inpainter.draw_codes(np.where(HOLE, 0, PICTURES), rng=rng)
    beside = np.concatenate([np.broadcast_to(HOLE[::8, ::8], (2, 1, 4, 2)), rest], axis=1)
    np.testing.assert_array_equal(x, np.tile(np.concatenate([noise, beside], axis=1), (2, 1, 1, 1)))
    other = np.where(HOLE, -PICTURES, PICTURES)
    np.testing.assert_array_equal(codes, codes_of(inpainter, picture=other, hole=HOLE))
    assert not np.array_equal(codes, codes_of(inpainter, picture=other, hole=HOLE, strength=0.7))


def test_a_long_prompt_is_cut_with_a_warning(model):
    with pytest.warns(
        UserWarning, match=r"has 84 tokens, and 75 fit.*Cut off: 'the the the the the the the red cat'"
    ):
        long = model.encode_text(["the " * 82 + "red cat"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(long.data, model.encode_text(["the " * 75]).data)


REFUSED = [
    ({"size": (32, 44)}, r"pictures of 32 × 44: both sides must be multiples of 8"),
    ({"size": (0, 32)}, r"pictures of 0 × 32"),
    ({"negative": ["a"]}, "1 negative prompts for 2 prompts"),
    ({"picture": PICTURES[:1]}, r"picture has shape \(1, 3, 32, 16\): \(2, 3, H, W\) is needed"),
    ({"picture": PICTURES, "size": (32, 32)}, r"the picture has the size \(32, 16\), and size is \(32, 32\)"),
    ({"picture": PICTURES[..., :12]}, "pictures of 32 × 12: both sides must be multiples of 8"),
    ({"hole": HOLE}, "a hole without a picture"),
    (
        {"picture": PICTURES, "hole": HOLE[1:]},
        r"the hole has the size \(31, 16\), and the picture \(32, 16\)",
    ),
    ({"strength": 0.5}, "pass data"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_refused(model, given, message):
    with pytest.raises(ValueError, match=message):
        codes_of(model, **given)


def test_a_unet_that_inpaints_needs_a_hole(inpainter):
    with pytest.raises(ValueError, match="trained for inpainting: pass picture and hole"):
        codes_of(inpainter)


def test_parts_that_do_not_fit(model, inpainter):
    m = model
    parts = {
        "tokenizer": m.tokenizer,
        "text_encoder": m.text_encoder,
        "unet": m.unet,
        "autoencoder": m.autoencoder,
        "scheduler": m.scheduler,
        "side": 32,
    }
    from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
    from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig

    others = [
        (
            "text_encoder",
            TextTower(520, 77, 519, TowerConfig(1, 2, 4), None, rng=0),
            "a context of 8 channels",
        ),
        ("text_encoder", TextTower(519, 77, 518, TowerConfig(1, 2, 8), None, rng=0), "77 tokens of 520"),
        ("text_encoder", TextTower(520, 76, 519, TowerConfig(1, 2, 8), None, rng=0), "takes 76 of 520"),
        (
            "autoencoder",
            AutoencoderKL(AutoencoderConfig(latent=3, channels=8), rng=0),
            "codes have 3 channels",
        ),
    ]
    for name, part, message in others:
        with pytest.raises(ValueError, match=message):
            StableDiffusion(**parts | {name: part})
    assert StableDiffusion(**parts).inpaints is False
    assert inpainter.inpaints is True
