"""word2vec and BERT on the grid of words: a step written out by hand, analogies of known vectors, the word
with two meanings, the whole run."""

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_softmax, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import Tensor
from tinygen.data import word_grid
from tinygen.models import Word2Vec
from tinygen.text.masking import mask_tokens

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "word_vectors.py"
SMALL = {"channels": 4, "batch": 6, "steps": 3, "negatives": 2, "seed": 3, "radius": 1, "lr": 0.02}
SMALL |= {"bert-lr": 0.01, "bert-batch": 5}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def test_the_steps(monkeypatch, example):
    """Skip-gram: from a word each neighbor; CBOW: from the mean of the neighbors the word. Noise is drawn in
    proportion to counts^0.75. BERT fills holes in sentences where two words are spelled alike."""
    args, loop = flags(monkeypatch, example, **SMALL), Loop(3)
    sentences = word_grid.sentences(30, rng=np.random.default_rng(0))
    text = sentences.ravel()
    counts = np.bincount(text, minlength=100)
    models, copies = {}, {}
    for name in ("skip-gram", "CBOW"):
        models[name], copies[name] = exact(Word2Vec(counts, 4, 2, rng=1))
    bert, bert_copy = exact(example.reader(4, rng=1))
    example.train(models, bert, sentences, args, loop)

    trainings = {name: Training(copy) for name, copy in copies.items()}
    middle = range(1, len(text) - 1)
    pairs = {
        "skip-gram": [([text[i]], text[j]) for i in middle for j in (i - 1, i + 1)],
        "CBOW": [([text[i - 1], text[i + 1]], text[i]) for i in middle],
    }
    noise = counts**0.75 / np.sum(counts**0.75)
    rng, losses = np.random.default_rng(5), {"skip-gram": [], "CBOW": []}
    for step in range(3):
        for name, copy in copies.items():
            chosen = [pairs[name][i] for i in rng.integers(0, len(pairs[name]), 6)]
            drawn = rng.choice(100, (6, 2), p=noise)
            loss = 0.0
            for (given, word), others in zip(chosen, drawn, strict=True):
                v = copy.inputs[np.array(given)].sum(axis=0) / len(given)
                loss = loss + np.log(1 + np.exp(-(copy.outputs[int(word)] * v).sum()))
                for other in others:
                    loss = loss + np.log(1 + np.exp((copy.outputs[int(other)] * v).sum()))
            rate = warmup_cosine(step, 0.02, 0.0004, 1, 3)
            losses[name].append(trainings[name].step(loss / 6, rate))
    for name, copy in copies.items():
        same(models[name], copy)
        np.testing.assert_allclose(loop.column(name), losses[name], rtol=1e-9)

    rng, training = np.random.default_rng(6), Training(bert_copy)
    for step in range(3):
        chosen = sentences[rng.integers(0, 30, 5)]
        chosen = np.where(chosen == word_grid.ID["waitresses"], word_grid.ID["duke"], chosen)
        ids, targets = mask_tokens(chosen, 101, 100, (), 0.3, rng=rng)
        rows, places = np.nonzero(targets >= 0)
        log_p = log_softmax(bert_copy(ids))[rows, places, targets[rows, places]]
        loss = training.step(-np.mean(log_p), warmup_cosine(step, 0.01, 0.0002, 1, 3))
        assert loop.column("BERT")[step] == pytest.approx(loss, rel=1e-9)
    same(bert, bert_copy)


def test_analogies_of_known_vectors(example):
    """Vectors that are sums of their meanings get all right. With noise that is nearly as large as the
    parts of gender and number, a given word is often nearest, so leaving these out helps."""
    rng = np.random.default_rng(0)
    roles, genders, numbers = (rng.standard_normal((n, 40)) for n in (12, 2, 2))
    vectors = rng.standard_normal((100, 40))
    for row, role in enumerate(word_grid.GRID):
        for (gender, number), word in zip(word_grid.COLUMNS, role, strict=True):
            vectors[word_grid.ID[word]] = roles[row] + 0.2 * (genders[gender] + numbers[number])
    assert example.share_right(vectors, True) == example.share_right(vectors, False) == 1.0
    noisy = vectors + 0.15 * rng.standard_normal(vectors.shape)
    assert example.share_right(noisy, True) > example.share_right(noisy, False) + 0.05
    assert example.share_right(rng.standard_normal((100, 40)), True) < 0.1


def test_the_meaning_of_a_word_in_known_contexts(monkeypatch, example):
    """Features that are the exact probability get the best share; those of the word alone get a half."""
    args = flags(monkeypatch, example, **SMALL, sentences=20_000)

    class Known:
        def __init__(self, knows):
            self.knows = knows

        def features(self, ids, segments, mask):
            assert not np.any(ids == word_grid.ID["waitresses"])
            at_word = np.round(word_grid.second_meaning(ids)) if self.knows else ids[:, 2]
            return Tensor(np.repeat(at_word[:, None, None], 5, axis=1))

    features, second, right, best = example.word_in_contexts(Known(True), args)
    assert features.shape == (len(second), 1)
    assert 0.9 < best < 0.96
    assert abs(right - best) < 0.03  # where the neighbors tell nothing, a guess counts as half
    _, second, right, same_best = example.word_in_contexts(Known(False), args)
    assert same_best == best
    assert right == np.mean(~np.delete(second, told(second)))


def told(second):
    return np.concatenate([np.nonzero(second == meaning)[0][:50] for meaning in (False, True)])


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    tiny = ["--channels", 4, "--batch", 8, "--steps", 6, "--sentences", 50, "--save-every", 2]
    tiny += ["--bert-batch", 4]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")
    for picture in ("words.png", "meanings.png"):
        assert (tmp_path / "whole" / picture).read_bytes().startswith(b"\x89PNG")
