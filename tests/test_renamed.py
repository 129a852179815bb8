"""docs/renamed.md: applied to this project it changes nothing, so no old name is left. And the script changes
code that uses old names."""

import subprocess
from pathlib import Path

import pytest
from rename import main, read_table, with_files_renamed, with_names_renamed

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "tinygen",
    "tinygen_cuda",
    "examples",
    "tests",
    "benchmarks",
    "docs",
    "README.md",
    "ARCHITECTURE.md",
)
TABLE = """
## Files

| before | now |
|---|---|
| `tinygen/models/gpt.py` | `tinygen/models/language/gpt.py` |
| `tinygen/models/judge.py` | `tinygen/judges/digits.py` |

## Words

| before | now | where |
|---|---|---|
| `guided` | `guide` | `everywhere` |
| `spread` | `evenly_spaced` | `examples` |
| `at` | `coefficient` | `by hand` |
"""


def test_no_old_name_is_left():
    files, names = read_table((ROOT / "docs/renamed.md").read_text("utf-8"))
    assert len(files) > 50
    assert len(names) > 50
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not in a checkout")
    leave_out = {"docs/renamed.md", "tests/tools/rename.py", "tests/test_renamed.py"}
    paths = [p for p in listed.stdout.split() if p.endswith((".py", ".md")) and p not in leave_out]
    for path in paths:
        text = (ROOT / path).read_text("utf-8")
        assert with_names_renamed(with_files_renamed(text, files), path, names) == text, path


def test_the_code_of_a_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.md").write_text(TABLE)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.py").write_text(
        "from tinygen.models import judge, vae\n"
        "from tinygen.models.gpt import GPT\n"
        "import tinygen.models.gpt2\n"
        "x = guided(at(3)) + misguided + spread(2)  # see tinygen/models/gpt.py\n"
    )
    main(Path("table.md"), [Path("examples")])
    assert (tmp_path / "examples" / "mine.py").read_text() == (
        "from tinygen.models import vae\n"
        "from tinygen.judges import digits as judge\n"
        "from tinygen.models.language.gpt import GPT\n"
        "import tinygen.models.gpt2\n"
        "x = guide(at(3)) + misguided + evenly_spaced(2)  # see tinygen/models/language/gpt.py\n"
    )


def test_names_are_looked_for_where_the_table_says():
    _, names = read_table(TABLE)
    assert with_names_renamed("spread(guided)", "tests/test_a.py", names) == "spread(guide)"
