"""VAE: closed forms, the bound itself by quadrature, a linear VAE's by PPCA, parity with torch from the same
weights and noise."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn, ops
from tinygen.models.pictures.vae import VAE, ConvVAE, Posterior, reparameterize
from tinygen.ops.loss import log_normal
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
    _, reconstruction, kl = model.losses(pictures(), rng=np.random.default_rng(0))
    assert kl.item() == 0  # q is the prior
    assert reconstruction.item() == pytest.approx(6 * math.log(2), rel=1e-6)
    assert model.loss(pictures(), rng=np.random.default_rng(0)).item() == pytest.approx(
        6 * math.log(2), rel=1e-6
    )


def test_constant_encoder_and_decoder():
    """If nothing depends on x or z, KL and cross-entropy follow from the biases alone."""
    model, x, rng = small(), pictures(), np.random.default_rng(3)
    clear(model)
    mean, logvar, logits = (rng.standard_normal(n).astype(np.float32) for n in (3, 3, 6))
    model.encoder.mean.bias.data, model.encoder.logvar.bias.data = mean, logvar
    model.decoder.out.bias.data = logits
    p = 1 / (1 + np.exp(-logits.astype(float)))
    cross_entropy = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum()
    assert model.loss(x, rng=rng).item() == pytest.approx(cross_entropy + kl, rel=1e-5)


def test_a_code_that_is_copied():
    """Identities in place of the layers: mean = x, a variance next to none, logits = x."""
    model, x = small(data=3, hidden=3), pictures(data=3)
    clear(model)
    for layer in (model.encoder.fc, model.encoder.mean, model.decoder.fc, model.decoder.out):
        layer.weight.data = np.eye(3, dtype=np.float32)
    model.encoder.logvar.bias.data = np.full(3, -30.0, np.float32)
    _, reconstruction, kl = model.losses(x, rng=np.random.default_rng(0))
    assert reconstruction.item() == pytest.approx((np.log1p(np.exp(x)) - x * x).sum() / 4, rel=1e-5)
    assert kl.item() == pytest.approx(0.5 * (np.square(x) + math.exp(-30) - 1 + 30).sum() / 4, rel=1e-6)


# -- the draw --------------------------------------------------------------------------------------


def test_moments_of_the_draw():
    """Mean and variance of 200,000 draws, each within 5 of its standard deviations: by the normal
    distribution, false alarms of 6e-7 for each of the four."""
    n, mean, logvar = 200_000, np.array([0.5, -2.0]), np.array([0.7, -1.5])
    z = reparameterize(
        Tensor(np.tile(mean, (n, 1))), Tensor(np.tile(logvar, (n, 1))), rng=np.random.default_rng(0)
    )
    variance = np.exp(logvar)
    assert np.all(np.abs(z.data.mean(axis=0) - mean) < 5 * np.sqrt(variance / n))
    assert np.all(np.abs(z.data.var(axis=0) - variance) < 5 * variance * math.sqrt(2 / n))


def test_the_draw_is_differentiable():
    mean, logvar = (Tensor(a, requires_grad=True) for a in np.random.default_rng(0).normal(size=(2, 4, 3)))
    z = reparameterize(mean, logvar, rng=np.random.default_rng(5))
    assert z.dtype == np.float64
    z.sum().backward()
    noise = np.random.default_rng(5).standard_normal((4, 3), dtype=np.float32)
    np.testing.assert_array_equal(mean.grad, 1.0)
    np.testing.assert_allclose(logvar.grad, 0.5 * np.exp(0.5 * logvar.data) * noise, rtol=1e-12)


def test_the_divergence_is_its_expectation():
    """ln q(z) - ln p(z), the mean of 100,000 draws within 5.4 standard errors: a false alarm of 7e-8."""
    q = Posterior(Tensor(np.array([[0.5, -2.0, 0.0]])), Tensor(np.array([[0.7, -1.5, 0.0]])))
    z = Posterior(*(Tensor(np.repeat(t.data, 100_000, axis=0)) for t in q)).sample(
        rng=np.random.default_rng(0)
    )
    ratios = (log_normal(z, *q) - log_normal(z, 0.0, 0.0)).data.sum(axis=1)
    closed = ops.kl_gaussian(q.mean, q.logvar, "sum").item()
    assert closed > 1
    assert abs(ratios.mean() - closed) < 5.4 * ratios.std(ddof=1) / math.sqrt(len(ratios))


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
    losses = np.array([model.loss(np.repeat(x, 100, axis=0), rng=rng).item() for _ in range(draws // 100)])
    assert abs(losses.mean() - (divergence - log_p)) < 5 * losses.std(ddof=1) / math.sqrt(len(losses))


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
    loss = model.loss(x, rng=np.random.default_rng(5))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, w[name].grad.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_more_draws_come_closer_to_ln_p():
    """One latent number, ln p(x) by quadrature over z in [-12, 12]. The mean bound of 20,000 draws by
    one, by four and by 500: the first is the loss, the last is ln p(x) (within 5.4 standard errors and, by
    500, a bias of 0.001), and each is above the one before (by more than 5.4): false alarms of 7e-8."""
    model = small(seed=2, latent=1).astype(np.float64)
    x = pictures(1).astype(np.float64)
    z, dz = np.linspace(-12, 12, 4001, retstep=True)
    logits = model.decoder(z[:, None]).data
    log_joint = (x * logits - np.log1p(np.exp(logits))).sum(axis=1) + log_normal(z, 0.0, 0.0)
    log_p = math.log(np.exp(log_joint).sum() * dz)
    rng = np.random.default_rng(0)
    one, four, many = (model.log_p(np.repeat(x, 20_000 // k, axis=0), k, rng=rng) for k in (1, 4, 500))
    assert one.shape == (20_000,)
    error = lambda bounds: 5.4 * bounds.std(ddof=1) / math.sqrt(len(bounds))
    _, reconstruction, kl = model.losses(np.repeat(x, 20_000, axis=0), rng=rng)
    assert abs(one.mean() + (reconstruction + kl).item()) < 2 * error(one)
    assert four.mean() - one.mean() > error(one) + error(four)
    assert abs(many.mean() - log_p) < error(many) + 0.001


def test_log_p_is_the_logarithm_of_the_mean_weight_of_each_picture():
    """The weights of five draws, with the same noise."""
    model, x, rng = VAE(6, 5, 3, rng=0).astype(np.float64), pictures(4, 6), np.random.default_rng(1)
    q, weights = model.encoder(x), []
    for _ in range(5):
        z = q.mean.data + np.exp(0.5 * q.logvar.data) * rng.standard_normal((4, 3), np.float32)
        logits = model.decoder(z).data
        log_px = np.sum(x * logits - np.log1p(np.exp(logits)), axis=1)
        ratio = log_normal(z, 0.0, 0.0) - log_normal(z, q.mean.data, q.logvar.data)
        weights.append(np.exp(log_px + np.sum(ratio, axis=1)))
    np.testing.assert_allclose(model.log_p(x, 5, rng=1), np.log(np.mean(weights, axis=0)), rtol=1e-6)


def test_the_bound_of_a_picture_beside_a_far_more_probable_one():
    """The logarithm of the sum is taken of each picture for itself: exp(-800) beside 1 would be 0."""
    model = VAE(400, 3, 2, pixels="gaussian", rng=0).astype(np.float64)
    x = np.stack([model.decode(np.zeros((1, 2)))[0], np.full(400, 5.0)])
    both = model.log_p(x, 3, rng=0)
    assert both[0] - both[1] > 1000
    assert np.isfinite(both).all()


def test_beta_weighs_the_divergence():
    x = pictures()
    _, reconstruction, kl = small().losses(x, rng=np.random.default_rng(0))
    for beta in (0.0, 0.01, 1.0, 4.0):
        model = VAE(6, 5, 3, beta=beta, rng=np.random.default_rng(0))
        expected = reconstruction.item() + beta * kl.item()
        assert model.loss(x, rng=np.random.default_rng(0)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("pixels", ["bernoulli", "gaussian"])
def test_gradcheck_of_the_loss(pixels):
    """By the pictures and by every weight; the generator is rewound before each run."""
    model = VAE(6, 5, 3, beta=0.7, pixels=pixels, rng=np.random.default_rng(0))
    gradcheck(model.loss, pictures(), kwargs={"rng": np.random.default_rng(0)}).raise_if_failed()


def test_pixels_that_are_neither():
    with pytest.raises(ValueError, match="pixels must be one of bernoulli, gaussian, got 'poisson'"):
        VAE(6, 5, 3, pixels="poisson", rng=np.random.default_rng(0))


# -- Gaussian pixels, and a linear VAE, which is PPCA ----------------------------------------------


def test_gaussian_pixels_by_hand():
    model, x = VAE(6, 5, 3, pixels="gaussian", rng=np.random.default_rng(0)), pictures()
    clear(model)
    model.decoder.out.bias.data = np.full(6, 0.25, np.float32)
    model.pixels.logvar.data = np.float32(math.log(0.5))
    _, reconstruction, kl = model.losses(x, rng=np.random.default_rng(0))
    expected = (np.square(x - 0.25) / (2 * 0.5) + 0.5 * math.log(2 * math.pi * 0.5)).sum()
    assert kl.item() == 0
    assert reconstruction.item() == pytest.approx(expected / 4, rel=1e-6)
    np.testing.assert_array_equal(model.sample(2, rng=np.random.default_rng(0)), np.full((2, 6), 0.25))


class LinearEncoder(nn.Module):
    """q(z|x) with a mean that is linear in x, and one variance for all x."""

    def __init__(self, data, latent, rng):
        self.mean = nn.Linear(data, latent, rng=rng)
        self.logvar = nn.Parameter(np.zeros(latent))

    def forward(self, x):
        return Posterior(self.mean(x), self.logvar + np.zeros((len(x), 1)))


def linear_vae(data, latent):
    rng = np.random.default_rng(5)
    model = VAE(data, 1, latent, pixels="gaussian", rng=rng)
    model.encoder, model.decoder = LinearEncoder(data, latent, rng), nn.Linear(latent, data, rng=rng)
    return model.astype(np.float64)


class SigmaPoints(np.random.Generator):
    """Noise ±√Z along each axis in turn, over 2Z rows. Its mean is 0 and its
    covariance 1, so that for each picture 2Z times the mean of what is quadratic in the noise is exact."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def standard_normal(self, shape, dtype):
        rows, latent = shape
        points = math.sqrt(latent) * np.concatenate([np.eye(latent), -np.eye(latent)])
        return np.tile(points, (rows // (2 * latent), 1)).astype(dtype)


def ppca(x, latent):
    """The maximum of the likelihood (Tipping & Bishop 1999) for pictures x (N, D): the mean, the loadings
    W (D, Z), the variance of the noise; and the mean of ln p(x) there."""
    mean, covariance = x.mean(axis=0), np.cov(x.T, ddof=0)
    values, vectors = (a[..., ::-1] for a in np.linalg.eigh(covariance))
    variance = values[latent:].mean()
    loadings = vectors[:, :latent] * np.sqrt(values[:latent] - variance)
    model = loadings @ loadings.T + variance * np.eye(len(mean))
    _, logdet = np.linalg.slogdet(2 * math.pi * model)
    return mean, loadings, variance, -0.5 * (logdet + np.trace(np.linalg.solve(model, covariance)))


def correlated(n, data, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, data)) @ rng.standard_normal((data, data)) + rng.standard_normal(data)


def test_a_linear_vae_at_ppca_s_optimum():
    """Lucas et al. 2019 (arXiv:1911.02469): with PPCA's decoder, and its posterior N(M⁻¹Wᵀ(x - μ), σ²M⁻¹),
    M = WᵀW + σ², as encoder (M is diagonal, if W's columns are orthogonal), the bound is ln p(x) itself, and
    no weight wants to move. With Z = 4 the noise ±2 is exact in float32."""
    x = correlated(30, 9)
    mean, w, variance, log_p = ppca(x, 4)
    m = w.T @ w + variance * np.eye(4)
    model = linear_vae(9, 4)
    model.decoder.weight.data, model.decoder.bias.data = w, mean
    model.encoder.mean.weight.data = np.linalg.solve(m, w.T)
    model.encoder.mean.bias.data = -np.linalg.solve(m, w.T @ mean)
    model.encoder.logvar.data = np.log(variance / np.diag(m))
    model.pixels.logvar.data = np.array(math.log(variance))
    loss = model.loss(np.repeat(x, 8, axis=0), rng=SigmaPoints())
    assert loss.item() == pytest.approx(-log_p, rel=1e-12)
    loss.backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad, 0, atol=1e-10, err_msg=name)
    # With the true posterior every weight p(x|z) p(z) / q(z|x) is p(x): any draw will do.
    found = model.log_p(x, 1, rng=np.random.default_rng(0))
    assert found.mean() == pytest.approx(log_p, rel=1e-12)


