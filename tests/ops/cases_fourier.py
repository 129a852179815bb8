# ruff: noqa: E501 (a case is one line)
"""Cases of np.fft."""

from typing import Any

import numpy as np
from optable import normal
from parts import Case, waves

try:
    import torch
except ImportError:
    torch = None


def one(name: str, x: np.ndarray, n: int | None = None, axis: int = -1, norm: Any = None) -> Case:
    numpys, torchs = getattr(np.fft, name), getattr(torch and torch.fft, name, None)
    how = f"{name}-{x.shape} {n} {axis} {norm}"
    return Case(how, lambda x: numpys(x, n, axis, norm), (x,), lambda x: torchs(x, n, axis, norm))


def many(name: str, x: np.ndarray, s: Any = None, axes: Any = None, **options: Any) -> Case:
    numpys, torchs = getattr(np.fft, name), getattr(torch and torch.fft, name, None)
    if axes is not None:
        options["axes"] = axes
    theirs = {"dim" if k == "axes" else k: v for k, v in options.items()}
    how = f"{name}-{x.shape} {s} {axes}"
    return Case(how, lambda x: numpys(x, s, **options), (x,), lambda x: torchs(x, s, **theirs))


FOURIER = [
    *[one(name, waves(2, n)) for name in ("fft", "ifft", "irfft", "hfft") for n in (3, 4)],
    *[one(name, normal(2, n)) for name in ("rfft", "ihfft", "fft") for n in (4, 5)],
    *[one(name, waves(2, 3), n) for name in ("fft", "ifft", "irfft", "hfft") for n in (2, 5, 6)],
    *[one(name, normal(2, 4), n) for name in ("rfft", "ihfft") for n in (3, 6)],
    *[one(name, waves(3, 2), None, 0, norm) for name in ("fft", "ifft", "irfft", "hfft") for norm in ("ortho", "forward", "backward")],
    *[one(name, normal(3, 2), None, 0, norm) for name in ("rfft", "ihfft") for norm in ("ortho", "forward")],
    one("irfft", waves(4), 1),
    one("irfft", waves(2, 3, 2), 3, 1),
    Case("rfft-no signals", np.fft.rfft, (normal(0, 3),)),
    one("rfft", normal(1)),
    one("fft", waves(4)[::-2]),
    many("fft2", waves(2, 3)),
    many("ifft2", waves(2, 2, 3)),
    many("rfft2", normal(2, 3)),
    many("irfft2", waves(2, 3), norm="ortho"),
    many("fftn", waves(2, 1, 2)),
    many("fftn", normal(2, 3), (3, 2), (1, 0)),
    many("ifftn", waves(2, 3), None, (0,)),
    many("rfftn", normal(2, 2, 3), (2, -1), (0, 2)),
    many("irfftn", waves(2, 3, 2), (2, 3), (2, 1)),
    many("irfftn", waves(3, 2, 3)),
    Case("fftshift", np.fft.fftshift, (waves(3, 4),), lambda z: torch.fft.fftshift(z)),
    Case("ifftshift", lambda z: np.fft.ifftshift(z, 0), (waves(3, 4),), lambda z: torch.fft.ifftshift(z, 0)),
    Case("fftshift-there and back", lambda z: np.fft.ifftshift(np.fft.fftshift(z, (1,)), [1]), (normal(2, 3),), lambda z: z * 1),
    Case("rfft-a layer in the spectrum", lambda x, w: np.fft.irfft(np.fft.rfft(x) * w, 5), (normal(2, 5), waves(3)), lambda x, w: torch.fft.irfft(torch.fft.rfft(x) * w, 5)),
    Case("rfft-the power of a spectrum", lambda x: np.abs(np.fft.rfft(x)) ** 2, (normal(6),), lambda x: torch.fft.rfft(x).abs() ** 2),
]  # fmt: skip
