"""A judge of pictures of digits: a small classifier, trained on real digits, that is shown a model's samples.

It measures two things: the accuracy (does a sample that should be a 3 look like a 3?), and the distance of
two sets of pictures, the Fréchet distance of its features, as FID with a larger network (Heusel et al.
2017, arXiv:1706.08500, eq. 6). Between two Gaussians it is, by Dowson & Landau 1982,

    |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½).

A distance by itself says little: its unit depends on the judge, and it is above zero even between two
samples from one distribution, the more so the smaller they are. So compare distances of one judge and at
equal N only, and with `bounds`: the distance of real pictures and the distance of noise.

All tables use the same judge, `common_judge()`, whose weights are in `digits.safetensors` beside this file.
`python -m tinygen.judges.digits` makes that file again, on another machine up to rounding. `fingerprint`
tells whether two figures are of one judge."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinygen import nn, ops
from tinygen.data.digits import Digits, load
from tinygen.judges.frechet import frechet
from tinygen.modes import no_grad
from tinygen.ops.random import RNGLike, as_generator
from tinygen.optim import Adam, warmup_cosine
from tinygen.storage.safetensors import load_file, save_file
from tinygen.tensor import Tensor
from tinygen.types import Floats, Ids, TensorLike

CLASSES = 10
BATCH, LR, WARMUP = 64, 3e-3, 20
COMMON = Path(__file__).with_suffix(".safetensors")
COMMON_SEED = 0


class Opinion(NamedTuple):
    """The judge's output for N pictures."""

    features: Floats  # (N, 64)
    probabilities: Floats  # (N, 10), of the classes

    def accuracy(self, labels: ArrayLike) -> float:
        """The share of pictures whose most probable class is their label, `labels` (N,)."""
        return float((self.probabilities.argmax(axis=1) == np.asarray(labels)).mean())

    def confidence(self) -> float:
        """The mean of the highest probability: 1 when every picture is some digit beyond doubt."""
        return float(self.probabilities.max(axis=1).mean())

    def inception_score(self) -> float:
        """From 1, where all pictures have the same probabilities, to 10, where each is one digit beyond doubt
        and all digits are equally frequent. With this judge in place of the Inception network, so the figure
        is no one else's unit. It does not see whether the digits of a class are all alike.

        Eq.: IS = exp(E_x KL(p(y|x) ‖ p(y)))  (Salimans et al. 2016, arXiv:1606.03498, section 4)
        Held by: tests/judges/test_digits.py::test_inception_scores_by_hand
        """
        p = np.maximum(self.probabilities, np.finfo(np.float64).tiny)  # 0 ln 0 = 0
        return float(np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1))))


