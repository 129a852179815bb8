"""WaveNet: a convolutional network that predicts a sequence from its past, made for sound.

van den Oord et al. 2016, *WaveNet: a generative model for raw audio* (arXiv:1609.03499). A layer looks at two
inputs only, the present one and the one `dilation` steps before it: a causal dilated convolution of width
2. With dilations 1, 2, 4, 8, ... the context doubles from layer to layer, and each layer costs the same. Each
layer has a gate, and is connected to the next layer (residual) and to the output (skip).

The network predicts a categorical distribution, also for sound: a sample of the wave is one of 256 codes. On
characters it is a language model.

The same code trains and generates. Before a text, each layer's past is zero. A generator keeps the past of
each layer, its last `dilation` inputs, so that a new token costs one step per layer (Le Paine et al. 2016,
*Fast WaveNet generation algorithm*, arXiv:1611.09482). `examples/pages/wavenet.py` has all of it on one page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen import nn, ops
from tinygen.models.language.causal_lm import LanguageModel
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Tensor
from tinygen.types import Ids, NumpyArray, TensorLike


class WaveNet(LanguageModel):
    """`model(idx, condition)` -> logits of the token that follows each token.

    `channels` is the width C of the layers, `skip_channels` the width S of the skip connections. There is one
    layer per entry of `dilations`. With `classes` > 0 the model has a condition: each token comes with the
    number of a class, such as the note that is played (section 2.5: local conditioning; if all tokens have
    the same class, it is the global one).

    Raises ValueError if there is no layer, or for a dilation below 1."""

    def __init__(
        self,
        vocab_size: int,
        channels: int = 32,
        skip_channels: int = 64,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
        classes: int = 0,
        *,
        rng: RNGLike,
    ) -> None:
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations must be numbers of at least 1, one per layer, got {dilations}")
        rng = as_generator(rng)
        self.classes = classes
        self.receptive_field = 1 + sum(dilations)  # tokens that a prediction depends on
        self.embedding = nn.Embedding(vocab_size, channels, rng=rng)
        self.layers = nn.ModuleList(
            GatedLayer(channels, skip_channels, dilation, classes, last=layer == len(dilations), rng=rng)
            for layer, dilation in enumerate(dilations, 1)
        )
        self.hidden = nn.Linear(skip_channels, skip_channels, rng=rng)
        self.head = nn.Linear(skip_channels, vocab_size, rng=rng)

    def forward(self, idx: Ids, condition: Any = None) -> Tensor:
        """Logits (B, T, V) for tokens idx (B, T). `condition` (B, T), in [0, classes), belongs to the tokens
        that are predicted: condition[b, t] to the token after idx[b, t]. Raises IndexError for tokens outside
        the vocabulary, ValueError for a condition that is missing, not wanted or of another shape."""
        return self.continue_from(idx, [layer.silence(len(idx)) for layer in self.layers], condition)[0]

    def continue_from(self, idx: Ids, past: list[Tensor], condition: Any) -> tuple[Tensor, list[Tensor]]:
        """The logits (B, T, V) after tokens idx (B, T), and the layers' new past. `past` has of each layer
        the last inputs, (B, dilation, C)."""
        self.check(idx, condition)
        x, skips, new = self.embedding(idx), [], []  # x (B, T, C)
        for layer, queue in zip(self.layers, past, strict=True):
            x, skip, queue = layer(x, queue, condition)  # (B, T, C), (B, T, S), (B, ..., C)
            skips.append(skip)
            new.append(queue)
        h = ops.relu(sum(skips[1:], skips[0]))  # (B, T, S)
        return self.head(ops.relu(self.hidden(h))), new

    def loss(self, idx: Ids, targets: TensorLike, condition: Any = None) -> Tensor:
        """The mean loss in nats: targets[b, t] is the token after idx[b, t], or -1 where it does not
        count."""
        return ops.cross_entropy(self(idx, condition), targets, ignore_index=-1)

    def reader(self, condition: Any = None) -> Callable[[Any], Any]:
        """As in `LanguageModel`. `condition` (B, N) has the classes of all tokens after the first one. It
        must reach as far as the text: N is at least the number of tokens that are read."""
        past: Any = None
        tokens = 0  # that were read

        def read(new: Ids) -> NumpyArray:
            nonlocal past, tokens
            past = past or [layer.silence(len(new)) for layer in self.layers]
            classes = None if condition is None else condition[:, tokens : tokens + new.shape[1]]
            logits, past = self.continue_from(new, past, classes)
            tokens += new.shape[1]
            return logits[:, -1].numpy()  # (B, V)

        return read

    def check(self, idx: Ids, condition: Any) -> None:
        """Raise ValueError unless the condition fits the model and the tokens."""
        if (condition is not None) != (self.classes > 0):
            raise ValueError(
                f"this WaveNet has {self.classes} classes, so it needs "
                + ("a condition: the class of each token" if self.classes else "no condition")
            )
        if condition is not None and np.shape(condition) != np.shape(idx):
            raise ValueError(
                f"each token needs its class: tokens {np.shape(idx)}, condition {np.shape(condition)}"
            )


class GatedLayer(nn.Module):
    """A causal dilated convolution with a gate (Figure 4 of the paper).

    With x_t the input and y_t the condition, a one-hot vector:

        z_t = tanh(W_f [x_{t-d}, x_t] + V_f y_t) ⊙ σ(W_g [x_{t-d}, x_t] + V_g y_t)
        output_t = x_t + W_r z_t,    skip_t = W_s z_t

    Eq.: z = tanh(W_f * x + V_f y) ⊙ σ(W_g * x + V_g y)  (van den Oord et al. 2016, section 2.5)
    Held by: tests/models/language/test_wavenet.py::test_a_layer_is_the_paper_s_formula_written_as_loops"""

    def __init__(
        self, channels: int, skip_channels: int, dilation: int, classes: int, last: bool, *, rng: RNGLike
    ) -> None:
        rng = as_generator(rng)
        self.dilation, self.channels = dilation, channels
        self.conv = nn.Linear(2 * channels, 2 * channels, rng=rng)
        self.condition = nn.Embedding(classes, 2 * channels, rng=rng) if classes else None
        self.residual = None if last else nn.Linear(channels, channels, rng=rng)  # the last has no next layer
        self.skip = nn.Linear(channels, skip_channels, rng=rng)

    def forward(self, x: TensorLike, queue: TensorLike, condition: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The output (B, T, C) and the skip (B, T, S) for x (B, T, C), and the new queue. `queue`
        (B, dilation, C) has the inputs just before x."""
        T = x.shape[1]
        inputs: Any = np.concatenate([queue, x], axis=1)  # (B, ..., C)
        a = self.conv(np.concatenate([inputs[:, :T], x], axis=-1))  # (B, T, 2C)
        if self.condition is not None:
            a = a + self.condition(condition)  # (B, T, 2C)
        f, g = np.split(a, 2, axis=-1)  # each (B, T, C)
        z = np.tanh(f) * ops.sigmoid(g)  # (B, T, C)
        output = x if self.residual is None else x + self.residual(z)  # (B, T, C)
        return output, self.skip(z), inputs[:, T:]

    def silence(self, batch: int) -> Tensor:
        """The queue before a text: zeros (B, dilation, C)."""
        weight = self.conv.weight
        return Tensor(np.zeros_like(weight.data, shape=(batch, self.dilation, self.channels)))
