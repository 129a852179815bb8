"""Apply the table of docs/renamed.md to folders of Python and Markdown.

    python tests/tools/rename.py docs/renamed.md examples my_project

A row under "## Files" gives the old and the new path of a file. The file is moved if it exists; its path
and the name of its module are replaced in all texts. A row under another heading gives an old and a new
name, and the places to search: `everywhere`, or beginnings of paths. The name is replaced where it is a
whole word.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TEXTS = {".py", ".md", ".toml", ".txt", ""}


class Row(NamedTuple):
    before: str
    now: str
    where: tuple[str, ...]  # beginnings of paths; () is everywhere


def read_table(text: str) -> tuple[list[Row], list[Row]]:
    """The rows about files, and those about names."""
    files, names = [], []
    for section in text.split("\n## ")[1:]:
        for line in section.splitlines():
            cells = re.findall(r"`([^`]+)`", line) if line.startswith("|") else []
            if len(cells) >= 2:
                row = Row(cells[0], cells[1], tuple(c for c in cells[2:] if c != "everywhere"))
                (files if section.startswith("Files") else names).append(row)
    return files, names


def module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def move(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    tracked = subprocess.run(["git", "mv", old, new], capture_output=True, check=False).returncode == 0
    if not tracked:
        old.rename(new)


def with_files_renamed(text: str, rows: list[Row]) -> str:
    """Paths, dotted names of modules, and `from package import module`."""
    for row in rows:
        if row.before in text:
            text = re.sub(rf"(?<![\w/]){re.escape(row.before)}\b", row.now, text)
        old, new = module(row.before), module(row.now)
        package, name = old.rpartition(".")[::2]
        if row.before.endswith(".py") and (package or old) in text and name in text:
            text = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\w)(?!\.py\b)", new, text)
            line = rf"(?m)^(\s*)from {re.escape(package)} import (.*\b{name}\b.*)$"
            if package:
                text = re.sub(line, lambda m, name=name, new=new: split_import(m, name, new), text)
    return text


def split_import(match: re.Match[str], name: str, new: str) -> str:
    """`from a import b, name, c` -> `from a import b, c` and `from new.package import new_name`."""
    indent, imported = match.groups()
    code, hash_, comment = imported.partition("  #")
    parts = [part.strip() for part in code.split(",")]
    wanted = [p for p in parts if re.split(r"\s+as\s+", p)[0] == name]
    if not wanted or "(" in imported:
        return match.group(0)
    package, new_name = new.rpartition(".")[::2]
    alias = re.split(r"\s+as\s+", wanted[0])[1] if " as " in wanted[0] else name
    line = f"{indent}from {package} import {new_name}" + (f" as {alias}" if alias != new_name else "")
    rest = [p for p in parts if p not in wanted]
    old = match.group(0).split(" import ")[0].strip()
    return (f"{indent}{old} import {', '.join(rest)}\n" if rest else "") + line + hash_ + comment


def with_names_renamed(text: str, path: str, rows: list[Row]) -> str:
    for row in rows:
        if row.before in text and (not row.where or path.startswith(row.where)):
            text = re.sub(rf"(?<!\w){re.escape(row.before)}(?!\w)", row.now, text)
    return text


def texts(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    hidden = {".git", "runs", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    return [p for p in found if p.is_file() and p.suffix in TEXTS and not hidden & set(p.parts)]


def main(table: Path, folders: list[Path]) -> None:
    files, names = read_table(table.read_text("utf-8"))
    for row in files:
        if Path(row.before).exists() and not Path(row.now).exists():
            move(Path(row.before), Path(row.now))
    for folder in folders:
        for path in texts(folder):
            if path.resolve() in (table.resolve(), Path(__file__).resolve()):
                continue
            text = path.read_text("utf-8")
            changed = with_names_renamed(with_files_renamed(text, files), path.as_posix(), names)
            if changed != text:
                path.write_text(changed, "utf-8")
                print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
