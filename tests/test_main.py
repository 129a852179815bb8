"""`python -m tinygen COMMAND …` calls the command's module, and says which commands there are."""

import importlib
import sys
import types

import pytest

from tinygen.__main__ import COMMANDS, main


@pytest.fixture
def echo(monkeypatch):
    """A command `echo` that keeps its arguments and ends with the exit code 3."""
    module = types.ModuleType("tinygen_echo")
    module.calls = []
    module.main = lambda arguments: module.calls.append(arguments) or 3
    monkeypatch.setitem(sys.modules, "tinygen_echo", module)
    monkeypatch.setitem(COMMANDS, "echo", ("tinygen_echo", "repeats"))
    return module


def test_a_command_gets_the_rest_and_gives_the_exit_code(echo):
    assert main(["echo", "a", "--b"]) == 3
    assert echo.calls == [["a", "--b"]]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed(echo, capsys, arguments):
    assert main(arguments) == 0
    assert "    echo       repeats" in capsys.readouterr().out.splitlines()


def test_an_unknown_command_is_one_line_and_exit_code_2(echo, capsys):
    assert main(["ecko"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("python -m tinygen: no command 'ecko', but: ")
    assert said.err.endswith("echo\n")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name):
    module, about = COMMANDS[name]
    assert callable(importlib.import_module(module).main)
    assert about
