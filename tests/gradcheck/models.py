"""Bugs inside larger models: in a GPT block and in a block of a UNet, one op is replaced by a wrong copy.

Most are made by spoiling what one rule of the right op returns; the rest have the value of one formula and
the gradient of another.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from planting import normal

import tinygen.ops.conv
from tinygen import nn, op, ops
from tinygen.ops.norm import standardize

rng = np.random.default_rng(1)

# -- the models ------------------------------------------------------------------------------------


class UNetBlock(nn.Module):
    """Convolution, group norm and SiLU; attention over the positions; down, up, and the skip beside it:
    (N, 4, 4, 4) -> (N, 4, 4, 4)."""

    def __init__(self) -> None:
        self.enter = nn.Conv2d(4, 4, 3, padding=1, rng=rng)
        self.norm = nn.GroupNorm(2, 4)
        self.qkv = nn.Conv2d(4, 12, 1, rng=rng)
        self.leave = nn.Conv2d(8, 4, 3, padding=1, rng=rng)

    def forward(self, x: Any) -> Any:
        n, c, height, width = x.shape
        skip = ops.silu(self.norm(self.enter(x)))
        q, k, v = np.split(self.qkv(skip).reshape(n, 3 * c, height * width), 3, axis=1)
        weights = ops.softmax(np.matmul(q.swapaxes(1, 2), k) * c**-0.5)
        seen = np.matmul(v, weights.swapaxes(1, 2)).reshape(n, c, height, width)
        deep = ops.upsample_nearest(ops.avg_pool2d(seen, 2), 2)
        return self.leave(np.concatenate([deep, skip], axis=1))


def gpt_block() -> tuple[nn.Module, np.ndarray]:
    return nn.Block(4, 2, causal=True, rng=np.random.default_rng(2)), normal(2, 3, 4)


def unet_block() -> tuple[nn.Module, np.ndarray]:
    return UNetBlock(), normal(2, 4, 4, 4)


# -- spoiling a right op ---------------------------------------------------------------------------


def twice(d: Any) -> Any:
    return 2 * d


def negated(d: Any) -> Any:
    return -d


def zeroed(d: Any) -> Any:
    return np.zeros_like(d)


def reversed_(d: Any) -> Any:
    return np.flip(d, -1)


def shifted(d: Any) -> Any:
    return np.roll(d, 1, -1)


def averaged(d: Any) -> Any:
    return np.broadcast_to(d.mean(axis=-1, keepdims=True), d.shape)


def without_its_first_entry(d: Any) -> Any:
    return d * (np.arange(d.shape[-1]) > 0)


def spoilt(right: Any, argument: int, mistake: Callable[[Any], Any]) -> Any:
    """`right` with the gradient of one argument put through `mistake`."""

    right_body = right.op.body

    @functools.wraps(right_body)
    def body(*xs: Any, **kwargs: Any) -> Any:
        value, *rules = right_body(*xs, **kwargs)
        if len(rules) == 1:
            rule = rules[0]

            def together(g: Any) -> Any:
                found = rule(g)
                if type(found) is not tuple:
                    return mistake(found)
                return tuple(mistake(d) if i == argument else d for i, d in enumerate(found))

            return value, together
        rule = rules[argument]
        rules[argument] = lambda g: mistake(rule(g))
        return value, *rules

    body.__name__ = f"{right.op.name}_{mistake.__name__}_{argument}"
    return op(body)


# -- one formula forward, another backward ---------------------------------------------------------

NAMES = ["gelu", "attention", "layer_norm", "linear", "group_norm", "softmax", "upsample_nearest"]
RIGHT = {name: getattr(ops, name).op.body for name in NAMES}


@op
def tanh_gelu_with_erf_backward(x, approximate):
    return RIGHT["gelu"](x, "tanh")[0], RIGHT["gelu"](x, "none")[1]


@op
def gelu_that_writes_into_what_comes_back(x, approximate):
    value, rule = RIGHT["gelu"](x, approximate)

    def dx(g):
        g *= rule(np.ones_like(g))
        return g

    return value, dx


@op
def gelu_that_is_twice_too_large_in_float32(x, approximate):
    value, rule = RIGHT["gelu"](x, approximate)
    return value, lambda g: rule(g) * (1 if g.dtype == np.float64 else 2)


@op
def attention_without_its_mask_backward(q, k, v, mask, causal, dropout, seed):
    body = RIGHT["attention"]
    return body(q, k, v, None, True)[0], body(q, k, v, None, False)[1]


@op
def attention_without_its_scale_backward(q, k, v, mask, causal, dropout, seed):
    value, backward = RIGHT["attention"](q, k, v, mask, causal)

    def unscaled(g):
        dq, dk, dv, _ = backward(g)
        return dq * q.shape[-1] ** 0.5, dk * q.shape[-1] ** 0.5, dv, None

    return value, unscaled


@op
def attention_with_queries_and_keys_swapped(q, k, v, mask, causal, dropout, seed):
    value, backward = RIGHT["attention"](q, k, v, mask, causal)
    return value, lambda g: tuple(backward(g)[i] for i in (1, 0, 2, 3))


@op
def layer_norm_without_the_mean_backward(x, weight, bias, eps):
    value, _, *rules = RIGHT["layer_norm"](x, weight, bias, eps)
    xhat, _ = standardize(x, -1, eps)
    inv = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)

    def dx(g):
        g = g * weight
        return inv * (g - xhat * (g * xhat).mean(axis=-1, keepdims=True))

    return value, dx, *rules


@op
def linear_with_the_bias_of_the_first_sequence(x, weight, bias):
    value, dx, dw, _ = RIGHT["linear"](x, weight, bias)
    return value, dx, dw, lambda g: g[0].sum(axis=0)


@op
def group_norm_back_over_one_group(x, groups, weight, bias, eps):
    body = RIGHT["group_norm"]
    return body(x, groups, weight, bias, eps)[0], *body(x, 1, weight, bias, eps)[1:]


@op
def softmax_without_a_gradient(x):
    return RIGHT["softmax"](x)[0], lambda g: np.zeros_like(g)


@op
def upsample_with_one_corner(x, scale):
    return RIGHT["upsample_nearest"](x, scale)[0], lambda g: g[:, :, ::scale, ::scale]


# -- all of them -----------------------------------------------------------------------------------


class Planted(NamedTuple):
    name: str  # of the wrong op
    model: Callable[[], tuple[nn.Module, np.ndarray]]
    place: Any  # where the right op is replaced: a module,
    attribute: str  # and its name there
    wrong: Any
    again: bool = False  # the mistake is planted in another op too, and the op has other mistakes

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        right = getattr(self.place, self.attribute)
        setattr(self.place, self.attribute, self.wrong)
        try:
            yield
        finally:
            setattr(self.place, self.attribute, right)


def planted(model: Any, wrong: Any, attribute: str, place: Any = ops) -> Planted:
    return Planted(wrong.op.name, model, place, attribute, wrong)


MISTAKES = [twice, negated, zeroed, reversed_, shifted, averaged, without_its_first_entry]


def spoilings(model: Any, attribute: str, arguments: int, first: Any, place: Any = ops) -> list[Planted]:
    """Every mistake, in turn on one of the arguments. All but the `first` are repeated with other ops."""
    right = getattr(place, attribute)
    return [
        planted(model, spoilt(right, i % arguments, mistake), attribute, place)._replace(
            again=mistake is not first
        )
        for i, mistake in enumerate(MISTAKES)
    ]


IN_MODELS = [
    *spoilings(gpt_block, "linear", 3, twice),
    *spoilings(gpt_block, "layer_norm", 3, negated),
    *spoilings(gpt_block, "attention", 3, zeroed),
    *spoilings(gpt_block, "gelu", 1, reversed_),
    planted(gpt_block, tanh_gelu_with_erf_backward, "gelu"),
    planted(gpt_block, gelu_that_writes_into_what_comes_back, "gelu"),
    planted(gpt_block, gelu_that_is_twice_too_large_in_float32, "gelu"),
    planted(gpt_block, attention_without_its_mask_backward, "attention"),
    planted(gpt_block, attention_without_its_scale_backward, "attention"),
    planted(gpt_block, attention_with_queries_and_keys_swapped, "attention"),
    planted(gpt_block, layer_norm_without_the_mean_backward, "layer_norm"),
    planted(gpt_block, linear_with_the_bias_of_the_first_sequence, "linear"),
    *spoilings(unet_block, "convolution", 3, shifted, tinygen.ops.conv),
    *spoilings(unet_block, "silu", 1, averaged),
    *spoilings(unet_block, "softmax", 1, without_its_first_entry),
    planted(unet_block, group_norm_back_over_one_group, "group_norm"),
    planted(unet_block, softmax_without_a_gradient, "softmax"),
    planted(unet_block, upsample_with_one_corner, "upsample_nearest"),
]
