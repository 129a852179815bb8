"""The final table: marks, and expected figures in the quick size. Also the length of the examples."""

import ast
import sys
import tokenize
from io import StringIO

import pytest
from example_runs import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
from shared.table import (
    Figure,
    at_least,
    at_most,
    columns_of,
    less_than,
    mean_figures,
    more_than,
    quick_figures,
    table,
    table_of_columns,
)

sys.path.remove(str(EXAMPLES))

LONGEST = 150  # lines of code of an example


@pytest.mark.parametrize(
    ("expected", "met"),
    [
        (at_least(2), (False, True, True)),
        (more_than(2), (False, False, True)),
        (at_most(2), (True, True, False)),
        (less_than(2), (True, False, False)),
    ],
    ids=str,
)
def test_an_expectation(expected, met):
    assert tuple(expected.is_met(x) for x in (1.0, 2.0, 3.0)) == met
    assert not expected.is_met(float("nan"))


ROWS = [
    Figure("accuracy", 0.9712, at_least(0.95), 0.995, 0.1),
    Figure("PSNR", 23.456),
    Figure("loss", 2.0, at_most(1.5), None, 3.0),
]


def test_the_table():
    head, *rows = (line.split() for line in table(ROWS).splitlines())
    assert head == ["measured", "expected", "met", "best", "baseline"]
    assert rows[0] == ["accuracy", "0.9712", "≥", "0.95", "yes", "0.995", "0.1"]
    assert rows[1] == ["PSNR", "23.46"]
    assert rows[2] == ["loss", "2", "≤", "1.5", "NO", "3"]


def test_a_table_with_a_row_for_each_model():
    rows = [
        Figure("VAE: nats", -120.5),
        *ROWS,
        Figure("VAE: parameters", 45_665.0),
        Figure("GAN: parameters", 9.0),
    ]
    head, vae, gan = (line.split() for line in table_of_columns(rows).splitlines())
    assert (head, vae, gan) == (["nats", "parameters"], ["VAE", "-120.5", "45,665"], ["GAN", "9"])
    assert columns_of({"a: x": "1", "b: y": "2", "c": "3"}) == [
        ["", "x", "y"],
        ["a", "1", ""],
        ["b", "", "2"],
    ]


def test_rows_as_data():
    assert ROWS[1].as_data() == {"name": "PSNR", "measured": 23.456}
    wanted = {"name": "loss", "measured": 2.0, "expected": "≤ 1.5", "baseline": 3.0, "met": False}
    assert ROWS[2].as_data() == wanted
    assert [Figure.from_data(row.as_data()) for row in ROWS] == ROWS


def test_the_means_of_some_seeds():
    """Bounds, too, are means. Rows are found by name, the second of a name beside the second; those that not
    all seeds have are left out."""
    one = [
        Figure("a", 1.0, more_than(0), 5, 0),
        Figure("b", 1.0),
        Figure("  of b", 7.0),
        Figure("  of b", 2.0),
    ]
    two = [
        Figure("  of b", 9.0),
        Figure("a", 2.0, more_than(4), 6, 0),
        Figure("c", 0.0),
        Figure("  of b", 4.0),
    ]
    first, second, third = mean_figures([one, two])
    assert first == Figure("a", 1.5, more_than(2), 5.5, 0, (1.0, 2.0))
    assert not first.is_met()
    assert (second, third) == (Figure("  of b", 8.0, seeds=(7, 9)), Figure("  of b", 3.0, seeds=(2, 4)))
    head, row, *_ = table([first, second]).splitlines()
    assert head.endswith("each seed")
    assert row.split()[-2:] == ["1", "2"]


def test_in_the_quick_size_the_first_expected_figure_must_beat_its_baseline():
    free = Figure("without a baseline", 5.0, at_least(4))
    quick = quick_figures([ROWS[1], free, ROWS[2], ROWS[0]])
    assert [figure.expected for figure in quick] == [None, None, less_than(3.0), None]
    assert quick_figures([ROWS[0]])[0].expected == more_than(0.1)
    assert quick_figures([]) == []


# -- the examples ----------------------------------------------------------------------------------


def code_lines(text):
    """How many lines hold code: no docstrings, comments or blanks."""
    docstrings, lines = set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstrings.update(range(node.lineno, node.end_lineno + 1))
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type not in {*empty, tokenize.ENDMARKER}:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path):
    text = path.read_text("utf-8")
    assert code_lines(text) <= LONGEST or path.parent.name == "shared"
    assert len(text.splitlines()) <= 300


TRAINED = [path for path in sorted(EXAMPLES.rglob("*.py")) if "Run(args" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", [p for p in TRAINED if p.parent.name != "shared"], ids=lambda p: p.stem)
def test_every_example_that_trains_has_three_sizes(path):
    text = path.read_text("utf-8")
    assert "Flags(__doc__, SIZES)" in text
    assert '"quick": ' in text
    full = '{"seed": 0' if path.stem == "scaling_laws" else ""  # its full size is a grid of models
    assert any(f'"full": {each}' in text for each in ("FULL", '{"seeds": 3}', full) if each)
