"""Measured results, from a run's folder into docs/results/, and from there into tables in Markdown.

    python examples/shared/report.py record runs/gpt_text --what "GPT on Python's help pages"
    python examples/shared/report.py tables README.md

docs/results/EXAMPLE.json has the runs that the docs quote: what was run, by which command, when, on which
processor, with which seeds, and its figures, each as in the final table. `record` adds a run, or takes the
place of the one with the same command. `tables` replaces what stands between the lines START and END.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
START, END = "<!-- results: start -->", "<!-- results: end -->"
LARGEST = 20_000  # bytes of a file in docs/results/
HEAD = ("what", "command", "measured", "expected", "best", "baseline", "seconds, date")
FREE = {"--out": 1, "--save-every": 1, "--resume": 0}  # flags that change no figure, with their values


def without_free_flags(command: str) -> str:
    """A command line without the flags that only say where and how often a run is saved."""
    words, found = shlex.split(command), []
    while words:
        word = words.pop(0)
        if word in FREE:
            del words[: FREE[word]]
        elif word.partition("=")[0] not in FREE:
            found.append(word)
    return shlex.join(found)


def seeds_of(flags: dict[str, Any]) -> list[int]:
    return list(range(flags["seeds"])) if "seeds" in flags else [flags["seed"]]


def run_of(result: dict[str, Any], what: str) -> dict[str, Any]:
    """What docs/results/ keeps of a result.json."""
    about = result["run"]
    return {
        "what": what,
        "command": without_free_flags(about["command"]),
        "date": about["date"],
        "processor": about["processor"],
        "seeds": seeds_of(result["flags"]),
        "seconds": round(result["seconds"]),
        "seconds_of_stages": {name: round(each, 1) for name, each in about["seconds_of_stages"].items()},
        "peak_memory_mb": about["peak_memory_mb"] and round(about["peak_memory_mb"]),
        "figures": result["table"],
    }


def record(folder: Path, what: str | None) -> Path:
    """Put the run in `folder` into docs/results/. Returns the file. SystemExit when it is no finished run of
    today's examples, or when a new one has no name."""
    path = folder / "result.json"
    if not path.is_file():
        raise SystemExit(f"{folder} has no result.json: the run in it is not finished")
    result = json.loads(path.read_text("utf-8"))
    if "table" not in result or "run" not in result:
        raise SystemExit(f"{path} is from before its table was kept as data: run the example again")
    run = run_of(result, what or "")
    script = Path(run["command"].split()[1])
    file = RESULTS / f"{script.stem}.json"
    known: dict[str, Any] = {"example": script.as_posix(), "runs": []}
    if file.is_file():
        known = json.loads(file.read_text("utf-8"))
    runs = known["runs"]
    same = next((i for i, other in enumerate(runs) if other["command"] == run["command"]), len(runs))
    run["what"] = what or (runs[same]["what"] if same < len(runs) else "")
    if not run["what"]:
        raise SystemExit(f"a new run needs a name: --what, for {run['command']}")
    runs[same : same + 1] = [run]
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > LARGEST:
        raise SystemExit(f"{file.name} would have {len(text.encode()):,} bytes, and {LARGEST:,} are the most")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


# -- tables ----------------------------------------------------------------------------------------


def cells(run: dict[str, Any]) -> list[str]:
    """The row of a run: of its figures, those with an expectation, a line each."""
    figures = [figure for figure in run["figures"] if "expected" in figure]

    def lines(name: str) -> str:
        texts = [f"{figure[name]:.5g}" if name in figure else "" for figure in figures]
        return "<br>".join(texts) if any(texts) else ""

    measured = [f"{f['name']}: **{f['measured']:.5g}**" for f in figures]
    expected = [f"{f['expected']}{'' if f['met'] else ', not met'}" for f in figures]
    time = f"{run['seconds']} s, {run['date']}"
    texts = ["<br>".join(measured), "<br>".join(expected), lines("best"), lines("baseline"), time]
    return [run["what"], f"`{run['command']}`", *(text.replace("|", "\\|") for text in texts)]


def results() -> list[dict[str, Any]]:
    """The runs of all files in docs/results/, in the order of the examples' names."""
    files = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    files.sort(key=lambda file: file["example"].count("/"))  # gpt_text.py, the first to run, comes first
    return [run for file in files for run in file["runs"]]


def markdown_table() -> str:
    rows = [list(HEAD), ["---"] * len(HEAD), *map(cells, results())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(text: str) -> str:
    """A page with the table of today between its marks. SystemExit when it has none."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise SystemExit(f"the page has no lines {START} and {END} for the table to stand between")
    return f"{before}{START}\n{markdown_table()}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="put a run into docs/results/")
    one.add_argument("folder", type=Path, help="--out of the run")
    one.add_argument("--what", help="the name of the run in the tables")
    pages = commands.add_parser("tables", help="make the table of pages in Markdown anew")
    pages.add_argument("pages", nargs="+", type=Path)
    args = parser.parse_args()
    if args.command == "record":
        print(f"recorded in {record(args.folder, args.what)}", file=sys.stderr)
        return
    for page in args.pages:
        page.write_text(with_table(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
