"""VAE: closed forms, the bound itself by quadrature, parity with torch from the same weights and noise."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck
from tinygen.models.vae import VAE, reparameterize
from tinygen.optim import Adam


def small(seed=0, data=6, hidden=5, latent=3):
    return VAE(data, hidden, latent, rng=np.random.default_rng(seed))


def pictures(n=4, data=6, seed=1):
    return np.random.default_rng(seed).random((n, data), dtype=np.float32)


def clear(module):
    for p in module.parameters():
        p.data = np.zeros_like(p.data)


# -- closed forms ----------------------------------------------------------------------------------


def test_weights_of_the_usual_sizes():
    model = VAE(rng=np.random.default_rng(0))
    linear = lambda into, out: into * out + out
    assert model.num_parameters() == 2 * linear(400, 20) + linear(784, 400) + linear(20, 400) + linear(
        400, 784
    )


def test_a_model_that_knows_nothing_pays_ln_2_a_pixel():
    model = small()
    clear(model)
    reconstruction, kl = model.terms(pictures(), np.random.default_rng(0))
    assert kl.item() == 0  # q is the prior
    assert reconstruction.item() == pytest.approx(4 * 6 * math.log(2), rel=1e-6)
    assert model(pictures(), np.random.default_rng(0)).item() == pytest.approx(6 * math.log(2), rel=1e-6)


def test_constant_encoder_and_decoder():
    """Where nothing depends on x or z, KL and cross-entropy are those of the biases."""
    model, x, rng = small(), pictures(), np.random.default_rng(3)
    clear(model)
    mean, logvar, logits = (rng.standard_normal(n).astype(np.float32) for n in (3, 3, 6))
    model.encoder.mean.bias.data, model.encoder.logvar.bias.data = mean, logvar
    model.decoder.out.bias.data = logits
    p = 1 / (1 + np.exp(-logits.astype(float)))
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum()
    assert model(x, rng).item() == pytest.approx(cross_entropy + kl, rel=1e-5)


def test_a_code_that_is_copied():
    """Identities in place of the layers: mean = x, a variance next to none, logits = x."""
    model, x = small(data=3, hidden=3), pictures(data=3)
    clear(model)
    for layer in (model.encoder.fc, model.encoder.mean, model.decoder.fc, model.decoder.out):
        layer.weight.data = np.eye(3, dtype=np.float32)
    model.encoder.logvar.bias.data = np.full(3, -30.0, np.float32)
    reconstruction, kl = model.terms(x, np.random.default_rng(0))
    assert reconstruction.item() == pytest.approx((np.log1p(np.exp(x)) - x * x).sum(), rel=1e-5)
    assert kl.item() == pytest.approx(0.5 * (np.square(x) + math.exp(-30) - 1 + 30).sum(), rel=1e-6)


# -- the draw --------------------------------------------------------------------------------------


def test_moments_of_the_draw():
    """Mean and variance of 200,000 draws, each within 5 of its standard deviations: by the normal
    distribution, false alarms of 6e-7 for each of the four."""
    n, mean, logvar = 200_000, np.array([0.5, -2.0]), np.array([0.7, -1.5])
    z = reparameterize(
        Tensor(np.tile(mean, (n, 1))), Tensor(np.tile(logvar, (n, 1))), np.random.default_rng(0)
    )
    variance = np.exp(logvar)
    assert np.all(np.abs(z.data.mean(axis=0) - mean) < 5 * np.sqrt(variance / n))
    assert np.all(np.abs(z.data.var(axis=0) - variance) < 5 * variance * math.sqrt(2 / n))


def test_the_draw_is_differentiable():
    mean, logvar = (Tensor(a, requires_grad=True) for a in np.random.default_rng(0).normal(size=(2, 4, 3)))
    z = reparameterize(mean, logvar, np.random.default_rng(5))
    assert z.dtype == np.float64
    z.sum().backward()
    noise = np.random.default_rng(5).standard_normal((4, 3), dtype=np.float32)
    np.testing.assert_array_equal(mean.grad, 1.0)
    np.testing.assert_allclose(logvar.grad, 0.5 * np.exp(0.5 * logvar.data) * noise, rtol=1e-12)


# -- the bound -------------------------------------------------------------------------------------


def test_the_bound_is_ln_p_less_the_encoder_s_divergence():
    """For one latent number, ln p(x) and KL(q(z|x) ‖ p(z|x)) by quadrature over z in [-12, 12]; the mean of
    the loss over 20,000 draws within 5 of its standard errors: a false alarm of 6e-7."""
    model = small(seed=2, latent=1).astype(np.float64)
    x = pictures(1).astype(np.float64)
    z, dz = np.linspace(-12, 12, 4001, retstep=True)
    logits = model.decoder(z[:, None]).data
    log_joint = (x * logits - np.log1p(np.exp(logits))).sum(axis=1) - 0.5 * (z**2 + math.log(2 * math.pi))
    log_p = math.log(np.exp(log_joint).sum() * dz)
    mean, logvar = (t.item() for t in model.encoder(x))
    log_q = -0.5 * ((z - mean) ** 2 / math.exp(logvar) + logvar + math.log(2 * math.pi))
    divergence = (np.exp(log_q) * (log_q - (log_joint - log_p))).sum() * dz
    assert divergence > 0.01
    rng = np.random.default_rng(0)
    draws = 20_000
    losses = np.array([model(np.repeat(x, 100, axis=0), rng).item() for _ in range(draws // 100)])
    assert abs(losses.mean() - (divergence - log_p)) < 5 * losses.std(ddof=1) / math.sqrt(len(losses))


def test_gradcheck_of_the_loss():
    """By the pictures and by every weight; the generator is rewound before each run."""
    gradcheck(small(), pictures(), np.random.default_rng(0)).raise_if_failed()


def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model, x = VAE(12, 7, 3, rng=np.random.default_rng(0)), pictures(5, 12)
    w = {name: torch.tensor(p.data, requires_grad=True) for name, p in model.named_parameters()}
    linear = lambda name, x: F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
    noise = torch.tensor(np.random.default_rng(5).standard_normal((5, 3), dtype=np.float32))
    target = torch.tensor(x)
    h = F.relu(linear("encoder.fc", target))
    q = torch.distributions.Normal(linear("encoder.mean", h), (0.5 * linear("encoder.logvar", h)).exp())
    logits = linear("decoder.out", F.relu(linear("decoder.fc", q.mean + q.stddev * noise)))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum()
    expected = (F.binary_cross_entropy_with_logits(logits, target, reduction="sum") + kl) / 5
    expected.backward()
    loss = model(x, np.random.default_rng(5))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, w[name].grad.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


# -- use -------------------------------------------------------------------------------------------


def test_samples():
    model = small()
    x = model.sample(50, np.random.default_rng(0))
    assert x.shape == (50, 6)
    assert x.dtype == np.float32
    assert ((x > 0) & (x < 1)).all()
    np.testing.assert_array_equal(x, model.sample(50, np.random.default_rng(0)))
    assert (x != model.sample(50, np.random.default_rng(1))).any()
    z = np.random.default_rng(0).standard_normal((50, 3), dtype=np.float32)
    np.testing.assert_allclose(x, 1 / (1 + np.exp(-model.decoder(z).data)), rtol=1e-6)
    assert model.sample(0, np.random.default_rng(0)).shape == (0, 6)


def test_pictures_of_another_size():
    with pytest.raises(ValueError, match="7"):
        small()(pictures(data=7), np.random.default_rng(0))


def test_it_learns_four_pictures():
    """Of 16 balanced pixels: each by itself costs ln 2, 11.1 nats in all; knowing which one it is, ln 4."""
    patterns = np.array([[(i >> b) & 1 for i in range(16)] for b in range(2)], np.float32)
    patterns = np.concatenate([patterns, 1 - patterns])
    model, rng = VAE(16, 24, 2, rng=np.random.default_rng(0)), np.random.default_rng(1)
    optimizer = Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        model(patterns[rng.integers(4, size=32)], rng).backward()
        optimizer.step()
    loss = model(np.repeat(patterns, 100, axis=0), rng).item()
    assert math.log(4) < loss < 16 * math.log(2) / 3
