"""The results of a check: verdicts, kinds of mistakes, and the report."""

from __future__ import annotations

import html
import linecache
import os
import textwrap
from dataclasses import dataclass, field
from enum import Enum

MANY = 12  # if there are more variables, those that are OK are only counted
WIDTH = 110


class Verdict(Enum):
    """The verdict on one variable. The verdict on the whole is the gravest one, the last in this list."""

    OK = "the tape and differences agree"
    KINK = "there is a kink here, and the tape's gradient is one of those that a kink allows"
    INCONCLUSIVE = "differences are too coarse here to tell"
    UNSUPPORTED = "the first order is right, a second order is not supported here"
    DOMAIN = "the function or its gradient is not finite here"
    NONDETERMINISTIC = "two runs with the same random numbers differ"
    DEAD = "no gradient arrives, although the value changes"
    WRONG = "the gradient is wrong"

    @property
    def rank(self) -> int:
        """Its place in the order above: a higher one is graver."""
        return list(Verdict).index(self)


class Kind(Enum):
    """The kind of a finding: for a wrong gradient, the kind of mistake, which says where to look.

    docs/gradcheck.md has a table of them, with examples."""

    CONSTANT = "wrong constant"
    SLOPE = "wrong slope"
    TERM = "wrong term"
    PLACE = "wrong place"
    SUM = "wrong sum"
    MASK = "wrong mask"
    COTANGENT = "cotangent misused"
    DETACHED = "detached"
    STATE = "state changed"
    STEPS = "value in steps"
    NAN = "not a number"
    SHAPE = "wrong shape"
    DTYPE = "wrong in float32"
    LAYOUT = "depends on memory layout"
    REPLAY = "another gradient in a replay"
    RAISES = "raises"
    UNSUPPORTED = "second order not supported"
    KINK = "kink"
    INCONCLUSIVE = "inconclusive"
    DOMAIN = "outside the domain"


