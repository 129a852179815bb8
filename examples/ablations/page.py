"""The results of ablations: figures, pictures, docs/results/break_it.json, and docs/break_it.md."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

from ablations.ablation import ROOT, Ablation
from ablations.table import ABLATIONS
from shared.clock import processor
from shared.plots import draw_levels, panels
from shared.report import LARGEST, LARGEST_PICTURE, PICTURES, RESULTS, line

FILE, PAGE = RESULTS / "break_it.json", ROOT / "docs" / "break_it.md"
COMMAND = "python examples/ablations/break_it.py"
HEAD = f"""# Break it

Why is this line there? Each ablation below changes one place of the source, runs a small experiment with
and without the change, and shows both. The change is made in a copy of the checkout: the library has no
option for it.

    {COMMAND}  # the list
    {COMMAND} no_scale  # one of them

Figures are means of seeds 0, 1 and 2, which both runs share (in brackets: each of them; `--seeds 3`).
A run takes at most a few seconds of one core. All run with `tinygen.kernels("off")`, so that the
definitions compute. With each change the named test fails (`tests/examples/test_break_it.py` checks it).
Few of the changes raise an error, and most models go on learning: only the figures are worse.

This page is written by `{COMMAND} all --record`.
"""

TAIL = """## What made no difference

These four are wrong, too, and tests find them. But experiments as small as the ones above did not show the
damage (seed 10, as it is and broken), so they are not in the list:

- a GAN of the ring without R1: all 8 modes both times, distances 0.092 and 0.075 after 800 steps;
- a VQ-VAE of digits without stop gradients in its two terms: squared errors 0.154 and 0.147;
- ᾱ_t for ᾱ_{t-1} in the mean of the posterior, as on some slides: distances of the ring 0.039 and 0.042;
- 1 - ᾱ for its root in the forward process: distances of the ring 0.091 and 0.075, though the loss was
  2.7 times as far above its floor.
