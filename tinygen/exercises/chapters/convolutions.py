"""Exercises on convolutions, and on the blocks of the UNet."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Gradient, Mistake, Values
from tinygen.models.pictures.unet import Conditioning, UNetConfig, Up
from tinygen.nn import ResBlock
from tinygen.ops.window import Geometry
from tinygen.tensor import Tensor

PLAIN = Geometry((1, 1), (0, 0), (1, 1), 1)
WIDE = Geometry((2, 1), (1, 0), (1, 2), 2)
"""Stride 2 and padding 1 along one axis, dilation 2 along the other, and two groups of channels."""


def geometries() -> dict[str, Any]:
    return {"plain": PLAIN, "wide": WIDE}


POSITIONS = Exercise(
    "positions",
    "tinygen.ops.window:Geometry.positions",
    "the size of a map after a convolution",
    hints=(
        "How often does a kernel fit on a row? It lies at 0, at `stride`, at 2 · `stride`, ... while its "
        "last tap is still on the padded row.",
        "The padded row has n + 2 padding entries, and the kernel reaches over dilation · (k - 1) + 1 of "
        "them, which is self.span(kernel).",
        "(n + 2 * p - span) // s + 1 for each axis, as a tuple.",
    ),
    given=geometries,
    checks=(
        Values("positions(plain, (7, 5), (3, 2))"),
        Values("positions(wide, (7, 5), (3, 1))"),
        Values("positions(wide, (8, 9), (3, 3))"),
    ),
    mistakes=(
        Mistake(
            "n + 2 * p - span", "n + p - span", "the factor is 3/4", "the padding is counted on one side only"
        ),
        Mistake("// s + 1", "// s", "the factor is 4/5", "the position at the very beginning is not counted"),
        Mistake(
            "self.span(kernel)", "kernel", "the factor is 7/5", "the dilation does not spread the kernel"
        ),
    ),
)

CONV2D = Exercise(
    "conv2d",
    "tinygen.ops.conv:convolution",
    "a convolution as one matrix product, and its three rules",
    hints=(
        "Write what the kernel reads at each position into a column. Then all positions are one product.",
        "`unfold(x, kernel, geometry)` has the columns (groups, in/groups · taps, N · positions), and "
        "`kernel_rows(weight, groups)` the kernels as rows. The rule of x is the transposed convolution of "
        "g, that of the weight its correlation with x.",
        "y = kernel_rows(weight, groups) @ unfold(...), plus bias.reshape(groups, -1, 1), reshaped to (out, "
        "N, *positions) and its first two axes swapped; rules: transposed_convolution(g, weight, None, "
        "size, geometry), correlation(x, g, kernel, geometry), sum_over_positions.",
    ),
    given=lambda: {
        "x": numbers(2, 2, 4, 3),
        "weight": numbers(2, 2, 3, 2),
        "bias": numbers(2),
        "split": numbers(2, 1, 2, 2),
        **geometries(),
    },
    checks=(
        Values("convolution(x, weight, bias, plain)"),
        Values("convolution(x, split, bias, wide)"),
        Values("convolution(x, weight, None, plain)"),
        Gradient("convolution(x, weight, bias, plain)", by="x weight bias"),
        Gradient("convolution(x, split, bias, wide)", by="x split"),
    ),
    mistakes=(
        Mistake(
            "kernel_rows(weight, groups)",
            "kernel_rows(weight[:, :, ::-1, ::-1], groups)",
            "",
            "the kernel is flipped: this is the convolution of mathematics, and networks do not flip",
        ),
        Mistake(
            "y += bias.reshape(groups, -1, 1)",
            "y += 0 * bias.reshape(groups, -1, 1)",
            "",
            "the bias is not added",
        ),
        Mistake(
            "        sum_over_positions,",
            "        lambda g: g.mean(axis=(2, 3)).sum(axis=0),",
            "0.25 times",
            "the gradient of the bias is a mean over the positions instead of their sum",
        ),
    ),
)

FOLD = Exercise(
    "fold",
    "tinygen.ops.window:fold",
    "columns back into a map: the gradient of unfold",
    hints=(
        "`unfold` copied an entry into every patch that contains it. What is the gradient of an entry?",
        "Go through the taps of the kernel: for one tap, all patches lie at a fixed stride on the padded "
        "map, so that one slice takes them all. Add, since patches overlap.",
        "Tap t of a kernel is at t · dilation: x[:, :, a : a + s * (m - 1) + 1 : s] += patches[:, *tap] with "
        "a = t · d on each axis. At the end cut off the padding on both sides and swap the first two axes.",
    ),
    given=lambda: {"columns": numbers(1, 12, 24), "groups": numbers(2, 8, 18), **geometries()},
    checks=(
        Values("fold(columns, 2, (5, 5), (3, 2), plain)"),
        Values("fold(groups, 2, (5, 5), (2, 2), wide)"),
    ),
    mistakes=(
        Mistake("+= patches[:, *tap]", "= patches[:, *tap]", "", "overlapping patches overwrite one another"),
        Mistake(
            "[t * d for t, d in", "[t for t, d in", "", "the taps lie side by side: the dilation is left out"
        ),
        Mistake("slice(p, p + n) for n", "slice(0, n) for n", "", "the padding is cut off at the end only"),
    ),
)


def res_block(scale_shift: bool) -> ResBlock:
    """A block in which every weight has an effect."""
    block = ResBlock(4, 4, 3, scale_shift, groups=2, rng=0).astype(np.float64)
    block.conv2.weight.data = 0.3 * numbers(4, 4, 3, 3)
    return block


RES_BLOCK = Exercise(
    "res_block",
    "tinygen.nn.residual:ResBlock.forward",
    "the residual block of the UNet, which is told the time",
    hints=(
        "Two convolutions, each after a norm and a SiLU. The input is added at the end; the embedding comes "
        "in between.",
        "h = conv1(silu(norm1(x))). The embedding, emb(silu(e)) as (B, out, 1, 1), is added before norm2; "
        "with scale_shift it is split into two, and norm2(h) · (1 + scale) + shift.",
        "Then conv2(dropout(silu(h))), and x is added, or self.skip(x) if there is one. With self.emb None, "
        "nothing is added before norm2.",
    ),
    given=lambda: {
        "added": res_block(False),
        "scaled": res_block(True),
        "x": numbers(2, 4, 3, 3),
        "emb": numbers(2, 3),
    },
    checks=(Values("forward(added, x, emb)"), Values("forward(scaled, x, emb)")),
    mistakes=(
        Mistake(
            "return h + (x if self.skip is None else self.skip(x))",
            "return h",
            "",
            "the input is not added: there is no residual connection",
        ),
        Mistake(
            "* (1 + scale) + shift",
            "* scale + shift",
            "",
            "the scale takes the place of 1 + scale, so that an embedding of 0 erases the map",
        ),
        Mistake(
            "self.conv1(ops.silu(self.norm1(x)))",
            "ops.silu(self.norm1(self.conv1(x)))",
            "",
            "the convolution comes before its norm and SiLU instead of after them",
        ),
    ),
)


def level() -> Up:
    """A level of the way up, with two blocks."""
    return Up(UNetConfig(2, 2, 2, groups=1), [(6, 2), (4, 2)], False, True, rng=0).astype(np.float64)


SKIPS = Exercise(
    "skips",
    "tinygen.models.pictures.unet:Up.forward",
    "the way up of the UNet, with its skip connections",
    hints=(
        "On the way up the resolutions come in reverse. Which map of the way down has the resolution that is "
        "needed now?",
        "The last one of the list. Each block takes one off and has it behind its input, along the channels.",
        "for each i: x = self.apply_block(i, np.concatenate([x, skips.pop()], axis=1), conditioning); then "
        "self.upsample(x, size) if it is not None, with the size of the map that is now the last one.",
    ),
    given=lambda: {
        "up": level(),
        "x": Tensor(numbers(1, 4, 2, 2)),
        "told": Conditioning(Tensor(numbers(1, 8)), ()),
        "maps": [Tensor(numbers(1, 2, *sides, seed=i)) for i, sides in enumerate([(3, 4), (2, 2), (2, 2)])],
    },
    checks=(
        Values("forward(up, x, told, maps)"),
        Values("forward(up, x, told, maps); len(maps)"),
    ),
    mistakes=(
        Mistake("skips.pop()", "skips.pop(0)", "", "the first map of the list is taken instead of the last"),
        Mistake(
            "[x, skips.pop()]",
            "[skips.pop(), x]",
            "",
            "the map of the way down comes before the input instead of behind it",
        ),
        Mistake(
            "self.upsample(x, skips[-1].shape[2:])",
            "self.upsample(x)",
            "shape (1, 2, 4, 4), expected (1, 2, 3, 4)",
            "an odd side, which was rounded up on the way down, stays rounded up",
        ),
    ),
)

TIMESTEP_EMBEDDING = Exercise(
    "timestep_embedding",
    "tinygen.nn.timesteps:timestep_embedding",
    "a vector for the number of a step",
    hints=(
        "One number says little to a network. Waves of many lengths, read at t, are like the digits of t.",
        "Frequencies max_period^(-i/half), i = 0 … half - 1; cosines of t · frequency, then sines.",
        "frequencies = np.exp(-math.log(max_period) * np.arange(half) / half); angles = t[:, None] * "
        "frequencies; np.concatenate([np.cos(angles), np.sin(angles)], axis=1), float32.",
    ),
    given=lambda: {"t": np.array([0, 1, 7, 250])},
    checks=(
        Values("timestep_embedding(t, 8)", within=1e-5),
        Values("timestep_embedding(t, 6, 100.0)", within=1e-5),
        Values("str(timestep_embedding(t, 6).dtype)"),
    ),
    mistakes=(
        Mistake(
            "[np.cos(angles), np.sin(angles)]",
            "[np.sin(angles), np.cos(angles)]",
            "in other places",
            "the sines come first: it is the layout of DDPM's own code",
        ),
        Mistake(
            "np.arange(half) / half",
            "np.arange(half) / (half - 1)",
            "",
            "the exponents are i/(half - 1), so that the last frequency is 1/max_period",
        ),
        Mistake(
            "-math.log(max_period)",
            "math.log(max_period)",
            "",
            "the exponent lost its minus: the frequencies grow beyond 1",
        ),
    ),
)

CHAPTER = Chapter(
    "Convolutions and the UNet", (POSITIONS, CONV2D, FOLD, RES_BLOCK, SKIPS, TIMESTEP_EMBEDDING)
)
