"""VAE: a picture as a code of a few Gaussian numbers, and back (Kingma & Welling 2013, arXiv:1312.6114).

The decoder is a model p(x|z) of the pictures x with codes z from p(z) = N(0, 1); the encoder is q(z|x), an
approximation of p(z|x). Both are trained by the evidence lower bound (eq. 3),

    ln p(x) >= E_q[ln p(x|z)] - KL(q(z|x) ‖ p(z)),

with one draw of z a picture, written as z = mean + exp(logvar/2)·noise, through which gradients flow (eq. 4).

Here both are perceptrons with one hidden layer (appendix C), pixels are Bernoulli variables, and the sizes
are those usual for MNIST: 784-400-20.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.tape import no_grad
from tinygen.tensor import Array, Tensor


class Encoder(nn.Module):
    """x (B, D) -> mean and logvar of q(z|x), (B, Z) each. The logarithm of the variance may be any number."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: np.random.Generator) -> None:
        self.fc = nn.Linear(data, hidden, rng=rng)
        self.mean = nn.Linear(hidden, latent, rng=rng)
        self.logvar = nn.Linear(hidden, latent, rng=rng)

    def forward(self, x: Any) -> tuple[Tensor, Tensor]:
        h = ops.relu(self.fc(x))  # (B, H)
        return self.mean(h), self.logvar(h)


class Decoder(nn.Module):
    """z (B, Z) -> the logits of the pixels' means, (B, D)."""

    def __init__(self, data: int, hidden: int, latent: int, *, rng: np.random.Generator) -> None:
        self.fc = nn.Linear(latent, hidden, rng=rng)
        self.out = nn.Linear(hidden, data, rng=rng)

    def forward(self, z: Any) -> Tensor:
        return self.out(ops.relu(self.fc(z)))  # type: ignore[no-any-return]


def reparameterize(mean: Any, logvar: Any, rng: np.random.Generator) -> Any:
    """A draw from N(mean, exp(logvar)) that is differentiable by both: mean + exp(logvar/2)·noise."""
    noise = rng.standard_normal(mean.shape, dtype=np.float32).astype(mean.dtype, copy=False)
    return mean + np.exp(0.5 * logvar) * np.asarray(noise, like=mean.data)


class VAE(nn.Module):
    """`model(x, rng)` -> the loss, in nats a picture; `model.sample(n, rng)` -> pictures."""

    def __init__(
        self, data: int = 784, hidden: int = 400, latent: int = 20, *, rng: np.random.Generator
    ) -> None:
        self.latent = latent
        self.encoder = Encoder(data, hidden, latent, rng=rng)
        self.decoder = Decoder(data, hidden, latent, rng=rng)

    def forward(self, x: Any, rng: np.random.Generator) -> Tensor:
        """The negative lower bound for pictures x (B, D) with pixels in [0, 1], the mean over the batch."""
        reconstruction, kl = self.terms(x, rng)
        return (reconstruction + kl) / x.shape[0]  # type: ignore[no-any-return]

    def terms(self, x: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """-ln p(x|z) and KL(q(z|x) ‖ p(z)), each summed over the batch.

        Raises ValueError when the pictures' size is another than `data`."""
        mean, logvar = self.encoder(x)
        logits = self.decoder(reparameterize(mean, logvar, rng))
        return ops.bce_with_logits(logits, x, "sum"), ops.kl_gaussian(mean, logvar, "sum")

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """The means of the pixels of n pictures from the prior: (n, D) in [0, 1]."""
        z = rng.standard_normal((n, self.latent), dtype=np.float32)
        with no_grad():
            logits = self.decoder(np.asarray(z, like=self.decoder.fc.weight.data))
            return ops.sigmoid(logits).numpy()
