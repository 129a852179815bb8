"""einops on Tensors, with gradients: import this file once, then use einops as ever.

    import tinygen.einops_backend
    from einops import rearrange

    y = rearrange(x, "b (h d) -> b h d", h=4)  # a Tensor, on the tape

einops (Rogozhnikov 2022, openreview.net/forum?id=oapKSVM2bcj) asks every subclass of its `AbstractBackend`
whose framework has been imported whether an array is one of its own. Since `np.` functions work on Tensors,
the backend for NumPy's arrays does all the rest. These classes are not part of einops's documented interface,
so this file alone needs einops (`pip install einops`), and nothing in tinygen imports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from einops._backends import NumpyBackend

from tinygen.tensor import Tensor


class TensorBackend(NumpyBackend):
    framework_name = "tinygen"

    def is_appropriate_type(self, tensor: Any) -> bool:
        return isinstance(tensor, Tensor)

    def from_numpy(self, x: Any) -> Tensor:
        return Tensor(x)

    def to_numpy(self, x: Tensor) -> Any:
        return x.numpy()

    def reduce(self, x: Tensor, operation: str, axes: tuple[int, ...]) -> Any:
        return getattr(np, operation)(x, axis=axes)  # the function: it says so where it has no gradient
