"""The house is built bottom-up: a file imports from the floors below its own, never upwards or in a circle.

The floors are written down here, with what each is for; the checker reads the imports of every file, also
those inside functions. Imports for type checkers only (`if TYPE_CHECKING:`) do not run and do not count.
"""

import ast
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pytest

import tinygen


class Floor(NamedTuple):
    rooms: str  # modules or packages of tinygen (or of a package in it), side by side: no imports among them
    about: str
    only: str | None = None  # if given, it imports nothing else of tinygen than these
    needs: str = "numpy"  # the packages from outside that it may import at once


FLOORS = (
    Floor("types lazy", "The types that signatures name; names that are imported late.", ""),
    Floor("words", "PyTorch's words and NumPy's: what errors say.", ""),
    Floor("random", "Draws from a categorical distribution.", ""),
    Floor("summation", "Sums over many rows that keep their digits.", ""),
    Floor("memory", "Which memory was written into, and when; the tape's clock.", ""),
    Floor("rows", "The rows of a batch that this process has, where several share it.", "types"),
    Floor("modes", "The switches: whether ops record, and whether they look for NaNs.", ""),
    Floor("arrays", "Which device an array is on, and to another.", "types"),
    Floor("callers", "Which line of the user's code called an op.", ""),
    Floor("tensor", "An array and its place on the tape; every NumPy function finds its op from here."),
    Floor("node", "What is on the tape: an op that was executed.", "callers memory"),
    Floor("protocols checks", "Numbers, copies, in-place operators; what ops are held to, and its words."),
    Floor("tape", "How an op is made and recorded."),
    Floor("rerun", "The recorded program, run again."),
    Floor("recompute", "What is not kept but computed again: checkpoints."),
    Floor("backward", "The walk over the tape: gradients and their replay."),
    Floor("transforms", "Functions of functions, all on the walk: grad, vjp, jvp, hessian."),
    Floor(
        "ops",
        "Values and gradient rules: they are recorded, and know nothing of the walk.",
        "words arrays rows tensor summation node tape",
    ),
    Floor(
        "kernels",
        "Faster ways to compute the ops, which do not know of them.",
        "arrays rows tensor summation node ops",
    ),
    Floor("layout", "Where boxes and arrows of any graph have their places.", ""),
    Floor("drawing", "Boxes and arrows as SVG, of any graph.", "layout"),
    Floor("density", "Densities without a network, in plain NumPy, as in scikit-learn.", ""),
    Floor("storage.files", "Files that are whole or not there; the error for those that are not.", ""),
    Floor(
        "text data",
        "Text, tokens and tasks in plain NumPy: they can be read without the engine.",
        "random storage.files",
    ),
    Floor(
        "storage.safetensors storage.pickles storage.lock storage.versions",
        "Formats for arrays, and for all else without code; one writer a folder; who computes.",
        "storage.files",
    ),
    Floor("vertices", "The tape as names and texts."),
    Floor("storage.torch_files", "PyTorch's files of arrays.", "storage.files storage.pickles"),
    Floor("gradcheck graph", "Two ways to look at what the engine does."),
    Floor(
        "testing",
        "Property tests of a user's own ops and layers; imported by no one else.",
        None,
        "numpy hypothesis",
    ),
    Floor("book", "The source as a site; imported by no one.", "", "numpy jinja2 markdown_it markupsafe"),
    Floor("einops_backend", "Tensors for einops; imported by no one else.", "tensor", "numpy einops"),
    Floor(
        "nn",
        "Modules: parameters, and layers made of ops.",
        "memory arrays rows tensor tape backward ops kernels",
    ),
    Floor("optim", "What moves the parameters of modules."),
    Floor("storage.state", "What changes in a run, as a tree; and a run put back.", "storage.files nn"),
    Floor(
        "parallel",
        "Several processes, each with some rows of a batch.",
        "modes rows arrays tensor backward optim storage.state",
        "numpy",
    ),
    Floor(
        "storage.checkpoint",
        "All of a run in a folder, whole or not there.",
        "storage.files storage.safetensors storage.versions storage.state",
    ),
    Floor(
        "storage.checkpoints",
        "The checkpoints of a run, and which of them stay.",
        "storage.files storage.lock storage.versions storage.state storage.checkpoint",
    ),
    Floor(
        "diffusion",
        "Noise put in and taken out; the model is any function.",
        "arrays tensor modes tape transforms ops",
    ),
    Floor(
        "align",
        "What people want, taught to a policy: any module called like GPT.",
        "rows tensor tape ops nn",
    ),
    Floor("models", "One file a model: layers put together, with the means to sample from it."),
    Floor(
        "judges",
        "They say how good drawings are: a network, parsers, distances.",
        "modes tensor ops nn optim data density storage.safetensors",
    ),
    Floor("exercises", "Functions of the house, to be written again by a student; imported by no one."),
)

