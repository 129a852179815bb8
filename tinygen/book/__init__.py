"""The book: the source as a site, made by `python -m tinygen book` from a checkout.

What is read: `chapters` has the reading order, `order` the chapter of each file, `parts` cuts a file into
notes and code, `names` finds where a name is defined, `equations` the marked equations, `ablations` what each
ablation breaks, `papers` the numbers of papers on arXiv; `repository` has all of it. What is made of it:
`mathml` sets equations out of `boxes`, `notes` makes HTML of docstrings, `guides` of Markdown files,
`notebooks` and `runs` make a notebook and a drawing of each page, and `site` puts the pages together.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(arguments: list[str]) -> int:
    """Build the site into a folder, and say what it counts. Returns 0, or 2 where it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tinygen book", description="The source as a site.")
    parser.add_argument(
        "--out", type=Path, default=Path("build/book"), help="folder of the site (build/book)"
    )
    out = parser.parse_args(arguments).out
    if not (ROOT / "examples" / "pages").is_dir():
        where = "in a checkout of the repository"
        print(f"the book is made from the sources: run `python -m tinygen book` {where}", file=sys.stderr)
        return 2
    try:
        from tinygen.book.site import Site
    except ModuleNotFoundError as error:
        print(f'the book needs {error.name}: pip install -e ".[book]"', file=sys.stderr)
        return 2
    began = time.perf_counter()
    counts = Site(ROOT).write(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    print(f"{size / 1e6:.1f} MB in {time.perf_counter() - began:.1f} s: open {out / 'index.html'}")
    return 0
