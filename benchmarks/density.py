"""The densities of tinygen.density measured: the curse of dimensions, and ln p of handwritten digits.

    python -m benchmarks.density               # the tables of docs/density.md, in some minutes
    python -m benchmarks.density --rows 200    # in seconds

For the curse, the density is the standard normal in D dimensions, of which everything else can be computed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from tinygen.data import digits
from tinygen.density import Empirical, GaussianKDE, GaussianMixture, ProbabilisticPCA
from tinygen.density.estimator import Density

DIMENSIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


# -- the curse of dimensions -------------------------------------------------------------------------


def divergence(model: Density, x: np.ndarray) -> float:
    """The mean of ln p - ln q over rows x (M, D) from the standard normal p: an estimate of KL(p ‖ q), with
    the density q of the model."""
    log_p = -0.5 * (np.sum(x**2, axis=1) + x.shape[1] * np.log(2 * np.pi))
    return float(np.mean(log_p - model.score_samples(x)))


def kernel_beside_gaussian(dim: int, rows: int, judged: int, seed: int) -> tuple[float, float, float]:
    """The bandwidth of the highest likelihood, and the divergences of the kernel density and of one Gaussian
    with a full covariance, both fitted to the same rows."""
    rng = np.random.default_rng([seed, dim])
    x, new = rng.standard_normal((rows, dim)), rng.standard_normal((judged, dim))
    kernel = GaussianKDE("likelihood").fit(x)
    gaussian = GaussianMixture(1, rng=0).fit(x)
    return kernel.bandwidth_, divergence(kernel, new), divergence(gaussian, new)


def relative_error(rows: float, dim: int, squared_bandwidths: np.ndarray) -> float:
    """E (p̂(0) - p(0))²/p(0)² of the kernel density of that many rows, with the best of these h².

    Exact, as Gaussian kernels and a Gaussian density have Gaussian integrals: the mean of a kernel at 0 is
    (1 + h²)^(-D/2) p(0), and the mean of its square is (h² (2 + h²))^(-D/2) p(0)²."""
    s = squared_bandwidths
    mean, square = (1 + s) ** (-dim / 2), (s * (2 + s)) ** (-dim / 2)
    return float(np.min((square - mean**2) / rows + (mean - 1) ** 2))


def rows_needed(dim: int, error: float = 0.1) -> int:
    """The fewest rows with a relative error at 0 below `error`. Silverman 1986, table 4.2, has the same for
    0.1, to three digits."""
    s = np.exp(np.linspace(-8, 3, 20_001))
    high = 1
    while relative_error(high, dim, s) >= error:
        high *= 2
    low = high // 2  # too few
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if relative_error(middle, dim, s) < error else (middle, high)
    return high


def curse(rows: int, judged: int, seeds: int) -> Iterator[str]:
    """The two tables, line by line."""
    yield f"| dimensions | bandwidth | KL of kernels, nats | of {seeds} seeds | KL of one Gaussian, nats |"
    yield "|---:|---:|---:|---|---:|"
    for dim in DIMENSIONS:
        found = np.array([kernel_beside_gaussian(dim, rows, judged, seed) for seed in range(seeds)])
        bandwidth, kernel, gaussian = found.mean(axis=0)
        each = ", ".join(f"{kl:.3f}" for kl in found[:, 1])
        yield f"| {dim} | {bandwidth:.3f} | **{kernel:.3f}** | {each} | {gaussian:.3f} |"
    yield ""
    yield "| dimensions | rows needed |"
    yield "|---:|---:|"
    for dim in range(1, 11):
        yield f"| {dim} | {rows_needed(dim):,} |"


# -- digits ------------------------------------------------------------------------------------------


def densities() -> dict[str, Density]:
    """By name, from the lowest rung."""
    found: dict[str, Density] = {
        "the empirical distribution": Empirical(),
        "one round Gaussian (probabilistic PCA of 0 numbers)": ProbabilisticPCA(0),
        "kernels, the likeliest bandwidth": GaussianKDE("likelihood"),
    }
    for kind in ("spherical", "tied", "diag", "full"):
        found[f"10 Gaussians, {kind}"] = GaussianMixture(10, kind, rng=0)
    return found | {f"probabilistic PCA of {q} numbers": ProbabilisticPCA(q) for q in (2, 16, 30)}


def dequantize(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures (N, 1, 8, 8) as rows (N, 64) of levels 0 … 16 plus uniform noise from 0 to 1. A density of
    pixels on levels alone could be as high as one likes; the mean of ln p with the noise is at most ln P of
    the levels (Theis et al. 2016, arXiv:1511.01844, section 3.1)."""
    levels = np.rint((pictures + 1) * digits.INK / 2).reshape(len(pictures), -1)
    return levels + rng.random(levels.shape)


def ladder() -> Iterator[str]:
    """ln p of digits that the densities have seen, and of those that they have not, line by line."""
    rng = np.random.default_rng(0)
    train, test = (dequantize(part.pictures, rng) for part in digits.load())
    yield "| density | training digits, nats | test digits, nats | bits a pixel |"
    yield "|---|---:|---:|---:|"
    for name, model in densities().items():
        model.fit(train)
        nats = model.score(test)
        bits = -nats / test.shape[1] / np.log(2)
        yield f"| {name} | {model.score(train):.1f} | **{nats:.1f}** | {bits:.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=500, help="that the densities are fitted to")
    parser.add_argument(
        "--judged", type=int, default=2000, help="new rows that the divergence is a mean over"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, …; the table has means")
    args = parser.parse_args(arguments)
    if args.rows < 2 or min(args.judged, args.seeds) < 1:
        parser.error("--rows is at least 2, --judged and --seeds are at least 1")
    for line in (*curse(args.rows, args.judged, args.seeds), "", *ladder()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
