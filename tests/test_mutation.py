"""The tools of the mutation run: pieces of a file, samples, and functions that are swapped while they run."""

import gc
import importlib.util
import json
import sys
import textwrap
from types import SimpleNamespace

import hot_swap
import judging
import mutants
import pytest
import selection

from tinygen.nn import RopeScaling

SOURCE = '''
    """A file."""

    LIMIT = 3

    def area(width, height=2):
        return width * height

    class Box:
        side = 4

        @property
        def volume(self):
            return max(area(self.side) * self.side, 0)

    def add(*numbers, start=0):
        def total():
            return sum(numbers) + start
        return total()
'''


@pytest.fixture
def file(tmp_path):
    """The file, and the module made of it."""
    path = tmp_path / "boxes.py"
    path.write_text(textwrap.dedent(SOURCE))
    spec = importlib.util.spec_from_file_location("boxes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return path, module


def swapped(file, monkeypatch, old, new):
    path, module = file
    monkeypatch.setitem(hot_swap.sys.modules, "boxes", module)
    source = path.read_text()
    assert source.count(old) == 1
    return hot_swap.swap(str(path), source, source.replace(old, new), hot_swap.functions())


def test_who_holds_a_function_calls_the_mutant(file, monkeypatch):
    area, box = file[1].area, file[1].Box()
    assert swapped(file, monkeypatch, "width * height", "width + height")
    assert area(5) == 7
    assert box.volume == 6 * 4


def test_a_method_and_a_function_in_a_function(file, monkeypatch):
    assert swapped(file, monkeypatch, "* self.side, 0", "- self.side, 0")
    assert file[1].Box().volume == 8 - 4
    assert swapped(file, monkeypatch, "sum(numbers) + start", "sum(numbers) - start")
    assert file[1].add(1, 2, start=1) == 2


@pytest.mark.parametrize(
    ("old", "new", "call", "wanted"),
    [
        ("height=2", "height=3", lambda m: m.area(5), 15),
        ("start=0", "start=1", lambda m: m.add(5), 6),
    ],
)
def test_defaults(file, monkeypatch, old, new, call, wanted):
    assert swapped(file, monkeypatch, old, new)
    assert call(file[1]) == wanted


@pytest.mark.parametrize(
    ("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("side = 4", "side = 5"), ("@property", "@staticmethod")]
)
def test_what_an_import_computes_is_not_swapped(file, monkeypatch, old, new):
    assert not swapped(file, monkeypatch, old, new)


def test_one_and_one_point_zero_differ(file, monkeypatch):
    assert swapped(file, monkeypatch, "* self.side, 0", "* self.side, 0.0")


def test_pieces_are_put_back_where_they_were(tmp_path, monkeypatch):
    """Every mutant differs from the file in the lines that it names, and in no others."""
    pytest.importorskip("cosmic_ray")
    source = textwrap.dedent(SOURCE).lstrip()
    (tmp_path / "boxes.py").write_text(source)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    made = list(mutants.mutants("boxes.py"))
    functions = {change["function"] for change, _ in made}
    assert functions == {"", "area", "Box", "Box.volume", "add", "add.total"}
    for change, mutated in made:
        at = change["line"] - 1
        before, after = (change[name].splitlines() for name in ("before", "after"))
        old, new = (text.splitlines() for text in (source, mutated))
        assert [line.strip() for line in old[at : at + len(before)]] == before
        assert [line.strip() for line in new[at : at + len(after)]] == after
        assert old[:at] == new[:at]
        assert old[at + len(before) :] == new[at + len(after) :]
    assert len({mutants.key(change) for change, _ in made}) == len(made)


def test_a_default_that_is_written_out_is_no_keyword_to_lose():
    made = mutants.without_a_keyword("zip(a, b, strict=False) + sorted(zip(a, b, strict=True), key=c)")
    assert [mutated for _, mutated in made] == [
        "zip(a, b, strict=False) + sorted(zip(a, b, strict=True))",
        "zip(a, b, strict=False) + sorted(zip(a, b), key=c)",
    ]


def test_who_asks_for_a_signature_sees_the_head(file, tmp_path, monkeypatch):
    """Of a function, a class, a method and an op; only if a test asks, not a library that the test calls."""
    path, module = file
    source = "import inspect\nseen = lambda thing: inspect.signature(thing)\n"
    inside, outside = {}, {}
    exec(compile(source, str(selection.ROOT / "tests" / "test_box.py"), "exec"), inside)
    exec(compile(source, "library.py", "exec"), outside)
    op = SimpleNamespace(body=module.add, __call__=lambda *given: 0)
    heads = {}
    with selection.watching({str(path): "boxes.py"}, {}, heads):
        inside["seen"](module.area)
        outside["seen"](module.add)
    first = module.area.__code__.co_firstlineno
    assert heads == {"boxes.py": {first}}
    assert selection.place_of(op) == (str(path), module.add.__code__.co_firstlineno)
    assert selection.place_of(selection.Test.__new__) == selection.place_of(len) == ("", 0)
    assert selection.place_of(RopeScaling) == (sys.modules[RopeScaling.__module__].__file__, 0)  # a dataclass
    monkeypatch.setattr(selection, "ROOT", tmp_path)
    tests = {
        "tests/nn/test_box.py": selection.Test(0.1, {"boxes.py": {first + 1}}, {}),
        "tests/models/test_contract.py": selection.Test(0.2, {}, heads),
        "tests/models/test_box.py": selection.Test(0.3, {"boxes.py": {first + 1}}, {}),
    }
    order = selection.Order(tests, lambda file: ["tests/nn/"])
    assert order.of({"file": "boxes.py", "line": first}) == list(tests)[1::-1]
    assert order.of({"file": "boxes.py", "line": first + 1}) == list(tests)[:1]
    assert order.all("boxes.py") == list(tests)[1::-1]


def test_notes_hold_until_a_file_changes(tmp_path, monkeypatch):
    """Of the tests in a file until it changes; all of them until a file that all tests are made of does."""
    monkeypatch.setattr(selection, "ROOT", tmp_path)
    for name in ("tinygen/box.py", "tinygen/lid.py", "tests/test_box.py", "tests/test_lid.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    names = ["tests/test_box.py::test_it[a::b]", "tests/test_lid.py::test_it"]
    rows = [
        selection.state(["tinygen/box.py"]),
        *([name, 0.5, {"tinygen/box.py": [1]}, {}] for name in names),
    ]
    notes = tmp_path / "notes"
    notes.write_text("\n".join(map(json.dumps, rows)))

    def known():
        return selection.read_notes(notes, ["tinygen/box.py"])

    assert known() == dict.fromkeys(names, selection.Test(0.5, {"tinygen/box.py": {1}}, {}))
    (tmp_path / "tests/test_new.py").write_text("1\n")
    (tmp_path / "tests/test_lid.py").write_text("2\n")
    assert list(known()) == names[:1]
    assert selection.read_notes(notes, ["tinygen/lid.py"]) is None
    (tmp_path / "tinygen/lid.py").write_text("2\n")
    assert known() is None


def test_the_judge_knows_the_functions_that_are_there(monkeypatch):
    """Without them no mutant could be swapped in, and each would cost an import of everything."""
    judge = judging.Judge(None, [])
    monkeypatch.setattr(judging, "watch_all", lambda *given: {})
    try:
        judge.loop({})
    finally:
        gc.unfreeze()
    assert (hot_swap.__file__, "swap") in judge.live


def test_a_sample_does_not_change_with_the_rest_of_the_file():
    def made(numbers):
        return [({**dict.fromkeys(mutants.KEY, ""), "function": str(i)}, "") for i in numbers]

    before = {c["function"] for c, _ in mutants.sampled(made(range(100)), 10, seed=0)}
    after = {c["function"] for c, _ in mutants.sampled(made(range(1, 101)), 10, seed=0)}
    assert len(before) == len(after) == 10
    assert len(before & after) >= 9
    assert before != {c["function"] for c, _ in mutants.sampled(made(range(100)), 10, seed=1)}
