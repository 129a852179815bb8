"""A Llama with 124 million weights, from one folder: in tinygen and in Hugging Face's `transformers`. This
file has the training step; `llama_generate.py` and `llama_f16.py` write text.

Both sides load a folder with random weights that `Llama.save_pretrained` wrote. The training step is that of
`gpt.py`, with AdamW. Text is continued greedily by their own functions: batch 1, with a KV cache.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks.gpt import BETAS, DECAY, EPS, LR
from benchmarks.paired import THREADS

UNIT = "ms a step"
SCALE = 1e3
BESIDE: tuple[str, ...] = ()
PEERS = ("transformers",)
PROMPT = 16

Step = Callable[[], Any]


class Size(NamedTuple):
    layers: int
    heads: int
    kv_heads: int
    width: int
    hidden: int
    context: int
    vocab: int

    def __str__(self) -> str:
        return f"{self.layers} layers, width {self.width}"


SIZE = Size(layers=12, heads=12, kv_heads=4, width=768, hidden=2400, context=256, vocab=50257)
ITEMS = ("tokens", SIZE.context)


def build(side: str) -> dict[str, Step]:
    """A training step on one piece of text."""
    case = f"{SIZE}, {SIZE.context} tokens"
    return {case: tinygen_training(read(side)) if side == "tinygen" else torch_training(read(side))}


def build_writer(side: str, tokens: int, dtype: str) -> dict[str, Step]:
    """To write some tokens, with weights from a folder in this dtype. All compute in float32."""
    model = read(side, dtype)
    case = f"{SIZE}, {tokens} tokens after {PROMPT}, from {dtype}"
    return {case: tinygen_writer(model, tokens) if side == "tinygen" else torch_writer(model, tokens)}


# -- the folder ------------------------------------------------------------------------------------


def read(side: str, dtype: str = "float32") -> Any:
    """The model of a side, in evaluation mode and float32; tinygen keeps the weights in `dtype`."""
    with TemporaryDirectory() as folder:
        # In another process, so that its memory does not count for a side.
        subprocess.run([sys.executable, "-m", "benchmarks.llama", folder, dtype, *map(str, SIZE)], check=True)
        if side == "tinygen":
            from tinygen.models import Llama

            return Llama.from_pretrained(folder).astype(np.dtype(dtype))
        import torch

        transformers: Any = importlib.import_module("transformers")  # half of it has no types
        torch.set_num_threads(THREADS)
        transformers.logging.set_verbosity_error()
        return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def write(folder: str, dtype: str, size: Size) -> None:
    from tinygen.models import Llama, LlamaConfig
    from tinygen.storage.safetensors import load_file, save_file

    sizes = (size.vocab, size.context, size.layers, size.heads, size.kv_heads, size.width)
    Llama(LlamaConfig(*sizes, hidden=size.hidden, tie_weights=True), rng=0).save_pretrained(folder)
    file = Path(folder) / "model.safetensors"
    tensors = {name: array.astype(dtype) for name, array in load_file(file).items()}
    save_file(file, tensors, {"format": "pt"})


# -- training --------------------------------------------------------------------------------------


def batches() -> list[Any]:
    """Pieces of text (1, T + 1)."""
    return [*np.random.default_rng(1).integers(0, SIZE.vocab, (8, 1, SIZE.context + 1))]


def tinygen_training(model: Any) -> Step:
    from tinygen.optim import AdamW, decay_groups

    optimizer = AdamW(decay_groups(model.train(), DECAY), lr=LR, betas=BETAS, eps=EPS)
    data = cycle([(text[:, :-1], text[:, 1:]) for text in batches()])

    def step() -> Any:
        _, loss = model(*next(data))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.data

    return step


def torch_training(model: Any) -> Step:
    import torch
    from torch.nn import functional as F

    groups = [
        {"params": [p for p in model.train().parameters() if p.ndim >= 2], "weight_decay": DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    data = cycle([torch.tensor(text) for text in batches()])

    def step() -> Any:
        text = next(data)
        logits = model(text[:, :-1], use_cache=False).logits  # (1, T, V)
        loss: Any = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


# -- writing ---------------------------------------------------------------------------------------


def prompt() -> Any:
    return np.random.default_rng(2).integers(0, SIZE.vocab, (1, PROMPT))


def tinygen_writer(model: Any, tokens: int) -> Step:
    return lambda: model.sample(prompt(), tokens, temperature=0, rng=0)


def torch_writer(model: Any, tokens: int) -> Step:
    import torch

    idx = torch.from_numpy(prompt())
    options = {"do_sample": False, "max_new_tokens": tokens, "pad_token_id": 0, "use_cache": True}
    model.generation_config.eos_token_id = None  # no token ends the text: both sides write as many
    mask = torch.ones_like(idx)
    return lambda: model.generate(idx, attention_mask=mask, **options)


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], Size(*map(int, sys.argv[3:])))