class Judge(nn.Module):
    """Pictures (N, 1, 8, 8) in [-1, 1] -> logits (N, 10)."""

    def __init__(self, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, rng=rng)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1, rng=rng)
        self.fc = nn.Linear(32 * 4 * 4, 64, rng=rng)
        self.out = nn.Linear(64, CLASSES, rng=rng)

    def features(self, x: TensorLike) -> Tensor:
        """The input of the last layer: (N, 64)."""
        h = ops.relu(self.conv1(x))  # (N, 16, 8, 8)
        h = ops.relu(self.conv2(h))  # (N, 32, 4, 4)
        return ops.relu(self.fc(h.reshape(len(x), 32 * 4 * 4)))

    def forward(self, x: TensorLike) -> Tensor:
        return self.out(self.features(x))

    @no_grad()
    def opinion(self, pictures: TensorLike, batch: int = 500) -> Opinion:
        """Features and probabilities of pictures (N, 1, 8, 8), computed `batch` at a time."""
        if pictures.ndim != 4 or pictures.shape[1:] != (1, 8, 8) or not len(pictures):
            raise ValueError(f"pictures must be (N, 1, 8, 8) with N at least 1, got {pictures.shape}")
        features = [self.features(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
        probabilities = [ops.softmax(self.out(f)).numpy() for f in features]
        return Opinion(
            np.concatenate([f.numpy() for f in features]).astype(np.float64),
            np.concatenate(probabilities).astype(np.float64),
        )


def train_judge(pictures: TensorLike, labels: Ids, steps: int = 2000, *, rng: RNGLike) -> Judge:
    """A judge that has learned from pictures (N, 1, 8, 8) in [-1, 1] and labels (N,), in some seconds.

    Each picture is shifted at random by up to one pixel each time it is used. The judge classifies 99 % of
    the test pictures of `digits.load()` correctly, and all of the training pictures. `steps` must be above
    20."""
    rng = as_generator(rng)
    judge = Judge(rng=rng)
    optimizer = Adam(judge.parameters())
    for step in range(steps):
        optimizer.lr = warmup_cosine(step, LR, 0.0, WARMUP, steps)
        these = rng.integers(len(pictures), size=BATCH)
        loss = ops.cross_entropy(judge(shift_at_random(pictures[these], rng=rng)), labels[these])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge


def shift_at_random(pictures: TensorLike, *, rng: RNGLike) -> TensorLike:
    """N pictures, each shifted by -1, 0 or 1 pixel down and across; uncovered pixels are background, -1."""
    n, _, h, w = pictures.shape
    wide = np.pad(pictures, ((0,), (0,), (1,), (1,)), constant_values=-1)
    down, across = as_generator(rng).integers(3, size=(2, n, 1, 1))
    rows, columns = down + np.arange(h)[:, None], across + np.arange(w)  # (N, H, 1), (N, 1, W)
    return wide[np.arange(n)[:, None, None], 0, rows, columns][:, None]


# -- the judge of all tables -----------------------------------------------------------------------


def common_judge() -> Judge:
    """The judge of all tables of digits: `train_judge` on the training digits with seed 0, its weights then
    rounded to float16. It depends on no run, and is the same on every machine."""
    judge = Judge(rng=0)
    judge.load_state_dict({name: x.astype(np.float32) for name, x in load_file(COMMON).items()})
    return judge


def fingerprint(judge: Judge) -> str:
    """The first eight digits of the SHA-256 of the judge's weights, in the order of their names."""
    weights = sorted(judge.state_dict().items())
    return sha256(b"".join(np.ascontiguousarray(x, "<f4").tobytes() for _, x in weights)).hexdigest()[:8]


# -- the distance ----------------------------------------------------------------------------------


class Bounds(NamedTuple):
    """The distances between which a model's Fréchet distance to the test pictures lies."""

    floor: float  # of as many real training pictures: the mean of the draws
    spread: float  # the standard deviation of the draws
    ceiling: float  # of as many pictures of noise


def bounds(judge: Judge, train: Digits, test: Digits, draws: int = 10, *, rng: RNGLike) -> Bounds:
    """Distances to the N pictures of `test` at N: for `draws` choices of training digits, as many of each
    class as in `test`; and for pixels uniform in [-1, 1]. A model's samples are to be compared with `test` at
    this N too.

    The classes count: choices of any classes are farther from the balanced test digits, and a model that is
    told the class could be nearer than they are. Raises ValueError when `train` has too few of a class."""
    rng = as_generator(rng)
    counts = np.bincount(test.labels, minlength=CLASSES)
    of_each = [np.flatnonzero(train.labels == k) for k in range(CLASSES)]
    pairs = list(zip(of_each, counts, strict=True))
    for k, (these, count) in enumerate(pairs):
        if len(these) < count:
            raise ValueError(f"the floor needs {count} training pictures of class {k}, got {len(these)}")
    real, of_train = judge.opinion(test.pictures).features, judge.opinion(train.pictures).features
    floors = []
    for _ in range(draws):
        chosen = np.concatenate([rng.choice(these, count, replace=False) for these, count in pairs])
        floors.append(frechet(of_train[chosen], real))
    noise = rng.uniform(-1, 1, test.pictures.shape).astype(np.float32)
    ceiling = frechet(judge.opinion(noise).features, real)
    return Bounds(float(np.mean(floors)), float(np.std(floors)), ceiling)


if __name__ == "__main__":
    learned = train_judge(*load()[0], rng=COMMON_SEED)
    save_file(COMMON, {name: x.astype(np.float16) for name, x in learned.state_dict().items()})
    print(f"{COMMON.name}: judge {fingerprint(common_judge())}")
