"""The ops that `gpu_check` times, at sizes of real models, forward and backward, in tinygen and in PyTorch.

Bytes are counted as in the docstrings of the kernels, operations as in the matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gpu_stage import torch_here

from tinygen import Tensor, ops
from tinygen.arrays import to_device
from tinygen.optim import AdamW
from tinygen.tensor import Array

Call = Callable[[], Any]


class Work(NamedTuple):
    """The same on both sides: a call returns an array, and both must agree."""

    ours: Call
    torch: Call | None  # None where there is no PyTorch
    moved: float = 0.0  # bytes
    flops: float = 0.0


class Maker(NamedTuple):
    make: Callable[..., Work]  # of a device and sizes
    gpu: tuple[int, ...]
    small: tuple[int, ...]  # for the CPU

    def __call__(self, device: str) -> Work:
        return self.make(device, *(self.small if device == "cpu" else self.gpu))


WORKS: dict[str, Maker] = {}


def work(name: str, gpu: tuple[int, ...], small: tuple[int, ...]) -> Callable[..., Any]:
    """Decorate a function of a device and these sizes."""

    def add(make: Callable[..., Work]) -> Callable[..., Work]:
        WORKS[name] = Maker(make, gpu, small)
        return make

    return add


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def both_ways(device: str, ours: Any, theirs: Any, *inputs: Array, **counts: float) -> Work:
    """Forward, and backward from a random gradient, for float32 `inputs`; a call returns the first one's
    gradient. `theirs` is given `torch.nn.functional`, too."""
    leaves = [Tensor(to_device(x, device), requires_grad=True) for x in inputs]
    g = normal(*ours(*leaves).shape, seed=9)
    there = to_device(g, device)

    def call() -> Any:
        for leaf in leaves:
            leaf.grad = None
        ours(*leaves).backward(there)
        return leaves[0].grad

    torch = torch_here()
    if torch is None:
        return Work(call, None, **counts)
    tensors = [torch.tensor(x, device=device, requires_grad=True) for x in inputs]
    gradient = torch.tensor(g, device=device)

    def torch_call() -> Any:
        for tensor in tensors:
            tensor.grad = None
        theirs(torch.nn.functional, *tensors).backward(gradient)
        return tensors[0].grad

    return Work(call, torch_call, **counts)


@work("layer norm", gpu=(16384, 384), small=(3, 4))
def layer_norm(device: str, n: int, c: int) -> Work:
    theirs = lambda f, x, w, b: f.layer_norm(x, (c,), w, b)
    return both_ways(device, ops.layer_norm, theirs, normal(n, c), *normal(2, c, seed=1), moved=28 * n * c)


@work("group norm", gpu=(64, 128, 32), small=(2, 32, 2))
def group_norm(device: str, n: int, c: int, side: int) -> Work:
    ours = lambda x, w, b: ops.group_norm(x, 32, w, b)
    theirs = lambda f, x, w, b: f.group_norm(x, 32, w, b)
    x = normal(n, c, side, side)
    return both_ways(device, ours, theirs, x, *normal(2, c, seed=1), moved=28 * x.size)


@work("GELU", gpu=(16384, 1536), small=(3, 4))
def gelu(device: str, n: int, c: int) -> Work:
    return both_ways(device, ops.gelu, lambda f, x: f.gelu(x), normal(n, c), moved=20 * n * c)


@work("softmax", gpu=(98304, 256), small=(3, 4))
def softmax(device: str, n: int, c: int) -> Work:
    return both_ways(device, ops.softmax, lambda f, x: f.softmax(x, dim=-1), normal(n, c), moved=20 * n * c)


@work("attention", gpu=(64, 6, 256, 64), small=(1, 2, 3, 4))
def attention(device: str, batch: int, heads: int, t: int, d: int) -> Work:
    """As a GPT's: every token sees those before it."""
    ours = lambda q, k, v: ops.attention(q, k, v, causal=True)
    theirs = lambda f, q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=True)
    pairs = batch * heads * t * t
    qkv = normal(3, batch, heads, t, d)
    return both_ways(device, ours, theirs, *qkv, moved=64 * pairs, flops=12 * pairs * d)


