"""Equations in the house's plain notation, set as MathML, which browsers draw without a script.

The notation is that of the docstrings: `x_{t-1}`, `σ_t²`, `√ᾱ_t x_0`, `p(x|z)`. Its rules:

- A slash without spaces divides its two neighbors: `1/N Σ_i x_i` is (1/N) Σ_i x_i. A slash between spaces
  divides products: `w_k p_k / Σ_j w_j p_j`. Sums and expectations to the left of it stay outside.
- `√`, `_` and `^` take the next symbol, or the next parentheses, which then are not drawn.
- Spaces between symbols stay, since they tell products from words.

`to_html` cuts an equation at its outer operators into several `<math>`, so that it wraps on a narrow screen.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape
from typing import NamedTuple

from tinygen.book.boxes import SHOWN, Item, accented, base_of, fenced, fractions, joined, symbol

TOKEN = re.compile(
    r"""(?P<number>\d+(?:\.\d+)?|½)
    |(?P<word>[^\W\d_¹²³⁰-ₜᵀᴺ½]) (?P<accent>[\u0302-\u0304]?)
        (?P<more>(?:(?<=[A-Za-z])[A-Za-z]+(?:-[a-z]{3,})?\d*)?)
    |(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀᴺⁿ]+) |(?P<lowered>[₀₁₂₃₄₅₆₇₈₉↑↓]+)
    |(?P<sign>\.\.\.?|//|[-()\[\]{}|‖⌊⌋⌈⌉⟨⟩=≠≤≥<>≈∝~≻←→+±·×⊙⊗*/,;:…!∈∂∇∫√∞_^'])""",
    re.VERBOSE,
)
PLAIN = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀᴺⁿ₀₁₂₃₄₅₆₇₈₉", "0123456789-+TNn0123456789")
CLOSED_BY = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉", "⟨": "⟩", "|": "|", "‖": "‖"}
OPERATORS = {*"=≠≤≥<>≈∝~≻←→+-±·×⊙⊗*/:‖|∈…!", "//", "..", "..."}
BREAKS = {*"=≠≤≥≈∝~≻←→+-±·×⊙⊗"}  # a line may be broken before these
PROSE = {"a", "all", "and", "are", "as", "at", "by", "else", "equally", "for", "from", "has", "highest", "if"}
PROSE |= {"in", "is", "of", "on", "or", "over", "the", "to", "where", "with"}


class Token(NamedTuple):
    kind: str  # "number", "word", "raised", "lowered", "sign", or "end"
    text: str
    spaced: bool  # there is a space before it


def tokens(text: str) -> list[Token]:
    """The tokens of an equation. Raises ValueError for a character that is not in the notation."""
    found, at = [], 0
    text = "".join(unicodedata.normalize("NFD", c) if c.isalpha() else c for c in text)
    while at < len(text):
        start = at
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            break
        match = TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"{text[at]!r} is not in the notation, in {text!r}")
        kind = "word" if match["word"] else match.lastgroup
        found.append(Token(kind, match[0], at > start))
        at = match.end()
    return [*found, Token("end", "", True)]


