"""The rungs of `density_ladder.py`, from copies of the data to an adversarial network. Each is a function
that returns a fitted model as a `Rung`: what it says about ln p, and how it draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from shared.densities import (
    PIXELS,
    ClassGaussians,
    DecodedDensity,
    PrincipalDensity,
    StandardNormal,
    count_of,
)

from tinygen import nn, no_grad
from tinygen.data import digits
from tinygen.density import Empirical, GaussianKDE, GaussianMixture
from tinygen.diffusion import flow_log_prob, flow_matching_loss, last_state, midpoint
from tinygen.models.pictures.denoiser import Denoiser
from tinygen.models.pictures.gan import DenseDiscriminator, DenseGenerator
from tinygen.models.pictures.gan_losses import logistic_loss, non_saturating_loss, r1_penalty
from tinygen.models.pictures.hierarchical_vae import HierarchicalVAE
from tinygen.models.pictures.plain_autoencoder import SWAE, Autoencoder, SupervisedAutoencoder, dense_halves
from tinygen.models.pictures.realnvp import RealNVP
from tinygen.models.pictures.vae import VAE
from tinygen.ops.random import noise_like

NARROW = 20  # channels of RealNVP's layers: with 64 it overfits 1,297 digits, by some 40 nats


class Rung(NamedTuple):
    """`log_p(x, rng)` is ln p (N,) of points x (N, 64): "exact" or a "bound", as `kind` says. It is None
    where there is no density, "none". `sample(n, rng)` draws points (n, 64)."""

    kind: str
    log_p: Callable[[Any, np.random.Generator], Any] | None
    sample: Callable[[int, np.random.Generator], Any]
    parameters: int


# -- densities without a network: of the flags, and the training points x (N, 64) --------------------


def density(model: Any, x: Any) -> Rung:
    model.fit(x)
    log_p = lambda points, rng: model.score_samples(points)
    return Rung("exact", log_p, lambda n, rng: model.sample(n, rng=rng), count_of(model))


def mixture(k: int, kind: str, args: Any) -> GaussianMixture:
    return GaussianMixture(k, kind, n_init=1, tol=1e-4, min_variance=1e-3, rng=args.seed)


DENSITIES: dict[str, Callable[[Any, Any], Rung]] = {
    "empirical": lambda args, x: density(Empirical(), x),
    "KDE": lambda args, x: density(GaussianKDE(), x),
    "GMM": lambda args, x: density(mixture(30, "diag", args), x),
    "PCA + KDE": lambda args, x: density(PrincipalDensity(args.components, GaussianKDE()), x),
    "PCA + GMM": lambda args, x: density(PrincipalDensity(args.components, mixture(30, "diag", args)), x),
}


# -- networks: how they are built, their losses, and their rungs ---------------------------------------


class Network(NamedTuple):
    """`build(args, rng)` is the network. Each of `losses(model, x, y, rng)`, of points x (B, 64) and labels y
    (B,), is minimized by its part of the network, or by the whole network if there is one loss. After
    training, `rung(model, args, x, y)` is made of it and the training data."""

    build: Callable[[Any, np.random.Generator], nn.Module]
    losses: tuple[Callable[[Any, Any, Any, np.random.Generator], Any], ...]
    rung: Callable[[Any, Any, Any, Any], Rung]


def halves(args: Any, rng: np.random.Generator) -> Any:
    return dense_halves(PIXELS, args.width, args.latent, rng=rng)


def autoencoder(args: Any, rng: np.random.Generator) -> nn.Module:
    encoder, decoder = halves(args, rng)
    return Autoencoder(encoder, decoder)


def supervised_autoencoder(args: Any, rng: np.random.Generator) -> nn.Module:
    encoder, decoder = halves(args, rng)
    return SupervisedAutoencoder(encoder, decoder, args.latent, digits.CLASSES, 10.0, rng=rng)


def sliced_autoencoder(args: Any, rng: np.random.Generator) -> nn.Module:
    encoder, decoder = halves(args, rng)
    return SWAE(encoder, decoder, args.latent, 100.0)


def density_of_codes(model: Any, of_codes: Any, args: Any, x: Any) -> Rung:
    """An autoencoder, and a density that is fitted to its codes."""
    found = DecodedDensity(model, of_codes, x)
    count = model.num_parameters() + count_of(of_codes)
    return Rung("bound", lambda x, rng: found.bound(x, args.draws, rng), found.sample, count)


def variational(model: Any, args: Any, x: Any, y: Any) -> Rung:
    """A VAE, with one level of codes or two."""
    bound = lambda x, rng: model.log_p(x, args.draws, rng=rng)
    return Rung("bound", bound, lambda n, rng: model.sample(n, rng=rng), model.num_parameters())


def real_nvp(model: Any, args: Any, x: Any, y: Any) -> Rung:
    log_p = no_grad()(lambda x, rng: model.log_prob(x).numpy())
    return Rung("exact", log_p, lambda n, rng: model.sample(n, rng=rng), model.num_parameters())


def velocity(model: Any) -> Callable[[Any, Any], Any]:
    return lambda x, t: model(x, 1000 * t)  # the network embeds the number of a step


def flow(model: Any, args: Any, x: Any, y: Any) -> Rung:
    """Flow matching: the same solver gives the density and draws."""

    def sample(n: int, rng: np.random.Generator) -> Any:
        noise = rng.standard_normal((n, PIXELS), dtype=np.float32)
        return last_state(midpoint(velocity(model), noise, args.solver_steps))

    log_p = lambda x, rng: flow_log_prob(velocity(model), x, args.solver_steps)
    return Rung("exact", log_p, sample, model.num_parameters())


def players(args: Any, rng: np.random.Generator) -> nn.ModuleList:
    """A discriminator and a generator."""
    discriminator = DenseDiscriminator(PIXELS, args.width, 2, rng=rng)
    return nn.ModuleList([discriminator, DenseGenerator(PIXELS, args.width, 2, args.latent, rng=rng)])


def loss_of_discriminator(model: Any, x: Any, y: Any, rng: np.random.Generator) -> Any:
    d, g = model
    with no_grad():
        fake = g(noise_like(x[:, : g.latent], rng)).data
    return logistic_loss(d(x), d(fake)) + r1_penalty(d, x)


def loss_of_generator(model: Any, x: Any, y: Any, rng: np.random.Generator) -> Any:
    d, g = model
    return non_saturating_loss(d(g(noise_like(x[:, : g.latent], rng))))


def adversarial(model: Any, args: Any, x: Any, y: Any) -> Rung:
    """A generator has no density."""
    _, g = model
    return Rung("none", None, lambda n, rng: g.sample(n, rng=rng), g.num_parameters())


NETWORKS: dict[str, Network] = {
    "autoencoder + GMM": Network(
        autoencoder,
        (lambda model, x, y, rng: model.loss(x),),
        lambda model, args, x, y: density_of_codes(model, mixture(10, "full", args), args, x),
    ),
    "class-supervised + Gaussians": Network(
        supervised_autoencoder,
        (lambda model, x, y, rng: model.loss(x, y),),
        lambda model, args, x, y: density_of_codes(model, ClassGaussians(y), args, x),
    ),
    "SWAE": Network(
        sliced_autoencoder,
        (lambda model, x, y, rng: model.loss(x, rng=rng),),
        lambda model, args, x, y: density_of_codes(model, StandardNormal(), args, x),
    ),
    "VAE": Network(
        lambda args, rng: VAE(PIXELS, args.width, args.latent, pixels="gaussian", rng=rng),
        (lambda model, x, y, rng: model.loss(x, rng=rng),),
        variational,
    ),
    "hierarchical VAE": Network(
        lambda args, rng: HierarchicalVAE(
            PIXELS, args.width, (args.latent, args.latent // 2), pixels="gaussian", rng=rng
        ),
        (lambda model, x, y, rng: model.loss(x, rng=rng),),
        variational,
    ),
    "RealNVP": Network(
        lambda args, rng: RealNVP(PIXELS, NARROW, 1, 8, rng=rng),
        (lambda model, x, y, rng: model.loss(x),),
        real_nvp,
    ),
    "flow matching": Network(
        lambda args, rng: Denoiser(PIXELS, args.width, waves=0, rng=rng),
        (lambda model, x, y, rng: flow_matching_loss(velocity(model), x, rng=rng),),
        flow,
    ),
    "GAN": Network(players, (loss_of_discriminator, loss_of_generator), adversarial),
}
