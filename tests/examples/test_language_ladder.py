"""The ladder of language models: its texts, its measures on models with known results, a step written out
by hand, and the whole run."""

import math

import numpy as np
import pytest
from by_hand import Loop, Training, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import Tensor, nn
from tinygen.data.markov import zipf_source
from tinygen.models import GPT, GPTConfig, LinearLM

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "language_ladder.py"
SMALL = {"width": 8, "window": 8, "batch": 4, "steps": 3, "tokens": 1000, "seed": 3, "lr": 0.01}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def ladder(example):
    import sys

    return sys.modules["shared.ladder"]


# -- the texts -------------------------------------------------------------------------------------


def test_periodic_texts_repeat_after_their_period(ladder):
    which = np.array([0, 3, 8, 2])
    idx, targets = ladder.repeats(4, which, rng=np.random.default_rng(0))
    assert idx.shape == targets.shape == (4, 320)
    for row, nexts, i in zip(idx, targets, which, strict=True):
        period = 2**i
        np.testing.assert_array_equal(row[period:], row[:-period])
        assert np.all(row // 8 == i)
        np.testing.assert_array_equal(nexts[: period - 1], -1)
        np.testing.assert_array_equal(nexts[period - 1 : -1], row[period:])
    symbols = ladder.repeats(500, np.full(500, 8), rng=np.random.default_rng(1))[0][:, :256] % 8
    assert np.all(np.abs(np.bincount(symbols.ravel()) / symbols.size - 1 / 8) < 0.006)


@pytest.mark.parametrize("name", ["markov", "hidden", "topics"])
def test_texts_and_their_best_losses(ladder, name):
    train, test, vocab_size, best = ladder.load(name, 9000, 5)
    assert (len(train), len(test)) == (9000, 4500)
    assert max(train.max(), test.max()) < vocab_size
    if name == "markov":
        source = zipf_source(12, 3, 2.0, rng=5)
        assert best == pytest.approx(-source.log_prob(test).mean())
        assert best == pytest.approx(source.entropy_rate(), abs=0.1)
    if name == "topics":
        assert best is None


# -- what is measured ------------------------------------------------------------------------------


def test_the_loss_of_a_model_that_is_known(ladder):
    """Logits that are the source's own: each token counts once, with half a window before it."""
    source = zipf_source(5, 1, 1.0, rng=0)
    text = source.sample(103, rng=1)
    logits = lambda idx: Tensor(np.log(source.table[idx]))
    found = ladder.loss_on(logits, text, 10)
    counted = np.arange(6, 101)  # windows start at 0, 5, ..., 90; their second halves predict these
    np.testing.assert_allclose(found, -np.mean(source.log_prob(text)[counted]), rtol=1e-12)


def test_what_a_perfect_memory_of_so_many_tokens_remembers(ladder):
    for span in (1, 4, 100):

        def predict(idx, span=span):
            period = 2 ** (idx[:, -1] // 8)
            inside = np.minimum(period, span)
            return idx[np.arange(len(idx)), -inside]

        shares = ladder.recalls(predict, 400, 0)
        assert ladder.reach(shares) == 2 ** int(math.log2(span))
        np.testing.assert_allclose(shares[-1], 1 / 8, atol=0.08)
    assert ladder.reach([0.5, 1.0]) == 0
    assert ladder.reach([1.0] * 9) == 256


def test_ngrams_remember_as_many_tokens_as_they_see(ladder):
    source = zipf_source(4, 2, 2.0, rng=0)
    text = source.sample(60_000, rng=1)
    found = ladder.ngrams(text[:50_000], text[50_000:], 4, 200, 0)
    assert [*found] == [f"{n}-gram" for n in (1, 2, 3, 4, 5)]
    for n in (1, 2, 3):
        assert found[f"{n}-gram"][0] == pytest.approx(source.best_loss(n - 1), abs=0.02)
    assert [ladder.reach(found[f"{n}-gram"][1]) for n in (1, 2, 3, 4)] == [0, 1, 2, 2]


def test_operations_are_counted_by_the_matrices(ladder):
    assert ladder.operations(LinearLM(5, 3, 8, rng=0), 16) == 2 * 8 * 5
    assert ladder.operations(nn.LSTM(6, 8, rng=0), 16) == 2 * 4 * 8 * (6 + 8)
    gpt = GPT(GPTConfig(5, 16, 2, 2, 8), rng=0)
    per_block = 2 * (3 * 64 + 64 + 2 * 4 * 64) + 4 * 8 * 8
    assert ladder.operations(gpt, 16) == 2 * per_block + 2 * 8 * 5


# -- the steps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "lstm", "gpt"])
def test_the_steps(monkeypatch, example, ladder, name):
    """Parts of the text and periodic texts, the same for each model; attention sees the end of its window."""
    args, loop = flags(monkeypatch, example, model=name, **SMALL), Loop(3)
    text = zipf_source(12, 3, 2.0, rng=5).sample(1000, rng=0)
    learners = {name: {"text": example.Learner(name, 12, args), "periodic": example.Learner(name, 72, args)}}
    copies = {}
    for kind, learner in learners[name].items():
        learner.model.astype(np.float64)
        copies[kind] = example.LADDER[name](
            {"text": 12, "periodic": 72}[kind], 8, 8, np.random.default_rng(3)
        ).astype(np.float64)
        same(learner.model, copies[kind])
    example.train(text, learners, args, loop)

    trainings = {kind: Training(copy, betas=(0.9, 0.98), clip=1.0) for kind, copy in copies.items()}
    rng, losses = np.random.default_rng(5), {"text": [], "periodic": []}
    for step in range(3):
        starts = rng.integers(0, len(text) - 8, 4)
        batches = {"text": tuple(np.stack([text[i + j : i + j + 8] for i in starts]) for j in (0, 1))}
        batches["periodic"] = ladder.repeats(4, rng.integers(0, 9, 4), rng=rng)
        for kind, (idx, targets) in batches.items():
            if name == "gpt":
                idx, targets = idx[:, -8:], targets[:, -8:]
            out = copies[kind](idx)
            log_p = log_softmax(out[0] if isinstance(out, tuple) else out)
            rows, columns = np.nonzero(targets >= 0)
            loss = -np.mean(log_p[rows, columns, targets[rows, columns]])
            losses[kind].append(trainings[kind].step(loss, warmup_cosine(step, 0.01, 0.0005, 1, 3)))
    for kind, learner in learners[name].items():
        same(learner.model, copies[kind])
        np.testing.assert_allclose(loop.column(f"{name} {kind}"), losses[kind], rtol=1e-9)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = ["--width", 8, "--window", 8, "--batch", 2, "--steps", 6, "--tokens", 1000, "--draws", 4]
    tiny += ["--save-every", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")
    assert (tmp_path / "whole" / "memory.png").read_bytes().startswith(b"\x89PNG")
