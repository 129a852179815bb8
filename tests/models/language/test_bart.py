"""BART: its block by hand, its positions, and what is not trained."""

import numpy as np
import pytest

from tinygen import ops
from tinygen.models.language.bart import BART, BARTBlock, BARTConfig

SMALL = {"vocab_size": 11, "block_size": 6, "layers": 1, "decoder_layers": 2, "heads": 2, "channels": 8}
SMALL |= {"hidden": 12, "dropout": 0.0, "inner_dropout": 0.0}


def small(**given):
    model, rng = BART(BARTConfig(**{**SMALL, **given}), rng=0).astype(np.float64), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape)
    return model


SOURCE, TARGET = np.array([[5, 6, 7, 2], [8, 2, 1, 1]]), np.array([[2, 9, 4], [2, 3, 2]])


@pytest.mark.parametrize("gelu", ["none", "tanh"])
def test_block_by_hand(gelu):
    rng = np.random.default_rng(0)
    block = BARTBlock(BARTConfig(**SMALL, gelu=gelu), True, rng=0).astype(np.float64)
    x, memory, mask = (
        rng.standard_normal((2, 3, 8)),
        rng.standard_normal((2, 4, 8)),
        np.ones((2, 1, 1, 4), bool),
    )
    mask[1, ..., 2:] = False
    y = block.norm1(x + block.attn(x))
    y = block.norm_cross(y + block.cross(y, memory, mask))
    hidden = ops.gelu(y @ block.fc.weight.numpy().T + block.fc.bias.numpy(), gelu)
    y = block.norm2(y + (hidden @ block.proj.weight.numpy().T + block.proj.bias.numpy()))
    np.testing.assert_allclose(block(x, None, memory, mask).numpy(), y.numpy(), rtol=1e-12)
    assert block.attn.causal
    assert not BARTBlock(BARTConfig(**SMALL), False, rng=0).attn.causal


def test_the_stream_begins_with_a_norm_of_embeddings_and_positions():
    model = small()
    seen = []
    model.encoder[0].forward = lambda x, mask: seen.append(x.numpy()) or x
    model.memory(SOURCE)
    x = model.embedding.weight.numpy()[SOURCE] + model.encoder_positions.weight.numpy()[2:6]
    expected = model.encoder_norm(x).numpy()
    np.testing.assert_allclose(seen[0], expected, rtol=1e-12)


def test_two_rows_of_the_tables_of_positions_are_unused():
    model = small()
    before = model(SOURCE, TARGET).numpy()
    for table in (model.encoder_positions, model.decoder_positions):
        assert table.weight.shape == (8, 8)
        table.weight.data[:2] = np.nan
    np.testing.assert_array_equal(model(SOURCE, TARGET).numpy(), before)


def test_the_head_is_the_embedding_and_a_bias_that_is_not_trained():
    model = small()
    before = model(SOURCE, TARGET).numpy()
    model.logits_bias.data = np.arange(11.0)
    np.testing.assert_allclose(model(SOURCE, TARGET).numpy(), before + np.arange(11), rtol=1e-12)
    assert "logits_bias" not in dict(model.named_parameters())
    assert "logits_bias" in model.state_dict()


def test_longer_texts_than_the_table_are_refused():
    model, seven = small(), np.full((2, 7), 5)
    for source, target in ((seven, TARGET), (SOURCE, seven)):
        with pytest.raises(ValueError, match="7 tokens are more than block_size=6: crop the texts"):
            model(source, target)
    with pytest.raises(ValueError, match="7 tokens are more than block_size=6"):
        model.beam_search(SOURCE, 9, 1)


def test_the_initial_weights():
    model = BART(BARTConfig(500, 100, 1, 1, 2, 64, 64), rng=0)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            assert p.numpy().std() == pytest.approx(0.02, rel=5 / np.sqrt(2 * p.size)), name
        else:
            assert (p.numpy() == (0 if name.endswith("bias") else 1)).all(), name


@pytest.mark.parametrize("places", ["dropout", "inner_dropout"])
def test_dropout_is_in_each_of_its_places(places):
    model = small(**{places: 0.5})
    blocks = [*model.encoder, *model.decoder]
    outer = [model.drop, *(block.drop for block in blocks)]
    inner = [block.inner_drop for block in blocks] + [block.attn for block in blocks]
    inner += [block.cross for block in model.decoder]
    plain = model.eval()(SOURCE, TARGET).numpy()
    for drop in outer + inner:
        drop.training = True
        changed = np.abs(model(SOURCE, TARGET).numpy() - plain).max() > 1e-3
        assert changed == (drop in (outer if places == "dropout" else inner))
        drop.training = False
