"""Measured results: docs/results/ is whole and true to itself, and README's table is made of it."""

import json
import sys

import pytest
from example_runs import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
from shared import report
from shared.table import COMPARE

sys.path.remove(str(EXAMPLES))

FILES = sorted(report.RESULTS.glob("*.json"))
RUN = {"what", "command", "date", "processor", "seeds", "seconds", "figures"}


def test_the_table_of_readme_is_that_of_the_results():
    """If not: python examples/shared/report.py tables README.md."""
    page = (report.ROOT / "README.md").read_text("utf-8")
    assert report.with_table(page) == page


def test_a_page_without_marks_is_refused():
    with pytest.raises(SystemExit, match="no lines"):
        report.with_table("a page")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_results(path):
    """Every mark follows from its figure and its bound."""
    assert path.stat().st_size <= report.LARGEST
    content = json.loads(path.read_text("utf-8"))
    script = report.ROOT / content["example"]
    assert script.is_file()
    assert script.stem == path.stem
    commands = [run["command"] for run in content["runs"]]
    assert len(set(commands)) == len(commands)
    for run in content["runs"]:
        assert run.keys() >= RUN
        assert run["command"].split()[:2] == ["python", content["example"]]
        assert any("expected" in figure for figure in run["figures"])
        for figure in run["figures"]:
            assert ("expected" in figure) == ("met" in figure)
            if "expected" in figure:
                sign, bound = figure["expected"].split()
                assert COMPARE[sign](figure["measured"], float(bound)) == figure["met"], figure


def test_pictures_are_small():
    for path in (report.ROOT / "docs" / "pictures").glob("*"):
        assert path.stat().st_size <= 200_000, path


# -- record ----------------------------------------------------------------------------------------


def write_result(folder, measured, seconds=12.3, flags=" --out x --steps 3 --resume --save-every=7"):
    """A result.json such as an example leaves."""
    result = {
        "table": [{"name": "loss", "measured": measured, "expected": "< 2", "met": measured < 2}],
        "met": measured < 2,
        "seconds": seconds,
        "run": {
            "command": f"python examples/gpt_text.py{flags}",
            "date": "2026-01-02",
            "processor": "a processor, 2 cores",
            "seconds_of_stages": {"training": seconds},
            "peak_memory_mb": 99.7,
        },
        "flags": {"seed": 5},
    }
    (folder / "result.json").write_text(json.dumps(result))


def test_a_run_is_recorded_and_replaced_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    write_result(tmp_path, 1.5)
    with pytest.raises(SystemExit, match="needs a name"):
        report.record(tmp_path, None)
    path = report.record(tmp_path, "a text")
    (run,) = json.loads(path.read_text("utf-8"))["runs"]
    assert run.keys() > RUN
    assert (run["command"], run["seeds"]) == ("python examples/gpt_text.py --steps 3", [5])
    assert (run["seconds"], run["peak_memory_mb"]) == (12, 100)
    write_result(tmp_path, 2.5)
    report.record(tmp_path, None)  # the same command: the name stays
    write_result(tmp_path, 1.25, flags=" --steps 4")
    report.record(tmp_path, "a longer one")
    first, second = report.markdown_table().splitlines()[2:]
    start = "python examples/gpt_text.py --steps"
    assert first.startswith(f"| a text | `{start} 3` | loss: **2.5** | < 2, not met |")
    assert second.startswith(f"| a longer one | `{start} 4` | loss: **1.25** | < 2 |")


def test_what_cannot_be_recorded_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    with pytest.raises(SystemExit, match=r"no result\.json: the run in it is not finished"):
        report.record(tmp_path, "a text")
    (tmp_path / "result.json").write_text(json.dumps({"val_loss": 1.5, "flags": {}}))
    with pytest.raises(SystemExit, match="from before its table was kept as data"):
        report.record(tmp_path, "a text")
    write_result(tmp_path, 1.0, flags=" --data " + 20_000 * "x")
    with pytest.raises(SystemExit, match="20,000 are the most"):
        report.record(tmp_path, "a text")
    assert not (tmp_path / "results").exists()
