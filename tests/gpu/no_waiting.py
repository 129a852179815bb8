"""Training steps in which nothing may wait for the GPU.

The CPU launches a kernel every few microseconds, and the GPU runs the kernels one after the other. As long
as the CPU is ahead, only the GPU's time counts. If the CPU reads a number of an array, it must wait until
all kernels so far are done, and then the GPU waits for the CPU. `loss.item()` reads a number: call it now
and then, not in every step.

CuPy reports most of these waits (`cupyx.allow_synchronize`), but no waits of Numba or of the driver.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tinygen import DeviceGenerator, Tensor, nn
from tinygen.diffusion import Process, cosine_schedule, simple_loss
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.pictures.unet import UNet, UNetConfig
from tinygen.models.pictures.vae import ConvVAE
from tinygen.optim import EMA, AdamW, clip_grad_norm, decay_groups

Loss = Callable[[], Any]
NEVER = "never waited"


def losses(device: str, rng: DeviceGenerator) -> dict[str, tuple[nn.Module, Loss]]:
    """Models on the device and the losses of batches drawn for them, by names."""
    gpt = GPT(GPTConfig(11, 8, n_layer=1, n_head=2, n_embd=16, dropout=0.1), rng=rng).to(device)
    unet = UNet(UNetConfig(1, 1, channels=8, multipliers=(1, 2), blocks=1, dropout=0.1), rng=rng).to(device)
    vae = ConvVAE(channels=4, latent=2, rng=rng).to(device)
    process, text = Process(cosine_schedule(10)), rng.integers(11, size=64)
    text_there = Tensor(text).to(device)
    pictures = Tensor(rng.random((16, 1, 8, 8), dtype=np.float32)).to(device).data

    def tokens(text: Any) -> Any:
        places = rng.integers(64 - 9, size=(4, 1)) + np.arange(9)
        ids = text[places]
        return gpt(ids[:, :-1], ids[:, 1:])[1]

    some = lambda: pictures[rng.integers(16, size=4)]
    return {
        "GPT": (gpt, lambda: tokens(text)),
        "GPT, text on the GPU": (gpt, lambda: tokens(text_there)),
        "UNet": (unet, lambda: simple_loss(process, unet, 2 * some() - 1, rng=rng)),
        "VAE": (vae, lambda: vae.loss(some(), rng=rng)),
    }


def step(model: nn.Module, loss_of: Loss, optimizer: AdamW, average: EMA) -> Any:
    loss = loss_of()
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()
    average.update()
    return loss


def cupy_forbids() -> AbstractContextManager[Any]:
    import cupyx

    warnings.filterwarnings("ignore", "cupyx.allow_synchronize", UserWarning)  # it cannot see everything
    return cupyx.allow_synchronize(False)


def no_waiting(
    device: str, forbidden: Callable[[], AbstractContextManager[Any]] = cupy_forbids
) -> dict[str, str]:
    """Of each model: NEVER, or what did wait in a step. `forbidden` makes the context in which
    looking is an error."""
    found = {}
    for name, (model, loss_of) in losses(device, DeviceGenerator(0)).items():
        run = model, loss_of, AdamW(decay_groups(model, 0.1), lr=1e-3), EMA(model, 0.9)
        step(*run)  # compiles the kernels
        try:
            with forbidden():
                loss = step(*run)
            found[name] = NEVER if np.isfinite(loss.item()) else f"the loss is {loss.item()}"
        except RuntimeError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found
