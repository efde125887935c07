"""A team of threads that go through the steps of one sweep together, each with hidden units of its own.

A barrier among the parts of a parallel region can wait forever: a thread may run one part after the other. So there is a
roll-call. Parts sign on as they begin; the first one closes the list as soon as all are there that can be expected, or
after a bounded wait; who comes later finds it closed and leaves; the work is divided among those who signed on, all of
which are running.
"""

import sys

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import target
from .compiling import jit

ROLL, SIZE, ARRIVED = 0, 8, 16  # words of a team, each in a cache line of its own
WORDS = 24
_CLOSED = 1 << 32
_PATIENCE = 1 << 12  # looks at the roll before it is closed: waking a thread takes some tens of microseconds
_SPINS = 1 << 10  # looks at what others write before the CPU is offered to them


def new_team(parts: int) -> np.ndarray:
    """Return the shared words of a team; with one part none, which stands for no team."""
    return np.zeros(WORDS if parts > 1 else 0, np.int64)


@intrinsic
def atomic_add(typingctx, words, index, value):
    """Add to a word and return what it was before."""

    def emit(context, builder, sig, args):
        place = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return signature(types.int64, words, types.intp, types.int64), emit


@intrinsic
def atomic_load(typingctx, words, index):
    """Return a word as other threads left it."""

    def emit(context, builder, sig, args):
        place = builder.gep(context.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])
        return builder.load_atomic(place, "seq_cst", 8)

    return signature(types.int64, words, types.intp), emit


@intrinsic
def _relax(typingctx):
    """Tell the CPU that this is a loop that waits."""

    def emit(context, builder, sig, args):
        number = ir.IntType(32)
        if target.ARCHITECTURE.startswith("x86"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        elif target.ARCHITECTURE.startswith(("aarch64", "arm64")):
            kind = ir.FunctionType(ir.VoidType(), [number])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint"), [number(1)])
        return context.get_dummy_value()

    return signature(types.void), emit


@intrinsic
def _offer_cpu(typingctx):
    """Let another thread run on this CPU, where the system has a call for it in every process."""

    def emit(context, builder, sig, args):
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return signature(types.void), emit


@jit
def wait_a_little(looks):
    """Wait between two looks at what another thread will write; `looks` counts them from 0. Return their number then."""
    if looks < _SPINS:
        _relax()
    else:
        _offer_cpu()
    return looks + 1


@jit
def join(team, expected):
    """Sign on and return (rank, members); rank is -1 for who comes too late. Without a team: (0, 1)."""
    if team.size == 0:
        return 0, 1
    rank = atomic_add(team, ROLL, 1)
    if rank >= _CLOSED:
        return -1, 0
    if rank == 0:
        for _ in range(_PATIENCE):
            if atomic_load(team, ROLL) >= expected:
                break
            _relax()
        members = atomic_add(team, ROLL, _CLOSED)
        atomic_add(team, SIZE, members)
        return 0, members
    looks = 0
    while atomic_load(team, SIZE) == 0:
        looks = wait_a_little(looks)
    return rank, atomic_load(team, SIZE)


@jit
def meet(team, members, times):
    """Wait until all members have called this so many times."""
    if members > 1:
        atomic_add(team, ARRIVED, 1)
        looks = 0
        while atomic_load(team, ARRIVED) < members * times:
            looks = wait_a_little(looks)