"""


# -- figures ---------------------------------------------------------------------------------------


def figures_of(good: Any, broken: Any) -> dict[str, dict[str, list[float]]]:
    """By name of the figure, its values for each seed: "good" and "broken"."""
    both = {"good": good, "broken": broken}
    return {
        name: {which: [each["figures"][name] for each in outcomes] for which, outcomes in both.items()}
        for name in good[0]["figures"]
    }


def value_text(values: list[float]) -> str:
    """The mean, and for several seeds the value of each in brackets."""
    each = ", ".join(f"{x:.3g}" for x in values)
    return f"{sum(values) / len(values):.3g}" + (f" ({each})" if len(values) > 1 else "")


def is_worse(ablation: Ablation, good: float, broken: float) -> bool:
    """Whether the change has spoiled this figure; NaN is worse than anything."""
    return math.isnan(broken) or (broken > good if ablation.worse == "higher" else broken < good)


# -- pictures --------------------------------------------------------------------------------------


def draw(path: Path, ablation: Ablation, good: Any, broken: Any) -> Path:
    """Draw the curves of both, of every seed; or the points of the first seed, side by side."""
    both = {"as it is": good, "broken": broken}
    if "points" in good[0]:
        with panels(path, 2, (6.4, 3.2)) as axes:
            for each, (name, outcomes) in zip(axes, both.items(), strict=True):
                each.scatter(*zip(*outcomes[0]["points"], strict=True), s=3, lw=0, color="C0")
                each.set(title=name, xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
        return path
    first = good[0]["curve"]
    with panels(path, size=(6.4, 3.4)) as (axes,):
        for color, (name, outcomes) in zip(("C0", "C3"), both.items(), strict=True):
            for i, curve in enumerate(outcome["curve"] for outcome in outcomes):
                ends = [x for x, y in zip(curve["x"], curve["y"], strict=True) if not math.isfinite(y)]
                label = f"{name}: NaN from step {ends[0]} on" if ends else name
                axes.plot(curve["x"], curve["y"], color=color, lw=1, alpha=0.8, label=None if i else label)
        if first.get("log"):
            axes.set_yscale("log")
        draw_levels(axes, first.get("levels", {}))
        axes.set(title=ablation.title, xlabel=first["xlabel"], ylabel=first["ylabel"])
        axes.legend(frameon=False)
    return path


def copy_picture(ablation: Ablation, picture: Path) -> str:
    """Copy a picture to docs/pictures/, with few colors. Returns its name there. SystemExit if it is too
    large."""
    from PIL import Image

    path = PICTURES / f"break_it_{ablation.name}.png"
    Image.open(picture).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    if (size := path.stat().st_size) > LARGEST_PICTURE:
        path.unlink()
        raise SystemExit(f"{path.name} would have {size:,} bytes, and {LARGEST_PICTURE:,} are the most")
    return path.name


# -- the record ------------------------------------------------------------------------------------


def read_record() -> dict[str, Any]:
    """The content of docs/results/break_it.json."""
    if FILE.is_file():
        found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
        return found
    return {"example": "examples/ablations/break_it.py", "runs": [], "ablations": {}, "pictures": []}


def rounded(value: float) -> float | str:
    """Four digits; "nan" or "inf" as text, which JSON has no numbers for."""
    return float(f"{value:.4g}") if math.isfinite(value) else str(value)


def record(ablation: Ablation, good: Any, broken: Any, picture: Path) -> None:
    """Put the figures and the picture into docs/, in place of those of an earlier run. SystemExit if the file
    becomes too large."""
    known, today = read_record(), date.today().isoformat()
    known["processor"] = processor()
    figures = {
        name: {which: [*map(rounded, values)] for which, values in each.items()}
        for name, each in figures_of(good, broken).items()
    }
    seconds = sum(each["seconds"] for each in [*good, *broken]) / len([*good, *broken])
    about = {"date": today, "seconds": round(seconds, 1), "figures": figures}
    found = {**known["ablations"], ablation.name: about}
    order = [each.name for each in ABLATIONS]
    known["ablations"] = {name: found[name] for name in order if name in found}
    file = copy_picture(ablation, picture)
    entry = {"file": file, "command": f"{COMMAND} {ablation.name} --seeds {len(good)}", "date": today}
    others = [each for each in known["pictures"] if each["file"] != file]
    known["pictures"] = sorted([*others, entry], key=lambda each: each["file"])
    text = as_text(known)
    if len(text.encode()) > LARGEST:
        raise SystemExit(f"{FILE.name} would have {len(text.encode()):,} bytes, and {LARGEST:,} are the most")
    FILE.write_text(text, "utf-8")


def as_text(known: dict[str, Any]) -> str:
    """JSON with a line for each ablation and each picture."""
    rows = [f" {json.dumps(name)}: {json.dumps(each)}" for name, each in known["ablations"].items()]
    pictures = [f" {json.dumps(each)}" for each in known["pictures"]]
    head = f'"example": {json.dumps(known["example"])},\n"processor": {json.dumps(known["processor"])}'
    both = ['"ablations": {\n' + ",\n".join(rows) + "\n}", '"pictures": [\n' + ",\n".join(pictures) + "\n]"]
    return "{\n" + ",\n".join([head, '"runs": []', *both]) + "\n}\n"


# -- the page --------------------------------------------------------------------------------------


def part_of(ablation: Ablation, about: dict[str, Any]) -> str:
    """The part of the page about one ablation."""
    rows = []
    for name, each in about["figures"].items():
        good, broken = (value_text([*map(float, each[which])]) for which in ("good", "broken"))
        rows.append(line([name, good, broken]))
    name = ablation.name
    return "\n".join(
        [
            f"### {ablation.title}",
            "",
            f"`{COMMAND} {name}`, in `{ablation.change.file}`:",
            "",
            f"```diff\n{ablation.diff()}\n```",
            "",
            ablation.why,
            "",
            line(["", "as it is", "broken"]),
            line(["---"] * 3),
            *rows,
            "",
            f"![{ablation.title}: {ablation.about_experiment()}](pictures/break_it_{name}.png)",
            "",
            f"Experiment: {ablation.about_experiment()} The test that fails: `{ablation.test}`.",
            "",
        ]
    )


def page() -> str:
    """docs/break_it.md, from the table of ablations and the record."""
    known, parts, chapter = read_record()["ablations"], [HEAD], ""
    for ablation in ABLATIONS:
        if ablation.chapter != chapter:
            chapter = ablation.chapter
            parts.append(f"## {chapter[0].upper()}{chapter[1:]}\n")
        if ablation.name in known:
            parts.append(part_of(ablation, known[ablation.name]))
    return "\n".join([*parts, TAIL])


def write_page() -> None:
    PAGE.write_text(page(), "utf-8")
