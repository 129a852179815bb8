"""The pages of the lectures quote equations as they stand in the source, with the tests that hold them."""

import re
from pathlib import Path

import pytest

from tinygen.book.equations import exists, index

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "lectures").glob("*.md"))
QUOTED = re.compile(r"- Equation: `([^`]+)` \((.+)\), held by (.+)")
TEST = re.compile(r"\[`(\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)#(\w+)\)")


@pytest.fixture(scope="module")
def marked():
    return {(" ".join(e.text.split()), e.source, e.tests) for e in index()}


def test_there_are_five():
    assert [path.name[0] for path in PAGES] == list("12345")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_equations_are_those_of_the_source(path, marked):
    lines = [line for line in path.read_text("utf-8").splitlines() if line.startswith("- Equation")]
    found = [QUOTED.fullmatch(line) for line in lines]
    assert all(found)
    wrong = [
        match[0]
        for match in found
        if match
        and (
            " ".join(match[1].split()),
            match[2],
            tuple(f"{file}::{name}" for _, file, name in TEST.findall(match[3])),
        )
        not in marked
    ]
    assert wrong == [], "copy the equation, its source and its tests from the docstring"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_tests_exist(path):
    links = TEST.findall(path.read_text("utf-8"))
    assert len(links) > 5
    assert [link for link in links if link[0] != link[2] or not exists(f"{link[1]}::{link[2]}", ROOT)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_topic_without_code_says_so(path):
    for topic in path.read_text("utf-8").split("\n## ")[1:]:
        assert "- Code: " in topic or "- **Not here yet**: " in topic, topic
