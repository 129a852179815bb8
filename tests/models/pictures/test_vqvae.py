"""VQ-VAE: each of its three gradients by its formula, codes by brute force, running means by hand."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tinygen import Tensor, gradcheck, nn, no_grad, ops
from tinygen.models.pictures.vqvae import (
    VQVAE,
    Residual,
    VectorQuantizer,
    channels_last,
    make_decoder,
    make_encoder,
    nearest_codes,
    perplexity,
)
from tinygen.optim import Adam


def some(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def quantizer(codes=7, dim=3, seed=1, **options):
    """One in float64 with codes all over the place."""
    made = VectorQuantizer(codes, dim, rng=np.random.default_rng(seed), **options).astype(np.float64)
    made.codebook.data = some(codes, dim, seed=seed)
    if made.ema:
        made.total.data = made.codebook.data.copy()
    return made


def small(seed=0, **options):
    options = {"channels": 6, "dim": 3, "num_codes": 7, **options}
    return VQVAE(2, rng=np.random.default_rng(seed), **options).astype(np.float64)


# -- codes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_nearest_code_is_that_of_brute_force(dtype):
    z, codebook = some(500, 5).astype(dtype), some(40, 5, seed=1).astype(dtype)
    squares = ((z[:, None].astype(float) - codebook) ** 2).sum(axis=-1)
    assert_array_equal(nearest_codes(z, codebook), squares.argmin(axis=1))


def test_of_equally_near_codes_it_is_the_first():
    codebook = np.array([[5.0, 5], [1, 0], [-1, 0], [0, 1], [1, 0]])
    assert_array_equal(
        nearest_codes(np.array([[0.0, 0], [1, 0], [-2, 0], [0.5, 0.5]]), codebook), [1, 1, 2, 1]
    )


def test_the_quantized_map():
    q, z = quantizer(), some(2, 3, 4, 5)
    found, codes, *_ = q.eval()(Tensor(z))
    assert codes.shape == (2, 4, 5)
    for b, i, j in np.ndindex(codes.shape):
        assert codes[b, i, j] == ((q.codebook.data - z[b, :, i, j]) ** 2).sum(axis=1).argmin()
        assert_array_equal(found.data[b, :, i, j], q.codebook.data[codes[b, i, j]])  # to the last bit


def test_codes_start_within_1_over_k():
    start = VectorQuantizer(50, 40, rng=np.random.default_rng(0)).codebook.data
    assert 0.99 / 50 < abs(start).max() <= 1 / 50  # 2,000 draws all below: 0.99^2000 = 2e-9
    assert abs(start.mean()) < 6 / 50 / math.sqrt(3 * 2000)  # 6 standard deviations: 2e-9


def test_perplexity():
    assert perplexity(np.full((3, 4, 4), 5), 8) == 1
    assert perplexity(np.arange(8 * 6).reshape(3, 4, 4) % 8, 8) == pytest.approx(8, rel=1e-12)
    assert perplexity(np.array([0, 0, 0, 1]), 9) == pytest.approx(4 / 3**0.75, rel=1e-12)


# -- the three gradients ---------------------------------------------------------------------------


def test_straight_through():
    """Any function of the quantised map: its gradient there is z's, unchanged, and no code gets any."""
    q, z, g = quantizer(), Tensor(some(2, 3, 4, 5), requires_grad=True), some(2, 3, 4, 5, seed=2)
    (q(z).z * g).sum().backward()
    assert_array_equal(z.grad, g)
    assert q.codebook.grad is None


def test_the_codebook_term_moves_codes_only():
    q, z = quantizer(), Tensor(some(2, 3, 4, 5), requires_grad=True)
    _, codes, term, _ = q(z)
    term.backward()
    assert z.grad is None
    rows, expected = channels_last(z), np.zeros((7, 3))
    for row, code in zip(rows, codes.ravel(), strict=True):
        expected[code] += 2 * (q.codebook.data[code] - row) / z.size
    assert_allclose(q.codebook.grad, expected, rtol=1e-12, atol=1e-15)
    assert term.item() == pytest.approx(((rows - q.codebook.data[codes.ravel()]) ** 2).mean(), rel=1e-12)


def test_the_commitment_term_moves_the_encoder_only():
    q, z = quantizer(), Tensor(some(2, 3, 4, 5), requires_grad=True)
    found, _, same, term = q(z)
    term.backward()
    assert q.codebook.grad is None
    assert_allclose(z.grad, 2 * (z.data - found.data) / z.size, rtol=1e-12)
    assert term.item() == pytest.approx(same.item(), rel=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.25, 3.0])
