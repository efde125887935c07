"""What kernels need of the machine: all that they use of Numba's CUDA target, and nothing else does.

Memory is addressed as a C-contiguous array and a flat offset in elements, as on the CPU, which nothing checks: an index of
Numba's own costs a comparison for negative ones, and a multiplication for each dimension.
"""

from math import exp, log1p, sqrt, tanh

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.core.errors import TypingError
from numba.cuda.extending import intrinsic

__all__ = [
    "bfloat16_bits",
    "constant",
    "cuda",
    "device",
    "exp",
    "fma",
    "hold",
    "kernel",
    "load",
    "load_word",
    "log1p",
    "mma_bfloat16",
    "mma_tf32",
    "record",
    "sqrt",
    "store",
    "store_all",
    "tanh",
    "tf32_bits",
]

_WORD = ir.IntType(32)
_HALF = ir.IntType(16)
_FLOAT = ir.FloatType()


def kernel(threads):
    """Return a decorator that compiles a kernel for blocks of so many threads."""
    return cuda.jit(launch_bounds=(threads, 1))


def device(function):
    """Compile `function` as a part of kernels."""
    return cuda.jit(device=True, forceinline=True)(function)


def record(launches):
    """Return a function (stream) that launches, as one graph, what ``launches(stream)`` does, which runs nothing now.

    Nothing here has met a driver yet.
    """
    from cuda.core import Device, Stream

    builder = Device().create_graph_builder()
    builder.begin_building()
    launches(builder)
    graph = builder.end_building().complete()
    return lambda stream: graph.launch(Stream.from_handle(int(getattr(stream, "handle", stream) or 0)))


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
def store_all(typingctx, array, at, step, elements):
    """Write the elements of a tuple, however many, `step` apart from flat element `at` on."""
    if not (isinstance(array, types.Array) and array.layout == "C" and all(kind == array.dtype for kind in elements)):
        return None

    def emit(context, builder, sig, args):
        array, at, step, elements = args
        for k in range(len(sig.args[3])):
            place = builder.add(at, builder.mul(step, ir.Constant(step.type, k)))
            builder.store(builder.extract_value(elements, k), _pointer(context, builder, sig.args[0], array, place))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, elements), emit


@intrinsic
def constant(typingctx, like, value):
    """Return a number in the type of `like`: the way to write one into a cell."""

    def emit(context, builder, sig, args):
        return context.cast(builder, args[1], value, like)

    return like(like, value), emit


@intrinsic
def hold(typingctx, array, value):
    """Refuse, when a kernel is compiled, an array of another type than numbers like `value`."""
    if not isinstance(array, types.Array) or array.ndim != 1 or array.dtype != value:
        raise TypingError(f"y must be a 1-D array of {value}, the dtype of the model, not {array}")
    return types.void(array, value), lambda context, builder, sig, args: context.get_dummy_value()


@device
def fma(a, b, c):
    """Return ``a * b + c``, rounded once."""
    return cuda.fma(a, b, c)


# --- tensor cores, of compute capability 8.0 and more (PTX ISA, "Matrix multiply-accumulate operation using mma") ---


@intrinsic
def bfloat16_bits(typingctx, x):
    """Return a float32 rounded to bfloat16, ties to even, as uint16."""

    def emit(context, builder, sig, args):
        return builder.asm(ir.FunctionType(_HALF, [_FLOAT]), "cvt.rn.bf16.f32 $0, $1;", "=h,f", args, False)

    return types.uint16(types.float32), emit


@intrinsic
def tf32_bits(typingctx, x):
    """Return a float32 rounded to tf32, ties away from zero, as uint32."""

    def emit(context, builder, sig, args):
        return builder.asm(ir.FunctionType(_WORD, [_FLOAT]), "cvt.rna.tf32.f32 $0, $1;", "=r,f", args, False)

    return types.uint32(types.float32), emit


@intrinsic
def load_word(typingctx, array, at):
    """Return the uint32 that begins at flat element `at` of a C-contiguous array of uint32, or of uint16 at an even one."""

    def emit(context, builder, sig, args):
        pointer = builder.bitcast(_pointer(context, builder, array, *args), _WORD.as_pointer())
        return builder.load(pointer, align=4)

    return types.uint32(array, types.int64), emit


def _mma(shape_and_types):
    """Return what multiplies a warp's fragments a (4 words) and b (2 words) and adds their product to c (4 float32)."""
    four, operands = types.UniTuple(types.float32, 4), (types.UniTuple(types.uint32, 4), types.UniTuple(types.uint32, 2))
    text = f"mma.sync.aligned.{shape_and_types} {{$0,$1,$2,$3}},{{$4,$5,$6,$7}},{{$8,$9}},{{$10,$11,$12,$13}};"

    def mma(typingctx, a, b, c):
        def emit(context, builder, sig, args):
            sizes = zip(args, (4, 2, 4), strict=True)
            items = [builder.extract_value(group, k) for group, size in sizes for k in range(size)]
            kind = ir.FunctionType(ir.LiteralStructType([_FLOAT] * 4), [_WORD] * 6 + [_FLOAT] * 4)
            # It has no side effect, but must not move to where not all of the warp's threads come by.
            found = builder.asm(kind, text, ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4), items, True)
            return context.make_tuple(builder, four, [builder.extract_value(found, k) for k in range(4)])

        return four(*operands, four), emit

    return intrinsic(mma)


mma_bfloat16 = _mma("m16n8k16.row.col.f32.bf16.bf16.f32")
mma_tf32 = _mma("m16n8k8.row.col.f32.tf32.tf32.f32")
