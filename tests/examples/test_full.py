"""--full: three seeds, one after the other, and their means; a run that was stopped at any place can be
resumed."""

import argparse
import json
import math
import sys

import pytest
from example_runs import EXAMPLES, module

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

sys.path.insert(0, str(EXAMPLES))
from shared import endings, flags
from shared.full import run_seeds
from shared.run import Run
from shared.table import Figure, at_least

from tinygen.storage.files import CheckpointError

sys.path.remove(str(EXAMPLES))

STEPS = 4


def parse(monkeypatch, *words):
    parser = flags.Flags("About.", {"quick": {"steps": 1}, "full": flags.FULL | {"steps": STEPS}})
    flags.add_run_flags(parser, "runs/nothing", "always")
    parser.add_argument("--seed", type=flags.number(int, 0), default=1337)
    parser.add_argument("--steps", type=flags.number(int, 1), default=2)
    parser.set_defaults(save_every=1)
    monkeypatch.setattr(sys, "argv", ["toy.py", *map(str, words)])
    return parser.parse_args()


class Toy:
    """An example that measures seed + 1, where seed + 0.5 is expected. `trained` has the steps of all seeds;
    in the step `stop` memory is out."""

    def __init__(self, stop=None):
        self.stop, self.trained = stop, []

    def main(self, args):
        run = Run(args, ["step"])
        with run:
            for step in run.loop({}):
                if (args.seed, step) == self.stop:
                    raise MemoryError
                self.trained.append((args.seed, step))
        seed = args.seed
        run.result([Figure("a share", seed + 1.0, at_least(seed + 0.5), seed + 2.0, 0.0)], steps=run.steps)


def every_step(*seeds):
    return [(seed, step) for seed in seeds for step in range(STEPS)]


def result_in(folder):
    return json.loads((folder / "result.json").read_text("utf-8"))


def test_three_seeds_and_their_means(monkeypatch, tmp_path, capsys):
    toy = Toy()
    run_seeds(toy.main, parse(monkeypatch, "--full", "--out", tmp_path))
    assert toy.trained == every_step(0, 1, 2)
    assert [result_in(tmp_path / f"seed-{seed}")["table"][0]["measured"] for seed in range(3)] == [1, 2, 3]
    result = result_in(tmp_path)
    row = {"name": "a share", "measured": 2, "expected": "≥ 1.5", "best": 3, "baseline": 0, "met": True}
    assert result["table"] == [{**row, "seeds": [1, 2, 3]}]
    assert result["run"]["seeds"] == [0, 1, 2]
    parts = [result_in(tmp_path / f"seed-{seed}")["seconds"] for seed in range(3)]
    assert math.isclose(result["seconds"], sum(parts))
    out = capsys.readouterr().out
    assert "each seed" in out
    assert out.rstrip().endswith(f"in {tmp_path}/seed-*/")


def test_the_flag_seed_is_the_first(monkeypatch, tmp_path):
    run_seeds(Toy().main, parse(monkeypatch, "--full", "--seed", 5, "--out", tmp_path))
    assert result_in(tmp_path)["run"]["seeds"] == [5, 6, 7]


@pytest.mark.parametrize("stop", [(0, 2), (1, 0), (1, 2), (2, 3)])
def test_it_goes_on_where_it_was_stopped(monkeypatch, tmp_path, stop):
    first, second = Toy(stop), Toy()
    with pytest.raises(MemoryError):
        run_seeds(first.main, parse(monkeypatch, "--full", "--out", tmp_path))
    run_seeds(second.main, parse(monkeypatch, "--full", "--out", tmp_path, "--resume"))
    assert first.trained + second.trained == every_step(0, 1, 2)
    assert result_in(tmp_path)["table"][0]["seeds"] == [1, 2, 3]


def test_a_new_run_resumes_no_seed_of_the_one_before(monkeypatch, tmp_path):
    run_seeds(Toy().main, parse(monkeypatch, "--full", "--out", tmp_path))
    with pytest.raises(MemoryError):
        run_seeds(Toy((0, 2)).main, parse(monkeypatch, "--full", "--out", tmp_path))
    toy = Toy()
    run_seeds(toy.main, parse(monkeypatch, "--full", "--out", tmp_path, "--resume"))
    assert toy.trained == every_step(0, 1, 2)[2:]


def test_an_unfinished_run_is_not_overwritten(monkeypatch, tmp_path):
    with pytest.raises(MemoryError):
        run_seeds(Toy((1, 0)).main, parse(monkeypatch, "--full", "--out", tmp_path))
    with pytest.raises(CheckpointError, match=r"not finished: expected --resume.*, found 1 of 3"):
        run_seeds(Toy().main, parse(monkeypatch, "--full", "--out", tmp_path))
    with pytest.raises(CheckpointError, match="saved with another steps: expected 4, found 9"):
        run_seeds(Toy().main, parse(monkeypatch, "--full", "--out", tmp_path, "--resume", "--steps", 9))
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run_seeds(Toy().main, parse(monkeypatch, "--full", "--out", tmp_path / "other", "--resume"))


def test_start_runs_the_seeds_of_an_example_that_has_one(monkeypatch):
    monkeypatch.setattr("shared.full.run_seeds", lambda main, args: main(("seeds", args)))
    seen = []
    for size, more in (("full", {"seed": 0}), ("full", {"seeds": 3}), ("default", {"seed": 0})):
        args = argparse.Namespace(size=size, **more)
        endings.start(lambda args=args: args, lambda args: seen.append(isinstance(args, tuple)))
    assert seen == [True, False, False]


@pytest.mark.slow
def test_a_real_example_at_toy_size(monkeypatch, tmp_path):
    """Each seed is the run that --seed alone gives, to the last bit."""
    example = module("vae_digits.py")
    small = ["--steps", "2", "--draws", "1", "--eval-every", "2"]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vae_digits.py", *small, *words])
        example.start(example.parse_args, example.main)

    run("--full", "--out", str(tmp_path / "full"))
    run("--seed", "1", "--out", str(tmp_path / "one"))
    weights = [(tmp_path / place / "model.safetensors").read_bytes() for place in ("full/seed-1", "one")]
    assert weights[0] == weights[1]
    rows = result_in(tmp_path / "full")["table"]
    assert [row["seeds"][1] for row in rows] == [
        row["measured"] for row in result_in(tmp_path / "one")["table"]
    ]
