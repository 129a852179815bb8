"""`python -m tinygen.kernels` reaches every compiled kernel, forward and backward."""

from importlib import import_module

import pytest

import tinygen
from tinygen.kernels import registry

pytest.importorskip("numba")
everything = import_module("tinygen.kernels.__main__")


def test_every_compiled_kernel_is_called(monkeypatch, capsys):
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
    everything.main()
    assert called == set(wanted)
    printed = capsys.readouterr().out
    assert "attention" in printed
