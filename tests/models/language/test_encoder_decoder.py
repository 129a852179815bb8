"""What all encoder–decoders keep: caches change nothing, padding changes nothing, no target token sees a
later one, and rows of a batch do not see each other."""

from itertools import islice

import numpy as np
import pytest

from tinygen import Tensor, no_grad, ops
from tinygen.models.language.bart import BART, BARTConfig
from tinygen.models.language.t5 import T5, T5Config
from tinygen.models.language.transformer import Transformer, TransformerConfig
from tinygen.text.beam import beam_search

V = 11


def transformer(**given):
    return Transformer(TransformerConfig(V, 2, 2, 8, 12, dropout=0.0, **given), rng=0)


def t5(**given):
    return T5(T5Config(V, 2, 3, 2, 8, 3, 12, 4, 6, dropout=0.0, **given), rng=0)


def bart(**given):
    sizes = {"layers": 2, "decoder_layers": 3, "heads": 2, "channels": 8, "hidden": 12}
    return BART(BARTConfig(V, 20, **sizes, dropout=0.0, inner_dropout=0.0, **given), rng=0)


MODELS = {
    "transformer": transformer,
    "pre-norm": lambda: transformer(pre_norm=True),
    "t5": t5,
    "t5-v1.1": lambda: t5(gated=True, tie_weights=False),
    "bart": bart,
}


@pytest.fixture(params=MODELS)
def model(request):
    """In float64, with weights far larger than at the start of training."""
    model, rng = MODELS[request.param]().astype(np.float64), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + (0.5 if p.ndim == 2 else 0.1) * rng.standard_normal(p.shape)
    model.embedding.weight.data *= 0.3  # so that a token does not simply follow itself
    return model.eval()


def texts(model, b, t, seed=0):
    """Ids that are not special."""
    special = {model.config.pad, model.config.begin, model.config.end}
    return np.random.default_rng(seed).choice([i for i in range(V) if i not in special], (b, t))


def pairs(model):
    """Sources, one with padding, and targets after `begin`."""
    source, target = texts(model, 3, 5), texts(model, 3, 6, seed=1)
    source[1, 3:] = model.config.pad
    target[:, 0] = model.config.begin
    return source, target


def close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def test_cached_is_full(model):
    """Piece by piece, whatever the pieces."""
    source, target = pairs(model)
    full = model(source, target).numpy()
    with no_grad():
        memory, caches = model.memory(source), model.caches()
        ends = (1, 2, 5, 6)
        parts = [model.logits(target[:, :end], memory, source, caches).numpy() for end in ends]
    assert [part.shape[1] for part in parts] == [1, 1, 3, 1]
    close(np.concatenate(parts, axis=1), full)


def test_greedy_is_the_best_token_of_the_full_model(model):
    source, _ = pairs(model)
    found = model.greedy_search(source, 7)
    c, target = model.config, np.full((3, 1), model.config.begin)
    for _ in range(found.shape[1]):
        token = model(source, target).numpy()[:, -1].argmax(axis=-1)
        ended = (target[:, 1:] == c.end).any(axis=1)
        target = np.append(target, np.where(ended, c.pad, token)[:, None], axis=1)
    np.testing.assert_array_equal(found, target[:, 1:])
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize("width", [1, 3])
def test_beam_search_with_caches_is_beam_search_without(model, width):
    source, _ = pairs(model)
    c = model.config
    for i, found in enumerate(model.beam_search(source, 5, width)):

        def next_log_probs(live, i=i):
            rows = np.repeat(source[i : i + 1], len(live), axis=0)
            return ops.log_softmax(model(rows, live)[:, -1]).numpy()

        expected = beam_search(next_log_probs, width, 5, begin=c.begin, end=c.end)
        assert len(found) == len(expected) <= width
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours.tokens, theirs.tokens)
            close(ours.log_prob, theirs.log_prob)


def test_padding_of_sources_changes_nothing(model):
    source, target = pairs(model)
    wide = np.concatenate([source, np.full((3, 2), model.config.pad)], axis=1)
    close(model(wide, target).numpy(), model(source, target).numpy())
    alone = model(source[1:2, :3], target[1:2]).numpy()
    close(model(source, target).numpy()[1:2], alone)


def test_no_token_sees_a_later_one(model):
    source, target = pairs(model)
    other = target.copy()
    other[:, 4:] = texts(model, 3, 2, seed=5)
    ours, theirs = model(source, target).numpy(), model(source, other).numpy()
    close(ours[:, :4], theirs[:, :4])
    assert (np.abs(ours[:, 4:] - theirs[:, 4:]).max(axis=-1) > 1e-6).all()


