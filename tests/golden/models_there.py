"""The references of whole models: transformers' and diffusers'; else written with torch's functions."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as f
from golden import models
from golden.layers_there import REAL, future, kl_gaussian, mlp, recurrent, torch_attention
from golden.reference import CASES, REFERENCES, Weights, at, called, like_diffusers, linear, reference

from tinygen import nn
from tinygen.models.huggingface.bart import COPIES as BART_COPIES
from tinygen.models.huggingface.bart import shapes as bart_shapes
from tinygen.models.huggingface.bert import COPIES, copies
from tinygen.models.huggingface.bert import shapes as bert_shapes
from tinygen.models.huggingface.clip import norm_places, places, tower_places
from tinygen.models.huggingface.llama import shapes
from tinygen.models.huggingface.t5 import shapes as t5_shapes


@reference("gpt", "gpt-untied")
def gpt(w: Weights, ids: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    tied = "lm_head.weight" not in w
    config = GPT2Config(
        vocab_size=5,
        n_positions=6,
        n_embd=8,
        n_layer=2,
        n_head=2,
        activation_function="gelu_new" if tied else "gelu",
        layer_norm_epsilon=1e-5 if tied else 0.1,
        tie_word_embeddings=tied,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    names = {"ln1": "ln_1", "ln2": "ln_2", "attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj"}
    names |= {"mlp.fc": "mlp.c_fc", "mlp.proj": "mlp.c_proj"}
    weights = {}
    for name, t in w.items():
        their = name
        for old, new in names.items():
            their = their.replace(old, new)
        if name.endswith(("qkv.weight", "proj.weight", "fc.weight")):
            t = t.T  # their Conv1D
        weights[their if name.startswith("lm_head") else f"transformer.{their}"] = t
    weights.setdefault("lm_head.weight", w["wte.weight"])
    logits = called(GPT2LMHeadModel(config), weights, ids).logits
    return logits, f.cross_entropy(logits.flatten(0, 1), torch.tensor(models.NEXT).flatten(), ignore_index=-1)


@reference("bert")
def bert(w: Weights, ids: Any) -> Any:
    from transformers import BertConfig, BertForPreTraining

    sizes = {"vocab_size": 5, "max_position_embeddings": 6, "num_hidden_layers": 2, "hidden_size": 8}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 6, "type_vocab_size": 3}
    more = {"layer_norm_eps": 0.1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    module = BertForPreTraining(BertConfig(**sizes, **more, pad_token_id=None))
    names = bert_shapes(asdict(models.MODELS["bert"].make().config))
    weights = {
        their: part
        for ours, (theirs, _) in names.items()
        for their, part in zip(theirs, w[ours].chunk(len(theirs)), strict=True)
    }
    for copy, original in COPIES.items():
        weights[copy] = weights[original]
    texts = {"attention_mask": torch.tensor(models.REAL_TOKENS.astype(int))}
    texts["token_type_ids"] = torch.tensor(models.SEGMENTS)
    found = called(module, weights, ids, **texts)
    masked = f.cross_entropy(found.prediction_logits.flatten(0, 1), torch.tensor(models.MASKED).flatten())
    order = f.cross_entropy(found.seq_relationship_logits, torch.tensor([1, 0]))
    return masked, order, found.prediction_logits


@reference("roberta")
def roberta(w: Weights, ids: Any) -> Any:
    from transformers import RobertaConfig, RobertaForMaskedLM

    sizes = {"vocab_size": 5, "max_position_embeddings": 8, "num_hidden_layers": 2, "hidden_size": 8}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 6, "type_vocab_size": 1, "pad_token_id": 1}
    more = {"layer_norm_eps": 0.1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = models.MODELS["roberta"].make().config
    weights = {
        their: part
        for ours, (theirs, _) in bert_shapes(asdict(config)).items()
        for their, part in zip(theirs, w[ours].chunk(len(theirs)), strict=True)
    }
    for copy, original in copies(asdict(config)).items():
        weights[copy] = weights[original]
    mask = torch.tensor(models.REAL_TOKENS.astype(int))
    module = RobertaForMaskedLM(RobertaConfig(**sizes, **more))
    for table in (module.roberta.embeddings.word_embeddings, module.roberta.embeddings.position_embeddings):
        table.padding_idx = None  # else padding has no gradient there
    return called(module, weights, ids, mask).logits


def repair(module: Any, weights: Weights) -> Any:
    """Logits and loss of an encoder–decoder of transformers; 4 is the padding."""
    source = torch.tensor(models.PADDED)
    target, mask = source.flip(0), (source != 4).long()

    def logits(inputs: Any) -> Any:
        return called(module, weights, source, mask, decoder_input_ids=inputs).logits

    loss = f.cross_entropy(logits(target[:, :-1]).flatten(0, 1), target[:, 1:].flatten(), ignore_index=4)
    return logits(target), loss


@reference("t5", "t5-v1.1")
def t5(w: Weights) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    untied = "lm_head.weight" in w
    sizes = {"vocab_size": 5, "d_model": 8, "d_kv": 3, "d_ff": 6, "num_layers": 2, "num_heads": 2}
    sizes |= {"relative_attention_num_buckets": 4, "relative_attention_max_distance": 6, "pad_token_id": 4}
    more = {"feed_forward_proj": "gated-gelu" if untied else "relu", "tie_word_embeddings": not untied}
    module = T5ForConditionalGeneration(
        T5Config(**sizes, **more, layer_norm_epsilon=0.1, dropout_rate=0.0, use_cache=False)
    )
    if untied:
        module.lm_head.weight = torch.nn.Parameter(torch.zeros(5, 8))
    names = t5_shapes(asdict(models.MODELS["t5-v1.1" if untied else "t5"].make().config))
    weights = {names[name][0]: t for name, t in w.items()}
    for copy in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        weights.setdefault(copy, w["embedding.weight"])
    return repair(module, weights)


@reference("bart")
def bart(w: Weights) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes: dict[str, Any] = {"vocab_size": 5, "max_position_embeddings": 6, "d_model": 8, "pad_token_id": 4}
    for stack in ("encoder", "decoder"):
        sizes |= {f"{stack}_layers": 2, f"{stack}_ffn_dim": 6, f"{stack}_attention_heads": 2}
    module = BartForConditionalGeneration(BartConfig(**sizes, dropout=0.0, use_cache=False))
    for part in (module.model.encoder, module.model.decoder):
        part.embed_tokens.padding_idx = None  # else padding has no gradient there
    names = bart_shapes(asdict(models.MODELS["bart"].make().config))
    weights = {
        their: part
        for ours, (theirs, _) in names.items()
        for their, part in zip(theirs, w[ours].chunk(len(theirs)), strict=True)
    }
    weights["final_logits_bias"] = weights["final_logits_bias"][None]
    for copy in BART_COPIES:
        weights[copy] = weights["model.shared.weight"]
    return repair(module, weights)


@reference("transformer", "transformer-pre_norm")
def transformer(w: Weights) -> Any:
    """By torch's layers; embedding, positions and output are written out."""
    pre_norm = "encoder_norm.weight" in w
    source = torch.tensor(models.PADDED)
    target = source.flip(0)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": pre_norm, "layer_norm_eps": 0.1}
    names = {"attn.norm": "norm1", "cross.norm": "norm2", "attn.f.qkv.": "self_attn.in_proj_"}
    names |= {"attn.f.proj": "self_attn.out_proj", "cross.f.proj": "multihead_attn.out_proj"}
    names |= {"mlp.f.fc": "linear1", "mlp.f.proj": "linear2"}

    def embedded(ids: Any) -> Any:
        angles = torch.arange(5)[:, None] / 10_000.0 ** (torch.arange(0, 8, 2).double() / 8)
        positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        return w["embedding.weight"][ids] * 8**0.5 + positions

    def layer(kind: Any, path: str, *inputs: Any, **masks: Any) -> Any:
        last = "norm3" if path.startswith("decoder") else "norm2"
        weights = {}
        for name, t in at(w, path).items():
            for old, new in {**names, "mlp.norm": last}.items():
                name = name.replace(old, new)
            weights[name] = t
        for part in ("weight", "bias") if path.startswith("decoder") else ():
            parts = [weights.pop(f"cross.f.{matrix}.{part}") for matrix in ("q", "kv")]
            weights[f"multihead_attn.in_proj_{part}"] = torch.cat(parts)
        return called(kind(8, 2, 6, **options), weights, *inputs, **masks)

    def last_norm(name: str, x: Any) -> Any:
        return f.layer_norm(x, (8,), w[f"{name}.weight"], w[f"{name}.bias"], 0.1) if pre_norm else x

    def logits(target: Any) -> Any:
        x, y, padding = embedded(source), embedded(target), source == 4
        for i in range(2):
            kind = torch.nn.TransformerEncoderLayer
            x = layer(kind, f"encoder.{i}", x, src_key_padding_mask=padding)
        x = last_norm("encoder_norm", x)
        masks = {"tgt_mask": future(target.shape[1]), "tgt_key_padding_mask": target == 4}
        for i in range(2):
            kind = torch.nn.TransformerDecoderLayer
            y = layer(kind, f"decoder.{i}", y, x, **masks, memory_key_padding_mask=padding)
        return last_norm("decoder_norm", y) @ w["embedding.weight"].T

    if pre_norm:
        return logits(target)
    labels = target[:, 1:].flatten()
    smoothed = {"ignore_index": 4, "label_smoothing": 0.1}
    return logits(target), f.cross_entropy(logits(target)[:, :-1].flatten(0, 1), labels, **smoothed)


