"""Vectors and numbers in memory: a C-contiguous array and a flat offset, in elements, that nothing checks."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from . import target
from .simd import SCALARS, element_bytes, flags_of_first, int_constant, is_float_array, is_paired_array, vec_of


def element_pointer(context, builder, array_type, array, offset):
    """Return a pointer to element `offset` of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def load_vector(builder, pointer, ir_type):
    """Load a vector from a pointer to its first element; the address needs only the element's alignment."""
    value = builder.load(builder.bitcast(pointer, ir_type.as_pointer()))
    value.align = element_bytes(ir_type)
    return value


def store_vector(builder, pointer, value):
    """Store a vector at a pointer to its first element; the address needs only the element's alignment."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = element_bytes(value.type)


FIRST_LEVEL, SECOND_LEVEL = 3, 2  # of the caches, in LLVM's words


def prefetch(builder, pointer, level):
    """Ask for the cache line at `pointer`, which may be any address, in a cache."""
    byte_pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte_pointer, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, data = flag(0), flag(1)
    builder.call(function, [builder.bitcast(pointer, byte_pointer), read, flag(level), data])


@intrinsic
def pointer(typingctx, array, offset):
    """Return a pointer to flat element `offset` of `array`."""
    if not (is_float_array(array) or is_paired_array(array)):
        return None

    def emit(context, builder, sig, args):
        return element_pointer(context, builder, sig.args[0], *args)

    return signature(types.CPointer(array.dtype), array, types.intp), emit


@intrinsic
def advance(typingctx, start, count):
    """Return the pointer `count` elements after `start`."""

    def emit(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return signature(start, start, types.intp), emit


@intrinsic
def copy(typingctx, source, destination, count):
    """Copy `count` elements from one pointer to another; the places do not overlap."""

    def emit(context, builder, sig, args):
        cgutils.raw_memcpy(builder, args[1], args[0], args[2], source.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return signature(types.void, source, destination, types.intp), emit


@intrinsic
def load_element(typingctx, array, offset):
    """Return flat element `offset` of `array`."""
    if not is_float_array(array):
        return None

    def emit(context, builder, sig, args):
        return builder.load(element_pointer(context, builder, sig.args[0], *args))

    return signature(array.dtype, array, types.intp), emit


@intrinsic
def store_element(typingctx, start, offset, value):
    """Store one number `offset` elements after a pointer."""

    def emit(context, builder, sig, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return signature(types.void, start, types.intp, start.dtype), emit


@intrinsic
def load(typingctx, array, offset):
    """Return the vector that starts at flat element `offset` of `array`."""
    if not is_float_array(array):
        return None
    kind = vec_of(array.dtype)

    def emit(context, builder, sig, args):
        return load_vector(builder, element_pointer(context, builder, sig.args[0], *args), kind.ir_type)

    return signature(kind, array, types.intp), emit


@intrinsic
def store(typingctx, array, offset, value):
    """Store a vector at flat element `offset` of `array`."""
    if not (is_float_array(array) and value == vec_of(array.dtype)):
        return None

    def emit(context, builder, sig, args):
        store_vector(builder, element_pointer(context, builder, sig.args[0], *args[:2]), args[2])
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, value), emit


@intrinsic
def load_first(typingctx, array, offset, count):
    """Return `count` elements from flat `offset` on in the first lanes, zero in the others; reads nothing past them."""
    if not is_float_array(array):
        return None
    kind = vec_of(array.dtype)

    def emit(context, builder, sig, args):
        pointer = element_pointer(context, builder, sig.args[0], *args[:2])
        with builder.if_else(_is_whole(builder, args[2], kind)) as (whole, part):
            with whole:
                loaded = load_vector(builder, pointer, kind.ir_type)
                whole_end = builder.block
            with part:
                copied = _masked(builder, "load", pointer, kind, args[2], ir.Constant(kind.ir_type, None))
                part_end = builder.block
        value = builder.phi(kind.ir_type)
        value.add_incoming(loaded, whole_end)
        value.add_incoming(copied, part_end)
        return value

    return signature(kind, array, types.intp, types.intp), emit


@intrinsic
def store_first(typingctx, array, offset, value, count):
    """Store the first `count` lanes of `value` from flat `offset` on; writes nothing past them."""
    if not (is_float_array(array) and value == vec_of(array.dtype)):
        return None

    def emit(context, builder, sig, args):
        pointer = element_pointer(context, builder, sig.args[0], *args[:2])
        with builder.if_else(_is_whole(builder, args[3], value)) as (whole, part):
            with whole:
                store_vector(builder, pointer, args[2])
            with part:
                _masked(builder, "store", pointer, value, args[3], args[2])
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, value, types.intp), emit


def _is_whole(builder, count, kind):
    return builder.icmp_signed(">=", count, int_constant(kind.lanes))


def _masked(builder, action, pointer, kind, count, value):
    """Load the first `count` lanes, and those of `value` for the others, or store the first lanes of `value`."""
    vector, flags = kind.ir_type, ir.VectorType(ir.IntType(1), kind.lanes)
    mask, place = flags_of_first(builder, kind, count), builder.bitcast(pointer, vector.as_pointer())
    name = f"llvm.masked.{action}.v{kind.lanes}f{kind.scalar.bitwidth}.p0"
    align = ir.IntType(32)(kind.scalar.bitwidth // 8)
    if action == "load":
        function = ir.FunctionType(vector, [place.type, align.type, flags, vector])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [place, align, mask, value])
    function = ir.FunctionType(ir.VoidType(), [vector, place.type, align.type, flags])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [value, place, align, mask])


def array_of(context, builder, kind, data, length):
    """Return a 1-D array of memory that nobody else manages."""
    array, size = context.make_array(kind)(context, builder), int_constant(kind.dtype.bitwidth // 8)
    context.populate_array(array, data=data, shape=[length], strides=[size], itemsize=size, meminfo=None)
    return array._getvalue()


@intrinsic
def array_at(typingctx, like, address, length):
    """Return the 1-D array of `length` elements, of like's type, that begins at an address."""
    if not is_float_array(like):
        return None
    kind = types.Array(like.dtype, 1, "C")

    def emit(context, builder, sig, args):
        data = builder.inttoptr(args[1], SCALARS[like.dtype].as_pointer())
        return array_of(context, builder, kind, data, args[2])

    return signature(kind, like, types.intp, types.intp), emit


