"""The mutation run of docs/mutation.md: small faults planted in the tape and the ops, one at a time.

    pip install cosmic-ray
    python tests/tools/mutation.py run results.jsonl --jobs 2  # again: only what was not killed
    python tests/tools/mutation.py table results.jsonl

and in the upper floors and the training steps of the examples, of each file a sample, and all calls that have
lost a keyword:

    python tests/tools/mutation.py run upper.jsonl --upper --sample 40
    python tests/tools/mutation.py table upper.jsonl --upper --sample 40

`mutants.py` makes the mutants. They are written into a copy of the project; this process imports what all
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
from pathlib import Path
from typing import Any

import pytest
from mutants import KEY, mutants, sampled

ROOT = Path(__file__).parents[2]

# -- the tests of a file, those that kill most first -------------------------------------------------

ENGINE = "tape backward backward_safety checks memory modes tensor protocols recompute"
TAPE = [f"tests/test_{name}.py" for name in ENGINE.split()]
GRADCHECK = [f"tests/gradcheck/test_{name}.py" for name in ("gradcheck", "verdicts", "report", "modules")]
OTHERS = ["tests/nn", "tests/kernels", "tests/test_transforms.py", "tests/test_backward_memory.py"]
EVERY_OP = "tests/ops/test_every_op.py"


def stages(file: str) -> list[tuple[list[str], list[str]]]:
    """Files of tests, and which cases of `EVERY_OP`; each is run only if the ones before have passed."""
    if file in upper_files():
        return upper_stages(file)
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


# -- the upper floors --------------------------------------------------------------------------------

FLOORS = ("diffusion", "align", "models", "nn", "optim", "text", "data")
GOLDEN = ["tests/golden/test_golden.py", "tests/golden/test_tokenizer.py", "tests/arguments"]
LANGUAGE, PICTURES = (f"tests/examples/test_steps_of_{name}.py" for name in ("language_models", "pictures"))
STAGES_OF_ALIGNMENT = "tests/examples/test_stages_of_alignment.py"
MADE = "tests/examples/test_what_is_trained.py"
STEPS: dict[str, tuple[frozenset[str], list[str]]] = {
    "gpt_text": (frozenset(["train_model", "batch_loss", "whole_loss", "evaluate"]), [LANGUAGE]),
    "gpt_algorithms": (frozenset(["train"]), [LANGUAGE]),
    "lora_finetune": (frozenset(["train", "Lab.begin", "Lab.step", "Lab.held_out_loss"]), [LANGUAGE]),
    "diffusion_2d": (frozenset(["train", "excess"]), [PICTURES, MADE]),
    "ddpm_digits": (frozenset(["train_model"]), [PICTURES, MADE]),
    "inpaint_shapes": (frozenset(["train"]), [PICTURES, MADE]),
    "latent_diffusion_shapes": (frozenset(["train", "make_codes", "build"]), [PICTURES, MADE]),
    "vae_digits": (frozenset(["learn_both", "bound", "build"]), [PICTURES, MADE]),
    "vqvae_shapes": (frozenset(["train_model"]), [PICTURES, MADE]),
    "ppo_cartpole": (
        frozenset(["learn_round", "train", "play"]),
        ["tests/examples/test_steps_of_cartpole.py"],
    ),
    "rlhf_steps": (frozenset(["Steps"]), ["tests/examples/test_rlhf_steps.py"]),
    "rlhf_exact": (frozenset(["Lab", "train"]), [STAGES_OF_ALIGNMENT]),
    "rlhf_sentiment": (frozenset(["Lab", "train"]), [STAGES_OF_ALIGNMENT]),
}
"""Of each example, the functions that train, and the tests of their steps."""


def upper_stages(file: str) -> list[tuple[list[str], list[str]]]:
    """The tests of the file, then of its floor, then what holds all networks."""
    floor, stem = Path(file).parts[-2:]
    stem = Path(stem).stem
    if floor == "examples":
        return [(STEPS[stem][1], [])]
    folder = ["tests/optim/test_optim.py"] if floor == "optim" else [f"tests/{floor}"]
    own = [f"tests/{floor}/test_{stem}.py"]
    return [(own, [])] * (ROOT / own[0]).exists() + [(GOLDEN, []), (folder, [])]


def upper_files() -> list[str]:
    found = [path for floor in FLOORS for path in sorted((ROOT / "tinygen" / floor).glob("*.py"))]
    found += [ROOT / "examples" / f"{name}.py" for name in STEPS]
    return [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"]


def chosen(file: str, n: int | None, seed: int) -> list[tuple[dict[str, Any], str]]:
    """The mutants of a file; of an example, only those of its steps."""
    only = STEPS[Path(file).stem][0] if file.startswith("examples/") else None
    return sampled(list(mutants(file, only)), n, seed)


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


def run(results: Path, work: list[tuple[dict[str, Any], str]], jobs: int, limit: int) -> None:
    done = {name for name, r in read(results).items() if r["outcome"].startswith("killed")}
    work = [m for m in work if key(m[0]) not in done]
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
    return tuple(change[name] for name in KEY)


def read(results: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The last result of each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {key(r): r for r in map(json.loads, lines)}


def table(results: Path, rows: list[dict[str, Any]]) -> None:
    """Of these mutants, made of the files as they are now: how many were killed, and all others. A mutant
    whose function or lines have changed since it was run counts as not killed."""
    latest = read(results)
    for change in rows:
        change["outcome"] = latest.get(key(change), {"outcome": "not run"})["outcome"]
    left = [r for r in rows if not r["outcome"].startswith("killed")]
    print("| file | mutants | killed | others | score |\n|---|---|---|---|---|")
    for file in [*dict.fromkeys(r["file"] for r in rows), "all"]:
        total, other = (sum(file in (r["file"], "all") for r in some) for some in (rows, left))
        print(f"| `{file}` | {total} | {total - other} | {other} | {100 * (1 - other / total):.1f} % |")
    for r in sorted(left, key=lambda r: (r["file"], r["line"])):
        print(f"\n{r['file']}:{r['line']} {r['function']}, {r['operator']}, {r['outcome']}")
        print(f"- {r['before']}\n+ {r['after']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("results", type=Path)
    parser.add_argument("--files", nargs="+", metavar="FILE")
    parser.add_argument("--upper", action="store_true", help="the upper floors and the examples' steps")
    parser.add_argument("--sample", type=int, help="so many mutants of each file; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--at-most", type=int, help="run no more than this many in all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=int, default=600, help="seconds for each stage of the tests")
    args = parser.parse_args()
    names = args.files or (upper_files() if args.upper else files())
    every = [m for file in names for m in chosen(file, args.sample, args.seed)]
    if args.command == "run":
        run(args.results, every[: args.at_most], args.jobs, args.limit)
    else:
        table(args.results, [change for change, _ in every])
