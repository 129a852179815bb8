"""The transformer block, with the layer norms before attention and MLP: pre-LN (GPT-2: Radford et al.
2019, section 2.3; why it trains without a long warm-up: Xiong et al. 2020, arXiv:2002.04745)."""

from __future__ import annotations

from tinygen import ops
from tinygen.nn.attention import KVCache, MultiHeadAttention
from tinygen.nn.dropout import Dropout
from tinygen.nn.linear import Linear
from tinygen.nn.module import Module, cast
from tinygen.nn.norm import LayerNorm
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Mask, TensorLike


class MLP(Module):
    """Linear, GELU, Linear, four times as wide inside: (..., C) -> (..., C). `gelu` is "tanh", the
    formula that GPT-2 uses, or "none", the exact one (`ops.gelu`)."""

    def __init__(self, channels: int, bias: bool = True, gelu: str = "tanh", *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        self.fc = Linear(channels, 4 * channels, bias, rng=rng)
        self.proj = Linear(4 * channels, channels, bias, rng=rng)
        self.gelu = gelu

    def forward(self, x: TensorLike) -> Tensor:
        return self.proj(ops.gelu(self.fc(x), self.gelu))


class SwiGLU(Module):
    """down(silu(gate(x)) · up(x)), `hidden` wide inside: (..., C) -> (..., C). The gate scales each entry
    of up(x) (Shazeer 2020, arXiv:2002.05202). Llama has it in place of the MLP.

    Eq.: FFN_SwiGLU(x) = (Swish(x W) ⊗ x V) W_2  (Shazeer 2020, eq. 6)
    Held by: tests/nn/test_grouped_attention.py::test_swiglu_by_hand
    """

    def __init__(self, channels: int, hidden: int | None = None, bias: bool = False, *, rng: RNGLike) -> None:
        rng = as_generator(rng)
        hidden = hidden or self.usual_width(channels)
        self.gate = Linear(channels, hidden, bias, rng=rng)
        self.up = Linear(channels, hidden, bias, rng=rng)
        self.down = Linear(hidden, channels, bias, rng=rng)

    @staticmethod
    def usual_width(channels: int) -> int:
        """8/3 channels, rounded up to a multiple of 16: three matrices of this width have about as many
        weights as two matrices of width 4 channels."""
        return -(-8 * channels // 48) * 16

    def forward(self, x: TensorLike) -> Tensor:
        return self.down(ops.silu(self.gate(x)) * self.up(x))


class Block(Module):
    """x += attn(ln1(x)); x += mlp(ln2(x)): (B, T, C) -> (B, T, C). With `causal`, position t attends to
    positions 0 ... t only (`ops.attention`); without, to all. `dropout` applies to the attention weights
    and to the output of both branches. The last layers of the two branches are `attn.proj` and `mlp.proj`.

    Eq.: x ← x + Attention(LN(x)),  x ← x + MLP(LN(x))  (Radford et al. 2019, section 2.3)
    Held by: tests/nn/test_transformer.py::test_block_is_its_formula
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        causal: bool,
        dropout: float = 0.0,
        bias: bool = True,
        use_rotary: bool = False,
        gelu: str = "tanh",
        norm_eps: float = 1e-5,
        rng: RNGLike,
    ) -> None:
        rng = as_generator(rng)
        self.ln1 = LayerNorm(channels, bias, norm_eps)
        self.attn = MultiHeadAttention(channels, heads, causal, dropout, bias, use_rotary, rng=rng)
        self.ln2 = LayerNorm(channels, bias, norm_eps)
        self.mlp = MLP(channels, bias, gelu, rng=rng)
        self.dropout = Dropout(dropout, rng=rng)

    def forward(self, x: TensorLike, mask: Mask | None = None, cache: KVCache | None = None) -> Tensor:
        x = cast(x, self.ln1.weight)
        x = x + self.dropout(self.attn(self.ln1(x), mask, cache))
        return x + self.dropout(self.mlp(self.ln2(x)))
