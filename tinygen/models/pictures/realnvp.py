"""RealNVP: a network that can be inverted, and so gives the exact likelihood of its data (Dinh,
Sohl-Dickstein & Bengio 2017, arXiv:1605.08803). Here the data are points.

A function f that can be inverted takes data x to codes z = f(x) of the same size, and the codes are
N(0, 1). Then the density of x is the density of its code, times the factor by which f stretches space at x
(eq. 2 and 3):

    ln p(x) = ln N(f(x); 0, 1) + ln |det ∂f/∂x|.

f is a chain of couplings: then the determinant is cheap, and the inverse costs as much as f itself. A
coupling does not change the coordinates in its mask. From these, a network computes by how much the other
coordinates are scaled and shifted. The inverse of a coupling needs the same network, not its inverse. The
Jacobian is triangular, with the scales on its diagonal. The next coupling has the opposite mask.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.nn.module import cast
from tinygen.ops.loss import log_normal
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.types import TensorLike


class Coupling(nn.Module):
    """x (B, D) -> y (B, D) and ln |det ∂y/∂x| (B,). `mask` (D,) is 1 for the coordinates that stay, and 0 for
    those that are scaled and shifted. The network has `layers` hidden layers of width `channels`.

    At the start y = x: the network's last layer is 0. The logarithms of the scales are tanh times a learned
    factor for each coordinate, so that no scale explodes."""

    def __init__(self, mask: Array, channels: int, layers: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        dim = len(mask)
        self.mask = Tensor(np.asarray(mask, np.float32))
        sizes = [dim] + [channels] * layers
        self.hidden = nn.ModuleList([nn.Linear(a, b, rng=rng) for a, b in pairwise(sizes)])
        self.out = nn.Linear(channels, 2 * dim, rng=rng)
        for parameter in self.out.parameters():
            parameter.replace(np.zeros_like(parameter.data))
        self.factor = nn.Parameter(nn.init.ones((dim,)))

    def scale_and_shift(self, kept: Any) -> tuple[Any, Any]:
        """The logarithms of the scales, and the shifts, both (B, D), from the coordinates that stay (B, D),
        where the others are 0. Both results are 0 for the coordinates that stay."""
        h = kept
        for layer in self.hidden:
            h = ops.silu(layer(h))  # (B, C)
        log_scale, shift = ops.split(self.out(h), 2, axis=1)  # (B, D), (B, D)
        changed = 1 - self.mask  # (D,)
        return changed * (self.factor * np.tanh(log_scale)), changed * shift

    def forward(self, x: TensorLike) -> tuple[Tensor, Tensor]:
        """y (B, D) of x (B, D), and ln |det ∂y/∂x| (B,).

        Eq.: y = b ⊙ x + (1 - b) ⊙ (x ⊙ exp(s(b ⊙ x)) + t(b ⊙ x))  (Dinh et al. 2017, eq. 9)
        Held by: tests/models/pictures/test_realnvp.py::test_a_coupling_by_hand

        Eq.: ln |det ∂y/∂x| = Σ_j s(b ⊙ x)_j  (Dinh et al. 2017, section 3.3)
        Held by: tests/models/pictures/test_realnvp.py::test_the_log_determinant_is_the_jacobian_s
        """
        log_scale, shift = self.scale_and_shift(self.mask * x)
        return x * np.exp(log_scale) + shift, np.sum(log_scale, axis=1)

    def inverse(self, y: TensorLike) -> Tensor:
        """x (B, D) of y (B, D).

        Eq.: x = b ⊙ y + (1 - b) ⊙ ((y - t(b ⊙ y)) ⊙ exp(-s(b ⊙ y)))  (Dinh et al. 2017, eq. 8)
        Held by: tests/models/pictures/test_realnvp.py::test_the_inverse_undoes_forward
        """
        log_scale, shift = self.scale_and_shift(self.mask * y)
        return (y - shift) * np.exp(-log_scale)


class RealNVP(nn.Module):
    """`model.loss(x)` -> nats a point; `model.log_prob(x)` -> ln p of each; `model.sample(n, rng=rng)`.

    Points have `dim` coordinates, D. `couplings` is the number of couplings. Their masks alternate: the first
    keeps coordinates 0, 2, 4, ..., the second 1, 3, 5, ... . Each has a perceptron of `layers` hidden layers
    of width `channels`, with SiLU, so that the density is smooth. At the start the density is N(0, 1): scale
    data to mean 0 and variance 1.

    Raises ValueError for less than two coordinates (there would be nothing to compute from), two couplings (a
    coordinate would never change), or one layer."""

    def __init__(
        self, dim: int = 2, channels: int = 64, layers: int = 2, couplings: int = 6, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        for name, value, least in (("dim", dim, 2), ("layers", layers, 1), ("couplings", couplings, 2)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.dim = dim
        masks = [np.arange(dim) % 2 == k % 2 for k in range(couplings)]
        self.couplings = nn.ModuleList([Coupling(mask, channels, layers, rng=rng) for mask in masks])

    def forward(self, x: TensorLike) -> Tensor:
        """The codes z (B, D) of points x (B, D), which are N(0, 1) if the model is right."""
        return self.codes_and_log_det(x)[0]

    def codes_and_log_det(self, x: TensorLike) -> tuple[Tensor, Tensor]:
        """The codes z = f(x) (B, D) of points x (B, D), and ln |det ∂f/∂x| at each, (B,), the sum over the
        couplings. Raises ValueError for x of another shape."""
        z = self.points(x)
        log_det: Any = 0.0
        for coupling in self.couplings:
            z, change = coupling(z)
            log_det = log_det + change
        return z, log_det

    def inverse(self, z: TensorLike) -> Tensor:
        """The points x (B, D) with codes z (B, D): the inverse couplings, the last one first."""
        x = self.points(z)
        for coupling in reversed(list(self.couplings)):
            x = coupling.inverse(x)
        return x

    def points(self, x: TensorLike) -> Any:
        """x in the dtype of the weights, if it is (B, D)."""
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"points must be (B, {self.dim}), got shape {x.shape}")
        return cast(x, self.couplings[0].factor)

    def log_prob(self, x: TensorLike) -> Tensor:
        """ln p(x) of each of the points x (B, D), in nats, (B,).

        Eq.: ln p(x) = ln p_Z(f(x)) + ln |det ∂f(x)/∂x|  (Dinh et al. 2017, eq. 3)
        Held by: tests/models/pictures/test_realnvp.py::test_the_density_integrates_to_1,
            tests/models/pictures/test_realnvp.py::test_the_density_is_that_of_the_samples
        """
        z, log_det = self.codes_and_log_det(x)
        return np.sum(log_normal(z, 0.0, 0.0), axis=1) + log_det

    def loss(self, x: TensorLike) -> Tensor:
        """The negative log likelihood of points x (B, D), in nats, averaged over the batch; of shape ()."""
        return -np.mean(self.log_prob(x))  # type: ignore[return-value]

    @no_grad()
    def sample(self, n: int, *, rng: RNGLike) -> Array:
        """n points with codes from N(0, 1), (n, D)."""
        z = as_generator(rng).standard_normal((n, self.dim), dtype=np.float32)
        return self.inverse(np.asarray(z, like=next(iter(self.parameters())).data)).data
