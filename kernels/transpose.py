"""Transposition of squares of a matrix in registers, for packing weights and unpacking their gradients."""

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .memory import element_pointer, load_vector, store_vector
from .simd import INT, SCALARS, int_constant, is_float_array, vec_of


@intrinsic
def transpose_square(typingctx, source, source_at, source_step, target_array, target_at, target_step, add):
    """Write a square of lanes x lanes elements transposed: element (r, c) of `source` goes to (c, r) of `target_array`.

    Rows start at ``at + row * step``. With `add`, the square is added to what is there.
    """
    if not (is_float_array(source) and is_float_array(target_array)):
        return None
    kind = vec_of(source.dtype)

    def emit(context, builder, sig, args):
        source_start = element_pointer(context, builder, sig.args[0], *args[:2])
        target_start = element_pointer(context, builder, sig.args[3], *args[3:5])
        builder.call(_square_function(builder.module, kind), [source_start, args[2], target_start, args[5], args[6]])
        return context.get_dummy_value()

    index = types.intp
    return signature(types.void, source, index, index, target_array, index, index, types.boolean), emit


def _square_function(module, kind):
    """Return the LLVM function behind `transpose_square`, once a module; it is too long to be inlined."""
    name = f"numlstm_transpose_{kind.scalar}x{kind.lanes}"
    if name in module.globals:
        return module.globals[name]
    pointer = SCALARS[kind.scalar].as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, INT, pointer, INT, ir.IntType(1)]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    source, source_step, destination, destination_step, add = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    rows = [
        load_vector(builder, builder.gep(source, [builder.mul(source_step, int_constant(r))]), kind.ir_type)
        for r in range(kind.lanes)
    ]
    rows = _transpose(builder, rows)
    places = [builder.gep(destination, [builder.mul(destination_step, int_constant(r))]) for r in range(kind.lanes)]
    with builder.if_else(add) as (adding, writing):
        with adding:
            for place, row in zip(places, rows, strict=True):
                store_vector(builder, place, builder.fadd(load_vector(builder, place, kind.ir_type), row))
        with writing:
            for place, row in zip(places, rows, strict=True):
                store_vector(builder, place, row)
    builder.ret_void()
    return function


def _transpose(builder, rows):
    """Transpose a square of vectors by swapping its quarters, then theirs, and so on: L log2(L) shuffles."""
    lane_count = len(rows)
    rows = list(rows)
    distance = lane_count // 2
    while distance:
        low = [c if not c & distance else lane_count + (c ^ distance) for c in range(lane_count)]
        high = [c | distance if not c & distance else lane_count + c for c in range(lane_count)]
        for r in range(lane_count):
            if not r & distance:
                pair = rows[r], rows[r | distance]
                for place, lanes_taken in ((r, low), (r | distance, high)):
                    mask = ir.Constant(ir.VectorType(ir.IntType(32), lane_count), lanes_taken)
                    rows[place] = builder.shuffle_vector(*pair, mask)
        distance //= 2
    return rows
