"""A SIMD vector as a Numba type: the lane type that cells are written over.

``Vec`` maps to an LLVM vector, so that what is held in a variable is held in a register. The operators ``+ - * /`` and unary
``-`` work lane by lane, and with numbers. memory.py loads and stores it.
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


def element_bytes(ir_type):
    return 8 if ir_type.element == ir.DoubleType() else 4


def splat_value(builder, scalar, ir_type):
    """Return a vector with `scalar` in every lane."""
    undefined = ir.Constant(ir_type, ir.Undefined)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), ir_type.count), [0] * ir_type.count)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, ir.IntType(32)(0)), undefined, mask)


def fmuladd(builder, a, b, c):
    """Return ``a * b + c``, fused where the CPU can. (`llvm.fma` would call libm where it cannot.)"""
    kind = a.type
    name = f"llvm.fmuladd.v{kind.count}f{8 * element_bytes(kind)}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [a, b, c])


def flags_of_first(builder, kind, count):
    """Return which lanes are among the first `count`."""
    numbers = ir.Constant(ir.VectorType(INT, kind.lanes), list(range(kind.lanes)))
    return builder.icmp_signed("<", numbers, splat_value(builder, count, numbers.type))


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
        name = f"llvm.sqrt.v{kind.count}f{8 * element_bytes(kind)}"
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
        return builder.select(flags_of_first(builder, value, args[1]), args[0], ir.Constant(value.ir_type, None))

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


# --- arrays that hold lanes --------------------------------------------------------------------------------------------


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