def test_beta_is_the_weight_of_the_commitment(beta):
    """The gradient of the codes does not depend on β. The encoder's gradient is the gradient of the
    reconstruction (straight through) plus β times the gradient of the commitment."""
    model, x = small(beta=beta), some(2, 2, 8, 8)
    model.restart(x, below=np.inf, rng=np.random.default_rng(5))
    model.quantizer.codebook.data = model.quantizer.codebook.data + 0.1 * some(7, 3)
    losses = model.losses(x)
    losses.total.backward()
    assert losses.total.item() == pytest.approx(
        losses.reconstruction.item() + losses.codebook.item() + beta * losses.commitment.item(), rel=1e-12
    )
    codebook = model.quantizer.codebook
    z = model.latents(x).detach()
    e = codebook.data[losses.codes].transpose(0, 3, 1, 2)
    expected = ops.scatter_add(Tensor(channels_last(2 * (e - z.data) / z.size)), losses.codes.ravel(), (7, 3))
    assert_allclose(codebook.grad, expected.data, rtol=1e-9, atol=1e-14)

    at_e = Tensor(e, requires_grad=True)
    ops.mse(model.decoder(at_e), x).backward()
    ours = {name: p.grad for name, p in model.encoder.named_parameters()}
    model.zero_grad()
    model.encoder(x).backward(at_e.grad + beta * 2 * (z.data - e) / z.size)
    for name, p in model.encoder.named_parameters():
        assert_allclose(ours[name], p.grad, rtol=1e-9, atol=1e-12, err_msg=name)


class CodebookTerm(nn.Module):
    """A function of the codes only."""

    def __init__(self, q, z):
        self.q, self.z = q, z

    def forward(self):
        return self.q(self.z).codebook


def test_gradcheck_of_what_has_a_derivative():
    """Inside the regions of the codes, the codebook term by the codes, the commitment by z; both networks."""
    q, z, rng = quantizer(), some(1, 3, 2, 3), np.random.default_rng(3)
    gradcheck(CodebookTerm(q, z)).raise_if_failed()
    gradcheck(lambda z: q(z).commitment, z).raise_if_failed()
    gradcheck(make_encoder(1, 2, 2, rng=rng), some(1, 1, 8, 4)).raise_if_failed()
    gradcheck(make_decoder(1, 2, 2, rng=rng), some(1, 2, 2, 1)).raise_if_failed()


def test_parity_with_torch():
    """The loss as its authors wrote it, on the maps and codes of this model, and every gradient of it."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    model, x = small(channels=8, dim=4), some(3, 2, 8, 12)
    model.restart(x, below=np.inf, rng=np.random.default_rng(5))
    model.quantizer.codebook.data = model.quantizer.codebook.data + 0.1 * some(7, 4)
    w = {name: torch.tensor(p.data, requires_grad=True) for name, p in model.named_parameters()}

    def layer(function, name, x, **options):
        return function(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def residual(name, x):
        h = layer(F.conv2d, f"{name}.near", F.relu(x), padding=1)
        return x + layer(F.conv2d, f"{name}.mix", F.relu(h))

    down, up = ({"stride": 2, "padding": 1},) * 2
    target = torch.tensor(x)
    h = F.relu(layer(F.conv2d, "encoder.0", target, **down))
    h = residual("encoder.4", residual("encoder.3", layer(F.conv2d, "encoder.2", h, **down)))
    z = layer(F.conv2d, "encoder.6", F.relu(h)).permute(0, 2, 3, 1)
    codebook = w["quantizer.codebook"]
    codes = torch.cdist(z.reshape(-1, 4), codebook).argmin(dim=1)
    e = codebook[codes].view(z.shape)
    h = layer(F.conv2d, "decoder.0", (z + (e - z).detach()).permute(0, 3, 1, 2), padding=1)
    h = F.relu(residual("decoder.2", residual("decoder.1", h)))
    h = layer(F.conv_transpose2d, "decoder.6", F.relu(layer(F.conv_transpose2d, "decoder.4", h, **up)), **up)
    expected = F.mse_loss(h, target) + F.mse_loss(e, z.detach()) + 0.25 * F.mse_loss(z, e.detach())
    expected.backward()

    losses = model.losses(x)
    losses.total.backward()
    assert_array_equal(losses.codes.ravel(), codes.numpy())
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-10)
    for name, p in model.named_parameters():
        assert_allclose(p.grad, w[name].grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=name)


# -- running means ---------------------------------------------------------------------------------


def test_two_steps_of_the_means_by_hand():
    """Two codes of one number, decay 3/4: N and m as in appendix A.1, from N = 1 and m = e."""
    q = quantizer(2, 1, ema=True, decay=0.75)
    q.codebook.data, q.total.data = np.array([[0.0], [10.0]]), np.array([[0.0], [10.0]])
    assert list(dict(q.named_parameters())) == []
    found = q(np.array([1.0, 2, 9]).reshape(1, 1, 1, 3))
    assert_array_equal(found.z.data.ravel(), [0, 0, 10])  # by the codes before the update
    n, m = np.array([0.75 + 0.25 * 2, 0.75 + 0.25]), np.array([0.25 * 3, 7.5 + 0.25 * 9])
    assert_allclose(q.codebook.data.ravel(), m / n, rtol=1e-5)  # 0.6 and 9.75; Laplace's ε is 1e-5
    assert_allclose(q.count.data, n, rtol=1e-12)
    q(np.array([8.0, 10, 12]).reshape(1, 1, 3, 1))
    n, m = 0.75 * n + [0, 0.75], 0.75 * m + [0, 0.25 * 30]
    assert_allclose(q.count.data, n, rtol=1e-12)
    assert_allclose(q.total.data.ravel(), m, rtol=1e-12)
    smooth = (n + 1e-5) / (n.sum() + 2e-5) * n.sum()
    assert_allclose(q.codebook.data.ravel(), m / smooth, rtol=1e-12)


def test_without_memory_a_step_is_one_of_k_means():
    """With decay 0 the codes become the means of the vectors that chose them: Lloyd's step."""
    q, z = quantizer(ema=True, decay=0.0), some(5, 3, 6, 6)
    for _ in range(3):
        _, codes, *_ = q(z)
        rows = channels_last(z)
        means = np.array([rows[codes.ravel() == k].mean(axis=0) for k in range(7)])
        assert_allclose(q.codebook.data, means, rtol=1e-5, atol=1e-5)


