"""`python -m tinygen.kernels` compiles all kernels, once, and lists them: later runs find the machine code.

Each op is run forward and backward on arrays just large enough for its compiled kernel. Where Numba is not
installed nothing is compiled, and the table says what computes instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygen import Tensor, kernels, ops
from tinygen.optim import AdamW


def entries(*shape: int) -> Tensor:
    """Normal numbers, large enough in sum for a kernel to be worth it."""
    return Tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32), requires_grad=True)


def uses() -> Iterator[tuple[str, Callable[[], Any]]]:
    """A call of every op that has a compiled kernel, for each of the ways that its kernel goes."""
    x, ids = entries(128, 96), np.arange(128) % 96
    for op in (ops.gelu, ops.relu, ops.sigmoid, ops.tanh, ops.softplus, ops.silu):
        yield op.__name__, lambda op=op: op(x)
    yield "gelu (tanh)", lambda: ops.gelu(x, "tanh")
    for op in (ops.softmax, ops.log_softmax):
        yield op.__name__, lambda op=op: op(x)
    yield "cross_entropy", lambda: ops.cross_entropy(x, ids)
    yield "bce_with_logits", lambda: ops.bce_with_logits(x, np.ones((128, 96), np.float32))
    scale, shift = entries(96), entries(96)
    yield "layer_norm", lambda: ops.layer_norm(x, scale, shift)
    yield "rms_norm", lambda: ops.rms_norm(x, scale)
    yield "embedding", lambda: ops.embedding(x, np.resize(ids, 256))
    weight, bias = entries(64, 96), entries(64)
    for rows in (2, 128):
        yield (
            f"linear, {rows} rows",
            lambda n=rows: ops.linear(entries(n, 768), entries(384, 768), entries(384)),
        )
    yield "matmul", lambda: x @ weight.T + bias
    for causal in (False, True):
        yield (
            "attention",
            lambda c=causal: ops.attention(*(entries(2, 2, 64, 32) for _ in range(3)), causal=c),
        )
    maps = entries(2, 32, 16, 16)
    yield "group_norm", lambda: ops.group_norm(maps, 8, entries(32), entries(32))
    yield "max_pool2d", lambda: ops.max_pool2d(maps, 2)
    yield "upsample_nearest", lambda: ops.upsample_nearest(maps, 2)
    for size, stride in ((1, 1), (3, 1), (3, 2), (4, 2)):
        kernel = entries(32, 32, size, size)
        yield (
            f"conv2d {size}×{size}, stride {stride}",
            lambda k=kernel, s=stride, p=size // 2: ops.conv2d(maps, k, entries(32), stride=s, padding=p),
        )
    yield "conv_transpose2d", lambda: ops.conv_transpose2d(maps, entries(32, 32, 4, 4), entries(32), stride=2)
    yield "conv1d", lambda: ops.conv1d(entries(4, 16, 256), entries(16, 16, 3), entries(16), padding=1)
    for name, op, gates in (("rnn", ops.rnn, 1), ("lstm", ops.lstm, 4), ("gru", ops.gru, 3)):
        state = (entries(8, 64),) * (2 if name == "lstm" else 1)
        yield (
            name,
            lambda op=op, g=gates, s=state: op(
                entries(8, 32, 64 * g), entries(64 * g, 64), entries(64 * g), *s
            ),
        )


def main() -> None:
    began = time.perf_counter()
    for name, call in uses():
        before = time.perf_counter()
        y = call()
        np.sum(y[0] if isinstance(y, tuple) else y).backward()
        print(f"{name:24}{time.perf_counter() - before:7.1f} s", flush=True)
    parameter = entries(128, 96)
    parameter.grad = np.ones((128, 96), np.float32)
    AdamW([parameter]).step()
    print(f"{'all':24}{time.perf_counter() - began:7.1f} s\n\n{kernels.table()}")


if __name__ == "__main__":
    main()
