"""Stable Diffusion: latent diffusion at the size of the published models (Rombach et al. 2022,
arXiv:2112.10752), put together from parts that were trained elsewhere.

The tokenizer and the text tower of a CLIP make a vector of each token of a prompt. A UNet that looks at these
vectors turns noise into a code, step by step, and the decoder of an autoencoder turns the code into a
picture. Each step is guided: away from the negative prompt, toward the prompt (Ho & Salimans 2022,
arXiv:2207.12598). How many steps there are, at which levels of noise, and by which method, is the
scheduler's part.

    text to image     from noise
    image to image    from a picture's code with noise; `strength` is the share of the steps that is made
    inpainting        only the hole is made anew. A UNet of nine channels, trained for it, sees the hole and
                      the code of the rest beside the noisy code. With one of four channels, the known part of
                      the code is put back after each step, with as much noise as the step ends with.

`models/huggingface/stable_diffusion.py` reads all parts from a folder of `diffusers`.

Shapes: B pictures (B, 3, H, W) with values in [-1, 1], their codes (B, Z, h, w) with h = H/8, prompts a list
of B texts, S tokens of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from tinygen import nn
from tinygen.diffusion import classifier_free_guidance, last_state
from tinygen.diffusion.sampling import Model
from tinygen.models.pictures.autoencoder import AutoencoderKL
from tinygen.models.pictures.unet import UNet
from tinygen.models.text_to_image.clip_encoders import TextTower
from tinygen.modes import no_grad
from tinygen.nn.module import computing_dtype
from tinygen.ops.compose import on_device_of
from tinygen.ops.random import RNGLike, as_generator
from tinygen.tensor import Array, Tensor
from tinygen.text.clip_bpe import CLIPTokenizer
from tinygen.types import IdsLike, TensorLike


class Scheduler(Protocol):
    """How noise becomes data: `models/huggingface/scheduler_steps.py` has diffusers' ways."""

    def sample(
        self,
        model: Model,
        noise: Array,
        *,
        steps: int,
        data: Array | None,
        strength: float,
        mask: Any,
        rng: RNGLike,
    ) -> Iterator[Array]:
        """Yields the states (B, Z, h, w); the last one is the code."""
        ...


