"""Runs the parts of a piece of work on all threads (`helpers.py`).

Numba's own way, a loop over `prange`, makes a second function from the loop's body, and takes twice as long
to compile. Here the body is a function, which is compiled once; the threads call a few instructions that
unpack its arguments.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I64, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
RUN_PARTS = "tinygen_run_parts"  # the name under which compiled code finds `helpers.run_parts`


@intrinsic
def run_on_threads(typing, function, parts, args):
    """Run function(part, *args) for part = 0, ..., parts - 1. The function must not raise an error: it would
    be lost."""
    signature = types.void(function, types.int64, args)
    compiled = function.dispatcher.get_compile_result(types.void(types.int64, *args.types))

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        context.add_linking_libs([compiled.library])
        module = builder.module

        kind = ir.FunctionType(ir.VoidType(), [I64, I64, POINTER])
        work = ir.Function(module, kind, module.get_unique_name("work"))
        work.linkage = "internal"
        first, count, shared = work.args
        shared_args = cgutils.alloca_once_value(builder, values[2])
        inside = ir.IRBuilder(work.append_basic_block())
        given = cgutils.unpack_tuple(inside, inside.load(inside.bitcast(shared, shared_args.type)))
        with cgutils.for_range(inside, count) as loop:
            callee = context.declare_function(module, compiled.fndesc)
            passed = [inside.add(first, loop.index), *given]
            context.call_conv.call_function(inside, callee, types.none, compiled.fndesc.argtypes, passed)
        inside.ret_void()

        run = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [I64] * 3), RUN_PARTS)
        address, data = builder.ptrtoint(work, I64), builder.ptrtoint(shared_args, I64)
        builder.call(run, [address, values[1], data])
        return context.get_dummy_value()

    return signature, code
