"""Reads the text encoder of Stable Diffusion, a CLIPTextModel of `transformers`, for `TextTower`
(`text_to_image/clip_encoders.py`):

    config.json           the options of the text tower of a CLIP (`clip.py` has them)
    model.safetensors     its weights; older files begin each name with "text_model."

Stable Diffusion 2 looks at the last layer but one of its encoder. Its folder has no last layer, so that
there is nothing to choose.
"""

from __future__ import annotations

from pathlib import Path

from tinygen.models.huggingface.clip import norm_places, read_text, tower_places
from tinygen.models.huggingface.folders import (
    CONFIG,
    Options,
    as_weight,
    join_parts,
    read_tensors,
    require_floats,
    require_same,
)
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig
from tinygen.nn import init
from tinygen.ops.random import RNGLike
from tinygen.storage.files import CheckpointError

WEIGHTS, PREFIX = "model.safetensors", "text_model."
CONVERT = (
    ": download that, or convert this one where you trust it, with transformers: "
    "CLIPTextModel.from_pretrained(folder).save_pretrained(folder)"
)
"""What to do with a folder that has the weights in another file."""


def from_pretrained(folder: str | Path, keep_half: bool = False, *, rng: RNGLike = 0) -> TextTower:
    """The text encoder in a folder, in evaluation mode and without a projection. The weights are float32, or
    with `keep_half` float16 where the file has that (`Module.astype`). `rng` is for dropout in later
    training.

    Raises CheckpointError, naming files, options, tensors, when the folder holds no such model."""
    folder = Path(folder)
    o = Options(folder / CONFIG)
    o.choice("model_type", None, "clip_text_model")
    o.choice("architectures", ["CLIPTextModel"], None, ["CLIPTextModel"])
    sizes = read_text(o)
    path, tensors = read_tensors(folder, WEIGHTS, CONVERT, keep_half)
    theirs = PREFIX if any(name.startswith(PREFIX) for name in tensors) else ""
    tensors.pop(f"{theirs}embeddings.position_ids", None)  # 0, 1, 2, … in older files
    require_floats(path, tensors)
    config = TowerConfig(**sizes["config"])
    if config.layers > len(tensors):  # checked before a list of that length is made
        raise CheckpointError(path, "too few tensors", f"{config.layers} layers", len(tensors))
    c = config.channels
    places = {
        "token.weight": ((f"{theirs}embeddings.token_embedding.weight",), (sizes["vocab_size"], c)),
        "place.weight": ((f"{theirs}embeddings.position_embedding.weight",), (sizes["block_size"], c)),
        **tower_places("", theirs, sizes["config"]),
        **norm_places("norm", f"{theirs}final_layer_norm", c),
    }
    wanted = {name: shape for names, shape in places.values() for name in names}
    require_same(path, wanted, {name: array.shape for name, array in tensors.items()})
    with init.skipped():
        tower = TextTower(sizes["vocab_size"], sizes["block_size"], sizes["end"], config, None, rng=rng)
    for name, p in tower.named_parameters():
        p.replace(as_weight(join_parts([tensors.pop(part) for part in places[name][0]])))
    return tower.eval()
