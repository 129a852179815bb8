"""Adversarial networks with texts: the best matching-aware discriminator and generator of discrete densities
in closed form, what each network does with the text, R1 of pictures
with captions, parity with torch."""

import math

import numpy as np
import pytest

from tinygen import Tensor, gradcheck, nn
from tinygen.models.pictures.gan_losses import non_saturating_loss, r1_penalty
from tinygen.models.text_to_image.text_encoder import TextEncoderConfig
from tinygen.models.text_to_image.text_gan import (
    CaptionEncoder,
    TextDiscriminator,
    TextGenerator,
    matching_aware_loss,
)
from tinygen.optim import Adam

CONFIG = TextEncoderConfig(("a", "red", "blue", "circle"), 3, layers=0, heads=2, channels=6)
CAPTIONS = ["a red circle", "a circle", "blue"]


def rng(seed=0):
    return np.random.default_rng(seed)


def leaf(x):
    return Tensor(np.array(x, np.float64), requires_grad=True)


def generator(config=CONFIG):
    return TextGenerator(config, 5, 2, 16, 3, 4, rng=0)


def discriminator(config=CONFIG):
    return TextDiscriminator(config, 2, 16, 3, rng=0)


# -- the loss, on discrete densities -------------------------------------------------------------------

# Three pictures and two texts: how often each pair occurs. The texts are equally frequent.
P = np.array([[10, 1], [5, 5], [1, 10]])
Q = np.array([[2, 8], [6, 2], [8, 6]])  # of the generator, which is given the same texts


def densities(p, q):
    """Of the counts p and q: p(x, t), r(x, t) = p(x) p(t), and q(x, t)."""
    r = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    return p / p.sum(), r / r.sum(), q / q.sum()


def loss_of(logits, p, q):
    """The loss of a batch in which every pair is as often as its counts say."""
    r = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    often = lambda counts: np.repeat(np.arange(counts.size), counts.ravel())
    return matching_aware_loss(logits[often(p)], logits[often(r)], logits[often(q)])


def best_logits(p, q):
    """ln p - ln (r + q)/2, and ± 800 in place of infinity."""
    with np.errstate(divide="ignore"):
        p, r, q = densities(p, q)
        return np.clip(np.log(p) - np.log((r + q) / 2), -800, 800).ravel()


def least_loss(p, q):
    return loss_of(best_logits(p, q), p, q).item()


def test_the_best_discriminator():
    """The loss is convex in the logits. Its gradient is 0 where they are ln p - ln (r + q)/2."""
    best = best_logits(P, Q)
    p, r, q = densities(P, Q)
    np.testing.assert_allclose(1 / (1 + np.exp(-best)), (p / (p + (r + q) / 2)).ravel(), rtol=1e-15)
    logits = leaf(best)
    loss = loss_of(logits, P, Q)
    loss.backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-15)
    for k in range(6):
        for step in (-0.1, 0.1):
            assert loss_of(best + step * np.eye(6)[k], P, Q).item() > loss.item()


def test_the_value_of_the_best_discriminator():
    """V(D*) = -loss = -ln 4 + 2 JS(p ‖ (r + q)/2); and -ln 4 for one that says 1/2."""
    p, r, q = densities(P, Q)
    refused = (r + q) / 2
    middle = (p + refused) / 2
    js = 0.5 * np.sum(p * np.log(p / middle)) + 0.5 * np.sum(refused * np.log(refused / middle))
    assert least_loss(P, Q) == pytest.approx(math.log(4) - 2 * js, rel=1e-14)
    assert loss_of(np.zeros(6), P, Q).item() == pytest.approx(math.log(4), rel=1e-15)


def test_the_best_generator():
    """It has q = 2p - r: the discriminator can only say 1/2. With q = p it still tells some pairs."""
    p = np.array([[6, 3], [5, 5], [3, 6]])
    p_, r, _ = densities(p, p)
    best = np.rint((2 * p_ - r) * 56).astype(int)  # in 56ths
    np.testing.assert_allclose(best / 56, 2 * p_ - r, atol=1e-15)
    assert best.min() > 0
    np.testing.assert_allclose(best_logits(p, best), 0, atol=1e-15)
    assert least_loss(p, best) == pytest.approx(math.log(4), rel=1e-15)
    assert least_loss(p, p) < math.log(4) - 0.004


