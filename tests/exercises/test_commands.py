"""`python -m tinygen exercise` and `python -m tinygen check FILE`, as a student uses them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinygen.__main__ import main
from tinygen.exercises import grade
from tinygen.exercises.command import find
from tinygen.exercises.source import solution, source_of, stub, with_mistake


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; returns its exit code and what it printed, to stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def one_line(said):
    """The one line on stderr of a command that is refused."""
    code, out, err = said
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_the_list(call):
    code, out, _ = call("exercise")
    assert code == 0
    assert "The engine (0 of" in out
    assert "  . softmax " in out
    assert not Path("tinygen_exercises.json").exists()


def test_write_check_done(call):
    code, out, _ = call("exercise", "softmax")
    assert code == 0
    assert "python -m tinygen check softmax.py" in out
    assert Path("softmax.py").read_text() == stub(find("softmax"))
    code, out, _ = call("check", "softmax.py")
    assert code == 1
    assert f"softmax: 0 of {len(find('softmax').checks)} checks pass" in out
    assert "softmax.py, line" in out
    assert "there is no code yet" in out
    exercise = find("softmax")
    Path("softmax.py").write_text(with_mistake(exercise, exercise.mistakes[1]))
    code, out, _ = call("check", "softmax.py")
    assert code == 1
    assert "  right  softmax(x)\n  wrong  softmax(x, axis=1)\n" in out
    Path("softmax.py").write_text(solution(exercise))
    code, out, _ = call("check", "softmax.py")
    assert code == 0
    assert f"softmax: {len(exercise.checks)} of {len(exercise.checks)} checks pass" in out
    assert "tinygen/ops/activation.py:" in out
    entry = json.loads(Path("tinygen_exercises.json").read_text())["softmax"]
    assert entry["checks"] == 3
    assert len(entry["done"]) == 10
    assert "  x softmax " in call("exercise")[1]
    Path("softmax.py").write_text("# tinygen exercise: softmax\n")
    assert call("check", "softmax.py")[0] == 1
    assert json.loads(Path("tinygen_exercises.json").read_text())["softmax"]["done"] == entry["done"]


def test_hints_come_one_at_a_time(call):
    hints = find("softmax").hints
    for i in (1, 2, 3):
        code, out, _ = call("exercise", "softmax", "--hint", str(i))
        assert code == 0
        assert out.replace("\n", " ") == hints[i - 1] + " "
    assert not Path("softmax.py").exists()
    with pytest.raises(SystemExit) as raised:
        call("exercise", "softmax", "--hint", "4")
    assert raised.value.code == 2


def test_an_edited_file_is_not_overwritten(call):
    call("exercise", "softmax")
    assert call("exercise", "softmax")[0] == 0  # nothing was written in it
    Path("softmax.py").write_text("mine")
    assert "softmax.py is there already" in one_line(call("exercise", "softmax"))
    assert Path("softmax.py").read_text() == "mine"


def test_an_unknown_name(call):
    assert "do you mean softmax?" in one_line(call("exercise", "sofmax"))
    assert "lists them" in one_line(call("exercise", "qqq"))


def test_files_that_are_no_exercises(call):
    Path("notes.py").write_text("x = 1\n")
    assert "notes.py is no exercise" in one_line(call("check", "notes.py"))
    assert "missing.py" in one_line(call("check", "missing.py"))
    assert "cannot be read" in one_line(call("check", "."))
    Path("other.py").write_text("# tinygen exercise: softmux\n")
    assert "do you mean softmax?" in one_line(call("check", "other.py"))
    Path("bytes.py").write_bytes(b"\xff\xfe")
    assert "UTF-8" in one_line(call("check", "bytes.py"))
    assert not Path("tinygen_exercises.json").exists()


def checked(call, body, head=""):
    """The report on a softmax with this body."""
    lines = [
        "# tinygen exercise: softmax",
        head,
        "import numpy as np",
        "def softmax(x, axis=-1):",
        f"    {body}",
    ]
    Path("softmax.py").write_text("\n".join(lines) + "\n")
    code, out, err = call("check", "softmax.py")
    assert (code, err) == (1, "")
    return out


def test_errors_in_a_student_s_code(call, monkeypatch):
    assert "softmax.py, line 5: '(' was never closed\n             return (x" in checked(call, "return (x")
    assert "softmax.py, line 5, `return y`: NameError: name 'y' is not defined" in checked(call, "return y")
    assert "ModuleNotFoundError: No module named 'nothing'" in checked(call, "pass", "import nothing")
    out = checked(call, "return np.exp(x) @ np.ones(7)")
    assert "softmax.py, line 5, `return np.exp(x) @ np.ones(7)`: ValueError: matmul" in out
    assert "nothing (None), expected an array" in checked(call, "pass")
    assert "SystemExit" in checked(call, "raise SystemExit")
    monkeypatch.setattr(grade, "LIMIT", 0.2)
    assert "no result within 0.2 s: does a loop end?" in checked(call, "while True: pass")


def test_a_file_without_the_function(call):
    Path("softmax.py").write_text("# tinygen exercise: softmax\nmy_softmax = 1\n")
    assert "softmax.py has no function softmax" in call("check", "softmax.py")[1]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"softmax": 3}', '{"softmax": {"checks": "many", "done": null}}']
)
def test_a_damaged_record_is_refused_and_kept(call, text):
    call("exercise", "softmax")
    Path("tinygen_exercises.json").write_text(text)
    assert "tinygen_exercises.json" in one_line(call("exercise"))
    assert "tinygen_exercises.json" in one_line(call("check", "softmax.py"))
    assert Path("tinygen_exercises.json").read_text() == text


def test_the_first_day_stays(call):
    Path("tinygen_exercises.json").write_text('{"softmax": {"checks": 2, "done": "2026-01-01"}}')
    Path("softmax.py").write_text(solution(find("softmax")))
    assert call("check", "softmax.py")[0] == 0
    assert json.loads(Path("tinygen_exercises.json").read_text()) == {
        "softmax": {"checks": 3, "done": "2026-01-01"}
    }


def test_a_record_of_an_exercise_that_is_gone(call):
    Path("tinygen_exercises.json").write_text('{"gone": {"checks": 1, "done": "2026-01-01"}}')
    assert call("exercise")[0] == 0
    call("exercise", "softmax")
    call("check", "softmax.py")
    assert set(json.loads(Path("tinygen_exercises.json").read_text())) == {"gone", "softmax"}


def test_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tinygen", "exercise", "softmax"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "softmax.py").exists()


def test_a_student_s_op_does_not_replace_the_true_one():
    """matmul is what NumPy calls for Tensors: the file must not register itself there."""
    assert "implements" not in stub(find("matmul"))


def test_without_numba_it_says_what_to_install(call, monkeypatch):
    source_of.cache_clear()
    monkeypatch.setitem(sys.modules, "numba", None)
    for name in ("tinygen_cuda.simt", "tinygen_cuda.reduce"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    said = one_line(call("exercise", "row_sums"))
    assert said.rstrip() == 'tinygen: this exercise needs numba: pip install "tinygen[fast]"'
