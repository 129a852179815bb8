"""The walk through a custom layer, as a person runs it."""

import time

import pytest
from example_runs import run

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
pytest.importorskip("hypothesis")

EXAMPLE = "gradcheck_your_layer.py"


OTHER_SIZES = pytest.param(("--channels", 3, "--batch", 1, "--seed", 5), marks=pytest.mark.slow)


@pytest.mark.parametrize("flags", [(), OTHER_SIZES], ids=str)
def test_it_finds_the_mistake_and_passes_the_fix(flags):
    start = time.perf_counter()
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 30  # about one second on an idle machine
    _, broken, model, fixed, tests = (part.split("\n", 1)[1] for part in parts(done.stdout))
    for report in (broken, model):
        assert "gradcheck: WRONG" in report
        assert "wrong term" in report
        assert f"engine/{EXAMPLE}:" in report
    assert "report.culprit.op is 'scale_to_one'" in model
    assert "gradcheck: OK" in fixed
    assert "(second order)" in fixed
    assert "at inputs float64 (1, 1, 8)" in tests


def parts(printed):
    """The five numbered sections."""
    starts = [("\n" + printed).index(f"\n{i}. ") for i in range(1, 6)]
    return [printed[a:b] for a, b in zip(starts, [*starts[1:], len(printed)], strict=True)]


def test_a_wrong_flag_is_one_line():
    done = run(EXAMPLE, "--channels", 1)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
