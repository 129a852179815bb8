"""A training step of nanoGPT's "baby GPT", meant for a GPU: 10.7 million weights, a quarter of its batch.
It takes seconds."""

from functools import partial

from benchmarks import gpt
from benchmarks.gpt import BESIDE, PEERS, SCALE, UNIT  # noqa: F401 (a workload is a module with these names)

SIZE = gpt.Size(layers=6, heads=6, width=384, context=256, batch=16)
ITEMS = ("tokens", SIZE.tokens)
FLOPS = {str(SIZE): SIZE.flops}
build = partial(gpt.build, size=SIZE)