def test_the_means_come_to_those_of_the_clusters():
    """Points about four far centers, one batch after the other: every code to its center. The running mean
    of 400 points with decay 0.9 has a standard deviation of about 0.1·sqrt(0.1/1.9/100) = 0.0023; 0.02 is
    more than 8 of them."""
    centers = np.array([[5.0, 0], [0, 5], [-5, 0], [0, -5]])
    rng = np.random.default_rng(0)
    q = quantizer(4, 2, ema=True, decay=0.9)
    q.codebook.data = centers + rng.uniform(-2, 2, (4, 2))
    for _ in range(200):
        points = np.repeat(centers, 100, axis=0) + 0.1 * rng.standard_normal((400, 2))
        q(points.T.reshape(1, 2, 20, 20))
    assert_allclose(q.codebook.data, centers, atol=0.02)
    assert_allclose(q.count.data, 100, rtol=1e-6)


def test_nothing_moves_in_evaluation():
    for ema in (False, True):
        q = quantizer(ema=ema).eval()
        before = q.state_dict()
        q(some(2, 3, 4, 4))
        assert all((before[name] == value).all() for name, value in q.state_dict().items())


def test_with_means_the_codebook_term_is_not_in_the_total():
    model, x = small(ema=True), some(2, 2, 8, 8)
    losses = model.losses(x)
    assert losses.codebook.item() == pytest.approx(losses.commitment.item())
    expected = losses.reconstruction.item() + 0.25 * losses.commitment.item()
    assert losses.total.item() == pytest.approx(expected, rel=1e-12)
    assert not any("codebook" in name for name, _ in model.named_parameters())


# -- codes out of use ------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [False, True])
def test_codes_that_nobody_chooses_are_put_where_vectors_are(ema):
    q, z = quantizer(ema=ema, decay=0.5), some(2, 3, 4, 4)
    q.codebook.data[2:] = 100.0  # out of reach
    if ema:
        q.total.data = q.codebook.data.copy()
    for _ in range(8):
        q(z)
    assert_array_equal(q.count.data < 1, [False] * 2 + [True] * 5)
    alive = q.codebook.data[:2].copy()
    assert q.restart(z, rng=np.random.default_rng(0)) == 5
    assert_array_equal(q.codebook.data[:2], alive)
    rows = channels_last(z).tolist()
    taken = [rows.index(code) for code in q.codebook.data[2:].tolist()]
    assert len(set(taken)) == 5
    assert_array_equal(q.count.data[2:], 32 / 7)
    assert q.restart(z, rng=np.random.default_rng(0)) == 0
    codes = q(z).codes.ravel()
    assert_array_equal(codes[taken], range(2, 7))  # each has its vector at least
    if ema:  # which moves on to the mean, from N = 32/7 and m = N·e
        mine = np.array(rows)[codes == 2]
        expected = (32 / 7 * np.array(rows[taken[0]]) + mine.sum(axis=0)) / (32 / 7 + len(mine))
        assert_allclose(q.codebook.data[2], expected, rtol=1e-5)


