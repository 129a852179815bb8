"""The three sizes of an example, and the end of a run's output: marks, seconds of each stage, memory."""

import json
import sys

import pytest
from example_runs import EXAMPLES

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

sys.path.insert(0, str(EXAMPLES))
from shared import clock, flags
from shared.run import Run
from shared.table import Figure, at_least

sys.path.remove(str(EXAMPLES))

SIZES = {"quick": {"steps": 3, "lr": 0.5}, "full": {"steps": 100}}


def parse(monkeypatch, *words):
    parser = flags.Flags("About.", SIZES)
    flags.add_run_flags(parser, "runs/nothing", "never")
    parser.add_argument("--steps", type=flags.number(int, 1), default=10)
    parser.add_argument("--lr", type=flags.number(float, 0), default=0.1)
    parser.set_defaults(save_every=2)
    monkeypatch.setattr(sys, "argv", ["toy.py", *map(str, words)])
    return parser.parse_args()


@pytest.mark.parametrize(
    ("words", "size", "steps", "lr"),
    [
        ([], "default", 10, 0.1),
        (["--quick"], "quick", 3, 0.5),
        (["--full"], "full", 100, 0.1),
        (["--quick", "--steps", 7], "quick", 7, 0.5),
        (["--steps", 10, "--quick"], "quick", 10, 0.5),
    ],
)
def test_a_size_sets_defaults_and_flags_that_are_given_win(monkeypatch, words, size, steps, lr):
    args = parse(monkeypatch, *words)
    assert (args.size, args.steps, args.lr) == (size, steps, lr)


def test_two_sizes_at_once_are_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        parse(monkeypatch, "--quick", "--full")
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert "not allowed with argument" in err
    assert err.count("\n") == 1


def test_help_says_what_each_size_sets(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(monkeypatch, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "--steps 3 --lr 0.5" in text


def play(args, stop_at=None):
    """Two stages of half the steps each, and a figure of 0.4 with the baseline 0.1."""
    run = Run(args, ["step"])
    with run:
        for step in run.loop({}, "first"):
            run.enter("first" if step < args.steps // 2 else "second")
            if step == stop_at:
                raise MemoryError
    run.result([Figure("a share", 0.4, at_least(0.9), 1.0, 0.1)], steps=run.steps)
    return json.loads((run.path / "result.json").read_text())


@pytest.mark.parametrize(
    ("size", "met", "expected"), [("--quick", True, "> 0.1"), ("--full", False, "≥ 0.9")]
)
def test_the_mark_in_the_result(monkeypatch, tmp_path, capsys, size, met, expected):
    result = play(parse(monkeypatch, size, "--out", tmp_path))
    (row,) = result["table"]
    assert (result["met"], row["met"], row["expected"]) == (met, met, expected)
    out = capsys.readouterr().out
    assert f"expectations met: {int(met)} of 1" in out
    assert "peak memory" in out
    assert result["run"]["size"] == size[2:]


def test_the_seconds_of_a_run_that_was_stopped_are_added_up(monkeypatch, tmp_path):
    """Time goes by as the clock is told: each reading is a second later."""
    now = iter(range(10**6))
    monkeypatch.setattr(clock.time, "perf_counter", lambda: float(next(now)))
    with pytest.raises(MemoryError):
        play(parse(monkeypatch, "--out", tmp_path), stop_at=7)
    before = next(now)
    result = play(parse(monkeypatch, "--out", tmp_path, "--resume"))
    seconds = result["run"]["seconds_of_stages"]
    assert list(seconds) == ["preparation", "first", "second", "evaluation"]
    assert result["seconds"] == sum(seconds.values())
    assert before < result["seconds"] <= next(now)
    assert all(each > 0 for each in seconds.values())
