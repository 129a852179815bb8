"""Exercises on whole Transformers: GPT, Llama, and LoRA beside their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygen.align.lora import LoRALinear
from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.llama import LlamaBlock, LlamaConfig
from tinygen.nn import Linear


def gpt(**options: Any) -> GPT:
    return GPT(GPTConfig(vocab_size=50, block_size=16, n_layer=2, n_head=2, n_embd=32, **options), rng=0)


def spreads(initialize: Callable[..., Any]) -> dict[str, float]:
    """The root of the mean square of each parameter of a GPT after `initialize`."""
    model = gpt()
    for p in model.parameters():
        p.data = np.ones_like(p.data)
    initialize(model, rng=0)
    return {name: float(np.sqrt(np.mean(p.data**2))) for name, p in model.named_parameters()}


GPT_INIT = Exercise(
    "gpt_init",
    "tinygen.models.language.gpt:GPT.initialize",
    "the initial weights of GPT-2",
    hints=(
        "Each block adds twice to the stream, and variances of independent terms add up. What keeps the sum "
        "as large as its first term?",
        "N(0, 0.02²) for matrices, but 0.02/√(2 L) for those that are added to the stream, whose names end "
        "in proj.weight. Biases are 0; the weights of norms stay.",
        "For each p of self.named_parameters(): if p.ndim == 2, draw p.data with rng.standard_normal and "
        "scale it; elif the name ends with bias: zeros.",
    ),
    given=lambda: {"spreads": spreads},
    checks=(Values("spreads(initialize)", within=0.1),),
    mistakes=(
        Mistake(
            "math.sqrt(2 * self.config.n_layer)",
            "math.sqrt(self.config.n_layer)",
            "",
            "a block is taken to add once to the stream; it adds twice",
        ),
        Mistake(
            '0.02 / math.sqrt(2 * self.config.n_layer) if name.endswith("proj.weight") else 0.02',
            "0.02",
            "the factor is 2",
            "the matrices that are added to the stream are as large as the others",
        ),
        Mistake(
            "p.data = np.zeros_like(p.data)",
            "p.data = 0.02 * np.ones_like(p.data)",
            "expected 0",
            "the biases do not start at 0",
        ),
    ),
)

FLOPS = Exercise(
    "flops_per_token",
    "tinygen.models.language.gpt:GPT.flops_per_token",
    "the operations of a training step",
    hints=(
        "A weight is used once for a token, in one product and one sum. How often in the backward pass?",
        "6 N: two operations forward, four backward. Attention adds 12 L C T: for the scores and for the "
        "values, each 2 C T forward and twice that backward. Looking up an embedding costs nothing.",
        "weights = self.num_parameters() less the positions, and less the token embedding unless it is also "
        "the last projection; 6 * weights + 12 * n_layer * n_embd * block_size.",
    ),
    given=lambda: {"tied": gpt(), "untied": gpt(tie_weights=False)},
    checks=(Values("flops_per_token(tied)"), Values("flops_per_token(untied)")),
    mistakes=(
        Mistake("6 * weights", "2 * weights", "", "only the forward pass of the weights is counted"),
        Mistake("12 * c.n_layer", "6 * c.n_layer", "", "attention has two products, and one is counted"),
        Mistake(
            "self.num_parameters() - self.wpe.weight.size",
            "self.num_parameters()",
            "",
            "the positions are looked up, not multiplied, and are counted",
        ),
    ),
)


def block() -> LlamaBlock:
    """A block whose two norms have different weights."""
    made = LlamaBlock(LlamaConfig(vocab_size=5, channels=8, heads=2), rng=0).astype(np.float64)
    made.norm1.weight.data, made.norm2.weight.data = 1 + numbers(8) / 4, 1 - numbers(8) / 4
    return made


LLAMA_BLOCK = Exercise(
    "llama_block",
    "tinygen.models.language.llama:LlamaBlock.forward",
    "a block of Llama: what is added to the stream",
    hints=(
        "The stream itself is never normalized. What is?",
        "x + attn(norm1(x)), and then the same with the perceptron and the second norm, of the new x.",
        "x = x + self.attn(self.norm1(x), cache, mask); return x + self.mlp(self.norm2(x)).",
    ),
    given=lambda: {"block": block(), "x": numbers(2, 3, 8)},
    checks=(Values("forward(block, x)"), Values("forward(block, 10 * x)")),
    mistakes=(
        Mistake(
            "x = x + self.attn(self.norm1(x), cache, mask)",
            "x = self.norm1(x + self.attn(x, cache, mask))",
            "",
            "the norm comes after the sum, as in the Transformer of 2017",
        ),
        Mistake("return x + self.mlp", "return self.mlp", "", "the stream is not added to the perceptron"),
        Mistake("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))", "", "both halves use the first norm"),
    ),
)


def adapter() -> LoRALinear:
    """An adapter that has been trained, of rank 2 and alpha 3, beside a layer of 4 by 4."""
    made = LoRALinear(Linear(4, 4, rng=0).astype(np.float64), 2, 3.0, rng=0)
    made.lora_b.data = numbers(4, 2)
    return made


LORA = Exercise(
    "lora",
    "tinygen.align.lora:LoRALinear.product",
    "what an adapter adds to its layer",
    hints=(
        "A matrix of rank r is a product of two narrow ones. It costs less to apply one after the other "
        "than to multiply them first.",
        "(alpha / rank) x Aᵀ Bᵀ with A (rank, in) and B (out, rank).",
        "self.alpha / self.rank * ops.linear(ops.linear(x, a), b).",
    ),
    given=lambda: {"layer": adapter(), "x": numbers(3, 4), "a": numbers(2, 4), "b": numbers(4, 2)},
    checks=(Values("product(layer, x, a, b)"),),
    mistakes=(
        Mistake("self.alpha / self.rank", "self.alpha", "factor 2", "the product is not divided by the rank"),
        Mistake(
            "self.alpha / self.rank",
            "self.rank / self.alpha",
            "every entry has the factor 4/9",
            "the factor is upside down",
        ),
        Mistake(
            "ops.linear(x, a)",
            "ops.relu(ops.linear(x, a))",
            "the factor is the same",
            "something nonlinear is between A and B: it could not be merged into the weight",
        ),
    ),
)

LORA_MERGE = Exercise(
    "lora_merge",
    "tinygen.align.lora:LoRALinear.change",
    "the adapter as a change of the weight",
    hints=(
        "The layer computes x Wᵀ. With which W does it compute what layer and adapter compute together?",
        "x Wᵀ + s x Aᵀ Bᵀ = x (W + s B A)ᵀ, s = alpha / rank.",
        "self.alpha.data / self.rank * (self.lora_b.data @ self.lora_a.data).",
    ),
    given=lambda: {"layer": adapter()},
    checks=(Values("change(layer)"),),
    mistakes=(
        Mistake(
            "(self.lora_b.data @ self.lora_a.data)",
            "(self.lora_b.data @ self.lora_a.data).T",
            "it is the transpose",
            "it is (B A)ᵀ: the weight is (out, in)",
        ),
        Mistake(
            "self.alpha.data / self.rank", "self.alpha.data", "factor 2", "alpha is not divided by the rank"
        ),
        Mistake(
            "self.alpha.data / self.rank *",
            "",
            "the factor",
            "the product B A is not scaled",
        ),
    ),
)

CHAPTER = Chapter("GPT, Llama and LoRA", (GPT_INIT, FLOPS, LLAMA_BLOCK, LORA, LORA_MERGE))
