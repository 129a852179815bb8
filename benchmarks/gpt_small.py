"""A training step of the GPT in nanoGPT's settings for a laptop: 0.8 million weights."""

from functools import partial

from benchmarks import gpt
from benchmarks.gpt import BESIDE, PEERS, SCALE, UNIT  # noqa: F401 (a workload is a module with these names)

SIZE = gpt.Size(layers=4, heads=4, width=128, context=64, batch=12)
ITEMS = ("tokens", SIZE.tokens)
FLOPS = {str(SIZE): SIZE.flops}
build = partial(gpt.build, size=SIZE)