def test_the_best_generator_if_each_picture_fits_one_text():
    """Then q = p: with every other q for the same texts the discriminator's loss can be smaller. It says 2/(3
    + 1/K) of real pairs, here with two texts."""
    p = 4 * np.array([[3, 0], [1, 0], [0, 2], [0, 2]])
    said = 1 / (1 + np.exp(-best_logits(p, p)[p.ravel() > 0]))
    np.testing.assert_allclose(said, 2 / (3 + 1 / 2), rtol=1e-15)
    assert least_loss(p, p) < math.log(4) - 0.1  # pictures with wrong texts are told
    for seed in range(20):
        q = np.stack([rng(seed).multinomial(16, share) for share in p.T / 16], axis=1)
        far = rng(seed).multinomial(16, np.full(4, 1 / 4), 2).T
        for other in (q, far):
            assert (other == p).all() or least_loss(p, other) < least_loss(p, p)


def test_gradients_of_the_loss():
    real, wrong, fake = leaf([-2.0, 0.5]), leaf([0.3, -1.0, 2.0]), leaf([1.0, -3.0, 0.2, 0.1])
    sigmoid = lambda x: 1 / (1 + np.exp(-x.data))
    loss = matching_aware_loss(real, wrong, fake)
    assert loss.shape == ()
    expected = -np.log(sigmoid(real)).mean() - 0.5 * np.log(1 - sigmoid(wrong)).mean()
    expected -= 0.5 * np.log(1 - sigmoid(fake)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-14)
    loss.backward()
    np.testing.assert_allclose(real.grad, (sigmoid(real) - 1) / 2, rtol=1e-14)
    np.testing.assert_allclose(wrong.grad, sigmoid(wrong) / 6, rtol=1e-14)
    np.testing.assert_allclose(fake.grad, sigmoid(fake) / 8, rtol=1e-14)


# -- the networks --------------------------------------------------------------------------------------


def test_shapes():
    g = generator()
    x = g.sample(CAPTIONS, rng=0)
    assert x.shape == (3, 2, 16, 16)
    assert np.abs(x).max() < 1
    assert g(rng().standard_normal((3, 4)), CAPTIONS).shape == (3, 2, 16, 16)
    assert discriminator()(x, CAPTIONS).shape == (3,)


@pytest.mark.parametrize("layers", [0, 1])
def test_captions_are_encoded_one_by_one(layers):
    """A caption's vector does not depend on the captions beside it, nor on the padding."""
    config = TextEncoderConfig(CONFIG.words, 3, layers=layers, heads=2, channels=6)
    encoder = CaptionEncoder(config, 5, rng=0).astype(np.float64)
    together = encoder(CAPTIONS).data
    for row, caption in zip(together, CAPTIONS, strict=True):
        np.testing.assert_allclose(encoder([caption]).data[0], row, rtol=1e-12)
    longer = CaptionEncoder(TextEncoderConfig(CONFIG.words, 9, layers, 2, 6), 5, rng=0).astype(np.float64)
    weights = encoder.state_dict()
    weights["words.place.weight"] = np.concatenate([weights["words.place.weight"], rng().random((6, 6))])
    longer.load_state_dict(weights)
    np.testing.assert_allclose(longer(CAPTIONS).data, together, rtol=1e-12)


def test_without_blocks_a_caption_is_the_mean_of_its_words():
    encoder = CaptionEncoder(CONFIG, 5, rng=0).astype(np.float64)
    words, out = encoder.words, encoder.out
    ids = [0, 2, 5]  # the beginning, "a", "circle"
    x = words.token.weight.data[ids] + words.place.weight.data[:3]
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + words.norm.eps)
    h = x.mean(axis=0) @ out.weight.data.T + out.bias.data
    np.testing.assert_allclose(encoder(["a circle"]).data[0], h, rtol=1e-12)


def test_the_text_stands_beside_the_noise():
    g, z = generator().astype(np.float64), rng().standard_normal((3, 4))
    both = np.concatenate([z, g.text(CAPTIONS).data], axis=1)
    np.testing.assert_array_equal(g(z, CAPTIONS).data, g.pictures(both).data)


