"""The smallest GPT-2, with 124 million weights, from one folder: in tinygen and in Hugging Face's
`transformers`.

Both load a folder with random weights that `GPT.save_pretrained` wrote, and continue the same prompt with
their own function: batch 1, greedy, with a KV cache. They must generate the same tokens.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import generate, gpt
from benchmarks.paired import THREADS

UNIT = "ms a token"
BESIDE: tuple[str, ...] = ()
PEERS = ("transformers",)
SIZE = generate.SIZE
PROMPT, TOKENS = 16, 64
SCALE = 1e3 / TOKENS
ITEMS = ("tokens", TOKENS)

Step = Callable[[], Any]


def build(side: str) -> dict[str, Step]:
    with TemporaryDirectory() as folder:
        # In another process, so that its memory does not count for a side.
        subprocess.run([sys.executable, "-m", "benchmarks.gpt2", folder, *map(str, SIZE)], check=True)
        step = tinygen_step(folder) if side == "tinygen" else transformers_step(folder)
    return {f"{SIZE}, {TOKENS} tokens after {PROMPT}": step}


def prompt() -> Any:
    return np.random.default_rng(1).integers(0, SIZE.vocab, (1, PROMPT))


def tinygen_step(folder: str) -> Step:
    from tinygen.models.language.gpt import GPT

    model, rng = GPT.from_pretrained(folder), np.random.default_rng(0)
    return lambda: model.sample(prompt(), TOKENS, temperature=0, rng=rng)


def transformers_step(folder: str) -> Step:
    import torch

    transformers: Any = importlib.import_module("transformers")  # half of it has no types
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    idx = torch.from_numpy(prompt())
    options = {"do_sample": False, "max_new_tokens": TOKENS, "pad_token_id": 0, "use_cache": True}
    mask = torch.ones_like(idx)
    return lambda: model.generate(idx, attention_mask=mask, **options)


if __name__ == "__main__":
    size = gpt.Size(*map(int, sys.argv[2:]))
    gpt.tinygen_model(size, gelu="tanh").save_pretrained(sys.argv[1])
