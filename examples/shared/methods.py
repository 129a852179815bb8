"""All methods that draw a picture for a caption, in one table, made from docs/results/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Method(NamedTuple):
    """A method: which run of an example it is, and its figures there. `drawing` is the figure of the seconds
    for 100 drawings, `frechet` that of the distance; None where none was measured."""

    name: str
    family: str
    year: int
    side: int  # pixels
    parameters: int  # of all networks that are used for drawing
    example: str
    command: str  # the flags of the run
    seen: str
    unseen: str
    drawing: str | None = None
    frechet: str | None = None


SURELY = "surely shape and color (%)"
SEEN, UNSEEN = f"pairs as in training: {SURELY}", f"pairs never seen: {SURELY}"
METHODS = (
    Method("text-conditional GAN", "adversarial", 2016, 16, 64_027, "gan_shapes", "--full", SEEN, UNSEEN),
    Method(
        "latent diffusion",
        "diffusion",
        2022,
        32,
        4_832_827,
        "latent_diffusion_shapes",
        "--full",
        SEEN,
        UNSEEN,
    ),
)
HEAD = (
    *("method", "family", "year", "side", "parameters", "training, s", "100 drawings, s"),
    *("as in training, %", "never seen, %", "Fréchet"),
)


def rows_of(methods: Sequence[Method], results: Mapping[str, Any]) -> list[list[str]]:
    """The cells of the table, a row for each method, from {example: content of its file}. SystemExit when the
    run of a method is not recorded."""
    rows = []
    for m in methods:
        runs = results.get(m.example, {"runs": []})["runs"]
        script = runs[0]["command"].split()[1] if runs else ""
        found = [run for run in runs if run["command"] == f"python {script} {m.command}".strip()]
        if not found:
            raise SystemExit(f"no run {m.command!r} of {m.example} is recorded, and {m.name} needs it")
        (run,) = found
        figures = {figure["name"]: figure for figure in run["figures"]}
        cells = [text_of(figures[name]) if name else "" for name in (m.seen, m.unseen, m.frechet)]
        drawing = f"{figures[m.drawing]['measured']:.3g}" if m.drawing else ""
        about = [m.name, m.family, str(m.year), str(m.side), f"{m.parameters:,}", training_of(run)]
        rows.append([*about, drawing, *cells])
    return rows


def training_of(run: Mapping[str, Any]) -> str:
    """The seconds of a seed without its evaluation, or, where only the sum is known, with it."""
    stages = run["seconds_of_stages"]
    if "evaluation" not in stages:
        return f"{run['seconds'] / len(run['seeds']):.0f} with evaluation"
    return f"{sum(each for name, each in stages.items() if name != 'evaluation'):.0f}"


def text_of(figure: Mapping[str, Any]) -> str:
    each = ", ".join(f"{seed:.3g}" for seed in figure.get("seeds", ()))
    return f"**{figure['measured']:.3g}**" + f" ({each})" * bool(each)
