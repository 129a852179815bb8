"""Every kernel forward and backward at the sizes of real models: beside its definition ("tinygen-off"),
beside the kernels that need no compiler ("tinygen-numpy"), and beside PyTorch.

Forward records the op for backward, as in training; backward runs the recorded rules again and again. The
cases are in `kernel_cases.py`; a registered kernel without a case is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.kernel_cases import Case, Shape, cases

UNIT = "ms"
SCALE = 1e3
BESIDE = ("tinygen-off", "tinygen-numpy")
PEERS = ("torch",)
MODES = False  # they are beside us already
ROUNDS, SECONDS = 3, 0.04
COMPACT = True  # one row for each case

Step = Callable[[], Any]

OPS = {
    "convolution": "conv2d",
    "transposed_convolution": "conv_transpose2d",
    "correlation": "conv2d",  # backward
    "max_pool": "max_pool2d",
    "rotate_pairs": "rotary",
    "token_losses": "cross_entropy",
    "binary_losses": "bce_with_logits",
    "scatter_add": "embedding",  # backward
}
"""The layers that run the ops that have other names."""


def require_all(found: list[Case]) -> None:
    """Raise RuntimeError if a kernel of an op for the CPU has no case. (The optimizers' kernels are part of
    the training steps.)"""
    from tinygen import kernels, ops

    layers = {case.layer for case in found}
    ours = [entry.op for entry in kernels.entries if entry.floor != "cuda"]
    names = {op.name for op in ours if op.body.__module__.startswith(ops.__name__)}
    if missing := sorted(op for op in names if OPS.get(op, op) not in layers):
        raise RuntimeError(f"benchmarks/kernel_cases.py has no case for {', '.join(missing)}: add one")


@cache
def numbers(shape: Shape, count: int) -> Any:
    """Whole numbers below `count`."""
    return np.random.default_rng(1).integers(0, count, shape)


def build(side: str) -> dict[str, Step]:
    layers = torch_layers() if side == "torch" else tinygen_layers()
    found = cases()
    if side != "torch":
        require_all(found)
    steps: dict[str, Step] = {}
    kept: dict[str, Any] = {}
    for case in found:
        forward, backward = pair(case, layers[case.layer], side, kept)
        steps[f"{case.name}: forward"], steps[f"{case.name}: backward"] = forward, backward
    return steps


def pair(case: Case, layer: Callable[..., Any], side: str, kept: dict[str, Any]) -> tuple[Step, Step]:
    """The two steps of a case. At the first of them its arrays go into `kept`, where no other case stays."""

    def made() -> tuple[list[Any], Any, Any]:
        if case.name not in kept:
            kept.clear()
            kept[case.name] = record()
        return kept[case.name]

    def record() -> tuple[list[Any], Any, Any]:
        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in case.shapes]
        for a in arrays[1:]:
            a /= np.float32(math.prod(a.shape[1:]) ** 0.5)
        leaves = [leaf(a, side) for a in arrays]
        y = layer(*leaves, **case.options)
        g = rng.standard_normal(tuple(y.shape), dtype=np.float32)
        return leaves, y, leaf(g, side).detach() if side == "torch" else g

    def forward() -> Any:
        return layer(*made()[0], **case.options).detach()

    def backward() -> Any:
        leaves, y, g = made()
        for x in leaves:
            x.grad = None
        y.backward(g, retain_graph=True)
        return [x.grad for x in leaves]

    return forward, backward


def leaf(a: Any, side: str) -> Any:
    if side == "torch":
        import torch

        return torch.tensor(a).requires_grad_()
    from tinygen import Tensor

    return Tensor(a, requires_grad=True)


def tinygen_layers() -> dict[str, Callable[..., Any]]:
    from tinygen import ops
    from tinygen.nn.rope import rotary

    def split(x: Any) -> Any:
        q, k, v = ops.split(x, 3, axis=-1)
        return q + k + v

    def recurrent(cell: Any) -> Callable[..., Any]:
        return lambda x, w, b, u, c, *state: cell(ops.linear(x, w, b), u, c, *state)[0]

    return {
        **{layer: getattr(ops, layer) for case in cases() if hasattr(ops, layer := case.layer)},
        "max_pool2d": lambda x, kernel, stride, padding=0: ops.max_pool2d(x, kernel, stride, padding),
        "group_norm": lambda x, weight, bias, groups: ops.group_norm(x, groups, weight, bias),
        "embedding": lambda table, ids: ops.embedding(table, numbers(ids, len(table))),
        "cross_entropy": lambda x: ops.cross_entropy(x, numbers(x.shape[:-1], x.shape[-1])),
        "bce_with_logits": lambda x: ops.bce_with_logits(x, numbers(x.shape, 2).astype(np.float32)),
        "split": split,
        "rotary": rotary,
        **{cell.__name__: recurrent(cell) for cell in (ops.rnn, ops.gru, ops.lstm)},
    }


def torch_layers() -> dict[str, Callable[..., Any]]:
    import torch
    from torch.nn import functional as F

    from benchmarks.paired import THREADS

    torch.set_num_threads(THREADS)
    same = (
        "conv1d",
        "conv2d",
        "conv_transpose2d",
        "silu",
        "leaky_relu",
        "relu",
        "tanh",
        "sigmoid",
        "softplus",
    )

    def integers(shape: Any, count: int) -> Any:
        return torch.from_numpy(numbers(tuple(shape), count))

    def batch_norm(x: Any, weight: Any, bias: Any) -> Any:
        return torch.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)

    def attention(q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def split(x: Any) -> Any:
        q, k, v = x.chunk(3, -1)
        return q + k + v

    def rotary(x: Any) -> Any:
        """PyTorch has no rotary op: it is composed, as in `transformers`."""
        t, half = x.shape[-2], x.shape[-1] // 2
        angles = torch.arange(t)[:, None] * 10_000.0 ** (-torch.arange(half) / half)
        angles = torch.cat([angles, angles], -1)
        a, b = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-b, a], -1) * angles.sin()

    def recurrent(cell: Any) -> Callable[..., Any]:
        options = True, 1, 0.0, True, False, True  # biases, layers, dropout, training, two ways, batch first
        lstm = cell is torch.lstm

        def run(x: Any, w: Any, b: Any, u: Any, c: Any, *state: Any) -> Any:
            first = [s[None] for s in state]
            return cell(x, first if lstm else first[0], [w, u, b, c], *options)[0]

        return run

    return {
        **{layer: getattr(F, layer) for layer in same},
        "gelu": F.gelu,
        "softmax": lambda x: F.softmax(x, -1),
        "log_softmax": lambda x: F.log_softmax(x, -1),
        "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
        "rms_norm": lambda x, weight: F.rms_norm(x, weight.shape, weight, 1e-6),
        "group_norm": lambda x, weight, bias, groups: F.group_norm(x, groups, weight, bias),
        "batch_norm": batch_norm,
        "cross_entropy": lambda x: F.cross_entropy(x, integers(x.shape[:-1], x.shape[-1])),
        "bce_with_logits": lambda x: F.binary_cross_entropy_with_logits(x, integers(x.shape, 2).float()),
        "embedding": lambda table, ids: F.embedding(integers(ids, len(table)), table),
        "max_pool2d": lambda x, kernel, stride, padding=0: F.max_pool2d(x, kernel, stride, padding),
        "avg_pool2d": lambda x, kernel: F.avg_pool2d(x, kernel),
        "upsample_nearest": lambda x, scale: F.interpolate(x, scale_factor=scale),
        "attention": attention,
        "split": split,
        "rotary": rotary,
        "linear": F.linear,
        "matmul": torch.matmul,
        "rnn": recurrent(torch.rnn_tanh),
        "gru": recurrent(torch.gru),
        "lstm": recurrent(torch.lstm),
    }
