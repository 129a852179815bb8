"""The Transformer that translates in PyTorch, for `translation.py`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.paired import THREADS
from benchmarks.translation import (
    BETAS,
    EPS,
    HEADS,
    LAYERS,
    LENGTH,
    LR,
    SMOOTHING,
    VOCAB,
    WIDTH,
    Step,
    batches,
)
from benchmarks.unet import weights
from tinygen.models.language.transformer import sinusoids

NAMES = {
    "multihead_attn.out_proj": "cross.f.proj",
    "self_attn.out_proj": "attn.f.proj",
    "self_attn.in_proj_": "attn.f.qkv.",
    "linear1": "mlp.f.fc",
    "linear2": "mlp.f.proj",
    "norm1": "attn.norm",
    "decoder.norm.": "decoder_norm.",
    "encoder.norm.": "encoder_norm.",
    "layers.": "",
}
"""Parts of PyTorch's names, and of ours."""


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        options: Any = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        sizes = (WIDTH, HEADS, 4 * WIDTH)
        encoder = nn.TransformerEncoderLayer(*sizes, **options)
        decoder = nn.TransformerDecoderLayer(*sizes, **options)
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.encoder = nn.TransformerEncoder(encoder, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, LAYERS, nn.LayerNorm(WIDTH))
        self.positions = torch.from_numpy(sinusoids(LENGTH, WIDTH)).float()
        self.later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        places = dict(self.places())
        for name, array in weights({name: tuple(place.shape) for name, place in places.items()}):
            places[name].copy_(torch.from_numpy(array))

    def places(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters by their names in our model. There, the queries of the cross-attention are apart
        from its keys and values."""
        for name, p in self.named_parameters():
            norm2 = "mlp.norm" if name.startswith("encoder") else "cross.norm"
            for theirs, ours in {**NAMES, "norm2": norm2, "norm3": "mlp.norm"}.items():
                name = name.replace(theirs, ours)
            if "multihead_attn.in_proj_" in name:
                yield name.replace("multihead_attn.in_proj_", "cross.f.q."), p.detach()[:WIDTH]
                yield name.replace("multihead_attn.in_proj_", "cross.f.kv."), p.detach()[WIDTH:]
            else:
                yield name, p.detach()

    def embed(self, ids: Tensor) -> Tensor:
        return self.embedding(ids) * WIDTH**0.5 + self.positions

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding, y = source == 0, self.embed(target[:, :-1])
        memory = self.encoder(self.embed(source), src_key_padding_mask=padding)
        y = self.decoder(y, memory, self.later, tgt_is_causal=True, memory_key_padding_mask=padding)
        logits = F.linear(y, self.embedding.weight).flatten(0, 1)
        return F.cross_entropy(logits, target[:, 1:].flatten(), label_smoothing=SMOOTHING)


def training_step() -> Step:
    torch.set_num_threads(THREADS)
    model = Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)
    data = cycle([(torch.tensor(source), torch.tensor(target)) for source, target in batches()])

    def step() -> Any:
        loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