def test_all_codes_from_the_pictures():
    model, x = small(), some(2, 2, 8, 8)
    assert model.restart(x, below=np.inf, rng=np.random.default_rng(0)) == 7
    rows = channels_last(model.latents(x))
    assert (abs(model.quantizer.codebook.data[:, None] - rows).sum(axis=-1).min(axis=1) == 0).all()
    assert (
        model.restart(x[:1, :, :4, :4], below=np.inf, rng=np.random.default_rng(0)) == 7
    )  # one vector for all
    assert np.ptp(model.quantizer.codebook.data, axis=0).max() == 0


# -- use -------------------------------------------------------------------------------------------


def test_shapes_and_parameters():
    """Two strided convolutions, so f4 (section 4.1)."""
    model = VQVAE(rng=np.random.default_rng(0))
    conv = lambda into, out, k: into * out * k * k + out
    residual = conv(64, 64, 3) + conv(64, 64, 1)
    inward = conv(3, 32, 4) + conv(32, 64, 4) + 2 * residual + conv(64, 16, 1)
    outward = conv(16, 64, 3) + 2 * residual + conv(64, 32, 4) + conv(32, 3, 4)
    assert model.num_parameters() == inward + outward + 128 * 16
    x = some(2, 3, 16, 24).astype(np.float32)
    codes = model.encode(x)
    assert codes.shape == (2, 4, 6)
    assert model.decode(codes).shape == x.shape
    assert model.decode(codes).dtype == np.float32


def test_a_residual_block():
    """With weights of 0 it is the identity; else it adds what its formula says."""
    block, x = Residual(3, rng=np.random.default_rng(0)).astype(np.float64), some(2, 3, 4, 4)
    inside = block.mix(ops.relu(block.near(np.maximum(x, 0)))).data
    assert_allclose(block(x).data, x + inside, rtol=1e-12)
    for p in block.parameters():
        p.data = np.zeros_like(p.data)
    assert_array_equal(block(x).data, x)


def test_encoding_and_decoding_is_what_the_loss_sees():
    model, x = small(), some(3, 2, 8, 8)
    losses = model.losses(x)
    before = model.state_dict()
    assert_array_equal(model.encode(x), losses.codes)
    error = np.mean((model.decode(losses.codes) - x) ** 2)
    assert error == pytest.approx(losses.reconstruction.item(), rel=1e-12)
    assert all((before[name] == value).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("ema", [False, True])
def test_it_learns_four_pictures(ema):
    """Four of noise: codes that do not say which of them it is leave the mean, and 3/4 of the square."""
    rng = np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (4, 1, 8, 8)).astype(np.float32)
    model = VQVAE(1, 8, 4, 8, ema=ema, rng=rng)
    model.restart(pictures, below=np.inf, rng=rng)
    optimizer = Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        losses = model.losses(pictures)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    with no_grad():
        assert model.eval().losses(pictures).reconstruction.item() < 0.25 * np.mean(pictures**2)


def test_errors():
    model = small()
    with pytest.raises(ValueError, match=r"sides divisible by 4, got \(2, 2, 8, 6\)"):
        model(some(2, 2, 8, 6))
    with pytest.raises(ValueError, match=r"with the 3 channels of the codes, got \(1, 4, 2, 2\)"):
        model.quantizer(some(1, 4, 2, 2))
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got 1"):
        VectorQuantizer(4, 2, decay=1, rng=np.random.default_rng(0))
    with pytest.raises(IndexError, match=r"ids must be in \[0, 7\); got 7 to 7"):
        model.decode(np.full((1, 2, 2), 7))


def test_nearest_far_from_zero():
    """In float32, ‖z‖² is 3e5 here and the distances are 1e-2: the expansion of the square must be moved."""
    rng = np.random.default_rng(0)
    z, codes = (100 + 0.05 * rng.standard_normal((n, 32)) for n in (500, 64))
    exact = ((z[:, None] - codes) ** 2).sum(axis=-1).argmin(axis=1)
    found = nearest_codes(z.astype(np.float32), codes.astype(np.float32))
    assert np.mean(found == exact) > 0.99  # float32 has z itself to 1e-4 of the distances
    z[:, 16:], codes[:, 16:] = -z[:, 16:], -codes[:, 16:]  # the center is not on the diagonal
    found = nearest_codes(z.astype(np.float32), codes.astype(np.float32))
    assert np.mean(found == exact) > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ema", [True, False])
def test_a_batch_with_a_nan_leaves_the_running_means_alone(ema, bad):
    quantizer = VectorQuantizer(4, 2, ema=ema, rng=np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((1, 2, 3, 3), dtype=np.float32)
    quantizer(Tensor(z))
    before = {name: np.array(b.data) for name, b in quantizer.named_buffers()}
    z[0, 1, 1:] = bad  # in several vectors: their sum is infinite, even if each becomes the largest number
    with np.errstate(invalid="ignore", over="ignore"):
        quantizer(Tensor(z))
    for name, b in quantizer.named_buffers():
        np.testing.assert_array_equal(b.data, before[name], err_msg=name)
