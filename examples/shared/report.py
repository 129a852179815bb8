"""Copies measured results from a run's folder to docs/results/, and makes tables in Markdown of them; copies
pictures from a run's folder to docs/pictures/.

    python examples/shared/report.py record runs/gpt_text --what "GPT on Python's help pages"
    python examples/shared/report.py picture runs/vae_digits walk.png
    python examples/shared/report.py tables

docs/results/EXAMPLE.json has the runs that the docs quote. Each run has its name, command, date, processor
and seeds, and its figures as in the final table. `record` adds a run, or replaces the run with the same
command. `picture` copies a PNG with fewer colors, and adds it to the pictures in the same file. `tables`
writes the tables in README.md and docs/*.md again. They are between lines such as

    <!-- results: start -->                    all examples, a row for each run
    <!-- results of vae_digits: start -->      one example, all its figures
    <!-- results of vae_digits in columns: start -->  the same; of "VAE: nats" it makes a row and a column
    <!-- results of text_to_image: start -->   all methods that draw captions (`methods.py`), a row for each
    <!-- results of highlights: start -->      ten examples, for each the figure that says most
    <!-- results: end -->                      the end of each
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.highlights import HIGHLIGHTS
from shared.methods import HEAD as METHODS_HEAD
from shared.methods import METHODS, rows_of
from shared.table import columns_of

ROOT = Path(__file__).parents[2]
RESULTS, PICTURES = ROOT / "docs" / "results", ROOT / "docs" / "pictures"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
START = re.compile(r"<!-- results(?: of (\w+)( in columns)?)?: start -->\n")
END = "<!-- results: end -->"
LARGEST, LARGEST_PICTURE = 20_000, 200_000  # bytes of a file in docs/results/, in docs/pictures/
HEAD = ("what", "command", "measured", "expected", "best", "baseline", "seconds, date")
FIGURE = ("", "measured", "expected", "best", "baseline")
FREE = {"--out": 1, "--save-every": 1, "--resume": 0}  # flags that change no figure, with their values


def without_free_flags(command: str) -> str:
    """The command line without the flags for the folder of the run and for how often it is saved."""
    words, found = shlex.split(command), []
    while words:
        word = words.pop(0)
        if word in FREE:
            del words[: FREE[word]]
        elif word.partition("=")[0] not in FREE:
            found.append(word)
    return shlex.join(found)


def seeds_of(result: dict[str, Any]) -> list[int]:
    about, flags = result["run"], result["flags"]
    if "seeds" in about:  # of --full
        return list(about["seeds"])
    return list(range(flags["seeds"])) if "seeds" in flags else [flags["seed"]]


def round_figures(value: Any) -> Any:
    """A float with six digits; dicts and lists of them."""
    if isinstance(value, dict):
        return {name: round_figures(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(round_figures, value)]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def run_of(result: dict[str, Any], processor: str | None) -> dict[str, Any]:
    """The entry in docs/results/ for a result.json, still without its name."""
    about = result["run"]
    return {
        "what": "",
        "command": without_free_flags(about["command"]),
        "date": about["date"],
        "processor": processor or about["processor"],
        "seeds": seeds_of(result),
        "seconds": round(result["seconds"]),
        "seconds_of_stages": {name: round(each, 1) for name, each in about["seconds_of_stages"].items()},
        "peak_memory_mb": about["peak_memory_mb"] and round(about["peak_memory_mb"]),
        "figures": round_figures(result["table"]),
    }


def read_result(folder: Path) -> dict[str, Any]:
    """The result.json in `folder`. SystemExit if the run is not finished, or is from an older version of the
    example."""
    path = folder / "result.json"
    if not path.is_file():
        raise SystemExit(f"{folder} has no result.json: the run in it is not finished")
    result: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if "table" not in result or "run" not in result:
        raise SystemExit(f"{path} is from before its table was kept as data: run the example again")
    return result


def read_known(example: Path) -> tuple[Path, dict[str, Any]]:
    """The file of an example in docs/results/, and its present content."""
    file = RESULTS / f"{example.stem}.json"
    if file.is_file():
        return file, json.loads(file.read_text("utf-8"))
    return file, {"example": example.as_posix(), "runs": []}


def write_known(file: Path, known: dict[str, Any]) -> None:
    text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
    if len(text.encode()) > LARGEST:
        raise SystemExit(f"{file.name} would have {len(text.encode()):,} bytes, and {LARGEST:,} are the most")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def record(folder: Path, what: str | None, processor: str | None = None) -> Path:
    """Add the run in `folder` to docs/results/. Returns the file. SystemExit if the run is not finished, if
    it is from an older version of the example, or if a new run has no name."""
    run = run_of(read_result(folder), processor)
    file, known = read_known(Path(run["command"].split()[1]))
    runs = known["runs"]
    same = next((i for i, other in enumerate(runs) if other["command"] == run["command"]), len(runs))
    run["what"] = what or (runs[same]["what"] if same < len(runs) else "")
    if not run["what"]:
        raise SystemExit(f"a new run needs a name: --what, for {run['command']}")
    runs[same : same + 1] = [run]
    write_known(file, known)
    return file


def copy_picture(folder: Path, name: str, colors: int) -> Path:
    """Copy a PNG of the run in `folder` to docs/pictures/, with at most `colors` colors, and record its
    run. Returns the new file. SystemExit if there is no such run or picture, or if the picture is too
    large."""
    from PIL import Image

    if not (folder / name).is_file():
        raise SystemExit(f"{folder} has no {name}")
    about = read_result(folder)["run"]
    command = without_free_flags(about["command"])
    file, known = read_known(Path(command.split()[1]))
    path = PICTURES / f"{file.stem}_{Path(name).stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(folder / name).convert("RGB")
    picture.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
    if (size := path.stat().st_size) > LARGEST_PICTURE:
        path.unlink()
        raise SystemExit(f"{path.name} would have {size:,} bytes, and {LARGEST_PICTURE:,} are the most")
    pictures = [each for each in known.get("pictures", []) if each["file"] != path.name]
    entry = {"file": path.name, "command": command, "date": about["date"]}
    write_known(file, {**known, "pictures": sorted([*pictures, entry], key=lambda each: each["file"])})
    return path


# -- tables ----------------------------------------------------------------------------------------


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(figure: dict[str, Any], name: str) -> str:
    return f"{figure[name]:.4g}" if name in figure else ""


def measured_text(figure: dict[str, Any]) -> str:
    """The measured figure as text; for several seeds, the mean and then the figure of each seed."""
    each = ", ".join(f"{seed:.4g}" for seed in figure.get("seeds", ()))
    return f"**{number(figure, 'measured')}**" + f" ({each})" * bool(each)


def cell_text(figure: dict[str, Any]) -> str:
    """`measured_text`; a figure that is the same for all seeds as one number."""
    value = figure["measured"]
    if any(seed != value for seed in figure.get("seeds", (value + 1,))):
        return measured_text(figure)
    return f"{value:,.0f}" if value == round(value) else number(figure, "measured")


def expected_text(figure: dict[str, Any]) -> str:
    return figure["expected"] + ("" if figure["met"] else ", not met") if "expected" in figure else ""


def results() -> list[dict[str, Any]]:
    """All files in docs/results/, in the order of the examples' names."""
    files = [json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return sorted(files, key=lambda file: file["example"].count("/"))  # gpt_text.py, the first to run, first


def row_of(run: dict[str, Any]) -> str:
    """The row of a run: its figures that have an expectation, one line for each."""
    figures = [figure for figure in run["figures"] if "expected" in figure]

    def cell(texts: list[str]) -> str:
        return "<br>".join(texts) if any(texts) else ""

    columns = [
        [f"{figure['name']}: {measured_text(figure)}" for figure in figures],
        [*map(expected_text, figures)],
    ]
    columns += [[number(figure, name) for figure in figures] for name in ("best", "baseline")]
    time = f"{run['seconds']} s, {run['date']}"
    return line([run["what"], f"`{run['command']}`", *map(cell, columns), time])


def table_of_all() -> str:
    """A row for each run of every example."""
    rows = [row_of(run) for file in results() for run in file["runs"]]
    return "\n".join([line(HEAD), line(["---"] * len(HEAD)), *rows])


def table_of_one(example: str, in_columns: bool = False) -> str:
    """All figures of an example: for each run its command and a table. With `in_columns`, the figures with
    names such as "VAE: nats" have a table of their own, a row for each model. SystemExit if none of its runs
    is recorded."""
    file = RESULTS / f"{example}.json"
    if not file.is_file():
        raise SystemExit(f"there is no {file}: nothing of {example} is recorded")
    parts = []
    for run in json.loads(file.read_text("utf-8"))["runs"]:
        seeds = ", ".join(map(str, run["seeds"]))
        about = f"`{run['command']}`, seed{'s' * (len(run['seeds']) > 1)} {seeds}"
        lines = [f"{about}; {run['seconds']} s on {run['processor']}, {run['date']}:", ""]
        figures = run["figures"]
        if in_columns:
            head, *rows = columns_of({each["name"]: cell_text(each) for each in figures})
            lines += [line(head), line(["---"] * len(head)), *map(line, rows), ""]
            figures = [each for each in figures if ": " not in each["name"]]
        lines += [line(FIGURE), line(["---"] * len(FIGURE))]
        for each in figures:
            compared = (number(each, name) for name in ("best", "baseline"))
            lines.append(line([each["name"], measured_text(each), expected_text(each), *compared]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def table_of_methods() -> str:
    """A row for each method that draws captions."""
    rows = rows_of(METHODS, {Path(file["example"]).stem: file for file in results()})
    return "\n".join([line(METHODS_HEAD), line(["---"] * len(METHODS_HEAD)), *map(line, rows)])


def table_of_highlights() -> str:
    """A row for each of `HIGHLIGHTS`, of the first run that has the figure."""
    files = {Path(file["example"]).stem: file for file in results()}
    lines = [line(("what", "figure", *FIGURE[1:])), line(["---"] * (1 + len(FIGURE)))]
    for example, name in HIGHLIGHTS.items():
        each = ((run, figure) for run in files[example]["runs"] for figure in run["figures"])
        run, figure = next(pair for pair in each if pair[1]["name"] == name)
        what = run["what"].partition(";")[0]
        compared = (number(figure, column) for column in ("best", "baseline"))
        lines.append(line([what, name, measured_text(figure), expected_text(figure), *compared]))
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """The page with new tables between its marks. SystemExit if a table has no end."""
    start = START.search(text)
    if start is None:
        return text
    inside, end, after = text[start.end() :].partition(END)
    if not end or START.search(inside):
        raise SystemExit(f"no line {END} below {start[0].strip()}")
    whole = {"text_to_image": table_of_methods, "highlights": table_of_highlights, None: table_of_all}
    table = whole[start[1]]() if start[1] in whole else table_of_one(start[1], bool(start[2]))
    return f"{text[: start.end()]}{table}\n{END}{with_tables(after)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="task", required=True)
    one = commands.add_parser("record", help="put a run into docs/results/")
    one.add_argument("folder", type=Path, help="--out of the run")
    one.add_argument("--what", help="the name of the run in the tables")
    one.add_argument("--processor", help="where it ran, if more is to be said than the run knows")
    picture = commands.add_parser("picture", help="copy a picture of a run to docs/pictures/")
    picture.add_argument("folder", type=Path, help="--out of the run")
    picture.add_argument("name", help="a PNG in it")
    picture.add_argument("--colors", type=int, default=256, help="the most colors that it keeps")
    commands.add_parser("tables", help="make the tables in README.md and docs/*.md anew")
    args = parser.parse_args()
    if args.task == "record":
        print(f"recorded in {record(args.folder, args.what, args.processor)}", file=sys.stderr)
    elif args.task == "picture":
        print(f"copied to {copy_picture(args.folder, args.name, args.colors)}", file=sys.stderr)
    else:
        for page in PAGES:
            page.write_text(with_tables(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