@intrinsic
def stack_array(typingctx, like, vectors):
    """Return an uninitialised 1-D array of `vectors` (a literal) vectors on the stack, alive until its function returns."""
    if not (is_float_array(like) and isinstance(vectors, types.IntegerLiteral)):
        return None
    kind = types.Array(like.dtype, 1, "C")
    length = vectors.literal_value * vec_of(like.dtype).lanes

    def emit(context, builder, sig, args):
        scalar = SCALARS[like.dtype]
        with builder.goto_entry_block():  # cgutils.alloca_once would also fill it with zeros, element by element
            place = builder.alloca(ir.ArrayType(scalar, length))
        place.align = 64
        data = builder.bitcast(place, scalar.as_pointer())
        return array_of(context, builder, kind, data, int_constant(length))

    return signature(kind, like, vectors), emit


@intrinsic
def constant_row(typingctx, like, value):
    """Return a pointer to read-only memory that holds the literal `value` in as many elements as the widest panel."""
    if not (is_float_array(like) and isinstance(value, types.IntegerLiteral)):
        return None
    number = float(value.literal_value)

    def emit(context, builder, sig, args):
        scalar, length = SCALARS[like.dtype], 4 * target.WIDTH
        kind = ir.ArrayType(scalar, length)
        name = f"numlstm_row_of_{value.literal_value}_{like.dtype}"
        row = builder.module.globals.get(name)
        if row is None:
            row = ir.GlobalVariable(builder.module, kind, name)
            row.initializer = ir.Constant(kind, [number] * length)
            row.global_constant, row.linkage, row.align = True, "internal", 64
        return builder.bitcast(row, scalar.as_pointer())

    return signature(types.CPointer(like.dtype), like, value), emit
