"""A SIMD vector as a Numba type: the lane type that cells are written over.

``Vec`` maps to an LLVM vector, so that what is held in a variable is held in a register. The operators ``+ - * /`` and unary
``-`` work lane by lane, and with numbers; memory is addressed as a C-contiguous array and a flat offset, in elements, that
nothing checks.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from . import target

INT = ir.IntType(64)
SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Vec(types.Type):
    """`lanes` values of one floating type."""

    def __init__(self, scalar: types.Float, lanes: int) -> None:
        self.scalar = scalar
        self.lanes = lanes
        super().__init__(name=f"Vec({scalar}, {lanes})")

    @property
    def ir_type(self) -> ir.VectorType:
        return ir.VectorType(SCALARS[self.scalar], self.lanes)


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.ir_type)


def vec_of(scalar: types.Float) -> Vec:
    """Return the host's vector type for a scalar type."""
    return Vec(scalar, target.lanes(np.dtype(scalar.name)))


# --- IR helpers, shared with elementary.py and tile.py ---------------------------------------------------------------


def int_constant(value: int) -> ir.Constant:
    return ir.Constant(INT, value)


def element_pointer(context, builder, array_type, array, offset):
    """Return a pointer to element `offset` of a contiguous array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def load_vector(builder, pointer, ir_type):
    """Load a vector from a pointer to its first element; the address needs only the element's alignment."""
    value = builder.load(builder.bitcast(pointer, ir_type.as_pointer()))
    value.align = _element_bytes(ir_type)
    return value


