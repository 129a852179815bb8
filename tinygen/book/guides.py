"""Markdown files as pages: links lead to pages of the site, pictures are loaded when they are seen."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any

from tinygen.book.notes import Notes
from tinygen.book.pages import Page, page_of, slug_of

QUOTED = re.compile(r"Equation: `([^`]+)` \((.+?)\), held by ")


class Guides(Notes):
    """The pages of README, ARCHITECTURE and docs/."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.mentions: dict[str, list[Page]] = defaultdict(list)  # page: the guides with a link to it

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
            self.set_equation(token)
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

    def set_equation(self, token: Any) -> None:
        """Set the equation of a topic of a lecture, with a link to its place in the source."""
        match = QUOTED.match(token.content)
        if token.type != "inline" or not match:
            return
        text, source = " ".join(match[1].split()), match[2]
        for e in self.equations:
            if (" ".join(e.marked.text.split()), e.marked.source) == (text, source):
                code = next(child for child in token.children if child.type == "code_inline")
                code.type, code.content = "html_inline", self.template("quoted.html").render(e=e, site=self)
                return

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
