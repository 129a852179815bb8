"""The mutation run of docs/mutation.md: small faults are planted in the engine and the ops, one at a time.

    pip install cosmic-ray
    python tests/tools/mutation.py run results.txt --jobs 2      # a second run: only mutants not yet killed
    python tests/tools/mutation.py table results.txt

The same for the upper floors and the training steps of the examples: a sample of the mutants of each file,
and all calls that have lost a keyword:

    python tests/tools/mutation.py run upper.txt --upper --sample 40
    python tests/tools/mutation.py table upper.txt --upper --sample 40

With `--quick` the tests that need PyTorch do not judge, and a mutant that lives for a few seconds has
survived. A run without it judges the survivors again, by all tests.

`mutation_results.txt` has the results so far, in a short form: a later run continues from a copy of it.

`mutants.py` makes the mutants, `selection.py` chooses the tests, and `judging.py` runs them, in forks of a
process that has imported everything and collected the tests. The mutants come in a random order that is the
same for the same seed, so the finished part is a fair sample at any time. The run does not write into the
files, but they must not be edited while it runs.
"""

import argparse
import fcntl
import gc
import math
import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import judging
from judging import Judge, judge_afresh
from mutants import DROP, Mutant, draw, key, mutants, sampled
from selection import Order, read_notes

ROOT = Path(__file__).parents[2]

# -- the tests that may judge a file -----------------------------------------------------------------

ENGINE = "tape backward backward_safety backward_memory checks memory modes tensor protocols recompute"
BESIDE = "transforms graph import"
ENGINES_OWN = [f"tests/test_{name}.py" for name in f"{ENGINE} {BESIDE}".split()]
LOWER = ENGINES_OWN + [f"tests/{folder}/" for folder in ("ops", "nn", "kernels", "gradcheck")]
BESIDE_THE_TAPE = [f"tinygen/{name}.py" for name in ("node", "callers", "rerun")]


def tests_of(file: str) -> list[str]:
    """The beginnings of the names of the tests for this file."""
    if file in BESIDE_THE_TAPE:
        return ENGINES_OWN
    return LOWER if file.startswith(("tinygen/tape", "tinygen/ops")) else upper_tests(file)


# -- the upper floors --------------------------------------------------------------------------------

FLOORS = ("diffusion", "align", "models", "judges", "nn", "optim", "text", "data")
NETWORKS = ["tests/golden/test_golden.py", "tests/golden/test_tokenizer.py", "tests/arguments"]
NETWORKS += ["tests/cuda/test_stand_in.py"]  # what is done on a GPU only
LANGUAGE, PICTURES = (f"tests/examples/test_steps_of_{name}.py" for name in ("language_models", "pictures"))
STAGES_OF_ALIGNMENT = "tests/examples/test_stages_of_alignment.py"
MADE, LONG = (f"tests/examples/test_{name}.py" for name in ("what_is_trained", "long_runs"))
STEPS: dict[str, tuple[frozenset[str], list[str]]] = {
    "gpt_text": (frozenset(["train_model", "whole_loss", "evaluate"]), [LANGUAGE, MADE]),
    "gpt_algorithms": (frozenset(["train"]), [LANGUAGE, MADE, LONG]),
    "tasks_in_words": (
        frozenset(["train", "Lab.descend", "Lab.pretrain", "Lab.tune", "shares_right"]),
        ["tests/examples/test_tasks_in_words.py"],
    ),
    "translate_numbers": (
        frozenset(["train", "share_right"]),
        ["tests/examples/test_translate_numbers.py"],
    ),
    "lora_finetune": (frozenset(["train", "Lab.begin", "Lab.step", "Lab.held_out_loss"]), [LANGUAGE, LONG]),
    "diffusion_2d": (frozenset(["train"]), [PICTURES, MADE, LONG]),
    "points": (frozenset(["exact_denoiser", "excess_loss"]), [PICTURES]),
    "ddpm_digits": (frozenset(["train_model"]), [PICTURES, MADE, LONG]),
    "inpaint_shapes": (frozenset(["train", "unseen_loss"]), [PICTURES, MADE, LONG]),
    "palette_shapes": (
        frozenset(["train", "unseen_loss"]),
        ["tests/examples/test_palette_shapes.py", MADE, LONG],
    ),
    "style_transfer": (frozenset(["train", "paint"]), ["tests/examples/test_style_transfer.py"]),
    "photographs": (
        frozenset(["as_square", "resized", "Patches.draw"]),
        ["tests/examples/test_style_transfer.py"],
    ),
    "edits": (
        frozenset(["edits", "beyond_a_line", "box", "sides_of", "reduce", "bicubic", "bicubic_matrix"]),
        ["tests/examples/test_palette_shapes.py"],
    ),
    "judged_edits": (
        frozenset(["drawn_right", "nearest_known", "color_counts", "divergence"]),
        ["tests/examples/test_palette_shapes.py"],
    ),
    "clip_guided_shapes": (
        frozenset(["train", "build", "loss_of"]),
        ["tests/examples/test_clip_guided_shapes.py"],
    ),
    "guided": (frozenset(["lead", "draw"]), ["tests/examples/test_clip_guided_shapes.py"]),
    "clip_shapes": (frozenset(["train", "build"]), ["tests/examples/test_clip_shapes.py"]),
    "contrast": (
        frozenset(["draw_pairs", "captions_of", "recall", "winoground", "duels", "judge_pairs"]),
        ["tests/examples/test_clip_shapes.py"],
    ),
    "controlnet_shapes": (
        frozenset(["train", "build", "make_codes", "stage_of"]),
        ["tests/examples/test_controlnet_shapes.py"],
    ),
    "outlines": (frozenset(["outlines", "filled", "overlap"]), ["tests/examples/test_controlnet_shapes.py"]),
    "latent_diffusion_shapes": (
        frozenset(["train", "make_codes", "descend", "build"]),
        [PICTURES, MADE, LONG],
    ),
    "vae_digits": (frozenset(["learn_both", "bound", "build"]), [PICTURES, MADE, LONG]),
    "density_ladder": (frozenset(["train", "Learner"]), ["tests/examples/test_density_ladder.py"]),
    "flows_2d": (
        frozenset(["train", "build", "velocity_of", "score_of"]),
        ["tests/examples/test_flows_2d.py", MADE],
    ),
    "in_context": (frozenset(["train", "Learner"]), ["tests/examples/test_in_context.py"]),
    "scaling_laws": (frozenset(["train", "measure_all"]), ["tests/examples/test_scaling_laws.py"]),
    "gan_ring": (frozenset(["train", "Pair"]), ["tests/examples/test_gan_ring.py"]),
    "vqvae_shapes": (frozenset(["train_model"]), [PICTURES, MADE, LONG]),
    "ppo_cartpole": (
        frozenset(["train", "ppo_round", "ppo_loss", "collect", "log_prob", "Agent", "perceptron"]),
        ["tests/examples/test_steps_of_cartpole.py"],
    ),
    "rlhf": (frozenset(["Steps"]), ["tests/examples/test_rlhf.py", STAGES_OF_ALIGNMENT]),
    "rlhf_exact": (frozenset(["step", "train", "log_reward_model"]), [STAGES_OF_ALIGNMENT]),
    "rlhf_world": (frozenset(["Lab"]), [STAGES_OF_ALIGNMENT]),
    "rlhf_reviews": (frozenset(["Lab"]), [STAGES_OF_ALIGNMENT]),
    "rlhf_sentiment": (frozenset(["step", "train", "log_evaluation"]), [STAGES_OF_ALIGNMENT]),
}
"""For each example, its functions that train, and the tests of their steps."""