LATE = {"kernels.compiled": " numba llvmlite threadpoolctl"}
"""Rooms within rooms that nobody imports at once, and what they may import besides."""


class Import(NamedTuple):
    target: str  # "tinygen.ops.shape", "numpy"
    line: int
    at_start: bool  # not inside a function: it runs when the file is imported


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package in the folder `root`, by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> list[Import]:
    """The imports of a module. `from a import b` is an import of a.b if a.b is a module, else of a."""
    found = []

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                visit(child, at_start)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_start) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inside = f"{base}.{alias.name}"
                found.append(Import(inside if inside in known else base, node.lineno, at_start))
        inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, at_start and not inner)

    visit(ast.parse(path.read_text()), True)
    return found


def room_of(name: str, rooms: Collection[str]) -> str | None:
    """The room of a module: `storage.files` where files of a package have floors of their own, else the
    package. None for tinygen/__init__.py, and for the __init__.py of such a package."""
    inside = name.split(".")[1:]
    two = ".".join(inside[:2])
    if two in rooms or not inside:
        return two or None
    return None if len(inside) == 1 and any(room.startswith(f"{two}.") for room in rooms) else inside[0]


def complaints(root: Path, floors: tuple[Floor, ...]) -> list[str]:
    """Every import in the package that breaks the rules."""
    package = root.name
    level = {room: i for i, floor in enumerate(floors) for room in floor.rooms.split()}
    known = modules(root)
    edges: dict[str, set[str]] = {}
    found = []
    for name, path in known.items():
        if name.endswith(".__main__"):  # a program: nobody imports it, and it may use all of the house
            continue
        room = room_of(name, level)
        if room is not None and room not in level:
            found.append(f"{name} is on no floor: give `{room}` a place in FLOORS")
            continue
        for target, line, at_start in imports(name, path, known):
            at = f"{path.relative_to(root.parent)}:{line}"
            if target.split(".")[0] != package:
                outside = target.split(".")[0]
                needs = floors[level[room]].needs if room is not None else "numpy"
                needs += LATE.get(".".join(name.split(".")[1:3]), "")
                if at_start and outside not in needs.split() and outside not in sys.stdlib_module_names:
                    found.append(f"{at} imports {outside} at once: only NumPy is there for sure")
                continue
            late = ".".join(target.split(".")[1:3])
            if at_start and late in LATE and not f"{name}.".startswith(f"{package}.{late}."):
                found.append(f"{at} imports {late} at once: it needs{LATE[late]}")
            edges.setdefault(name, set()).add(target)
            if room is None:
                continue  # the front door may import everything
            to = room_of(target, level)
            if to is None:
                found.append(f"{at} imports the front door {package}: import from where it is made")
            elif to != room and level.get(to, len(floors)) >= level[room]:
                found.append(f"{at} imports upwards: {room} must not know of {to}")
            elif to in (room, "types", "lazy"):
                continue  # they are for every floor
            elif (only := floors[level[room]].only) is not None and to not in only.split():
                found.append(f"{at} imports {to}: {room} may import {only or 'nothing'}")
    return found + circles(edges)


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves by way of others: what is left when those that import nothing that is
    left are taken away, again and again."""
    left = {name: set(targets) for name, targets in edges.items()}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    return [f"in a circle of imports, or above one: {name}" for name in left]


def test_tinygen_is_built_bottom_up():
    assert complaints(Path(tinygen.__file__).parent, FLOORS) == []


def test_all_rooms_are_there():
    root = Path(tinygen.__file__).parent
    rooms = [room for floor in FLOORS for room in floor.rooms.split()]
    assert len(set(rooms)) == len(rooms)
    paths = [root / room.replace(".", "/") for room in rooms]
    assert [p for p in paths if not p.is_dir() and not p.with_suffix(".py").is_file()] == []


# -- the checker sees what is planted --------------------------------------------------------------

SMALL = (Floor("low", ""), Floor("left right", ""), Floor("alone", "", ""), Floor("high", "", "low"))


@pytest.fixture
def house(tmp_path):
    """A package that keeps the rules; returns a function that writes files into it and gives complaints."""
    files = {
        "__init__.py": "from house.high import everything\n",
        "low.py": "import numpy as np\nimport math\n",
        "left.py": "from house import low\n",
        "right.py": "from house.low import something\n",
        "alone/__init__.py": "from house.alone.part import x\n",
        "alone/part.py": "x = 1\n",
        "high.py": "import house.low\n",
    }

    def write(floors=SMALL, **changed):
        for path, text in {**files, **{k.replace("__", "/") + ".py": v for k, v in changed.items()}}.items():
            (tmp_path / "house" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "house" / path).write_text(text)
        return complaints(tmp_path / "house", floors)

    return write


def test_a_house_in_order(house):
    assert house() == []


@pytest.mark.parametrize(
    "text",
    [
        "from house.high import x",
        "from house import high",
        "import house.high",
        "from .high import x",
        "from . import high",
        "def f():\n    from house.high import x",
        "class A:\n    import house.high",
        "try:\n    import house.high\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_upwards(house, text):
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "high" in row)
    assert house(low=text)[0] == f"house/low.py:{line} imports upwards: low must not know of high"


def test_rooms_side_by_side(house):
    assert house(left="from house.right import x") == [
        "house/left.py:1 imports upwards: left must not know of right"
    ]


def test_a_room_that_may_import_little(house):
    assert house(high="from house import left") == ["house/high.py:1 imports left: high may import low"]
    assert house(alone__part="from house import low") == [
        "house/alone/part.py:1 imports low: alone may import nothing"
    ]


def test_a_circle_inside_a_room(house):
    assert house(alone__part="from house.alone.other import y", alone__other="from .part import x") == [
        "in a circle of imports, or above one: house.alone",
        "in a circle of imports, or above one: house.alone.other",
        "in a circle of imports, or above one: house.alone.part",
    ]


def test_files_of_a_package_with_floors_of_their_own(house):
    floors = (*SMALL, Floor("store.low", "", ""), Floor("store.high", "", "store.low"))
    inside = {
        "store__low": "import math",
        "store__high": "from house.store import low",
    }
    assert house(floors, **inside) == []
    assert house(floors, **{**inside, "store__low": "from house.store.high import x"})[0] == (
        "house/store/low.py:1 imports upwards: store.low must not know of store.high"
    )
    assert house(floors, **inside, store__other="import math") == [
        "house.store.other is on no floor: give `store` a place in FLOORS"
    ]


def test_the_front_door(house):
    assert house(left="from house import something") == [
        "house/left.py:1 imports the front door house: import from where it is made"
    ]


def test_a_room_without_a_floor(house):
    assert house(attic="import math") == ["house.attic is on no floor: give `attic` a place in FLOORS"]


def test_other_packages_are_imported_late(house):
    assert house(low="import scipy.linalg") == [
        "house/low.py:1 imports scipy at once: only NumPy is there for sure"
    ]
    assert house(low="def f():\n    import scipy") == []


def test_a_room_may_say_what_it_needs(tmp_path):
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "room.py").write_text("import scipy\nimport torch\n")
    floors = (Floor("room", "", None, "numpy scipy"),)
    assert complaints(tmp_path / "house", floors) == [
        "house/room.py:2 imports torch at once: only NumPy is there for sure"
    ]


def test_a_room_within_a_room_that_is_entered_late(house):
    inside = {"kernels____init__": "", "kernels__compiled__loops": "import numba\nimport torch\n"}
    floors = (*SMALL, Floor("kernels", ""))
    assert house(floors, **inside) == [
        "house/kernels/compiled/loops.py:2 imports torch at once: only NumPy is there for sure"
    ]
    inside["kernels__compiled__loops"] = "from house.kernels.compiled import other"
    inside["kernels__compiled__other"] = "import numba"
    assert house(floors, **inside) == []
    late = "def f():\n    import house.kernels.compiled.other"
    assert house(floors, **inside, kernels__slow=late) == []
    assert house(floors, **inside, kernels__slow="import house.kernels.compiled.other") == [
        "house/kernels/slow.py:1 imports kernels.compiled at once: it needs" + LATE["kernels.compiled"]
    ]


def test_imports_for_type_checkers_are_free(house):
    assert house(low="if TYPE_CHECKING:\n    from house.high import x") == []
    assert house(low="if typing.TYPE_CHECKING:\n    import torch") == []
    assert house(low="if TYPE_CHECKING:\n    pass\nelse:\n    import house.high") != []
