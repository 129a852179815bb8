"""The test digits as the common judge sees them: all drawings of digits are compared with them."""

from __future__ import annotations

from shared.table import Expectation, Figure

from tinygen.data.digits import CLASSES, Digits
from tinygen.judges.digits import Opinion, bounds, common_judge, fingerprint
from tinygen.judges.frechet import frechet


class JudgedDigits:
    """The judge, its opinion of the test digits, and the ends of the scale of Fréchet distances: `floor` for
    as many other real digits (with the standard deviation `spread`), `ceiling` for noise."""

    def __init__(self, train: Digits, test: Digits) -> None:
        self.judge = common_judge()
        self.real = self.judge.opinion(test.pictures)
        self.read_right = self.real.accuracy(test.labels)
        self.floor, self.spread, self.ceiling = bounds(self.judge, train, test, rng=0)
        print(f"judge {fingerprint(self.judge)} reads {self.read_right:.1%} of the test digits right")
        scale = f"{self.floor:.2f} ± {self.spread:.2f}, of noise {self.ceiling:.0f}"
        print(f"Fréchet distance of real digits {scale}")

    def distance(self, seen: Opinion) -> float:
        """The Fréchet distance of digits from the test digits."""
        return frechet(seen.features, self.real.features)

    def distance_figure(self, name: str, distance: float, expected: Expectation | None = None) -> Figure:
        """A row of the final table, between the floor and the ceiling."""
        return Figure(f"{name}Fréchet distance", distance, expected, self.floor, self.ceiling)

    def read_figure(self, name: str, share: float, expected: Expectation | None = None) -> Figure:
        """A row for the share of digits that are read right, between the share of the test digits and
        chance."""
        return Figure(name, share, expected, self.read_right, 1 / CLASSES)

    def confidence_figure(self, name: str, seen: Opinion) -> Figure:
        """A row for the judge's confidence, between that in the test digits and the least possible one."""
        return Figure(name, seen.confidence(), None, self.real.confidence(), 1 / CLASSES)

    def spread_figure(self) -> Figure:
        return Figure("Fréchet distance of real digits, std", self.spread)
