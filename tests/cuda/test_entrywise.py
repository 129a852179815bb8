"""The lines of C, compiled by a C++ compiler instead of CuPy: C++ has the same functions for floats as
CUDA, and its compiler warns if a float becomes a double."""

import ctypes
import itertools
import subprocess
import sys
import types
from shutil import which

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kernel_checks import compare

from tinygen import ops
from tinygen.kernels import kernels
from tinygen_cuda import entrywise

pytestmark = pytest.mark.skipif(which("g++") is None, reason="there is no g++")

OPS = {name: getattr(ops, name) for name in entrywise.VALUES}
FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Wdouble-promotion", "-Wfloat-conversion", "-Werror")
NUMBERS = itertools.count()


class Loop:
    """cupy.ElementwiseKernel: the loop that CuPy writes, in C++."""

    def __init__(self, inputs, output, line, name, folder):
        arguments = [part.split()[1] for part in [*inputs.split(", "), output]]
        assert {part.split()[0] for part in [*inputs.split(", "), output]} == {"float32"}
        pointers = ", ".join(f"float *_{a}" for a in arguments)
        entries = " ".join(f"float &{a} = _{a}[_i];" for a in arguments)
        source = folder / f"{name}{next(NUMBERS)}.cpp"  # a library of a name is loaded once
        source.write_text(
            f'#include <cmath>\nusing namespace std;\nextern "C" void run(long _n, {pointers}) '
            f"{{ for (long _i = 0; _i < _n; _i++) {{ {entries} {line}; }} }}\n"
        )
        library = source.with_suffix(".so")
        done = subprocess.run(["g++", *FLAGS, source, "-o", library], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.run = ctypes.CDLL(str(library)).run

    def __call__(self, *arrays):
        x = [np.ascontiguousarray(a) for a in arrays]
        assert {a.dtype for a in x} == {np.dtype(np.float32)}
        y = np.full(x[0].shape, np.nan, np.float32)
        self.run(ctypes.c_long(y.size), *(a.ctypes.data_as(ctypes.c_void_p) for a in (*x, y)))
        return y


@pytest.fixture(scope="module")
def cupy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    module = types.ModuleType("cupy")
    module.ElementwiseKernel = lambda *args: Loop(*args, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module)
        entrywise.compile_pair.cache_clear()
        yield module
    entrywise.compile_pair.cache_clear()


def errors(name, x):
    return compare(getattr(entrywise, name), OPS[name], x, put=np.asarray, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", OPS)
@settings(max_examples=25)
@given(x=arrays(np.float32, st.integers(1, 9), elements=st.floats(-200, 200, width=32)))
def test_against_the_definition(cupy, name, x):
    """In float64, value and gradient."""
    assert [r for r in errors(name, x.astype(np.float64)) if not r.error < 1e-6] == []


@pytest.mark.parametrize("name", OPS)
def test_nan_stays(cupy, name):
    value, _ = getattr(entrywise, name)(np.array([np.nan, 0], np.float32))
    np.testing.assert_array_equal(np.isnan(value), [True, False])


@pytest.mark.parametrize(
    ("table", "name", "what"),
    [("VALUES", "softplus", "value"), ("OF_X", "silu", "gradient 0"), ("OF_Y", "tanh", "gradient 0")],
)
def test_a_wrong_line_is_seen(cupy, monkeypatch, table, name, what):
    """In one constant."""
    entrywise.compile_pair.cache_clear()
    lines = getattr(entrywise, table)
    monkeypatch.setitem(
        lines, name, lines[name].replace("log1p", "1.001f * log1p").replace("(1 ", "(1.001f ")
    )
    assert {r.what for r in errors(name, np.linspace(-3, 3, 7)) if not r.error < 1e-6} == {what}
    entrywise.compile_pair.cache_clear()


def test_a_double_is_seen(cupy, monkeypatch):
    entrywise.compile_pair.cache_clear()
    monkeypatch.setitem(entrywise.VALUES, "tanh", "y = 1.0 * tanh(x)")
    with pytest.raises(AssertionError, match="double"):
        entrywise.tanh(np.ones(2, np.float32))
    entrywise.compile_pair.cache_clear()


def test_they_are_in_the_table():
    ours = [e for e in kernels.entries if e.compute.__module__ == "tinygen_cuda.entrywise"]
    assert {e.op.name for e in ours} == set(OPS)