@reference("linear_lm")
def linear_lm(w: Weights, ids: Any) -> Any:
    """The sum over a window of three, divided by the number of tokens in it."""
    x = f.embedding(ids, w["embedding.weight"])  # (B, T, C)
    sums = f.avg_pool1d(f.pad(x.transpose(1, 2), (2, 0)), 3, 1).transpose(1, 2) * 3
    logits = linear(w, "head", sums / torch.arange(1, 6).clip(max=3)[:, None])
    return logits, cross_entropy(logits, models.NEXT)


@reference("recurrent_lm-rnn", "recurrent_lm-gru", "recurrent_lm-lstm")
def recurrent_lm(w: Weights, ids: Any) -> Any:
    kind = {4: torch.nn.RNN, 12: torch.nn.GRU, 16: torch.nn.LSTM}[len(w["layers.layers.0.bias_ih"])]
    x = f.embedding(ids, w["embedding.weight"])
    h, _ = recurrent(at(w, "layers"), kind(4, 4, 2, batch_first=True), x)
    logits = linear(w, "head", h)
    return logits, cross_entropy(logits, models.NEXT)


@reference("wavenet")
def wavenet(w: Weights, ids: Any) -> Any:
    """With torch's convolutions: our matrix (2C, 2C) for [x_{t-d}, x_t] is a kernel of width 2."""
    x, skips = f.embedding(ids, w["embedding.weight"]).mT, torch.zeros(())  # (B, C, T)
    for layer, dilation in enumerate((1, 2)):
        here = at(w, f"layers.{layer}")
        kernel = torch.stack(here["conv.weight"].chunk(2, dim=1), dim=-1)  # (2C, C, 2)
        a = f.conv1d(f.pad(x, (dilation, 0)), kernel, here["conv.bias"], dilation=dilation)
        tanh, gate = (a + f.embedding(ids % 3, here["condition.weight"]).mT).chunk(2, dim=1)
        z = (torch.tanh(tanh) * torch.sigmoid(gate)).mT  # (B, T, C)
        skips = skips + linear(here, "skip", z)
        if layer == 0:
            x = x + linear(here, "residual", z).mT
    logits = linear(w, "head", torch.relu(linear(w, "hidden", torch.relu(skips))))
    return logits, f.cross_entropy(logits.flatten(0, 1), torch.tensor(models.NEXT).flatten(), ignore_index=-1)


