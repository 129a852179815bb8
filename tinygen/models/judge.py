"""A judge of pictures: a small classifier, trained here on real digits, that looks at those of a model.

It says what it sees (does the picture that was to be a 3 look like a 3?), and how far two sets of pictures
are apart: the Fréchet distance of its features, as FID has it with a larger network (Heusel et al. 2017,
arXiv:1706.08500, eq. 6). Between two Gaussians, by Dowson & Landau 1982,

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½).

A distance by itself says little: it is in the judge's own units, and above zero even between two samples of
one distribution, the more so the smaller they are. So compare at equal N only, and see it between
`bounds`: what real pictures get, and what noise gets.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinygen import nn, ops
from tinygen.modes import no_grad
from tinygen.optim import Adam, warmup_cosine
from tinygen.tensor import Tensor

Floats = NDArray[np.float64]

CLASSES = 10
BATCH, LR, WARMUP = 64, 3e-3, 20


class Opinion(NamedTuple):
    """What the judge makes of N pictures."""

    features: Floats  # (N, 64)
    probabilities: Floats  # (N, 10), of the classes

    def accuracy(self, labels: ArrayLike) -> float:
        """The share of pictures that look most like the one of `labels` (N,) that they should be."""
        return float((self.probabilities.argmax(axis=1) == np.asarray(labels)).mean())

    def confidence(self) -> float:
        """The mean of the highest probability: 1 when every picture is some digit beyond doubt."""
        return float(self.probabilities.max(axis=1).mean())


class Judge(nn.Module):
    """Pictures (N, 1, 8, 8) in [-1, 1] -> logits (N, 10)."""

    def __init__(self, *, rng: np.random.Generator) -> None:
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, rng=rng)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, rng=rng)
        self.fc = nn.Linear(32 * 4 * 4, 64, rng=rng)
        self.out = nn.Linear(64, CLASSES, rng=rng)

    def features(self, x: Any) -> Tensor:
        """What the last layer decides from: (N, 64)."""
        h = ops.relu(self.conv1(x))  # (N, 16, 8, 8)
        h = ops.relu(self.conv2(h))  # (N, 32, 4, 4)
        return ops.relu(self.fc(h.reshape(len(x), -1)))

    def forward(self, x: Any) -> Tensor:
        return self.out(self.features(x))  # type: ignore[no-any-return]

    @no_grad()
    def look(self, pictures: Any, batch: int = 500) -> Opinion:
        """Features and probabilities of pictures (N, 1, 8, 8), computed `batch` at a time."""
        if pictures.ndim != 4 or pictures.shape[1:] != (1, 8, 8) or not len(pictures):
            raise ValueError(f"pictures must be (N, 1, 8, 8) with N at least 1, got {pictures.shape}")
        features = [self.features(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
        probabilities = [ops.softmax(self.out(f)).numpy() for f in features]
        return Opinion(
            np.concatenate([f.numpy() for f in features]).astype(np.float64),
            np.concatenate(probabilities).astype(np.float64),
        )


def train_judge(pictures: Any, labels: Any, rng: np.random.Generator, steps: int = 2000) -> Judge:
    """A judge that has learned from pictures (N, 1, 8, 8) in [-1, 1] and labels (N,), in some seconds.

    Each time it sees a picture, that is moved by up to one pixel in each direction. Of the test pictures of
    `digits.load()` it knows 99 %, of those it learned from all. `steps` must be above 20."""
    judge = Judge(rng=rng)
    optimizer = Adam(judge.parameters(), lr=LR)
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, LR, 0.0, WARMUP, steps)
        these = rng.integers(len(pictures), size=BATCH)
        loss = ops.cross_entropy(judge(moved(pictures[these], rng)), labels[these])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge


def moved(pictures: Any, rng: np.random.Generator) -> Any:
    """Each of N pictures moved by -1, 0 or 1 pixel down and across, with paper (-1) where it was not."""
    n, _, h, w = pictures.shape
    wide = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
    down, across = rng.integers(3, size=(2, n, 1, 1))
    rows, columns = down + np.arange(h)[:, None], across + np.arange(w)  # (N, H, 1), (N, 1, W)
    return wide[np.arange(n)[:, None, None], 0, rows, columns][:, None]


# -- the distance ----------------------------------------------------------------------------------


def frechet(a: ArrayLike, b: ArrayLike) -> float:
    """The Fréchet distance of two sets of features, (N, F) and (M, F), each taken for a Gaussian of its mean
    and its covariance (with N - 1). In the features' units, squared.

    ValueError when the sets have fewer than two rows or other numbers of features."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features must be (N, F) and (M, F), N and M at least 2: got {a.shape}, {b.shape}")
    cov_a, cov_b = (np.cov(x, rowvar=False).reshape(x.shape[1], -1) for x in (a, b))
    return frechet_of_gaussians(a.mean(axis=0), cov_a, b.mean(axis=0), cov_b)


def frechet_of_gaussians(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """The same from means (F,) and covariances (F, F), which may be singular.

    (Σ₁Σ₂)^½ has the trace of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric. That is (M Mᵀ)^½ with M = Σ₁^½ Σ₂^½, and
    its trace the sum of M's singular values: without a product of covariances, whose square root would turn
    rounding errors of 1e-16 into 1e-8."""
    cov_a, cov_b = np.asarray(cov_a, np.float64), np.asarray(cov_b, np.float64)
    away = np.square(np.subtract(mean_a, mean_b)).sum()
    shared = np.linalg.svd(square_root(cov_a) @ square_root(cov_b), compute_uv=False).sum()
    return float(away + np.trace(cov_a) + np.trace(cov_b) - 2 * shared)


def square_root(covariance: Floats) -> Floats:
    """The symmetric square root, of the eigenvalues; those below zero by rounding count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


class Bounds(NamedTuple):
    """Between what a model's Fréchet distance to the test pictures lies."""

    floor: float  # of as many real training pictures
    ceiling: float  # of as many pictures of noise


def bounds(judge: Judge, train: Any, test: Any, rng: np.random.Generator, draws: int = 5) -> Bounds:
    """Distances to N pictures `test` at N: the mean for `draws` choices of N of the pictures `train`, and for
    pixels uniform in [-1, 1]. A model's samples are to be compared with `test` at this N too."""
    if len(train) < len(test):
        raise ValueError(f"the floor at N = {len(test)} needs as many training pictures, got {len(train)}")
    real, seen = judge.look(test).features, judge.look(train).features
    chosen = [rng.choice(len(seen), len(real), replace=False) for _ in range(draws)]
    noise = rng.uniform(-1, 1, test.shape).astype(np.float32)
    return Bounds(
        float(np.mean([frechet(seen[these], real) for these in chosen])),
        frechet(judge.look(noise).features, real),
    )
