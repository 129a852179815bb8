"""`import tinygen` in a fresh process: what it brings along, and what it leaves alone."""

import subprocess
import sys

import tinygen

HEAVY = {
    "torch",
    "scipy",
    "matplotlib",
    "PIL",
    "numba",
    "llvmlite",
    "cupy",
    "tqdm",
    "sklearn",
    "pandas",
    "jax",
}


def in_a_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def loaded(statement):
    return set(in_a_fresh_process(f"import sys; {statement}; print(*sys.modules)"))


def test_it_imports_no_heavy_package():
    tops = {name.partition(".")[0] for name in loaded("import tinygen")}
    assert tops & HEAVY == set()


def test_it_imports_only_itself_beside_numpy_and_the_standard_library():
    """What it imports of NumPy and the standard library is not the subject here."""
    tops = {
        name.partition(".")[0]
        for name in loaded("import tinygen") - loaded("import numpy.random, numpy.fft, numpy.typing")
    }
    assert {top for top in tops if top not in sys.stdlib_module_names} == {"tinygen"}


def test_it_does_not_load_the_rooms_that_are_not_asked_for():
    names = loaded("import tinygen")
    assert not any(name.startswith(("tinygen.nn", "tinygen.models", "tinygen.text")) for name in names)


def test_a_heavy_package_would_be_seen():
    assert {"tqdm"} <= {name.partition(".")[0] for name in loaded("import tinygen, tqdm")} & HEAVY


def test_everything_that_it_promises_is_there():
    assert sorted(tinygen.__all__) == tinygen.__all__
    assert [name for name in tinygen.__all__ if not hasattr(tinygen, name)] == []
