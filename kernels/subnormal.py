"""Numbers too small for a normal float, taken for zeros.

A gradient that fades over many steps ends as such, and with them some CPUs take several times as long for a backward pass.
The mode belongs to the thread, so whoever changes it puts it back. Only x86 and 64-bit Arm have one here.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import target
from .simd import INT

_WORD, _BYTES = ir.IntType(32), ir.IntType(8).as_pointer()
_ARM = ("aarch64", "arm64")
_ZEROS_X86, _ZEROS_ARM = 0x8040, 1 << 24  # bits of the mode: subnormal operands and results are zeros


def emit_zeros(builder, architecture):
    """Let the thread take subnormal numbers for zeros; return the mode before. architecture : by LLVM's name"""
    if architecture.startswith(_ARM):
        before = _call(builder, "llvm.aarch64.get.fpcr", INT)
        emit_put_back(builder, architecture, builder.or_(before, INT(_ZEROS_ARM)))
        return before
    if not architecture.startswith("x86"):
        return INT(0)
    place = cgutils.alloca_once(builder, _WORD)
    _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(place, _BYTES))
    before = builder.zext(builder.load(place), INT)
    emit_put_back(builder, architecture, builder.or_(before, INT(_ZEROS_X86)))
    return before


def emit_put_back(builder, architecture, mode):
    """Give the thread a mode that `emit_zeros` returned."""
    if architecture.startswith(_ARM):
        _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), mode)
    elif architecture.startswith("x86"):
        place = cgutils.alloca_once_value(builder, builder.trunc(mode, _WORD))
        _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(place, _BYTES))


def _call(builder, name, kind, *arguments):
    """Call a function of LLVM's. (Inline assembly needs a parser that Numba does not load: it would end the process.)"""
    function_type = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


@intrinsic
def take_for_zeros(typingctx):
    """Let this thread take subnormal numbers for zeros; return the mode that there was."""

    def emit(context, builder, sig, args):
        return emit_zeros(builder, target.ARCHITECTURE)

    return signature(types.int64), emit


@intrinsic
def put_back(typingctx, mode):
    """Give this thread a mode that `take_for_zeros` returned."""

    def emit(context, builder, sig, args):
        emit_put_back(builder, target.ARCHITECTURE, args[0])
        return context.get_dummy_value()

    return signature(types.void, types.int64), emit
