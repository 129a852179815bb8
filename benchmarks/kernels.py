"""Every kernel forward and backward at the sizes of real models: beside its definition ("tinygen-off"),
beside the kernels that need no compiler ("tinygen-numpy"), and beside PyTorch.

The sizes come from GPTs, UNets on maps of 8×8 to 64×64, Stable Diffusion 1's layers, discriminators and
generators, a VAE, and LSTMs; one example, and many. Forward records the op for backward, as in training;
backward runs the rules again and again on what one forward recorded. A registered kernel without a case here
is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

UNIT = "ms"
SCALE = 1e3
BESIDE = ("tinygen-off", "tinygen-numpy")
PEERS = ("torch",)
MODES = False  # they are beside us already
ROUNDS, SECONDS = 3, 0.04
COMPACT = True  # one row for each case

Step = Callable[[], Any]
Shape = tuple[int, ...]


class Case(NamedTuple):
    layer: str
    shapes: tuple[Shape, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Like "conv2d: 16×64×32×32, 64×64×3×3, padding 1"."""
        shapes = ["×".join(map(str, shape)) for shape in self.shapes if len(shape) > 1]
        return f"{self.layer}: {', '.join([*shapes, *(f'{k} {v}' for k, v in self.options.items())])}"


def convolutions() -> list[Case]:
    """Images, channels in and out, size, kernel, stride, padding, of convolutions and of transposed ones."""
    forward = (
        (16, 3, 64, 32, 3, 1, 1),  # a UNet
        (16, 64, 64, 32, 3, 1, 1),
        (16, 64, 64, 32, 3, 2, 1),
        (16, 64, 128, 16, 3, 1, 1),
        (16, 64, 128, 16, 1, 1, 0),
        (16, 256, 128, 16, 3, 1, 1),
        (16, 128, 128, 8, 3, 1, 1),
        (16, 128, 128, 4, 3, 1, 1),
        (16, 128, 64, 8, 1, 1, 0),
        (4, 32, 32, 64, 3, 1, 1),
        (1, 64, 64, 32, 3, 1, 1),
        (1, 4, 320, 64, 3, 1, 1),  # Stable Diffusion 1
        (1, 320, 320, 64, 3, 1, 1),
        (1, 320, 320, 64, 3, 2, 1),
        (1, 320, 320, 64, 1, 1, 0),
        (1, 640, 640, 32, 3, 1, 1),
        (1, 1920, 640, 32, 1, 1, 0),
        (1, 1280, 1280, 16, 3, 1, 1),
        (1, 1280, 1280, 16, 3, 2, 1),
        (1, 1280, 1280, 8, 3, 1, 1),
        (2, 1280, 1280, 8, 3, 1, 1),
        (1, 2560, 1280, 8, 3, 1, 1),
        (1, 2560, 1280, 8, 1, 1, 0),
        (64, 3, 32, 32, 4, 2, 1),  # discriminators and judges
        (64, 32, 64, 16, 4, 2, 1),
        (64, 32, 64, 8, 4, 2, 1),
        (64, 64, 128, 8, 4, 2, 1),
        (64, 64, 128, 4, 4, 2, 1),
        (64, 128, 256, 4, 4, 1, 0),
        (64, 32, 32, 8, 3, 2, 1),
        (64, 16, 32, 8, 3, 2, 1),
        (64, 1, 16, 8, 3, 1, 1),
        (1, 64, 128, 8, 4, 2, 1),
    )
    transposed = (
        (64, 128, 64, 2, 4, 2, 1),
        (64, 64, 32, 8, 4, 2, 1),
        (64, 64, 32, 16, 4, 2, 1),
        (64, 32, 3, 16, 4, 2, 1),
        (64, 100, 128, 1, 4, 1, 0),
        (1, 64, 32, 8, 4, 2, 1),
    )
    cases = []
    for n, into, out, size, k, stride, padding in forward:
        shapes = (n, into, size, size), (out, into, k, k), (out,)
        cases.append(Case("conv2d", shapes, {"stride": stride, "padding": padding}))
    for n, into, out, size, k, stride, padding in transposed:
        shapes = (n, into, size, size), (into, out, k, k), (out,)
        cases.append(Case("conv_transpose2d", shapes, {"stride": stride, "padding": padding}))
    apart = ((16, 64, 16, 16), (64, 1, 3, 3), (64,)), {"padding": 1, "groups": 64}
    line = ((16, 64, 256), (64, 64, 3), (64,)), {"padding": 1}
    return [*cases, Case("conv2d", *apart), Case("conv1d", *line)]


