"""LoRA: fine-tune a model by adding to its matrices small products of two narrow ones (Hu et al. 2021,
arXiv:2106.09685).

    model = GPT.from_pretrained(folder)
    add_lora(model, rank=8, alpha=16, rng=rng)                  # frozen but for the adapters
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    ...
    np.savez("adapters.npz", **lora_state(model))               # some hundredths of the model
    merge(model)                                                # as fast as it was before

With the adapters switched off, the model is what it was: the reference policy of every method here comes
free (`without_adapters`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.nn import Linear, Module, Parameter, init
from tinygen.tensor import Tensor

ADAPTERS = ("lora_a", "lora_b")


class LoRALinear(Module):
    """x (W + (alpha/rank) B A)ᵀ + b around a Linear: A is (rank, in), B is (out, rank) and starts at 0, so
    that the sum starts as the Linear alone. The Linear is frozen, A and B are trained."""

    def __init__(self, base: Linear, rank: int, alpha: float, *, rng: np.random.Generator) -> None:
        out_features, in_features = base.weight.shape
        if not 1 <= rank <= min(in_features, out_features):
            raise ValueError(f"rank must be from 1 to {min(in_features, out_features)}, got {rank}")
        self.base = base.freeze()
        dtype = base.weight.dtype
        self.lora_a = Parameter(init.fan_in_uniform(rng, (rank, in_features), in_features), dtype)
        self.lora_b = Parameter(init.zeros((out_features, rank)), dtype)
        self.scale = alpha / rank
        self.merged = False
        self.enabled = True

    def forward(self, x: Any) -> Tensor:
        y = self.base(x)
        if self.merged or not self.enabled:
            return y  # type: ignore[no-any-return]
        return y + self.scale * ops.linear(ops.linear(x, self.lora_a), self.lora_b)  # type: ignore[no-any-return]

    def merge(self) -> None:
        """Add the adapter into the weight, after which it costs nothing, and nothing can be learned."""
        if not self.merged:
            self.base.weight.data += self.scale * (self.lora_b.data @ self.lora_a.data)
            self.merged = True

    def unmerge(self) -> None:
        """Take it out again; the weight is what it was, up to rounding."""
        if self.merged:
            self.base.weight.data -= self.scale * (self.lora_b.data @ self.lora_a.data)
            self.merged = False

    def extra_repr(self) -> str:
        return f"rank {self.lora_a.shape[0]}, scale {self.scale:g}" + (", merged" if self.merged else "")


def add_lora(
    model: Module, rank: int, alpha: float, *, targets: tuple[str, ...] = ("",), rng: np.random.Generator
) -> list[str]:
    """Freeze the model, and put adapters beside every Linear whose name ends with one of `targets`: all of
    them, or ("qkv",), ("attn.proj", "mlp.fc"). Returns the names.

    A Linear whose weight is used elsewhere (GPT's head, tied to the embedding) is left alone: merging would
    change the other use. Raises ValueError when no Linear is left."""
    model.freeze()
    uses = Counter(id(t) for _, t in model.named_tensors(Parameter))
    names = []
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            full = f"{path}.{name}" if path else name
            if isinstance(child, Linear) and uses[id(child.weight)] == 1 and full.endswith(targets):
                adapted = LoRALinear(child, rank, alpha, rng=rng).to(child.weight.device)
                setattr(parent, name, adapted)
                names.append(full)
    if not names:
        raise ValueError(f"no Linear with a weight of its own ends with one of {targets}")
    return names


def adapters(model: Module) -> list[LoRALinear]:
    """Every LoRALinear in the model, each once."""
    return [module for _, module in model.named_modules() if isinstance(module, LoRALinear)]


def merge(model: Module) -> None:
    """Merge all adapters into their weights."""
    for adapter in adapters(model):
        adapter.merge()


def unmerge(model: Module) -> None:
    """Take all adapters out of the weights again."""
    for adapter in adapters(model):
        adapter.unmerge()


@contextmanager
def without_adapters(model: Module) -> Iterator[None]:
    """The model as it was before the adapters: they are switched off, and merged ones taken out."""
    before = [(adapter, adapter.merged, adapter.enabled) for adapter in adapters(model)]
    try:
        for adapter, _, _ in before:
            adapter.unmerge()
            adapter.enabled = False
        yield
    finally:
        for adapter, merged, enabled in before:
            adapter.enabled = enabled
            if merged:
                adapter.merge()


def lora_state(model: Module) -> dict[str, np.ndarray[Any, Any]]:
    """The adapters alone, by name: what has to be kept of a fine-tuned model."""
    return {name: x for name, x in model.state_dict().items() if name.endswith(ADAPTERS)}


def load_lora_state(model: Module, state: Mapping[str, Any]) -> None:
    """Take adapters from `lora_state` of a model of the same shape and rank. Raises ValueError when a name or
    a shape does not fit, or adapters are merged (their weights hold the old ones), having changed nothing."""
    if any(adapter.merged for adapter in adapters(model)):
        raise ValueError("adapters are merged into the weights: unmerge(model) before others are loaded")
    ours = model.state_dict()
    if missing := [name for name in ours if name.endswith(ADAPTERS) and name not in state]:
        raise ValueError(f"the state lacks adapters that the model has: {missing}")
    model.load_state_dict({**ours, **state})
