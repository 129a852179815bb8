"""The references of ops and layers: torch's, transformers' and diffusers'."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as f
from golden import cases
from golden.reference import CASES, REFERENCES, Weights, called, like_diffusers, linear, reference

PLAIN = {
    "gelu": f.gelu,
    "gelu-tanh": lambda x: f.gelu(x, approximate="tanh"),
    "silu": f.silu,
    "softplus": f.softplus,
    "sigmoid": torch.sigmoid,
    "relu": f.relu,
    "leaky_relu": f.leaky_relu,
    "erf": torch.erf,
    "log_softmax": lambda x: f.log_softmax(x, dim=-1),
    "bce_with_logits": f.binary_cross_entropy_with_logits,
    "mse": f.mse_loss,
    "l1": f.l1_loss,
    "huber": f.huber_loss,
    "cross_entropy": lambda x: f.cross_entropy(x, torch.tensor([1, 6, -100]), label_smoothing=0.1),
    "max_pool2d": lambda x: f.max_pool2d(x, 3, 2, 1),
    "max_pool1d": lambda x: f.max_pool1d(x, 2, 3, 1),
    "avg_pool2d": lambda x: f.avg_pool2d(x, 3, 2, 1),
    "logsumexp": lambda x: torch.logsumexp(x, dim=1),
}
REFERENCES.update({name: lambda w, *xs, g=g: g(*xs) for name, g in PLAIN.items()})


@reference("kl_gaussian")
def kl_gaussian(w: Weights, mean: Any, logvar: Any) -> Any:
    normal = torch.distributions.Normal
    return torch.distributions.kl_divergence(normal(mean, (logvar / 2).exp()), normal(0.0, 1.0)).sum()


@reference("timestep_embedding")
def timestep_embedding(w: Weights) -> Any:
    from diffusers.models.embeddings import get_timestep_embedding

    return get_timestep_embedding(torch.tensor([0, 1, 7]), 8, True, 0)


LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "linear": lambda: torch.nn.Linear(4, 3),
    "embedding": lambda: torch.nn.Embedding(5, 3),
    "conv1d": lambda: torch.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
    "conv2d": lambda: torch.nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2),
    "conv_transpose1d": lambda: torch.nn.ConvTranspose1d(4, 6, 3, 2, 1, groups=2, dilation=2),
    "conv_transpose2d": lambda: torch.nn.ConvTranspose2d(4, 2, (3, 4), (2, 3), (1, 2), groups=2),
    "layer_norm": lambda: torch.nn.LayerNorm(4, eps=0.1),
    "layer_norm-default": lambda: torch.nn.LayerNorm(4),
    "rms_norm": lambda: torch.nn.RMSNorm(4, eps=0.1),
    "group_norm": lambda: torch.nn.GroupNorm(2, 4, eps=0.1),
    "group_norm-default": lambda: torch.nn.GroupNorm(2, 4),
    "batch_norm-evaluation": lambda: torch.nn.BatchNorm2d(4, eps=0.1).eval(),
}
REFERENCES.update({name: lambda w, x, make=make: called(make(), w, x) for name, make in LAYERS.items()})


@reference("batch_norm", "batch_norm-default")
def batch_norm(w: Weights, x: Any, **options: float) -> Any:
    y = f.batch_norm(x, w["running_mean"], w["running_var"], w["weight"], w["bias"], True, **options)
    return y, w["running_mean"], w["running_var"]


REFERENCES["batch_norm"] = partial(batch_norm, eps=0.1, momentum=0.3)


def heads(x: Any) -> Any:
    return x.unflatten(2, (2, -1)).transpose(1, 2)


def torch_attention(w: Weights, x: Any, **options: Any) -> Any:
    names = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias"}
    weights = {names.get(k, k.replace("proj.", "out_proj.")): t for k, t in w.items()}
    module = torch.nn.MultiheadAttention(x.shape[2], 2, batch_first=True)
    return called(module, weights, x, x, x, **options)[0]


def future(t: int) -> Any:
    return torch.triu(torch.ones(t, t, dtype=torch.bool), 1)


REAL = torch.tensor(cases.REAL)
REFERENCES["attention"] = torch_attention
REFERENCES["attention-causal"] = lambda w, x: torch_attention(w, x, attn_mask=future(4))
REFERENCES["attention-masked"] = lambda w, x: torch_attention(w, x, key_padding_mask=~REAL)


@reference("attention-rotary")
def rotary(w: Weights, x: Any) -> Any:
    """By the rotation of transformers' LLaMA."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, v = map(heads, linear(w, "qkv", x).chunk(3, dim=-1))
    d = q.shape[-1]
    angles = torch.arange(5)[:, None] * 10_000.0 ** (-torch.arange(0, d, 2) / d)
    angles = torch.cat([angles, angles], dim=-1)[None].double()
    q, k = apply_rotary_pos_emb(q, k, angles.cos(), angles.sin())
    y = f.scaled_dot_product_attention(q, k, v, is_causal=True)
    return linear(w, "proj", y.transpose(1, 2).flatten(2))


