"""Equations in the house's notation become MathML; what is not in the notation is refused."""

import re
import xml.etree.ElementTree as ET

import pytest

from tinygen.book.mathml import to_html


def shape(text):
    """The MathML of an equation as nested tuples: names and signs, fractions as ("/", above, below), ..."""

    def visit(element):
        inner = [item for child in element if (item := visit(child)) != ""]
        flat = inner[0] if len(inner) == 1 else tuple(inner)
        names = {"mfrac": "/", "msub": "_", "msup": "^", "msubsup": "_^", "msqrt": "√", "mover": "over"}
        if element.tag in names:
            return (names[element.tag], *(inner if element.tag != "msqrt" else [flat]))
        if element.tag == "mspace":
            return ""
        return flat if inner else (element.text or "")

    html = to_html(text).replace("<wbr>", "").replace("&nbsp;", " ")
    return visit(ET.fromstring(f"<all>{re.sub('</?math.*?>', '', html)}</all>"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", "x"),
        ("x_t", ("_", "x", "t")),
        ("x_{t-1}", ("_", "x", ("t", "−", "1"))),
        ("σ_t²", ("_^", "σ", "t", "2")),
        ("a_ij", ("_", "a", ("i", "j"))),
        ("π_ref", ("_", "π", "ref")),
        ("σ↑²", ("_^", "σ", "↑", "2")),
        ("W_Q^h", ("_^", "W", "Q", "h")),
        ("Σ⁻¹", ("^", "Σ", ("−", "1"))),
        ("x̂", ("over", "x", "^")),
        ("ᾱ_t", ("_", ("over", "α", "¯"), "t")),
        ("√x y", (("√", "x"), "y")),
        ("√(x + y)", ("√", ("x", "+", "y"))),
        ("√ᾱ_t", ("√", ("_", ("over", "α", "¯"), "t"))),
        ("a/b c", (("/", "a", "b"), "c")),
        ("1/2π", ("/", "1", ("2", "π"))),
        ("2i/C", ("/", ("2", "i"), "C")),
        ("a b / c d", ("/", ("a", "b"), ("c", "d"))),
        ("(a + b) / c", ("/", ("a", "+", "b"), "c")),
        ("1/N Σ_i x_i", (("/", "1", "N"), ("_", "Σ", "i"), ("_", "x", "i"))),
        ("Σ_k p q / r", (("_", "Σ", "k"), ("/", ("p", "q"), "r"))),
        ("w / Σ_j w_j", ("/", "w", (("_", "Σ", "j"), ("_", "w", "j")))),
        ("x / y · z", (("/", "x", "y"), "·", "z")),
        ("∂y/∂x", ("/", ("∂", "y"), ("∂", "x"))),
        ("f(x)/g(x)", ("/", ("f", ("(", "x", ")")), ("g", ("(", "x", ")")))),
        ("x^(1/2)", ("^", "x", ("/", "1", "2"))),
        ("x^(t)", ("^", "x", ("(", "t", ")"))),
        ("p(x|z)", ("p", ("(", "x", "|", "z", ")"))),
        ("|x|/|y|", ("/", ("|", "x", "|"), ("|", "y", "|"))),
        ("E |x - y|²", ("E", ("^", ("|", "x", "−", "y", "|"), "2"))),
        ("‖x‖² / 2", ("/", ("^", ("‖", "x", "‖"), "2"), "2")),
        ("KL(p ‖ q)", ("KL", ("(", "p", "‖", "q", ")"))),
        ("a|x|", ("a", ("|", "x", "|"))),
        ("-x", ("−", "x")),
        ("π*(y)", (("^", "π", "∗"), ("(", "y", ")"))),
        ("W * x", ("W", "∗", "x")),
        ("c' ", ("^", "c", "′")),
    ],
)
def test_the_notation(text, expected):
    assert shape(text) == expected


@pytest.mark.parametrize("text", ["(x", "x)", "x_", "a /", "/ b", "√", "x ^ 2", "a & b", "{x", "|x|_", "x^("])
def test_what_is_not_in_the_notation(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        to_html(text)


def test_words_stand_outside():
    html = to_html("r_ij, where r_ij is the share of j")
    assert " where " in html
    assert html.count("<math") == 4  # r_ij, r_ij, share, j
    assert to_html("a token").count("<math") == 1


def test_signs_of_html_are_escaped():
    assert "&lt;" in to_html("a < b")
    assert "<script" not in to_html("x < script")
