"""The recurrent layers: torch's with the same weights, padded batches, and the modules' own affairs."""

import numpy as np
import pytest

import tinygen
from tinygen import Tensor, gradcheck, nn, ops
from tinygen.optim import AdamW, clip_grad_norm

KINDS = ["RNN", "LSTM", "GRU"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def rng(seed=0):
    return np.random.default_rng(seed)


def make(kind, *args, seed=0, **kwargs):
    return getattr(nn, kind)(*args, **kwargs, rng=rng(seed))


def torch_name(name, directions):
    """ "layers.3.weight_ih" -> "weight_ih_l1_reverse"."""
    _, i, weight = name.split(".")
    return f"{weight}_l{int(i) // directions}" + "_reverse" * (int(i) % directions)


def pair(kind, *args, directions=1, layers=1, bias=True):
    """One of ours and torch's with its weights, both in float64."""
    torch = pytest.importorskip("torch")
    ours = make(kind, *args, layers=layers, bidirectional=directions == 2, bias=bias).astype(np.float64)
    theirs = getattr(torch.nn, kind)(
        *args,
        num_layers=layers,
        bidirectional=directions == 2,
        bias=bias,
        batch_first=True,
        dtype=torch.float64,
    )
    state = {torch_name(n, directions): torch.tensor(p.numpy()) for n, p in ours.named_parameters()}
    theirs.load_state_dict(state)
    return ours, theirs


def flat(y, state):
    return [y, *(state if isinstance(state, tuple) else [state])]


# -- parity ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_torch_agrees(kind, layers, directions, bias, padded, with_state):
    torch = pytest.importorskip("torch")
    packed = torch.nn.utils.rnn
    ours, theirs = pair(kind, 3, 4, layers=layers, directions=directions, bias=bias)
    x = rng(1).normal(size=(5, 6, 3))
    lengths = np.array([3, 6, 1, 5, 6]) if padded else None
    states = [rng(2 + i).normal(size=(layers * directions, 5, 4)) for i in range(ours.states)]
    a = [Tensor(v, requires_grad=True) for v in (x, *states)]
    b = [torch.tensor(v, requires_grad=True) for v in (x, *states)]
    first = [None, None]
    if with_state:
        first = [tuple(v[1:]) if kind == "LSTM" else v[1] for v in (a, b)]
    found = flat(*ours(a[0], first[0], lengths))
    into = b[0]
    if padded:
        into = packed.pack_padded_sequence(into, torch.tensor(lengths), True, enforce_sorted=False)
    y, last = theirs(into, first[1])
    expected = flat(packed.pad_packed_sequence(y, True)[0] if padded else y, last)
    weights = [rng(9).normal(size=v.shape) for v in found]
    sum((v * w).sum() for v, w in zip(found, weights, strict=True)).backward()
    sum((v * torch.tensor(w)).sum() for v, w in zip(expected, weights, strict=True)).backward()
    for v, r in zip(found, expected, strict=True):
        np.testing.assert_allclose(v.numpy(), r.detach().numpy(), rtol=1e-10, atol=1e-12)
    for t, r in zip(a[: 1 + with_state * ours.states], b, strict=False):
        np.testing.assert_allclose(t.grad, r.grad.numpy(), rtol=1e-10, atol=1e-12)
    theirs = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        reference = theirs[torch_name(name, directions)].grad.numpy()
        np.testing.assert_allclose(p.grad, reference, rtol=1e-10, atol=1e-12)


# -- gradients -------------------------------------------------------------------------------------


@every_kind
def test_gradcheck_of_both_orders(kind):
    """Of the input and all parameters of two layers in both directions, on a padded batch."""
    layer = make(kind, 2, 1, layers=2, bidirectional=True)

    class Flat(nn.Module):
        def __init__(self):
            self.layer = layer

        def forward(self, x):
            return tuple(flat(*self.layer(x, lengths=[1, 2])))

    report = gradcheck(Flat(), rng(3).normal(size=(2, 2, 2)), order=2)
    assert report
    assert {r.order for r in report.results} == {1, 2}
    assert len({r.name for r in report.results if r.order == 1}) == 1 + 4 * 4


# -- the layers' own affairs -----------------------------------------------------------------------


@every_kind
def test_one_layer_is_a_linear_layer_and_the_op(kind):
    layer = make(kind, 3, 4)
    x, w = rng(1).normal(size=(2, 5, 3)).astype(np.float32), layer.layers[0]
    zeros = [np.zeros((2, 4), np.float32)] * layer.states
    expected = getattr(ops, kind.lower())(
        ops.linear(x, w.weight_ih, w.bias_ih), w.weight_hh, w.bias_hh, *zeros
    )
    for v, e in zip(flat(*layer(x)), expected, strict=True):
        np.testing.assert_allclose(v.numpy().reshape(e.shape), e.numpy(), rtol=1e-5, atol=1e-6)


@every_kind
def test_the_last_state_is_the_output_at_both_ends(kind):
    layer = make(kind, 3, 4, layers=2, bidirectional=True)
    x, lengths = rng(1).normal(size=(3, 5, 3)).astype(np.float32), np.array([5, 2, 4])
    y, state = (v.numpy() for v in flat(*layer(x, lengths=lengths))[:2])
    np.testing.assert_array_equal(state[2], y[np.arange(3), lengths - 1, :4])
    np.testing.assert_array_equal(state[3], y[:, 0, 4:])


@every_kind
def test_continuing_from_a_state_is_one_long_sequence(kind):
    layer = make(kind, 3, 4, layers=2)
    x = rng(1).normal(size=(2, 7, 3)).astype(np.float32)
    y, _ = layer(x)
    first, state = layer(x[:, :3])
    second, _ = layer(x[:, 3:], state)
    np.testing.assert_allclose(
        np.concatenate([first.data, second.data], axis=1), y.data, rtol=1e-5, atol=1e-6
    )


@every_kind
def test_weights_start_uniform_as_torch_s(kind):
    layer = make(kind, 7, 64, layers=2)
    for p in layer.parameters():
        assert np.abs(p.data).max() <= 1 / 8
        if p.ndim == 2:
            assert abs(p.data.std() - 1 / 8 / 3**0.5) < 0.01
    assert layer.num_parameters() == layer.gates * 64 * ((7 + 64 + 2) + (64 + 64 + 2))


def test_dropout_falls_between_the_layers_in_training_only():
    x = rng(1).normal(size=(2, 3, 4)).astype(np.float32)
    one, two = make("GRU", 4, 5, dropout=0.5), make("GRU", 4, 5, layers=2, dropout=0.5)
    np.testing.assert_array_equal(one(x)[0].data, one(x)[0].data)  # one layer has nothing in between
    first, second = two(x)[1].data, two(x)[1].data
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1] != second[1]).any()
    two.eval()
    np.testing.assert_array_equal(two(x)[0].data, two(x)[0].data)


