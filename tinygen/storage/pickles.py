"""A reader of pickles that runs no code.

A pickle is a program for a machine with a stack and a memo (Python's `pickletools` lists its instructions).
Python's own machine has two dangerous ones: GLOBAL imports any function, and REDUCE calls it. So whoever
writes a pickle decides what its reader runs, for example `os.system`.

`PickleReader` is another machine for the same programs. Here GLOBAL gives only a name, and REDUCE hands the
name and its arguments to a function that the caller wrote, which knows a few names and refuses all others.
It has only the instructions that PyTorch's files need. Its memory is bounded by the length of the program:
each instruction makes one value, and the memo is a dict.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from tinygen.storage.files import CheckpointError


class Name(NamedTuple):
    """A function or a class that a pickle names. It is not imported."""

    text: str  # "collections.OrderedDict"


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
"""Instructions that put a number or a text on the stack. Python 2 wrote texts by the last one."""

TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Mark:
    """What MARK puts on the stack: the begin of a group of values."""


class PickleReader:
    """Reads the pickles in `file`, one after the other. `call(name, arguments)` gives the value of a call,
    `resolve(id)` the value of a persistent id; both raise ValueError to refuse. `path` is for errors."""

    def __init__(
        self,
        path: str | Path,
        file: BytesIO,
        call: Callable[[str, tuple[Any, ...]], Any],
        resolve: Callable[[tuple[Any, ...]], Any],
    ) -> None:
        self.path, self.file, self.call, self.resolve = path, file, call, resolve

    def read(self) -> Any:
        """The value of the next pickle. Raises CheckpointError if it is damaged, or if it has an instruction
        that is not known here, or if `call` or `resolve` refuses."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        begin = self.file.tell()
        try:
            for opcode, argument, place in pickletools.genops(self.file):
                if opcode.name == "STOP":
                    (value,) = self.stack
                    return value
                self.step(opcode.name, argument, (place or 0) - begin)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            why = str(error)[:200] or type(error).__name__
            raise CheckpointError(
                self.path, "this pickle is not read", "names and tensors as PyTorch saves them", why
            ) from None
        raise AssertionError("genops ends with STOP or raises ValueError")

    def step(self, name: str, argument: Any, place: int) -> None:
        """One instruction."""
        stack, memo = self.stack, self.memo
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in VALUES:
            stack.append(argument)
        elif name == "GLOBAL":
            stack.append(Name(argument.replace(" ", ".")))
        elif name == "MARK":
            stack.append(Mark)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in TUPLES:
            stack.append(tuple(self.pop(TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self.pop_group()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self.pop(2) if name == "SETITEM" else self.pop_group()
            self.top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = self.pop(1) if name == "APPEND" else self.pop_group()
            self.top(list).extend(items)
        elif name == "BINPERSID":
            stack.append(self.resolve(*self.pop(1)))
        elif name == "REDUCE":
            function, arguments = self.pop(2)
            if not isinstance(function, Name) or not isinstance(arguments, tuple):
                raise ValueError(f"a call of something that is no name, at byte {place}")
            stack.append(self.call(function.text, arguments))
        elif name == "BUILD":  # attributes of an object: of a dict of tensors only PyTorch's versions
            self.pop(1)
            self.top(dict)
        elif name != "PROTO":
            raise ValueError(f"the instruction {name} at byte {place}")

    def top(self, kind: type) -> Any:
        """The value on top of the stack, which must be of this kind."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {type(self.stack[-1]).__name__} in the place of a {kind.__name__}")
        return self.stack[-1]

    def pop(self, count: int) -> list[Any]:
        """Take `count` values off the stack."""
        values = self.stack[-count:]
        if len(values) < count or any(value is Mark for value in values):
            raise ValueError("too few values on the stack")
        del self.stack[-count:]
        return values

    def pop_group(self) -> list[Any]:
        """Take the values after the last mark off the stack, and the mark."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not Mark:
            values.append(value)
        return values[::-1]