def test_a_linear_vae_learns_ppca():
    """Its bound comes up to PPCA's likelihood, never above, and its decoder to the principal subspace."""
    rng = np.random.default_rng(0)
    axes, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    x = rng.standard_normal((40, 6)) * [3.0, 1.5, 0.5, 0.5, 0.5, 0.5] @ axes + 1
    _, w, variance, log_p = ppca(x, 2)
    model = linear_vae(6, 2)
    optimizer, rows = Adam(model.parameters(), lr=0.05), np.repeat(x, 4, axis=0)
    losses, steps = [], 800
    for step in range(steps):
        optimizer.lr = 0.05 * (1 - step / steps)
        loss = model.loss(rows, rng=SigmaPoints())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) > -log_p - 1e-6  # the noise ±√2 is rounded
    assert losses[-1] == pytest.approx(-log_p, abs=1e-3)
    assert np.exp(model.pixels.logvar.data) == pytest.approx(variance, rel=1e-2)
    span = lambda a: a @ np.linalg.pinv(a)  # the projection on the space of its columns
    np.testing.assert_allclose(span(model.decoder.weight.data), span(w), atol=1e-2)


# -- convolutions ----------------------------------------------------------------------------------


def conv(pixels="bernoulli", seed=0):
    return ConvVAE(channels=4, latent=3, pixels=pixels, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 16), (2, 4)])
