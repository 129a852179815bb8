"""The language models of `transformers` beside those here, family by family: random models of odd sizes, in
which each weight changes the logits, in one file or several, in float32, bfloat16 and float16.

tests/models/huggingface/test_parity.py holds what `compare` finds to its bounds. The table in
docs/hugging_face.md is what `python tests/tools/transformers_parity.py` prints.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygen.models import BART, BERT, GPT, T5, Llama

BOUND = 1e-4
"""On the difference of logits."""


class Reading(NamedTuple):
    """What both models compute for the same ids."""

    ours: np.ndarray  # logits, where the tokens are no padding
    theirs: np.ndarray
    texts: tuple[np.ndarray, np.ndarray] | None = None  # greedy: ours, theirs


class Case(NamedTuple):
    """Options of a model, the type of the file's numbers, the size of a file."""

    options: dict[str, Any]
    dtype: str = "float32"
    shard: str = "1GB"
    kind: str = ""  # another class than the family's first


class Family(NamedTuple):
    ours: Any
    kind: str  # the class in transformers
    sizes: dict[str, Any]
    shake: Callable[[Any], None]
    read: Callable[[Any, Any], Reading]
    cases: list[Case]

    def model(self, case: Case) -> Any:
        """A random model made by transformers, in float32."""
        import torch
        import transformers

        made_by = getattr(transformers, case.kind or self.kind)
        torch.manual_seed(0)
        model = made_by(made_by.config_class(**{**self.sizes, **case.options}))
        with torch.no_grad():
            self.shake(model)
        return model.eval()


class Found(NamedTuple):
    difference: float  # the largest between logits
    largest: float  # the largest logit
    same_text: bool | None  # greedy; None where the model writes none
    files: int
    same_size: bool  # as many weights
    lost: list[str]  # what is missing or another in the folder that is written back
    written_difference: float  # between logits of their model and of the one that they read back


def compare(family: Family, case: Case, folder: Path) -> Found:
    """Their folder here, and the one that is written of it there again."""
    import torch
    import transformers

    options = {"output_loading_info": True, "dtype": torch.float32}
    made = family.model(case).to(getattr(torch, case.dtype))
    made.save_pretrained(folder / "theirs", max_shard_size=case.shard)
    other = type(made).from_pretrained(folder / "theirs", **options)[0].eval()
    ours = family.ours.from_pretrained(folder / "theirs", **({"dropout": 0.0} if family.ours is GPT else {}))
    reading = family.read(ours, other)
    ours.save_pretrained(folder / "ours")
    causal = family.ours in (GPT, Llama)  # a Mistral is written as a Llama
    loader = transformers.AutoModelForCausalLM if causal else type(other)
    again, info = loader.from_pretrained(folder / "ours", **options)
    before, after = other.state_dict(), again.state_dict()
    lost = [f"{name}: {value}" for name, value in info.items() if value]
    lost += [name for name in before if name not in after or not torch.equal(before[name], after[name])]
    return Found(
        float(np.abs(reading.ours - reading.theirs).max()),
        float(np.abs(reading.theirs).max()),
        None if reading.texts is None else np.array_equal(*reading.texts),
        len(list((folder / "theirs").glob("*.safetensors"))),
        ours.num_parameters() == sum(p.numel() for p in other.parameters()),
        lost + [name for name in after if name not in before],
        float(np.abs(reading.theirs - family.read(ours, again.eval()).theirs).max()),
    )


def require_equal(name: str, ours: Any, other: Any) -> None:
    """The same logits within BOUND, large enough to tell, and the same greedy text."""
    reading = FAMILIES[name].read(ours, other)
    assert np.abs(reading.theirs).max() > 1
    assert np.abs(reading.ours - reading.theirs).max() <= BOUND
    if reading.texts is not None:
        np.testing.assert_array_equal(*reading.texts)


# -- ids that both read ------------------------------------------------------------------------------


def tokens(*shape: int, vocab_size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocab_size, shape)


