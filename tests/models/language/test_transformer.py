"""The Transformer of translation: positions, layers, masks, loss and search; parity with torch."""

import itertools
import math

import numpy as np
import pytest

from tinygen import Tensor, no_grad, ops
from tinygen.models.language.transformer import (
    Transformer,
    TransformerConfig,
    sinusoids,
)

PAD, BEGIN, END = 0, 1, 2
SOURCE = np.array([[3, 4, 5, 6], [6, 3, PAD, PAD]])
TARGET = np.array([[BEGIN, 5, 4, END, PAD], [BEGIN, 3, 6, 6, END]])
both_norms = pytest.mark.parametrize("pre_norm", [False, True])


def rng(seed=0):
    return np.random.default_rng(seed)


def small(seed=0, **given):
    """In float64 and evaluation mode, with biases and norms that matter."""
    sizes = {"vocab_size": 7, "layers": 2, "heads": 2, "channels": 8, "hidden": 6, **given}
    model = Transformer(TransformerConfig(**sizes), rng=rng(seed)).astype(np.float64).eval()
    for i, p in enumerate(model.parameters()):
        p.data += 0.3 * rng(i).standard_normal(p.shape)
    return model


def grads(model, source, target):
    model.zero_grad()
    loss = model.loss(source, target)
    loss.backward()
    return loss.item(), [p.grad for p in model.parameters()]


def padded(ids, n):
    return np.pad(ids, [(0, 0), (0, n)], constant_values=PAD)


# -- positions -------------------------------------------------------------------------------------


def test_sinusoids_by_hand():
    table = sinusoids(50, 6)
    assert table.shape == (50, 6)
    np.testing.assert_array_equal(table[0], [0, 1, 0, 1, 0, 1])
    for i in range(3):
        angle = 7 / 10000 ** (2 * i / 6)
        np.testing.assert_allclose(
            table[7, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], rtol=1e-12
        )


@pytest.mark.parametrize("shift", [1, 5])
def test_a_shift_of_sinusoids_is_a_rotation(shift):
    """PE(pos + k) is one matrix times PE(pos), for all positions."""
    table = sinusoids(40, 8)
    pairs = table.reshape(40, 4, 2)
    a = shift * 10000.0 ** (-np.arange(0, 8, 2) / 8)
    rotation = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]).transpose(2, 0, 1)  # (4, 2, 2)
    np.testing.assert_allclose((rotation @ pairs[:-shift, :, :, None])[..., 0], pairs[shift:], atol=1e-12)
    products = table @ table.T  # so products depend on the distance alone
    np.testing.assert_allclose(np.diag(products, shift), products[0, shift], rtol=1e-12)


def test_an_odd_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="5 is odd"):
        sinusoids(3, 5)


def test_the_stream_begins_with_scaled_embeddings_and_positions():
    model = small()
    wanted = math.sqrt(8) * model.embedding.weight.data[SOURCE] + sinusoids(4, 8)
    np.testing.assert_allclose(model.embed(SOURCE).data, wanted, rtol=1e-12)


# -- layers ----------------------------------------------------------------------------------------


@both_norms
def test_the_layers_are_their_formulas(pre_norm):
    model = small(pre_norm=pre_norm)
    x, memory = Tensor(rng(1).standard_normal((2, 5, 8))), Tensor(rng(2).standard_normal((2, 4, 8)))
    mask, seen = model.mask(TARGET), model.mask(SOURCE)

    def added(x, sublayer, f):
        return x + f(sublayer.norm(x)) if pre_norm else sublayer.norm(x + f(x))

    def feed_forward(f):
        return lambda x: np.maximum(x @ f.fc.weight.T + f.fc.bias, 0) @ f.proj.weight.T + f.proj.bias

    layer = model.encoder[0]
    y = added(x, layer.attn, lambda x: layer.attn.f(x, mask))
    y = added(y, layer.mlp, feed_forward(layer.mlp.f))
    np.testing.assert_allclose(layer(x, mask).data, y.data, rtol=1e-12)
    layer = model.decoder[0]
    y = added(x, layer.attn, lambda x: layer.attn.f(x, mask & np.tri(5, dtype=bool)))
    y = added(y, layer.cross, lambda x: layer.cross.f(x, memory, seen))
    y = added(y, layer.mlp, feed_forward(layer.mlp.f))
    np.testing.assert_allclose(layer(x, memory, mask, seen).data, y.data, rtol=1e-12)


