"""The KL autoencoder: shapes, the divergence in closed form and by draws, reductions, bounds, gradients.
Parity with diffusers is in `test_diffusers.py`."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, no_grad
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL, Halve, latent_scale
from tinygen.optim import Adam


def small(seed=0, **changes):
    sizes = {"channels": 8, "multipliers": (1, 2), "latent": 2, **changes}
    return AutoencoderKL(AutoencoderConfig(**sizes), rng=np.random.default_rng(seed))


def pictures(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def with_moments(mean, logvar, **changes):
    """A model whose posterior has these moments (Z) at every position of every picture."""
    model = small(latent=len(mean), **changes)
    model.to_moments.weight.data = np.zeros_like(model.to_moments.weight.data)
    model.to_moments.bias.data = np.concatenate([mean, logvar]).astype(np.float32)
    return model


# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "size", "code"),
    [
        ({"multipliers": (1, 2, 2), "latent": 4}, (16, 8), (4, 4, 2)),
        ({"multipliers": (2,), "in_channels": 1, "attention": False}, (3, 5), (2, 3, 5)),
        ({"multipliers": (1, 1, 1, 2), "blocks": 2, "latent": 3, "groups": 2}, (8, 8), (3, 1, 1)),
    ],
)
def test_shapes(changes, size, code):
    model = small(**changes)
    c = model.config
    x = pictures(2, c.in_channels, *size)
    posterior = model.posterior(x)
    assert posterior.mean.shape == posterior.logvar.shape == (2, *code)
    z = posterior.sample(rng=np.random.default_rng(0))
    assert z.shape == (2, *code)
    assert z.dtype == np.float32
    assert model.decode(z).shape == x.shape
    assert size == (c.factor * code[1], c.factor * code[2])
    assert model.loss(x, rng=np.random.default_rng(0)).shape == ()


def test_the_shape_of_the_default():
    """f = 4, for 32 × 32 pixels."""
    config = AutoencoderConfig()
    assert (config.factor, config.latent) == (4, 4)
    model = AutoencoderKL(config, rng=0)
    assert [level[0].conv2.weight.shape[0] for level in model.encoder.levels] == [32, 64, 64]
    assert [level[0].conv2.weight.shape[0] for level in model.decoder.levels] == [64, 64, 32]


def test_the_zeros_of_a_halving_stand_below_and_to_the_right():
    """A kernel with a single 1 picks every other pixel: in its first corner from (0, 0), in its last from
    (2, 2), and where that is beyond the picture, zeros."""
    x = pictures(1, 1, 4, 6)
    layer = Halve(1, rng=np.random.default_rng(0))
    layer.conv.bias.data = np.zeros(1, np.float32)
    shifted = np.pad(x[..., 2::2, 2::2], ((0, 0), (0, 0), (0, 1), (0, 1)))
    for i, wanted in [(0, x[..., ::2, ::2]), (2, shifted)]:
        layer.conv.weight.data = np.zeros((1, 1, 3, 3), np.float32)
        layer.conv.weight.data[0, 0, i, i] = 1
        np.testing.assert_array_equal(layer(x).data, wanted)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (2, 3, 9, 8), (2, 1, 8, 8), (3, 8, 8)])
def test_pictures_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"takes pictures \(B, 3, H, W\), H and W multiples of 2, got \("):
        small().posterior(pictures(*shape))


def test_a_reconstruction_without_a_name():
    with pytest.raises(ValueError, match=r"one of .*'l2', 'l1'.*, got 'L2'"):
        small(reconstruction="L2")


# -- the posterior and its divergence --------------------------------------------------------------


def test_moments_come_as_means_then_logarithms():
    mean, logvar = np.array([0.5, -2.0, 0.0], np.float32), np.array([0.25, -1.5, 3.0], np.float32)
    posterior = with_moments(mean, logvar).posterior(pictures(2, 3, 4, 4))
    np.testing.assert_array_equal(posterior.mean.data, np.broadcast_to(mean[:, None, None], (2, 3, 2, 2)))
    np.testing.assert_array_equal(posterior.logvar.data, np.broadcast_to(logvar[:, None, None], (2, 3, 2, 2)))


def test_the_divergence_is_that_of_its_draws():
    """KL = E[ln q(z|x) - ln p(z)]: the mean over 8,000 draws of a picture's code is within 5.5 of its
    standard errors of the closed form: by the normal distribution a false alarm of 4e-8."""
    model = with_moments(np.array([0.7, -0.3]), np.array([-1.2, 0.6])).astype(np.float64)
    x, rng = pictures(40, 3, 4, 4).astype(np.float64), np.random.default_rng(0)
    with no_grad():
        mean, logvar = (t.data for t in model.posterior(x))
        _, _, kl = model.losses(x, rng=rng)
        posterior = model.posterior(x)
        draws = np.stack([posterior.sample(rng=rng).data for _ in range(200)])  # (200, 40, 2, 2, 2)
    log_q = -0.5 * ((draws - mean) ** 2 / np.exp(logvar) + logvar)
    log_p = -0.5 * draws**2
    ratios = (log_q - log_p).sum(axis=(2, 3, 4)).ravel()  # of a picture
    assert kl.item() > 1
    assert abs(ratios.mean() - kl.item()) < 5.5 * ratios.std(ddof=1) / math.sqrt(ratios.size)


def test_the_prior_diverges_from_itself_by_nothing():
    model = with_moments(np.zeros(2), np.zeros(2))
    assert model.losses(pictures(2, 3, 4, 4), rng=np.random.default_rng(0)).kl.item() == 0


def test_the_logarithm_of_the_variance_stays_within_bounds():
    model = with_moments(np.zeros(3), np.array([100.0, -100.0, 5.0]))
    x = pictures(2, 3, 4, 4)
    posterior = model.posterior(x)
    np.testing.assert_array_equal(posterior.logvar.data[:, :, 0, 0], [[20, -30, 5]] * 2)
    loss = model.loss(x, rng=np.random.default_rng(0))
    loss.backward()
    assert np.isfinite(loss.item())
    assert (model.to_moments.bias.grad[3:5] == 0).all()  # beyond the bounds nothing pulls
    assert model.to_moments.bias.grad[5] != 0


# -- the loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "error"), [("l2", np.square), ("l1", np.abs)])
def test_both_terms_are_summed_over_a_picture_and_averaged_over_the_batch(name, error):
    """Of a decoder that draws black, and of known moments: all in closed form."""
    mean, logvar = np.array([0.5, -2.0]), np.array([0.7, -1.5])
    model = with_moments(mean, logvar, reconstruction=name, kl_weight=0.25)
    for p in model.decoder.out.parameters():
        p.data = np.zeros_like(p.data)
    x = pictures(5, 3, 4, 6)
    kl = 2 * 3 * 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum()  # 2 × 3 positions
    expected = error(x).sum(axis=(1, 2, 3)).mean() + 0.25 * kl
    assert model.loss(x, rng=np.random.default_rng(0)).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_that_of_the_draw():
    """By its parts: the posterior, a draw, the decoder."""
    model, x = small(kl_weight=0.5), pictures(2, 3, 4, 4)
    posterior = model.posterior(x)
    z = posterior.sample(rng=np.random.default_rng(3))
    mean, logvar = posterior.mean.data, posterior.logvar.data
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum()
    expected = (((model.decode(z.data) - x) ** 2).sum() + 0.5 * kl) / 2
    assert model.loss(x, rng=np.random.default_rng(3)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reconstruction", ["l2", pytest.param("l1", marks=pytest.mark.slow)])
def test_gradcheck_by_the_pictures(reconstruction):
    model = small(channels=4, kl_weight=0.1, reconstruction=reconstruction)
    rng = np.random.default_rng(0)
    gradcheck(lambda x: model.loss(x, rng=rng), pictures(2, 3, 4, 4)).raise_if_failed()


@pytest.mark.slow
def test_gradcheck_by_the_weights():
    """Half a minute; `test_diffusers.py` has the gradients of all weights beside torch's."""
    model = small(channels=4, kl_weight=0.1)
    gradcheck(model.loss, pictures(1, 3, 2, 2), kwargs={"rng": np.random.default_rng(0)}).raise_if_failed()


