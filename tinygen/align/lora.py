"""LoRA: low-rank adaptation. Fine-tune a model by adding a product of two narrow matrices to each of its
weight matrices (Hu et al. 2021, arXiv:2106.09685).

    model = GPT.from_pretrained(folder)
    add_lora(model, rank=8, alpha=16, rng=0)                    # all but the adapters is frozen
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    ...
    save_adapters(model, "adapters")                            # a hundredth of the model
    merge_lora(model)                                           # as fast as without adapters
    model.save_pretrained("merged")                             # the whole model, adapters in its weights
    unload_lora(model)                                          # plain layers again

With the adapters switched off (`without_adapters`), the model computes the same as before. So methods that
need a reference policy need no second model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.nn import Buffer, Dropout, Linear, Module, Parameter, init
from tinygen.nn.module import cast, computing_dtype
from tinygen.ops.random import RNGLike, as_generator, require_dropout
from tinygen.tensor import Tensor
from tinygen.types import TensorLike

ADAPTERS = ("lora_a", "lora_b")


class LoRALinear(Module):
    """A Linear with an adapter: x (W + (alpha/rank) B A)ᵀ + b, with A (rank, in) and B (out, rank). B starts
    at 0, so that at first the layer is equal to the Linear. The Linear is frozen, A and B are trained.

    A is initialized uniformly in ±1/sqrt(in), as in peft and in the authors' code; section 4.1 has a normal
    distribution without a stated width. `dropout` is the dropout rate of the adapter's input.

    Raises ValueError for an impossible rank, alpha or dropout.

    Eq.: h = W x + (alpha / r) B A x  (Hu et al. 2021, section 4.1)
    Held by: tests/align/test_lora.py::test_the_definition
    """

    def __init__(self, base: Linear, rank: int, alpha: float, dropout: float = 0.0, *, rng: RNGLike) -> None:
        require_possible(base, rank, alpha, dropout)
        self.base, rng = base.freeze(), as_generator(rng)
        (out_features, in_features), dtype = base.weight.shape, computing_dtype(base.weight)
        self.lora_a = Parameter(init.fan_in_uniform((rank, in_features), in_features, rng=rng), dtype)
        self.lora_b = Parameter(init.zeros((out_features, rank)), dtype)
        self.drop = Dropout(dropout, rng=rng)
        self.alpha = Buffer(np.array(alpha, dtype))  # buffers, since the output depends on both:
        self.lora_merged = Buffer(np.array(False))  # they belong to the state
        self.enabled = True
        self.seen, self.known = self.lora_merged.data, False

    @property
    def rank(self) -> int:
        """The number of rows of A and of columns of B."""
        return self.lora_a.shape[0]

    @property
    def weight(self) -> Parameter:
        """The Linear's weight, for callers that need its shape, dtype or device."""
        return self.base.weight

    @property
    def merged(self) -> bool:
        """Whether the weight of the Linear holds the adapter."""
        if self.lora_merged.data is not self.seen:  # read once: on a GPU each read would synchronize
            self.seen, self.known = self.lora_merged.data, bool(self.lora_merged.item())
        return self.known

    def forward(self, x: TensorLike) -> Tensor:
        """x Wᵀ + b + scale · (x Aᵀ) Bᵀ; without the last term if the adapter is switched off."""
        x = cast(x, self.base.weight)
        y = self.base(x)
        if self.enabled == self.merged:
            return y
        if self.merged:  # switched off: subtract it from y, since subtracting from the weight would round
            return y - self.product(x, self.lora_a.detach(), self.lora_b.detach())
        return y + self.product(self.drop(x), self.lora_a, self.lora_b)

    def product(self, x: TensorLike, a: Tensor, b: Tensor) -> Tensor:
        """(alpha/rank) x Aᵀ Bᵀ."""
        return self.alpha / self.rank * ops.linear(ops.linear(x, a), b)

    def merge(self) -> None:
        """Add the adapter into the weight. It then costs no time, and cannot be trained."""
        if not self.merged:
            self.base.weight.data = self.base.weight.data + self.change()
            self.lora_merged.data = np.full_like(self.lora_merged.data, True)

    def unmerge(self) -> None:
        """Subtract the adapter from the weight again, which is then as before up to rounding."""
        if self.merged:
            self.base.weight.data = self.base.weight.data - self.change()
            self.lora_merged.data = np.full_like(self.lora_merged.data, False)

    def change(self) -> Any:
        """(alpha/rank) B A (out, in), the adapter's change of the weight."""
        return self.alpha.data / self.rank * (self.lora_b.data @ self.lora_a.data)

    def extra_repr(self) -> str:
        return f"rank {self.rank}, alpha {self.alpha.item():g}" + (", merged" if self.merged else "")


def require_possible(layer: Any, rank: int, alpha: float, dropout: float) -> None:
    """ValueError or TypeError unless `layer` can have an adapter of this rank, alpha and dropout."""
    if not isinstance(layer, Linear):
        raise TypeError(f"adapters are for Linear layers, this is a {type(layer).__name__}")
    most = min(layer.weight.shape)
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank <= most:
        raise ValueError(f"rank must be from 1 to {most}, got {rank}")
    if not isinstance(alpha, int | float | np.number) or not 1e-30 < alpha < 1e30:  # within float32's range
        raise ValueError(f"alpha must be a number above 0, and below 1e30, got {alpha!r}")
    require_dropout(dropout)