@both_norms
def test_gradients_of_all_parameters(pre_norm):
    model = small(layers=1, heads=1, channels=4, hidden=3, pre_norm=pre_norm)
    parameters = list(model.parameters())

    loss = lambda: model.loss(SOURCE, TARGET).item()
    value, found = grads(model, SOURCE, TARGET)
    assert value == loss()
    for p, g in zip(parameters, found, strict=True):
        direction = rng(5).standard_normal(p.shape)
        start, losses = p.data.copy(), []
        for h in (1e-5, -1e-5):
            p.replace(start + h * direction)
            losses.append(loss())
        p.replace(start)
        np.testing.assert_allclose(
            np.sum(g * direction), (losses[0] - losses[1]) / 2e-5, rtol=1e-5, atol=1e-8
        )


def test_the_embedding_is_tied_three_times():
    """Its gradient is the sum of those of source, target and output."""
    model = small()
    assert [name for name, _ in model.named_parameters() if "embedding" in name] == ["embedding.weight"]
    _, found = grads(model, SOURCE, TARGET)
    used = np.abs(found[0]).sum(axis=1)
    assert (used > 0).all()  # by the output, also those that no text has


# -- masks -----------------------------------------------------------------------------------------


@both_norms
@pytest.mark.parametrize("t", range(5))
def test_no_gradient_reaches_the_decoder_s_future(t, pre_norm):
    model = small(pre_norm=pre_norm)
    memory = model.memory(SOURCE)
    y = Tensor(rng(3).standard_normal((2, 5, 8)), requires_grad=True)
    out, no_padding = y, np.ones((2, 1, 1, 5), bool)
    for layer in model.decoder:
        out = layer(out, memory, no_padding, model.mask(SOURCE))
    (out[:, t] * rng(4).standard_normal((2, 8))).sum().backward()
    assert (y.grad[:, t + 1 :] == 0).all()
    assert (np.abs(y.grad[:, : t + 1]).max(axis=(0, 2)) > 0).all()


def test_later_tokens_change_no_earlier_logits():
    model = small()
    other = TARGET.copy()
    other[:, 3:] = 4
    a, b = model(SOURCE, TARGET).data, model(SOURCE, other).data
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert (a[:, 3:] != b[:, 3:]).any()


@both_norms
def test_padding_of_source_and_target_changes_nothing(pre_norm):
    model = small(pre_norm=pre_norm)
    logits = model(SOURCE, TARGET).data
    more = model(padded(SOURCE, 3), padded(TARGET, 2)).data
    real = TARGET != PAD
    np.testing.assert_allclose(more[:, :5][real], logits[real], rtol=1e-12)
    loss, found = grads(model, SOURCE, TARGET)
    same, equal = grads(model, padded(SOURCE, 3), padded(TARGET, 2))
    assert same == pytest.approx(loss, rel=1e-12)
    for a, b in zip(found, equal, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-13)


def test_a_batch_is_its_rows():
    model = small()
    logits = model(SOURCE, TARGET).data
    for i in range(2):
        source, target = (ids[i][ids[i] != PAD][None] for ids in (SOURCE, TARGET))
        np.testing.assert_allclose(model(source, target).data[0], logits[i, : target.size], rtol=1e-12)


def test_every_token_of_the_source_matters():
    """Also the first and the last, to every position of the target."""
    model = small()
    logits = model(SOURCE, TARGET).data
    for s in range(4):
        other = SOURCE.copy()
        other[0, s] = 3 if SOURCE[0, s] != 3 else 5
        changed = model(other, TARGET).data
        assert (np.abs(changed - logits)[0].max(axis=-1) > 0).all()
        np.testing.assert_array_equal(changed[1], logits[1])


# -- the loss --------------------------------------------------------------------------------------


def fixed(given, smoothing):
    """A model whose logits are given."""

    class Fixed(Transformer):
        def forward(self, source, target):
            return given

    return Fixed(TransformerConfig(4, 1, 1, 2, 2, label_smoothing=smoothing), rng=0)


def test_the_smoothed_loss_by_hand():
    """p = (1/2, 1/4, 1/8, 1/8), the label 1, ε = 0.4: q = (0.1, 0.7, 0.1, 0.1)."""
    p = np.array([[[0.5, 0.25, 0.125, 0.125]] * 2])
    loss = fixed(Tensor(np.log(p)), 0.4).loss([[3]], [[BEGIN, 1, PAD]])  # the padding does not count
    assert loss.item() == pytest.approx((0.1 * 1 + 0.7 * 2 + 0.1 * 3 + 0.1 * 3) * math.log(2))


