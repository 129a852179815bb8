"""Kernels on machines that are not as they should be: Numba cannot start, keep what it compiles, or fork."""

import contextlib
import errno
import importlib
import multiprocessing
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from tinygen import Tensor, kernels
from tinygen.kernels import registry
from tinygen.node import Op

pytest.importorskip("numba")
compile_ = pytest.importorskip("tinygen.kernels.compiled.compile")
cache = importlib.import_module("tinygen.kernels.compiled.cache")

LARGE = np.linspace(-2, 2, 2**14, dtype=np.float32)


@contextlib.contextmanager
def warned(text):
    """The block must give exactly one warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    assert [text in str(warning.message) for warning in said] == [True]


# -- it cannot start -------------------------------------------------------------------------------

CODE = """
import warnings
warnings.simplefilter("always")
import numpy as np, tinygen
from tinygen import Tensor, ops
x = Tensor(np.linspace(-2, 2, 2**14, dtype=np.float32), requires_grad=True)
y = ops.softmax(np.tanh(x))
y[0].backward()
assert np.allclose(np.tanh(x).numpy(), np.tanh(x.numpy())) and np.isfinite(x.grad).all()
rows = tinygen.kernels.table().splitlines()
print(sorted({row.split("  ")[-1].strip() for row in rows if " numba " in row}))
"""
READ_ONLY = """
import errno, tempfile
def refused(*args, **kwargs):
    raise OSError(errno.EROFS, "Read-only file system")
tempfile.TemporaryFile = refused
"""
MACHINES = {
    "no compiler": ({"NUMBA_DISABLE_JIT": "1"}, "", "NUMBA_DISABLE_JIT is set"),
    "nowhere to keep code": ({"HOME": "/proc/none"}, READ_ONLY, "set NUMBA_CACHE_DIR to a folder"),
    "no whole Numba": ({}, "import sys; sys.path.insert(0, 'broken')", "file too short"),
}


def test_where_numba_cannot_start_numpy_computes_and_one_warning_says_so(tmp_path):
    """In processes of their own, side by side."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "numba.py").write_text("raise OSError('libsvml.so: file too short')")
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    started = {}
    for name, (more, before, _) in MACHINES.items():
        command = [sys.executable, "-c", before + CODE]
        environment = {**os.environ, "PYTHONPATH": path, **more}
        started[name] = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    for name, process in started.items():
        reason = MACHINES[name][2]
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, (name, err)
        assert err.count("RuntimeWarning: compiled kernels cannot be used, NumPy computes instead: ") == 1, (
            name
        )
        assert out.startswith("['no: "), (name, out)
        assert reason in out, (name, out)


@pytest.fixture
def op():
    """An op of its own, with a compiled kernel that can be made to fail."""
    switch = registry.Switch()
    made = [Op(double), Op(double)]
    for each in made:
        switch.register_compiled(each, "entrywise")
    return switch, *made


def double(x):
    return 2 * x, lambda g: 2 * g


def numba_error(*args):
    """An error from inside of Numba."""
    exec(compile("raise RuntimeError('LLVM is\\nnot well')", "x", "exec"), {"__name__": "numba.core.codegen"})


