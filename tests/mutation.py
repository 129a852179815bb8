"""The mutation run of docs/mutation.md: small faults planted in the tape and the ops, one at a time.

    pip install cosmic-ray
    python tests/mutation.py run results.jsonl --jobs 2      # again: only what was not killed
    python tests/mutation.py table results.jsonl

cosmic-ray makes the mutants. They are written into a copy of the project; this process imports what all
tests need (NumPy, torch, ...) once, and forks a child for each mutant, which imports the mutated tinygen
and runs the tests that are most likely to notice; then, if they pass, the others.
"""

import argparse
import ast
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAIRS = [
    ("Binary", "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitAnd_BitOr BitOr_BitAnd"),
    ("Comparison", "Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is"),
    ("Comparison", "Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt"),
    ("Unary", "Delete_USub Delete_Not Delete_Invert"),
]
OPERATORS = [
    *("AddNot", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *(f"Replace{kind}Operator_{pair}" for kind, pairs in PAIRS for pair in pairs.split()),
]

# -- the tests of a file, those that kill most first -------------------------------------------------

TAPE = [f"tests/test_{name}.py" for name in ("tape", "backward", "backward_safety", "tensor", "recompute")]
GRADCHECK = [f"tests/gradcheck/test_{name}.py" for name in ("gradcheck", "verdicts", "report", "modules")]
OTHERS = ["tests/nn", "tests/kernels", "tests/test_transforms.py", "tests/test_backward_memory.py"]


EVERY_OP = "tests/ops/test_every_op.py"


def stages(file: str) -> list[tuple[list[str], list[str]]]:
    """Files of tests, and which cases of `EVERY_OP`; each is run only if the ones before have passed."""
    if file == "tinygen/tape.py":
        some = ["add", "matmul", "sum", "split", "astype", "attention", "conv2d", "layer_norm", "dropout"]
        return [
            (TAPE, []),
            ([*OTHERS, "tests/test_graph.py", *GRADCHECK], []),
            (["tests/ops/test_shape.py", EVERY_OP], some),
        ]
    if file == "tinygen/ops/__init__.py":
        return [
            (["tests/test_tensor.py", "tests/test_import.py"], []),
            ([EVERY_OP], ["reshape", "transpose"]),
        ]
    family = Path(file).stem
    own = {"activation": ["elementwise"], "window": ["conv", "pool"]}.get(family, [family])
    others = ["tests/ops/test_properties.py", "tests/ops/test_kept.py", "tests/test_tensor.py", *OTHERS]
    return [
        ([EVERY_OP], own if family == "window" else public(file)),
        ([f"tests/ops/test_{name}.py" for name in own], []),
        (others, []),
    ]


class Only:
    """Leaves the chosen cases, if some are. A `-k` does so too, but after making all of the 8,000 tests."""

    def __init__(self, cases: list[str]) -> None:
        self.cases = cases

    @pytest.hookimpl(trylast=True)
    def pytest_generate_tests(self, metafunc: Any) -> None:
        if self.cases and "case" in metafunc.fixturenames:
            metafunc._calls = [c for c in metafunc._calls if any(name in c.id for name in self.cases)]


def public(file: str) -> list[str]:
    """The ops of a family: the cases in tests/ops are called after them."""
    exported = (ROOT / "tinygen/ops/__init__.py").read_text()
    tree = ast.parse((ROOT / file).read_text())
    return [f.name for f in tree.body if isinstance(f, ast.FunctionDef) and f'"{f.name}"' in exported]


# -- the mutants -------------------------------------------------------------------------------------


def behaviour(source: str) -> str:
    """The program without its annotations, which `from __future__ import annotations` leaves unevaluated."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, ast.Constant(None))
    return ast.dump(tree)


def mutants(file: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What was changed, and the whole mutated source. Left out: what does not compile, what changes an
    annotation only, and what another operator has made already."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (ROOT / file).read_text()
    seen = {behaviour(source)}
    for name in OPERATORS:
        operator, occurrence = get_operator(f"core/{name}")(), 0
        while (mutated := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            try:
                program = behaviour(mutated)
            except SyntaxError:
                continue
            if program not in seen:
                seen.add(program)
                yield {"file": file, "operator": name, **difference(source, mutated)}, mutated


def difference(source: str, mutated: str) -> dict[str, Any]:
    before, after = source.splitlines(), mutated.splitlines()
    same = 0
    while before[same] == after[same]:
        same += 1
    end = 1
    while before[-end] == after[-end] and end < min(len(before), len(after)) - same:
        end += 1
    old, new = (lines[same : len(lines) - end + 1] for lines in (before, after))
    return {"line": same + 1, "before": "\n".join(old), "after": "\n".join(new)}


def files() -> list[str]:
    return [
        "tinygen/tape.py",
        *(str(f.relative_to(ROOT)) for f in sorted((ROOT / "tinygen/ops").glob("*.py"))),
    ]


# -- running -----------------------------------------------------------------------------------------


def outcome(copy: Path, file: str, limit: int) -> str:
    """ "survived", or in which stage the tests failed; "timeout" when a stage took too long."""
    for number, (paths, cases) in enumerate(stages(file), 1):
        child = os.fork()
        if child == 0:
            run_pytest(copy, paths, cases, limit)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGALRM:
            return "timeout"
        if status != 0:
            return f"killed by stage {number}"
    return "survived"


def run_pytest(copy: Path, paths: list[str], cases: list[str], limit: int) -> None:
    signal.alarm(limit)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    status = 3
    try:
        import tinygen

        assert Path(tinygen.__file__).is_relative_to(copy)
        arguments = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", *paths]
        status = int(pytest.main(arguments, plugins=[Only(cases)]))
    finally:
        os._exit(status)


def run(results: Path, chosen: list[str], jobs: int, limit: int) -> None:
    done = {name for name, r in read(results).items() if r["outcome"].startswith("killed")}
    work = [m for file in chosen for m in mutants(file) if key(m[0]) not in done]
    print(f"{len(work)} mutants to run, {len(done)} killed before", flush=True)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    for module in (
        "pytest",
        "numpy",
        "hypothesis.extra.numpy",
        "hypothesis.internal.entropy",
        "torch",
        "scipy.special",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    sys.dont_write_bytecode = True
    gc.freeze()  # what is imported by now is walked by no collection in the children
    children = []
    for job in range(jobs):
        if (child := os.fork()) == 0:
            worker(work[job::jobs], results, limit)
            os._exit(0)
        children.append(child)
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(failed), "a worker has stopped; run again to go on"


def worker(work: list[tuple[dict[str, Any], str]], results: Path, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        skipped = shutil.ignore_patterns(".git", "runs", ".hypothesis", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=skipped)
        file = None
        for change, mutated in work:
            if change["file"] != file:
                file = change["file"]
                assert outcome(copy, file, limit) == "survived", f"{file}: the tests fail without a mutant"
            path = copy / change["file"]
            original = path.read_text()
            path.write_text(mutated)
            start = time.perf_counter()
            change["outcome"] = outcome(copy, change["file"], limit)
            change["seconds"] = round(time.perf_counter() - start, 1)
            path.write_text(original)
            with results.open("a") as f:
                f.write(json.dumps(change) + "\n")


# -- reading -----------------------------------------------------------------------------------------


def key(change: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(change[name] for name in ("file", "operator", "line", "before", "after"))


def read(results: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The last result of each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {key(r): r for r in map(json.loads, lines)}


def table(results: Path) -> None:
    """Of the mutants of the files as they are now: how many were killed, and all others. A mutant whose line
    has moved or changed since it was run counts as not killed."""
    latest = read(results)
    rows = [change for file in files() for change, _ in mutants(file)]
    for change in rows:
        change["outcome"] = latest.get(key(change), {"outcome": "not run"})["outcome"]
    left = [r for r in rows if not r["outcome"].startswith("killed")]
    print("| file | mutants | killed | others | score |\n|---|---|---|---|---|")
    for file in [*files(), "all"]:
        total, other = (sum(file in (r["file"], "all") for r in some) for some in (rows, left))
        print(f"| `{file}` | {total} | {total - other} | {other} | {100 * (1 - other / total):.1f} % |")
    for r in sorted(left, key=lambda r: (r["file"], r["line"])):
        print(f"\n{r['file']}:{r['line']} {r['operator']}, {r['outcome']}\n- {r['before']}\n+ {r['after']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("results", type=Path)
    parser.add_argument("--files", nargs="+", default=files(), metavar="FILE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=600, help="seconds for each stage of the tests")
    args = parser.parse_args()
    if args.command == "run":
        run(args.results, args.files, args.jobs, args.limit)
    else:
        table(args.results)
