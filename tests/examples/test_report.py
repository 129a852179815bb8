"""Measured results: docs/results/ is complete and consistent, and the tables of README and docs are made
from it; the pictures of the docs are small, recorded and shown."""

import json
import re
import sys

import numpy as np
import pytest
from example_runs import EXAMPLES

sys.path.insert(0, str(EXAMPLES))
from shared import report
from shared.table import COMPARE

sys.path.remove(str(EXAMPLES))

FILES = sorted(report.RESULTS.glob("*.json"))
RUN = {"what", "command", "date", "processor", "seeds", "seconds", "figures"}


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_those_of_the_results(page):
    """If not: python examples/shared/report.py tables."""
    text = page.read_text("utf-8")
    assert report.with_tables(text) == text


def test_every_example_that_is_recorded_is_in_a_page():
    pages = "".join(page.read_text("utf-8") for page in report.PAGES)
    assert "<!-- results: start -->" in pages
    shown = {found[1] for found in report.START.finditer(pages)}
    assert "text_to_image" in shown
    only_in_the_table_of_all = {"gpt_algorithms", "gpt_text"}
    assert {path.stem for path in FILES} - shown == only_in_the_table_of_all | {
        "break_it"
    }  # which has its own page


def test_readme_has_ten_results():
    """Some of them missed their aim: the table says so."""
    rows = report.table_of_highlights().splitlines()[2:]
    assert len(rows) == len(report.HIGHLIGHTS) == 10
    for (example, name), row in zip(report.HIGHLIGHTS.items(), rows, strict=True):
        runs = json.loads((report.RESULTS / f"{example}.json").read_text("utf-8"))["runs"]
        figures = [figure for run in runs for figure in run["figures"] if figure["name"] == name]
        assert f"**{figures[0]['measured']:.4g}**" in row
        assert ("not met" in row) == (not figures[0]["met"])
    assert "\n".join(rows) in report.PAGES[0].read_text("utf-8")


def test_the_table_of_methods():
    """The seconds are without evaluation, or a seed's share of all; cells without a figure are empty."""
    from shared.methods import Method, rows_of

    a = Method("A", "flow", 2000, 8, 1234, "one", "--full", "seen", "unseen", "drawn", "distance")
    b = Method("B", "flow", 2001, 8, 12, "two", "", "seen", "unseen")
    figures = [{"name": "seen", "measured": 91.234, "seeds": [90, 92.468]}]
    figures += [{"name": name, "measured": x} for name, x in (("unseen", 5.5), ("drawn", 0.1234))]
    figures += [{"name": "distance", "measured": 1234.5}]
    run = {"figures": figures, "seeds": [0, 1], "seconds": 50}
    stages = {"preparation": 1.0, "training": 20.0, "evaluation": 9.0}
    one = {"command": "python x/one.py --full", "seconds_of_stages": {"seed 0": 20.0, "seed 1": 30.0}, **run}
    two = {"command": "python x/two.py", "seconds_of_stages": stages, **run}
    other = {**two, "command": "python x/two.py --seed 1", "figures": []}
    results = {"one": {"runs": [one]}, "two": {"runs": [other, two]}}
    first, second = rows_of([a, b], results)
    assert first[:7] == ["A", "flow", "2000", "8", "1,234", "25 with evaluation", "0.123"]
    assert first[7:] == ["**91.2** (90, 92.5)", "**5.5**", "**1.23e+03**"]
    assert second[5:] == ["21", "", "**91.2** (90, 92.5)", "**5.5**", ""]
    with pytest.raises(SystemExit, match="no run '--full' of one is recorded, and A needs it"):
        rows_of([a], {"two": results["two"]})


def test_marks_that_do_not_fit_are_refused():
    start = "<!-- results of vae_digits: start -->\n"
    with pytest.raises(SystemExit, match="no line <!-- results: end --> below <!-- results of vae_digits"):
        report.with_tables(start)
    with pytest.raises(SystemExit, match="no line"):
        report.with_tables(start + start + report.END)
    with pytest.raises(SystemExit, match="nothing of nobody is recorded"):
        report.with_tables("<!-- results of nobody: start -->\n" + report.END)


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