def read_masked(ours: BERT, other: Any) -> Reading:
    """Padding behind the first text; for RoBERTa also before the second and within the third."""
    import torch

    c = ours.config
    ids = tokens(3, c.block_size, vocab_size=c.vocab_size)
    pad = 0 if c.pad is None else c.pad
    ids[ids == pad] = pad + 1
    ids[0, -2:] = pad
    if c.pad is not None:
        ids[1, :3] = ids[2, 2] = pad
    segments, mask = tokens(3, c.block_size, vocab_size=c.segments), ids != pad
    with torch.inference_mode():
        found = other(torch.tensor(ids), torch.tensor(mask.astype(int)), torch.tensor(segments))
    expected = (found.prediction_logits if c.next_sentence else found.logits).numpy()[mask]
    x = ours.features(ids, segments, mask)
    logits = ours.token_logits(x).numpy()[mask]
    if c.next_sentence:
        expected = np.append(expected, found.seq_relationship_logits.numpy())
        logits = np.append(logits, ours.next_sentence_logits(x).numpy())
    return Reading(logits, expected)


def read_causal(ours: GPT | Llama, other: Any) -> Reading:
    """With 12 greedy tokens after 4."""
    import torch

    ids = tokens(3, ours.config.block_size, vocab_size=ours.config.vocab_size)
    prompt = torch.tensor(ids[:, :4])
    mask = torch.ones_like(prompt)  # else they would take the token 0 for padding
    with torch.inference_mode():
        expected = other(torch.tensor(ids)).logits.numpy()
        options = {"do_sample": False, "max_new_tokens": 12, "pad_token_id": 0}
        text = other.generate(prompt, attention_mask=mask, **options).numpy()
    return Reading(ours(ids)[0].numpy(), expected, (ours.sample(ids[:, :4], 12, temperature=0, rng=0), text))


def read_pairs(ours: T5 | BART, other: Any) -> Reading:
    """The first source has padding; with 12 greedy tokens."""
    import torch

    c = ours.config
    source, target = (tokens(3, n, vocab_size=c.vocab_size) for n in (9, 7))
    source[source == c.pad] = c.pad + 1
    source[0, -3:], target[:, 0] = c.pad, c.begin
    mask = torch.tensor((source != c.pad).astype(int))
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": 1}
    with torch.inference_mode():
        found = other(torch.tensor(source), mask, decoder_input_ids=torch.tensor(target)).logits.numpy()
        text = other.generate(torch.tensor(source), attention_mask=mask, **options).numpy()
    greedy = ours.greedy_search(source, 12)
    return Reading(ours(source, target).numpy(), found, (greedy, text[:, 1 : 1 + greedy.shape[1]]))


# -- weights that matter -----------------------------------------------------------------------------


def shake_norms_and_biases(model: Any) -> None:
    """At the start they are 0 or 1, and would hide a mistake."""
    import torch

    for name, p in model.named_parameters():
        if name.endswith("bias") or "norm" in name.lower() or "ln_" in name:
            p.add_(0.3 * torch.randn(p.shape))


def shake_t5(model: Any) -> None:
    import torch

    if not model.config.scale_decoder_outputs:  # newer versions tie the head all the same
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape))
    for name, p in model.named_parameters():
        p.add_((0.3 if "norm" in name else 0.2) * torch.randn(p.shape))
    model.shared.weight *= 0.2  # so that a token does not simply follow itself
    if model.config.scale_decoder_outputs:
        model.decoder.final_layer_norm.weight *= 4  # so that logits are large all the same


def shake_bart(model: Any) -> None:
    import torch

    for name, p in model.named_parameters():
        p.add_((0.3 if name.endswith("bias") or "norm" in name else 0.2) * torch.randn(p.shape))
    model.final_logits_bias += torch.randn(model.final_logits_bias.shape)
    model.model.shared.weight *= 0.5  # so that a token does not simply follow itself


# -- the families ------------------------------------------------------------------------------------

GPT2_SIZES = {"vocab_size": 60, "n_positions": 20, "n_embd": 24, "n_layer": 2, "n_head": 4}
GPT2_SIZES |= {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
BERT_SIZES = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
BERT_SIZES |= {"num_attention_heads": 6, "max_position_embeddings": 18, "initializer_range": 0.3}
LLAMA_SIZES = {"vocab_size": 60, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
LLAMA_SIZES |= {"num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 32}
LLAMA_SIZES |= {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3}
T5_SIZES = {"vocab_size": 60, "d_model": 24, "d_kv": 4, "d_ff": 40, "num_layers": 2, "num_heads": 6}
T5_SIZES |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20}
T5_SIZES |= {"decoder_start_token_id": 0}
BART_SIZES = {"vocab_size": 60, "d_model": 24, "max_position_embeddings": 20, "init_std": 0.2}
BART_SIZES |= {"forced_eos_token_id": None, "forced_bos_token_id": None}
for stack in ("encoder", "decoder"):
    BART_SIZES |= {f"{stack}_layers": 2, f"{stack}_ffn_dim": 40, f"{stack}_attention_heads": 6}

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 16, "rope_theta": 500.0}
V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
MASKED = "BertForMaskedLM"


def turning(base: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base}}


