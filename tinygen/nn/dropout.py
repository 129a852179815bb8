"""Dropout (Srivastava et al. 2014, JMLR 15, *Dropout: a simple way to prevent neural networks from
overfitting*)."""

from __future__ import annotations

from typing import Any

from tinygen import ops
from tinygen.nn.module import Module
from tinygen.ops.random import RNGLike, as_generator
from tinygen.types import TensorLike


class Dropout(Module):
    """In training, each entry is set to 0 with probability p, and divided by 1 - p otherwise. In evaluation
    mode, the identity. Raises ValueError unless 0 <= p < 1."""

    def __init__(self, p: float, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p}")
        self.p = p
        self.rng = rng

    def forward(self, x: TensorLike) -> Any:
        return ops.dropout(x, self.p, self.rng) if self.training else x

    def extra_repr(self) -> str:
        return f"{self.p}"
