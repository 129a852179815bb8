"""Autoencoders without a distribution of codes, and two ways to give the codes more meaning.

An autoencoder learns codes from which a picture can be restored. If encoder and decoder are linear, the
best codes are equivalent to PCA's. The codes follow no known distribution, so a plain autoencoder cannot
sample new pictures. The models add different terms to the loss:

    Autoencoder             nothing: the codes restore the picture
    SupervisedAutoencoder   the cross-entropy of a classifier: the codes also tell the class
    SWAE                    the distance of the codes from samples of N(0, I), so that such a sample is a code
                            (the sliced-Wasserstein autoencoder: Kolouri et al. 2018, arXiv:1804.01947)

Each takes an encoder and a decoder, made by `linear_halves`, `dense_halves` or `conv_halves`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygen import nn, ops
from tinygen.models.pictures.vae import ConvDecoder
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.rows import require_whole_batch
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike

Halves = tuple[nn.Module, nn.Module]


# -- the halves: an encoder, x -> z (B, Z), and a decoder, z -> x ------------------------------------


def linear_halves(data: int, latent: int, *, rng: RNGLike) -> Halves:
    """For x (B, D), D = `data`: a matrix each way, and a bias. At the minimum of the squared error the
    decoder spans the subspace of the first `latent` principal components (Baldi & Hornik 1989)."""
    rng = as_generator(rng)
    return nn.Linear(data, latent, rng=rng), nn.Linear(latent, data, rng=rng)


def dense_halves(data: int, hidden: int, latent: int, *, rng: RNGLike) -> Halves:
    """For x (B, D), D = `data`: one hidden layer of ReLUs each way."""
    rng = as_generator(rng)
    encoder = nn.Sequential(nn.Linear(data, hidden, rng=rng), ops.relu, nn.Linear(hidden, latent, rng=rng))
    decoder = nn.Sequential(nn.Linear(latent, hidden, rng=rng), ops.relu, nn.Linear(hidden, data, rng=rng))
    return encoder, decoder


def conv_halves(in_channels: int, side: int, channels: int, latent: int, *, rng: RNGLike) -> Halves:
    """For x (B, in_channels, S, S), S = `side` a multiple of 4: two convolutions of stride 2, and the decoder
    of `ConvVAE`. Raises ValueError for another side."""
    rng = as_generator(rng)
    if side < 4 or side % 4:
        raise ValueError(f"side must be a multiple of 4, as it is halved twice, got {side}")
    encoder = nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, rng=rng),
        ops.relu,
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, rng=rng),
        ops.relu,
        lambda h: h.reshape(len(h), -1),  # (B, 2C·S²/16)
        nn.Linear(2 * channels * (side // 4) ** 2, latent, rng=rng),
    )
    return encoder, ConvDecoder(in_channels, side, channels, latent, rng=rng)


# -- autoencoders ------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """`model.loss(x)` is the squared error of the reconstruction, summed over a picture and averaged over
    the batch. Encoder and decoder determine the shape of x.

    Eq.: L = 1/B Σ_b |x_b - g(f(x_b))|²  (Baldi & Hornik 1989)
    Held by: tests/models/pictures/test_plain_autoencoder.py::test_the_loss_by_hand,
        tests/models/pictures/test_plain_autoencoder.py::test_a_linear_autoencoder_spans_the_subspace_of_pca
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, x: TensorLike) -> Tensor:
        """The reconstruction of x, with the shape of x."""
        return self.decoder(self.encoder(x))

    def loss(self, x: TensorLike) -> Tensor:
        """The error of the reconstructions of x, of shape ()."""
        return squared_error(self(x), x)

    @no_grad()
    def encode(self, x: TensorLike) -> Array:
        """The codes (B, Z) of x."""
        return self.encoder(x).data

    @no_grad()
    def decode(self, z: TensorLike) -> Array:
        """The pictures with codes z (B, Z)."""
        return self.decoder(np.asarray(z, like=next(iter(self.decoder.parameters())).data)).data


def squared_error(found: Any, x: TensorLike) -> Tensor:
    """|found - x|², summed over a picture, averaged over the batch."""
    return ops.mse(found, x, "sum") / len(x)


class SupervisedLosses(NamedTuple):
    """The loss of a `SupervisedAutoencoder` and its parts, each a mean over the batch."""

    total: Tensor  # reconstruction + weight · classification
    reconstruction: Tensor
    classification: Tensor  # the cross-entropy, in nats a picture


