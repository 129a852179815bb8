"""Arrays of NumPy, of CuPy on a GPU, and of other libraries: their device, and copies to another device."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygen.types import Array


def from_dlpack(data: Any) -> np.ndarray[Any, Any]:
    """Another library's array as NumPy's, in the same memory. Raises TypeError where NumPy cannot: other
    devices, dtypes such as bfloat16, tensors on another library's tape."""
    try:
        return np.from_dlpack(data)
    except (BufferError, RuntimeError) as error:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        raise TypeError(f"cannot make a tensor of this {kind}: {error}") from error


def device_of(array: Array) -> str:
    return "cpu" if isinstance(array, np.ndarray) else "cuda"


def to_device(array: Array, device: str) -> Array:
    """`array` on "cpu" (NumPy) or "cuda" (CuPy). Raises RuntimeError when there is no CuPy or no GPU."""
    if device == device_of(array):
        return array
    if device == "cpu":
        return array.get()
    if device != "cuda":
        raise ValueError(f'unknown device {device!r}: use "cpu" or "cuda"')
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            'device "cuda" needs CuPy: pip install "tinygen[cuda13]", or [cuda12] for a driver older than 580'
        ) from error
    if not cupy.cuda.is_available():
        raise RuntimeError(
            'device "cuda" needs an NVIDIA GPU and its driver: CuPy finds none (nvidia-smi lists them)'
        )
    return cupy.asarray(array)
