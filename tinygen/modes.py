"""The switches: whether ops record (`no_grad`, `enable_grad`), and whether they look for NaNs (`anomaly`).

Each thread and each async task has its own. As decorators they apply while the function's own code runs:
while a generator waits at a `yield`, the caller has its own mode.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tinygen.backward import Watch
    from tinygen.recompute import Segment


class Mode(NamedTuple):
    """The state of all switches."""

    record: bool = True
    anomaly: bool = False
    segment: Segment | None = None  # the checkpoint() that is being recorded
    watch: Watch | None = None  # sees the gradients of leaves during backward()
    before: Mode | None = None  # the mode before the innermost `with`


MODE: ContextVar[Mode] = ContextVar("tinygen_mode", default=Mode())  # noqa: B039 (it is a tuple)


class switch:
    """`with switch(record=False):` changes the mode until the end of the block; `@switch(record=False)` does
    it while the function runs: a function, a generator, a coroutine or an async generator."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __enter__(self) -> None:
        mode = MODE.get()
        MODE.set(mode._replace(**self.changes, before=mode))

    def __exit__(self, *error: object) -> None:
        MODE.set(MODE.get().before or Mode())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if isinstance(function, type) or not callable(function):
            kind = f"the class {function.__name__}" if isinstance(function, type) else repr(function)
            raise TypeError(f"this decorates functions, not {kind}: decorate its methods, below @property")
        if inspect.isasyncgenfunction(function):
            return self.around_async_generator(function)
        if inspect.isgeneratorfunction(function):
            return self.around_generator(function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return coroutine

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return call

    def around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, inner)
            while True:
                try:
                    with self:
                        value = step()
                except StopIteration as end:
                    return end.value
                try:
                    step = functools.partial(inner.send, (yield value))
                except GeneratorExit:
                    with self:
                        inner.close()
                    raise
                except BaseException as error:
                    step = functools.partial(inner.throw, error)

        return generator

    def around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inner = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(inner.asend, None)
            while True:
                try:
                    with self:
                        value = await step()
                except StopAsyncIteration:
                    return
                try:
                    step = functools.partial(inner.asend, (yield value))
                except GeneratorExit:
                    with self:
                        await inner.aclose()
                    raise
                except BaseException as error:
                    step = functools.partial(inner.athrow, error)

        return generator


def no_grad() -> switch:
    """`with no_grad():` ops compute and record nothing. `@no_grad()` decorates a function or a generator."""
    return switch(record=False)


def enable_grad() -> switch:
    """`with enable_grad():` ops record again, inside a `no_grad()`."""
    return switch(record=True)


def anomaly() -> switch:
    """`with anomaly():` stop at the first NaN or infinity, forward or backward, and say where."""
    return switch(anomaly=True)
