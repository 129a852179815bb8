"""`import tinygen` in a new process: the modules that it imports, and the ones that it must not import."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

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
    """Imports of NumPy and of the standard library are not tested here."""
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


# -- names that are imported when they are first used ----------------------------------------------

ROOMS = (
    "align",
    "data",
    "density",
    "diffusion",
    "judges",
    "models",
    "nn",
    "ops",
    "optim",
    "storage",
    "testing",
    "text",
)


def test_every_package_can_be_reached_from_tinygen():
    assert set(ROOMS) <= set(dir(tinygen))
    words = in_a_fresh_process(f"import tinygen; print(*(getattr(tinygen, r).__name__ for r in {ROOMS}))")
    assert words == [f"tinygen.{room}" for room in ROOMS]


def test_a_model_is_imported_without_the_others():
    names = loaded("from tinygen.models import VAE")
    assert "tinygen.models.pictures.vae" in names
    others = ("unet", "vqvae", "text_encoder", "latent_diffusion", "diffusers")
    assert [name for name in names if name.startswith("tinygen.models") and name.endswith(others)] == []


def packages_with_late_names():
    """Every package that calls `lazy_names`, with its source."""
    root = Path(tinygen.__file__).parent
    for path in sorted(root.rglob("__init__.py")):
        if "lazy_names(" in (source := path.read_text()):
            yield ".".join(path.parent.relative_to(root.parent).parts), source


def for_type_checkers(source):
    """{name: the module that it is imported from} under `if TYPE_CHECKING:`."""
    block = next(n for n in ast.parse(source).body if isinstance(n, ast.If))
    return {alias.asname: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize(("package", "source"), list(packages_with_late_names()))
def test_mypy_sees_the_names_that_are_imported_late(package, source):
    """The same names from the same modules, and no others."""
    module = importlib.import_module(package)
    seen = for_type_checkers(source)
    late = inspect.getclosurevars(vars(module)["__getattr__"]).nonlocals
    assert set(seen) == {*late["modules"], *late["home"]}
    assert set(seen) <= set(dir(module))
    for name, origin in seen.items():
        value = getattr(module, name)
        if inspect.ismodule(value):
            assert (value.__name__, origin) == (f"{package}.{name}", package)
        else:
            assert value.__module__ == origin == f"{package}.{late['home'][name]}"


def test_ops_has_the_names_of_its_families_and_no_others():
    """No loop variable, and no name that two families give."""
    from tinygen import ops

    families = [name for name in sys.modules if name.startswith("tinygen.ops.")]
    names = [name for family in families for name in getattr(sys.modules[family], "__all__", [])]
    names = [name for name in names if not inspect.ismodule(getattr(ops, name, None))]
    assert sorted(ops.__all__) == ops.__all__
    assert set(ops.__all__) == {name for name in names if hasattr(ops, name)}
    others = {name for name in vars(ops) if name[0] != "_" and name not in ops.__all__}
    assert {name for name in others if not inspect.ismodule(getattr(ops, name))} == {
        "TYPE_CHECKING",
        "Any",
        "FUNCTIONS",
    }


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'tinygen' has no attribute 'modles'"):
        tinygen.modles  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'tinygen\.models' has no attribute 'Gpt'"):
        tinygen.models.Gpt  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Gpt'"):
        from tinygen.models import Gpt  # noqa: F401


# -- one name for a function and a module ----------------------------------------------------------


@pytest.mark.parametrize("name", ["gradcheck", "graph"])
def test_a_function_has_the_names_of_its_module(name):
    """`tinygen.gradcheck` is the function, and `from tinygen.gradcheck import Report` reads the module."""
    function, module = getattr(tinygen, name), sys.modules[f"tinygen.{name}"]
    assert inspect.isfunction(function)
    assert inspect.ismodule(module)
    assert name in module.__all__
    assert len(module.__all__) > 1
    for other in set(module.__all__) - {name}:
        assert getattr(function, other) is getattr(module, other)


def test_kernels_says_where_its_modules_are():
    from tinygen.kernels import registry

    with pytest.raises(AttributeError, match=r"a module of that name: from tinygen\.kernels import registry"):
        tinygen.kernels.registry  # noqa: B018
    assert registry.kernels is tinygen.kernels


def test_everything_that_it_promises_is_there():
    assert sorted(tinygen.__all__) == tinygen.__all__
    assert [name for name in tinygen.__all__ if not hasattr(tinygen, name)] == []