@reference("tagger")
def tagger(w: Weights, ids: Any) -> Any:
    both = torch.nn.LSTM(4, 4, bidirectional=True, batch_first=True)
    h, _ = recurrent(at(w, "layers"), both, f.embedding(ids, w["embedding.weight"]))
    logits = linear(w, "head", h)
    return logits, cross_entropy(logits, np.minimum(models.NEXT, 2))


@reference("word2vec")
def word2vec(w: Weights, ids: Any) -> Any:
    """Each pair and each word of noise, by its probability."""
    pairs = torch.tensor(models.PAIRS / models.PAIRS.sum())
    noise = torch.arange(5.0, dtype=torch.float64) ** 0.75
    noise = 3 * pairs.sum(dim=1, keepdim=True) * noise / noise.sum()
    scores = w["inputs"] @ w["outputs"].T
    return -(pairs * f.logsigmoid(scores) + noise * f.logsigmoid(-scores)).sum()


def cross_entropy(logits: Any, targets: Any) -> Any:
    return f.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), ignore_index=-1)


@reference("llama", "llama-qwen3")
def llama(w: Weights, ids: Any) -> Any:
    """Frequencies of rotations are float32 there: that is the tolerance."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes = {"vocab_size": 5, "max_position_embeddings": 6, "num_hidden_layers": 2, "hidden_size": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 6}
    if "lm_head.weight" in w:
        numbers = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0, "rope_theta": 100.0}
        numbers["original_max_position_embeddings"] = 8
        rope = {"rope_type": "llama3", **numbers}
        module: Any = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope, rms_norm_eps=1e-5))
    else:
        more = {"head_dim": 4, "attention_bias": True, "rms_norm_eps": 0.1, "tie_word_embeddings": True}
        module = Qwen3ForCausalLM(Qwen3Config(**sizes, **more))
    ours = models.MODELS["llama" if "lm_head.weight" in w else "llama-qwen3"].make().config
    names = {mine: their for mine, (their, _) in shapes(asdict(ours)).items()}
    weights = {names[name]: t for name, t in w.items()}
    weights.setdefault("lm_head.weight", w["wte.weight"])
    logits = called(module, weights, ids).logits
    return logits, f.cross_entropy(logits.flatten(0, 1), torch.tensor(models.NEXT).flatten(), ignore_index=-1)


def encoded(w: Weights, captions: list[str]) -> tuple[Any, Any]:
    """Vectors and mask: the ids 0 for the beginning, 1 for padding, then the words in order."""
    words = ["", "", "a", "red", "square"]
    ids = torch.ones(len(captions), 4, dtype=torch.long)
    for row, caption in zip(ids, captions, strict=True):
        known = [0, *(words.index(word) for word in caption.split())]
        row[: len(known)] = torch.tensor(known)
    x = w["token.weight"][ids] + w["place.weight"]
    for i in range(2):
        names = {k.replace("mlp.", "mlp."): t for k, t in at(w, f"blocks.{i}").items()}
        x = tanh_block(names, x, ids == 1)
    return f.layer_norm(x, (6,), w["norm.weight"], w["norm.bias"]), ids != 1


def tanh_block(w: Weights, x: Any, padding: Any) -> Any:
    """A block whose GELU is the formula with tanh, which torch's layer takes as a function."""
    h = f.layer_norm(x, (6,), w["ln1.weight"], w["ln1.bias"])
    x = x + torch_attention(at(w, "attn"), h, key_padding_mask=padding)
    h = f.layer_norm(x, (6,), w["ln2.weight"], w["ln2.bias"])
    return x + mlp(at(w, "mlp"), h)


@reference("text_encoder")
def text_encoder(w: Weights) -> Any:
    y, mask = encoded(w, models.CAPTIONS)
    return y * mask[..., None]


