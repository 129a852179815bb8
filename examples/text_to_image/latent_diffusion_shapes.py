"""Train a text-to-image model from nothing: latent diffusion of captioned shapes (`tinygen.data.shapes`).

    python examples/text_to_image/latent_diffusion_shapes.py  # some 10 minutes on 2 cores
    python examples/text_to_image/latent_diffusion_shapes.py --resume  # goes on after Ctrl-C, or a kill
    python examples/text_to_image/latent_diffusion_shapes.py --draw-only --prompt "a red cross"

First an autoencoder learns codes of 8 × 8 × 4 numbers for pictures of 32 × 32 × 3; then, beside a text
encoder, a UNet learns to turn noise into codes as captions say. A parser without anything learned judges what
is drawn, also for pairs of a shape and a colour that no caption in training had.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import time
from functools import partial
from itertools import cycle, product
from typing import Any

import numpy as np
from shared.flags import Flags, add_run_flags, generator, number, size
from shared.pictures import Figure, save_film, save_grid, table
from shared.run import Run
from tqdm import tqdm

from tinygen.data.shapes import COLOURS, POSITIONS, SCENES, SHAPES, SIZES, Scene, batch, caption
from tinygen.diffusion import Process, cosine
from tinygen.judges.shapes_parser import accuracy, read
from tinygen.models.pictures.autoencoder import AutoencoderConfig, AutoencoderKL, latent_scale
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.text_to_image.latent_diffusion import LatentDiffusion, TextDenoiser
from tinygen.models.text_to_image.text_encoder import TextEncoder, TextEncoderConfig
from tinygen.optim import EMA, AdamW, clip_grad_norm, warmup_cosine
from tinygen.storage.safetensors import load_file
from tinygen.tensor import to_device

SIDE = 32
SENTENCES = [caption(scene) for scene in SCENES]
WORDS = tuple(dict.fromkeys(word for sentence in SENTENCES for word in sentence.split()))
GUIDANCE = (0.0, 1.0, 2.0, 3.0, 5.0, 8.0)
BOTH = "shape and colour"
SPLITS = {"train": "pairs as in training", "held_out": "pairs never seen"}
EXPECTED = {"train": "≥ 95", "held_out": "≥ 80"}  # of BOTH, in per cent


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add_run_flags(parser, "runs/latent_diffusion_shapes", "every 500")
    add("--prompt", action="append", help="what to draw, as often as you like; else all shapes and colours")
    add("--draw-only", action="store_true", help="draw with the model in --out, and train nothing")
    add("--guidance", type=number(float, 0), default=3.0, help="scale of the guidance, for what is drawn")
    add("--seed", type=number(int, 0), default=0, help="of the weights, the drawings, the noise")
    add("--ae-steps", type=number(int, 2), default=1000, help="steps of the autoencoder")
    add("--ae-channels", type=size(4), default=16, help="its channels, a quarter of those at the code")
    add("--ae-lr", type=number(float, 0), default=2e-3, help="its highest learning rate")
    add("--drawings", type=size(1, 1_000_000), default=8192, help="pictures that the diffusion learns from")
    add("--diffusion-steps", type=number(int, 2), default=2400, help="steps of the diffusion's training")
    add("--channels", type=size(8), default=64, help="of the UNet and the text encoder; multiple of 4")
    add("--lr", type=number(float, 0), default=1e-3, help="highest learning rate of the diffusion")
    add("--batch", type=size(2), default=32, help="codes per step; half as many pictures before")
    add("--judged", type=size(1), default=300, help="pictures for each figure")
    add(
        "--sampler-steps",
        type=number(int, 1, 500),
        default=20,
        help="steps of DDIM, of the 500 that are trained",
    )
    args = parser.parse_args()
    args.save_every = args.save_every or 500
    args.steps = args.ae_steps + args.diffusion_steps
    if args.channels % 4:
        args.error(f"--channels {args.channels} is no multiple of 4, the number of attention heads")
    return args


def build(args: argparse.Namespace) -> LatentDiffusion:
    rng, c = np.random.default_rng(args.seed), args.channels
    unet = UNetConfig(4, 4, c, (1, 2), 1, (False, True), 4, context=c, scale_shift=True)
    text = TextEncoderConfig(WORDS, max(len(s.split()) for s in SENTENCES), layers=1, heads=4, channels=c)
    shape = AutoencoderConfig(channels=args.ae_channels, multipliers=(1, 2, 4), attention=False)
    autoencoder = AutoencoderKL(shape, rng)
    denoiser = TextDenoiser(UNet(unet, rng=rng), TextEncoder(text, rng=rng))
    return LatentDiffusion(autoencoder, denoiser, Process(cosine(500), "v"), SIDE).to(args.device)


def make_codes(model: LatentDiffusion, args: argparse.Namespace) -> tuple[Any, list[str]]:
    """The codes (N, 4, 8, 8) of drawings, and their captions: made once, since the encoder learns no more."""
    rng = np.random.default_rng(args.seed + 1)
    drawings = [batch(256, SIDE, rng) for _ in range(-(-args.drawings // 256))]
    codes = [model.encode(to_device(pictures, args.device)) for pictures, _ in drawings]
    return np.concatenate(codes), [caption(scene) for _, scenes in drawings for scene in scenes]


def descend(loss: Any, optimizer: AdamW, module: Any, lr: float, at: int, steps: int) -> None:
    """Step `at` of `steps` of a module's training."""
    optimizer.lr = warmup_cosine(at, lr, lr / 50, min(100, steps // 2), steps)
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm(module.parameters(), 1.0)
    optimizer.step()


def train(model: LatentDiffusion, args: argparse.Namespace, run: Run) -> None:
    """The loop: the autoencoder, then the rest; steps are counted through. Ends with the averaged weights in
    the model."""
    rng, on = generator(args.seed + 2, args.device), partial(to_device, device=args.device)
    first, second = model.autoencoder, model.denoiser
    optimizer1 = AdamW(first.parameters(), args.ae_lr, weight_decay=0.0)
    optimizer2 = AdamW(second.parameters(), args.lr, (0.9, 0.99), weight_decay=0.0)
    ema = EMA(second, 0.999)
    things = {"model": model, "optimizer1": optimizer1, "optimizer2": optimizer2, "ema": ema, "rng": rng}
    codes = None
    with run:
        for step in run.loop(things):
            if step < args.ae_steps:
                pictures = on(batch(args.batch // 2, SIDE, rng)[0])
                loss = first.loss(pictures, rng=rng) / pictures[0].size
                descend(loss, optimizer1, first, args.ae_lr, step, args.ae_steps)
                run.log(step=step, autoencoder_loss=loss.item())
                if step + 1 == args.ae_steps:
                    codes_there = model.encode(on(batch(256, SIDE, rng)[0]))
                    first.scale.data = on(latent_scale(to_device(codes_there, "cpu")))
            else:
                if codes is None:
                    codes, captions = make_codes(model, args)
                chosen = rng.integers(len(codes), size=args.batch)
                loss = model.loss(codes[chosen], [captions[i] for i in chosen], rng=rng)
                descend(loss, optimizer2, second, args.lr, step - args.ae_steps, args.diffusion_steps)
                ema.update()
                run.log(step=step, diffusion_loss=loss.item())
            run.show(loss.item(), " of the autoencoder" if codes is None else " of the diffusion")
    ema.copy_to(second)


def judge(model: LatentDiffusion, args: argparse.Namespace) -> dict[str, Any]:
    """How the parser reads what is drawn, for both splits and every guidance scale, and beside it drawings
    by `tinygen.data.shapes` and what the autoencoder makes of them."""
    found: dict[str, Any] = {}
    for split in SPLITS:
        drawings, scenes = batch(args.judged, SIDE, np.random.default_rng(args.seed + 3), split)
        copies = to_device(model.decode(model.encode(to_device(drawings, args.device))), "cpu")
        psnr = float(10 * np.log10(2**2 / np.mean((copies - drawings) ** 2)))
        read_as = {"drawings": accuracy(drawings, scenes), "copies": accuracy(copies, scenes)}
        for scale in tqdm(GUIDANCE, desc=f"judging {split}"):
            noise = np.random.default_rng(args.seed + 4)
            captions = [caption(scene) for scene in scenes]
            drawn = model.sample(captions, rng=noise, guidance=scale, steps=args.sampler_steps)
            drawn = to_device(drawn, "cpu")
            read_as[f"{scale:g}"] = accuracy(drawn, scenes)
        found[split] = {"psnr": psnr, **read_as}
    return found


def show(model: LatentDiffusion, args: argparse.Namespace, folder: Path) -> None:
    """prompts.png, a grid; denoising.gif, how it came to be; denoising.png, the same of four prompts."""
    rest = cycle(product(SIZES, POSITIONS))
    prompts = args.prompt or [caption(Scene(*pair, *next(rest))) for pair in product(SHAPES, COLOURS)]
    rng = np.random.default_rng(args.seed + 5)
    steps = model.sample_steps(prompts, rng=rng, guidance=args.guidance, steps=args.sampler_steps)
    frames = [to_device(model.decode(x), "cpu") for x in steps]
    save_grid(folder / "prompts.png", frames[-1], len(COLOURS))
    save_film(folder / "denoising.gif", frames, len(COLOURS), scale=2)
    times = np.linspace(0, len(frames) - 1, 8).astype(int)
    some = np.linspace(0, len(prompts) - 1, min(4, len(prompts))).astype(int)
    strip = np.stack(frames, axis=1)[some][:, times].reshape(-1, *frames[0].shape[1:])
    save_grid(folder / "denoising.png", strip, len(times))
    scenes, sure = read(frames[-1])
    for prompt, scene, confidence in zip(prompts, scenes, sure, strict=True):
        print(f"{prompt:44} is read as {caption(scene)!r}, {confidence:.0%} sure")
    print(f"the pictures are in {folder}/: prompts.png, denoising.gif, denoising.png")


def plot(found: dict[str, Any], path: Path) -> None:
    """guidance.png: the shares that are right, over the scale of the guidance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axes, (split, title) in zip(panels, SPLITS.items(), strict=True):
        for name in ("shape", "colour", "size", "position", "shape and colour"):
            style = {"lw": 2.4, "color": "black"} if name == "shape and colour" else {"lw": 1.2}
            axes.plot(
                GUIDANCE, [found[split][f"{s:g}"][name] for s in GUIDANCE], "o-", ms=3, label=name, **style
            )
        axes.set(title=title, xlabel="guidance scale", ylim=(0, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of pictures read as said")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def report(found: dict[str, Any]) -> tuple[float, str]:
    """The best guidance scale, of those that the sweep tried, and the final table for it."""
    best = max(GUIDANCE, key=lambda s: found["train"][f"{s:g}"][BOTH] + found["held_out"][f"{s:g}"][BOTH])
    rows = [Figure("autoencoder, PSNR of unseen drawings (dB)", found["held_out"]["psnr"], "≥ 30")]
    for split, title in SPLITS.items():
        for name in (BOTH, "shape", "colour", "size", "position", "all"):
            expected = EXPECTED[split] if name == BOTH else ""
            shares = [100 * found[split][row][name] for row in (f"{best:g}", "copies", "0")]
            rows.append(Figure(f"{title}: {name} (%)", shares[0], expected, *shares[1:]))
    return best, table(rows)


def main(args: argparse.Namespace) -> None:
    model = build(args)
    try:
        model.denoiser.text_encoder.tokens(args.prompt or [])
    except ValueError as error:  # what cannot be drawn is said at once
        args.error(str(error))
    if args.draw_only:
        weights = Path(args.out) / "model.safetensors"
        try:
            model.load_state_dict(load_file(weights))
        except ValueError as error:
            first = " ".join(str(error).splitlines()[:2])
            args.error(f"{weights} is of a run with other flags: {first}, and so on")
        show(model, args, Path(args.out))
        return
    run = Run(args, ["step", "autoencoder_loss", "diffusion_loss"])
    parts = (model.autoencoder, model.denoiser.unet, model.denoiser.text_encoder)
    counts = [part.num_parameters() for part in parts]
    print("parameters: autoencoder {:,}, UNet {:,}, text encoder {:,}".format(*counts))
    train(model, args, run)
    run.model(model.state_dict())
    trained = time.perf_counter()
    found = judge(model, args)
    best, text = report(found)
    plot(found, run.path / "guidance.png")
    run.curve({"autoencoder_loss": "autoencoder", "diffusion_loss": "diffusion"}, {}, "Training", "loss")
    show(model, args, run.path)
    run.result(
        f"\nguidance {best:g}, {args.judged} pictures for each figure\n{text}\n",
        best_guidance=best,
        **found,
        training_seconds=trained - run.began,
    )


if __name__ == "__main__":
    start(parse_args, main)
