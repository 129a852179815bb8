"""Runs files of bugs as users make them (`bugs_users_*.py`, `bugs_second_*.py`, ...): how many are found, and
how many named right.

    python tests/gradcheck/users.py [FILE ...]

prints a line for each bug that was missed or misnamed and for each right op that was called wrong, and the
figures at the end; without FILE it takes all sets beside this one, one after the other.

A bug counts as found when the report is neither OK nor undecided. Its kind is named right when the first kind
of the first finding is one of those that were written down beside the bug. If the report says "A or B", A
counts; how often A or B is right is a figure of its own, and so is how often A is the kind that was written
down first. For a right op, anything but OK is a false alarm, and so is an error.
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

from users_planting import RIGHT, WRONG, UserBug  # noqa: E402

from tinygen import gradcheck  # noqa: E402
from tinygen.gradcheck import Report, Verdict  # noqa: E402

FOUND = (Verdict.WRONG, Verdict.DEAD, Verdict.NONDETERMINISTIC)


def looked_at(bug: UserBug) -> Report | str:
    """The report, or the error that came instead of one."""
    try:
        return gradcheck(bug.f, *bug.inputs, order=bug.order)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def found(report: Report | str) -> bool:
    return not isinstance(report, str) and report.verdict in FOUND and bool(report.findings)


def named(bug: UserBug, report: Report | str) -> bool:
    return not isinstance(report, str) and report.kind in bug.kinds


def among_two(bug: UserBug, report: Report | str) -> bool:
    return not isinstance(report, str) and not set(report.kinds).isdisjoint(bug.kinds)


def as_expected(bug: UserBug, report: Report | str) -> bool:
    return not isinstance(report, str) and report.kind is bug.kinds[0]


def located(bug: UserBug, report: Report | str) -> bool:
    """Whether the op to blame is named; true where none is to blame."""
    if bug.culprit is None:
        return True
    return not isinstance(report, str) and report.culprit is not None and report.culprit.op == bug.culprit


def said(report: Report | str) -> str:
    if isinstance(report, str):
        return report
    return f"{report.verdict.name}: {'; '.join(map(str, report.findings)) or 'nothing'}"


def load(path: Path) -> None:
    """Run a file of bugs: it plants them in WRONG and RIGHT."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)


SETS = ("users", "second", "third", "fourth", "fifth", "between", "tuning", "own")


def main(files: list[str]) -> None:
    if files:
        run([Path(f) for f in files])
    for name in SETS if not files else ():
        run([*HERE.glob(f"bugs_{name}_*.py"), *HERE.glob(f"right_{name}*.py")], f"{name}: ")


def run(paths: list[Path], title: str = "") -> None:
    """Look at the bugs in these files, and print what was missed and the figures."""
    first, first_right = len(WRONG), len(RIGHT)
    for path in sorted(paths):
        load(path)
    wrong = [(bug, looked_at(bug)) for bug in WRONG[first:]]
    right = [(bug, looked_at(bug)) for bug in RIGHT[first_right:]]
    for bug, report in wrong:
        if not found(report):
            print(f"missed    {bug.name}: {said(report)}")
        elif bug.kinds[0] and not named(bug, report):
            kinds = ", ".join(kind.name for kind in bug.kinds if kind)
            print(f"misnamed  {bug.name} ({kinds}): {said(report)}")
        if not located(bug, report):
            print(f"elsewhere {bug.name}: the op to blame is {bug.culprit}")
    alarms = [bug for bug, r in right if not (isinstance(r, Report) and r and not r.findings)]
    for bug in alarms:
        print(f"alarm     {bug.name}")
    with_kind = [(bug, r) for bug, r in wrong if bug.kinds[0]]
    counts = [
        sum(found(r) and test(bug, r) for bug, r in with_kind) for test in (named, among_two, as_expected)
    ]
    shares = [f"{k} ({100 * k / max(len(with_kind), 1):.0f} %)" for k in counts]
    print(
        f"{title}{sum(found(r) for _, r in wrong)} of {len(wrong)} found, "
        f"{sum(located(b, r) for b, r in wrong)} with the right op; of {len(with_kind)} with a kind "
        f"{shares[0]} named right, {shares[1]} among at most two, {shares[2]} as written down first; "
        f"{len(alarms)} false alarms of {len(right)}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