SHARED = {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
STEPS = torch.tensor(models.STEPS)


@reference("unet-classes", "unet-scale_shift")
def unet(w: Weights, x: Any) -> Any:
    from diffusers.models.unets.unet_2d import UNet2DModel

    classes = "labels.weight" in w
    module = UNet2DModel(
        **SHARED,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        attn_norm_num_groups=2,
        num_class_embeds=4 if classes else None,
        resnet_time_scale_shift="default" if classes else "scale_shift",
    )
    weights = like_diffusers(CASES["unet-classes" if classes else "unet-scale_shift"].make(), w)
    return called(module, weights, x, STEPS, *([torch.tensor([2, 3])] if classes else [])).sample


@reference("palette")
def palette(w: Weights, x: Any, y: Any) -> Any:
    """diffusers' UNet of the channels of Palette, and torch's functions for the masked loss."""
    from diffusers.models.unets.unet_2d import UNet2DModel

    module = UNet2DModel(
        **SHARED | {"in_channels": 7},
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        attn_norm_num_groups=2,
        num_class_embeds=4,
    )
    weights = like_diffusers(CASES["palette"].make().unet, at(w, "unet"))
    hole = torch.tensor(models.HOLE)

    def predicted(x: Any, t: Any) -> Any:
        seen = torch.cat([torch.where(hole, x, y), y, hole.double()], dim=1)
        return called(module, weights, seen, t, torch.tensor([2, 3])).sample

    t = 1 + torch.tensor(np.random.default_rng(0).integers(1000, size=2))
    alpha_bar = torch.tensor(models.SCHEDULES["cosine"].alpha_bar)[t][:, None, None, None]
    alpha, sigma, eps = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), noise(*x.shape)
    errors = (predicted(alpha * x.detach() + sigma * eps, t - 1) - (alpha * eps - sigma * x.detach())) ** 2
    drawn = hole.expand(x.shape)
    loss = torch.stack([e[m].mean() for e, m in zip(errors, drawn, strict=True)]).mean()
    return predicted(x, STEPS), loss


def unet_of_texts(w: Weights, x: Any, context: Any, mask: Any, ours: nn.Module) -> Any:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    module = UNet2DConditionModel(
        **SHARED,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=context.shape[2],
        attention_head_dim=2,
    )
    weights = like_diffusers(ours, w)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    weights = {name: t.reshape(shapes[name]) for name, t in weights.items()}
    return called(module, weights, x, STEPS, context, encoder_attention_mask=mask).sample


@reference("unet-texts")
def unet_texts(w: Weights, x: Any, context: Any) -> Any:
    return unet_of_texts(w, x, context, REAL, CASES["unet-texts"].make())


@reference("controlnet")
def controlnet(w: Weights, x: Any, hints: Any, context: Any) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    module = ControlNetModel(
        **{name: value for name, value in SHARED.items() if name != "out_channels"},
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=context.shape[2],
        attention_head_dim=2,
        conditioning_channels=2,
        conditioning_embedding_out_channels=(3, 4),
    )
    weights = like_diffusers(CASES["controlnet"].make(), w)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    weights = {name: t.reshape(shapes[name]) for name, t in weights.items()}
    control = called(module, weights, x, STEPS, context, hints, conditioning_scale=0.5)
    return control.mid_block_res_sample, *control.down_block_res_samples


@reference("latent_diffusion")
def latent_diffusion(w: Weights, x: Any) -> Any:
    context, mask = encoded(at(w, "text_encoder"), models.CAPTIONS[:2])
    return unet_of_texts(at(w, "unet"), x, context, mask, CASES["latent_diffusion"].make().unet)


def text_states(w: Weights, ids: Any) -> Any:
    """transformers' text encoder of Stable Diffusion."""
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 520, "max_position_embeddings": 9, "eos_token_id": 519, "bos_token_id": 518}
    found = {
        **tower_places("", "", {"channels": 8, "hidden": 32, "layers": 1}),
        **norm_places("norm", "final_layer_norm", 8),
        "token.weight": (("embeddings.token_embedding.weight",), ()),
        "place.weight": (("embeddings.position_embedding.weight",), ()),
    }
    weights = {
        name: part
        for mine, (names, _) in found.items()
        for name, part in zip(names, w[mine].chunk(len(names)) if len(names) > 1 else [w[mine]], strict=True)
    }
    return called(CLIPTextModel(CLIPTextConfig(**sizes, **text)), weights, ids).last_hidden_state