def upper_tests(file: str) -> list[str]:
    """The tests of the file's floor, and the tests of all networks."""
    floor = Path(file).parts[1]
    if file.startswith("examples"):
        return STEPS[Path(file).stem][1]
    folders = ("data", "judges") if floor in ("data", "judges") else (floor,)
    return [*(f"tests/{folder}/" for folder in folders), *NETWORKS]


def tests_of_signatures(file: str) -> list[str]:
    """The files of tests that ask for signatures: those of one upper floor see the functions of all."""
    if Path(file).parts[1] not in FLOORS:
        return []
    paths = [path for floor in FLOORS for path in sorted((ROOT / "tests" / floor).rglob("test_*.py"))]
    return [str(path.relative_to(ROOT)) for path in paths if "inspect.signature(" in path.read_text()]


def upper_files() -> list[str]:
    found = [path for floor in FLOORS for path in sorted((ROOT / "tinygen" / floor).rglob("*.py"))]
    found += [path for name in STEPS for path in (ROOT / "examples").rglob(f"{name}.py")]
    return [str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py"]


def chosen(file: str, n: int | None, seed: int) -> list[tuple[dict[str, Any], str]]:
    """The mutants of a file; for an example, only the mutants in its training steps."""
    only = STEPS[Path(file).stem][0] if file.startswith("examples/") else None
    return sampled(list(mutants(file, only)), n, seed)


def files() -> list[str]:
    return [
        "tinygen/tape.py",
        *BESIDE_THE_TAPE,
        *(str(f.relative_to(ROOT)) for f in sorted((ROOT / "tinygen/ops").glob("*.py"))),
    ]


# -- running -----------------------------------------------------------------------------------------


def run(results: Path, work: list[Mutant], jobs: int, again: bool, quick: bool) -> None:
    """Judge what was not judged before, and (if `again`) what has survived."""
    done = read(results)
    known = {mutant for mutant, outcome in done.items() if outcome.startswith("killed") or not again}
    work = [m for m in work if key(m[0]) not in known]
    print(f"{len(work)} mutants to run, {len(done)} judged before", flush=True)
    judging.prepare(quick)
    gc.freeze()  # what is imported by now is walked by no collection in the children
    children = []
    for job in range(jobs):
        if (child := os.fork()) == 0:
            worker(work[job::jobs], results, quick)
            os._exit(0)
        children.append(child)
    failed = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(failed), "a worker has stopped; run again to go on"


def worker(work: list[Mutant], results: Path, quick: bool) -> None:
    budget, most = (judging.QUICK_BUDGET, judging.QUICK_TESTS) if quick else (judging.BUDGET, None)
    files = sorted({change["file"] for change, _ in work})
    notes = results.with_suffix(".tests.json")
    here, there = multiprocessing.Pipe()
    if os.fork() == 0:
        here.close()
        serve(there, notes, files)
        os._exit(0)
    there.close()
    assert here.recv() == "ready"
    tests = read_notes(notes, files)
    assert tests is not None
    order = Order(tests, tests_of)
    for change, mutated in work:
        here.send((change, mutated, order.of(change), budget))
        answer = here.recv()
        outcome, seconds = answer or ("survived", 0.0)
        # Is it not to be swapped in? If it is, what the collection has computed was computed without it.
        if answer is None or (outcome == "survived" and not quick):
            names = list(dict.fromkeys([*order.of(change), *order.all(change["file"])]))[:most]
            outcome, more = judge_afresh(change, mutated, names, tests, budget)
            seconds += more
        order.note(change["file"], outcome)
        with results.open("a") as f:
            f.write(f"{key(change)}\t{outcome}\t{seconds:.2f}\n")
    here.send(None)


def serve(pipe: Connection, notes: Path, files: list[str]) -> None:
    """Collect the tests, and judge the mutants that come through the pipe."""

    def answer(judge: Judge) -> None:
        fcntl.flock(lock, fcntl.LOCK_UN)
        pipe.send("ready")
        while (question := pipe.recv()) is not None:
            pipe.send(judge.judge(*question))

    judge = Judge(notes, files)
    judge.answer = answer
    with notes.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first worker watches the tests, the others read its notes
        paths = {path for file in files for path in [*tests_of(file), *tests_of_signatures(file)]}
        judging.collect(sorted(paths), judge)


# -- reading -----------------------------------------------------------------------------------------


def read(results: Path) -> dict[str, str]:
    """The last outcome of each mutant, by its key."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {key: outcome for key, outcome, *_ in (line.split("\t") for line in lines)}


def shorten(results: Path) -> None:
    """The results without times and names of tests, sorted, as they are kept in the repository."""
    for mutant, outcome in sorted(read(results).items()):
        print(mutant, outcome.split()[0], sep="\t")


def table(results: Path, rows: list[dict[str, Any]]) -> None:
    """A table of the mutants of the present files: how many were killed, and a list of all others. If a
    mutant's function or lines have changed since its run, it counts as not run."""
    latest = read(results)
    for change in rows:
        change["outcome"] = latest.get(key(change), "not run")
    made, rows = rows, [r for r in rows if r["outcome"] != "not run"]
    left = [r for r in rows if not r["outcome"].startswith("killed")]
    print(f"{len(rows)} of {len(made)} mutants were run\n")
    print("| files | drawn | judged | of them lost keywords | killed | others | score | 95 % interval |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    names = list(dict.fromkeys(r["file"] for r in made))
    folders = list(
        dict.fromkeys("/".join(name.split("/")[: 1 + name.startswith("tinygen")]) for name in names)
    )
    for name in [*names, *folders, ""]:
        drawn = [r for r in made if f"{r['file']}/".startswith(f"{name}/" if name else "")]
        here = [r for r in drawn if r["outcome"] != "not run"]
        if not here:
            continue
        killed = len(here) - sum(r in left for r in here)
        low, high = wilson(killed, len(here))
        dropped = sum(r["operator"] == DROP for r in here)
        score = f"{100 * killed / len(here):.1f} % | {100 * low:.0f} to {100 * high:.0f} %"
        counts = (len(drawn), len(here), dropped, killed, len(here) - killed)
        print(f"| `{name or 'all'}` | {' | '.join(map(str, counts))} | {score} |")
    for r in sorted(left, key=lambda r: (r["file"], r["line"])):
        print(f"\n{r['file']}:{r['line']} {r['function']}, {r['operator']}, {r['outcome']}")
        print(f"- {r['before']}\n+ {r['after']}")


def wilson(killed: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion: E. B. Wilson, JASA 22 (1927)."""
    z, p = 1.96, killed / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table", "shorten"])
    parser.add_argument("results", type=Path)
    parser.add_argument("--files", nargs="+", metavar="FILE")
    parser.add_argument("--upper", action="store_true", help="the upper floors and the examples' steps")
    parser.add_argument("--sample", type=int, help="so many mutants of each file; by default all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and the order")
    parser.add_argument("--at-most", type=int, help="run no more than this many in all")
    parser.add_argument("--new", action="store_true", help="leave out what has survived before")
    parser.add_argument("--quick", action="store_true", help="kill what is killed in little time")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if args.command == "shorten":
        shorten(args.results)
        sys.exit()
    names = args.files or (upper_files() if args.upper else files())
    every = [m for file in names for m in chosen(file, args.sample, args.seed)]
    if args.command == "run":
        every.sort(key=lambda m: draw(m[0], args.seed))
        run(args.results.resolve(), every[: args.at_most], args.jobs, not args.new, args.quick)
    else:
        table(args.results, [change for change, _ in every])
