"""A parallel region on threads that Python lends, for processes in which Numba's own threads could do harm.

The calling thread asks Python for helpers and waits for none to come: whoever is there claims parts one by one until there
are none left, so the caller does itself what no helper does. A helper may come when all is over: it finds nothing left to
claim in the job's memory, which Python keeps for it.
"""

import llvmlite.binding
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import CFunction, jit
from .simd import INT
from .team import atomic_add, atomic_load, wait_a_little

WORDS = 24  # of a job; what changes is in cache lines of its own
_KERNEL, _ARGUMENTS, _TOTAL, _PARTS, _CLAIMED, _DONE = 0, 1, 2, 3, 8, 16
_ASK = "numlstm_ask_for_helpers"
_BYTES = ir.IntType(8).as_pointer()
_PART = ir.FunctionType(ir.VoidType(), [_BYTES, INT, INT])


@intrinsic
def call_part(typingctx, kernel, arguments, start, stop):
    """Call ``kernel(arguments, start, stop)``, both addresses."""

    def emit(context, builder, sig, args):
        builder.call(builder.inttoptr(args[0], _PART.as_pointer()), [builder.inttoptr(args[1], _BYTES), *args[2:]])
        return context.get_dummy_value()

    return signature(types.void, types.intp, types.intp, types.intp, types.intp), emit


@intrinsic
def _ask(typingctx, kernel, arguments, total, parts, threads):
    """Ask Python for helpers; return the address of the job, or 0 if an exception came before there was one."""

    def emit(context, builder, sig, args):
        place = cgutils.alloca_once_value(builder, INT(0))
        kind = ir.FunctionType(ir.VoidType(), [INT.as_pointer(), *[INT] * 5])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _ASK), [place, *args])
        return builder.load(place)

    return signature(types.intp, *[types.intp] * 5), emit


@intrinsic
def _words_at(typingctx, address):
    def emit(context, builder, sig, args):
        return builder.inttoptr(args[0], INT.as_pointer())

    return signature(types.CPointer(types.int64), types.intp), emit


@jit
def _run_part(kernel, arguments, total, parts, part):
    call_part(kernel, arguments, total * part // parts, total * (part + 1) // parts)


@jit
def _claim_parts(job):
    """Run parts of a job until all are claimed."""
    parts = job[_PARTS]
    part = atomic_add(job, _CLAIMED, 1)
    while part < parts:
        _run_part(job[_KERNEL], job[_ARGUMENTS], job[_TOTAL], parts, part)
        atomic_add(job, _DONE, 1)
        part = atomic_add(job, _CLAIMED, 1)


def _help(address):
    _claim_parts(carray(_words_at(address), WORDS))


def _region(kernel, arguments, total, parts, threads):
    """Run `kernel` over 0..total in `parts` parts, with helpers up to `threads` threads in all."""
    address = _ask(kernel, arguments, total, parts, threads)
    if address == 0:
        for part in range(parts):
            _run_part(kernel, arguments, total, parts, part)
        return
    job = carray(_words_at(address), WORDS)
    _claim_parts(job)
    looks = 0
    while atomic_load(job, _DONE) < parts:
        looks = wait_a_little(looks)


_HELP = CFunction(_help, types.void(types.intp))
_REGION = CFunction(_region, types.void(types.intp, types.intp, types.intp, types.intp, types.intp))


def region_address(ask: int) -> int:
    """Return the address of the region, which asks for helpers by a C function.

    ``ask(place, kernel, arguments, total, parts, threads)`` writes to `place` the address of a job: WORDS int64, of which
    the first four are kernel, arguments, total and parts, the others 0, and which stay where they are until this thread asks
    again and all helpers have returned. Then it lets up to ``threads - 1`` threads call the C function at `help_address`
    with that address, at any time.
    """
    llvmlite.binding.add_symbol(_ASK, ask)
    return _REGION.address


def help_address() -> int:
    """Return the address of the C function that helps with a job."""
    return _HELP.address