@reference("stable_diffusion")
def stable_diffusion(w: Weights, x: Any) -> Any:
    """diffusers' UNet, autoencoder and DDIM, whose coefficients are made again in float64; the loops of its
    pipelines for text to image and for inpainting."""
    from diffusers import AutoencoderKL, DDIMScheduler
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    ours = CASES["stable_diffusion"].make()
    unet = UNet2DConditionModel(
        **SHARED | {"in_channels": 2, "out_channels": 2, "block_out_channels": (8, 16)},
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=1,
    )
    ways = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    coder = AutoencoderKL(block_out_channels=(8, 16), latent_channels=2, norm_num_groups=2, **ways)
    scheduler = DDIMScheduler(60, steps_offset=1, set_alpha_to_one=False, clip_sample=False)
    scheduler.alphas_cumprod = torch.tensor(ours.scheduler.schedule.alpha_bar[1:])
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(3)
    parts = {
        name: {
            there: t.reshape(dict(module.named_parameters())[there].shape)
            for there, t in like_diffusers(getattr(ours, name), at(w, name)).items()
        }
        for name, module in (("unet", unet), ("autoencoder", coder))
    }
    encoder = at(w, "text_encoder")
    texts = [ours.tokenizer.prompt_ids(texts) for texts in (models.PROMPTS, [models.NEGATIVE] * 2, ["", ""])]
    context, negative, empty = (text_states(encoder, torch.tensor(ids)) for ids in texts)

    def of_coder(method: str, x: Any) -> Any:
        weights = {f"module.{name}": t for name, t in parts["autoencoder"].items()}
        return called(Asked(coder, lambda m, x: getattr(m, method)(x)), weights, x)

    def step(x: Any, t: Any, nothing: Any) -> Any:
        both = [called(unet, parts["unet"], x, t, c).sample for c in (nothing, context)]
        return scheduler.step(both[0] + 3 * (both[1] - both[0]), t, x).prev_sample

    prediction = called(unet, parts["unet"], x, STEPS[:2] % 60, context).sample
    with torch.no_grad():
        codes = noise(2, 2, 4, 4)
        for t in scheduler.timesteps:
            codes = step(codes, t, negative)
        moments = of_coder("encode", torch.tensor(models.PICTURES)).latent_dist
        eps = noise(2, 2, 4, 4)
        known = (moments.mean + moments.std * eps) * w["autoencoder.scale"]
        timesteps = scheduler.timesteps[1:]  # two of three steps
        kept, hole = (
            scheduler.add_noise(known, eps, timesteps[:1]),
            torch.tensor(models.HOLE_OF_CODES[::2, ::2]),
        )
        for t, after in zip(timesteps, [*timesteps[1:], None], strict=True):
            there = known if after is None else scheduler.add_noise(known, eps, after[None])
            kept = torch.where(hole, step(kept, t, empty), there)
        pictures = of_coder("decode", codes / w["autoencoder.scale"]).sample
    return prediction, codes, pictures, kept


def autoencoder() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 8),
        latent_channels=2,
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )


class Asked(torch.nn.Module):
    """A method of a module, called through its forward."""

    def __init__(self, module: torch.nn.Module, ask: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.ask = module, ask

    def forward(self, *inputs: Any) -> Any:
        return self.ask(self.module, *inputs)


def ask_autoencoder(w: Weights, ask: Callable[..., Any], *inputs: Any) -> Any:
    weights = like_diffusers(CASES["autoencoder"].make(), {k: t for k, t in w.items() if k != "scale"})
    module = autoencoder()
    shapes = {name: p.shape for name, p in module.named_parameters()}
    weights = {f"module.{name}": t.reshape(shapes[name]) for name, t in weights.items()}
    return called(Asked(module, ask), weights, *inputs)


def noise(*shape: int) -> Any:
    return torch.tensor(models.Noise().standard_normal(shape))


@reference("autoencoder")
def autoencoder_terms(w: Weights, x: Any) -> Any:
    def ask(module: Any, x: Any) -> Any:
        q = module.encode(x).latent_dist
        picture = module.decode(q.mean + q.std * noise(*q.mean.shape)).sample
        return q.mean, q.logvar, f.mse_loss(picture, x, reduction="sum"), q.kl().sum()

    return ask_autoencoder(w, ask, x)


REFERENCES["autoencoder-decoder"] = lambda w, z: ask_autoencoder(w, lambda m, z: m.decode(z).sample, z)


def bernoulli_or_normal(w: Weights, out: Any, x: Any) -> Any:
    if "pixels.logvar" in w:
        return -torch.distributions.Normal(out, (w["pixels.logvar"] / 2).exp()).log_prob(x).sum()
    return f.binary_cross_entropy_with_logits(out, x, reduction="sum")


def bound(w: Weights, x: Any, mean: Any, logvar: Any, decode: Callable[[Any], Any]) -> tuple[Any, Any]:
    out = decode(mean + (logvar / 2).exp() * noise(*mean.shape))
    return bernoulli_or_normal(w, out, x), kl_gaussian(w, mean, logvar)


def perceptrons(w: Weights, x: Any) -> Any:
    h = f.relu(linear(w, "encoder.fc", x))
    mean, logvar = linear(w, "encoder.mean", h), linear(w, "encoder.logvar", h)
    decode = lambda z: linear(w, "decoder.out", f.relu(linear(w, "decoder.fc", z)))
    return *bound(w, x, mean, logvar, decode), mean, logvar


REFERENCES["vae"] = perceptrons


@reference("vae-gaussian")
def vae_gaussian(w: Weights, x: Any) -> Any:
    reconstruction, kl, *_ = perceptrons(w, x)
    return (reconstruction + 0.3 * kl) / 3


def conv(w: Weights, name: str, x: Any, **options: int) -> Any:
    return f.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)


def conv_up(w: Weights, name: str, x: Any) -> Any:
    return f.conv_transpose2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)


