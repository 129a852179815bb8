"""Finds the line of the user's code that called an op: for errors, `graph`, `gradcheck` and `anomaly`.

The line is the one outside the engine and its layers: in a model of `nn` layers, the line of the model.
"""

from __future__ import annotations

import os
from types import CodeType, FrameType

HERE = os.path.dirname(__file__) + os.sep
ENGINE = tuple(
    HERE + name
    for name in (
        *("modes.py", "tape.py", "tensor.py", "recompute.py", "backward.py", "transforms.py"),
        *("ops" + os.sep, "nn" + os.sep, "gradcheck" + os.sep),
    )
)
"""Files and folders of tinygen whose lines are not shown: they call ops on behalf of the user."""


class Internal(dict[str, bool]):
    """The name of a file -> whether it is one of ENGINE. A dict, as it is asked at every op."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = filename.startswith(ENGINE)
        return self[filename]


INTERNAL = Internal()


def caller_of(frame: FrameType) -> tuple[CodeType, int]:
    """The first caller of `frame` outside of ENGINE: its code, and the position in that code.

    `line_of` makes "file:line" of that. Most ops never need it, so it is not made when they are recorded."""
    while INTERNAL[frame.f_code.co_filename] and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_of(code: CodeType, offset: int) -> str:
    """ "file:line" of the instruction at `offset`."""
    line = next((n for start, end, n in code.co_lines() if start <= offset < end), None)
    return f"{code.co_filename}:{line}"