class Parser:
    """A recursive descent over the tokens: row, operand, scripts."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at = text, tokens(text), 0

    def peek(self, ahead: int = 0) -> Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def fail(self, what: str) -> ValueError:
        return ValueError(f"{what} before {self.peek().text or 'the end'!r}, in {self.text!r}")

    def row(self, closed_by: str = "") -> list[Item]:
        """Items up to the sign `closed_by` or the end, with their fractions built."""
        items: list[Item] = []
        while not (self.peek().kind == "end" or (closed_by and self.peek().text == closed_by)):
            items.append(self.item(items, closed_by))
        if closed_by and self.peek().kind == "end":
            raise self.fail(f"no {closed_by!r}")
        row = fractions(items)
        if any(item.text == "/" for item in row):
            raise self.fail("a fraction has nothing above or below its line")
        return row

    def item(self, before: list[Item], closed_by: str) -> Item:
        token = self.peek()
        if token.text in (",", ";"):
            self.take()
            return Item("comma", f"<mo separator='true'>{token.text}</mo>", token.spaced, token.text)
        if token.text in PROSE and (token.text != "a" or is_article(token, self.peek(1))):
            self.take()
            return Item("prose", f"<mtext>&nbsp;{token.text}&nbsp;</mtext>", True, token.text)
        if token.kind == "sign" and token.text in OPERATORS and not self.opens_bars(before):
            self.take()
            first = not before or before[-1].kind in ("operator", "comma", "prose")
            form = "prefix" if first and token.text in "+-±" else "infix"
            shown = escape(SHOWN.get(token.text, token.text))
            return Item("operator", f"<mo form='{form}'>{shown}</mo>", token.spaced, token.text)
        return self.operand()

    def opens_bars(self, before: list[Item]) -> bool:
        """Whether the sign here is the first bar of |x| or ‖x‖, not that of p(x|z) or KL(p ‖ q)."""
        bar = self.peek().text
        if bar not in ("|", "‖"):
            return False
        bars, depth = 0, 0
        for token in self.tokens[self.at :]:  # the bars on this level
            depth += (token.text in "([{") - (token.text in ")]}") if token.text else 0
            if depth < 0:
                break
            bars += depth == 0 and token.text == bar
        if bars < 2:
            return False
        after_operand = bool(before) and before[-1].kind in ("operand", "sum")
        return not after_operand or self.peek().spaced != self.peek(1).spaced or bars % 2 == 0

    def operand(self) -> Item:
        """A symbol, a word, parentheses or a root, with its scripts; f(x) is one operand."""
        token = self.take()
        inner = None
        if token.kind == "number":
            xml = f"<mn>{token.text}</mn>"
        elif token.kind == "word":
            xml = accented(token.text)
        elif token.text in ("∫", "∇", "∂"):
            xml = f"<mo form='prefix'>{token.text}</mo>"
        elif token.text in ("∞",):
            xml = f"<mi>{token.text}</mi>"
        elif token.text == "√":
            under = self.operand()
            return Item("operand", f"<msqrt>{under.inner or under.xml}</msqrt>", token.spaced)
        elif token.text in CLOSED_BY:
            close = CLOSED_BY[token.text]
            row = joined(self.row(close))
            self.take()
            xml = row if token.text == "{" else fenced(token.text, row, close)
            inner = row if token.text == "(" else None
        else:
            self.at -= 1
            raise self.fail("an operand is missing")
        scripted = self.scripts(xml)
        if scripted != xml:
            inner = None
        name = token.kind == "word" and token.text not in ("Σ", "ln", "log")
        if name and self.peek().text in ("(", "[") and not self.peek().spaced:
            scripted += self.operand().xml  # a call, and what it is called with
            return Item("operand", f"<mrow>{scripted}</mrow>", token.spaced)
        if token.text == "∂" and not self.peek().spaced:
            return Item("operand", f"<mrow>{scripted}{self.operand().xml}</mrow>", token.spaced)
        outer = token.text in ("Σ", "∫", "E") and self.peek().spaced and self.peek().kind != "end"
        return Item("sum" if outer else "operand", scripted, token.spaced, token.text, inner)

    def scripts(self, base: str) -> str:
        """The base with what stands below and above it."""
        below, above = "", ""
        while True:
            token, after = self.peek(), self.peek(1)
            if token.spaced:
                break
            star = token.text == "*" and (after.spaced or after.text in ("(", ",", ")"))
            if token.kind == "raised" or token.text == "'" or star:
                text = self.take().text
                above += "".join(symbol(c) for c in text.translate(PLAIN))
            elif token.kind == "lowered":
                below += "".join(symbol(c) for c in self.take().text.translate(PLAIN))
            elif token.text in ("_", "^"):
                script = self.script()
                below, above = (below + script, above) if token.text == "_" else (below, above + script)
            else:
                break
        if below and above:
            return f"<msubsup>{base_of(base)}<mrow>{below}</mrow><mrow>{above}</mrow></msubsup>"
        if below or above:
            tag = "msub" if below else "msup"
            return f"<{tag}>{base_of(base)}<mrow>{below or above}</mrow></{tag}>"
        return base

    def script(self) -> str:
        """What stands behind _ or ^: a sign, and a symbol or parentheses."""
        self.take()
        sign = ""
        while self.peek().text in ("-", "<", ">") and not self.peek().spaced:
            sign += symbol(self.take().text)
        token = self.peek()
        if token.spaced:
            raise self.fail("a script is missing")
        if token.text in ("(", "{"):
            self.take()
            inner = joined(self.row(CLOSED_BY[token.text]))
            self.take()
            # x^(t) and θ_(b) are names; x^(2/3) is a power
            name = token.text == "(" and "<mfrac>" not in inner
            return sign + (fenced("(", inner, ")") if name else inner)
        if token.kind == "word":
            word = self.take().text
            return sign + ("".join(map(symbol, word)) if is_indices(word) else accented(word))
        if token.kind == "number":
            return sign + f"<mn>{self.take().text}</mn>"
        raise self.fail("a script is missing")


def is_article(token: Token, after: Token) -> bool:
    """Whether `a` here is a word, as in `a random token`, and no symbol."""
    return token.spaced and after.spaced and after.kind == "word" and len(after.text) > 3


def is_indices(word: str) -> bool:
    """Whether a word below a symbol is two indices, as in a_ij."""
    return len(word) == 2 and word.isascii() and word.isalpha() and word.islower() and word != "in"


def to_html(text: str) -> str:
    """The equation as `<math>` elements, with words of prose between them. Raises ValueError if it is not in
    the notation."""
    parser = Parser(text)
    items = parser.row()
    pieces: list[list[Item]] = [[]]
    for item in items:
        previous = pieces[-1][-1] if pieces[-1] else None
        infix = item.kind == "operator" and item.text in BREAKS and "infix" in item.xml
        if previous and (infix or "prose" in (item.kind, previous.kind) or previous.kind == "comma"):
            pieces.append([])
        pieces[-1].append(item)
    html = ""
    for piece in filter(None, pieces):
        prose = piece[0].kind == "prose"
        html += f" {piece[0].text} " if prose else f"<math displaystyle='true'>{joined(piece)}</math>"
        html += " " if piece[-1].kind == "comma" else "<wbr>"
    return html.removesuffix("<wbr>").strip()
