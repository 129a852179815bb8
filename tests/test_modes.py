"""The switches as decorators: they hold while the function's own code runs, and not a line longer."""

import asyncio
import functools
import inspect
import threading

import pytest

from tinygen import Tensor, anomaly, enable_grad, no_grad
from tinygen.modes import MODE, Mode, switch


def recording():
    return (Tensor([1.0], requires_grad=True) * 2).requires_grad


@pytest.fixture(autouse=True)
def _no_switch_is_left_on():
    yield
    assert MODE.get() == Mode()


@no_grad()
def counter(n):
    for _ in range(n):
        yield recording()


def test_a_generator_computes_without_grad_and_its_caller_with():
    for inside in counter(3):
        assert not inside
        assert recording()


def test_two_generators_interleaved():
    a, b = counter(2), counter(3)
    assert [next(a), next(b), next(a), next(b)] == [False] * 4
    assert recording()
    assert (list(a), list(b)) == ([], [False])
    assert recording()


def test_a_generator_within_another_mode():
    @enable_grad()
    def recorded():
        while True:
            yield recording()

    inside = recorded()
    with no_grad():
        assert next(inside)
        assert not recording()
    assert next(inside)
    with no_grad():
        with anomaly():
            assert [next(inside), MODE.get().anomaly, recording()] == [True, True, False]
        assert not recording()


def test_what_is_sent_thrown_and_returned_goes_through():
    seen = []

    @no_grad()
    def echo():
        got = yield recording()
        try:
            yield got
        except KeyError as error:
            seen.append((error.args, recording()))
        try:
            yield "caught"
        finally:
            seen.append(("closed", recording()))
        return "end"

    inner = echo()
    assert next(inner) is False
    assert inner.send("hello") == "hello"
    assert inner.throw(KeyError("x")) == "caught"
    with pytest.raises(StopIteration) as end:
        next(inner)
    assert end.value.value == "end"
    inner = echo()
    next(inner), inner.send(1), inner.throw(KeyError("x"))
    inner.close()
    assert seen == [(("x",), False), ("closed", False)] * 2


def test_an_error_in_a_generator():
    @no_grad()
    def failing():
        yield 1
        raise ValueError("inside")

    inner = failing()
    next(inner)
    with pytest.raises(ValueError, match="inside"):
        next(inner)
    assert recording()


def test_a_generator_that_is_left_unfinished():
    inner = counter(3)
    next(inner)
    del inner
    assert recording()


def test_a_generator_with_a_switch_inside_is_balanced_when_both_have_ended():
    """Python tells nobody that a generator waits: until it goes on, its `with` holds for the caller too."""

    def counting():
        with no_grad():
            yield 1
            yield 2

    a, b = counting(), counting()
    next(a), next(b)
    list(a), list(b)
    assert recording()


def test_a_coroutine():
    @no_grad()
    async def inside():
        before = recording()
        await asyncio.sleep(0)
        return before, recording()

    async def both():
        found = await asyncio.gather(inside(), inside())
        return found, recording(), await inside(), recording()

    assert inspect.iscoroutinefunction(inside)
    assert asyncio.run(both()) == ([(False, False)] * 2, True, (False, False), True)


def test_an_async_generator():
    closed = []

    @no_grad()
    async def stream():
        try:
            for _ in range(2):
                await asyncio.sleep(0)
                got = yield recording()
                assert got in (None, "sent")
        except KeyError:
            yield ("caught", recording())
        finally:
            closed.append(recording())

    async def read():
        async for inside in stream():
            assert not inside
            assert recording()
        inner = stream()
        assert await anext(inner) is False
        assert await inner.asend("sent") is False
        assert await inner.athrow(KeyError()) == ("caught", False)
        await inner.aclose()
        assert recording()

    asyncio.run(read())
    assert closed == [False, False]


def test_methods_partials_and_threads():
    class Model:
        @no_grad()
        def one(self):
            return recording()

        @staticmethod
        @no_grad()
        def many(n):
            yield from (recording() for _ in range(n))

    found = []
    shared = no_grad()  # one switch, used by several at once

    def work():
        with shared:
            found.append((recording(), Model().one(), *Model.many(2)))
        found.append(recording())

    threads = [threading.Thread(target=work) for _ in range(4)]
    with shared, shared:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert found.count((False,) * 4) == found.count(True) == 4
    assert list(functools.partial(counter, 2)()) == [False, False]
    assert list(no_grad()(functools.partial(counter.__wrapped__, 2))()) == [False, False]


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="not the class Model: decorate its methods"):

        @no_grad()
        class Model:
            pass

    with pytest.raises(TypeError, match="decorates functions, not <property"):
        no_grad()(property(recording))


def test_names_and_docstrings_stay():
    assert (counter.__name__, switch(record=False)(recording).__name__) == ("counter", "recording")
    assert inspect.isgeneratorfunction(counter)
