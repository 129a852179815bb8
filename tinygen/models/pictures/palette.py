"""Palette: from one picture to another by diffusion, such as from grey to color (Saharia et al. 2022,
arXiv:2111.05826).

A UNet removes noise from a picture, and sees a second picture beside it: the condition, concatenated along
the channels. It may be the grey picture, a small one made large, or one with a part missing. A mask says
which part has to be drawn. There x_t is noisy; everywhere else it is the known picture, in training as in
sampling. So the network does not have to guess the known part, and the loss is of the drawn part alone
(section 5.2). The paper gives the network no mask: it fills holes of the condition with noise instead.

Here one network does several tasks. It is told by a label which one is asked for, and whatever else a task
says in a word, such as the color.

Shapes: pictures and conditions (B, C, H, W), masks (B, 1, H, W) of bools, True where the model draws, labels
(B,) of ints; masks and labels are NumPy's arrays, also where the model is on a GPU. What the condition shows
where a known picture has a hole is the caller's choice, the same one in training and in sampling. Where the
whole picture has to be drawn, the mask is True everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinygen import nn, ops
from tinygen.diffusion import Process, Sampler, ddim, evenly_spaced, last_state
from tinygen.diffusion.loss import random_steps
from tinygen.models.pictures.unet import UNet
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator, noise_like
from tinygen.tensor import Array, Tensor
from tinygen.types import Ids, IdsLike, Mask, TensorLike


class Palette(nn.Module):
    """`model.loss(pictures, condition, mask, labels, rng=rng)` -> the loss;
    `model.sample(condition, mask, labels, rng=rng)` -> pictures.

    Raises ValueError unless the UNet has labels, and takes 2C + 1 channels where it makes C."""

    def __init__(self, unet: UNet, process: Process) -> None:
        c = unet.config
        if c.in_channels != 2 * c.out_channels + 1:
            raise ValueError(
                f"the UNet makes {c.out_channels} channels and takes {c.in_channels}: it needs "
                f"{2 * c.out_channels + 1} for the noisy picture, the condition and the mask"
            )
        if c.classes is None:
            raise ValueError(
                "the UNet was made without classes, which say the task: set classes in its config"
            )
        self.unet = unet
        self.process = process

    def forward(self, x: TensorLike, t: IdsLike, condition: Array, mask: Mask, labels: Ids) -> Tensor:
        """The prediction (ε, x_0 or v) for noisy pictures x at the steps t (B,). Outside of the mask the
        network gets the condition in place of x."""
        drawn = on_device_of(x, mask)
        seen = np.where(drawn, x, condition), condition, drawn.astype(condition.dtype)
        return self.unet(np.concatenate(seen, axis=1), t, labels)  # (B, 2C + 1, H, W)

    # -- training ----------------------------------------------------------------------------------

    def loss(self, pictures: Array, condition: Array, mask: Mask, labels: Ids, *, rng: RNGLike) -> Tensor:
        """`loss_at` for a random step and noise for each picture."""
        rng = as_generator(rng)
        t = random_steps(self.process, len(pictures), rng)
        return self.loss_at(pictures, condition, mask, labels, t, noise_like(pictures, rng))

    def loss_at(
        self, pictures: Array, condition: Array, mask: Mask, labels: Ids, t: IdsLike, eps: Array
    ) -> Tensor:
        """The squared error of the prediction at steps t (B,) with noise eps (B, C, H, W): the mean over the
        drawn part of each picture, then over the pictures, so that a small hole counts as much as a large
        one. Raises ValueError for a picture of which nothing is drawn.

        Eq.: L = E ‖m ⊙ (ε - ε_θ(m ⊙ x_t + (1 - m) ⊙ y, y, m, t))‖² / ‖m‖²  (Saharia et al. 2022, eq. 1 and
            section 5.2)
        Held by: tests/models/pictures/test_palette.py::test_the_loss_by_hand
        """
        process = self.process
        drawn = mask.sum(axis=(1, 2, 3), keepdims=True) * pictures.shape[1]  # (B, 1, 1, 1)
        if not drawn.all():
            raise ValueError(
                f"the mask of picture {int(drawn.argmin())} is False everywhere: nothing to draw"
            )
        weight = on_device_of(pictures, (mask / drawn).astype(pictures.dtype))  # (B, 1, H, W)
        prediction = self(
            process.diffuse(pictures, t, eps), process.schedule.timesteps[t], condition, mask, labels
        )
        errors = ops.mse(prediction, process.target(pictures, eps, t), "none")  # (B, C, H, W)
        return np.sum(errors * weight) / len(pictures)

    # -- sampling ----------------------------------------------------------------------------------

    def sample(
        self,
        condition: Array,
        mask: Mask,
        labels: Ids,
        *,
        rng: RNGLike,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Array:
        """A picture for each condition, from the noise that `rng` draws. Outside of the mask it is the
        condition, bit for bit. `sampler` takes so many `steps`: any of `tinygen.diffusion`'s, or a function
        of (process, model, x) that yields its states."""
        return last_state(self.sample_steps(condition, mask, labels, rng=rng, steps=steps, sampler=sampler))

    def sample_steps(
        self,
        condition: Array,
        mask: Mask,
        labels: Ids,
        *,
        rng: RNGLike,
        steps: int = 20,
        sampler: Sampler = ddim,
    ) -> Iterator[Array]:
        """The states of sampling: noise, then the picture after each step, each with the condition outside of
        the mask."""
        process = self.process.respace(evenly_spaced(len(self.process.schedule), steps))
        condition = on_device_of(self.unet.conv_in.weight, condition)
        x = noise_like(condition, as_generator(rng))
        drawn = on_device_of(condition, mask)
        yield np.where(drawn, x, condition)

        def model(x: Array, t: Ids) -> Tensor:
            return self(x, t, condition, mask, labels)

        for state in sampler(process, model, x):
            yield np.where(drawn, state, condition)