def test_shapes_of_convolutions(channels, side):
    model = ConvVAE(channels, side, channels=4, latent=3, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).random((5, channels, side, side), dtype=np.float32)
    assert model.loss(x, rng=np.random.default_rng(0)).shape == ()
    assert model.sample(2, rng=np.random.default_rng(0)).shape == (2, channels, side, side)
    assert model.log_p(x, 2, rng=np.random.default_rng(0)).shape == (5,)


def test_the_loss_of_convolutions_is_that_of_a_picture():
    """Of the pictures one by one, with the noise that they have in the batch, the mean."""
    model = conv("gaussian")
    x = np.random.default_rng(1).random((4, 1, 8, 8), dtype=np.float32)
    rng = np.random.default_rng(2)
    one_by_one = [model.loss(x[i : i + 1], rng=rng).item() for i in range(4)]
    assert model.loss(x, rng=np.random.default_rng(2)).item() == pytest.approx(np.mean(one_by_one), rel=1e-5)


def test_every_pixel_and_every_number_of_the_code_counts():
    model = conv().astype(np.float64)
    x = Tensor(np.random.default_rng(1).random((1, 1, 8, 8)), requires_grad=True)
    model.encoder(x).mean.sum().backward()
    assert (x.grad != 0).all()
    z = Tensor(np.random.default_rng(1).standard_normal((1, 3)), requires_grad=True)
    model.decoder(z).sum().backward()
    assert (z.grad != 0).all()
    model.loss(x, rng=np.random.default_rng(0)).backward()
    assert [name for name, p in model.named_parameters() if not np.any(p.grad)] == []


