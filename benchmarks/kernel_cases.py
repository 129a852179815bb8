"""The layers and the shapes at which `python -m benchmarks kernels` measures the kernels.

The sizes come from GPTs, UNets on maps of 8×8 to 64×64, Stable Diffusion 1's layers, discriminators and
generators, a VAE, and LSTMs; one example, and many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Case(NamedTuple):
    layer: str
    shapes: tuple[Shape, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Like "conv2d: 16×64×32×32, 64×64×3×3, padding 1"."""
        shapes = ["×".join(map(str, shape)) for shape in self.shapes if len(shape) > 1]
        return f"{self.layer}: {', '.join([*shapes, *(f'{k} {v}' for k, v in self.options.items())])}"


def convolutions() -> list[Case]:
    """Images, channels in and out, size, kernel, stride, padding, of convolutions and of transposed ones."""
    forward = (
        (16, 3, 64, 32, 3, 1, 1),  # a UNet
        (16, 64, 64, 32, 3, 1, 1),
        (16, 64, 64, 32, 3, 2, 1),
        (16, 64, 128, 16, 3, 1, 1),
        (16, 64, 128, 16, 1, 1, 0),
        (16, 256, 128, 16, 3, 1, 1),
        (16, 128, 128, 8, 3, 1, 1),
        (16, 128, 128, 4, 3, 1, 1),
        (16, 128, 64, 8, 1, 1, 0),
        (4, 32, 32, 64, 3, 1, 1),
        (1, 64, 64, 32, 3, 1, 1),
        (1, 4, 320, 64, 3, 1, 1),  # Stable Diffusion 1
        (1, 320, 320, 64, 3, 1, 1),
        (1, 320, 320, 64, 3, 2, 1),
        (1, 320, 320, 64, 1, 1, 0),
        (1, 640, 640, 32, 3, 1, 1),
        (1, 1920, 640, 32, 1, 1, 0),
        (1, 1280, 1280, 16, 3, 1, 1),
        (1, 1280, 1280, 16, 3, 2, 1),
        (1, 1280, 1280, 8, 3, 1, 1),
        (2, 1280, 1280, 8, 3, 1, 1),
        (1, 2560, 1280, 8, 3, 1, 1),
        (1, 2560, 1280, 8, 1, 1, 0),
        (64, 3, 32, 32, 4, 2, 1),  # discriminators and judges
        (64, 32, 64, 16, 4, 2, 1),
        (64, 32, 64, 8, 4, 2, 1),
        (64, 64, 128, 8, 4, 2, 1),
        (64, 64, 128, 4, 4, 2, 1),
        (64, 128, 256, 4, 4, 1, 0),
        (64, 32, 32, 8, 3, 2, 1),
        (64, 16, 32, 8, 3, 2, 1),
        (64, 1, 16, 8, 3, 1, 1),
        (1, 64, 128, 8, 4, 2, 1),
    )
    transposed = (
        (64, 128, 64, 2, 4, 2, 1),
        (64, 64, 32, 8, 4, 2, 1),
        (64, 64, 32, 16, 4, 2, 1),
        (64, 32, 3, 16, 4, 2, 1),
        (64, 100, 128, 1, 4, 1, 0),
        (1, 64, 32, 8, 4, 2, 1),
    )
    cases = []
    for n, into, out, size, k, stride, padding in forward:
        shapes = (n, into, size, size), (out, into, k, k), (out,)
        cases.append(Case("conv2d", shapes, {"stride": stride, "padding": padding}))
    for n, into, out, size, k, stride, padding in transposed:
        shapes = (n, into, size, size), (into, out, k, k), (out,)
        cases.append(Case("conv_transpose2d", shapes, {"stride": stride, "padding": padding}))
    apart = ((16, 64, 16, 16), (64, 1, 3, 3), (64,)), {"padding": 1, "groups": 64}
    line = ((16, 64, 256), (64, 64, 3), (64,)), {"padding": 1}
    return [*cases, Case("conv2d", *apart), Case("conv1d", *line)]