def heads(n: int) -> dict[str, int]:
    return {"encoder_attention_heads": n, "decoder_attention_heads": n}


FAMILIES = {
    "GPT-2": Family(
        *(GPT, "GPT2LMHeadModel", GPT2_SIZES, shake_norms_and_biases, read_causal),
        [
            Case({}),
            Case({"n_layer": 1, "n_head": 1, "n_embd": 7, "n_positions": 16}),
            Case({"activation_function": "gelu", "layer_norm_epsilon": 1e-2}, "bfloat16"),
            Case({"n_layer": 4, "n_head": 2, "tie_word_embeddings": False}, "float16", "9KB"),
            Case({"n_head": 12, "vocab_size": 61, "activation_function": "gelu_pytorch_tanh"}, shard="9KB"),
            Case({"n_layer": 3, "n_positions": 37, "n_inner": 96}, "bfloat16", "9KB"),
        ],
    ),
    "BERT": Family(
        *(BERT, "BertForPreTraining", BERT_SIZES, shake_norms_and_biases, read_masked),
        [
            Case({}),
            Case({"num_attention_heads": 1, "hidden_size": 7, "num_hidden_layers": 1}, "bfloat16"),
            Case({"hidden_act": "gelu_new", "layer_norm_eps": 1e-2, "type_vocab_size": 3}, "float16", "9KB"),
            Case({"num_hidden_layers": 5, "intermediate_size": 3, "vocab_size": 61}, shard="9KB"),
            Case({}, kind=MASKED),
            Case(
                {"num_attention_heads": 5, "hidden_size": 35, "type_vocab_size": 1}, "bfloat16", "9KB", MASKED
            ),
            Case({"hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 13}, "float16", kind=MASKED),
        ],
    ),
    "RoBERTa": Family(
        *(BERT, "RobertaForMaskedLM", BERT_SIZES, shake_norms_and_biases, read_masked),
        [
            Case({}),
            Case({"num_attention_heads": 1, "hidden_size": 7, "num_hidden_layers": 1}),
            Case({"type_vocab_size": 1, "pad_token_id": 0}, shard="9KB"),
            Case({"num_hidden_layers": 5, "intermediate_size": 3, "layer_norm_eps": 1e-2}, "bfloat16"),
            Case({"num_attention_heads": 5, "hidden_size": 35, "pad_token_id": 7}, "float16"),
            Case(
                {"max_position_embeddings": 29, "vocab_size": 61, "layer_norm_eps": 1e-5}, "bfloat16", "5KB"
            ),
            Case({"intermediate_size": 1, "type_vocab_size": 5}, "float16", "5KB"),
        ],
    ),
    "T5": Family(
        *(T5, "T5ForConditionalGeneration", T5_SIZES, shake_t5, read_pairs),
        [
            Case({}),
            Case(V11),
            Case({"num_heads": 1, "d_kv": 5, "d_model": 7, "num_layers": 1}),
            Case(
                {"num_layers": 4, "num_decoder_layers": 3, "d_ff": 3, "relative_attention_num_buckets": 5},
                "bfloat16",
            ),
            Case(V11 | {"num_heads": 5, "d_kv": 3, "relative_attention_max_distance": 17}, "float16", "9KB"),
            Case(
                {"layer_norm_epsilon": 1e-2, "vocab_size": 61, "pad_token_id": 3, "eos_token_id": 7}
                | {"decoder_start_token_id": 3},
                *("bfloat16", "9KB"),
            ),
            Case({"feed_forward_proj": "gated-gelu", "d_model": 32, "d_kv": 9}, "float16"),
        ],
    ),
    "BART": Family(
        *(BART, "BartForConditionalGeneration", BART_SIZES, shake_bart, read_pairs),
        [
            Case({}),
            Case(heads(1) | {"d_model": 7, "encoder_layers": 1}),
            Case({"decoder_layers": 4, "encoder_ffn_dim": 3, "decoder_ffn_dim": 3}, "bfloat16"),
            Case(heads(5) | {"d_model": 35, "activation_function": "gelu_new"}, "float16", "9KB"),
            Case(
                {"vocab_size": 61, "pad_token_id": 3, "eos_token_id": 7, "decoder_start_token_id": 9},
                *("bfloat16", "9KB"),
            ),
            Case({"max_position_embeddings": 37, "activation_function": "gelu_pytorch_tanh"}, "float16"),
            Case(
                heads(8) | {"dropout": 0.2, "attention_dropout": 0.1, "activation_dropout": 0.1}, shard="9KB"
            ),
        ],
    ),
    "Llama": Family(
        *(Llama, "LlamaForCausalLM", LLAMA_SIZES, shake_norms_and_biases, read_causal),
        [
            Case({}),
            Case({"num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}, "bfloat16"),
            Case(
                {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "rms_norm_eps": 1e-2}
            ),
            Case({"head_dim": 10, "num_key_value_heads": 3, "vocab_size": 61}, "float16", "9KB"),
            Case(turning(37.0) | {"num_key_value_heads": 1}, shard="9KB"),
            Case({"rope_parameters": LLAMA3, "intermediate_size": 7}, "bfloat16", "9KB"),
            Case({"num_hidden_layers": 5, "num_key_value_heads": None, "hidden_size": 36}),
        ],
    ),
    "Mistral": Family(
        *(Llama, "MistralForCausalLM", LLAMA_SIZES | {"sliding_window": None}),
        *(shake_norms_and_biases, read_causal),
        [
            Case({}),
            Case({"head_dim": 2, "num_attention_heads": 5, "num_key_value_heads": 5, "hidden_size": 11}),
            Case({"tie_word_embeddings": True, "rms_norm_eps": 1e-2}, "bfloat16"),
            Case(
                {"head_dim": 16, "num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 7},
                *("float16", "3KB"),
            ),
            Case(turning(1e6) | {"num_hidden_layers": 4}, "bfloat16", "9KB"),
            Case({"sliding_window": 32, "vocab_size": 59, "intermediate_size": 1}),
        ],
    ),
    "Qwen2": Family(
        *(Llama, "Qwen2ForCausalLM", LLAMA_SIZES, shake_norms_and_biases, read_causal),
        [
            Case({}),
            Case({"num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}, "float16"),
            Case({"tie_word_embeddings": True, "rms_norm_eps": 1e-2}, "bfloat16", "9KB"),
            Case({"sliding_window": 4, "use_sliding_window": False, "num_key_value_heads": 3}),
            Case(turning(1e6) | {"num_hidden_layers": 4}, shard="9KB"),
            Case(
                {"hidden_size": 84, "num_attention_heads": 14, "num_key_value_heads": 2}
                | {"intermediate_size": 9}
            ),
        ],
    ),
    "Qwen3": Family(
        *(Llama, "Qwen3ForCausalLM", LLAMA_SIZES, shake_norms_and_biases, read_causal),
        [
            Case({"head_dim": 4}),
            Case({"head_dim": 128, "num_attention_heads": 2, "num_hidden_layers": 1}, "bfloat16"),
            Case({"head_dim": 6, "attention_bias": True, "rms_norm_eps": 1e-2}, "float16", "9KB"),
            Case({"head_dim": 8, "tie_word_embeddings": True, "num_key_value_heads": 1}),
            Case(turning(1e6) | {"head_dim": 2, "num_hidden_layers": 4}, shard="9KB"),
            Case({"head_dim": 10, "hidden_size": 11, "num_attention_heads": 4, "num_key_value_heads": 4}),
        ],
    ),
}


def load_transformers() -> None:
    """Without the network, and silent."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def main() -> None:
    load_transformers()
    import torch
    import transformers

    print("| family | configurations | bfloat16 | float16 | several files | logits up to | difference |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            found = [compare(family, case, Path(folder, str(i))) for i, case in enumerate(family.cases)]
        if not all(f.same_text in (True, None) and not f.lost for f in found):
            raise SystemExit(f"{name}: {found}")
        halves = [sum(case.dtype == half for case in family.cases) for half in ("bfloat16", "float16")]
        counts = [len(found), *halves, sum(f.files > 1 for f in found)]
        digit, power = f"{max(f.difference for f in found):.0e}".split("e-")
        worst = f"{digit}·10⁻{power.lstrip('0').translate(SUPERSCRIPTS)}"
        print("|", " | ".join([name, *map(str, counts), f"{max(f.largest for f in found):.0f}", worst]), "|")
    versions = f"transformers {transformers.__version__}, PyTorch {torch.__version__.partition('+')[0]}"
    print(f"\n{date.today()}, {versions}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
