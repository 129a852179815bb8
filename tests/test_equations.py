"""Every equation that a docstring marks names tests that exist (`tinygen/book/equations.py` has the form)."""

import pytest

from tinygen.book.equations import equations, exists, index


def test_every_equation_is_held_by_a_test_that_exists():
    marked = index()
    assert len(marked) >= 60
    missing = [f"{e.file}:{e.line}: {test}" for e in marked for test in e.tests if not exists(test)]
    assert missing == []


# -- the check sees what is planted -------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    def write(doc):
        path = tmp_path / "file.py"
        path.write_text(
            f'class Schedule:\n    def alpha(self):\n        """One line.\n\n{doc}\n        """\n'
        )
        return list(equations(path, tmp_path))

    return write


def test_an_equation_and_its_tests(source):
    [found] = source(
        "        Eq.: y = f(x)\n            + g(x)    (Ho et al. 2020, eq. 4)\n"
        "        Held by: tests/a.py::test_b, tests/c.py::test_d\n"
    )
    assert found.owner == "Schedule.alpha"
    assert (found.text, found.source) == ("y = f(x) + g(x)", "Ho et al. 2020, eq. 4")
    assert found.tests == ("tests/a.py::test_b", "tests/c.py::test_d")


def test_an_equation_without_a_test(source):
    with pytest.raises(ValueError, match=r"file.py:2: no `Held by: .*` below 'Eq.: y = x \(here\)'"):
        source("        Eq.: y = x (here)\n")


def test_an_equation_without_a_source(source):
    with pytest.raises(ValueError, match=r"file.py:2: not `Eq.: equation .source.`"):
        source("        Eq.: y = x\n        Held by: tests/a.py::test_b")


@pytest.mark.parametrize(
    ("test", "there"),
    [
        ("tests/test_equations.py::test_an_equation_without_a_source", True),
        ("tests/test_equations.py::source", False),  # no test
        ("tests/test_equations.py::test_that_is_not_there", False),
        ("tests/test_equations.py", False),
        ("tests/no_such_file.py::test_a", False),
    ],
)
def test_which_tests_exist(test, there):
    assert exists(test) == there