def test_all_of_the_source_counts_and_all_of_the_target_before(model):
    """Each token of the source changes each position of the target; and `begin` is seen, though T5's is
    also padding."""
    source, target = pairs(model)
    before = model(source, target).numpy()
    for t in range(5):
        other = source.copy()
        other[0, t] = next(i for i in texts(model, 1, 50)[0] if i != source[0, t])
        assert (np.abs(model(other, target).numpy()[0] - before[0]).max(axis=-1) > 1e-6).all()
    other = target.copy()
    other[:, 0] = texts(model, 3, 1, seed=7)[:, 0]
    assert (np.abs(model(source, other).numpy() - before).max(axis=-1) > 1e-6).all()


def test_loss_by_hand(model):
    source, target = pairs(model)
    c = model.config
    target[0, -2:], target[1:, -1] = [c.end, c.pad], c.end
    log_p = ops.log_softmax(model(source, target[:, :-1])).numpy()
    eps = getattr(c, "label_smoothing", 0.0)
    right = np.take_along_axis(log_p, target[:, 1:, None], axis=-1)[..., 0]
    each = -(1 - eps) * right - eps * log_p.mean(axis=-1)
    real = target[:, 1:] != c.pad
    loss = model.loss(source, target)
    assert isinstance(loss, Tensor)
    close(loss.item(), each[real].mean())


def test_rows_do_not_see_each_other(model):
    source, _ = pairs(model)
    together = model.greedy_search(source, 6)
    for i in range(3):
        alone = model.greedy_search(source[i : i + 1], 6)
        np.testing.assert_array_equal(together[i : i + 1, : alone.shape[1]], alone)


def test_a_row_that_has_ended_has_only_padding(model):
    c = model.config
    source = np.repeat(texts(model, 1, 4), 40, axis=0)
    found = model.sample(source, 12, temperature=3.0, rng=0)
    ended = 0
    for row in found:
        if c.end in row:
            ended += 1
            assert (row[list(row).index(c.end) + 1 :] == c.pad).all()
    assert ended > 5
    assert len({tuple(row) for row in found}) > 10  # several samples of one source


def test_it_stops_when_all_rows_have_ended(model):
    source = texts(model, 2, 3)
    steps = list(islice(model.sample_steps(source, 5.0, rng=3), 500))
    assert len(steps) < 500
    assert (np.stack(steps) == model.config.end).any(axis=0).all()
    np.testing.assert_array_equal(model.sample(source, 500, 5.0, rng=3), np.stack(steps, axis=1))


def test_draws_have_the_models_distribution(model):
    """The first token: 4,000 draws, and each share within 5 standard errors."""
    source = texts(model, 1, 3)
    p = ops.softmax(model(source, [[model.config.begin]])[0, -1] / 2.0).numpy()
    first = next(model.sample_steps(np.repeat(source, 4000, axis=0), 2.0, rng=0))
    share = np.bincount(first, minlength=V) / 4000
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 4000)).all()


def test_the_mode_of_training_comes_back(model):
    model.train()
    source, _ = pairs(model)
    model.greedy_search(source, 2)
    assert model.training
    model.beam_search(source, 2)
    assert model.training


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([3, 4], [[3]], r"source must be \(B, S\) and target \(B, T\), got \(2,\) and \(1, 1\)"),
        ([[3, 4]], [3], r"got \(1, 2\) and \(1,\)"),
        ([3, 4], [3, 4], r"got \(2,\) and \(2,\)"),
        ([[3, 4]], [[3], [3]], r"got \(1, 2\) and \(2, 1\)"),
    ],
)
def test_shapes_that_are_no_pairs(model, source, target, message):
    with pytest.raises(ValueError, match=message):
        model(source, target)


def test_targets_of_any_length_have_room_in_a_cache():
    """In a model that has no longest text."""
    for model in (transformer(), t5()):
        source, target = np.array([[3, 4]]), np.full((1, 100), 5)
        memory = model.memory(source)
        with no_grad():
            assert model.logits(target, memory, source, model.caches()).shape == (1, 100, V)


def test_empty_sources_and_targets_are_refused(model):
    pad = model.config.pad
    with pytest.raises(ValueError, match=f"a source is empty: .* besides the padding, {pad}"):
        model([[pad, pad]], [[3, 3]])
    with pytest.raises(ValueError, match="a source is empty"):
        model.greedy_search([[pad, pad]], 3)
    with pytest.raises(ValueError, match=r"a target has at least two tokens, begin and end, got \(1, 1\)"):
        model.loss([[3, 4]], [[3]])
