"""The threads of the kernels: the thread that calls a kernel, and helpers that wait for work.

The parts of a kernel are put into at most SHARES shares for each thread. Threads take shares until none is
left: the caller from the front, helpers from the back. The caller never waits for a helper to wake up: it
does the shares itself that nobody has taken. It waits only for shares that a helper has begun. So on a
machine that is busy with other programs, a helper that gets no processor costs nothing.

A thread that waits spins for a short time, then sleeps in a lock of Python's. If it went on spinning, it
would occupy a core that another thread needs, perhaps the one for which it waits.

Which thread does a part makes no difference to its bits. A forked process has only the thread that forked:
there the caller does everything, until `threads(n)` starts helpers again. One call at a time has the
helpers; a second one, from another thread of Python, does its parts alone.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

from tinygen.kernels.compiled.compile import PARTS, compile_callback, inner
from tinygen.kernels.compiled.threads import RUN_PARTS
from tinygen.kernels.compiled.tile import LANES

SHARES = 16  # for each thread, at most
SPINS = 2000  # pauses before a thread sleeps: some 50 to 100 µs

# Numbers of 64 bits that the threads share. Different threads write into different cache lines.
LINE = 16
TAKEN, DONE, JOB, BUSY, THREAD = range(0, 5 * LINE, LINE)
WORK, DATA, COUNT, TOTAL, ALLOWED = range(JOB, JOB + 5)  # the function, its data, parts, shares, threads
ASLEEP, LOCK = range(THREAD, THREAD + 2)  # of thread 0, the caller; of the next ones LINE further
SHARED = np.zeros(THREAD + LINE * max(PARTS, 1), np.int64)
binding.add_symbol("tinygen_shared", SHARED.ctypes.data)

I64 = ir.IntType(64)
BITS = 16
"""SHARED[TAKEN] is the number of the job, the first share that nobody has taken, and the last one + 1: of
BITS bits each, except for the job. One exchange of the whole number takes a share; it fails if another
thread was faster, or if the job has ended and the next one has begun."""
MASK, JOBS = 2**BITS - 1, 2**30

# -- instructions of the processor -----------------------------------------------------------------


def place(builder: Any, index: Any) -> Any:
    """A pointer to SHARED[index]."""
    module, name = builder.module, "tinygen_shared"
    kind = ir.ArrayType(I64, SHARED.size)
    found = module.globals.get(name) or ir.GlobalVariable(module, kind, name)
    return builder.gep(found, [I64(0), index])


@intrinsic
def load(context, index):
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(place(builder, args[0]), "seq_cst", 8)

    return types.int64(types.int64), code


@intrinsic
def store(context, index, value):
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store_atomic(args[1], place(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@intrinsic
def increase(context, index):
    """Add 1; returns the number before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", place(builder, args[0]), I64(1), "seq_cst")

    return types.int64(types.int64), code


@intrinsic
def exchange(context, index, expected, value):
    """Replace the number if it is the expected one; returns whether it was."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.cmpxchg(place(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64), code


@intrinsic
def pause(context):
    """On x86, wait for some ten nanoseconds, and save power."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if builder.module.triple.startswith(("x86", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def call_work(context, function, first, count, data):
    """Run the parts `first`, ..., first + count - 1 (`threads.py`)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [I64] * 3)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), code


def call_python(name: str, *rest: int) -> Any:
    """A call of a function of Python's that takes a lock, and needs no GIL."""

    @intrinsic
    def call(context, lock):
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            i32 = ir.IntType(32)
            kind = ir.FunctionType(i32 if rest else ir.VoidType(), [I64, *[i32] * len(rest)])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [args[0], *map(i32, rest)])
            return context.get_dummy_value()

        return types.void(types.int64), code

    return call


acquire, release = call_python("PyThread_acquire_lock", 1), call_python("PyThread_release_lock")

# -- sleep -----------------------------------------------------------------------------------------


@inner
def wake(thread):
    if load(ASLEEP + LINE * thread) and exchange(ASLEEP + LINE * thread, 1, 0):
        release(load(LOCK + LINE * thread))


@inner
def sleep(thread, needed):
    """Sleep until `wake`. `needed` is the condition after ASLEEP was set: whoever gives work later wakes."""
    if not needed and exchange(ASLEEP + LINE * thread, 1, 0):
        return
    acquire(load(LOCK + LINE * thread))


