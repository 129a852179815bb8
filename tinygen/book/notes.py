"""Docstrings and comments as HTML: their code and papers become links, their equations MathML."""

from __future__ import annotations

import re
import tokenize
from collections import defaultdict
from html import escape, unescape
from pathlib import Path, PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markupsafe import Markup

from tinygen.book.equations import Marked, marked
from tinygen.book.mathml import to_html
from tinygen.book.names import Module
from tinygen.book.pages import Equation, page_of
from tinygen.book.papers import ARXIV, AUTHORS
from tinygen.book.parts import Part, highlighted, tokens_of
from tinygen.book.repository import Repository

UNTOUCHED = re.compile(r"(<a\b.*?</a>|<code\b.*?</code>|<pre\b.*?</pre>|<[^>]+>)", re.DOTALL)  # by new links


class Notes(Repository):
    """The repository, and what its texts say: `equations` and `search` grow with each note."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.equations: list[Equation] = []
        self.search: dict[str, list[tuple[str, str, str]]] = defaultdict(list)  # page: title, anchor, text
        self.notes = MarkdownIt("zero").enable(["backticks", "fence", "code", "list", "emphasis"])
        self.markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        for rules in (self.notes.renderer.rules, self.markdown.renderer.rules):  # type: ignore[attr-defined]
            rules.update(code_inline=self.inline_code, fence=self.block, code_block=self.block)

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

    environment = Environment(
        loader=PackageLoader("tinygen.book"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )

    def template(self, name: str) -> Any:
        return self.environment.get_template(name)