def cases() -> list[Case]:
    found = convolutions()

    def add(layer: str, *shapes: Shape | tuple[Shape, ...], **options: Any) -> None:
        """A case for each of the shapes of the first array, or for each tuple of shapes."""
        for s in shapes:
            found.append(Case(layer, s if isinstance(s[0], tuple) else (s,), options))

    maps = (16, 64, 32, 32), (16, 128, 8, 8), (1, 320, 64, 64), (1, 1280, 8, 8)
    features = (64, 64, 16, 16), (64, 128, 8, 8), (64, 256, 4, 4), (1, 64, 16, 16)
    rows = (768, 128), (4096, 384), (1, 768)
    for shape in maps:
        add("group_norm", (shape, shape[1:2], shape[1:2]), groups=32)
    add("batch_norm", *((shape, shape[1:2], shape[1:2]) for shape in (*features, (128, 400))))
    add("silu", *maps, (1, 1280), (768, 512))
    add("leaky_relu", *features, (128, 256))
    add("relu", *features, (128, 400))
    add("tanh", (64, 3, 32, 32), (128, 64))
    add("sigmoid", (128, 784), (64, 128))
    add("softplus", (128, 784), (64, 128))
    add("gelu", (768, 512), (4096, 1536), (1, 3072))
    add("gelu", (768, 512), (1, 3072), approximate="tanh")
    add("softmax", (12, 4, 64, 64), (16, 4, 256, 256), (64, 1000), (1, 50257))
    add("log_softmax", (768, 65), (64, 1000), (1, 50257))
    add("layer_norm", *((shape, shape[1:], shape[1:]) for shape in (*rows, (12, 512))))
    add("rms_norm", *((shape, shape[1:]) for shape in (*rows, (12, 512))))
    add("cross_entropy", (768, 65), (4096, 65), (64, 50257), (128, 10))
    add("bce_with_logits", (128, 784), (64, 1))
    add("embedding", (65, 128), ids=(12, 64))
    add("embedding", (65, 384), ids=(16, 256))
    add("embedding", (30522, 256), ids=(8, 128))
    add("embedding", (50257, 768), ids=(1, 1))
    add("max_pool2d", *features[:3], (1, 64, 16, 16), kernel=2, stride=2)
    add("max_pool2d", (64, 64, 16, 16), kernel=3, stride=2, padding=1)
    add("avg_pool2d", *features[:3], (1, 64, 16, 16), kernel=2)
    add("upsample_nearest", (16, 128, 8, 8), (16, 128, 16, 16), (1, 640, 32, 32), (1, 1280, 8, 8), scale=2)
    heads = (12, 4, 64, 32), (16, 6, 256, 64), (1, 12, 256, 64)
    add("attention", *((shape, shape, shape) for shape in heads), causal=True)
    add(
        "attention",
        *((shape, shape, shape) for shape in ((16, 4, 64, 32), (16, 4, 256, 32), (1, 8, 1024, 80))),
    )
    add("attention", ((1, 8, 1024, 80), (1, 8, 77, 80), (1, 8, 77, 80)))
    add("attention", ((1, 12, 1, 64), (1, 12, 256, 64), (1, 12, 256, 64)))
    add("split", (12, 64, 384), (1, 1, 2304))
    sizes = (
        (768, 128, 512),
        (4096, 384, 1536),
        (128, 784, 400),
        (128, 20, 400),
        (1, 768, 3072),
        (1, 320, 1280),
    )
    for n, k, m in sizes:
        add("linear", ((n, k), (m, k), (m,)))
        add("matmul", ((n, k), (k, m)))
    for n, steps, hidden in ((32, 64, 256), (64, 32, 128), (1, 32, 128), (16, 8, 64)):
        for layer, gates, states in (("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)):
            wide, state = gates * hidden, (n, hidden)
            shapes = (n, steps, hidden), (wide, hidden), (wide,), (wide, hidden), (wide,)
            add(layer, (*shapes, *[state] * states))
    return found


OPS = {
    "convolution": "conv2d",
    "transposed_convolution": "conv_transpose2d",
    "correlation": "conv2d",  # backward
    "max_pool": "max_pool2d",
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
        raise RuntimeError(f"benchmarks/kernels.py has no case for {', '.join(missing)}: add one")


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

    def split(x: Any) -> Any:
        q, k, v = ops.split(x, 3, axis=-1)
        return q + k + v

    def recurrent(cell: Any) -> Callable[..., Any]:
        return lambda x, w, b, u, c, *state: cell(ops.linear(x, w, b), u, c, *state)[0]

    return {
        **{layer: getattr(ops, layer) for layer in {case.layer for case in cases()} - {"max_pool2d"}},
        "max_pool2d": lambda x, kernel, stride, padding=0: ops.max_pool2d(x, kernel, stride, padding),
        "group_norm": lambda x, weight, bias, groups: ops.group_norm(x, groups, weight, bias),
        "embedding": lambda table, ids: ops.embedding(table, numbers(ids, len(table))),
        "cross_entropy": lambda x: ops.cross_entropy(x, numbers(x.shape[:-1], x.shape[-1])),
        "bce_with_logits": lambda x: ops.bce_with_logits(x, numbers(x.shape, 2).astype(np.float32)),
        "split": split,
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
        "linear": F.linear,
        "matmul": torch.matmul,
        "rnn": recurrent(torch.rnn_tanh),
        "gru": recurrent(torch.gru),
        "lstm": recurrent(torch.lstm),
    }