# -- work ------------------------------------------------------------------------------------------


@inner
def take(from_back):
    """The number of a share that is now this thread's, or -1."""
    while True:
        seen = load(TAKEN)
        first, end = (seen >> BITS) & MASK, seen & MASK
        if first == end:
            return -1
        if exchange(TAKEN, seen, seen - 1 if from_back else seen + MASK + 1):
            return end - 1 if from_back else first


@inner
def do_shares(thread):
    """Do shares until none is left; returns their number. While a thread has a share, the job is the same."""
    done = 0
    share = take(thread > 0)
    while share >= 0:
        parts, shares = load(COUNT), load(TOTAL)
        first, end = share * parts // shares, (share + 1) * parts // shares
        call_work(load(WORK), first, end - first, load(DATA))
        if increase(DONE) == shares - 1 and thread > 0:
            wake(0)
        share = take(thread > 0)
        done += 1
    return done


def help_for_ever(thread):
    spins = 0
    while True:
        if thread < load(ALLOWED) and do_shares(thread) > 0:
            spins = 0
        pause()
        spins += 1
        if spins > SPINS:
            store(ASLEEP + LINE * thread, 1)
            seen = load(TAKEN)
            sleep(thread, (seen >> BITS) & MASK == seen & MASK)
            spins = 0


def run_parts(work, parts, data):
    """Run the parts 0, ..., parts - 1 of a piece of work, with the helpers."""
    threads = min(load(ALLOWED), parts)
    if threads < 2 or not exchange(BUSY, 0, 1):
        call_work(work, 0, parts, data)
        return
    shares = min(parts, SHARES * threads)
    store(WORK, work)
    store(DATA, data)
    store(COUNT, parts)
    store(TOTAL, shares)
    store(DONE, 0)
    job = ((load(TAKEN) >> 2 * BITS) + 1) % JOBS
    store(TAKEN, job << 2 * BITS | shares)
    for thread in range(1, threads):
        wake(thread)
    do_shares(0)
    spins = 0
    while load(DONE) < shares:
        pause()
        spins += 1
        if spins > SPINS:
            store(ASLEEP, 1)
            sleep(0, load(DONE) < shares)
            spins = 0
    store(BUSY, 0)


# -- threads ---------------------------------------------------------------------------------------

PYTHON = ctypes.pythonapi
for name in ("PyThread_acquire_lock", "PyThread_release_lock"):
    binding.add_symbol(name, ctypes.cast(getattr(PYTHON, name), ctypes.c_void_p).value)
PYTHON.PyThread_allocate_lock.restype = ctypes.c_void_p
PYTHON.PyThread_acquire_lock.argtypes = ctypes.c_void_p, ctypes.c_int
HELP: Any = compile_callback(help_for_ever, types.int64)
RUN: Any = compile_callback(run_parts, types.int64, types.int64, types.int64)
binding.add_symbol(RUN_PARTS, RUN.address)


def start(thread: int) -> None:
    """Give a thread its lock, which is taken; a helper starts."""
    lock = PYTHON.PyThread_allocate_lock()
    PYTHON.PyThread_acquire_lock(lock, 1)
    SHARED[LOCK + LINE * thread] = lock
    if thread:
        _thread.start_new_thread(HELP.ctypes, (thread,))


def threads(count: int | None = None) -> int:
    """Set the number of threads on which kernels run, at most PARTS; returns the number before."""
    before = int(SHARED[ALLOWED])
    if count is not None:
        if not 1 <= count <= PARTS:
            raise ValueError(
                f"threads({count}): from 1 to {PARTS}, the value of NUMBA_NUM_THREADS at the start"
            )
        for thread in range(count):
            if not SHARED[LOCK + LINE * thread]:
                start(thread)
        SHARED[ALLOWED] = count
    return before


def what_runs() -> str:
    """Like "2 of 2 threads; Numba for znver5, vectors of 16 floats; OpenBLAS SkylakeX"."""
    cpu = cpu_target.target_context.codegen().magic_tuple()[1]
    blas = ThreadpoolController().select(internal_api="openblas").info()[0]["architecture"]
    return f"{threads()} of {PARTS} threads; Numba for {cpu}, vectors of {LANES} floats; OpenBLAS {blas}"


def have_no_helpers() -> None:
    """In a forked process."""
    SHARED[:] = 0
    threads(1)


threads(PARTS)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=have_no_helpers)
