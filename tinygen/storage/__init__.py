"""What is kept on a disk: files that are whole or not there, the safetensors format, the state of a run, its
checkpoints. `Checkpoints` is a folder of them; `CheckpointError` says what is wrong with one."""

from typing import TYPE_CHECKING

from tinygen.lazy import lazy_names

if TYPE_CHECKING:
    from tinygen.storage import checkpoints as checkpoints
    from tinygen.storage import files as files
    from tinygen.storage import lock as lock
    from tinygen.storage import safetensors as safetensors
    from tinygen.storage import state as state
    from tinygen.storage import versions as versions
    from tinygen.storage.checkpoints import Checkpoints as Checkpoints
    from tinygen.storage.files import CheckpointError as CheckpointError
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        ("checkpoints", "files", "lock", "safetensors", "state", "versions"),
        {"checkpoints": ("Checkpoints",), "files": ("CheckpointError",)},
    )
