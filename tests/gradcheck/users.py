"""Runs files of bugs as users make them (`bugs_users_*.py`, `bugs_second_*.py`): how many are found, and how
many named right.

    python tests/gradcheck/users.py [FILE ...]

prints a line for each bug that was missed or misnamed and for each right op that was called wrong, and the
figures at the end; without FILE it takes the files beside this one. A bug counts as found when the report is
neither OK nor undecided; its kind is named right when the first finding has one of the kinds that were
written down beside the bug. For a right op, anything but OK is a false alarm, and so is an error.
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


def main(files: list[str]) -> None:
    for path in [Path(f) for f in files] or [
        *sorted(HERE.glob("bugs_users_*.py")),
        *sorted(HERE.glob("bugs_second_*.py")),
    ]:
        load(path)
    wrong = [(bug, looked_at(bug)) for bug in WRONG]
    right = [(bug, looked_at(bug)) for bug in RIGHT]
    for bug, report in wrong:
        if not found(report):
            print(f"missed    {bug.name}: {said(report)}")
        elif not named(bug, report):
            kinds = ", ".join(kind.name for kind in bug.kinds)
            print(f"misnamed  {bug.name} ({kinds}): {said(report)}")
        if not located(bug, report):
            print(f"elsewhere {bug.name}: the op to blame is {bug.culprit}")
    for bug, report in right:
        if not (isinstance(report, Report) and report and not report.findings):
            print(f"alarm     {bug.name}: {said(report)}")
    counts = [sum(found(r) for _, r in wrong), sum(found(r) and named(b, r) for b, r in wrong)]
    places = sum(located(b, r) for b, r in wrong)
    alarms = sum(not (isinstance(r, Report) and r and not r.findings) for _, r in right)
    n = max(len(wrong), 1)
    print(
        f"{counts[0]} of {len(wrong)} found, {counts[1]} with the right kind ({100 * counts[1] / n:.0f} %), "
        f"{places} with the right op; {alarms} false alarms of {len(right)}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
