"""Linear and Embedding: the two layers whose weight is one matrix."""

from __future__ import annotations

from tinygen import ops
from tinygen.nn import init
from tinygen.nn.module import Module, Parameter, cast, widen
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, TensorLike


class Linear(Module):
    """x Wᵀ + b: (..., in_features) -> (..., out_features), weight (out_features, in_features). Like every
    layer, it casts x to the dtype of its weight and computes in that dtype (`computing_dtype`).

    Weight and bias are initialized uniformly in ±1/sqrt(in_features), as in PyTorch."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.weight = Parameter(init.fan_in_uniform((out_features, in_features), in_features, rng=rng))
        self.bias = Parameter(init.fan_in_uniform((out_features,), in_features, rng=rng)) if bias else None

    def forward(self, x: TensorLike) -> Tensor:
        return ops.linear(cast(x, self.weight), self.weight, self.bias)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}" + (", bias=False" if self.bias is None else "")


class Embedding(Module):
    """One row of the weight (num_embeddings, embedding_dim) for each integer id: (...) -> (...,
    embedding_dim). The weight is initialized from N(0, 1), as in PyTorch.

    Raises IndexError for an id outside [0, num_embeddings)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.weight = Parameter(init.normal((num_embeddings, embedding_dim), rng=rng))

    def forward(self, ids: Ids) -> Tensor:
        return widen(ops.embedding(self.weight, ids))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))