@reference("cross_attention")
def cross_attention(w: Weights, x: Any, context: Any) -> Any:
    k, v = linear(w, "kv", context).chunk(2, dim=-1)
    q, k, v = map(heads, (linear(w, "q", x), k, v))
    y = f.scaled_dot_product_attention(q, k, v, attn_mask=REAL[:, None, None])
    return linear(w, "proj", y.transpose(1, 2).flatten(2))


def torch_block(w: Weights, x: Any, eps: float = 1e-5, **options: Any) -> Any:
    names = {
        "ln1": "norm1",
        "ln2": "norm2",
        "attn.qkv.": "self_attn.in_proj_",
        "attn.proj": "self_attn.out_proj",
    }
    names |= {"mlp.fc": "linear1", "mlp.proj": "linear2"}
    ours = lambda name: next(start for start in names if name.startswith(start))
    weights = {names[ours(name)] + name.removeprefix(ours(name)): t for name, t in w.items()}
    c = x.shape[2]
    layer = torch.nn.TransformerEncoderLayer(c, 2, 4 * c, 0.0, "gelu", eps, batch_first=True, norm_first=True)
    return called(layer, weights, x, **options)


REFERENCES["block"] = lambda w, x: torch_block(w, x, 0.1, src_mask=future(4))
REFERENCES["block-everywhere"] = torch_block


@reference("mlp")
def mlp(w: Weights, x: Any) -> Any:
    return linear(w, "proj", f.gelu(linear(w, "fc", x), approximate="tanh"))


def recurrent(w: Weights, module: torch.nn.RNNBase, *inputs: Any) -> Any:
    names, directions = {}, 1 + module.bidirectional
    for name, t in w.items():
        _, i, weight = name.split(".")
        names[f"{weight}_l{int(i) // directions}" + "_reverse" * (int(i) % directions)] = t
    return called(module, names, *inputs)


TWO = {"num_layers": 2, "bidirectional": True, "batch_first": True}
REFERENCES["rnn"] = lambda w, x, h: recurrent(w, torch.nn.RNN(4, 3, **TWO), x, h)
REFERENCES["gru"] = lambda w, x, h: recurrent(w, torch.nn.GRU(4, 3, **TWO), x, h)


@reference("lstm")
def lstm(w: Weights, x: Any, h: Any, c: Any) -> Any:
    y, last = recurrent(w, torch.nn.LSTM(4, 3, **TWO), x, (h, c))
    return y, *last


@reference("lstm-padded")
def lstm_padded(w: Weights, x: Any) -> Any:
    packed = torch.nn.utils.rnn
    into = packed.pack_padded_sequence(x, torch.tensor([3, 5]), True, enforce_sorted=False)
    y, last = recurrent(w, torch.nn.LSTM(4, 3, bidirectional=True, batch_first=True), into)
    return packed.pad_packed_sequence(y, True)[0], *last


def residual(w: Weights, *inputs: Any, out: int, style: str) -> Any:
    from diffusers.models.resnet import ResnetBlock2D

    module = ResnetBlock2D(
        in_channels=8, out_channels=out, temb_channels=5, groups=2, eps=1e-5, time_embedding_norm=style
    )
    name = "res_block" if out == 4 else "res_block-scale_shift"
    return called(module, like_diffusers(CASES[name].make(), w), *inputs)


REFERENCES["res_block"] = partial(residual, out=4, style="default")
REFERENCES["res_block-scale_shift"] = partial(residual, out=8, style="scale_shift")


@reference("downsample")
def downsample(w: Weights, x: Any) -> Any:
    from diffusers.models.downsampling import Downsample2D

    return called(Downsample2D(4, use_conv=True, name="op"), w, x)


@reference("upsample")
def upsample(w: Weights, x: Any) -> Any:
    from diffusers.models.upsampling import Upsample2D

    return called(Upsample2D(4, use_conv=True), w, x)


@reference("spatial_attention")
def spatial_attention(w: Weights, x: Any) -> Any:
    from diffusers.models.attention_processor import Attention

    module = Attention(
        8, heads=2, dim_head=4, norm_num_groups=4, eps=1e-5, bias=True, residual_connection=True
    )
    return called(module, like_diffusers(CASES["spatial_attention"].make(), w), x)


@reference("spatial_transformer")
def spatial_transformer(w: Weights, x: Any, context: Any) -> Any:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    module = Transformer2DModel(2, 4, 8, num_layers=2, cross_attention_dim=5, norm_num_groups=4)
    weights = like_diffusers(CASES["spatial_transformer"].make(), w)
    for name in ("proj_in.weight", "proj_out.weight"):
        weights[name] = weights[name][:, :, None, None]
    mask = torch.where(REAL, 0.0, -torch.inf).double()[:, None]
    return called(module, weights, x, context, encoder_attention_mask=mask).sample