@reference("conv_vae")
def conv_vae(w: Weights, x: Any) -> Any:
    """ReLU after all layers but those that make the moments and the picture."""
    h = f.relu(conv(w, "encoder.conv1", x, padding=1))
    for name in ("encoder.conv2", "encoder.conv3"):
        h = f.relu(conv(w, name, h, stride=2, padding=1))
    h = h.flatten(1)

    def decode(z: Any) -> Any:
        h = f.relu(linear(w, "decoder.fc", z)).unflatten(1, (4, 2, 2))
        for name in ("decoder.up1", "decoder.up2"):
            h = f.relu(conv_up(w, name, h))
        return conv(w, "decoder.out", h, padding=1)

    reconstruction, kl = bound(w, x, linear(w, "encoder.mean", h), linear(w, "encoder.logvar", h), decode)
    return (reconstruction + 0.3 * kl) / 2


@reference("autoencoder-supervised")
def supervised_autoencoder(w: Weights, x: Any) -> Any:
    """The squared error, summed over a picture, and the cross-entropy of a linear classifier on the codes."""
    h = f.relu(conv(w, "encoder.0", x, stride=2, padding=1))
    h = f.relu(conv(w, "encoder.2", h, stride=2, padding=1)).flatten(1)
    z = linear(w, "encoder.5", h)
    h = f.relu(linear(w, "decoder.fc", z)).unflatten(1, (4, 2, 2))
    for name in ("decoder.up1", "decoder.up2"):
        h = f.relu(conv_up(w, name, h))
    error = f.mse_loss(conv(w, "decoder.out", h, padding=1), x, reduction="sum") / len(x)
    cross = f.cross_entropy(linear(w, "classifier", z), torch.arange(len(x)))
    return error + 0.3 * cross, error, cross


@reference("swae")
def swae(w: Weights, x: Any) -> Any:
    """Kolouri et al. 2018, algorithm 1."""
    z = linear(w, "encoder.2", f.relu(linear(w, "encoder.0", x)))
    found = linear(w, "decoder.2", f.relu(linear(w, "decoder.0", z)))
    error = f.mse_loss(found, x, reduction="sum") / len(x)
    theta = f.normalize(noise(2, 4), dim=0)
    along = [(points @ theta).sort(dim=0).values for points in (z, noise(*z.shape))]
    distance = f.mse_loss(*along)
    return error + 0.3 * distance, error, distance


@reference("vqvae")
def vqvae(w: Weights, x: Any) -> Any:
    """van den Oord et al. 2017, eq. 3 and section 4.1."""

    def near(name: str, x: Any) -> Any:
        return x + conv(w, f"{name}.mix", f.relu(conv(w, f"{name}.near", f.relu(x), padding=1)))

    h = f.relu(conv(w, "encoder.0", x, stride=2, padding=1))
    h = near("encoder.4", near("encoder.3", conv(w, "encoder.2", h, stride=2, padding=1)))
    z = conv(w, "encoder.6", f.relu(h)).permute(0, 2, 3, 1)
    codebook = w["quantizer.codebook"]
    e = codebook[torch.cdist(z.flatten(0, 2), codebook).argmin(dim=1)].view(z.shape)
    h = conv(w, "decoder.0", (z + (e - z).detach()).permute(0, 3, 1, 2), padding=1)
    h = f.relu(near("decoder.2", near("decoder.1", h)))
    picture = conv_up(w, "decoder.6", f.relu(conv_up(w, "decoder.4", h)))
    terms = f.mse_loss(picture, x), f.mse_loss(e, z.detach()), f.mse_loss(z, e.detach())
    return terms[0] + terms[1] + 0.4 * terms[2], *terms


