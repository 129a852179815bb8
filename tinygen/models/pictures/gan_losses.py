"""The losses of generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661).

Two networks play a game. The generator G makes points G(z) from noise z; their density is q. The
discriminator D gets points of the data, with density p, and points of the generator, and puts out one number
for each: the logit of its probability that the point is real. All losses here are functions of these numbers,
`real` of the data and `fake` of the generator, and all are minimized.

    game             loss of the discriminator          loss of the generator
    minimax          logistic_loss(real, fake)          minimax_loss(fake)           Goodfellow 2014, eq. 1
    non-saturating   logistic_loss(real, fake)          non_saturating_loss(fake)    the same, section 3
    hinge            hinge_loss(real, fake)             linear_loss(fake)            Lim & Ye 2017
    Wasserstein      wasserstein_loss(real, fake)       linear_loss(fake)            Arjovsky et al. 2017

The two penalties hold the discriminator's gradient by its input: `r1_penalty` and `gradient_penalty`. Without
one of them, the discriminator's output may become so steep that the generator learns nothing from it. The
penalties are gradients themselves, so that training takes second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygen import ops
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tape import detach
from tinygen.tensor import Tensor
from tinygen.transforms import vjp
from tinygen.types import TensorLike

# -- of the discriminator ----------------------------------------------------------------------------


def logistic_loss(real: TensorLike, fake: TensorLike) -> Tensor:
    """-E ln σ(real) - E ln(1 - σ(fake)), of logits of any shape: the cross-entropy of a classifier that
    tells real from fake. A Tensor of shape ().

    The least possible value is ln 4 - 2 JS(p ‖ q), with the divergence of Jensen and Shannon, and the best
    discriminator has the logits ln p - ln q.

    Eq.: D*(x) = p(x) / (p(x) + q(x))  (Goodfellow et al. 2014, proposition 1)
    Held by: tests/models/pictures/test_gan_losses.py::test_the_best_discriminator
    Eq.: V(D*) = -ln 4 + 2 JS(p ‖ q)  (Goodfellow et al. 2014, theorem 1)
    Held by: tests/models/pictures/test_gan_losses.py::test_the_value_of_the_best_discriminator
    """
    return ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake))


def hinge_loss(real: TensorLike, fake: TensorLike) -> Tensor:
    """E max(0, 1 - real) + E max(0, 1 + fake): points that are on the right side of the margin have no
    gradient. A Tensor of shape (). (VQGAN's program takes half of it.)

    Eq.: L_D = E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))
        (Lim & Ye 2017, arXiv:1705.02894; Miyato & Koyama 2018, eq. 8)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradients
    """
    return ops.mean(ops.relu(1 - real)) + ops.mean(ops.relu(1 + fake))


def wasserstein_loss(real: TensorLike, fake: TensorLike) -> Tensor:
    """E fake - E real. If the discriminator's slope is at most 1 everywhere, the least value is minus the
    Wasserstein distance of data and generator (`gradient_penalty` keeps the slope near 1). A Tensor of shape
    ().

    Eq.: L_D = E D(G(z)) - E D(x)  (Arjovsky et al. 2017, arXiv:1701.07875, section 3)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradients
    """
    return ops.mean(fake) - ops.mean(real)


# -- of the generator --------------------------------------------------------------------------------


def minimax_loss(fake: TensorLike) -> Tensor:
    """E ln(1 - σ(fake)): minus the discriminator's loss, as far as it depends on the generator. Its gradient
    by a logit is -σ(fake), which vanishes when the discriminator is sure that the point is fake. A Tensor of
    shape ().

    Eq.: L_G = E ln(1 - D(G(z)))  (Goodfellow et al. 2014, eq. 1)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradients
    """
    return -ops.mean(ops.softplus(fake))


def non_saturating_loss(fake: TensorLike) -> Tensor:
    """-E ln σ(fake): the game has the same fixed point, but the gradient by a logit, -σ(-fake), is largest
    where the discriminator is sure that the point is fake. A Tensor of shape ().

    Eq.: L_G = -E ln D(G(z))  (Goodfellow et al. 2014, section 3)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradients
    """
    return ops.mean(ops.softplus(-fake))


def linear_loss(fake: TensorLike) -> Tensor:
    """-E fake, the generator's loss in the hinge game and in Wasserstein's. A Tensor of shape ().

    Eq.: L_G = -E D(G(z))  (Miyato & Koyama 2018, eq. 8; Arjovsky et al. 2017, section 3)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradients
    """
    return -ops.mean(fake)


class Game(NamedTuple):
    """A pair of losses: `discriminator(real, fake)` and `generator(fake)`."""

    discriminator: Callable[[Any, Any], Tensor]
    generator: Callable[[Any], Tensor]


GAMES = {
    "minimax": Game(logistic_loss, minimax_loss),
    "non-saturating": Game(logistic_loss, non_saturating_loss),
    "hinge": Game(hinge_loss, linear_loss),
    "wasserstein": Game(wasserstein_loss, linear_loss),
}
"""The games by name."""

# -- penalties ---------------------------------------------------------------------------------------

Discriminator = Callable[[Any], Tensor]
"""Any function of a batch (B, ...) with B values, each of which depends on its own point only: with batch
norm, for example, a penalty would be something else than the papers'."""


