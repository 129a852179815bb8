"""Parameters, operations and bytes of a Transformer, against the library's GPT and the figures of papers."""

import pytest

from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.parallel.sizes import GPT2, GPT3, MIXED, SINGLE, Transformer, model_states, training_seconds

SMALL = Transformer(layers=3, hidden=8, heads=2, sequence=10, vocabulary=17)


def small_gpt():
    return GPT(GPTConfig(17, 10, n_layer=3, n_head=2, n_embd=8), rng=0)


def test_parameters():
    """The library's GPT; GPT-2 by its file, GPT-3 by its paper."""
    assert SMALL.parameters == small_gpt().num_parameters()
    assert GPT2.parameters == 124_439_808
    assert round(GPT3.parameters / 1e9, 1) == 174.6  # Brown et al.: 175.0
    formula = 12 * 96 * 12288**2 * (1 + 13 / (12 * 12288) + (50257 + 2048) / (12 * 96 * 12288)) + 2 * 12288
    assert GPT3.parameters == pytest.approx(formula, rel=1e-14)


def test_operations():
    """The library's count; and GPT-3's training on 300 billion tokens (Brown et al. 2020, appendix D: 3.14e23
    without attention)."""
    assert SMALL.flops_per_token == small_gpt().flops_per_token()
    assert 3.14e23 < 300e9 * GPT3.flops_per_token < 1.03 * 3.14e23


def test_activations():
    """Korthikanti et al. 2022: for GPT-3, attention is 80 of 114 parts, 70 %; tensor parallelism of 8."""
    each = 2048 * 12288 * 96
    assert GPT3.activations(1) == each * (34 + 80)
    assert GPT3.activations(3, tensor=8, keep="no attention") == 3 * each * 34 / 8
    assert GPT3.activations(1, tensor=8, keep="inputs") == 2 * each
    assert 1 - GPT3.activations(1, keep="no attention") / GPT3.activations(1) == pytest.approx(
        0.70, abs=0.005
    )
    with pytest.raises(ValueError, match='"all", "no attention" or "inputs", got'):
        GPT3.activations(1, keep="some")


def test_zero():
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters on 64 processes, gigabytes each."""
    gigabytes = [model_states(7.5e9, 64, stage) / 1e9 for stage in (0, 1, 2, 3)]
    assert [round(x, 1) for x in gigabytes] == [120, 31.4, 16.6, 1.9]
    for stage in range(4):
        assert model_states(100, 1, stage, SINGLE) == 1600
        assert model_states(100, 1, stage, MIXED) == 1600
    assert model_states(100, 4, 1, SINGLE) == 1000
    with pytest.raises(ValueError, match="0, 1, 2 or 3, got 4"):
        model_states(1, 1, 4)


def test_the_days_of_gpt3():
    """Narayanan et al. 2021: 300 billion tokens on 1,024 A100s at 140 teraFLOP/s take 34 days."""
    assert round(training_seconds(175e9, 300e9, 1024, 140e12) / 86400) == 34
