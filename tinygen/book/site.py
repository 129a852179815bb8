"""The site, made of the repository: a page for each file, for each chapter and guide, and the indexes."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

from markupsafe import Markup

from tinygen.book.chapters import CHAPTERS
from tinygen.book.guides import Guides
from tinygen.book.names import Target, no_garbage
from tinygen.book.pages import Page, first_sentence, page_of, sentence_of
from tinygen.book.parts import code
from tinygen.book.rooms import room_of, room_pages
from tinygen.book.runs import FOLDER, Run, run_of
from tinygen.book.search import titles_script, words_script

WORDS_A_MINUTE, LINES_A_MINUTE = 200, 40


class Site(Guides):
    """The pages of files and chapters, the indexes, and the whole."""

    def file_page(self, path: str) -> Page:
        """The page of a file: its parts, notes beside code."""
        module, rows, words = self.modules[path], [], 0
        lines = code(module, self.tokens[path], self.references[path], self.href)
        for part in self.parts[path]:
            notes = Markup("").join(self.note(text, module, part) for text in part.notes)
            rows.append((part, notes, Markup("\n".join(lines[i - 1] for i in part.lines))))
            text = " ".join(" ".join(part.notes).split())
            words += len(text.split())
            if text and (part.anchor or part.first == 1) and not path.startswith("tests"):
                self.search[page_of(path)].append(
                    (part.anchor or path, part.anchor, "" if "." in part.anchor else shorten(text, 36))
                )
        minutes = words / WORDS_A_MINUTE + sum(len(part.lines) for part in self.parts[path]) / LINES_A_MINUTE
        about, number = first_sentence(module.tree), self.chapter.get(path)
        exercises = {anchor: name for (file, anchor), name in self.exercises.items() if file == path}
        broken = {anchor: found for (file, anchor), found in self.broken.items() if file == path}
        content = {"rows": rows, "number": number, "exercises": exercises, "broken": broken}
        return Page(page_of(path), path, about, path, max(1, round(minutes)), content=content)

    def embedded(self, page: Page) -> Markup:
        """The parts of a file's page inside another page. The anchors stay there, links lead to them."""
        html = self.template("parts.html").render(page.content)
        html = re.sub(r' id="(\d+)"', r' data-line="\1"', html)
        html = re.sub(r' id="[^"]*"', "", html).replace('href="#', f'href="{page.file}#')
        return Markup(re.sub(r"(</?h)([23])\b", lambda match: f"{match[1]}{int(match[2]) + 1}", html))

    def chapter_page(self, number: int, pages: list[Page]) -> Page:
        """The page of a chapter: what to know before, its algorithms on one page, its files, its pictures."""
        chapter = CHAPTERS[number]
        uses = sorted({self.chapter[used] for page in pages for used in self.uses[page.path]} - {number})
        examples = [p for p in pages if p.path.startswith("examples/") and p.path not in chapter.pages]
        stems = tuple(f"{Path(page.path).stem}_" for page in examples)
        content = {
            "chapter": chapter,
            "number": number,
            "uses": uses,
            "one_page": [page for page in pages if page.path in chapter.pages],
            "groups": {
                "The library": [page for page in pages if page.path.startswith("tinygen")],
                "Programs that run it": examples,
            },
            "exercises": [
                (name, self.href(*target))
                for target, name in self.exercises.items()
                if self.chapter[target.path] == number
            ],
            "broken": [
                (each, self.href(*target))
                for target, found in self.broken.items()
                if self.chapter[target.path] == number
                for each in found
            ],
            "pictures": [name for name in sorted(self.alts) if name.startswith(stems)],
        }
        self.search[chapter.file].append((chapter.title, "", shorten(chapter.about, 44)))
        minutes = sum(page.minutes for page in pages)
        return Page(chapter.file, chapter.title, chapter.about, "", minutes, "chapter.html", content)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The run of each page that has one, by the page's path."""
        found = {}
        for number, chapter in enumerate(CHAPTERS):
            exercises = [
                name for target, name in self.exercises.items() if self.chapter[target.path] == number
            ]
            for path in chapter.pages:
                opening = f"# {chapter.title}: {path}\n\n{chapter.about}\n\nKnow before: {chapter.know}"
                if f"{FOLDER}/{Path(path).name}" in self.modules:
                    found[path] = run_of(self.root, Path(path).stem, opening, exercises)
        return found

    def in_order(self, number: int) -> Iterator[str]:
        """The files of a chapter: its one-page versions, the library's files and the examples, each after
        those that it imports."""
        chapter = CHAPTERS[number]
        patterns = [*chapter.pages, *chapter.files, *chapter.examples]
        given = [
            path for path in self.modules if not path.startswith("tests/") and self.chapter[path] == number
        ]
        given.sort(key=lambda path: [fnmatch(path, pattern) for pattern in patterns], reverse=True)
        seen: set[str] = set()

        def visit(path: str) -> Iterator[str]:
            if path in given and path not in seen:
                seen.add(path)
                for reference in self.references[path]:
                    if not reference.late:
                        yield from visit(reference.target.path)
                yield path

        for path in given:
            yield from visit(path)

    def public_names(self) -> list[tuple[str, str, str]]:
        """(dotted name, address, one line) of each name that a file of the library exports, by its shortest
        dotted name."""
        found: dict[Target, str] = {}
        for module in self.modules.values():
            value = getattr(module.definitions.get("__all__"), "value", None)
            names = {str(e.value) for e in getattr(value, "elts", []) if isinstance(e, ast.Constant)}
            if not names and module.path.endswith("__init__.py"):
                names = set(module.imports)
            for name in names if module.path.startswith("tinygen") else ():
                target = self.names.find_in(module, name)
                if target and target.anchor:
                    dotted = f"{module.name}.{name}"
                    found[target] = min(
                        found.get(target, dotted), dotted, key=lambda name: (name.count("."), name)
                    )
        return sorted((dotted, self.href(*target), self.one_line(target)) for target, dotted in found.items())

    def one_line(self, target: Target) -> str:
        """About a name: the first sentence of its docstring or note, or else its definition."""
        node = self.modules[target.path].definitions[target.anchor]
        notes = [
            part.notes[0] for part in self.parts[target.path] if part.anchor == target.anchor and part.notes
        ]
        return first_sentence(node) or (sentence_of(notes[0]) if notes else f"`{ast.unparse(node)}`")

    def texts(self) -> dict[str, str]:
        """The words of each page of a file or guide, without tests."""
        found = {page_of(path): (self.root / path).read_text("utf-8") for path in self.guides}
        for path, parts in self.parts.items():
            if not path.startswith("tests/"):
                found[page_of(path)] = " ".join(note for part in parts for note in part.notes)
        return found

    # -- the whole -------------------------------------------------------------------------------------

    @no_garbage()
    def write(self, out: Path) -> dict[str, int]:
        """Write the site into the folder `out`. Returns what it counts."""
        reading: list[Page] = []
        chapters: list[Page] = []
        for number in range(len(CHAPTERS)):
            pages = [self.file_page(path) for path in self.in_order(number)]
            chapters.append(self.chapter_page(number, pages))
            reading += [chapters[-1], *pages]
        tests = [self.file_page(path) for path in self.modules if path.startswith("tests/")]
        guides = [self.guide_page(path) for path in self.guides]  # they quote equations of the files
        names = self.public_names()
        titles = {"index": "tinygen", "equations": "All equations", "names": "All names", "search": "Search"}
        indexes = [Page(f"{file}.html", title, template=f"{file}.html") for file, title in titles.items()]
        rooms = room_pages([page for page in reading if page.path], self.equations)
        all_pages = [*reading, *rooms, *guides, *tests, *indexes]
        counts = {"pages": len(all_pages), "chapters": len(chapters), "equations": len(self.equations)}
        counts |= {"set": sum(e.parsed for e in self.equations), "names": len(names)}
        counts |= {
            "rooms": len(rooms),
            "notebooks": len(self.runs),
            "graphs": sum(bool(r.graph) for r in self.runs.values()),
        }
        shared = {"site": self, "chapters": chapters, "guides": guides, "names": names, "counts": counts}
        shared |= {"rooms": rooms, "room_of": room_of}
        before = {b.file: a for a, b in pairwise(reading)}
        after = {a.file: b for a, b in pairwise(reading)}
        out.mkdir(parents=True, exist_ok=True)
        for page in all_pages:
            around = {"before": before.get(page.file), "after": after.get(page.file)}
            html = self.template(page.template).render(page=page, **around, **shared, **page.content)
            (out / page.file).write_text(html, "utf-8")
        (out / "search-index.js").write_text(titles_script(self.search), "utf-8")
        (out / "search-words.js").write_text(words_script(self.texts()), "utf-8")
        for run in self.runs.values():
            run.write(out)
        for file in ("style.css", "search.js"):
            shutil.copy(Path(__file__).parent / "templates" / file, out / file)
        shutil.copytree(self.root / "docs" / "pictures", out / "pictures", dirs_exist_ok=True)
        return counts