class SupervisedAutoencoder(Autoencoder):
    """An autoencoder with a linear classifier of `classes` classes on the codes. `weight` multiplies the
    cross-entropy of the classifier: at 0 this is a plain autoencoder, and the larger it is, the better the
    codes tell the class (Le et al. 2018, "Supervised autoencoders").

    Eq.: L = 1/B Σ_b |x_b - g(f(x_b))|² - weight · ln p(y_b | f(x_b))  (Le et al. 2018)
    Held by: tests/models/pictures/test_plain_autoencoder.py::test_the_supervised_loss_by_hand
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: int,
        classes: int,
        weight: float = 1.0,
        *,
        rng: RNGLike,
    ) -> None:
        super().__init__(encoder, decoder)
        self.classifier = nn.Linear(latent, classes, rng=as_generator(rng))
        self.weight = weight

    def loss(self, x: TensorLike, labels: Array) -> Tensor:  # type: ignore[override]
        """The loss of x and its classes `labels` (B,), of shape ()."""
        return self.losses(x, labels).total

    def losses(self, x: TensorLike, labels: Array) -> SupervisedLosses:
        """The loss and its two parts."""
        z = self.encoder(x)  # (B, Z)
        reconstruction = squared_error(self.decoder(z), x)
        classification = ops.cross_entropy(self.classifier(z), labels)
        return SupervisedLosses(reconstruction + self.weight * classification, reconstruction, classification)

    @no_grad()
    def log_probs(self, x: TensorLike) -> Array:
        """ln p(class | the code of x), (B, classes)."""
        return ops.log_softmax(self.classifier(self.encoder(x))).data


class SlicedLosses(NamedTuple):
    """The loss of an `SWAE` and its parts."""

    total: Tensor  # reconstruction + weight · distance
    reconstruction: Tensor
    distance: Tensor  # of the codes from draws of N(0, I): sliced Wasserstein, squared


class SWAE(Autoencoder):
    """The sliced-Wasserstein autoencoder: its loss has the distance between the codes of a batch and
    equally many samples of N(0, I), along `directions` random directions. `weight` is λ.

    Eq.: L = 1/B Σ_b |x_b - g(f(x_b))|² + λ/(L B) Σ_l Σ_b (θ_l·z̃_(b) - θ_l·f(x)_(b))², z̃ from N(0, I), both
        sorted along θ_l  (Kolouri et al. 2018)
    Held by: tests/models/pictures/test_plain_autoencoder.py::test_the_loss_of_swae_by_hand
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: int,
        weight: float = 10.0,
        directions: int = 50,
    ) -> None:
        super().__init__(encoder, decoder)
        self.latent = latent
        self.weight = weight
        self.directions = directions

    def loss(self, x: TensorLike, *, rng: RNGLike) -> Tensor:  # type: ignore[override]
        """The loss of x, of shape ()."""
        return self.losses(x, rng=rng).total

    def losses(self, x: TensorLike, *, rng: RNGLike) -> SlicedLosses:
        """The loss and its two parts."""
        rng = as_generator(rng)
        z = self.encoder(x)  # (B, Z)
        reconstruction = squared_error(self.decoder(z), x)
        prior = noise_like(z.data, rng)  # (B, Z)
        distance = sliced_wasserstein2(z, prior, self.directions, rng=rng)
        return SlicedLosses(reconstruction + self.weight * distance, reconstruction, distance)

    def sample(self, n: int, *, rng: RNGLike) -> Array:
        """n pictures with codes from N(0, I)."""
        return self.decode(as_generator(rng).standard_normal((n, self.latent), dtype=np.float32))


def sliced_wasserstein2(x: TensorLike, y: TensorLike, directions: int, *, rng: RNGLike) -> Any:
    """The squared sliced 2-Wasserstein distance of two sets of B points, x and y (B, Z): the mean over
    random directions θ of the squared distance along θ, where the smallest number is paired with the
    smallest, and so on. A Tensor of shape () if x or y is one, differentiable in both. The expectation is
    the same for any number of directions. For samples of the same Gaussian it is not 0, but decreases with
    B.

    Raises ValueError when x and y are not sets of equally many points, or when there is no direction.

    Eq.: SW₂² = E_θ ∫ (F_x⁻¹(t; θ) - F_y⁻¹(t; θ))² dt, θ uniform on the sphere
        (Kolouri et al. 2018)
    Held by: tests/models/pictures/test_plain_autoencoder.py::test_sliced_distance_of_round_gaussians,
        tests/models/pictures/test_plain_autoencoder.py::test_sliced_distance_of_a_shift,
        tests/models/pictures/test_plain_autoencoder.py::test_any_number_of_directions_has_one_expectation
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must both be (points, numbers), of one shape, got {x.shape} and {y.shape}")
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    require_whole_batch("the sliced Wasserstein distance")
    array = x.data if isinstance(x, Tensor) else x
    like = np.zeros_like(array, shape=(x.shape[1], directions))
    theta = noise_like(like, as_generator(rng))  # (Z, L)
    theta = theta / np.sqrt(np.sum(theta**2, axis=0))
    return np.mean((np.sort(x @ theta, axis=0) - np.sort(y @ theta, axis=0)) ** 2)