@pytest.mark.parametrize("smoothing", [0.1, 0.4])
def test_the_least_smoothed_loss_is_an_entropy(smoothing):
    q = np.full((1, 1, 4), smoothing / 4)
    q[0, 0, 3] += 1 - smoothing
    logits = Tensor(np.log(q), requires_grad=True)
    loss = fixed(logits, smoothing).loss([[3]], [[BEGIN, 3]])
    assert loss.item() == pytest.approx(-np.sum(q * np.log(q)))
    loss.backward()
    np.testing.assert_allclose(logits.grad, 0, atol=1e-15)
    for i in range(20):
        other = Tensor(np.log(q) + 0.5 * rng(i).standard_normal(q.shape))
        assert fixed(other, smoothing).loss([[3]], [[BEGIN, 3]]).item() > loss.item()


def test_without_an_embedding_the_loss_is_ln_v():
    model = small()
    model.embedding.weight.replace(np.zeros((7, 8)))
    assert model.loss(SOURCE, TARGET).item() == pytest.approx(math.log(7))


def test_the_loss_is_of_the_next_token():
    model = small(label_smoothing=0.0)
    log_p = ops.log_softmax(model(SOURCE, TARGET[:, :-1])).data
    wanted = [-log_p[b, t, TARGET[b, t + 1]] for b in range(2) for t in range(4) if TARGET[b, t + 1] != PAD]
    assert len(wanted) == 7
    assert model.loss(SOURCE, TARGET).item() == pytest.approx(np.mean(wanted))


def test_dropout_is_of_training_alone():
    model = small(dropout=0.5)
    same = model(SOURCE, TARGET).data
    np.testing.assert_array_equal(model(SOURCE, TARGET).data, same)
    assert (model.train()(SOURCE, TARGET).data != same).any()


# -- translation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 23, 32, 40])
def test_greedy_takes_the_best_token_at_each_step(seed):
    """Each row by itself, until its end; then comes padding."""
    model = small(seed)
    found = model.greedy_search(SOURCE, 6)
    for source, row in zip(SOURCE, found, strict=True):
        source, tokens = source[source != PAD][None], [BEGIN]
        for token in row:
            best = model(source, [tokens]).data[0, -1].argmax() if END not in tokens else PAD
            assert token == best
            tokens.append(token)
    if seed > 1:
        first, second = (END in row.tolist()[:3] for row in found)
        assert first != second  # one row ends, the other goes on


def test_translation_is_without_dropout_and_restores_the_mode():
    model = small(23, dropout=0.9)
    wanted = model.greedy_search(SOURCE, 6), model.beam_search(SOURCE, 3)
    model.train()
    np.testing.assert_array_equal(model.greedy_search(SOURCE, 6), wanted[0])
    for row, other in zip(model.beam_search(SOURCE, 3), wanted[1], strict=True):
        assert [h.log_prob for h in row] == [h.log_prob for h in other]
    assert model.training


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_one_is_greedy(seed):
    model = small(seed)
    for row, [best] in zip(
        model.greedy_search(SOURCE, 5), model.beam_search(SOURCE, 5, width=1), strict=True
    ):
        np.testing.assert_array_equal(row[: len(best.tokens)], best.tokens)
        assert (row[len(best.tokens) :] == PAD).all()


def test_a_beam_as_wide_as_all_sequences_is_exhaustive_search():
    model, n = small(vocab_size=4), 3
    source = np.array([[3, 3], [3, PAD]])
    found = model.beam_search(source, n, width=4**n, alpha=0.6)
    for i, row in enumerate(found):
        wanted = {}
        for length in range(1, n + 1):
            for tokens in itertools.product(range(4), repeat=length):
                if END in tokens[:-1] or (length < n and tokens[-1] != END):
                    continue
                with no_grad():
                    log_p = ops.log_softmax(model(source[i : i + 1], [[BEGIN, *tokens[:-1]]])).data[0]
                wanted[tokens] = log_p[np.arange(length), list(tokens)].sum() / ((5 + length) / 6) ** 0.6
        assert [tuple(h.tokens) for h in row] == sorted(wanted, key=wanted.get, reverse=True)
        np.testing.assert_allclose([h.score for h in row], sorted(wanted.values(), reverse=True), rtol=1e-9)


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([3, 4], [[BEGIN]], r"source must be \(B, S\) and target \(B, T\), got \(2,\) and \(1, 1\)"),
        ([[3], [4]], [[BEGIN]], r"got \(2, 1\) and \(1, 1\)"),
        ([[3, 4], [PAD, PAD]], [[BEGIN], [BEGIN]], "a source is empty"),
    ],
)
def test_bad_batches_are_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        small()(source, target)


