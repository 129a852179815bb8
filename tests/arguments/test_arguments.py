"""No argument is ignored: every argument with a default, of every public function and class of the upper
floors, makes a difference. And a dropout rate applies at every place that its documentation names."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from arguments import defaults, models, table

from tinygen import Tensor, nn
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.recurrent import RecurrentLM, Tagger
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.nn.attention import Heads

ROWS = table.ALIGN | table.DIFFUSION | table.OTHERS | table.NN | models.MODELS

# What has no result that another value changes, or has its tests where files are.
ELSEWHERE = {
    "align.lora": "tests/align/test_lora.py",
    "align.rollouts.Responses.from_tokens": "tests/align/test_rollouts.py",
    "align.reward.RewardModel.load_state_dict": "strict is as of nn.Module: tests/nn/test_module.py",
    "data.published_pictures": "tests/data/test_published_pictures.py",
    "models.huggingface.bart": "tests/models/huggingface/test_bart.py",
    "models.huggingface.t5": "tests/models/huggingface/test_t5.py",
    "models.huggingface.bert": "tests/models/huggingface/test_bert.py",
    "models.huggingface.clip": "tests/models/huggingface/test_clip_folders.py",
    "models.huggingface.clip_text": "tests/models/huggingface/test_clip_text.py",
    "models.text_to_image.clip.CLIP.from_pretrained": "tests/models/huggingface/test_clip_folders.py",
    "models.huggingface.diffusers": "tests/models/huggingface/test_diffusers.py",
    "models.huggingface.gpt2": "tests/models/huggingface/test_gpt2.py",
    "models.huggingface.llama": "tests/models/huggingface/test_llama.py",
    "models.huggingface.llama_config": "tests/models/huggingface/test_llama.py",
    "models.huggingface.peft": "tests/models/huggingface/test_peft.py",
    "models.huggingface.stable_diffusion": "tests/models/huggingface/test_stable_diffusion_folders.py",
    "models.huggingface.schedulers": "tests/models/huggingface/test_schedulers.py",
    "models.huggingface.scheduler_steps": "tests/models/huggingface/test_schedulers.py",
    "models.huggingface.folders": "tests/models/huggingface/test_damage.py",
    "models.language.bart.BART.from_pretrained": "tests/models/huggingface/test_bart.py",
    "models.language.bart.BART.logits": "as of EncoderDecoder.logits",
    "models.language.bart.BARTBlock.forward": "tests/models/language/test_bart.py",
    "models.language.bert.BERT.from_pretrained": "tests/models/huggingface/test_bert.py",
    "models.language.encoder_decoder.EncoderDecoder.logits": "tests/models/language/test_encoder_decoder.py",
    "models.language.t5.T5.from_pretrained": "tests/models/huggingface/test_t5.py",
    "models.language.t5.T5.logits": "as of EncoderDecoder.logits",
    "models.language.t5.T5Attention.forward": "as of EncoderDecoder.logits",
    "models.language.t5.T5Block.forward": "tests/models/language/test_t5.py",
    "models.language.transformer.DecoderLayer.forward": "as of EncoderDecoder.logits",
    "models.language.transformer.Transformer.embed": "as of EncoderDecoder.logits",
    "models.language.transformer.Transformer.logits": "as of EncoderDecoder.logits",
    "models.language.gpt.GPT.from_pretrained": "tests/models/huggingface/test_gpt2.py",
    "models.language.gpt.GPT.save_pretrained": "tests/models/huggingface/test_gpt2.py",
    "models.language.causal_lm.CausalLM.features": "as of GPT.features",
    "models.language.causal_lm.CausalLM.reader": "tests/models/language/test_generation.py",
    "models.language.gpt.GPT.features": "tests/models/language/test_gpt.py and test_generation.py",
    "models.language.recurrent.RecurrentLM.segment_losses": "tests/models/language/test_recurrent.py",
    "models.language.llama.Llama.features": "as of GPT.features",
    "models.language.llama.LlamaConfig block_size": "tests/models/language/test_llama.py",
    "models.language.llama.LlamaBlock.forward": "as of Llama.features",
    "models.language.llama.Llama.from_pretrained": "tests/models/huggingface/test_llama.py",
    "models.language.wavenet.WaveNet.forward": "as of WaveNet.loss",
    "models.language.wavenet.WaveNet.reader": "tests/models/language/test_wavenet.py",
    "nn.grouped_attention.GroupedQueryAttention.forward": "tests/nn/test_grouped_attention.py",
    "judges.digits.Judge.opinion": "so does the batch: tests/judges/test_digits.py",
    "judges.digits.train_judge": "tests/judges/test_digits.py",
    "nn.attention.CrossAttention.forward cache": "tests/models/language/test_encoder_decoder.py",
    "nn.attention.MultiHeadAttention.forward cache": "tests/nn/test_attention.py",
    "nn.transformer.Block.forward cache": "tests/nn/test_transformer.py",
    "nn.conv.Conv": "the layers made of it have rows",
    "nn.recurrent.Recurrent": "the layers made of it have rows",
    "nn.spatial.ContextBlock.forward": "as of SpatialTransformer",
    "text.bpe.BPE.load": "tests/text/test_bpe.py",
    "text.bpe.BPE.train": "tests/text/test_bpe.py",
    "text.wordpiece.WordPiece.train": "tests/text/test_wordpiece.py",
    "nn.module": "tests/nn/test_module.py",
    "nn.tree": "tests/nn/test_tree.py",
    "nn.containers": "tests/nn/test_tree.py",
}


def is_elsewhere(name):
    function = name.split(" ")[0]
    return any(name == known or f"{function}.".startswith(f"{known}.") for known in ELSEWHERE)


def test_every_argument_has_a_row():
    wanted = {name for name, _ in defaults.arguments() if not is_elsewhere(name)}
    there = {f"{name} {argument}" for name, row in ROWS.items() for argument in row.others}
    assert wanted - there == set()
    assert {name for name in there - wanted if not is_elsewhere(name)} == set()


def test_every_default_is_the_one_in_the_list():
    """Who leaves an argument out gets its default, so another default is another result. It is changed here
    on purpose only: `python tests/arguments/defaults.py > tests/arguments/defaults.txt`."""
    assert defaults.lines() == (Path(__file__).parent / "defaults.txt").read_text("utf-8").splitlines()


# -- they matter -----------------------------------------------------------------------------------


def leaves(x):
    if isinstance(x, Tensor):
        yield x.numpy()
    elif isinstance(x, dict):
        yield from leaves(list(x.values()))
    elif isinstance(x, list | tuple):
        for part in x:
            yield from leaves(part)
    else:
        yield np.asarray(x)


def differ(a, b):
    a, b = list(leaves(a)), list(leaves(b))
    if len(a) != len(b):
        return True
    return any(x.shape != y.shape or not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ROWS)
def test_every_argument_matters(name):
    row = ROWS[name]
    usual = row.f(**row.base)
    assert not differ(usual, row.f(**row.base))  # it is the argument, not chance
    for argument, value in row.others.items():
        assert differ(usual, row.f(**{**row.base, argument: value})), argument


# -- dropout ---------------------------------------------------------------------------------------

P = 0.375
GPTS = GPTConfig(5, 6, 3, 2, 8, dropout=P)
BERTS = BERTConfig(5, 6, 3, 2, 8, 6, dropout=P)
TEXTS = TextEncoderConfig(("a", "b"), 3, layers=2, heads=2, channels=8, dropout=P)
UNETS = UNetConfig(3, 3, 8, (1, 2), blocks=1, dropout=P)


def rates(module):
    """The rates of dropout below a module, by path."""
    found = {}
    for path, part in module.paths():
        if isinstance(part, nn.Dropout):
            found[path] = part.p
        elif isinstance(part, Heads):
            found[path] = part.dropout
    return found


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (lambda rng: GPT(GPTS, rng=rng), 1 + 3 * 2),  # the embeddings; attention's weights and both branches
        (lambda rng: BERT(BERTS, rng=rng), 1 + 3 * 2),
        (lambda rng: TextEncoder(TEXTS, rng=rng), 2 * 2),
        (lambda rng: RecurrentLM(5, 4, 3, dropout=P, rng=rng), 1 + 1),  # between layers, before the output
        (lambda rng: Tagger(5, 3, 4, 3, dropout=P, rng=rng), 1),
        (lambda rng: nn.Block(8, 2, causal=True, dropout=P, rng=rng), 2),
        (lambda rng: nn.ResBlock(8, 8, dropout=P, rng=rng), 1),
        (lambda rng: nn.LSTM(4, 4, 2, dropout=P, rng=rng), 1),
    ],
)
def test_dropout_is_everywhere(make, places):
    found = rates(make(np.random.default_rng(0)))
    assert len(found) == places
    assert set(found.values()) == {P}


def test_dropout_is_in_every_residual_block_of_a_unet_and_nowhere_else():
    """Two levels of 1 + 2 blocks, and two in the middle."""
    found = rates(UNet(UNETS, rng=np.random.default_rng(0)))
    blocks = {path: p for path, p in found.items() if "resnets" in path}
    assert len(blocks) == 8
    assert set(blocks.values()) == {P}
    assert {p for path, p in found.items() if path not in blocks} == {0.0}


@pytest.mark.parametrize("branch", ["attn", "mlp"])
def test_dropout_falls_on_both_branches_of_a_block(branch):
    """With the other branch silent, and no dropout of attention's weights, a draw still matters: entries of
    what the branch adds are 0, the others are 1/(1 - p) times as large."""
    block = table.filled(nn.Block(8, 2, causal=True, dropout=P, rng=np.random.default_rng(0)))
    block.attn.dropout = 0.0
    for p in (block.mlp if branch == "attn" else block.attn).proj.parameters():
        p.data = np.zeros_like(p.data)
    x = table.ROWS
    added, whole = block(x).data - x, block.eval()(x).data - x
    dropped = np.isclose(added, 0)
    assert 0.2 < dropped.mean() < 0.6
    np.testing.assert_allclose(added[~dropped], whole[~dropped] / (1 - P), rtol=1e-9)


# -- what is handed to several ---------------------------------------------------------------------


def below(module, kind):
    return [part for _, part in module.paths() if isinstance(part, kind)]


def test_groups_and_heads_are_those_of_every_norm_and_attention():
    sizes = {"channels": 8, "groups": 2}  # not the default
    unet = UNetConfig(3, 3, multipliers=(1, 2), attention=(True, True), heads=2, context=5, **sizes)
    for module in (
        UNet(unet, rng=np.random.default_rng(0)),
        UNet(dataclasses.replace(unet, context=None), rng=np.random.default_rng(0)),
        AutoencoderKL(AutoencoderConfig(**sizes), rng=np.random.default_rng(0)),
        nn.SpatialTransformer(8, 2, 5, groups=2, rng=np.random.default_rng(0)),
    ):
        assert {norm.groups for norm in below(module, nn.GroupNorm)} == {2}
        heads = {attention.heads for attention in below(module, Heads)}
        assert heads == ({1} if isinstance(module, AutoencoderKL) else {2})
    each = UNet(dataclasses.replace(unet, head_channels=4), rng=np.random.default_rng(0))
    assert {attention.channels // attention.heads for attention in below(each, Heads)} == {4}


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: GPT(dataclasses.replace(GPTS, bias=False), rng=rng),
        lambda rng: nn.Block(8, 2, causal=True, bias=False, rng=rng),
        lambda rng: nn.MultiHeadAttention(8, 2, bias=False, rng=rng),
        lambda rng: nn.CrossAttention(8, 2, 5, bias=False, rng=rng),
        lambda rng: nn.LSTM(4, 4, 2, True, bias=False, rng=rng),
    ],
)
def test_without_bias_nothing_has_one(make):
    assert [name for name, _ in make(np.random.default_rng(0)).named_parameters() if "bias" in name] == []


def test_gelu_and_eps_are_those_of_every_block():
    config = dataclasses.replace(GPTS, gelu="tanh", norm_eps=0.25)
    model = GPT(config, rng=np.random.default_rng(0))
    assert [mlp.gelu for mlp in below(model, nn.MLP)] == ["tanh"] * 3
    assert [norm.eps for norm in below(model, nn.LayerNorm)] == [0.25] * 7