def input_gradient(discriminator: Discriminator, x: TensorLike) -> Tensor:
    """∇D(x) of each point, (B, numbers of a point): on the tape, if the discriminator's parameters are.

    Raises ValueError when the discriminator does not give one value for each point."""
    value, pull = vjp(discriminator, detach(x))
    if value.size != len(x):
        raise ValueError(
            f"the discriminator must give one value for each of {len(x)} points, it gave {value.shape}"
        )
    (gradient,) = pull(np.ones_like(value.data))
    return gradient.reshape(len(x), -1)


def r1_penalty(discriminator: Discriminator, real: TensorLike) -> Tensor:
    """½ E |∇D(x)|² over points of the data, `real` (B, ...); add it to the discriminator's loss with a weight
    γ. At the fixed point of the game D is constant on the data, and the penalty is 0. A Tensor of shape ().

    Eq.: R_1 = γ/2 E |∇D(x)|²,  x ~ p  (Mescheder et al. 2018, arXiv:1801.04406, eq. 9)
    Held by: tests/models/pictures/test_gan_losses.py::test_r1_of_a_quadratic_discriminator,
        tests/models/pictures/test_gan_losses.py::test_r1_parity_with_torch
    """
    return 0.5 * ops.mean(np.sum(input_gradient(discriminator, real) ** 2, axis=1))


def gradient_penalty(
    discriminator: Discriminator, real: TensorLike, fake: TensorLike, *, rng: RNGLike
) -> Tensor:
    """E (|∇D(x̂)| - 1)², with x̂ between a real and a fake point at a uniformly random place. Both are (B,
    ...). Add it to Wasserstein's loss with the weight λ = 10. A Tensor of shape ().

    Raises ValueError when the two have different shapes.

    Eq.: E (|∇D(x̂)| - 1)²,  x̂ = ε x + (1 - ε) G(z),  ε ~ U[0, 1]
        (Gulrajani et al. 2017, arXiv:1704.00028, section 4)
    Held by: tests/models/pictures/test_gan_losses.py::test_gradient_penalty_of_a_quadratic_discriminator,
        tests/models/pictures/test_gan_losses.py::test_gradient_penalty_parity_with_torch
    """
    real, fake = detach(real), detach(fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"each real point needs a fake one of the same shape, got {real.shape} and {fake.shape}"
        )
    eps = as_generator(rng).random((len(real),) + (1,) * (real.ndim - 1), dtype=np.float32)
    eps = on_device_of(real, eps).astype(real.dtype)
    length = np.linalg.norm(input_gradient(discriminator, eps * real + (1 - eps) * fake), axis=1)  # (B,)
    return ops.mean((length - 1) ** 2)
