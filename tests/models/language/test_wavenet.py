"""WaveNet: the paper's formula, what a prediction can see, and generation from queues."""

import itertools

import numpy as np
import pytest

from tinygen import Tensor, ops
from tinygen.models.language.wavenet import GatedLayer, WaveNet

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 5, (2, 12))
NOTES = RNG.integers(0, 3, (2, 12))


def model(dilations=(1, 2, 4), classes=0):
    return WaveNet(5, 4, 6, dilations, classes, rng=0).astype(np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# -- the formula -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dilation", [1, 3])
def test_a_layer_is_the_paper_s_formula_written_as_loops(dilation):
    layer = GatedLayer(4, 6, dilation, 3, last=False, rng=1).astype(np.float64)
    x, queue = RNG.standard_normal((2, 5, 4)), RNG.standard_normal((2, dilation, 4))
    output, skip, new = layer(Tensor(x), Tensor(queue), NOTES[:, :5])
    W, b = layer.conv.weight.data, layer.conv.bias.data
    before = np.concatenate([queue, x], axis=1)
    for i, t in itertools.product(range(2), range(5)):
        a = W @ np.concatenate([before[i, t], x[i, t]]) + b + layer.condition.weight.data[NOTES[i, t]]
        z = np.tanh(a[:4]) * sigmoid(a[4:])
        r, s = layer.residual, layer.skip
        np.testing.assert_allclose(output.data[i, t], x[i, t] + r.weight.data @ z + r.bias.data, rtol=1e-12)
        np.testing.assert_allclose(skip.data[i, t], s.weight.data @ z + s.bias.data, rtol=1e-12)
    np.testing.assert_array_equal(new.data, before[:, -dilation:])


def test_every_parameter_has_a_gradient_so_the_last_layer_has_no_residual():
    net = model(classes=3)
    net.loss(IDS, IDS, NOTES).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert [layer.residual is None for layer in net.layers] == [False, False, True]


def test_the_output_is_made_of_the_sum_of_all_skips():
    net = model()
    x, skips = net.embedding(IDS), 0.0
    for layer in net.layers:
        x, skip, _ = layer(x, layer.silence(2), None)
        skips = skips + skip.data
    h = np.maximum(skips, 0) @ net.hidden.weight.data.T + net.hidden.bias.data
    logits = np.maximum(h, 0) @ net.head.weight.data.T + net.head.bias.data
    np.testing.assert_allclose(net(IDS).data, logits, rtol=1e-12)


def test_the_layers_are_torch_s_convolutions():
    torch = pytest.importorskip("torch")
    net = model((1, 2, 4, 3), classes=3)
    as_torch = lambda array: torch.from_numpy(np.ascontiguousarray(array))
    x = as_torch(net.embedding(IDS).data.swapaxes(1, 2))
    skips = 0
    for layer in net.layers:
        weight = layer.conv.weight.data.reshape(8, 2, 4).swapaxes(1, 2)  # (2C, C, width 2)
        padded = torch.nn.functional.pad(x, (layer.dilation, 0))
        a = torch.nn.functional.conv1d(
            padded, as_torch(weight), as_torch(layer.conv.bias.data), dilation=layer.dilation
        )
        a = a + as_torch(layer.condition.weight.data[NOTES].swapaxes(1, 2))
        z = torch.tanh(a[:, :4]) * torch.sigmoid(a[:, 4:])
        pointwise = lambda linear, z=z: torch.nn.functional.conv1d(
            z, as_torch(linear.weight.data)[:, :, None], as_torch(linear.bias.data)
        )
        x = x if layer.residual is None else x + pointwise(layer.residual)
        skips = skips + pointwise(layer.skip)
    h = torch.relu(skips).swapaxes(1, 2) @ as_torch(net.hidden.weight.data.T) + as_torch(net.hidden.bias.data)
    logits = torch.relu(h) @ as_torch(net.head.weight.data.T) + as_torch(net.head.bias.data)
    np.testing.assert_allclose(net(IDS, NOTES).data, logits.numpy(), rtol=1e-10)


# -- what a prediction can see -----------------------------------------------------------------------


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (1, 2, 1, 2), (5,)])
def test_logits_depend_on_the_receptive_field_and_on_nothing_else(dilations):
    net = model(dilations)
    assert net.receptive_field == 1 + sum(dilations)
    for t in (0, 3, 11):
        net.zero_grad()
        tokens = np.arange(12)[None]  # each position has a row of its own in the embedding
        net.embedding.weight = type(net.embedding.weight)(RNG.standard_normal((12, 4)))
        net(tokens)[0, t].sum().backward()
        seen = np.flatnonzero(np.abs(net.embedding.weight.grad).sum(axis=1))
        reachable = {t}
        for d in dilations:
            reachable |= {s - d for s in reachable}
        assert set(seen) == {s for s in reachable if s >= 0}
        assert min(reachable) == t - net.receptive_field + 1