def test_it_learns_two_pictures():
    """To a twentieth of what it costs to draw their mean."""
    x, rng = pictures(2, 1, 4, 4), np.random.default_rng(1)
    model = small(in_channels=1, latent=4)
    optimizer = Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(x, rng=rng).backward()
        optimizer.step()
    _, error, kl = (t.item() for t in model.losses(x, rng=rng))
    assert 2 * error < 0.05 * ((x - x.mean(axis=0)) ** 2).sum()
    assert 2 * kl > math.log(2)  # it must say which of the two it is


# -- the scale -------------------------------------------------------------------------------------


def test_scaled_codes_have_standard_deviation_1():
    z = np.random.default_rng(0).normal(3, 5, (8, 4, 6, 6)).astype(np.float32)
    scale = latent_scale(z)
    assert scale.shape == ()
    assert scale.dtype == np.float32
    assert np.std(z * scale) == pytest.approx(1, rel=1e-5)
    assert latent_scale(np.array([0.0, 8.0])) == 0.25  # a standard deviation of 4
    assert latent_scale(Tensor(z)) == scale


@pytest.mark.parametrize("z", [np.ones(3), np.array([1.0, np.nan])])
def test_codes_without_a_scale(z):
    with pytest.raises(ValueError, match="cannot be scaled to 1"):
        latent_scale(z)


def test_the_scale_is_saved_with_the_weights():
    model, other = small(), small(seed=1)
    model.scale.data = latent_scale(np.array([0.0, 8.0]))
    other.load_state_dict(model.state_dict())
    assert other.scale.item() == 0.25
    assert all(p is not other.scale for p in other.parameters())
    z = pictures(1, 2, 2, 2)
    np.testing.assert_array_equal((z * other.scale).data, z / 4)


def test_it_starts_simply():
    """The output of the encoder's last convolution is the code, and the decoder's input. The standard
    deviation of the codes is exp(-3) times the one that the convolution gives. Residual blocks are equal to
    their skip connections."""
    model, x = small(), pictures(2, 3, 4, 4)
    mean, logvar = np.split(model.encoder(x).data, 2, axis=1)
    q = model.posterior(x)
    np.testing.assert_array_equal(q.mean.data, mean)
    np.testing.assert_array_equal(q.logvar.data, logvar - 6)
    np.testing.assert_array_equal(model.decode(mean), model.decoder(mean).data)
    ends = [p for name, p in model.named_parameters() if "conv2" in name]
    assert ends
    assert not any(p.data.any() for p in ends)
