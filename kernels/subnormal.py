"""Numbers too small for a normal float, taken for zeros.

A gradient that fades over many steps ends as such, and some CPUs then need a hundred times as long for each multiply-add.
The mode belongs to the thread, so whoever changes it puts it back. Elsewhere than on x86 and 64-bit Arm nothing is changed.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import target
from .simd import INT

_WORD, _BYTES = ir.IntType(32), ir.IntType(8).as_pointer()
_X86, _ARM = target.ARCHITECTURE.startswith("x86"), target.ARCHITECTURE.startswith(("aarch64", "arm64"))
_ZEROS = 0x8040 if _X86 else 1 << 24  # of operands and of results


def _mode(builder):
    """Return the thread's mode of floating arithmetic."""
    if _ARM:
        return builder.call(ir.InlineAsm(ir.FunctionType(INT, []), "mrs $0, fpcr", "=r", side_effect=True), [])
    place = cgutils.alloca_once(builder, _WORD)
    kind = ir.FunctionType(ir.VoidType(), [_BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr")
    builder.call(function, [builder.bitcast(place, _BYTES)])
    return builder.zext(builder.load(place), INT)


def _set_mode(builder, mode):
    if _ARM:
        kind = ir.FunctionType(ir.VoidType(), [INT])
        builder.call(ir.InlineAsm(kind, "msr fpcr, $0", "r", side_effect=True), [mode])
        return
    place = cgutils.alloca_once(builder, _WORD)
    builder.store(builder.trunc(mode, _WORD), place)
    kind = ir.FunctionType(ir.VoidType(), [_BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
    builder.call(function, [builder.bitcast(place, _BYTES)])


@intrinsic
def take_for_zeros(typingctx):
    """Let this thread take subnormal numbers for zeros; return the mode that there was."""

    def emit(context, builder, sig, args):
        if not (_X86 or _ARM):
            return INT(0)
        before = _mode(builder)
        _set_mode(builder, builder.or_(before, INT(_ZEROS)))
        return before

    return signature(types.int64), emit


@intrinsic
def put_back(typingctx, mode):
    """Give this thread a mode that `take_for_zeros` returned."""

    def emit(context, builder, sig, args):
        if _X86 or _ARM:
            _set_mode(builder, args[0])
        return context.get_dummy_value()

    return signature(types.void, types.int64), emit
