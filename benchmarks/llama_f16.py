"""Text from the Llama of `llama.py`, with weights from a folder in float16. tinygen keeps them in float16 and
computes in float32; `transformers` converts them to float32 when it reads them. The tokens are the same."""

from functools import partial

from benchmarks import llama
from benchmarks.llama import BESIDE, PEERS  # noqa: F401 (a workload is a module with these names)
from benchmarks.llama_generate import ITEMS, SCALE, TOKENS, UNIT  # noqa: F401

build = partial(llama.build_writer, tokens=TOKENS, dtype="float16")
