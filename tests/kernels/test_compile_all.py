"""`python -m tinygen.kernels compile` reaches every compiled kernel, forward and backward."""

import sys
from importlib import import_module

import pytest

import tinygen
from tinygen.kernels import registry

everything = import_module("tinygen.kernels.__main__")


def test_every_compiled_kernel_is_called(monkeypatch, capsys):
    pytest.importorskip("numba")
    called = set()
    wanted = {}
    for entry in tinygen.kernels.entries:
        later = entry.compute
        if entry.floor == "numba" and isinstance(later, registry.LazyKernel) and later.load():
            wanted[entry.op.name] = later

            def spy(*args, name=entry.op.name, function=later.function, **kwargs):
                value = function(*args, **kwargs)
                if value is not NotImplemented:
                    called.add(name)
                return value

            monkeypatch.setattr(later, "function", spy)
    monkeypatch.setattr(sys, "argv", ["kernels", "compile"])
    everything.main()
    assert called == set(wanted)
    lines = capsys.readouterr().out.splitlines()
    bars = [line for line in lines if line.startswith("[")]
    total = sum(1 for _ in everything.uses()) + 1
    assert len(bars) == total + 1
    assert bars[0].startswith(f"[{'-' * 20}]  0 of {total}, 0 s: gelu")
    assert bars[-1].startswith(f"[{'#' * 20}] {total} of {total}, ")
    assert "attention" in "".join(lines)


def test_the_bar():
    assert (
        everything.draw_bar(9, 36, "layer_norm", 12.3)
        == f"[#####{'-' * 15}]  9 of 36, 12 s: {'layer_norm':24}"
    )


def test_on_a_terminal_the_bar_stays_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    everything.show("one")
    everything.show("two")
    assert capsys.readouterr().out == "\rone\rtwo"


def test_without_a_command_nothing_is_compiled(monkeypatch, capsys):
    def compile_all():
        raise AssertionError

    monkeypatch.setattr(everything, "compile_all", compile_all)
    monkeypatch.setattr(sys, "argv", ["kernels"])
    everything.main()
    assert capsys.readouterr().out.strip() == tinygen.kernels.table()


def test_another_command_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kernels", "list"])
    with pytest.raises(SystemExit) as ended:
        everything.main()
    assert ended.value.code == 2
    assert "choose from" in capsys.readouterr().err