def cases() -> list[Case]:
    found = convolutions()

    def add(layer: str, *shapes: Shape | tuple[Shape, ...], **options: Any) -> None:
        """A case for each of the shapes of the first array, or for each tuple of shapes."""
        for s in shapes:
            found.append(Case(layer, s if isinstance(s[0], tuple) else (s,), options))

    maps = (16, 64, 32, 32), (16, 128, 8, 8), (1, 320, 64, 64), (1, 1280, 8, 8)
    features = (64, 64, 16, 16), (64, 128, 8, 8), (64, 256, 4, 4), (1, 64, 16, 16)
    rows = (768, 128), (4096, 384), (1, 768)
    for shape in maps:
        add("group_norm", (shape, shape[1:2], shape[1:2]), groups=32)
    add("batch_norm", *((shape, shape[1:2], shape[1:2]) for shape in (*features, (128, 400))))
    add("silu", *maps, (1, 1280), (768, 512))
    add("leaky_relu", *features, (128, 256))
    add("relu", *features, (128, 400))
    add("tanh", (64, 3, 32, 32), (128, 64))
    add("sigmoid", (128, 784), (64, 128))
    add("softplus", (128, 784), (64, 128))
    add("gelu", (768, 512), (4096, 1536), (1, 3072))
    add("gelu", (768, 512), (1, 3072), approximate="tanh")
    add("softmax", (12, 4, 64, 64), (16, 4, 256, 256), (64, 1000), (1, 50257))
    add("log_softmax", (768, 65), (64, 1000), (1, 50257))
    add("layer_norm", *((shape, shape[1:], shape[1:]) for shape in (*rows, (12, 512))))
    add("rms_norm", *((shape, shape[1:]) for shape in (*rows, (12, 512))))
    add("cross_entropy", (768, 65), (4096, 65), (64, 50257), (128, 10))
    add("bce_with_logits", (128, 784), (64, 1))
    add("embedding", (65, 128), ids=(12, 64))
    add("embedding", (65, 384), ids=(16, 256))
    add("embedding", (30522, 256), ids=(8, 128))
    add("embedding", (50257, 768), ids=(1, 1))
    add("max_pool2d", *features[:3], (1, 64, 16, 16), kernel=2, stride=2)
    add("max_pool2d", (64, 64, 16, 16), kernel=3, stride=2, padding=1)
    add("avg_pool2d", *features[:3], (1, 64, 16, 16), kernel=2)
    add("upsample_nearest", (16, 128, 8, 8), (16, 128, 16, 16), (1, 640, 32, 32), (1, 1280, 8, 8), scale=2)
    heads = (12, 4, 64, 32), (16, 6, 256, 64), (1, 12, 256, 64)
    add("attention", *((shape, shape, shape) for shape in heads), causal=True)
    add("rotary", *heads)
    add(
        "attention",
        *((shape, shape, shape) for shape in ((16, 4, 64, 32), (16, 4, 256, 32), (1, 8, 1024, 80))),
    )
    add("attention", ((1, 8, 1024, 80), (1, 8, 77, 80), (1, 8, 77, 80)))
    add("attention", ((1, 12, 1, 64), (1, 12, 256, 64), (1, 12, 256, 64)))
    add("split", (12, 64, 384), (1, 1, 2304))
    sizes = (
        (768, 128, 512),
        (4096, 384, 1536),
        (128, 784, 400),
        (128, 20, 400),
        (1, 768, 3072),
        (1, 320, 1280),
    )
    for n, k, m in sizes:
        add("linear", ((n, k), (m, k), (m,)))
        add("matmul", ((n, k), (k, m)))
    for n, steps, hidden in ((32, 64, 256), (64, 32, 128), (1, 32, 128), (16, 8, 64)):
        for layer, gates, states in (("rnn", 1, 1), ("gru", 3, 1), ("lstm", 4, 2)):
            wide, state = gates * hidden, (n, hidden)
            shapes = (n, steps, hidden), (wide, hidden), (wide,), (wide, hidden), (wide,)
            add(layer, (*shapes, *[state] * states))
    return found