def entropy(device: str, n: int, classes: int) -> Work:
    targets = np.random.default_rng(0).integers(classes, size=n)
    torch = torch_here()
    there = torch and torch.tensor(targets, device=device)
    ours = lambda x: ops.cross_entropy(x, targets)
    return both_ways(
        device, ours, lambda f, x: f.cross_entropy(x, there), normal(n, classes), moved=12 * n * classes
    )


work("cross-entropy, 50,257 classes", gpu=(2048, 50257), small=(3, 5))(entropy)
work("cross-entropy, 65 classes", gpu=(16384, 65), small=(3, 5))(entropy)


@work("convolution 3×3", gpu=(64, 128, 32), small=(1, 2, 3))
def convolution(device: str, n: int, c: int, side: int) -> Work:
    """Also its columns are counted: written and read, forward and backward."""
    ours = lambda x, w: ops.conv2d(x, w, padding=1)
    theirs = lambda f, x, w: f.conv2d(x, w, padding=1)
    x, weight = normal(n, c, side, side), normal(c, c, 3, 3, seed=1) / (3 * math.sqrt(c))
    columns = 9 * x.size
    return both_ways(device, ours, theirs, x, weight, moved=4 * 6 * columns, flops=6 * c * columns)


@work("linear", gpu=(16384, 384, 1536), small=(2, 3, 4))
def linear(device: str, n: int, into: int, out: int) -> Work:
    theirs = lambda f, x, w, b: f.linear(x, w, b)
    inputs = normal(n, into), normal(out, into, seed=1) / math.sqrt(into), normal(out, seed=2)
    moved, flops = 4 * 3 * (n * into + into * out + n * out), 6 * n * into * out
    return both_ways(device, ops.linear, theirs, *inputs, moved=moved, flops=flops)


def embedding(device: str, n: int, rows: int, c: int) -> Work:
    ids = np.random.default_rng(0).integers(rows, size=n)
    torch = torch_here()
    there = torch and torch.tensor(ids, device=device)
    ours, theirs = lambda w: ops.embedding(w, ids), lambda f, w: f.embedding(there, w)
    return both_ways(device, ours, theirs, normal(rows, c), moved=12 * n * c + 4 * rows * c)


work("embedding, 50,257 rows", gpu=(16384, 50257, 768), small=(5, 3, 4))(embedding)
work("embedding, 65 rows", gpu=(16384, 65, 384), small=(5, 3, 4))(embedding)


@work("Adam", gpu=(6, 384), small=(1, 4))
def adam(device: str, layers: int, c: int) -> Work:
    """A step for the parameters of a GPT of this shape."""
    each = [(3 * c, c), (3 * c,), (c, c), (c,), (4 * c, c), (4 * c,), (c, 4 * c), *[(c,)] * 5]
    arrays = [normal(*shape) for shape in each * layers]
    parameters = [Tensor(to_device(a, device), requires_grad=True) for a in arrays]
    for p in parameters:
        p.grad = p.data * np.float32(0.1)
    optimizer = AdamW(parameters)

    def call() -> Any:
        optimizer.step()
        return parameters[0].data

    torch = torch_here()
    moved = 28 * sum(a.size for a in arrays)
    if torch is None:
        return Work(call, None, moved)
    theirs = [torch.tensor(a, device=device, requires_grad=True) for a in arrays]
    for p in theirs:
        p.grad = 0.1 * p.detach()
    torch_optimizer = torch.optim.AdamW(theirs)

    def torch_call() -> Any:
        torch_optimizer.step()
        return theirs[0]

    return Work(call, torch_call, moved)
