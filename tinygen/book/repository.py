"""What the book knows of the repository: its files, their parts and names, the exercises, the ablations."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from tinygen.book.ablations import Broken, ablations, definition_at
from tinygen.book.names import Names, Target, no_garbage, read
from tinygen.book.order import places
from tinygen.book.pages import files, page_of
from tinygen.book.papers import papers
from tinygen.book.parts import parts, tokens_of


class Repository:
    """Everything that the pages need from the repository in the folder `root`."""

    @no_garbage()
    def __init__(self, root: Path) -> None:
        self.root = root
        self.guides = ["README.md", "ARCHITECTURE.md", *files(root, "docs", "*.md")]
        library = [
            p for folder in ("tinygen", "tinygen_cuda", "examples") for p in files(root, folder, "*.py")
        ]
        texts = [(root / path).read_text("utf-8") for path in [*library, *self.guides]]
        held = {test for text in texts for test in re.findall(r"(tests/[\w/]+\.py)[:#]", text)}
        self.modules = {
            path: read(root, path) for path in [*library, *sorted(held)] if (root / path).is_file()
        }
        self.names = Names(list(self.modules.values()))
        self.references = {path: self.names.references(module) for path, module in self.modules.items()}
        used = {
            p: {r.target.path for r in rs if not r.late and r.target.anchor}
            for p, rs in self.references.items()
        }
        self.uses = {path: targets for path, targets in used.items() if not path.startswith("tests/")}
        self.chapter = places(self.uses)
        self.tokens = {path: tokens_of(module.source) for path, module in self.modules.items()}
        self.parts = {path: parts(module, self.tokens[path]) for path, module in self.modules.items()}
        self.papers = papers(texts)
        pairs = re.findall(r'Exercise\(\s*"(\w+)",\s*"([\w.:]+)"', "".join(texts))
        found = [(self.names.find(source.replace(":", ".")), name) for name, source in pairs]
        self.exercises = {target: name for target, name in found if target}
        images = [
            image for text in texts[len(library) :] for image in re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
        ]
        self.alts = {Path(name).name: alt for alt, name in images}
        self.broken: dict[Target, list[Broken]] = defaultdict(list)
        for each in ablations(root, self.modules):
            self.broken[Target(each.path, definition_at(self.parts[each.path], each.line))].append(each)

    def href(self, path: str, anchor: str = "") -> str:
        """The address of a place in a file of the repository, or "" if the file has no page. A definition
        without a part of its own is found by its line; `L12` is a line, too."""
        if anchor and path in self.parts and all(anchor != part.anchor for part in self.parts[path]):
            node = self.modules[path].definitions.get(anchor)
            number = re.fullmatch(r"L(\d+)", anchor)
            line = getattr(node, "lineno", int(number[1]) if number else 0)
            above = [i for part in self.parts[path] for i in part.lines if i <= line]
            anchor = str(max(above)) if above else anchor  # the last line before it that is shown as code
        known = path in self.modules or path in self.guides
        return page_of(path) + (f"#{anchor}" if anchor else "") if known else ""