def test_an_empty_sequence_leaves_the_state_as_it_was():
    layer, x = make("GRU", 3, 4), rng(2).normal(size=(2, 5, 3)).astype(np.float32)
    first = rng(3).normal(size=(1, 2, 4)).astype(np.float32)
    last = layer(x, first, lengths=[0, 5])[1].numpy()
    np.testing.assert_array_equal(last[0, 0], first[0, 0])
    assert np.abs(last[0, 1] - first[0, 1]).max() > 0.01


def test_lengths_may_be_a_list_an_array_or_a_tensor():
    layer, x = make("LSTM", 2, 3), rng(1).normal(size=(2, 4, 2)).astype(np.float32)
    for lengths in ([4, 2], np.array([4, 2], np.uint8), Tensor(np.array([4, 2]))):
        y, _ = layer(Tensor(x), lengths=lengths)
        assert not y.data[1, 2:].any()
        assert y.data[1, 1].any()


def test_the_same_through_a_checkpoint():
    layer, x = make("LSTM", 2, 3), rng(1).normal(size=(2, 4, 2)).astype(np.float32)
    gradients = []
    for run in (layer, lambda x: tinygen.checkpoint(lambda x: layer(x)[0], x)):
        layer.zero_grad()
        y = run(Tensor(x))
        (y[0] if isinstance(y, tuple) else y).sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_prints_what_it_is():
    assert (
        repr(make("LSTM", 3, 4, layers=2, bidirectional=True))
        .splitlines()[0]
        .startswith("LSTM(3, 4, layers=2, bidirectional)")
    )
    assert "1: OneDirection(reverse)" in repr(make("GRU", 3, 4, bidirectional=True))
    assert repr(make("GRU", 3, 4)).startswith("GRU(3, 4) ")


def test_an_lstm_learns_to_remember():
    """The first of the inputs, asked for eight steps later: only what is kept in the state can tell. Of eight
    seeds, all end below 0.002."""
    layer, head = make("LSTM", 1, 16, seed=1), nn.Linear(16, 1, rng=rng(2))
    parameters = [*layer.parameters(), *head.parameters()]
    optimizer = AdamW(parameters, lr=0.02)
    draws = rng(3)
    losses = []
    for _ in range(200):
        bits = draws.integers(0, 2, (32, 8, 1)).astype(np.float32)
        _, (h, _) = layer(bits)
        loss = ops.bce_with_logits(head(h[0]), bits[:, 0])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.data))
    assert losses[0] > 0.6
    assert np.mean(losses[-10:]) < 0.1


# -- errors ----------------------------------------------------------------------------------------


def test_errors_say_what_was_expected():
    x = np.zeros((2, 5, 3), np.float32)
    lstm, gru = make("LSTM", 3, 4), make("GRU", 3, 4, layers=2)
    with pytest.raises(ValueError, match=r"x must be \(B, T, 3\), got \(5, 3\)"):
        gru(x[0])
    with pytest.raises(ValueError, match=r"x must be \(B, T, 3\), got \(2, 5, 2\)"):
        gru(x[..., :2])
    with pytest.raises(ValueError, match=r"an array of shape \(2, 2, 4\), got \(1, 2, 4\)"):
        gru(x, np.zeros((1, 2, 4), np.float32))
    with pytest.raises(ValueError, match=r"2 arrays of shape \(1, 2, 4\), got \(1, 2, 4\)"):
        lstm(x, [np.zeros((1, 2, 4), np.float32)])
    with pytest.raises(ValueError, match=r"lengths must be 2 whole numbers, got int64 \(3,\)"):
        gru(x, lengths=[1, 2, 3])
    with pytest.raises(ValueError, match=r"lengths must be 2 whole numbers, got float64"):
        gru(x, lengths=[1.0, 2.0])
    for lengths in ([6, 1], [1, -1]):
        with pytest.raises(ValueError, match=r"lengths must be in \[0, 5\], got"):
            gru(x, lengths=lengths)
    with pytest.raises(ValueError, match="at least one layer, got 0"):
        make("RNN", 3, 4, layers=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\)"):
        make("RNN", 3, 4, dropout=1.0)
