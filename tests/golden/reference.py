"""References: functions of the weights w, {name in tinygen: tensor}, and of the inputs. They return
outputs; torch computes the gradients."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as f
from golden import cases, models
from torch.func import functional_call

from tinygen import nn
from tinygen.models.huggingface.diffusers import sources

Weights = dict[str, torch.Tensor]
CASES = {**cases.CASES, **models.CASES}
REFERENCES: dict[str, Callable[..., Any]] = {}


def reference(*names: str) -> Callable[[Any], Any]:
    return lambda function: [REFERENCES.update({name: function}) for name in names] and function


def at(w: Weights, path: str) -> Weights:
    """The weights below a path, by their names there."""
    return {name.removeprefix(f"{path}."): t for name, t in w.items() if name.startswith(f"{path}.")}


def called(module: torch.nn.Module, weights: Weights, *inputs: Any, **more: Any) -> Any:
    """torch's module with these weights, which must be all that it has."""
    module.double()
    assert set(weights) >= {name for name, _ in module.named_parameters()}, (weights.keys(), module)
    return functional_call(module, {**dict(module.named_buffers()), **weights}, inputs, more, strict=True)


def like_diffusers(module: nn.Module, w: Weights) -> Weights:
    """The weights of one of our modules under diffusers' names."""
    ours = {id(p): name for name, p in module.named_parameters()}
    return {
        their: part
        for p, names in sources(module)
        for their, part in zip(names, w[ours[id(p)]].chunk(len(names)), strict=True)
    }


def linear(w: Weights, name: str, x: Any) -> Any:
    return f.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))
