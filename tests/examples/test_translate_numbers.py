"""Translations of numbers and dates: the tokens, a step of both models written out by hand, a decoder alone,
where attention looks, and the whole run."""

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, log_p, same, warmup_cosine
from example_runs import module, outcome, run_here

from tinygen import ops
from tinygen.data import dates, number_words
from tinygen.models.language.transformer import Transformer, TransformerConfig, sinusoids

for package in ("matplotlib", "tqdm"):
    pytest.importorskip(package)

EXAMPLE = "translate_numbers.py"
SMALL = {
    "largest": 999,
    "train": 100,
    "layers": 1,
    "heads": 2,
    "width": 4,
    "batch": 3,
    "steps": 4,
    "warmup": 2,
}
SMALL |= {"lr": 0.01, "smoothing": 0.2, "merges": 3, "tests": 6}


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


@pytest.fixture(scope="module")
def shared(example):
    import shared.translation as found

    return found


@pytest.fixture(scope="module")
def texts(shared):
    rng = np.random.default_rng(0)
    things = shared.split_numbers(2, 5, 999, rng)[1] + shared.split_dates(2, 5, rng)[1]
    tokenizer = shared.learn_tokens([things], 20)
    return things, tokenizer, shared.Translations(things, tokenizer)


def config(tokenizer, **more):
    pad, begin, end = (tokenizer.special[f"<{name}>"] for name in ("pad", "begin", "end"))
    sizes = {"layers": 1, "heads": 2, "channels": 4, "hidden": 6, "dropout": 0.0, "label_smoothing": 0.2}
    given = {**sizes, "pre_norm": True, "pad": pad, "begin": begin, "end": end, **more}
    return TransformerConfig(tokenizer.vocab_size, **given)


# -- texts -----------------------------------------------------------------------------------------


def test_nothing_of_the_test_is_learned(shared):
    rng = np.random.default_rng(0)
    tests, train = shared.split_numbers(30, 200, 2000, rng)
    numbers = [[number_words.READERS["french"](x) for x in part.words["french"]] for part in (tests, train)]
    assert len(set(numbers[0])) == 30
    assert not {*numbers[0]} & {*numbers[1]}
    assert {*range(1000)} <= {*numbers[0], *numbers[1]}
    assert len(set(numbers[1])) == len(numbers[1])
    assert sum(n >= 1000 for n in [*numbers[0], *numbers[1]]) > 80
    for language, write in number_words.WRITERS.items():
        assert train.words[language] == [write(n) for n in numbers[1]]
    tests, train = shared.split_dates(30, 200, rng)
    days = [[dates.READERS["english"](x) for x in part.words["english"]] for part in (tests, train)]
    assert len({*days[0], *days[1]}) == 230
    assert tests.words["german"] == [dates.WRITERS["german"](day) for day in days[0]]


def test_a_batch_of_translations(shared, texts):
    """The language that is asked for, the text, the end; and both texts come back from their tokens."""
    things, tokenizer, translations = texts
    assert shared.DIRECTIONS[:3] == [("english", "german"), ("english", "french"), ("german", "english")]
    rows, directions = [0, 7, 4, 7], [0, 1, 2, 5]
    batch = translations.batch(rows, directions)
    for row, direction, source, target, read, right in zip(rows, directions, *batch, strict=True):
        a, b = shared.DIRECTIONS[direction]
        assert (read, right) == (things.words[a][row], things.words[b][row])
        assert source[0] == tokenizer.special[f"<{b}>"]
        assert target[0] == tokenizer.special["<begin>"]
        for ids, text in ((source, read), (target, right)):
            ids = ids[ids != tokenizer.special["<pad>"]]
            assert ids[-1] == tokenizer.special["<end>"]
            assert tokenizer.decode(ids[1:-1]) == text
    assert shared.decode(tokenizer, batch.target) == batch.right
    again = np.concatenate([batch.target, batch.source], axis=1)  # what comes after the end does not count
    assert shared.decode(tokenizer, again) == batch.right


