"""What kernels need of the machine: all that they use of Numba's CUDA target, and nothing else does.

Memory is addressed as a C-contiguous array and a flat offset in elements, as on the CPU, which nothing checks: an index of
Numba's own costs a comparison for negative ones, and a multiplication for each dimension.
"""

from math import exp, log1p, sqrt, tanh

from numba import cuda
from numba.cuda import types
from numba.cuda.extending import intrinsic

__all__ = ["constant", "cuda", "device", "exp", "fma", "kernel", "load", "log1p", "sqrt", "store", "tanh"]


def kernel(threads):
    """Return a decorator that compiles a kernel for blocks of so many threads."""
    return cuda.jit(launch_bounds=(threads, 1))


def device(function):
    """Compile `function` as a part of kernels."""
    return cuda.jit(device=True, forceinline=True)(function)


def _pointer(context, builder, kind, array, at):
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def load(typingctx, array, at):
    """Return flat element `at` of a C-contiguous array."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        return None

    def emit(context, builder, sig, args):
        return builder.load(_pointer(context, builder, array, *args))

    return array.dtype(array, types.int64), emit


@intrinsic
def store(typingctx, array, at, value):
    """Write flat element `at` of a C-contiguous array."""
    if not (isinstance(array, types.Array) and array.layout == "C" and value == array.dtype):
        return None

    def emit(context, builder, sig, args):
        builder.store(args[2], _pointer(context, builder, array, *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.int64, value), emit


@intrinsic
def constant(typingctx, like, value):
    """Return a number in the type of `like`: the way to write one into a cell."""

    def emit(context, builder, sig, args):
        return context.cast(builder, args[1], value, like)

    return like(like, value), emit


@device
def fma(a, b, c):
    """Return ``a * b + c``, rounded once."""
    return cuda.fma(a, b, c)