def add_lora(
    model: Module,
    rank: int,
    alpha: float,
    *,
    targets: str | Sequence[str] = "",
    dropout: float = 0.0,
    rng: RNGLike,
) -> list[str]:
    """Freeze the model, and add an adapter to every Linear whose name ends with one of `targets`: "" for all,
    or "qkv", or ["attn.proj", "mlp.fc"]. Returns the names.

    A Linear whose weight is used elsewhere (GPT's head, tied to the embedding) gets none: merging would
    change the other use. Raises ValueError when no Linear ends with a target, and when the model has adapters
    already; TypeError for a Linear in a tuple, which cannot be replaced. After an error, nothing has
    changed."""
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    layers = adaptable_layers(model)
    lost = [end for end in targets if not any(name.endswith(end) for name in layers)]
    if lost or not targets:
        raise ValueError(f"no Linear with a weight of its own ends with one of {lost}; targets={targets}")
    chosen = {name: layer for name, layer in layers.items() if name.endswith(targets)}
    return list(attach(model, chosen, rank, alpha, dropout, as_generator(rng)))


def adaptable_layers(model: Module) -> dict[str, Linear]:
    """All Linears with a weight of their own, by name. ValueError when the model has adapters."""
    if any(adapters(model)):
        raise ValueError(
            "the model has adapters already: unload_lora(model) takes them out, and what they have learned "
            "with them unless merge_lora(model) comes first"
        )
    uses = Counter(id(t) for _, t in model.named_tensors(Parameter))
    return {
        f"{path}.{name}" if path else name: child
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if isinstance(child, Linear) and uses[id(child.weight)] == 1
    }


def attach(
    model: Module,
    layers: Mapping[str, Linear],
    rank: int,
    alpha: float,
    dropout: float,
    rng: np.random.Generator,
) -> dict[str, LoRALinear]:
    """Freeze the model and add adapters to these of its Linears. Returns {name: adapter}. ValueError or
    TypeError, with nothing changed, if one of them is impossible."""
    for name, layer in layers.items():
        require_possible(layer, rank, alpha, dropout)
        model.replace_module(name, layer)  # a check: replace it by itself, which is impossible in a tuple
    model.freeze()
    placed = {}
    for name, layer in layers.items():
        adapted = LoRALinear(layer, rank, alpha, dropout, rng=rng)
        placed[name] = adapted.to(layer.weight.device).train(layer.training)
        model.replace_module(name, placed[name])
    return placed


def adapters(model: Module) -> list[LoRALinear]:
    """Every LoRALinear in the model, each once."""
    return [module for _, module in model.named_modules() if isinstance(module, LoRALinear)]


def merge_lora(model: Module) -> None:
    """Merge all adapters into their weights."""
    for adapter in adapters(model):
        adapter.merge()


def unmerge_lora(model: Module) -> None:
    """Subtract all adapters from the weights again."""
    for adapter in adapters(model):
        adapter.unmerge()


def unload_lora(model: Module) -> list[str]:
    """Replace each LoRALinear by its Linear with its present weight: after `merge_lora(model)` the
    fine-tuned weight, otherwise the weight before `add_lora`. Returns their names.

    The parameters stay frozen; `model.unfreeze()` makes them trainable."""
    if isinstance(model, LoRALinear):
        raise ValueError("this is an adapter itself, not a model that holds some: take its `base`")
    names = []
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                parent.replace_module(name, child.base)
                names.append(f"{path}.{name}" if path else name)
    return names


@contextmanager
def without_adapters(model: Module) -> Iterator[None]:
    """Switch all adapters off, merged or not: the model computes the same as before `add_lora`. Weights do
    not change. These blocks can be nested."""
    before = [(adapter, adapter.enabled) for adapter in adapters(model)]
    try:
        for adapter, _ in before:
            adapter.enabled = False
        yield
    finally:
        for adapter, enabled in before:
            adapter.enabled = enabled


# -- saving and loading ----------------------------------------------------------------------------


def lora_state(model: Module) -> dict[str, np.ndarray[Any, Any]]:
    """The adapters' matrices alone, by name, without rank and alpha. `save_adapters` of
    `models/huggingface/peft.py` writes a folder with everything."""
    return {name: x for name, x in model.state_dict().items() if name.endswith(ADAPTERS)}


def load_lora_state(model: Module, state: Mapping[str, Any]) -> None:
    """Load adapters from `lora_state` of a model of the same shape, rank and alpha. Raises ValueError, with
    nothing changed, when a name or a shape does not fit, or when adapters are merged (the weights hold the
    old ones)."""
    if any(adapter.merged for adapter in adapters(model)):
        raise ValueError("adapters are merged into the weights: unmerge_lora(model) before others are loaded")
    ours = model.state_dict()
    if missing := [name for name in ours if name.endswith(ADAPTERS) and name not in state]:
        raise ValueError(f"the state lacks adapters that the model has: {missing}")
    model.load_state_dict({**ours, **state})


def merged_state(model: Module) -> dict[str, np.ndarray[Any, Any]]:
    """{name: array} of parameters and buffers as after `unload_lora`, for files without adapters. Arrays on
    the CPU are the model's own. Raises ValueError when adapters are not merged."""
    places = {path: m for path, m in model.paths() if isinstance(m, LoRALinear)}
    if left := [path for path, adapter in places.items() if not adapter.merged]:
        raise ValueError(
            f"{len(left)} adapters are not merged and would be lost, the first beside {left[0]}: "
            "merge_lora(model) to save them in the weights, unload_lora(model) to save the model without "
            "them, or save_adapters(model, folder) to save them alone"
        )
    state = {}
    for name, t in model.named_tensors(Parameter, Buffer):
        path, _, last = name.rpartition(".")
        if path not in places:
            beside = path.removesuffix(".base")
            state[f"{beside}.{last}" if beside in places else name] = t.numpy()
    return state