def test_the_features_are_compared_with_the_text():
    """f(x, t) - f(x, t') = (e(t) - e(t'))·φ(x)/√F; without a text it is a linear function of φ(x)."""
    d, x = discriminator().astype(np.float64), rng().standard_normal((3, 2, 16, 16))
    h = d.pictures.features(x).data
    assert h.shape == (3, 96)
    plain = h @ d.pictures.out.weight.data[0] + d.pictures.out.bias.data
    for captions in (CAPTIONS, CAPTIONS[::-1]):
        text = d.text(captions).data
        expected = plain + np.sum(text * h, axis=1) / np.sqrt(96)
        np.testing.assert_allclose(d(x, captions).data, expected, rtol=1e-13)


def test_a_step_of_the_game():
    """Both losses fall when one network takes small steps alone, and every parameter has a gradient."""
    g, d = generator(), discriminator()
    z, real = rng().standard_normal((3, 4), np.float32), rng(1).uniform(-1, 1, (3, 2, 16, 16))
    real, others = real.astype(np.float32), CAPTIONS[1:] + CAPTIONS[:1]
    fake = g(z, CAPTIONS).data

    def of_discriminator():
        logits = (d(real, CAPTIONS), d(real, others), d(fake, CAPTIONS))
        return matching_aware_loss(*logits) + 0.1 * r1_penalty(lambda x: d(x, CAPTIONS), real)

    for model, loss in ((d, of_discriminator), (g, lambda: non_saturating_loss(d(g(z, CAPTIONS), CAPTIONS)))):
        optimizer, values = Adam(model.parameters(), lr=1e-3), []
        for _ in range(8):
            optimizer.zero_grad()
            found = loss()
            found.backward()
            assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
            values.append(found.item())
        assert values[-1] < values[0]


def test_gradcheck_of_the_penalty():
    """Second derivatives by every weight, those of the text encoder, too."""
    x = rng().standard_normal((2, 1, 8, 8))

    class Penalty(nn.Module):
        def __init__(self):
            small = TextEncoderConfig(("a", "red"), 2, layers=0, heads=1, channels=3)
            self.d = TextDiscriminator(small, 1, 8, 2, rng=0)

        def forward(self):
            return r1_penalty(lambda x: self.d(x, ["a red", "a"]), x)

    gradcheck(Penalty().astype(np.float64)).raise_if_failed()


def test_parity_with_torch():
    """The discriminator's values and R1, with the captions' vectors as ours."""
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    d, x = discriminator().astype(np.float64), rng().standard_normal((3, 2, 16, 16))
    w = {name: torch.tensor(p.data, requires_grad=True) for name, p in d.pictures.named_parameters()}
    text = torch.tensor(d.text(CAPTIONS).data)

    def there(x):
        for i in range(2):
            x = f.conv2d(x, w[f"downs.{i}.weight"], w[f"downs.{i}.bias"], stride=2, padding=1)
            x = f.leaky_relu(x, 0.2)
        h = x.flatten(1)
        return f.linear(h, w["out.weight"], w["out.bias"])[:, 0] + (text * h).sum(1) / 96**0.5

    points = torch.tensor(x, requires_grad=True)
    np.testing.assert_allclose(d(x, CAPTIONS).data, there(points).detach().numpy(), rtol=1e-11)
    (slope,) = torch.autograd.grad(there(points).sum(), points, create_graph=True)
    expected = 0.5 * slope.square().flatten(1).sum(1).mean()
    expected.backward()
    penalty = r1_penalty(lambda x: d(x, CAPTIONS), x)
    penalty.backward()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-11)
    for name, p in d.pictures.named_parameters():
        ours, theirs = (0 if g is None else np.asarray(g) for g in (p.grad, w[name].grad))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-14, err_msg=name)


def test_what_is_refused():
    g, d, x = generator(), discriminator(), np.zeros((2, 2, 16, 16), np.float32)
    with pytest.raises(ValueError, match="each picture needs one caption: got 2 and 1 captions"):
        d(x, ["red"])  # it is not repeated for the second
    with pytest.raises(ValueError, match="each row of z needs one caption: got 2 and 3 captions"):
        g(np.zeros((2, 4)), CAPTIONS)
    with pytest.raises(ValueError, match="unknown word 'green' in 'a green circle'"):
        g.sample(["a green circle"], rng=0)
    with pytest.raises(TypeError, match="captions must be a list of texts, got the text 'red'"):
        d(x, "red")
    with pytest.raises(ValueError, match="side must be one of 8, 16, 32"):
        TextGenerator(CONFIG, side=12, rng=0)
