"""Storage on disk: files that are written atomically, the safetensors format, a reader of PyTorch's files,
the state of a run, and its checkpoints. `Checkpoints` is a folder of checkpoints; a `CheckpointError` says
why one cannot be read or written."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.storage import checkpoint as checkpoint
    from tinygen.storage import checkpoints as checkpoints
    from tinygen.storage import files as files
    from tinygen.storage import lock as lock
    from tinygen.storage import pickles as pickles
    from tinygen.storage import safetensors as safetensors
    from tinygen.storage import state as state
    from tinygen.storage import torch_files as torch_files
    from tinygen.storage import versions as versions
    from tinygen.storage.checkpoints import Checkpoints as Checkpoints
    from tinygen.storage.files import CheckpointError as CheckpointError
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        (
            "checkpoint",
            "checkpoints",
            "files",
            "lock",
            "pickles",
            "safetensors",
            "state",
            "torch_files",
            "versions",
        ),
        {"checkpoints": ("Checkpoints",), "files": ("CheckpointError",)},
    )
