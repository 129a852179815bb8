"""Measurements for the examples with pictures: distances between pictures, and baselines that need no
network."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen import no_grad
from tinygen.data import digits
from tinygen.density import ProbabilisticPCA
from tinygen.models.pictures.vqvae import VectorQuantizer

LEVELS = digits.INK + 1  # a pixel of a digit has one of 17 values


def psnr(pictures: Any, others: Any) -> float:
    """The peak signal-to-noise ratio in dB of pictures with values in [-1, 1]: 10 log10(2² / mean square)."""
    return float(10 * np.log10(4 / np.mean((pictures - others) ** 2, dtype=np.float64)))


def distance_to_nearest(pictures: Any, others: Any) -> float:
    """The median distance of pictures (N, ...) to the nearest of `others` (M, ...): 0 for copies."""
    x, y = (np.asarray(p, np.float64).reshape(len(p), -1) for p in (pictures, others))
    squared = np.square(x).sum(1)[:, None] - 2 * x @ y.T + np.square(y).sum(1)  # (N, M)
    return float(np.median(np.sqrt(np.maximum(squared.min(axis=1), 0))))


def pixelwise_bits(train: Any, test: Any) -> float:
    """Bits a pixel of a model that knows only how often each pixel has each level."""
    x, y = (np.rint((p.reshape(len(p), -1) + 1) * (LEVELS - 1) / 2).astype(int) for p in (train, test))
    counts = np.ones((x.shape[1], LEVELS))  # start each count at 1, so that no level has probability 0
    np.add.at(counts, (np.arange(x.shape[1]), x), 1)
    p = counts / counts.sum(axis=1, keepdims=True)
    return float(-np.log2(p[np.arange(x.shape[1]), y]).mean())


def simple_likelihoods(
    train: Any, test: Any, pixels: str, latent: int
) -> tuple[float, float | None, float | None]:
    """ln p of the test pictures, in nats: of the mean picture; of PPCA with as many latent numbers; and the
    upper bound for any model. None where there is no such value. The pixels in [-1, 1] are Gaussian, or, in
    [0, 1], Bernoulli."""
    x, y = (p.reshape(len(p), -1) for p in (train, test))
    if pixels == "gaussian":
        x, y = x.astype(np.float64), y.astype(np.float64)
        return ProbabilisticPCA(0).fit(x).score(y), ProbabilisticPCA(latent).fit(x).score(y), None
    x, y = (((p + 1) / 2).astype(np.float64) for p in (x, y))
    # Clipped, because a pixel that never has ink in training may have some in the test.
    means = [np.clip(p, 1e-4, 1 - 1e-4) for p in (x.mean(axis=0), y)]
    worst, best = [float((y * np.log(p) + (1 - y) * np.log1p(-p)).sum(axis=1).mean()) for p in means]
    return worst, None, best


def interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a probability by the share of n independent draws (Wilson 1927)."""
    z = 1.96
    middle, width = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * width) / (1 + z * z / n) for sign in (-1, 1))
    return float(low), float(high)


# -- k-means of patches: one code for each square of a picture ---------------------------------------


def patches(pictures: Any, side: int) -> Any:
    """Pictures (N, C, H, W) -> a map of their patches, (N, C·side², H/side, W/side)."""
    n, c, h, w = pictures.shape
    split = pictures.reshape(n, c, h // side, side, w // side, side).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(n, c * side * side, h // side, w // side)


def join_patches(maps: Any, side: int) -> Any:
    """`patches` undone."""
    n, d, h, w = maps.shape
    split = maps.reshape(n, -1, side, side, h, w).transpose(0, 1, 4, 2, 5, 3)
    return split.reshape(n, d // side**2, h * side, w * side)


@no_grad()
def k_means(maps: Any, codes: int, rng: np.random.Generator) -> VectorQuantizer:
    """The codebook of the vectors in maps (N, D, H, W) by Lloyd's algorithm. This is a quantizer whose moving
    averages keep only the last batch, and whose batch has all maps."""
    quantizer = VectorQuantizer(codes, maps.shape[1], ema=True, decay=0.0, rng=rng)
    quantizer.restart(maps, below=np.inf, rng=rng)
    for round in range(30):
        quantizer(maps)
        if round < 20:
            quantizer.restart(maps, rng=rng)
    return quantizer.eval()
