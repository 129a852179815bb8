"""`python -m tinygen.kernels compile` compiles all kernels, so that no run has to; without `compile`, the
kernels are listed.

To compile, it runs each op forward and backward on arrays just large enough for its compiled kernel. The
machine code is kept on disk; code that is there already is loaded. Without Numba there is nothing to
compile, and the list shows which kernels are used instead.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygen import Tensor, kernels, ops
from tinygen.nn.rope import rotary
from tinygen.optim import AdamW


def entries(*shape: int) -> Tensor:
    """Standard normal entries: a tensor that requires a gradient."""
    return Tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32), requires_grad=True)


def uses() -> Iterator[tuple[str, Callable[[], Any]]]:
    """A name and a call for every op with a compiled kernel, and for each variant of the kernel."""
    x, ids = entries(128, 96), np.arange(128) % 96
    for op in (ops.gelu, ops.relu, ops.leaky_relu, ops.sigmoid, ops.tanh, ops.softplus, ops.silu):
        yield op.__name__, partial(op, x)
    yield "gelu (tanh)", partial(ops.gelu, x, "tanh")
    yield "softmax", partial(ops.softmax, x)
    yield "log_softmax", partial(ops.log_softmax, x)
    yield "cross_entropy", partial(ops.cross_entropy, x, ids)
    yield "bce_with_logits", partial(ops.bce_with_logits, x, np.ones((128, 96), np.float32))
    yield "layer_norm", partial(ops.layer_norm, x, entries(96), entries(96))
    yield "rms_norm", partial(ops.rms_norm, x, entries(96))
    yield "embedding", partial(ops.embedding, x, np.resize(ids, 256))
    for rows in (2, 128):
        yield (
            f"linear, {rows} rows",
            partial(ops.linear, entries(rows, 768), entries(384, 768), entries(384)),
        )
    yield "matmul", partial(np.matmul, x, entries(96, 64))
    q, k, v = (entries(2, 2, 64, 32) for _ in range(3))
    yield "attention", partial(ops.attention, q, k, v)
    yield "attention, causal", partial(ops.attention, q, k, v, causal=True)
    yield "rotary", partial(rotary, q)
    maps, bias = entries(2, 32, 16, 16), entries(32)
    yield "group_norm", partial(ops.group_norm, maps, 8, entries(32), bias)
    yield "batch_norm", partial(ops.batch_norm, maps, entries(32), bias)
    yield "max_pool2d", partial(ops.max_pool2d, maps, 2)
    yield "upsample_nearest", partial(ops.upsample_nearest, maps, 2)
    for size, stride in ((1, 1), (3, 1), (3, 2), (4, 2)):
        weight, options = entries(32, 32, size, size), {"stride": stride, "padding": size // 2}
        yield f"conv2d {size}×{size}, stride {stride}", partial(ops.conv2d, maps, weight, bias, **options)
    yield "conv_transpose2d", partial(ops.conv_transpose2d, maps, entries(32, 32, 4, 4), bias, stride=2)
    yield "conv1d", partial(ops.conv1d, entries(4, 16, 256), entries(16, 16, 3), entries(16), padding=1)
    state = entries(8, 64)
    for cell, gates, states in ((ops.rnn, 1, 1), (ops.lstm, 4, 2), (ops.gru, 3, 1)):
        inputs: Any = (entries(8, 32, 64 * gates), entries(64 * gates, 64), entries(64 * gates))
        yield cell.__name__, partial(cell, *inputs, *[state] * states)


def optimizer_step() -> None:
    parameter = entries(128, 96)
    parameter.grad = np.ones((128, 96), np.float32)
    AdamW([parameter]).step()


def forward_and_backward(call: Callable[[], Any]) -> None:
    y = call()
    np.sum(y[0] if isinstance(y, tuple) else y).backward()


def draw_bar(done: int, total: int, name: str, seconds: float) -> str:
    """Like "[#####---------------]  9 of 36, 12 s: layer_norm", as wide as the longest name needs."""
    marks = "#" * (20 * done // total)
    return f"[{marks:-<20}] {done:2} of {total}, {seconds:.0f} s: {name:<24}"


def compile_all() -> None:
    """Compile every kernel, with a bar that says which one, and for how long; on a terminal it stays in one
    line."""
    steps: list[tuple[str, Callable[[], None]]]
    steps = [(name, partial(forward_and_backward, call)) for name, call in uses()]
    steps += [("AdamW", optimizer_step)]
    began = time.perf_counter()
    for done, (name, step) in enumerate(steps):
        show(draw_bar(done, len(steps), name, time.perf_counter() - began))
        step()
    show(draw_bar(len(steps), len(steps), "all kernels are compiled", time.perf_counter() - began))
    print()


def show(line: str) -> None:
    print(f"\r{line}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tinygen.kernels", description=__doc__.split("\n\n")[0])
    parser.add_argument("command", nargs="?", choices=["compile"])
    if parser.parse_args().command:
        compile_all()
    print(kernels.table())


if __name__ == "__main__":
    main()
