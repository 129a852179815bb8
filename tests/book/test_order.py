"""The reading order: no chapter uses what a later one defines."""

import re
from pathlib import Path

import pytest

from tinygen.book.chapters import CHAPTERS, Chapter
from tinygen.book.names import Names, Reference, no_garbage, read
from tinygen.book.order import chapter_of, places

ROOT = Path(__file__).parents[2]


def upwards(references: dict[str, list[Reference]], chapters: tuple[Chapter, ...] = CHAPTERS) -> list[str]:
    """Every name in a file that a file of a later chapter defines, by imports that run with the file's."""
    uses = {
        path: [use for use in found if not use.late and use.target.anchor]
        for path, found in references.items()
    }
    chapter = places({path: [use.target.path for use in used] for path, used in uses.items()}, chapters)
    return [
        f"{path}:{use.line} in chapter {chapter[path] + 1} uses {use.target.anchor} of {use.target.path}, "
        f"chapter {chapter[use.target.path] + 1}"
        for path, used in uses.items()
        for use in used
        if chapter[use.target.path] > chapter[path]
    ]


@pytest.fixture(scope="module")
def references():
    """From each file to the names in it that the book defines."""
    folders = [ROOT / folder for folder in ("tinygen", "tinygen_cuda", "examples")]
    files = [path.relative_to(ROOT).as_posix() for folder in folders for path in sorted(folder.rglob("*.py"))]
    with no_garbage():
        modules = [read(ROOT, file) for file in files]
        names = Names(modules)
        return {module.path: names.references(module) for module in modules}


def test_no_chapter_uses_what_a_later_one_defines(references):
    assert len(references) > 350
    assert sum(map(len, references.values())) > 15_000
    assert upwards(references) == []


def test_every_pattern_finds_a_file(references):
    paths = list(references)
    for i, chapter in enumerate(CHAPTERS):
        assert set(chapter.pages) <= set(paths)
        for pattern in (*chapter.files, *chapter.examples):
            assert "*" in pattern or pattern in paths, pattern
        assert any(chapter_of(path) == i for path in paths), chapter.title
        assert all((ROOT / guide).is_file() for guide in chapter.guides)


def test_every_page_begins_a_chapter_but_the_last(references):
    """A new page in examples/pages/ needs its place in chapters.py."""
    pages = {path for path in references if path.startswith("examples/pages/")}
    assert pages == {path for chapter in CHAPTERS for path in chapter.pages}


# -- the check sees what is planted -------------------------------------------------------------------


@pytest.fixture
def house(tmp_path):
    """A function that writes files, which are in two chapters, and returns what is wrong with their order."""
    chapters = (
        Chapter("First", "", "", (), ("tinygen/low.py", "tinygen/room/*")),
        Chapter("Second", "", "", (), ("tinygen/high.py", "tinygen/*")),
    )

    def write(**texts):
        files = {
            "low": "x = 1\n",
            "high": "from tinygen.low import x\ny = x\n",
            "room/__init__": "from tinygen.room.part import z as z\n",
            "room/part": "z = 1\n",
        }
        for name, text in {**files, **{k.replace("__", "/", 1): v for k, v in texts.items()}}.items():
            path = tmp_path / "tinygen" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py"))
        modules = [read(tmp_path, path) for path in paths]
        return upwards({m.path: Names(modules).references(m) for m in modules}, chapters)

    return write


def test_a_house_in_order(house):
    assert house() == []


@pytest.mark.parametrize(
    "text",
    [
        "from tinygen.high import y\n",
        "from .high import y\n",
        "import tinygen.high\nx = tinygen.high.y\n",
        "from tinygen import high\nx = high.y\n",
        "import tinygen.high as h\n\ndef f():\n    return h.y\n",
    ],
)
def test_an_import_against_the_order(house, text):
    line = next(i for i, row in enumerate(text.splitlines(), 1) if re.search(r"\by\b", row))
    assert house(low=text) == [f"tinygen/low.py:{line} in chapter 1 uses y of tinygen/high.py, chapter 2"]


def test_through_the_door_of_a_room(house):
    """A name is followed through `__init__.py` to where it is defined."""
    said = house(room__part="from tinygen.high import y as z\n", low="from tinygen.room import z\n")
    assert said == [
        f"tinygen/{path}.py:1 in chapter 1 uses y of tinygen/high.py, chapter 2"
        for path in ("low", "room/__init__", "room/part")
    ]


def test_what_does_not_run_with_the_file_is_free(house):
    assert house(low="def f():\n    from tinygen.high import y\n    return y\n") == []
    assert house(low="if TYPE_CHECKING:\n    from tinygen.high import y\n") == []


def test_names_that_a_function_binds_are_its_own(house):
    assert house(low="from tinygen import high\n\ndef f(high):\n    return high.y\n") == []


def test_a_file_that_no_pattern_names_comes_where_it_is_used():
    chapters = (Chapter("First", "", "", (), ("a.py",)), Chapter("Last", "", "", (), ("z.py", "*")))
    uses = {"a.py": ["helper.py"], "helper.py": ["inner.py"], "inner.py": [], "z.py": [], "other.py": []}
    assert places(uses, chapters) == {"a.py": 0, "helper.py": 0, "inner.py": 0, "z.py": 1, "other.py": 1}
    assert places({"a.py": ["z.py"], "z.py": []}, chapters) == {"a.py": 0, "z.py": 1}  # z.py is named


def test_a_file_without_a_chapter():
    with pytest.raises(ValueError, match=r"attic/x\.py is in no chapter"):
        chapter_of("attic/x.py")
