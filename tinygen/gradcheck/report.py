"""What the checker says: verdicts, kinds of mistakes, and the report that carries them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """On one variable; on everything, the one that stands lowest in this list."""

    OK = "the tape and differences agree"
    KINK = "the function has a kink here, and the tape's gradient is one that a kink allows"
    INCONCLUSIVE = "differences are too coarse here to tell"
    DOMAIN = "the function or its gradient is not finite here"
    NONDETERMINISTIC = "two runs with the same random numbers differ"
    DEAD = "no gradient arrives, although the value changes"
    WRONG = "the gradient is wrong"

    @property
    def rank(self) -> int:
        return list(Verdict).index(self)


class Kind(Enum):
    """What a mistake looks like."""

    FACTOR = "constant factor"
    SIGN = "sign"
    MISSING_FACTOR = "a factor missing or too many"
    TRANSPOSED = "transposed"
    FLIPPED = "flipped"
    SHIFTED = "shifted by one"
    SWAPPED = "gradients of two arguments swapped"
    NOT_SUMMED = "axis not summed"
    SUMMED_TWICE = "axis summed twice"
    MISSING_TERM = "a term missing"
    ONES_ONLY = "only right for a cotangent of ones"
    COTANGENT_UNUSED = "cotangent not used"
    NONLINEAR = "not linear in the cotangent"
    DETACHED = "detached"
    PARTIAL = "wrong only at some entries"
    APPROXIMATE = "nearly right"
    NAN = "not a number"
    DTYPE = "wrong dtype"
    SHAPE = "wrong shape"
    ALIASED = "aliased"
    LAYOUT = "depends on memory layout"
    RAISES = "raises an error"
    UNEXPLAINED = "wrong in no way that has a name"
    KINK = "kink"
    INCONCLUSIVE = "inconclusive"
    DOMAIN = "outside the domain"
    NONDETERMINISTIC = "nondeterministic"


@dataclass
class Finding:
    """One thing that is not as it should be: its kind, and a sentence that explains it."""

    kind: Kind
    sentence: str
    verdict: Verdict = Verdict.WRONG
    variable: str | None = None
    """The variable it was seen at, where it was seen at one."""


@dataclass
class Worst:
    """The entry where tape and differences are furthest apart."""

    index: tuple[int, ...] | None  # None when the whole variable was moved at once
    tape: float
    numeric: float
    bar: float


@dataclass
class Result:
    """What was found for one variable."""

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    entries: int  # how many were compared one by one; 0 when directions were
    directions: int
    off: int  # how many of them disagree
    difference: float  # the largest distance of tape and differences
    worst: Worst | None = None
    order: int = 1

    def __str__(self) -> str:
        many = (
            (self.entries, "entries", "entry")
            if self.entries
            else (self.directions, "directions", "direction")
        )
        counted = f"{many[0]:,} {many[1] if many[0] != 1 else many[2]}"
        if self.verdict is Verdict.OK:
            return f"{counted}, largest difference {self.difference:.1e}"
        where = self.worst
        if where is None:
            return counted
        place = f"at {list(where.index)}" if where.index is not None else "along a direction"
        return (
            f"{self.off:,} of {counted} off; worst {place}: the tape says {where.tape:.6g}, "
            f"differences {where.numeric:.6g} ± {where.bar:.1g}"
        )


@dataclass
class Culprit:
    """The first op, in order of execution, whose gradient is wrong at its actual inputs."""

    op: str
    argument: str
    where: str  # file:line that called it
    call: str  # like "matmul(float64 (2, 3), float64 (3, 4))"
    worst: Worst | None = None


@dataclass
class Report:
    """What `gradcheck` returns: true when every variable is OK and nothing else was found."""

    results: list[Result]
    findings: list[Finding] = field(default_factory=list)
    culprit: Culprit | None = None
    runs: int = 0
    seconds: float = 0.0
    seed: int = 0

    @property
    def verdict(self) -> Verdict:
        found = [r.verdict for r in self.results] + [f.verdict for f in self.findings]
        return max(found, key=lambda v: v.rank, default=Verdict.OK)

    def __bool__(self) -> bool:
        return self.verdict is Verdict.OK

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the report's text unless all is well."""
        if not self:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        bad = [r for r in self.results if r.verdict is not Verdict.OK]
        lines = [f"gradcheck: {self.verdict.name}, {self.verdict.value}"]
        if bad:
            lines[0] += f" ({len(bad)} of {len(self.results)} variables)"
        rows = [
            (r.name + (" (second order)" if r.order == 2 else ""), str(r.shape), r.verdict.name, str(r))
            for r in self.results
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        lines += [
            "  " + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]])
            for row in rows
        ]
        lines += [""] if self.findings or self.culprit else []
        lines += [f"{f.kind.value}: {f.sentence}" for f in self.findings]
        if self.culprit:
            lines.append(
                f"first wrong op: `{self.culprit.op}`, argument {self.culprit.argument}, called at {self.culprit.where}"
            )
        lines.append(f"cost: {self.runs:,} forward runs, {self.seconds:.2g} s; seed {self.seed}")
        return "\n".join(lines)

    __repr__ = __str__