def test_a_class_changes_its_own_prediction_and_those_in_reach_after_it():
    net = model((1, 2), classes=3)
    changed = NOTES.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 3
    difference = np.abs(net(IDS, changed).data - net(IDS, NOTES).data).max(axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(difference), [5, 7])


# -- generation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [0, 3])
def test_a_text_read_in_pieces_is_the_same_text(classes):
    net = model((1, 2, 4), classes)
    condition = NOTES if classes else None
    whole = net(IDS, condition).data
    read = net.reader(condition)
    for start, stop in [(0, 1), (1, 2), (2, 7), (7, 11), (11, 12)]:
        np.testing.assert_allclose(read(IDS[:, start:stop]), whole[:, stop - 1], rtol=1e-12)


def test_samples_follow_their_condition():
    net = model((1, 2), classes=3)
    greedy = net.sample(IDS[:, :2], 6, temperature=0, rng=0, condition=NOTES)
    tokens = IDS[:, :2]
    for _ in range(6):
        logits = net(tokens, NOTES[:, : tokens.shape[1]]).data[:, -1]
        tokens = np.concatenate([tokens, logits.argmax(axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(greedy, tokens)


# -- training, and bad input -------------------------------------------------------------------------


def test_the_loss_is_the_mean_negative_log_probability_of_what_counts():
    net = model(classes=3)
    targets = IDS.copy()
    targets[0, :4] = -1
    log_p = ops.log_softmax(net(IDS, NOTES)).data
    kept = [(i, t) for i, t in itertools.product(range(2), range(12)) if targets[i, t] >= 0]
    expected = -np.mean([log_p[i, t, targets[i, t]] for i, t in kept])
    np.testing.assert_allclose(net.loss(IDS, targets, NOTES).item(), expected, rtol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one per layer"):
        WaveNet(5, dilations=(), rng=0)
    with pytest.raises(ValueError, match="at least 1"):
        WaveNet(5, dilations=(1, 0), rng=0)
    with pytest.raises(ValueError, match="has 3 classes, so it needs a condition"):
        model(classes=3)(IDS)
    with pytest.raises(ValueError, match="has 0 classes, so it needs no condition"):
        model()(IDS, NOTES)
    with pytest.raises(ValueError, match=r"tokens \(2, 12\), condition \(2, 11\)"):
        model(classes=3)(IDS, NOTES[:, 1:])
    with pytest.raises(ValueError, match=r"tokens \(2, 1\), condition \(2, 0\)"):
        model(classes=3).sample(IDS[:, :2], 12, rng=0, condition=NOTES)
    with pytest.raises(ValueError, match="has 1 classes, so it needs a condition"):
        model(classes=1)(IDS)
    assert model(classes=1)(IDS, 0 * NOTES).shape == (2, 12, 5)
    net = model((1, 2))
    with pytest.raises(ValueError, match="shorter"):
        net.continue_from(IDS, [net.layers[0].silence(2)], None)
    with pytest.raises(IndexError):
        model()(IDS + 1)