def test_padding(shared):
    assert shared.padded([[1], [2, 3]], 0).tolist() == [[1, 0], [2, 3]]
    assert shared.padded([[1], [2, 3]], 0, left=True).tolist() == [[0, 1], [2, 3]]


# -- the step --------------------------------------------------------------------------------------


def smoothed(logits, labels, vocab):
    """The sum of the smoothed cross-entropy of logits (T, V) and labels (T,), with ε = 0.2."""
    every = sum(log_p(logits, np.full(labels.shape, v)) for v in range(vocab))
    return -(0.8 * log_p(logits, labels) + 0.2 / vocab * every).sum()


def test_the_steps(monkeypatch, example, shared, texts):
    """Both models: the mean over the target's tokens, without padding, row by row and without any padding
    here; labels are smoothed."""
    args = flags(monkeypatch, example, **SMALL)
    _, tokenizer, translations = texts
    c = config(tokenizer)
    one, one_copy = exact(Transformer(c, rng=1))
    two, two_copy = exact(shared.DecoderAlone(c, rng=1))
    run = Loop(args.steps)
    example.train(dict(zip(example.NAMES, (one, two), strict=True)), translations, args, run)

    rng, wanted = np.random.default_rng(args.seed + 1), []
    training = [Training(model, (0.9, 0.98), 1e-9) for model in (one_copy, two_copy)]
    for step in range(args.steps):
        rows, directions = rng.integers(len(translations), size=3), rng.integers(6, size=3)
        losses, count = [0.0, 0.0], 0
        for row, direction in zip(rows, directions, strict=True):
            alone = translations.batch([row], [direction])
            source, target = alone.source, alone.target
            labels, n = target[0, 1:], target.shape[1] - 1
            logits = one_copy(source, target[:, :-1])[0]
            losses[0] = losses[0] + smoothed(logits, labels, c.vocab_size)
            whole = two_copy(np.concatenate([source, target[:, :-1]], axis=1))[0]
            losses[1] = losses[1] + smoothed(whole[source.shape[1] :], labels, c.vocab_size)
            count += n
        rate = warmup_cosine(step, 0.01, 0.0, 2, 4)
        wanted.append([t.step(loss / count, rate) for t, loss in zip(training, losses, strict=True)])
    same(one, one_copy, 1e-7)  # biases of keys have no gradient but rounding, which Adam makes larger
    same(two, two_copy, 1e-7)
    for name, losses in zip(example.NAMES, np.transpose(wanted), strict=True):
        np.testing.assert_allclose(run.column(name), losses, rtol=1e-8)
    assert run.losses() == [max(losses) for losses in zip(*map(run.column, example.NAMES), strict=True)]


# -- a decoder alone -------------------------------------------------------------------------------


def test_a_decoder_alone_is_its_layers(shared, texts):
    """By hand: embedding and sinusoids, layers under a causal mask, the last norm, the tied head."""
    c = config(texts[1])
    model, _ = exact(shared.DecoderAlone(c, rng=0))
    ids = np.array([[1, 5, 3, 2]])
    x = 2.0 * model.embedding.weight.data[ids] + sinusoids(4, 4)
    for layer in model.layers:
        x = layer(x, np.tri(4, dtype=bool))
    assert len(model.layers) == 2
    np.testing.assert_allclose(
        model(ids).data, (model.norm(x) @ model.embedding.weight.data.T).data, rtol=1e-12
    )
    changed = model(np.array([[1, 5, 7, 7]])).data
    np.testing.assert_array_equal(changed[:, :2], model(ids).data[:, :2])


@pytest.mark.parametrize("layers", [1, 3])
def test_the_parameters_are_equal_but_for_biases_and_norms(shared, texts, layers):
    c = config(texts[1], layers=layers, channels=8, hidden=24)
    matrices = [
        sum(p.size for p in model.parameters() if p.ndim == 2)
        for model in (Transformer(c, rng=0), shared.DecoderAlone(c, rng=0))
    ]
    assert matrices[0] == matrices[1]