def test_a_side_that_cannot_be_halved_twice():
    with pytest.raises(ValueError, match="side must be a multiple of 4, as it is halved twice, got 10"):
        ConvVAE(1, 10, rng=np.random.default_rng(0))


# -- use -------------------------------------------------------------------------------------------


def test_samples():
    model = small()
    x = model.sample(50, rng=np.random.default_rng(0))
    assert x.shape == (50, 6)
    assert x.dtype == np.float32
    assert ((x > 0) & (x < 1)).all()
    np.testing.assert_array_equal(x, model.sample(50, rng=np.random.default_rng(0)))
    assert (x != model.sample(50, rng=np.random.default_rng(1))).any()
    z = np.random.default_rng(0).standard_normal((50, 3), dtype=np.float32)
    np.testing.assert_allclose(x, 1 / (1 + np.exp(-model.decoder(z).data)), rtol=1e-6)
    assert model.sample(0, rng=np.random.default_rng(0)).shape == (0, 6)


def test_pictures_of_another_size():
    with pytest.raises(ValueError, match="7"):
        small().loss(pictures(data=7), rng=np.random.default_rng(0))


def test_it_learns_four_pictures():
    """Of 16 balanced pixels: each by itself costs ln 2, 11.1 nats in all; knowing which one it is, ln 4."""
    patterns = np.array([[(i >> b) & 1 for i in range(16)] for b in range(2)], np.float32)
    patterns = np.concatenate([patterns, 1 - patterns])
    model, rng = VAE(16, 24, 2, rng=np.random.default_rng(0)), np.random.default_rng(1)
    optimizer = Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(patterns[rng.integers(4, size=32)], rng=rng).backward()
        optimizer.step()
    loss = model.loss(np.repeat(patterns, 100, axis=0), rng=rng).item()
    assert math.log(4) < loss < 16 * math.log(2) / 3
