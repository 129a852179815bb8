"""Text from the Llama of `llama.py`, with weights from a folder in float32."""

from functools import partial

from benchmarks import llama
from benchmarks.llama import BESIDE, PEERS  # noqa: F401 (a workload is a module with these names)

UNIT = "ms a token"
TOKENS = 32
SCALE = 1e3 / TOKENS
ITEMS = ("tokens", TOKENS)
build = partial(llama.build_writer, tokens=TOKENS, dtype="float32")