def test_greedy_search_of_a_decoder_alone(shared, texts):
    """The most probable token after the other, as for each source by itself: padding changes nothing."""
    _, tokenizer, translations = texts
    c = config(tokenizer)
    model, _ = exact(shared.DecoderAlone(c, rng=3))
    batch = translations.batch([0, 6, 3], [0, 1, 4])
    found = model.greedy_search(batch.source, 5)
    assert found.shape == (3, 5)
    for row, source in zip(found, batch.source, strict=True):
        ids = [*source[source != c.pad], c.begin]
        for token in row:
            assert model(np.array([ids])).data[0, -1].argmax() == token
            ids.append(token)
    model.norm.bias.data[:] = 1
    model.embedding.weight.data[c.end] = 100.0  # the end is the most probable token at once
    assert model.greedy_search(batch.source, 5).tolist() == [[c.end]] * 3


# -- attention -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_norm", [False, True])
def test_where_attention_looks(shared, texts, pre_norm):
    """The weights, times the values, give what the layer of cross-attention gives."""
    _, tokenizer, translations = texts
    model, _ = exact(Transformer(config(tokenizer, pre_norm=pre_norm, layers=2), rng=0))
    source, target, *_ = translations.batch([0, 7], [0, 1])
    seen = []
    for layer in model.decoder:
        forward = layer.cross.f.forward
        layer.cross.f.forward = lambda x, *given, f=forward: seen.append(f(x, *given)) or seen[-1]
    weights = shared.cross_attention(model, source, target)
    assert weights.shape == (2, 2, 2, target.shape[1], source.shape[1])
    np.testing.assert_allclose(weights.sum(axis=-1), 1)
    padding = source == tokenizer.special["<pad>"]
    assert padding.any()
    assert not (weights * padding[:, None, None]).any()
    memory = model.memory(source)
    for layer, p, wanted in zip(model.decoder, weights, seen, strict=True):
        v = shared.split_heads(ops.split(layer.cross.f.kv(memory), 2, axis=-1)[1], 2).data
        heads = (p @ v).transpose(0, 2, 1, 3).reshape(2, target.shape[1], 4)
        np.testing.assert_allclose(layer.cross.f.proj(heads).data, wanted.data, rtol=1e-9, atol=1e-12)


# -- the end ---------------------------------------------------------------------------------------


def test_shares_and_bleu(example, texts):
    tokenizer = texts[1]
    right = ["one hundred twenty-one", "le premier mars mille cent"]
    assert example.share_right(right, right) == 1
    assert example.share_right([right[0], "le premier mars mille"], right) == 0.5
    assert example.bleu(right, right, tokenizer) == pytest.approx(1)
    assert 0 < example.bleu([right[0], "le premier mars mille"], right, tokenizer) < 1
    with pytest.raises(ValueError, match="zip"):
        example.share_right(right, right[:1])


def test_greedy_decoding_and_beam_search_of_width_one_agree(example, shared, texts):
    _, tokenizer, translations = texts
    model = Transformer(config(tokenizer), rng=0)
    batch = translations.batch([0, 7, 3], [0, 1, 4])
    greedy = example.translate(model, batch, tokenizer)
    assert example.search(model, batch, tokenizer, 1) == greedy
    assert len(greedy) == 3


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, example):
    monkeypatch.setattr(example, "take_turns", lambda models, batch: dict.fromkeys(models, 1.0))
    tiny = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    tiny += ["--steps", 6, "--save-every", 2, "--beam", 2]
    run_here(monkeypatch, example, *tiny, "--out", tmp_path / "whole")
    parts = ("--out", tmp_path / "parts", *tiny)
    assert run_here(monkeypatch, example, *parts, stop_after=3) == 130
    assert "--resume" in capsys.readouterr().err
    run_here(monkeypatch, example, *parts, "--resume")
    assert (tmp_path / "parts" / "attention.png").is_file()
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")