@dataclass
class Finding:
    """One mistake: its kind, and a sentence that explains it."""

    kind: Kind
    sentence: str
    verdict: Verdict = Verdict.WRONG
    variable: str | None = None  # the variable with the mistake: "input x", or "argument x" of the op
    op: str | None = None
    where: str | None = None  # "file:line" that called the op
    harmless: bool = False  # about float32 or another layout: no number of this check is wrong
    other: Kind | None = None  # a second kind, if the evidence fits both
    vague: bool = False  # a finding about another argument or output may say more

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind, and the second one if the evidence fits both; the likelier one is the first."""
        return (self.kind,) if self.other is None else (self.kind, self.other)

    def __str__(self) -> str:
        return f"{' or '.join(kind.value for kind in self.kinds)}: {self.sentence}"


@dataclass
class Worst:
    """The entry with the largest distance between tape and differences."""

    index: tuple[int, ...] | None  # None if all entries were moved at once
    tape: float
    numeric: float
    bar: float  # the error bar of `numeric`

    def __str__(self) -> str:
        place = "along a random direction" if self.index is None else f"at {list(self.index)}"
        return f"{place} the tape says {self.tape:.6g}, differences say {self.numeric:.6g} ± {self.bar:.0e}"


@dataclass
class Result:
    """The result for one variable."""

    name: str
    shape: tuple[int, ...]
    verdict: Verdict
    entries: int = 0  # how many were compared one by one; 0 if all were moved in `directions`
    directions: int = 0
    off: int = 0  # how many of them disagree
    difference: float = 0.0  # the largest distance of tape and differences
    worst: Worst | None = None
    order: int = 1
    stuck: int = 0  # entries that cannot be moved alone, since the function raises an error
    refused: str = ""  # that error
    idle: bool = False  # both are 0 everywhere: the value does not depend on it here

    @property
    def count_text(self) -> str:
        """How many entries or directions were checked, in words."""
        n, words = (
            (self.entries, "entr") if self.entries or not self.directions else (self.directions, "direction")
        )
        ending = {"entr": ("y", "ies"), "direction": ("", "s")}[words][n != 1]
        return f"{n:,} {words}{ending}"

    @property
    def details(self) -> str:
        """The number of comparisons and the worst difference, in words."""
        if self.idle:
            return f"{self.count_text}, all 0: the value does not depend on it here"
        if self.worst is not None:
            many = f"{self.off:,} of {self.count_text} off, " if self.off else ""
            return f"{many}{'worst ' if self.off > 1 else ''}{self.worst}"
        if not (self.entries or self.directions):
            return ""
        rest = f"; {self.stuck:,} cannot be moved ({self.refused})" if self.stuck else ""
        return f"{self.count_text}, largest difference {self.difference:.0e}{rest}"


@dataclass
class Culprit:
    """The first op, in order of execution, that is wrong at its actual inputs."""

    op: str
    where: str  # "file:line" that called it
    call: str  # "matmul(float64 (2, 3), float64 (3, 4))"
    arguments: list[str]  # those whose gradient is wrong
    result: Result | None = None

    def __str__(self) -> str:
        return f"{self.call}, called at {short_place(self.where)}"

    @property
    def source(self) -> str:
        """The line that called it, if its file can be read."""
        path, _, line = self.where.rpartition(":")
        return linecache.getline(path, int(line)).strip() if line.isdigit() else ""


def short_place(where: str) -> str:
    """ "file:line" with the path from here, if the file is below."""
    path = os.path.relpath(where) if os.path.isabs(where) else where
    return where if path.startswith("..") else path


@dataclass
class Report:
    """The result of `gradcheck`: true if every variable is OK and there are no findings."""

    results: list[Result] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)  # the best explanation first
    culprit: Culprit | None = None
    notes: list[str] = field(default_factory=list)  # information that does not change the verdict
    implementations: str = ""  # which implementations ran, and the distance of float32 from float64
    runs: int = 0  # how often the function was run forward
    seconds: float = 0.0
    seed: int = 0

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict on a variable; if all are OK, the gravest one of the findings."""
        worst = max((r.verdict for r in self.results), key=lambda v: v.rank, default=Verdict.OK)
        if worst is not Verdict.OK:
            return worst
        return max((f.verdict for f in self.findings), key=lambda v: v.rank, default=worst)

    @property
    def kind(self) -> Kind | None:
        """The kind of the first finding."""
        return self.findings[0].kind if self.findings else None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the first finding: two if the evidence fits both, the likelier one first."""
        return self.findings[0].kinds if self.findings else ()

    def __bool__(self) -> bool:
        return self.verdict is Verdict.OK

    def raise_if_failed(self) -> None:
        """Raise AssertionError with the report's text unless all is well."""
        if not self:
            raise AssertionError(str(self))

    @property
    def headline(self) -> str:
        """The report's first line: the verdict, and how many variables have another one than OK."""
        bad = [r for r in self.results if r.verdict is not Verdict.OK]
        if not bad and self.findings:
            return "gradcheck: WRONG, the numbers agree, but see below"
        count = f" ({len(bad)} of {len(self.results)} variables)" if bad else ""
        return f"gradcheck: {self.verdict.name}, {self.verdict.value}{count}"

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, shape, verdict and details: of each variable, or of many only the first that are not OK."""
        shown = self.results
        if len(shown) > MANY:
            shown = [r for r in shown if r.verdict is not Verdict.OK][:MANY]
        again = [" (second order)" if r.order == 2 else "" for r in shown]
        return [
            (r.name + a, str(r.shape), r.verdict.name, r.details) for r, a in zip(shown, again, strict=True)
        ]

    @property
    def rest(self) -> str:
        """Like "16 more: 12 WRONG, 4 OK", of those that are not shown; empty when all are."""
        shown = self.rows
        verdicts = [r.verdict.name for r in self.results]
        for _, _, verdict, _ in shown:
            verdicts.remove(verdict)
        counted = [f"{verdicts.count(v.name)} {v.name}" for v in reversed(Verdict) if v.name in verdicts]
        return f"{len(verdicts)} {'more' if shown else 'variables'}: {', '.join(counted)}" if counted else ""

    @property
    def accusation(self) -> str:
        """The words before the culprit."""
        unsupported = self.verdict is Verdict.UNSUPPORTED
        return f"the first {'op without a second order' if unsupported else 'wrong op'} is"

    @property
    def remarks(self) -> list[str]:
        """The notes, and which implementations were checked."""
        folded = [textwrap.fill(f"note: {note}", WIDTH, subsequent_indent="  ") for note in self.notes]
        return [*folded, self.implementations] if self.implementations else folded

    @property
    def cost(self) -> str:
        """Runs, seconds and the seed, in words."""
        return f"{self.runs:,} forward runs, {self.seconds:.2g} s, seed {self.seed}"

    def __str__(self) -> str:
        """The verdict, a line per variable, the culprit, its mistake, the cost."""
        widths = [max((len(row[i]) for row in self.rows), default=0) for i in range(3)]
        lines = [self.headline]
        for name, shape, verdict, details in self.rows:
            row = f"  {name:{widths[0]}}  {shape:{widths[1]}}  {verdict:{widths[2]}}  {details}"
            lines.append(row.rstrip())
        lines += [f"  {self.rest}"] if self.rest else []
        if self.culprit:
            lines += ["", f"{self.accusation} {self.culprit}"]
            lines += [f"    {self.culprit.source}"] if self.culprit.source else []
            if self.culprit.result and self.culprit.result.worst:
                lines.append(f"  its {self.culprit.result.name}: {self.culprit.result.details}")
        if self.findings:
            lines += ["", *(textwrap.fill(str(f), WIDTH, subsequent_indent="  ") for f in self.findings)]
        return "\n".join([*lines, "", *self.remarks, self.cost])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        text = html.escape
        green, red = "#1a7f37", "#cf222e"
        rows = "".join(
            f"<tr><td>{text(name)}</td><td>{text(shape)}</td>"
            f'<td style="color:{green if verdict == "OK" else red}">{verdict}</td>'
            f"<td>{text(details)}</td></tr>"
            for name, shape, verdict, details in self.rows
        )
        said = [text(self.rest)] if self.rest else []
        if self.culprit:
            said.append(f"{self.accusation} <code>{text(str(self.culprit))}</code>")
            said += [f"<code>{text(self.culprit.source)}</code>"] if self.culprit.source else []
        said += [
            f"<b>{text(' or '.join(kind.value for kind in f.kinds))}</b>: {text(f.sentence)}"
            for f in self.findings
        ]
        said += [text(note) for note in self.remarks]
        return (
            f'<p><b style="color:{green if self else red}">{text(self.headline)}</b></p><table>{rows}</table>'
            + "".join(f"<p>{words}</p>" for words in said)
            + f"<p><small>{text(self.cost)}</small></p>"
        )
