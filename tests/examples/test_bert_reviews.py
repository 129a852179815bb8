"""BERT on reviews: a step written out by hand, the judge on known answers, fine-tuning, and the whole run."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import Tensor
from tinygen.data.review_pairs import CLS, MASK, SEP, SPECIAL, VOCAB_SIZE, best_answers, write_pairs
from tinygen.data.reviews import BAD, END, GOOD, NUMBER, Reviews, sentiment
from tinygen.models import BERT, BERTConfig
from tinygen.text.masking import mask_tokens

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "bert_reviews.py"
SMALL = {"width": 8, "layers": 1, "length": 6, "batch": 4, "steps": 3, "warmup": 1, "lr": 0.01, "seed": 3}
SMALL |= {"tuning-steps": 12, "tuning-lr": 0.01, "tests": 300}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def small_bert():
    return BERT(BERTConfig(VOCAB_SIZE, 15, 1, 4, 8, 32, dropout=0.0), rng=0)


def test_the_steps(monkeypatch, example):
    """The sum of both tasks' mean losses: of the hidden words, and of whether the second review follows."""
    args, loop = flags(monkeypatch, example, **SMALL), Loop(3)
    model, copy = exact(small_bert())
    example.train(model, args, loop)

    rng, training, losses = np.random.default_rng(4), Training(copy, betas=(0.9, 0.98), clip=1.0), []
    for step in range(3):
        pairs = write_pairs(4, 6, rng=rng)
        ids, targets = mask_tokens(pairs.ids, VOCAB_SIZE, MASK, SPECIAL, 0.15, rng=rng)
        x = copy.features(ids, pairs.segments, None)
        rows, columns = np.nonzero(targets >= 0)
        masked = -np.mean(log_softmax(copy.token_logits(x))[rows, columns, targets[rows, columns]])
        verdicts = log_softmax(copy.next_head(np.tanh(copy.pooler(x[:, 0]))))
        order = -np.mean(verdicts[np.arange(4), pairs.random_next])
        training.step(masked + order, warmup_cosine(step, 0.01, 0.0002, 1, 3))
        losses.append((masked.item(), order.item()))
    same(model, copy)
    np.testing.assert_allclose(loop.column("masked"), [a for a, _ in losses], rtol=1e-9)
    np.testing.assert_allclose(loop.column("next_sentence"), [b for _, b in losses], rtol=1e-9)


def test_the_judge_of_the_best_possible_model(monkeypatch, example):
    """A model that gives the exact answers has the floor as its loss, and the best accuracy."""
    args, seen = flags(monkeypatch, example, **SMALL), []

    class Best:
        def features(self, ids, segments, mask):
            seen.append(best_answers(ids, 0.15))

        def token_logits(self, x):
            return Tensor(np.log(np.maximum(seen[0].words, 1e-300)))

        def next_sentence_logits(self, x):
            return Tensor(np.stack([seen[0].follows, 1 - seen[0].follows], axis=1))

    found = example.judge(Best(), args)
    assert found["loss"] == pytest.approx(found["floor"], rel=1e-9)
    assert found["accuracy"] == found["best accuracy"] > 0.5
    assert 0 < found["floor"] < np.log(VOCAB_SIZE)
    worse = example.judge(small_bert(), args)
    assert worse["floor"] == found["floor"]
    assert worse["loss"] > 1.5 * found["floor"]


def test_labels_are_the_sentiment(example):
    reviews, labels = example.labeled_reviews(200, 12, (), np.random.default_rng(0))
    assert reviews.shape == (200, 12)
    np.testing.assert_array_equal(labels, sentiment(reviews) < 0)
    written = Reviews().write(2000, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(reviews, written[sentiment(written) != 0][:200])


def test_labeled_reviews_lack_the_unseen_words(example):
    assert set(example.UNSEEN) == {"funny", "clever", "wonderful", "boring", "clumsy", "awful"}
    told, labels = example.labeled_reviews(1000, 12, example.UNSEEN, np.random.default_rng(0))
    assert len(told) == 1000
    assert not np.isin(told, [NUMBER[word] for word in example.UNSEEN]).any()
    np.testing.assert_array_equal(labels, sentiment(told) < 0)
    tests, _ = example.labeled_reviews(1000, 12, (), np.random.default_rng(1))
    assert np.isin(tests, [NUMBER[word] for word in example.UNSEEN]).any(axis=1).mean() > 0.4


def test_the_question(example):
    reviews = Reviews().write(3, 6, np.random.default_rng(0))
    for review, pair in zip(reviews, sys.modules["shared.verdicts"].ask(reviews), strict=True):
        question = [NUMBER["the"], review[1], NUMBER["was"], MASK, NUMBER["."], NUMBER[END]]
        assert pair.tolist() == [CLS, *review, SEP, *question, SEP]


def test_the_verdict_of_the_best_possible_model(example):
    """The exact answers at the [MASK] tell praise from blame in nearly all reviews, without any label."""

    class Best:
        def features(self, ids, segments, mask):
            assert segments.tolist() == [[0] * 14 + [1] * 13] * len(ids)
            return Tensor(best_answers(ids, 0.15).words)

        def token_logits(self, x):
            return Tensor(np.log(np.maximum(x.numpy(), 1e-300)))

    reviews, labels = example.labeled_reviews(100, 12, (), np.random.default_rng(0))
    assert np.mean(example.verdict(Best(), reviews).numpy().argmax(axis=-1) == labels) > 0.9


def test_fine_tuning(monkeypatch, example):
    """Cross-entropy of the label, on batches without repetition; all weights learn."""
    args = flags(monkeypatch, example, **SMALL)
    model, copy = exact(small_bert())
    reviews, labels = example.labeled_reviews(5, 6, (), np.random.default_rng(0))
    example.fine_tune(model, reviews, labels, 0.01, args)
    rng, training = np.random.default_rng(6), Training(copy, clip=1.0)
    segments = np.array([[0] * 8 + [1] * 7] * 5)
    words = [[NUMBER[word] for word in group] for group in (GOOD, BAD)]
    for step in range(12):
        batch = rng.choice(5, 5, replace=False)
        x = copy.token_logits(
            copy.features(sys.modules["shared.verdicts"].ask(reviews[batch]), segments, None)
        )
        logits = np.stack([sum(x[:, 11, word] for word in group) / 5 for group in words], axis=1)
        loss = -np.mean(log_softmax(logits)[np.arange(5), labels[batch]])
        training.step(loss, warmup_cosine(step, 0.01, 0.0, 1, 12))
    same(model, copy)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = ["--width", 8, "--layers", 1, "--length", 6, "--batch", 4, "--steps", 6, "--tuning-steps", 10]
    tiny += ["--tests", 20, "--save-every", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")
