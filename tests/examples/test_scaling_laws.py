"""Scaling laws: the training of one model by hand, the loop and its table, and measurements of models whose
losses are known."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_p, same, warmup_cosine
from example_runs import module, require_pictures, run_here

from tinygen import Tensor
from tinygen.models import GPT, GPTConfig
from tinygen.text.scaling_laws import ScalingLaw

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "scaling_laws.py"
LAW = ScalingLaw(2.2, 60.0, 300.0, 0.55, 0.5)


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def shared(example):
    return sys.modules["shared.scaling"]


def rows_of(law, sizes=(2e3, 4e3, 8e3, 1.6e4, 3.2e4), tokens=(1e5, 2e5, 4e5, 8e5)):
    return [
        {"seed": 0, "width": 8, "parameters": n, "tokens": d, "loss": float(law.loss(n, d))}
        for n in sizes
        for d in tokens
    ]


# -- training --------------------------------------------------------------------------------------


def test_the_training_of_one_model(example, shared):
    """Three steps of new tokens, the last one with fewer rows."""
    model, other = exact(GPT(GPTConfig(256, 16, 2, 4, 8), rng=1))
    text = shared.source()
    example.train(model, text, 1024 + 128, 0.02, 7, "cpu")
    drawn = text.sample(1024 + 128 + 1, rng=np.random.default_rng(7))
    x, y = drawn[:-1].reshape(72, 16), drawn[1:].reshape(72, 16)
    training = Training(other, betas=(0.9, 0.98), clip=1.0)
    for step, part in enumerate((slice(0, 32), slice(32, 64), slice(64, 72))):
        loss = -np.mean(log_p(other(x[part])[0], y[part]))
        training.step(loss, warmup_cosine(step, 0.02, 0.001, 1, 3))
    same(model, other)


def test_no_token_comes_twice(shared, monkeypatch):
    monkeypatch.setattr(shared, "CHUNK", 64)
    found = [*shared.batches(shared.source(), 160, 3, np.random.default_rng(0))]
    assert [len(x) for x, _ in found] == [3, 1, 3, 1, 2]
    for x, y in found:
        np.testing.assert_array_equal(x.ravel()[1:], y.ravel()[:-1])
    assert len({x.tobytes() for x, _ in found}) == 5


def test_parameters_without_positions(shared, example):
    for width in (*example.WIDTHS, example.LARGER[0][0]):
        model = shared.build(width, 0)
        assert shared.parameters(width) == model.num_parameters() - model.wpe.weight.size


def test_the_larger_models_take_8_times_the_compute(shared, example):
    largest = shared.parameters(example.WIDTHS[-1]) * 2**21
    assert all(shared.parameters(width) * tokens >= 8 * largest for width, tokens in example.LARGER)


# -- what is measured ------------------------------------------------------------------------------


def test_the_loss_above_the_entropy(shared, monkeypatch):
    """Nothing for the source itself, ln V minus the entropy of the test for a uniform model."""
    monkeypatch.setattr(shared, "TEST", 2**14)
    text = shared.source()

    best = lambda x, y: (None, Tensor(-np.mean(np.log(text.table)[x, y])))
    assert shared.loss_above_entropy(best, text, "cpu") == pytest.approx(0, abs=1e-6)  # of float32
    uniform = shared.loss_above_entropy(lambda x, y: (None, Tensor(np.log(256))), text, "cpu")
    assert uniform == pytest.approx(np.log(256) - text.entropy_rate(), abs=0.05)


def test_curves_of_equal_compute(shared):
    """On the law itself: between its runs the loss is nearly that of the law, and the lowest points are its
    best sizes."""
    rows = rows_of(LAW, np.geomspace(2e3, 6.4e4, 11), np.geomspace(5e4, 1.6e6, 11))
    budgets = [4e9, 8e9, 1.6e10]
    curves = shared.isoflops(rows, budgets)
    for budget, (sizes, losses) in zip(budgets, curves, strict=True):
        np.testing.assert_allclose(losses, LAW.loss(sizes, budget / (6 * sizes)), rtol=3e-3)
        assert np.all(budget / (6 * sizes) >= 5e4)
        assert np.all(budget / (6 * sizes) <= 1.6e6)
    lowest = shared.frontier(curves, budgets)
    assert [budget for budget, *_ in lowest] == budgets
    for budget, size, loss in lowest:
        assert size == pytest.approx(float(LAW.best_size(budget)[0]), rel=0.15)
        assert loss == pytest.approx(float(LAW.loss(*LAW.best_size(budget))), rel=5e-3)
    assert shared.frontier(shared.isoflops(rows, [1e6]), [1e6]) == []  # no model can spend so little


def test_fit_and_intervals(shared):
    assert vars(shared.fit(rows_of(LAW))) == pytest.approx(vars(LAW), rel=1e-5)
    text = shared.intervals(rows_of(LAW), 3, 0)
    assert text.startswith("E 2.2 to 2.2, A 60 to 60, B 300 to 300, alpha 0.55 to 0.55")


# -- the loop, its table and its predictions -------------------------------------------------------


def test_the_loop_takes_what_the_table_has(monkeypatch, example, shared, tmp_path):
    """One of the two models is in the table, the other one with another seed, and with another rate."""
    args = flags(monkeypatch, example, seed=3, table=str(tmp_path / "table.csv"), lr=0.5)
    (tmp_path / "table.csv").write_text(
        "seed,width,parameters,tokens,lr,loss\n3,8,3808,512,0.5,3.25\n4,12,6864,512,0.5,3.125\n3,12,6864,512,0.25,3.0\n"
    )
    trained = []
    monkeypatch.setattr(example, "train", lambda model, *given: trained.append((model, *given)))
    monkeypatch.setattr(shared, "loss_above_entropy", lambda model, text, device: 0.5)
    loop = Loop(2, tmp_path)
    text = shared.source()
    example.measure_all([(8, 512), (12, 512)], text, args, loop)
    assert loop.column("loss") == [3.25, text.entropy_rate() + 0.5]
    assert loop.rows[1] | {"loss": 0} == {
        "seed": 3,
        "width": 12,
        "parameters": shared.parameters(12),
        "tokens": 512,
        "lr": 0.5,
        "loss": 0,
    }
    ((model, *given),) = trained
    assert model.config.n_embd == 12
    assert given == [text, 512, 0.5 / 12, 3, "cpu"]
    assert not (tmp_path / "predictions.csv").exists()
    assert shared.read_table(tmp_path / "nothing.csv") == {}


def test_predictions_are_written_before_the_larger_models_are_trained(monkeypatch, example, shared, tmp_path):
    args = flags(monkeypatch, example, predictions=1, table="none")
    rows, there = rows_of(LAW), []
    cells = [(8 + i, int(row["tokens"])) for i, row in enumerate(rows)]
    planted = iter([row["loss"] - shared.source().entropy_rate() for row in rows] + [0.5])
    monkeypatch.setattr(shared, "build", lambda *_: GPT(GPTConfig(2, 2, 1, 1, 4), rng=0))
    monkeypatch.setattr(
        shared, "parameters", lambda width: rows[width - 8]["parameters"] if width < 99 else 1e6
    )
    monkeypatch.setattr(example, "train", lambda *_: there.append((tmp_path / "predictions.csv").exists()))
    monkeypatch.setattr(shared, "loss_above_entropy", lambda *_: next(planted))
    example.measure_all([*cells, (99, 10**7)], shared.source(), args, Loop(len(cells) + 1, tmp_path))
    assert there == [False] * len(cells) + [True]
    head, line = (tmp_path / "predictions.csv").read_text().splitlines()
    assert head == "date,width,parameters,tokens,predicted"
    assert float(line.split(",")[-1]) == pytest.approx(float(LAW.loss(1e6, 1e7)), rel=1e-5)
    shared.write_predictions(tmp_path / "predictions.csv", rows, [(8, 1)])
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [head, line]


# -- the run ---------------------------------------------------------------------------------------

TINY = ["--sizes", 3, "--smallest", 10, "--budgets", 3, "--bootstrap", 2, "--table", "none"]


@pytest.mark.slow
def test_a_short_run_and_the_same_one_resumed(tmp_path, monkeypatch):
    """Stopped after four models, and resumed; and once more from the table of the first run, which trains
    nothing."""
    example = module(EXAMPLE)
    assert run_here(monkeypatch, example, *TINY, "--out", tmp_path / "one") == 0
    require_pictures(tmp_path / "one", "scaling")
    table = (tmp_path / "one" / "metrics.csv").read_text()
    assert len(table.splitlines()) == 10
    assert run_here(monkeypatch, example, *TINY, "--out", tmp_path / "two", stop_after=4) != 0
    assert run_here(monkeypatch, example, *TINY, "--out", tmp_path / "two", "--resume") == 0
    assert (tmp_path / "two" / "metrics.csv").read_text() == table
    monkeypatch.setattr(example, "train", None)
    given = [*TINY[:-1], tmp_path / "one" / "metrics.csv"]
    assert run_here(monkeypatch, example, *given, "--out", tmp_path / "three") == 0
    again = (tmp_path / "three" / "metrics.csv").read_text()
    assert np.array_equal(
        *(np.loadtxt(text.splitlines(), delimiter=",", skiprows=1) for text in (table, again))
    )
