"""Stable Diffusion makes a picture of a prompt, changes a picture, or fills a hole in one.

    hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir sd --include "*.json" "*.txt" \\
        "*/model.safetensors" "*/diffusion_pytorch_model.safetensors" --exclude "safety_checker/*"
    python examples/text_to_image/stable_diffusion.py --model sd --prompt "a lighthouse, oil painting"
    ... --image photo.png --strength 0.6          image to image: the smaller, the more of the picture stays
    ... --image photo.png --mask mask.png         inpainting: what is white in the mask is made anew

docs/diffusers.md says which folders are read. The PNG holds the prompt and all flags:
`PIL.Image.open("picture.png").info`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from shared.clock import peak_memory
from shared.flags import Flags, add_device_flag, generator, number

import tinygen
from tinygen.diffusion import last_state
from tinygen.models.huggingface.stable_diffusion import from_pretrained
from tinygen.storage.files import CheckpointError

FOLDER = "a folder of Stable Diffusion 1 or 2, as diffusers saves it"
MADE_OF = "tinygen"  # the name of the text in the PNG
WHITE = 128  # of 255: where the mask begins to be white


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add("--model", help=FOLDER)
    add("--prompt", default="", help="what should be in the picture")
    add("--negative", default="", help="what should not be there")
    add("--image", help="a picture to begin with")
    add("--mask", help="a picture of the same size, white where the image is made anew")
    add(
        "--strength",
        type=number(float, 0, 1),
        help="the share of the steps that is made of an image: by default 0.8, with a mask 1",
    )
    add("--steps", type=number(int, 1, 1000), default=20, help="the more, the finer, and the slower")
    add("--guidance", type=number(float, 0, 100), default=7.5, help="1 is none; the more, the more literal")
    add("--height", type=number(int, 1, 8192), help="by default the model's")
    add("--width", type=number(int, 1, 8192), help="by default the model's")
    add("--seed", type=number(int, 0), default=0, help="of all that is drawn")
    add("--out", default="picture.png", help="the PNG")
    add_device_flag(parser)
    args = parser.parse_args()
    if args.model is None:
        args.error(
            f"--model is needed: {FOLDER}; the first lines of this script have a command that gets one"
        )
    if args.image is None and (args.mask is not None or args.strength is not None):
        args.error("--mask and --strength are about an image: give --image, too")
    if args.image is not None and (args.height or args.width):
        args.error("an image has its own size: leave --height and --width out")
    if Path(args.out).suffix != ".png" or not Path(args.out).resolve().parent.is_dir():
        args.error(f"--out {args.out} must be a .png in a folder that exists")
    return args


def read_picture(args: argparse.Namespace, flag: str, path: str, mode: str) -> Any:
    """The bytes of a picture, (H, W, 3) in the mode "RGB", (H, W) in "L"."""
    from PIL import Image

    try:
        return np.asarray(Image.open(path).convert(mode))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        args.error(f"--{flag} {path} cannot be read as a picture: {error}")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments about the image: the picture (1, 3, H, W) and the hole (H, W)."""
    if args.image is None:
        return {}
    image = read_picture(args, "image", args.image, "RGB")
    picture = image.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
    strength = args.strength if args.strength is not None else 0.8 if args.mask is None else 1.0
    found = {"picture": picture, "strength": strength}
    if args.mask is not None:
        mask = read_picture(args, "mask", args.mask, "L")
        if mask.shape != image.shape[:2]:
            sizes = (f"{width} × {height}" for height, width in (mask.shape, image.shape[:2]))
            args.error("--mask is {} and --image {}: both must have the same size".format(*sizes))
        found["hole"] = mask >= WHITE
    return found


def save(path: str, picture: Any, made_of: dict[str, Any]) -> None:
    """Write a picture (3, H, W) in [-1, 1] as a PNG, with a text that says what it was made of."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(MADE_OF, json.dumps(made_of, ensure_ascii=False))
    shades = np.round(np.clip(picture / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(shades.transpose(1, 2, 0)).save(path, pnginfo=info)


def reported(states: Iterator[Any]) -> Iterator[Any]:
    """The states, with the time that each took so far."""
    began = time.perf_counter()
    for calls, x in enumerate(states, 1):
        seconds = (time.perf_counter() - began) / calls
        print(f"\r{calls} calls of the UNet, {seconds:.2f} s each", end="", flush=True)
        yield x


def tell(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main(args: argparse.Namespace) -> None:
    began, changes = time.perf_counter(), given(args)
    try:
        model = from_pretrained(args.model).to(args.device)
    except CheckpointError as error:
        args.error(f"{error}: --model must be {FOLDER}")
    read = time.perf_counter()
    print(f"{model.num_parameters():,} parameters, read in {read - began:.1f} s")
    size = (args.height or model.side, args.width or model.side)
    options = {name: getattr(args, name) for name in ("negative", "guidance", "steps")}
    states = model.sample_steps(
        [args.prompt],
        rng=generator(args.seed, args.device),
        **options,
        **(changes or {"size": size}),
    )
    with warnings.catch_warnings():
        warnings.showwarning = tell
        warnings.simplefilter("always", UserWarning)  # of a prompt that is cut
        try:
            codes = last_state(reported(states))
        except ValueError as error:
            args.error(str(error))
    (picture,) = np.asarray(tinygen.Tensor(model.decode(codes)).numpy())
    skipped = ("error", "results", "size", "device", "out")
    flags = {name: value for name, value in vars(args).items() if name not in skipped and value is not None}
    save(args.out, picture, {**flags, "version": tinygen.__version__})
    memory = peak_memory()
    peak = f", peak memory {memory:.0f} MB" if memory else ""
    print(f"\n{args.out}: {picture.shape[2]} × {picture.shape[1]}, {time.perf_counter() - read:.1f} s{peak}")


if __name__ == "__main__":
    start(parse_args, main)
