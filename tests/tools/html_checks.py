"""What must hold for every page of a site in a folder: `complaints` lists what does not.

The pages are read by regular expressions, since all of their `>` end tags and all values are in quotes; where
that is not so, tags do not close each other, which is a complaint, too.
"""

import re
from collections import Counter
from html import unescape
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)([^>]*)>")
ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
VOID = {"meta", "link", "img", "br", "input", "wbr", "hr", "mspace"}
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "form": "action"}
NEEDED = {"header", "main", "nav", "footer", "title"}
LIMIT = 300_000  # bytes of a page, its style and its scripts


def attributes(text: str) -> dict[str, str]:
    return {name: unescape(value) for name, value in ATTRIBUTE.findall(text)}


def target(address: str, page: str) -> tuple[str, str] | None:
    """The file and the anchor of an address; None for one on another host."""
    if re.match(r"[a-z]+:|//", address):
        return None
    file, _, anchor = unquote(address.partition("?")[0]).partition("#")
    return file or page, anchor


def open_tags(tags: list[tuple[str, str, str]]) -> str:
    """The first element that is not closed by its own tag, or ""."""
    opened = []
    for end, tag, rest in tags:
        if end:
            if not opened or opened.pop() != tag:
                return tag
        elif tag not in VOID and not rest.endswith("/"):
            opened.append(tag)
    return opened[0] if opened else ""


def complaints(folder: Path) -> list[str]:
    """Every dead link, request to another host, page that is too large, and fault in the HTML."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    tags = {path.name: TAG.findall(path.read_text("utf-8")) for path in sorted(folder.glob("*.html"))}
    ids = {name: re.findall(r' id="([^"]*)"', (folder / name).read_text("utf-8")) for name in tags}
    anchors = {name: set(found) for name, found in ids.items()}
    found = []
    for name, page in tags.items():
        for _, tag, rest in page:
            if tag == "a" and rest:
                address = attributes(rest).get("href", "")
                to = target(address, name)
                if to and to[0] not in sizes:
                    found.append(f"{name}: dead link {address!r}")
                elif to and to[1] and to[1] not in anchors.get(to[0], ()):
                    found.append(f"{name}: dead anchor {address!r}")
            elif tag in LOADED and rest:
                address = attributes(rest).get(LOADED[tag], "data:")
                to = target(address, name)
                if to is None and not address.startswith("data:"):
                    found.append(f"{name}: <{tag}> asks another host: {address!r}")
                elif to and to[0] not in sizes:
                    found.append(f"{name}: <{tag}> needs {address!r}, which is missing")
                elif to and tag in ("link", "script"):
                    sizes[name] += sizes[to[0]]
            if tag == "img" and not re.search(r' alt="[^"].*loading="lazy"', rest):
                found.append(f"{name}: a picture without words or loading=lazy: {rest}")
        if sizes[name] > LIMIT:
            found.append(f"{name}: {sizes[name]} bytes with style and scripts")
        if not_closed := open_tags(page):
            found.append(f"{name}: <{not_closed}> is not closed")
        links = [end for end, tag, _ in page if tag == "a"]
        found += [f"{name}: a link in a link"] * any(not (end or after) for end, after in pairwise(links))
        found += [f"{name}: the anchor {i!r} twice" for i, n in Counter(ids[name]).items() if n > 1]
        levels = [int(tag[1]) for end, tag, _ in page if not end and re.fullmatch("h[1-6]", tag)]
        if levels.count(1) != 1:
            found.append(f"{name}: {levels.count(1)} headings h1")
        found += [
            f"{name}: h{below} follows h{above}" for above, below in pairwise(levels) if below > above + 1
        ]
        found += [f"{name}: no <{tag}>" for tag in sorted(NEEDED - {tag for end, tag, _ in page if not end})]
        if next(rest for _, tag, rest in page if tag == "html") != ' lang="en"':
            found.append(f"{name}: no language")
        first = next((attributes(rest) for _, tag, rest in page if tag == "a"), {})
        if first.get("class") != "skip":
            found.append(f"{name}: the first link does not skip to the content")
    styles = "".join(path.read_text("utf-8") for path in folder.glob("*.css"))
    found += [f"a style loads something: {what}" for what in re.findall(r"url\(.*?\)|@import.*", styles)]
    return found
