"""Exercises on pictures as codes: VAE and VQ-VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.models.pictures.vae import VAE
from tinygen.models.pictures.vqvae import VectorQuantizer
from tinygen.tensor import Tensor

KL = Exercise(
    "kl_gaussian",
    "tinygen.ops.loss:gaussian_divergences",
    "KL(N(μ, σ²) ‖ N(0, 1)) and its rules",
    hints=(
        "The divergence is the mean of ln q(z) - ln p(z) under q. Both logarithms are parabolas in z.",
        "E z² = μ² + σ², so the divergence is (μ² + σ² - 1 - ln σ²)/2. The encoder gives ln σ², not σ.",
        "variance = np.exp(logvar); the rule of the mean is g · μ, that of logvar is g · (σ² - 1)/2.",
    ),
    given=lambda: {"mean": numbers(2, 3), "logvar": numbers(2, 3, seed=1)},
    checks=(
        Values("gaussian_divergences(mean, logvar)"),
        Values("gaussian_divergences(0 * mean, 0 * logvar)"),
        Gradient("gaussian_divergences(mean, logvar)", by="mean logvar"),
    ),
    mistakes=(
        Mistake(
            "variance - 1 - logvar)",
            "variance - 1 + logvar)",
            "",
            "ln σ² has the wrong sign: the divergence may be negative",
        ),
        Mistake(
            "0.5 * (mean * mean + variance",
            "(mean * mean + variance",
            "every entry has the factor 2",
            "the factor 1/2 is missing",
        ),
        Mistake(
            "0.5 * g * (variance - 1)",
            "0.5 * g * variance",
            "lacks a term",
            "the derivative of - ln σ² is missing in the gradient by logvar",
        ),
    ),
)


def moments(draws: Any) -> dict[str, Any]:
    """Mean and standard deviation of each column of draws (N, D)."""
    x = draws.numpy() if isinstance(draws, Tensor) else np.asarray(draws)
    return {"mean": x.mean(axis=0), "standard deviation": x.std(axis=0)}


REPARAMETERIZE = Exercise(
    "reparameterize",
    "tinygen.models.pictures.vae:reparameterize",
    "a draw through which gradients flow",
    hints=(
        "A draw from N(μ, σ²) has no gradient by μ and σ. But a draw from N(0, 1), scaled and shifted, has.",
        "z = μ + σ ε with ε ~ N(0, 1), and σ = exp(ln σ² / 2).",
        "eps = noise_like(mean.data, as_generator(rng)); return mean + np.exp(0.5 * logvar) * eps.",
    ),
    given=lambda: {
        "mean": Tensor(np.tile([1.0, -3.0], (20_000, 1))),
        "logvar": Tensor(np.tile([0.0, 2.0], (20_000, 1))),
        "few": numbers(2, 3),
        "narrow": numbers(2, 3, seed=1),
        "moments": moments,
    },
    checks=(
        Values("moments(reparameterize(mean, logvar, rng=0))", within=0.02),
        Gradient("reparameterize(few, narrow, rng=0)", by="few narrow"),
    ),
    mistakes=(
        Mistake(
            "np.exp(0.5 * logvar)",
            "np.exp(logvar)",
            "it is the square of the right one",
            "the noise is scaled by the variance instead of the standard deviation",
        ),
        Mistake(
            "mean + np.exp(0.5 * logvar) * eps",
            "mean + np.exp(0.5 * logvar) + eps",
            "['mean']",
            "the standard deviation is added to the noise instead of multiplying it",
        ),
        Mistake(
            "np.exp(0.5 * logvar)",
            "np.exp(0.5 * logvar.data)",
            "detached",
            "no gradient reaches logvar: it is taken off the tape",
        ),
    ),
)


def sure_vae(beta: float = 1.0) -> VAE:
    """A VAE whose encoder is so sure that the draw is its mean."""
    vae = VAE(4, 3, 2, beta=beta, rng=0).astype(np.float64)
    vae.encoder.logvar.bias.data = np.full(2, -60.0)  # type: ignore[union-attr]
    return vae


VAE_LOSS = Exercise(
    "vae_loss",
    "tinygen.models.pictures.vae:VAE.losses",
    "the evidence lower bound",
    hints=(
        "ln p(x) ≥ E ln p(x|z) - KL(q(z|x) ‖ p(z)). Minus the bound is a sum of two costs, both in nats.",
        "q = self.encoder(x); self.pixels.nll(self.decoder(a draw of q), x, 'sum') is the "
        "reconstruction; ops.kl_gaussian(q.mean, q.logvar, 'sum') the divergence.",
        "Both are sums over pictures and entries: divide by the number of pictures, b. Losses(total, "
        "reconstruction, kl), and the total is reconstruction + beta · kl.",
    ),
    given=lambda: {"vae": sure_vae(), "narrow": sure_vae(4.0), "x": (numbers(3, 4) > 0).astype(float)},
    checks=(
        Values("losses(vae, x, rng=0)", within=1e-6),
        Values("losses(narrow, x, rng=0)", within=1e-6),
    ),
    mistakes=(
        Mistake(
            'x, "sum")\n',
            'x, "none").mean()\n',
            "",
            "the reconstruction is averaged over pixels, so that the divergence weighs too much",
        ),
        Mistake(
            "reconstruction + self.beta * kl",
            "self.beta * reconstruction + kl",
            "",
            "β is on the reconstruction, not on the divergence",
        ),
        Mistake(
            "(reconstruction + self.beta * kl) / b",
            "reconstruction + self.beta * kl",
            "the factor is 3",
            "the loss is summed over the pictures of the batch",
        ),
    ),
)

NEAREST = Exercise(
    "nearest_codes",
    "tinygen.models.pictures.vqvae:nearest_codes",
    "the nearest vector of a codebook",
    hints=(
        "‖z - e‖² = ‖z‖² - 2 z·e + ‖e‖². Which part is the same for all e?",
        "z·e for all pairs is one matrix product: (N, C) times (C, K).",
        "distance = -2 z codebookᵀ + Σ codebook² (K,); argmin along axis 1.",
    ),
    given=lambda: {"z": numbers(20, 3), "codebook": numbers(6, 3, seed=1) * np.array([1.0, 2.0, 0.1])},
    checks=(
        Values("nearest_codes(z, codebook)"),
        Values("nearest_codes(codebook, codebook)"),
        Values("nearest_codes(z + 1e6, codebook + 1e6)"),
    ),
    mistakes=(
        Mistake(
            "    distance += (codebook * codebook).sum(axis=1)\n",
            "",
            "",
            "the lengths of the codebook's vectors are left out: the longest vectors win",
        ),
        Mistake("argmin(axis=1)", "argmax(axis=1)", "", "the farthest vector is taken"),
        Mistake(
            "argmin(axis=1)",
            "argmin(axis=0)",
            "shape (6,), expected (20,)",
            "for each vector of the codebook the nearest z is taken, not for each z the nearest vector",
        ),
    ),
)


def quantizer() -> VectorQuantizer:
    """Four codes of two channels."""
    made = VectorQuantizer(4, 2, rng=0).astype(np.float64).eval()
    made.codebook.data = numbers(4, 2)
    return made


def gradients(forward: Callable[..., Any], z: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """The gradients by z and by the codebook of the quantized z, and of both terms of the loss."""
    found: dict[str, Any] = {}
    for name in ("z", "codebook", "commitment"):
        vq, leaf = quantizer(), Tensor(z, requires_grad=True)
        y = getattr(forward(vq, leaf), name)
        if isinstance(y, Tensor) and y.requires_grad:
            y.backward(weights.get(name, np.ones(y.shape)))
        for by, p in (("z", leaf), ("the codebook", vq.codebook)):
            grad = np.zeros(p.shape) if p.grad is None else p.grad
            found[f"of {name} by {by}"] = grad
    return found


STRAIGHT_THROUGH = Exercise(
    "straight_through",
    "tinygen.models.pictures.vqvae:VectorQuantizer.forward",
    "quantize, with the gradient straight through",
    hints=(
        "Choosing the nearest code has no gradient. The encoder gets the decoder's gradient as if e were z.",
        "A sum whose value is e and whose gradient by z is 1: e + (z - z), with two of the three off "
        "the tape. The codebook term moves only e, the commitment only z.",
        "through = detach(e) + (z - detach(z)); ops.mse(e, detach(z)) and ops.mse(z, detach(e)); "
        "Quantized(through, codes (B, H, W), both terms).",
    ),
    given=lambda: {
        "vq": quantizer(),
        "z": numbers(1, 2, 2, 2, seed=1),
        "weights": {"z": numbers(1, 2, 2, 2, seed=2)},
        "gradients": gradients,
    },
    checks=(Values("forward(vq, z)"), Values("gradients(forward, z, weights)")),
    mistakes=(
        Mistake(
            "through = detach(e) + (z - detach(z))",
            "through = e",
            "every entry is 0",
            "no gradient reaches z: the decoder's gradient goes to the codebook",
        ),
        Mistake(
            "ops.mse(e, detach(z)), ops.mse(z, detach(e))",
            "ops.mse(z, detach(e)), ops.mse(e, detach(z))",
            "every entry should be 0",
            "the two terms are exchanged: the codebook's moves the encoder",
        ),
        Mistake(
            "ops.mse(e, detach(z)), ",
            "ops.mse(e, z), ",
            "every entry should be 0",
            "the codebook term also moves z: z is not taken off the tape",
        ),
    ),
)

PERPLEXITY = Exercise(
    "code_usage",
    "tinygen.models.pictures.vqvae:perplexity",
    "how many codes are in use",
    hints=(
        "If all k codes are equally frequent the answer is k, if one code has all it is 1. Which "
        "number between?",
        "exp of the entropy of the frequencies; 0 ln 0 is 0.",
        "p = np.bincount(codes.ravel(), minlength=k) / codes.size; drop the zeros; exp(-Σ p ln p).",
    ),
    given=lambda: {"codes": np.array([[0, 1, 1], [2, 1, 0]])},
    checks=(Values("perplexity(codes, 5)"), Values("perplexity(0 * codes, 5)")),
    mistakes=(
        Mistake(
            "np.exp(-(p * np.log(p)).sum())",
            "-(p * np.log(p)).sum()",
            "it is the logarithm of the right one",
            "it is the entropy itself, without exp",
        ),
        Mistake(
            "    p = p[p > 0]\n",
            "",
            "it is not finite",
            "codes that are not in use give 0 · ln 0, which is NaN",
        ),
        Mistake(
            "np.exp(-(p * np.log(p)).sum())",
            "np.exp((p * np.log(p)).sum())",
            "it is 1 divided by the right one",
            "the sign of the entropy is missing",
        ),
    ),
)

CHAPTER = Chapter("VAE and VQ-VAE", (KL, REPARAMETERIZE, VAE_LOSS, NEAREST, STRAIGHT_THROUGH, PERPLEXITY))
