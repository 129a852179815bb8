"""Style transfer: a picture with the content of one picture and the style of another (Gatys, Ecker & Bethge
2016, *Image style transfer using convolutional neural networks*, CVPR).

A network's features F (N, M) of a layer have N channels at M places. The features themselves are the content:
what is where. Their Gram matrix G = F Fᵀ is the style: which features occur together, wherever they are. The
pixels of a picture are changed until its features are near those of the content, and its Gram matrices near
those of the style. The network is never changed; it is VGG-19 in the paper, and `vgg.py` has it.

The paper's optimizer is L-BFGS, and so is this one: SciPy's. In place of the pixels x it may change z,

    x = x_start + C K z

where K divides each frequency f by max(1, f)^p, and C mixes the channels as the style's colors are mixed.
Both are linear and invertible, so the loss has the same minima. But L-BFGS makes changes of low frequency and
in the style's colors first, where it would begin with noise: a network's gradient is mostly of high frequency
(Olah, Mordvintsev & Schubert 2017, *Feature visualization*, section "Preconditioning").
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinygen.arrays import device_of, to_device
from tinygen.models.pictures.vgg import VGG
from tinygen.modes import no_grad
from tinygen.tensor import Array, Tensor
from tinygen.types import Floats, TensorLike

CORRECTIONS = 20
"""The pairs of steps and gradients from which L-BFGS estimates the curvature."""


def gram_matrix(features: TensorLike) -> TensorLike:
    """Features (B, N, H, W) -> Gram matrices (B, N, N), sums over all places.

    Eq.: G_ij = Σ_k F_ik F_jk  (Gatys et al. 2016, eq. 3)
    Held by: tests/models/pictures/test_style.py::test_a_gram_matrix_by_hand
    """
    b, n, h, w = features.shape
    F = features.reshape(b, n, h * w)  # (B, N, M)
    return F @ F.swapaxes(1, 2)


def mean_gram(features: TensorLike) -> TensorLike:
    """G/M, (B, N, N), for features (B, N, H, W): comparable between pictures of different sizes."""
    return gram_matrix(features) / (features.shape[2] * features.shape[3])


def content_loss(features: TensorLike, target: TensorLike) -> TensorLike:
    """Half the squared distance of features from those of the content, both (B, N, H, W): a scalar.

    Eq.: L_content = ½ Σ_ij (F_ij - P_ij)²  (Gatys et al. 2016, eq. 1)
    Held by: tests/models/pictures/test_style.py::test_the_losses_by_hand
    """
    away = features - target
    return 0.5 * (away * away).sum()


def style_loss(features: TensorLike, target: TensorLike) -> TensorLike:
    """How far the Gram matrix of features (B, N, H, W) is from that of the style, given as A/M = `target`
    (B, N, N): a scalar. The style may have another number M of places.

    Eq.: E = 1/(4 N² M²) Σ_ij (G_ij - A_ij)²  (Gatys et al. 2016, eq. 4)
    Held by: tests/models/pictures/test_style.py::test_the_losses_by_hand
    """
    away = mean_gram(features) - target  # (B, N, N)
    return (away * away).sum() / (4 * features.shape[1] ** 2)


class StyleTransfer:
    """The loss of a picture, for a content and a style, each (1, 3, H, W) in [-1, 1]; their sizes may differ.

    `content_layer` and `style_layers` are names of the network's layers; the style layers have equal weights
    w that sum to 1. `alpha` weighs the content, the style has β = 1. Raises ValueError for other shapes, or a
    layer that the network lacks.

    Eq.: L_total = α L_content + β Σ_l w_l E_l  (Gatys et al. 2016, eq. 5 and 7)
    Held by: tests/models/pictures/test_style.py::test_the_total_is_its_parts
    """

    def __init__(
        self,
        network: VGG,
        content: Array,
        style: Array,
        content_layer: str,
        style_layers: Iterable[str],
        alpha: float,
    ) -> None:
        for name, picture in (("content", content), ("style", style)):
            if picture.ndim != 4 or picture.shape[:2] != (1, 3):
                raise ValueError(f"{name} must be one picture (1, 3, H, W), got {picture.shape}")
        self.network = network
        self.content_layer = content_layer
        self.style_layers = tuple(style_layers)
        self.alpha = alpha
        with no_grad():
            self.content = network.features(content, [content_layer])[content_layer].data
            found = network.features(style, self.style_layers)
            self.grams = {name: mean_gram(features).data for name, features in found.items()}

    def losses(self, x: TensorLike) -> dict[str, TensorLike]:
        """The total for a picture x (1, 3, H, W), its content and its style: scalars by name."""
        found = self.network.features(x, {self.content_layer, *self.style_layers})
        content = content_loss(found[self.content_layer], self.content)
        style = sum(style_loss(found[name], self.grams[name]) for name in self.style_layers)
        style = style / len(self.style_layers)
        return {"total": self.alpha * content + style, "content": content, "style": style}

    @no_grad()
    def correlation(self, x: Array) -> float:
        """Of the features of x in the content layer with those of the content, over all channels and places:
        1 where the content is kept."""
        features = self.network.features(x, [self.content_layer])[self.content_layer].data
        both = [to_device(part, "cpu").ravel() for part in (features, self.content)]
        return float(np.corrcoef(*both)[0, 1])


# -- the search --------------------------------------------------------------------------------------


class Changes:
    """x = x_start + C K z for pictures x (1, 3, H, W) of NumPy, see above. `power` is p: 0 leaves the
    frequencies as they are. `colors` is C (3, 3); None leaves the channels as they are."""

    def __init__(self, start: Floats, power: float, colors: Floats | None) -> None:
        h, w = start.shape[2:]
        frequencies = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)) * max(h, w)
        self.start = start
        self.factors = np.maximum(1, frequencies) ** -power  # (H, W//2 + 1)
        self.factors /= np.sqrt(np.mean(self.factors**2))
        self.colors = np.eye(3) if colors is None else colors

    def picture(self, z: Floats) -> Floats:
        return self.start + np.einsum("ij,bjhw->bihw", self.colors, self.smooth(z))

    def gradient(self, g: Floats) -> Floats:
        """The gradient with respect to z, for the gradient g with respect to x: Kᵀ Cᵀ g, and Kᵀ = K."""
        return self.smooth(np.einsum("ij,bihw->bjhw", self.colors, g))

    def smooth(self, z: Floats) -> Floats:
        """K z."""
        smoothed: Floats = np.fft.irfft2(np.fft.rfft2(z) * self.factors, s=z.shape[2:])
        return smoothed


def color_factor(picture: Array) -> Floats:
    """C (3, 3) with C Cᵀ = the covariance of the colors of a picture (1, 3, H, W), up to a factor: the mean
    of its variances becomes 1. A thousandth is added to each, so that C is invertible for a gray picture."""
    pixels = np.asarray(picture, np.float64).reshape(3, -1)
    C = np.linalg.cholesky(np.cov(pixels) + 1e-3 * np.eye(3))
    return C / np.sqrt(np.sum(C * C) / 3)


def transfer(
    objective: StyleTransfer,
    start: Array,
    evaluations: int,
    power: float,
    colors: Floats | None,
) -> Array:
    """The picture (1, 3, H, W) in [-1, 1] that L-BFGS finds from `start`, an array on the network's device.
    It computes the loss at most `evaluations` times, each with its gradient. With `power` 0 and `colors`
    None it changes the pixels, as in the paper; see `Changes`. Needs SciPy: ImportError without it."""
    from scipy.optimize import minimize

    device = device_of(start)
    changes = Changes(to_device(start, "cpu").astype(np.float64), power, colors)
    shape = start.shape

    def loss(z: Floats) -> tuple[float, Floats]:
        pixels = changes.picture(z.reshape(shape)).astype(np.float32)
        x = Tensor(to_device(pixels, device), requires_grad=True)
        total = objective.losses(x)["total"]
        total.backward()
        g = to_device(x.grad, "cpu").astype(np.float64)
        return total.item(), changes.gradient(g).ravel()

    limits = {"maxfun": evaluations, "maxiter": evaluations, "maxcor": CORRECTIONS, "ftol": 0.0, "gtol": 0.0}
    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B", options=limits)
    pixels = np.clip(changes.picture(found.x.reshape(shape)), -1, 1).astype(np.float32)
    return to_device(pixels, device)
