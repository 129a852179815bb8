"""CLIP: one space for pictures and texts (Radford et al. 2021, arXiv:2103.00020).

An image encoder and a text encoder (`clip_encoders.py`) make a vector of each picture and of each text. They
are trained on pairs of a picture and its caption: among the B pairs of a batch, the vector of a picture
should be closest to the vector of its own caption, and the vector of a caption closest to its own picture.
Closeness is the cosine of the angle between two vectors.

After training, the texts nearest to a picture describe it. With one text for each class, CLIP is a classifier
that has seen no labels ("zero-shot"): the class of a picture is the text of the largest logit.

Shapes: B pictures (B, in_channels, side, side), N texts as ids (N, S), vectors of D numbers.
`examples/pages/clip.py` has all of it on one page.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np

from tinygen import nn, ops
from tinygen.models.huggingface import clip
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.nn.module import widen
from tinygen.ops.random import RNGLike, as_generator
from tinygen.rows import require_whole_batch
from tinygen.tensor import Tensor
from tinygen.types import Ids, TensorLike

FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0
"""The factor of the cosines at the start of training, and its limit (Radford et al. 2021, section 2.5)."""


def contrastive_loss(logits: TensorLike) -> Tensor:
    """The mean of two cross-entropies (nats) of the logits (B, B): row i, a picture, has the class i, and so
    has column i, a text. It is ln B when all logits are equal.

    Two equal captions in a batch count as different, so the loss cannot become 0 then.
    Raises ValueError unless there are as many pictures as texts.

    Eq.: L = ½ (CE(logits, labels, axis=0) + CE(logits, labels, axis=1)),  labels = 0 … B - 1
        (Radford et al. 2021, figure 3)
    Held by: tests/models/text_to_image/test_clip.py::test_loss_by_hand
    """
    require_whole_batch("the contrastive loss")
    logits = logits if isinstance(logits, Tensor) else Tensor(logits)
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ValueError(f"logits have shape {logits.shape}: the loss needs a text for each picture, (B, B)")
    labels = np.arange(len(logits))
    return (ops.cross_entropy(logits, labels) + ops.cross_entropy(logits.T, labels)) / 2


def unit_vectors(x: Tensor) -> Tensor:
    """The vectors x (B, D), each divided by its length."""
    return x / np.sqrt(np.sum(x * x, axis=1, keepdims=True))


class TwoTowers(nn.Module):
    """The parts of `CLIP` and `NoisyCLIP`: two encoders, and the factor of the cosines.

    The logarithm of the factor, `logit_scale`, is learned, and needs no weight decay; call `clamp_scale`
    after each step of the optimizer. Raises ValueError when the vectors of the two encoders have different
    lengths."""

    def __init__(self, image_encoder: Any, text_encoder: TextTower) -> None:
        if image_encoder.dim != text_encoder.dim:
            raise ValueError(
                f"the image encoder makes vectors of {image_encoder.dim} numbers, and the text encoder of "
                f"{text_encoder.dim}: give both the same dim"
            )
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.logit_scale = nn.Parameter(np.array(math.log(FIRST_SCALE), np.float32))

    def text_vectors(self, ids: Ids) -> Tensor:
        """The vectors (N, D) of texts given as ids (N, S), of length 1."""
        return unit_vectors(self.text_encoder(ids))

    def clamp_scale(self) -> None:
        """Set the factor of the cosines to 100 if it is larger. It changes the parameter, not the logits: so
        the factor still has a gradient, and can become smaller again.

        Eq.: exp(t) ≤ 100  (Radford et al. 2021, section 2.5)
        Held by: tests/models/text_to_image/test_clip.py::test_scale_is_clamped_at_100
        """
        t = self.logit_scale.data
        self.logit_scale.data = np.minimum(t, np.full_like(t, math.log(LARGEST_SCALE)))


class CLIP(TwoTowers):
    """`model(pictures, ids)` -> logits; `model.loss(pictures, ids)` -> the loss. The image encoder is a
    `VisionTransformer` or a `ConvImageEncoder`."""

    def forward(self, pictures: TensorLike, ids: Ids) -> Tensor:
        """Logits (B, N) of pictures (B, in_channels, side, side) and texts as ids (N, S): the cosines of all
        pairs, times exp(logit_scale). The softmax of a row gives the probability of each text.

        Eq.: logits = I_e T_eᵀ · exp(t),  I_e and T_e of length 1  (Radford et al. 2021, figure 3)
        Held by: tests/models/text_to_image/test_clip.py::test_logits_by_hand
        """
        return self.image_vectors(pictures) @ self.text_vectors(ids).T * np.exp(widen(self.logit_scale))

    def image_vectors(self, pictures: TensorLike) -> Tensor:
        """The vectors (B, D) of pictures, of length 1."""
        return unit_vectors(self.image_encoder(pictures))

    def loss(self, pictures: TensorLike, ids: Ids) -> Tensor:
        """`contrastive_loss` of B pictures and their B texts."""
        return contrastive_loss(self(pictures, ids))

    # -- files of CLIP -----------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, rng: RNGLike = 0) -> Self:
        """The model in a folder of Hugging Face's format (`huggingface/clip.py`), in float32 and evaluation
        mode; its image encoder is a `VisionTransformer`. `rng` is for dropout in later training.

        Raises CheckpointError, naming files, options, tensors, when the folder holds no such model."""
        sizes, state = clip.read(folder)
        rng, dim = as_generator(rng), sizes["dim"]
        image, text = ({**sizes[tower]} for tower in ("image", "text"))
        image["config"], text["config"] = TowerConfig(**image["config"]), TowerConfig(**text["config"])
        model = cls(VisionTransformer(**image, dim=dim, rng=rng), TextTower(**text, dim=dim, rng=rng))
        for name, p in model.named_parameters():
            p.data = np.array(state.pop(name), np.float32)
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write this model as a folder that `from_pretrained` and Hugging Face's `transformers` read.

        Raises ValueError, having written nothing, when the image encoder is no `VisionTransformer`, or an
        array is not of the encoders' sizes; CheckpointError when the disk refuses."""
        if not isinstance(self.image_encoder, VisionTransformer):
            kind = type(self.image_encoder).__name__
            raise ValueError(f"transformers has no CLIP with a {kind}: only a VisionTransformer can be saved")
        sizes = {"dim": self.text_encoder.dim, "image": self.image_encoder.sizes()}
        clip.write(folder, {**sizes, "text": self.text_encoder.sizes()}, self.state_dict())
