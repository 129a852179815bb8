"""The parts of a set equation as MathML: symbols, scripts, parentheses, fractions, rows."""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple

OVER = {"\u0302": "^", "\u0303": "~", "\u0304": "¯"}  # combining characters, and what <mover> takes
SHOWN = {"-": "−", "*": "∗", "...": "…", "..": "…", "'": "′"}


class Item(NamedTuple):
    """A part of a row: an operand, an operator, a comma or a word of prose, as MathML."""

    kind: str  # "operand", "sum" (an operand that the numerator of a fraction does not reach over), ...
    xml: str
    spaced: bool
    text: str = ""  # what it is in the source, if it is one token
    inner: str | None = None  # of parentheses: what they enclose


def symbol(text: str) -> str:
    if text.isdigit():
        return f"<mn>{text}</mn>"
    return f"<mi>{text}</mi>" if text.isalpha() else f"<mo>{escape(SHOWN.get(text, text))}</mo>"


def accented(word: str) -> str:
    """A name; a hat, a tilde or a bar over a letter."""
    if word[-1] in OVER:
        mark = f"<mo stretchy='false'>{OVER[word[-1]]}</mo>"
        return f"<mover accent='true'><mi>{word[:-1]}</mi>{mark}</mover>"
    if len(word) == 2 and word[0].isupper() and word[1].islower():  # W v
        return f"<mi>{word[0]}</mi><mi>{word[1]}</mi>"
    return f"<mi>{word}</mi>"


def base_of(xml: str) -> str:
    """One element: what <msub> takes."""
    return xml if re.fullmatch(r"<(m\w+)[^<>]*>[^<>]*</\1>", xml) else f"<mrow>{xml}</mrow>"


def fenced(left: str, inner: str, right: str) -> str:
    """In parentheses; they grow only around fractions, since they grow too much around scripts."""
    grow = f"stretchy='{str('<mfrac' in inner).lower()}'"
    return f"<mrow><mo form='prefix' {grow}>{left}</mo>{inner}<mo form='postfix' {grow}>{right}</mo></mrow>"


def fractions(items: list[Item]) -> list[Item]:
    """The row, where slashes have become fractions: first those without spaces, then the others."""
    row: list[Item] = []
    rest = list(items)
    while rest:
        item = rest.pop(0)
        tight = item.text == "/" and not item.spaced and bool(rest) and not rest[0].spaced
        if tight and row and row[-1].kind in ("operand", "sum") and rest[0].kind in ("operand", "sum"):
            below, above = [rest.pop(0)], [row.pop()]
            while rest and (below[0].text == "d" or not rest[0].spaced) and rest[0].kind == "operand":
                below.append(rest.pop(0))  # 1/2π; d/d ln h
            while row and not above[0].spaced and row[-1].kind == "operand":
                above.insert(0, row.pop())  # 2i/C
            row.append(Item("operand", fraction(above, below), above[0].spaced))
        else:
            row.append(item)
    out: list[Item] = []
    while row:
        item = row.pop(0)
        if (
            item.text == "/"
            and out
            and out[-1].kind == "operand"
            and row
            and row[0].kind in ("operand", "sum")
        ):
            above = []
            while out and out[-1].kind == "operand":
                above.insert(0, out.pop())
            below = take_product(row)
            out.append(Item("operand", fraction(above, below), above[0].spaced))
        else:
            out.append(item)
    return out


def take_product(row: list[Item]) -> list[Item]:
    """Take the factors from the beginning of the row."""
    found = []
    while row and row[0].kind in ("operand", "sum"):
        found.append(row.pop(0))
    return found


def fraction(above: list[Item], below: list[Item]) -> str:
    return f"<mfrac><mrow>{bare(above)}</mrow><mrow>{bare(below)}</mrow></mfrac>"


def bare(items: list[Item]) -> str:
    """A row; one pair of parentheses alone is not drawn, since the line of the fraction does its work."""
    return items[0].inner if len(items) == 1 and items[0].inner is not None else joined(items)


def joined(items: list[Item]) -> str:
    """One row. A space between two operands stays; beside a word it is wider."""
    out = ""
    for i, item in enumerate(items):
        if i and item.spaced and {item.kind, items[i - 1].kind} <= {"operand", "sum"}:
            word = len(item.text) > 1 or len(items[i - 1].text) > 1
            out += f"<mspace width='{'.3' if word else '.17'}em'/>"
        if i and item.kind != "comma" and items[i - 1].kind == "comma":
            out += "<mspace width='.17em'/>"
        out += item.xml
    return out
