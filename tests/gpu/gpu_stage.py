"""The parts of a stage of `gpu_check`: named figures, measured one after the other; each is saved at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tinygen.tensor import Array

Figures = Iterator[tuple[str, Any]]
"""(name, figure) in turn. A figure is a number, a text, or {what: number or text}; in that, an "error" of the
"limit" or more is wrong, and "failed" says what was raised."""

TF32 = os.environ.get("CUPY_TF32") == "1"
"""Whether products of matrices may round to 10 bits of mantissa. CuPy reads this once in a process."""

CHECKOUT = Path(__file__).parents[2]


class Skipped(Exception):
    """A stage cannot run here, through no fault of tinygen's; the message says what it needs."""


def attempted(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of the function, or its error: the next figure is measured in any case."""
    try:
        return function()
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        file = Path(place.tb_frame.f_code.co_filename).name if place is not None else "?"
        return {"failed": f"{error!r} ({file}:{place.tb_lineno if place is not None else 0})"[:500]}


def of_checkout(folder: str) -> Path:
    """A folder of the checkout, from which Python can import now. Raises Skipped in an installed package."""
    path = CHECKOUT / folder
    if not path.is_dir():
        raise Skipped(f"needs {folder}/ beside the package: run it from a checkout")
    for place in (str(path), str(CHECKOUT)):
        if place not in sys.path:
            sys.path.insert(0, place)
    return path


def waiter(device: str) -> Callable[[], Any]:
    """A function that returns when the device has done all that it was told to do."""
    if device == "cpu":
        return lambda: None
    import cupy

    return cupy.cuda.Device().synchronize


def on_cpu(x: Any) -> Array:
    """An array of NumPy's, CuPy's or PyTorch's as NumPy's."""
    if hasattr(x, "detach"):
        x = x.detach().cpu().numpy()
    return x.get() if hasattr(x, "get") else x


def torch_here() -> Any:
    """PyTorch, with TF32 where CuPy has it; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = TF32
    return torch
