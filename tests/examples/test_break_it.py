"""The ablations: each change still applies and compiles, a named test fails with it, and the record shows
what it does."""

import dataclasses
import json
import math
import re
import sys

import pytest
from example_runs import EXAMPLES, run

sys.path.insert(0, str(EXAMPLES))
from shared.endings import Ended

from ablations import ablation as machinery
from ablations import page
from ablations.ablation import Change
from ablations.table import ABLATIONS

sys.path.remove(str(EXAMPLES))

ROOT = EXAMPLES.parent
EACH = pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
SEEDS = 3

# -- the table -------------------------------------------------------------------------------------


def test_there_are_at_least_twenty():
    assert len({ablation.name for ablation in ABLATIONS}) == len(ABLATIONS) >= 20
    chapters = [ablation.chapter for ablation in ABLATIONS]
    assert len({*chapters}) == sum(a != b for a, b in zip(chapters, [None, *chapters], strict=False))


@EACH
def test_a_change_applies_and_compiles(ablation):
    for change in ablation.changes:
        before = (ROOT / change.file).read_text("utf-8")
        after = machinery.changed(before, change)
        assert after != before
        compile(after, change.file, "exec")


@EACH
def test_what_is_said_of_it_is_there(ablation):
    assert ablation.worse in ("higher", "lower")
    assert len(ablation.why) > 100
    assert len(ablation.about_experiment()) > 40
    file, name = ablation.test.split("::")
    assert re.search(rf"^def {name.partition('[')[0]}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)


def test_a_change_that_does_not_apply_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(machinery, "ROOT", tmp_path / "checkout")
    for folder in (machinery.ROOT, tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "a.py").write_text("x = 1\nx = 1\ny = 2\n")
    once = dataclasses.replace(ABLATIONS[0], change=Change("a.py", "y = 2\n", "y = 3\n"), further=())
    with machinery.applied(once, tmp_path):
        assert (tmp_path / "a.py").read_text() == "x = 1\nx = 1\ny = 3\n"
    assert (tmp_path / "a.py").read_text() == "x = 1\nx = 1\ny = 2\n"
    never = dataclasses.replace(once, change=Change("a.py", "z = 2\n", "z = 3\n"))
    with (
        pytest.raises(Ended, match=r"^error: a\.py: the text to replace is not there: 'z = 2'$") as end,
        machinery.applied(never, tmp_path),
    ):
        pass
    assert end.value.code == 2
    twice = dataclasses.replace(once, change=Change("a.py", "x = 1\n", ""))
    with (
        pytest.raises(Ended, match=r"^error: a\.py: the text to replace is there 2 times: 'x = 1'$"),
        machinery.applied(twice, tmp_path),
    ):
        pass


def test_a_diff_has_whole_lines():
    by_name = {ablation.name: ablation for ablation in ABLATIONS}
    assert by_name["no_scale"].diff() == "- scale = 1 / math.sqrt(q.shape[-1])\n+ scale = 1.0"
    before, after = by_name["mask_future"].diff().splitlines()
    assert before == "- seen = np.tril(np.ones_like(scores, dtype=bool, shape=(t, s)), s - t)"
    assert after == "+ seen = np.tril(np.ones_like(scores, dtype=bool, shape=(t, s)), s - t + 1)"


def test_the_weight_of_the_kl_rises():
    from ablations.experiments.pictures import kl_weight

    assert [kl_weight(step, 4) for step in (0, 1, 2, 4, 100)] == [0, 0.25, 0.5, 1, 1]


# -- the record ------------------------------------------------------------------------------------


@EACH
def test_the_record_shows_the_damage(ablation):
    """The first figure is worse with the change, for each of the three seeds."""
    about = page.read_record()["ablations"][ablation.name]
    assert about.keys() == {"date", "seconds", "figures"}
    first = next(iter(about["figures"].values()))
    for figure in about["figures"].values():
        assert len(figure["good"]) == len(figure["broken"]) == SEEDS
    for good, broken in zip(first["good"], first["broken"], strict=True):
        assert math.isfinite(good)
        assert page.is_worse(ablation, good, float(broken))


def test_the_record_has_what_the_table_has():
    known = page.read_record()
    assert [*known["ablations"]] == [ablation.name for ablation in ABLATIONS]
    assert {each["file"] for each in known["pictures"]} == {f"break_it_{a.name}.png" for a in ABLATIONS}
    assert page.FILE.read_text("utf-8") == page.as_text(known)
    json.dumps(known, allow_nan=False)


def test_the_page_is_made_of_the_record():
    """If not: python examples/ablations/break_it.py --page."""
    assert page.PAGE.read_text("utf-8") == page.page()


# -- what is run -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_from_the_command_line(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("break_it.py", "one_copy", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("as it is", "broken", "- g = sum_over(", "+ g = g.mean(", "test_engine_unbroadcasts"):
        assert text in done.stdout
    assert (tmp_path / "one_copy.png").stat().st_size > 5000


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the checkout, in which all named tests pass."""
    folder = machinery.copy_checkout(tmp_path_factory.mktemp("ablations") / "copy")
    done = pytest_in(folder, *{ablation.test for ablation in ABLATIONS})
    assert done.returncode == 0, done.stdout
    return folder


def pytest_in(folder, *tests):
    return machinery.run_in(folder, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *tests)


@pytest.mark.slow
@EACH
def test_the_named_test_fails(ablation, copy):
    with machinery.applied(ablation, copy):
        done = pytest_in(copy, ablation.test)
    assert done.returncode == 1, done.stdout
    assert re.search(r"^\d+ failed", done.stdout.splitlines()[-1]), done.stdout