def test_the_pictures_of_the_docs():
    """Each is small, recorded with its command, and shown with a text for those who cannot see it."""
    here = {path.name for path in report.PICTURES.glob("*")}
    recorded = [each for path in FILES for each in json.loads(path.read_text("utf-8")).get("pictures", [])]
    assert here == {each["file"] for each in recorded}
    pages = "".join(page.read_text("utf-8") for page in report.PAGES)
    for each in recorded:
        assert each.keys() == {"file", "command", "date"}
        assert (report.PICTURES / each["file"]).stat().st_size <= report.LARGEST_PICTURE
        shown = re.search(r"!\[([^\]]*)\]\((?:docs/)?pictures/" + re.escape(each["file"]), pages)
        assert shown, f"{each['file']} is in no page"
        assert len(shown[1]) > 40, f"the text of {each['file']} does not say what it shows"


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
    first, second = report.table_of_all().splitlines()[2:]
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


def test_the_seeds_of_a_full_run_stand_beside_their_mean(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    write_result(tmp_path, 1.5, flags=" --full")
    result = json.loads((tmp_path / "result.json").read_text())
    result["run"]["seeds"], result["table"][0]["seeds"] = [0, 1], [1.25, 1.75]
    (tmp_path / "result.json").write_text(json.dumps(result))
    report.record(tmp_path, "a text")
    about, _, _, _, row = report.table_of_one("gpt_text").splitlines()
    assert about.startswith(
        "`python examples/gpt_text.py --full`, seeds 0, 1; 12 s on a processor, 2 cores, "
    )
    assert row == "| loss | **1.5** (1.25, 1.75) | < 2 |  |  |"


def test_a_table_with_a_row_for_each_model(tmp_path, monkeypatch):
    """The figures "VAE: nats" and "VAE: parameters" are in one row; the others are below."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    write_result(tmp_path, 1.5, flags=" --full")
    result = json.loads((tmp_path / "result.json").read_text())
    of_vae = [("nats", -3.0, [-2.5, -3.5]), ("parameters", 45_665, [45_665, 45_665])]
    result["table"] += [{"name": f"VAE: {name}", "measured": x, "seeds": xs} for name, x, xs in of_vae]
    (tmp_path / "result.json").write_text(json.dumps(result))
    report.record(tmp_path, "a text")
    page = "<!-- results of gpt_text in columns: start -->\n" + report.END
    mark, _, _, head, _, vae, _, below, _, loss, end = report.with_tables(page).splitlines()
    assert (head, vae) == ("|  | nats | parameters |", "| VAE | **-3** (-2.5, -3.5) | 45,665 |")
    assert (below.split(" | ")[1], loss) == ("measured", "| loss | **1.5** | < 2 |  |  |")
    assert (mark, end) == tuple(page.splitlines())
    assert "VAE: nats" in report.table_of_one("gpt_text")


def test_a_picture_is_copied_smaller_and_recorded(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "PICTURES", tmp_path / "pictures")
    write_result(tmp_path, 1.5)
    noise = np.random.default_rng(0).integers(256, size=(400, 400, 3), dtype=np.uint8)
    image.fromarray(noise).save(tmp_path / "noise.png")
    image.fromarray(noise // 128 * 255).save(tmp_path / "loss.png")  # of eight colors
    with pytest.raises(SystemExit, match="no walk"):
        report.copy_picture(tmp_path, "walk.png", 256)
    path = report.copy_picture(tmp_path, "loss.png", 256)
    assert (np.asarray(image.open(path).convert("RGB")) == noise // 128 * 255).all()
    assert path.stat().st_size < (tmp_path / "loss.png").stat().st_size
    report.record(tmp_path, "a text")
    report.copy_picture(tmp_path, "loss.png", 256)  # once more: still one
    known = json.loads((tmp_path / "results" / "gpt_text.json").read_text("utf-8"))
    command = "python examples/gpt_text.py --steps 3"
    assert known["pictures"] == [{"file": "gpt_text_loss.png", "command": command, "date": "2026-01-02"}]
    assert len(known["runs"]) == 1
    monkeypatch.setattr(report, "LARGEST_PICTURE", 1000)
    with pytest.raises(SystemExit, match="1,000 are the most"):
        report.copy_picture(tmp_path, "noise.png", 256)