def store_vector(builder, pointer, value):
    """Store a vector at a pointer to its first element; the address needs only the element's alignment."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = _element_bytes(value.type)


def _element_bytes(ir_type):
    return 8 if ir_type.element == ir.DoubleType() else 4


def splat_value(builder, scalar, ir_type):
    """Return a vector with `scalar` in every lane."""
    undefined = ir.Constant(ir_type, ir.Undefined)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), ir_type.count), [0] * ir_type.count)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, ir.IntType(32)(0)), undefined, mask)


def fmuladd(builder, a, b, c):
    """Return ``a * b + c``, fused where the CPU can. (`llvm.fma` would call libm where it cannot.)"""
    kind = a.type
    name = f"llvm.fmuladd.v{kind.count}f{8 * _element_bytes(kind)}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def prefetch(builder, pointer):
    """Ask for the cache line at `pointer`, which may be any address, in the second-level cache."""
    byte_pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte_pointer, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second_level, data = flag(0), flag(2), flag(1)
    builder.call(function, [builder.bitcast(pointer, byte_pointer), read, second_level, data])


# --- operators -------------------------------------------------------------------------------------------------------


def number_as_vector(context, builder, value, kind, vector):
    """Return a number with its Numba type `kind` in every lane of a vector, or the vector that it is already."""
    if kind == vector:
        return value
    return splat_value(builder, context.cast(builder, value, kind, vector.scalar), vector.ir_type)


def lane_types(args):
    """Return the type of the vectors among operands and all types without literals, None if these do not go together."""
    kinds = {arg for arg in args if isinstance(arg, Vec)}
    if len(kinds) != 1 or not all(isinstance(arg, (Vec, types.Number)) for arg in args):
        return None
    return kinds.pop(), tuple(map(types.unliteral, args))


class _LaneByLane(AbstractTemplate):
    def generic(self, args, kws):
        found = None if kws else lane_types(args)
        return found and signature(found[0], *found[1])


def define_lowering(lower, function, arity):
    """Let `lower` be the code of an operator on vectors, or a vector and a number."""
    for kinds in [(Vec,)] if arity == 1 else [(Vec, Vec), (Vec, types.Number), (types.Number, Vec)]:
        lower_builtin(function, *kinds)(lower)


def _define_operator(function, arity, emit):
    infer_global(function)(type(f"_Lanes_{function.__name__}", (_LaneByLane,), {}))

    def lower(context, builder, sig, args):
        kinds = zip(args, sig.args, strict=True)
        return emit(builder, *(number_as_vector(context, builder, arg, kind, sig.return_type) for arg, kind in kinds))

    define_lowering(lower, function, arity)


_define_operator(operator.add, 2, lambda builder, a, b: builder.fadd(a, b))
_define_operator(operator.sub, 2, lambda builder, a, b: builder.fsub(a, b))
_define_operator(operator.mul, 2, lambda builder, a, b: builder.fmul(a, b))
_define_operator(operator.truediv, 2, lambda builder, a, b: builder.fdiv(a, b))
_define_operator(operator.neg, 1, lambda builder, a: builder.fneg(a))


@intrinsic
def fma(typingctx, a, b, c):
    """Return ``a * b + c`` of three vectors."""
    if not (isinstance(a, Vec) and a == b == c):
        return None

    def emit(context, builder, sig, args):
        return fmuladd(builder, *args)

    return signature(a, a, a, a), emit


@intrinsic
def constant(typingctx, like, value):
    """Return the literal `value` in every lane, in the type of `like`: the way to write a number into a cell."""
    if not (isinstance(like, Vec) and isinstance(value, types.Literal)):
        return None
    number = float(value.literal_value)

    def emit(context, builder, sig, args):
        return ir.Constant(like.ir_type, [number] * like.lanes)

    return signature(like, like, value), emit


@intrinsic
def splat(typingctx, like, number):
    """Return `number`, a scalar of the element type of the array `like`, in every lane."""
    if not (is_float_array(like) and number == like.dtype):
        return None
    kind = vec_of(number)

    def emit(context, builder, sig, args):
        return splat_value(builder, args[1], kind.ir_type)

    return signature(kind, like, number), emit


@intrinsic
def sqrt(typingctx, value):
    """Return the square root of each lane."""
    if not isinstance(value, Vec):
        return None

    def emit(context, builder, sig, args):
        kind = value.ir_type
        name = f"llvm.sqrt.v{kind.count}f{8 * _element_bytes(kind)}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
        return builder.call(function, args)

    return signature(value, value), emit


@intrinsic
def clamp(typingctx, value, bound):
    """Return each lane limited to -bound..bound; a NaN stays one."""
    if not (isinstance(value, Vec) and value == bound):
        return None

    def emit(context, builder, sig, args):
        value, bound = args
        low = builder.fneg(bound)
        value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", value, bound), bound, value)

    return signature(value, value, bound), emit


def _chooser(name, relation, doc):
    def typed(typingctx, a, b):
        if not (isinstance(a, Vec) and a == b):
            return None

        def emit(context, builder, sig, args):
            a, b = args
            return builder.select(builder.fcmp_ordered(relation, a, b), b, a)

        return signature(a, a, b), emit

    typed.__name__ = typed.__qualname__ = name
    typed.__doc__ = doc
    return intrinsic(typed)


@intrinsic
def first_lanes(typingctx, value, count):
    """Return a vector with zero in the lanes past the first `count`."""
    if not isinstance(value, Vec):
        return None

    def emit(context, builder, sig, args):
        return builder.select(_first_lanes(builder, value, args[1]), args[0], ir.Constant(value.ir_type, None))

    return signature(value, value, types.intp), emit


@intrinsic
def lane_sum(typingctx, value):
    """Return the sum of all lanes, in every lane: of pairs, of pairs of these, and so on."""
    if not isinstance(value, Vec):
        return None

    def emit(context, builder, sig, args):
        total, apart, count = args[0], 1, value.lanes
        while apart < count:
            order = ir.Constant(ir.VectorType(ir.IntType(32), count), [lane ^ apart for lane in range(count)])
            total = builder.fadd(total, builder.shuffle_vector(total, ir.Constant(value.ir_type, ir.Undefined), order))
            apart *= 2
        return total

    return signature(value, value), emit


maximum = _chooser("maximum", "<", "Return the greater of two vectors' lanes, `a` where either is a NaN.")
minimum = _chooser("minimum", ">", "Return the lesser of two vectors' lanes, `a` where either is a NaN.")


# --- memory ----------------------------------------------------------------------------------------------------------


def is_paired_array(kind):
    """Return whether a type is that of an array of words of two bfloat16 (tile.py)."""
    return isinstance(kind, types.Array) and kind.dtype == types.uint32 and kind.layout == "C"


def is_float_array(kind):
    return isinstance(kind, types.Array) and kind.dtype in SCALARS and kind.layout == "C"


@intrinsic
def lanes(typingctx, array):
    """Return how many elements of `array` a vector holds; a constant to the compiler."""
    if not is_float_array(array):
        return None
    count = vec_of(array.dtype).lanes

    def emit(context, builder, sig, args):
        return int_constant(count)

    return signature(types.intp, array), emit


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


def _first_lanes(builder, kind, count):
    """Return which lanes are among the first `count`."""
    numbers = ir.Constant(ir.VectorType(INT, kind.lanes), list(range(kind.lanes)))
    return builder.icmp_signed("<", numbers, splat_value(builder, count, numbers.type))


def _masked(builder, action, pointer, kind, count, value):
    """Load the first `count` lanes, and those of `value` for the others, or store the first lanes of `value`."""
    vector, flags = kind.ir_type, ir.VectorType(ir.IntType(1), kind.lanes)
    mask, place = _first_lanes(builder, kind, count), builder.bitcast(pointer, vector.as_pointer())
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