class StableDiffusion(nn.Module):
    """`model.sample(prompts, rng=rng)` -> pictures; with `picture`, and with `hole`, it changes a picture.

    `side` is the height and width of pictures where nothing else is said. Raises ValueError when the parts do
    not fit together."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoder: TextTower,
        unet: UNet,
        autoencoder: AutoencoderKL,
        scheduler: Scheduler,
        side: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.unet = unet
        self.autoencoder = autoencoder
        self.scheduler = scheduler
        self.side = side
        require_fitting(self)

    @property
    def inpaints(self) -> bool:
        """Whether the UNet was trained for inpainting, and sees the hole and the code of the rest."""
        return self.unet.config.in_channels > self.unet.config.out_channels

    # -- the parts ---------------------------------------------------------------------------------

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """The context of prompts, (B, S, C). Warns of what is cut off from a long prompt."""
        return self.text_encoder.states(self.tokenizer.prompt_ids(prompts))

    def encode(self, pictures: TensorLike) -> Array:
        """The means of the codes of pictures, (B, Z, h, w), of variance about 1."""
        return self.autoencoder.encode(self.cast(pictures)) * self.scale()

    def draw_codes(self, pictures: TensorLike, *, rng: RNGLike) -> Array:
        """Draws of the codes of pictures, (B, Z, h, w): sampling begins with them."""
        with no_grad():
            return self.autoencoder.posterior(self.cast(pictures)).sample(rng=rng).data * self.scale()

    def decode(self, codes: Array) -> Array:
        """Pictures (B, 3, H, W) of codes, not clipped to [-1, 1]."""
        return self.autoencoder.decode(self.cast(codes) / self.scale())

    def scale(self) -> Array:
        """The factor () that gives codes a variance of about 1."""
        return self.cast(self.autoencoder.scale.data)

    def forward(self, x: TensorLike, t: IdsLike, context: Any, beside: Array | None = None) -> Tensor:
        """The UNet's prediction (B, Z, h, w) for noisy codes x at the steps t (B,), with the context of their
        prompts (B, S, C). `beside` (B, 1 + Z, h, w) is for a UNet that inpaints: 1 in the hole, and the
        codes of the pictures without it."""
        if beside is not None:
            x = np.concatenate([x, beside], axis=1)
        return self.unet(x, t, context=context)

    def cast(self, x: TensorLike) -> Any:
        """x in the dtype in which the UNet computes, on its device."""
        weight = self.unet.conv_in.weight
        return on_device_of(weight, x).astype(computing_dtype(weight))

    # -- sampling ----------------------------------------------------------------------------------

    def sample(
        self,
        prompts: Sequence[str],
        *,
        negative: str | Sequence[str] = "",
        rng: RNGLike,
        guidance: float = 7.5,
        steps: int = 20,
        size: tuple[int, int] | None = None,
        picture: Array | None = None,
        strength: float = 1.0,
        hole: Any = None,
    ) -> Array:
        """A picture (B, 3, H, W) for each prompt, not clipped to [-1, 1].

        `negative` says what should not be there, once or for each prompt. With `guidance` 1 the negative
        prompt plays no part; more exaggerates the prompt. `size` is (H, W), multiples of 8.
        With `picture` (B, 3, H, W) the last `strength` of the steps are made, from the picture with noise: a
        small strength keeps most of it. `hole`, bools that broadcast with (B, 1, H, W), is True where the
        picture is made anew; with strength 1 nothing of the picture is left in the hole.

        Raises ValueError for sizes that do not fit, for a hole without a picture, for a UNet that inpaints
        without a hole, and where the scheduler does. Warns as `encode_text`."""
        states = self.sample_steps(
            prompts,
            negative=negative,
            rng=rng,
            guidance=guidance,
            steps=steps,
            size=size,
            picture=picture,
            strength=strength,
            hole=hole,
        )
        return self.decode(last_state(states))

    def sample_steps(
        self,
        prompts: Sequence[str],
        *,
        negative: str | Sequence[str] = "",
        rng: RNGLike,
        guidance: float = 7.5,
        steps: int = 20,
        size: tuple[int, int] | None = None,
        picture: Array | None = None,
        strength: float = 1.0,
        hole: Any = None,
    ) -> Iterator[Array]:
        """The states (B, Z, h, w) after each call of the UNet, in the scheduler's scale. `sample` decodes the
        last one, the code. Everything random is drawn from `rng` in this order: a picture's code, the noise,
        the code of the picture without the hole."""
        rng = as_generator(rng)
        negative = [negative] * len(prompts) if isinstance(negative, str) else negative
        height, width = self.checked_size(prompts, negative, size, picture, hole)
        with no_grad():
            context, nothing = self.encode_text(prompts).data, self.encode_text(negative).data
        codes = None
        if picture is not None and (strength < 1 or not self.inpaints):
            codes = self.draw_codes(picture, rng=rng)
        c, f = self.autoencoder.config.latent, self.autoencoder.config.factor
        noise = self.cast(rng.standard_normal((len(prompts), c, height // f, width // f), np.float32))
        known: tuple[Array, ...] = ()
        mask = None
        if hole is not None:
            hole = np.broadcast_to(hole, (len(prompts), 1, height, width))
            small = on_device_of(noise, hole[:, :, ::f, ::f])  # (B, 1, h, w)
            if self.inpaints:
                rest = self.draw_codes(np.where(on_device_of(noise, hole), 0, self.cast(picture)), rng=rng)
                known = (np.concatenate([small.astype(rest.dtype), rest], axis=1),)
            else:
                mask = small
        model = classifier_free_guidance(self, (context, *known), (nothing, *known), guidance)
        yield from self.scheduler.sample(
            model, noise, steps=steps, data=codes, strength=strength, mask=mask, rng=rng
        )

    def checked_size(
        self,
        prompts: Sequence[str],
        negative: Sequence[str],
        size: tuple[int, int] | None,
        picture: Array | None,
        hole: Any,
    ) -> tuple[int, int]:
        """The height and width to sample. Raises ValueError for what does not fit together."""
        if len(negative) != len(prompts):
            raise ValueError(
                f"{len(negative)} negative prompts for {len(prompts)} prompts: give one, or as many"
            )
        height, width = size or (self.side, self.side)
        if picture is not None:
            if picture.ndim != 4 or picture.shape[:2] != (len(prompts), self.autoencoder.config.in_channels):
                raise ValueError(f"picture has shape {picture.shape}: ({len(prompts)}, 3, H, W) is needed")
            if size is not None and size != picture.shape[2:]:
                raise ValueError(
                    f"the picture has the size {picture.shape[2:]}, and size is {size}: leave size out"
                )
            height, width = picture.shape[2:]
        multiple = self.autoencoder.config.factor
        if height % multiple or width % multiple or not height * width:
            raise ValueError(f"pictures of {height} × {width}: both sides must be multiples of {multiple}")
        if hole is not None and picture is None:
            raise ValueError("a hole without a picture: pass picture, too")
        if hole is not None and np.shape(hole)[-2:] != (height, width):
            raise ValueError(
                f"the hole has the size {np.shape(hole)[-2:]}, and the picture {(height, width)}"
            )
        if hole is None and self.inpaints:
            raise ValueError("this UNet was trained for inpainting: pass picture and hole")
        return height, width


def require_fitting(model: StableDiffusion) -> None:
    """Raise ValueError when the parts do not fit together."""
    u, z = model.unet.config, model.autoencoder.config.latent
    tower = model.text_encoder
    if u.context != tower.config.channels:
        raise ValueError(
            f"the UNet looks at a context of {u.context} channels, and the text encoder makes "
            f"{tower.config.channels}"
        )
    if u.out_channels != z or u.in_channels not in (z, 2 * z + 1):
        raise ValueError(
            f"codes have {z} channels, and the UNet makes {u.out_channels} of {u.in_channels}: it must make "
            f"{z} of {z}, or of {2 * z + 1} for inpainting"
        )
    if model.tokenizer.vocab_size > tower.vocab_size or model.tokenizer.length > tower.block_size:
        raise ValueError(
            f"the tokenizer makes {model.tokenizer.length} tokens of {model.tokenizer.vocab_size}, and the "
            f"text encoder takes {tower.block_size} of {tower.vocab_size}"
        )
