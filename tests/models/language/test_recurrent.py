"""Recurrent language models: their states go on, their gradients are cut. A tagger that reads both ways."""

import numpy as np
import pytest

from tinygen import ops
from tinygen.models.language.recurrent import RecurrentLM, Tagger, constant
from tinygen.optim import Adam

KINDS = ("rnn", "gru", "lstm")
every_kind = pytest.mark.parametrize("kind", KINDS)
IDS = np.random.default_rng(0).integers(0, 5, (2, 9))
IDX, TARGETS = IDS[:, :-1], IDS[:, 1:]


def model(kind="lstm", layers=2):
    return RecurrentLM(5, 4, layers, kind, rng=0).astype(np.float64)


def grads(lm):
    found = {name: p.grad for name, p in lm.named_parameters()}
    for p in lm.parameters():
        p.grad = None
    return found


# -- the state ---------------------------------------------------------------------------------------


@every_kind
def test_a_text_in_pieces_is_the_same_text(kind):
    lm = model(kind)
    whole, end = lm(IDX)
    state, pieces = None, []
    for piece in np.split(IDX, [1, 4, 6], axis=1):
        logits, state = lm(piece, state)
        pieces.append(logits.numpy())
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole.numpy(), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(constant(state)), np.asarray(constant(end)), rtol=1e-12)


@every_kind
def test_the_first_token_reaches_the_last_logits_and_no_logits_see_later_tokens(kind):
    lm = model(kind)
    changed = IDX.copy()
    changed[:, 0] = (changed[:, 0] + 1) % 5
    difference = np.abs(lm(changed)[0].numpy() - lm(IDX)[0].numpy()).max(axis=(0, 2))
    assert np.all(difference > 0)
    changed = IDX.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 5
    difference = np.abs(lm(changed)[0].numpy() - lm(IDX)[0].numpy()).max(axis=(0, 2))
    np.testing.assert_array_equal(difference > 0, np.arange(8) >= 5)


# -- truncated backpropagation through time ----------------------------------------------------------


@every_kind
def test_segments_have_the_values_of_the_whole(kind):
    lm = model(kind)
    losses = [loss.item() for loss in lm.segment_losses(IDX, TARGETS, 3)]
    np.testing.assert_allclose(
        np.average(losses, weights=[3, 3, 2]), lm.loss(IDX, TARGETS).item(), rtol=1e-12
    )


def test_targets_of_a_segment_that_do_not_count():
    """-1, as in `loss`; the mean is over the others."""
    lm, targets = model("lstm"), TARGETS.copy()
    targets[:, 1] = -1
    first, *_ = lm.segment_losses(IDX, targets, 3)
    logits = lm(IDX[:, :3])[0].numpy()[:, [0, 2]]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    wanted = np.take_along_axis(log_p, TARGETS[:, [0, 2], None], axis=-1)
    assert first.item() == pytest.approx(-wanted.mean(), rel=1e-12)


@every_kind
def test_one_segment_is_not_truncated(kind):
    lm = model(kind)
    lm.loss(IDX, TARGETS).backward()
    whole = grads(lm)
    [loss] = lm.segment_losses(IDX, TARGETS, 8)
    loss.backward()
    for name, g in grads(lm).items():
        np.testing.assert_allclose(g, whole[name], rtol=1e-10, atol=1e-15, err_msg=name)


@every_kind
def test_the_gradient_stops_at_the_cut(kind):
    """It is the gradient of the second segment's loss with its first state as a constant, and not that of the
    whole text's loss there."""
    lm = model(kind)
    _, second = lm.segment_losses(IDX, TARGETS, 4)
    second.backward()
    found = grads(lm)
    logits, _ = lm(IDX[:, 4:], constant(lm(IDX[:, :4])[1]))
    ops.cross_entropy(logits, TARGETS[:, 4:]).backward()
    for name, g in grads(lm).items():
        np.testing.assert_allclose(found[name], g, rtol=1e-10, atol=1e-15, err_msg=name)
    lm.loss(IDX, np.where(np.arange(8) < 4, -1, TARGETS)).backward()
    assert max(np.abs(found[name] - g).max() for name, g in grads(lm).items()) > 1e-4