@reference("style-transfer")
def style_transfer(w: Weights, content: Any, style: Any, x: Any) -> Any:
    """Gatys et al. 2016, eq. 1, 3, 4, 5 and 7, with two style layers."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)

    def features(x: Any) -> tuple[Any, Any]:
        h = ((x + 1) / 2 - mean[:, None, None]) / std[:, None, None]
        first = f.relu(conv(w, "convs.0", h, padding=1))
        h = f.avg_pool2d(f.relu(conv(w, "convs.1", first, padding=1)), 2)
        return first, f.relu(conv(w, "convs.2", h, padding=1))

    def gram(h: Any) -> Any:
        return torch.einsum("bihw,bjhw->ij", h, h) / h[0, 0].numel()

    content, style = content.detach(), style.detach()
    with torch.no_grad():
        P, A = features(content)[1], [gram(h) for h in features(style)]
    found = features(x)
    of_content = 0.5 * f.mse_loss(found[1], P, reduction="sum")
    errors = [
        f.mse_loss(gram(h), a, reduction="sum") / (4 * h.shape[1] ** 2) for h, a in zip(found, A, strict=True)
    ]
    of_style = (errors[0] + errors[1]) / 2
    return 0.3 * of_content + of_style, of_content, of_style


@reference("gan-generator")
def gan_generator(w: Weights, z: Any) -> Any:
    h = f.relu(linear(w, "start", z) + w["label.weight"][torch.tensor(models.LABELS)])
    h = f.relu(conv_up(w, "ups.0", h.view(len(z), -1, 4, 4)))
    return torch.tanh(conv(w, "out", h, padding=1))


@reference("gan-discriminator")
def gan_discriminator(w: Weights, x: Any) -> Any:
    """Miyato & Koyama 2018, eq. 5; and R1, by Mescheder et al. 2018, eq. 9."""

    def logits(x: Any) -> Any:
        h = f.leaky_relu(conv(w, "downs.0", x, stride=2, padding=1), 0.2).flatten(1)
        return linear(w, "out", h)[:, 0] + (w["label.weight"][torch.tensor(models.LABELS)] * h).sum(1)

    points = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(logits(points).sum(), points, create_graph=True)
    return logits(x), 0.5 * slope.square().flatten(1).sum(1).mean()


def caption_vectors(w: Weights, captions: Any) -> Any:
    """A linear function of the mean of the words' vectors."""
    y, mask = encoded(at(w, "text.words"), captions)
    return linear(w, "text.out", (y * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


@reference("text_gan-generator")
def text_generator(w: Weights, z: Any) -> Any:
    z = torch.cat([z, caption_vectors(w, models.CAPTIONS)], 1)
    h = f.relu(linear(w, "pictures.start", z)).view(len(z), -1, 4, 4)
    return torch.tanh(conv(w, "pictures.out", f.relu(conv_up(w, "pictures.ups.0", h)), padding=1))


@reference("text_gan-discriminator")
def text_discriminator(w: Weights, x: Any) -> Any:
    """Reed et al. 2016, algorithm 1; and R1, by Mescheder et al. 2018, eq. 9."""

    def logits(x: Any, captions: Any) -> Any:
        h = f.leaky_relu(conv(w, "pictures.downs.0", x, stride=2, padding=1), 0.2).flatten(1)
        compared = (caption_vectors(w, captions) * h).sum(1) / h.shape[1] ** 0.5
        return linear(w, "pictures.out", h)[:, 0] + compared

    right, wrong = models.CAPTIONS[:2], [models.CAPTIONS[1], models.CAPTIONS[0]]
    real, others, fake = (logits(*pair) for pair in ((x, right), (x, wrong), (x.flip(2), right)))
    loss = -f.logsigmoid(real).mean() - 0.5 * (f.logsigmoid(-others).mean() + f.logsigmoid(-fake).mean())
    points = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(logits(points, right).sum(), points, create_graph=True)
    return loss, 0.5 * slope.square().flatten(1).sum(1).mean()


@reference("judge")
def judge(w: Weights, x: Any) -> Any:
    h = f.relu(conv(w, "conv1", x, padding=1))
    h = f.relu(conv(w, "conv2", h, stride=2, padding=1))
    h = f.relu(linear(w, "fc", h.flatten(1)))
    return linear(w, "out", h), h


@reference("realnvp")
def realnvp(w: Weights, x: Any) -> Any:
    """Dinh et al. 2017, eq. 2, 6, 8 and 9, with the coordinates that stay and the others taken apart."""
    masks = [[0, 2], [1], [0, 2]]

    def network(k: int, part: Any) -> Any:
        """The logarithms of the scales and the shifts of the coordinates that change."""
        kept, changed = masks[k], [d for d in range(3) if d not in masks[k]]
        h = f.silu(
            f.linear(part, w[f"couplings.{k}.hidden.0.weight"][:, kept], w[f"couplings.{k}.hidden.0.bias"])
        )
        scale, shift = linear(w, f"couplings.{k}.out", f.silu(linear(w, f"couplings.{k}.hidden.1", h))).split(
            3, 1
        )
        return kept, changed, (w[f"couplings.{k}.factor"] * scale.tanh())[:, changed], shift[:, changed]

    z, log_det = x, 0.0
    for k in range(3):
        kept, changed, scale, shift = network(k, z[:, masks[k]])
        z = (
            torch.zeros_like(z)
            .index_copy(1, torch.tensor(kept), z[:, kept])
            .index_copy(1, torch.tensor(changed), z[:, changed] * scale.exp() + shift)
        )
        log_det = log_det + scale.sum(1)
    back = x
    for k in reversed(range(3)):
        kept, changed, scale, shift = network(k, back[:, masks[k]])
        back = back.index_copy(1, torch.tensor(changed), (back[:, changed] - shift) / scale.exp())
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    return z, log_p, back, -log_p.mean()


@reference("hierarchical_vae", "hierarchical_vae-gaussian")
def hierarchical_vae(w: Weights, x: Any) -> Any:
    """Sønderby et al. 2016, section 2: the densities by torch.distributions."""
    levels = sum(name.endswith("fc.weight") for name in w if name.startswith("encoders"))
    normal = torch.distributions.Normal

    def factor(name: str, x: Any) -> Any:
        h = f.relu(linear(w, f"{name}.fc", x))
        return normal(linear(w, f"{name}.mean", h), (0.5 * linear(w, f"{name}.logvar", h)).exp())

    def pixels(z: Any) -> Any:
        out = linear(w, "decoder.out", f.relu(linear(w, "decoder.fc", z)))
        if "pixels.logvar" in w:
            return out, normal(out, (0.5 * w["pixels.logvar"]).exp()).log_prob(x)
        return out.sigmoid(), -f.binary_cross_entropy_with_logits(out, x, reduction="none")

    codes, log_q = [x], 0.0
    for k in range(levels):
        q = factor(f"encoders.{k}", codes[-1])
        codes.append(q.mean + q.stddev * noise(*q.mean.shape))
        log_q = log_q + q.log_prob(codes[-1]).sum(1)
    log_p = pixels(codes[1])[1].sum(1) + normal(0.0, 1.0).log_prob(codes[-1]).sum(1)
    for k in range(levels - 1):
        log_p = log_p + factor(f"priors.{k}", codes[k + 2]).log_prob(codes[k + 1]).sum(1)
    again = pixels(factor("encoders.0", x).mean)[0]
    weights = log_p - log_q
    return (again, weights) if "pixels.logvar" in w else (again, weights, -weights.mean())


@reference("denoiser")
def denoiser(w: Weights, x: Any) -> Any:
    """Sines and cosines of the coordinates at 1, 2, 4; the steps as in diffusers."""
    from diffusers.models.embeddings import get_timestep_embedding

    angles = (x[:, :, None] * 2.0 ** torch.arange(3)).flatten(1)
    time = linear(w, "time", get_timestep_embedding(STEPS, 64, True, 0).double())
    h = f.silu(linear(w, "point", torch.cat([x, angles.sin(), angles.cos()], dim=1)) + time)
    for i in range(2):
        h = f.silu(linear(w, f"hidden.{i}", h))
    return linear(w, "out", h)


@reference("clip")
def clip(w: Weights, x: Any) -> Any:
    from transformers import CLIPConfig, CLIPModel

    sizes = {"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 5, "max_position_embeddings": 4, "eos_token_id": 4, "layer_norm_eps": 0.1}
    image = {"image_size": 4, "patch_size": 2, "num_channels": 3, "layer_norm_eps": 0.1}
    config = CLIPConfig(text_config=sizes | text, vision_config=sizes | image, projection_dim=3)
    ours = CASES["clip"].make()
    found = places({"dim": 3, "text": ours.text_encoder.sizes(), "image": ours.image_encoder.sizes()})
    weights = {
        name: part
        for mine, (names, _) in found.items()
        for name, part in zip(names, w[mine].chunk(len(names)) if len(names) > 1 else [w[mine]], strict=True)
    }
    out = called(CLIPModel(config), weights, torch.tensor(models.TEXTS), x, return_loss=True)
    return out.logits_per_image, out.loss


@reference("noisy_clip")
def noisy_clip(w: Weights, x: Any) -> Any:
    from diffusers.models.embeddings import get_timestep_embedding
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    ours = CASES["noisy_clip"].make().text_encoder.sizes()
    found = places({"dim": 3, "text": ours, "image": CASES["clip"].make().image_encoder.sizes()})
    weights = {
        name: part
        for mine, (names, _) in found.items()
        if mine.startswith("text_encoder.")
        for name, part in zip(names, w[mine].chunk(len(names)) if len(names) > 1 else [w[mine]], strict=True)
    }
    sizes = {"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 5, "max_position_embeddings": 4, "bos_token_id": 0, "eos_token_id": 4}
    module = CLIPTextModelWithProjection(CLIPTextConfig(**sizes, **text, projection_dim=3))
    texts = f.normalize(called(module, weights, torch.tensor(models.TEXTS)).text_embeds)
    of, factor = at(w, "image_encoder"), w["logit_scale"].exp()

    def conv(name: str, h: Any, stride: int = 1) -> Any:
        return f.conv2d(h, of[f"{name}.weight"], of[f"{name}.bias"], stride, 1)

    def norm(name: str, h: Any) -> Any:
        return f.group_norm(h, max(h.shape[1] // 4, 1), of[f"{name}.weight"], of[f"{name}.bias"])

    def vectors(x: Any, t: Any) -> Any:
        time = linear(of, "steps.fc", get_timestep_embedding(torch.tensor(t), 4, True, 0).double())
        time = f.silu(linear(of, "steps.proj", f.silu(time)))
        h = conv("conv_in", x)
        for i in range(2):
            scale, shift = linear(of, f"blocks.{i}.emb", time)[:, :, None, None].chunk(2, dim=1)
            block = conv(f"blocks.{i}.conv1", f.silu(norm(f"blocks.{i}.norm1", h)))
            block = f.silu(norm(f"blocks.{i}.norm2", block) * (1 + scale) + shift)
            skip = f"blocks.{i}.skip"
            h = f.conv2d(h, of[f"{skip}.weight"], of[f"{skip}.bias"]) if f"{skip}.weight" in of else h
            h = conv(f"downs.{i}.conv", h + conv(f"blocks.{i}.conv2", block), 2)
        return factor * f.normalize(linear(of, "projection", f.silu(norm("norm", h)).flatten(1)))

    t = 1 + np.random.default_rng(0).integers(1000, size=2)
    alpha_bar = torch.tensor(models.SCHEDULES["cosine"].alpha_bar[t])[:, None, None, None]
    noise = torch.tensor(models.Noise().standard_normal(x.shape))
    noisy = alpha_bar.sqrt() * x.detach() + (1 - alpha_bar).sqrt() * noise
    logits, own = vectors(noisy, t - 1) @ texts.T, torch.arange(2)
    loss = (f.cross_entropy(logits, own) + f.cross_entropy(logits.T, own)) / 2
    return vectors(x, models.STEPS), vectors(x, models.STEPS) @ texts.T, loss