def test_a_target_without_an_end_is_refused():
    with pytest.raises(ValueError, match=r"at least two tokens, begin and end, got \(1, 1\)"):
        small().loss([[3]], [[BEGIN]])


def test_tokens_outside_the_vocabulary_are_refused():
    with pytest.raises(IndexError):
        small()([[7]], [[BEGIN]])


# -- parity with torch -----------------------------------------------------------------------------


def weights_there(layer, torch_layer, names):
    """Copies the weights of a layer to torch's, and returns pairs of parameters."""
    torch = pytest.importorskip("torch")
    pairs = []
    for ours, theirs in names.items():
        parts = [layer]
        for part in ours.split("."):
            parts.append(getattr(parts[-1], part))
        target = torch_layer
        for part in theirs.split("."):
            target = getattr(target, part)
        with torch.no_grad():
            target.copy_(torch.tensor(parts[-1].data))
        pairs.append((parts[-1], target))
    return pairs


def both(ours, theirs):
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


FEED_FORWARD = both("mlp.f.fc", "linear1") | both("mlp.f.proj", "linear2")
SELF = {"attn.f.qkv.weight": "self_attn.in_proj_weight", "attn.f.qkv.bias": "self_attn.in_proj_bias"}
SELF |= both("attn.f.proj", "self_attn.out_proj") | both("attn.norm", "norm1")
ENCODER = FEED_FORWARD | SELF | both("mlp.norm", "norm2")
DECODER = FEED_FORWARD | SELF | both("mlp.norm", "norm3") | both("cross.norm", "norm2")
DECODER |= both("cross.f.proj", "multihead_attn.out_proj")


@both_norms
def test_layers_are_torch_s(pre_norm):
    torch = pytest.importorskip("torch")
    model = small(layers=1, dropout=0.0, pre_norm=pre_norm)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm, "dtype": torch.float64}
    encoder = torch.nn.TransformerEncoderLayer(8, 2, 6, **options)
    decoder = torch.nn.TransformerDecoderLayer(8, 2, 6, **options)
    pairs = weights_there(model.encoder[0], encoder, ENCODER)
    pairs += weights_there(model.decoder[0], decoder, DECODER)
    cross = model.decoder[0].cross.f
    with torch.no_grad():
        for kind in ("weight", "bias"):
            joint = np.concatenate([getattr(cross.q, kind).data, getattr(cross.kv, kind).data])
            getattr(decoder.multihead_attn, f"in_proj_{kind}").copy_(torch.tensor(joint))
    x, y = rng(1).standard_normal((2, 4, 8)), rng(2).standard_normal((2, 5, 8))
    ours = [Tensor(a, requires_grad=True) for a in (x, y)]
    theirs = [torch.tensor(a, requires_grad=True) for a in (x, y)]
    source_mask, target_mask = SOURCE != PAD, TARGET != PAD
    memory = model.encoder[0](ours[0], source_mask[:, None, None])
    out = model.decoder[0](ours[1], memory, target_mask[:, None, None], source_mask[:, None, None])
    hidden, later = torch.tensor(~source_mask), torch.tensor(~np.tri(5, dtype=bool))
    memory_there = encoder(theirs[0], src_key_padding_mask=hidden)
    out_there = decoder(
        theirs[1],
        memory_there,
        tgt_mask=later,
        tgt_key_padding_mask=torch.tensor(~target_mask),
        memory_key_padding_mask=hidden,
    )
    np.testing.assert_allclose(out.data, out_there.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = rng(3).standard_normal(out.shape)
    (out * g).sum().backward()
    (out_there * torch.tensor(g)).sum().backward()
    pairs += list(zip(ours, theirs, strict=True))
    for mine, other in pairs:
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-8, atol=1e-11)
    joint = np.concatenate([cross.q.weight.grad, cross.kv.weight.grad])
    np.testing.assert_allclose(joint, decoder.multihead_attn.in_proj_weight.grad.numpy(), atol=1e-11)