def test_steps_between_segments():
    """A segment starts from the state that the old weights have computed."""
    lm = model(layers=1)
    optimizer, state = Adam(lm.parameters(), lr=0.01), None
    for i, loss in enumerate(lm.segment_losses(IDX, TARGETS, 4)):
        if i == 1:
            logits, _ = lm(IDX[:, 4:], state)
            assert loss.item() == ops.cross_entropy(logits, TARGETS[:, 4:]).item()
        else:
            state = constant(lm(IDX[:, :4])[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IDX, TARGETS, 0), "at least one token, got length=0"),
        ((IDX, TARGETS, -1), "at least one token, got length=-1"),
        ((IDX, TARGETS[:, 1:], 3), r"idx \(2, 8\) and targets \(2, 7\) must have the same shape"),
    ],
)
def test_bad_segments(arguments, message):
    with pytest.raises(ValueError, match=message):
        next(model().segment_losses(*arguments))


def test_segments_of_one_token():
    """The shortest that there are: each gradient stops after one step."""
    losses = [loss.item() for loss in model().segment_losses(IDX, TARGETS, 1)]
    assert len(losses) == IDX.shape[1]
    np.testing.assert_allclose(np.mean(losses), model().loss(IDX, TARGETS).item(), rtol=1e-10)


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="kind must be one of 'rnn', 'gru', 'lstm', got 'elman'"):
        RecurrentLM(5, 4, kind="elman", rng=0)


# -- writing -----------------------------------------------------------------------------------------


@every_kind
def test_it_writes_what_it_predicts(kind):
    lm = model(kind)
    text = lm.sample([[1, 2], [3, 3]], 6, temperature=0, rng=0)
    logits, _ = lm(text[:, :-1])
    np.testing.assert_array_equal(text[:, 2:], logits.numpy().argmax(axis=-1)[:, 1:])


# -- the tagger --------------------------------------------------------------------------------------


def tagger(kind="lstm"):
    return Tagger(5, 3, 4, kind=kind, rng=0).astype(np.float64)


@every_kind
def test_each_tag_has_a_gradient_from_every_token(kind):
    """Each token of the text comes once, so its row of the embedding has the gradient of its place."""
    model, idx = tagger(kind), np.array([[3, 0, 4, 1, 2]])
    for t in range(5):
        model.embedding.weight.grad = None
        model(idx)[0, t].sum().backward()
        assert np.all(np.abs(model.embedding.weight.grad).max(axis=1) > 1e-9)


@every_kind
def test_reading_in_reverse_is_the_same_with_directions_exchanged(kind):
    model, other = tagger(kind), tagger(kind)
    forward, reverse = model.layers.layers.items()
    for name, p in other.layers.layers[0].named_parameters():
        p.data = dict(reverse.named_parameters())[name].data.copy()
    for name, p in other.layers.layers[1].named_parameters():
        p.data = dict(forward.named_parameters())[name].data.copy()
    other.head.weight.data = np.roll(model.head.weight.data, 4, axis=1)
    turned = other(IDX[:, ::-1]).numpy()[:, ::-1]
    np.testing.assert_allclose(turned, model(IDX).numpy(), rtol=1e-12)


def test_padding_does_not_matter():
    model = tagger()
    padded = IDX.copy()
    padded[1, 5:] = 0
    logits = model(padded, lengths=[8, 5]).numpy()
    np.testing.assert_allclose(logits[1, :5], model(IDX[1:, :5]).numpy()[0], rtol=1e-12)
    tags = np.where(np.arange(8) < [[8], [5]], 1, -1)
    one, other = (model.loss(idx, tags, [8, 5]).item() for idx in (padded, IDX))
    np.testing.assert_allclose(one, other, rtol=1e-14)


def test_it_learns_a_tag_that_only_the_future_tells():
    """The tag is the next token, which is random: a reader from left to right could only guess."""
    rng = np.random.default_rng(0)
    model = Tagger(3, 3, 12, kind="gru", rng=0)
    optimizer = Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        idx = rng.integers(0, 3, (16, 8))
        tags = np.concatenate([idx[:, 1:], np.full((16, 1), -1)], axis=1)
        loss = model.loss(idx, tags)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < np.log(3)
