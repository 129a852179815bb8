"""The site, made of the repository: a page for each file, for each chapter and guide, and the indexes."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property
from html import escape, unescape
from itertools import pairwise
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any

from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markupsafe import Markup

from tinygen.book.chapters import CHAPTERS, places
from tinygen.book.equations import Marked, marked
from tinygen.book.mathml import to_html
from tinygen.book.names import Module, Names, Target, no_garbage, read
from tinygen.book.pages import Equation, Page, files, first_sentence, page_of, slug_of
from tinygen.book.papers import ARXIV, AUTHORS, papers
from tinygen.book.parts import Part, code, highlighted, parts, tokens_of
from tinygen.book.runs import FOLDER, Run, run_of

UNTOUCHED = re.compile(r"(<a\b.*?</a>|<code\b.*?</code>|<pre\b.*?</pre>|<[^>]+>)", re.DOTALL)  # by new links
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 40


class Site:
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
        self.mentions: dict[str, list[Page]] = defaultdict(list)  # page: the guides with a link to it
        images = [
            image for text in texts[len(library) :] for image in re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
        ]
        self.alts = {Path(name).name: alt for alt, name in images}
        self.equations: list[Equation] = []
        self.search: dict[str, list[tuple[str, str, str]]] = defaultdict(list)  # page: title, anchor, text
        self.notes = MarkdownIt("zero").enable(["backticks", "fence", "code", "list", "emphasis"])
        self.markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        for rules in (self.notes.renderer.rules, self.markdown.renderer.rules):  # type: ignore[attr-defined]
            rules.update(code_inline=self.inline_code, fence=self.block, code_block=self.block)

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

    # -- notes -----------------------------------------------------------------------------------------

    def inline_code(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """`name` or `file.py`, with a link if it is defined in the book, unless it is the text of a link."""
        text, module, address = tokens[i].content, env.get("module"), ""
        in_link = sum(token.nesting for token in tokens[:i] if token.type in ("link_open", "link_close"))
        if module and (target := self.names.find_in(module, text.removesuffix("()"))):
            address = self.href(*target)
        elif re.fullmatch(r"[\w/]+\.(py|md)", text):
            folder = PurePosixPath(module.path if module else "docs/").parent
            tried = map(self.href, (text, f"tinygen/{text}", str(folder / text), f"docs/{text}"))
            address = next(filter(None, tried), "")
        html = f"<code>{escape(text)}</code>"
        return f'<a href="{address}">{html}</a>' if address and not in_link else html

    def block(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        text = tokens[i].content.rstrip()
        try:
            rows = highlighted(text, tokens_of(text if tokens[i].info.strip() == "python" else ""), {})
        except (tokenize.TokenError, SyntaxError):  # a piece of a program
            rows = highlighted(text, [], {})
        scrolls = "" if env else ' tabindex="0"'  # beside code, its lines wrap
        return f"<pre{scrolls}>" + "\n".join(rows) + "</pre>"

    def note(self, text: str, module: Module, part: Part) -> Markup:
        """The HTML of a docstring or comment, with its equations."""
        lines, at, html = text.splitlines(), 0, ""
        for found in marked(text, f"{module.path}:{part.first}"):
            html += self.notes.render("\n".join(lines[at : found.first]), {"module": module})
            html += self.template("equation.html").render(e=self.equation(found, module.path, part))
            at = found.end
        return self.with_papers(html + self.notes.render("\n".join(lines[at:]), {"module": module}))

    def equation(self, found: Marked, path: str, part: Part) -> Equation:
        """One more equation of the index."""
        number = sum(e.path == path and e.line == part.first for e in self.equations)
        anchor = f"eq-{part.anchor}" + (f"-{number + 1}" if number else "")
        tests = [test.split("::", 1) for test in found.tests]
        links = [(name.split("::")[-1], self.href(path, name.replace("::", "."))) for path, name in tests]
        try:
            html, parsed = to_html(found.text), True
        except ValueError:
            html, parsed = f"<code>{escape(found.text)}</code>", False
        equation = Equation(path, part.first, anchor, found, self.chapter[path], links, Markup(html), parsed)
        self.equations.append(equation)
        self.search[page_of(path)].append((found.text, anchor, found.source))
        return equation

    def inline(self, text: str) -> Markup:
        """One line of a docstring as HTML."""
        return self.with_papers(self.notes.renderInline(text))

    def with_papers(self, html: str) -> Markup:
        """The HTML with links from papers to arXiv."""

        def link(match: re.Match[str]) -> str:
            number = match[1] or self.papers.get(unescape(match[0]))
            return f'<a href="https://arxiv.org/abs/{number}">{match[0]}</a>' if number else match[0]

        pieces = UNTOUCHED.split(html)
        pattern = f"{ARXIV}|{AUTHORS.replace('&', '&amp;')}"
        return Markup("".join(p if i % 2 else re.sub(pattern, link, p) for i, p in enumerate(pieces)))

    # -- pages -----------------------------------------------------------------------------------------

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
                    (part.anchor or path, part.anchor, "" if "." in part.anchor else shorten(text, 44))
                )
        minutes = words / WORDS_A_MINUTE + sum(len(part.lines) for part in self.parts[path]) / LINES_A_MINUTE
        about, number = first_sentence(module.tree), self.chapter.get(path)
        exercises = {anchor: name for (file, anchor), name in self.exercises.items() if file == path}
        content = {"rows": rows, "number": number, "exercises": exercises}
        return Page(page_of(path), path, about, path, max(1, round(minutes)), content=content)

    def embedded(self, page: Page) -> Markup:
        """The parts of a file's page inside another page. The anchors stay there, links lead to them."""
        html = self.template("parts.html").render(page.content)
        html = re.sub(r' id="(\d+)"', r' data-line="\1"', html)
        html = re.sub(r' id="[^"]*"', "", html).replace('href="#', f'href="{page.file}#')
        return Markup(re.sub(r"(</?h)([23])\b", lambda match: f"{match[1]}{int(match[2]) + 1}", html))

    def guide_page(self, path: str) -> Page:
        """The page of a Markdown file."""
        text, file = (self.root / path).read_text("utf-8"), page_of(path)
        tokens = self.markdown.parse(text)
        for token, inside in pairwise(tokens):
            entries = self.search[file]
            if token.type == "heading_open":
                slug = slug_of(inside.content)
                taken = sum(
                    re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor) is not None for _, anchor, _ in entries
                )
                token.attrSet("id", slug + (f"-{taken}" if taken else ""))
                entries.append((inside.content.replace("`", ""), str(token.attrs["id"]), ""))
            elif entries and inside.type == "inline" and not entries[-1][2]:
                entries[-1] = (*entries[-1][:2], shorten(inside.content, 44))
            for child in token.children or []:
                self.relocate(child, PurePosixPath(path).parent)
        html = self.markdown.renderer.render(tokens, self.markdown.options, {})
        html = re.sub(r'<a href="">(.*?)</a>', r"\1", html, flags=re.DOTALL)
        html = html.replace(
            "<table>", '<div class="wide" role="group" aria-label="Table" tabindex="0"><table>'
        )
        html = html.replace("</table>", "</table></div>").replace("<th></th>", "<td></td>")
        html = self.with_papers(html)
        title = self.search[file][0][0] if self.search[file] else path
        page = Page(file, title, "", path, template="guide.html", content={"html": html})
        for address in sorted(set(re.findall(r'href="(tinygen[\w.]+|examples[\w.]+)', html))):
            self.mentions[address] += [page] if path.startswith("docs/") else []
        return page

    def relocate(self, token: Any, folder: PurePosixPath) -> None:
        """Let a link or a picture in a Markdown file of the folder point to a page of the site. A link to a
        file without a page becomes plain text, if the file exists."""
        path, _, anchor = (token.attrGet("href") or token.attrGet("src") or "").partition("#")
        if token.type == "image":
            token.attrs.update(src=f"pictures/{Path(path).name}", loading="lazy")
        elif token.type == "link_open" and path and "://" not in path:
            file = (self.root / folder / path).resolve()
            address = self.href(str(file.relative_to(self.root)), anchor)
            token.attrs["href"] = address or ("" if file.exists() else path)

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
            "pictures": [name for name in sorted(self.alts) if name.startswith(stems)],
        }
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
            names |= module.imports.keys() if module.path.endswith("__init__.py") else set()
            for name in names if module.path.startswith("tinygen") else ():
                target = self.names.find_in(module, name)
                if target and target.anchor:
                    dotted = f"{module.name}.{name}"
                    found[target] = min(
                        found.get(target, dotted), dotted, key=lambda name: (name.count("."), name)
                    )
        about = {t: first_sentence(self.modules[t.path].definitions[t.anchor]) for t in found}
        return sorted((dotted, self.href(*target), about[target]) for target, dotted in found.items())

    # -- the whole -------------------------------------------------------------------------------------

    @no_garbage()
    def write(self, out: Path) -> dict[str, int]:
        """Write the site into the folder `out`. Returns what it counts."""
        guides = [self.guide_page(path) for path in self.guides]
        reading, chapters = [], []
        for number in range(len(CHAPTERS)):
            pages = [self.file_page(path) for path in self.in_order(number)]
            chapters.append(self.chapter_page(number, pages))
            reading += [chapters[-1], *pages]
        tests = [self.file_page(path) for path in self.modules if path.startswith("tests/")]
        names = self.public_names()
        titles = {"index": "tinygen", "equations": "All equations", "names": "All names", "search": "Search"}
        indexes = [Page(f"{file}.html", title, template=f"{file}.html") for file, title in titles.items()]
        all_pages = [*reading, *guides, *tests, *indexes]
        counts = {"pages": len(all_pages), "chapters": len(chapters), "equations": len(self.equations)}
        counts |= {"set": sum(e.parsed for e in self.equations), "names": len(names)}
        counts |= {"notebooks": len(self.runs), "graphs": sum(bool(r.graph) for r in self.runs.values())}
        shared = {"site": self, "chapters": chapters, "guides": guides, "names": names, "counts": counts}
        before = {b.file: a for a, b in pairwise(reading)}
        after = {a.file: b for a, b in pairwise(reading)}
        out.mkdir(parents=True, exist_ok=True)
        for page in all_pages:
            around = {"before": before.get(page.file), "after": after.get(page.file)}
            html = self.template(page.template).render(page=page, **around, **shared, **page.content)
            (out / page.file).write_text(html, "utf-8")
        short = {page: [(t, x, a)[: 2 + (t != a)] for t, a, x in rows] for page, rows in self.search.items()}
        entries = json.dumps(short, ensure_ascii=False, separators=(",", ":"))
        (out / "search-index.js").write_text(f"const ENTRIES = {entries}\n", "utf-8")
        for run in self.runs.values():
            run.write(out)
        for file in ("style.css", "search.js"):
            shutil.copy(Path(__file__).parent / "templates" / file, out / file)
        shutil.copytree(self.root / "docs" / "pictures", out / "pictures", dirs_exist_ok=True)
        return counts

    environment = Environment(
        loader=PackageLoader("tinygen.book"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )

    def template(self, name: str) -> Any:
        return self.environment.get_template(name)
