"""Runs the parts of a piece of work on all threads of Numba's pool.

Numba compiles a loop over `prange` by way of an array of the loop's arguments, and of a second function
made from the loop's body: this takes about twice as long as compiling the body. Here the body is a
function, which is compiled once; the pool calls a few instructions that unpack its arguments.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

numba.get_num_threads()  # starts the pool, and tells the compiler the names of its functions

I64, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
NUMBERS, POINTERS = I64.as_pointer(), POINTER.as_pointer()
WORK = ir.FunctionType(ir.VoidType(), [POINTERS, NUMBERS, NUMBERS, POINTER])  # the pool calls such a function
POOL = ir.FunctionType(ir.VoidType(), [POINTER, POINTERS, NUMBERS, NUMBERS, POINTER, I64, I64, I64])


@intrinsic
def run_on_threads(typing, function, parts, args):
    """Run function(part, *args) for part = 0, ..., parts - 1; each thread gets a range of consecutive
    parts. The function must not raise an error: it would be lost."""
    signature = types.void(function, types.int64, args)
    compiled = function.dispatcher.get_compile_result(types.void(types.int64, *args.types))

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        context.add_linking_libs([compiled.library])
        module = builder.module

        work = ir.Function(module, WORK, module.get_unique_name("work"))
        work.linkage = "internal"
        first, count, _, shared = work.args
        shared_args = cgutils.alloca_once_value(builder, values[2])
        inside = ir.IRBuilder(work.append_basic_block())
        given = cgutils.unpack_tuple(inside, inside.load(inside.bitcast(shared, shared_args.type)))
        # The pool takes `first` for the address of an array, and moves it on by one byte a part.
        start = inside.ptrtoint(inside.load(first), I64)
        with cgutils.for_range(inside, inside.load(count)) as loop:
            callee = context.declare_function(module, compiled.fndesc)
            passed = [inside.add(start, loop.index), *given]
            context.call_conv.call_function(inside, callee, types.none, compiled.fndesc.argtypes, passed)
        inside.ret_void()

        def declare(kind: Any, name: str) -> Any:
            return cgutils.get_or_insert_function(module, kind, name)

        def variable(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        threads = builder.call(declare(ir.FunctionType(I64, []), "get_num_threads"), [])
        zero, one = variable(ir.Constant(POINTER, None)), variable(I64(1))
        address, data = builder.bitcast(work, POINTER), builder.bitcast(shared_args, POINTER)
        arrays, axes = I64(1), I64(0)
        passed = [address, zero, variable(values[1]), one, data, axes, arrays, threads]
        builder.call(declare(POOL, "numba_parallel_for"), passed)
        return context.get_dummy_value()

    return signature, code