FAILURES = {
    "threads": ValueError("No threading layer could be loaded."),
    "disk": OSError(errno.EROFS, "Read-only file system"),
    "cache": RuntimeError("cannot cache function 'f': no locator available"),
    "no text": KeyError(),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_import_that_fails(monkeypatch, op, failure):
    switch, first, second = op
    imports = []

    def import_module(name):
        imports.append(name)
        raise FAILURES[failure]

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.delitem(sys.modules, "tinygen.kernels.compiled")
    with warned("NumPy computes instead"):
        for each in (first, second, first):
            np.testing.assert_array_equal(each.compute(LARGE)[0], 2 * LARGE)
        assert switch.table().count("no: ") == 2
    assert len(imports) == 1


def test_what_is_not_installed_is_no_reason_for_a_warning(monkeypatch, op):
    def import_module(name):
        raise ModuleNotFoundError("No module named 'numba'")

    switch, first, _ = op
    monkeypatch.setattr(importlib, "import_module", import_module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(first.compute(LARGE)[0], 2 * LARGE)
        assert "no: No module named 'numba'" in switch.table()


def test_a_compiler_that_fails_at_the_first_call(monkeypatch, op):
    switch, first, second = op
    monkeypatch.setattr(registry.LazyKernel, "load", lambda self: not self.missing)
    for entry in switch.entries:
        entry.compute.function = numba_error
    with warned("NumPy computes instead: LLVM is"):
        for each in (first, first, second):
            np.testing.assert_array_equal(each.compute(LARGE)[0], 2 * LARGE)
    assert "no: LLVM is\n" in switch.table() + "\n"


def test_a_kernel_that_refuses_its_arguments_is_heard(op):
    def refuse(x):
        raise ValueError("ids must be below 10")

    switch, first, _ = op
    switch.entries[0].compute.function = refuse
    with pytest.raises(ValueError, match="ids must be below 10"):
        first.compute(LARGE)


# -- it cannot keep what it compiles ---------------------------------------------------------------


def test_where_machine_code_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(compile_.numba.config, "CACHE_DIR", "")
    folder = compile_.folder.__wrapped__
    beside = folder()
    assert os.path.dirname(os.path.dirname(beside)) == os.path.dirname(compile_.__file__)
    writable = compile_.tempfile.TemporaryFile

    def read_only(dir):
        if str(dir).startswith(os.path.dirname(compile_.__file__)):
            raise OSError(errno.EROFS, "Read-only file system")
        return writable(dir=dir)

    monkeypatch.setattr(compile_.tempfile, "TemporaryFile", read_only)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder() == str(tmp_path / ".cache" / "tinygen" / os.path.basename(beside))

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compile_.Path, "home", nobody)
    with pytest.raises(
        RuntimeError, match=r"set NUMBA_CACHE_DIR to a folder.*Read-only.*Could not determine"
    ):
        folder()


def test_code_compiled_ahead_moves_from_a_read_only_place(monkeypatch, tmp_path):
    """As in an image of a container: compiled when it was made, read-only when it runs."""
    image, home = tmp_path / "image", tmp_path / "home"
    monkeypatch.setattr(compile_, "__file__", str(image / "compile.py"))
    monkeypatch.setattr(compile_.numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(home))
    folder = compile_.folder.__wrapped__
    beside = compile_.Path(folder())
    assert image in beside.parents
    (beside / "compiled_0").mkdir()
    for name in ("f.nbi", "f.1.nbc", "f.1.nbc.tmp.1"):
        (beside / "compiled_0" / name).write_text(f"{name} of the image")
    writable = compile_.tempfile.TemporaryFile

    def read_only(dir):
        if image in dir.parents:
            raise OSError(errno.EROFS, "Read-only file system")
        return writable(dir=dir)

    monkeypatch.setattr(compile_.tempfile, "TemporaryFile", read_only)
    there = home / ".cache" / "tinygen" / beside.name
    (there / "compiled_0").mkdir(parents=True)
    (there / "compiled_0" / "f.nbi").write_text("newer")
    assert folder() == str(there)
    found = {path.name: path.read_text() for path in (there / "compiled_0").iterdir()}
    assert found == {"f.nbi": "newer", "f.1.nbc": "f.1.nbc of the image"}


def square(part, x):
    x[part] *= x[part]


@pytest.fixture
def squares(monkeypatch, tmp_path):
    """Makes a kernel as a new process would; returns how often its code was found, and checks its values."""
    monkeypatch.setattr(compile_, "folder", lambda: str(tmp_path))

    def found():
        kernel, x = compile_.parallel(square), np.arange(5.0)
        kernel(4, x)
        assert x.tolist() == [0, 1, 4, 9, 4]
        return sum(kernel.stats.cache_hits.values())

    return found


def test_what_is_damaged_is_compiled_again(squares, tmp_path):
    assert squares() == 0
    assert squares() == 1
    (index,), (data,) = tmp_path.rglob("*.nbi"), tmp_path.rglob("*.nbc")
    for path, damage in (
        *((index, lambda content, i=i: flip_bit(content, i)) for i in (9, 60, -1)),
        (data, lambda content: content[: len(content) // 2]),
        (data, lambda content: content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]),
        (index, lambda content: content[: len(content) // 2]),
    ):
        path.write_bytes(damage(path.read_bytes()))
        assert squares() == 0
        assert squares() == 1


def flip_bit(content, i):
    return content[:i] + bytes([content[i] ^ 1]) + content[i:][1:]


def test_a_copy_in_another_place_is_found(squares, monkeypatch, tmp_path):
    assert squares() == 0
    monkeypatch.setattr(compile_, "folder", lambda: str(tmp_path / "elsewhere"))
    cache.copy_code(tmp_path, tmp_path / "elsewhere")
    assert squares() == 1


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_file(squares, monkeypatch, tmp_path):
    """A file gets its name when it is whole."""
    assert squares() == 0
    (data,) = tmp_path.rglob("*.nbc")
    before = data.read_bytes()
    file = cache.Checked(str(data.parent), "square", "stamp")

    writing = file._open_for_write(str(data))
    writing.__enter__().write(before[:100])  # and never closes it
    assert data.read_bytes() == before
    assert squares() == 1


def test_a_file_that_another_process_took_for_its_own_key_is_not_run(tmp_path):
    """Two processes that compile one function for two processors may choose the same number of file."""
    ours, theirs = (cache.Checked(str(tmp_path), "f", "stamp") for _ in range(2))
    ours.save("AVX-512", "code for AVX-512")
    index = (tmp_path / "f.nbi").read_bytes()
    (tmp_path / "f.nbi").unlink()
    theirs.save("AVX2", "code for AVX2")  # into the file that has the other code
    (tmp_path / "f.nbi").write_bytes(index)
    assert ours.load("AVX-512") is None
    ours.save("AVX-512", "code for AVX-512")
    assert ours.load("AVX-512") == "code for AVX-512"
    assert ours.load("AVX2") is None


def test_code_of_other_sources_or_another_numba_is_not_run(monkeypatch, tmp_path):
    cache.Checked(str(tmp_path), "f", "stamp").save("key", "code")
    assert cache.Checked(str(tmp_path), "f", "stamp").load("key") == "code"
    assert cache.Checked(str(tmp_path), "f", "other").load("key") is None
    other = cache.Checked(str(tmp_path), "f", "stamp")
    monkeypatch.setattr(other, "_version", "0.0")
    assert other.load("key") is None


def test_a_full_disk_ends_nothing(squares, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.Checked, "_open_for_write", full)
    cache.warn_not_cached.cache_clear()
    with warned("compiled kernels cannot be kept, each process will compile them anew"):
        assert squares() == 0
        assert squares() == 0


# -- it forks --------------------------------------------------------------------------------------

x = Tensor(LARGE, requires_grad=True)


def value_and_slope(y):
    """Of a tanh that is computed here, and of one that the parent has computed."""
    if y is None:
        y = np.tanh(x)
    x.grad = None
    y.backward(np.ones_like(LARGE), retain_graph=True)
    return y.numpy().tobytes(), x.grad.tobytes()


def of_the_parent(n):
    return value_and_slope(PARENTS[n])


PARENTS = []


def number_of_threads(n):
    """Before and after `threads(n)`, and the number of new threads of the process, where /proc tells it."""
    own = lambda: len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
    began, before = own(), kernels.threads(n)
    return before, kernels.threads(), own() - began if began else n - 1, value_and_slope(None)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork")
def test_a_forked_pool_computes_to_the_same_bits():
    """A child has no helpers, and must not wait for them; it can start its own."""
    expected = value_and_slope(None)
    PARENTS[:] = [np.tanh(x), None]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map_async(of_the_parent, [0, 1, 1, 0], chunksize=1).get(timeout=100)
        threads = pool.map_async(number_of_threads, [compile_.PARTS]).get(timeout=100)
    assert found == [expected] * 4
    assert threads[0] == (1, compile_.PARTS, compile_.PARTS - 1, expected)
    assert value_and_slope(PARENTS[0]) == expected  # and the parent goes on
