"""The register tile: a few rows times up to four vectors of a matrix product, held in registers over the whole k loop.

Every product of numlstm runs through it: gates = x W + h U, dh = dgates U, dx = dgates W, dW = dgates' x, and dense layers.
Each output element is one chain of fused multiply-adds over k in order, so that its bits depend neither on the
tile it falls into nor on the thread count.

The right operand is of the result's dtype, or pairs of bfloat16, two to a word: of vectors 2v and 2v + 1 element l of the
one lies in the low half of word l of vector v; that of the other is the whole word, whose upper half was chosen for what
lies below it (layout.pair). So one shift makes two vectors of a load; with a mask for the other a step of 128 units took a
third longer, and a widening load would make one.
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from . import target
from .compiling import CFunction
from .memory import FIRST_LEVEL, SECOND_LEVEL, advance, load_vector, prefetch, store_vector
from .simd import INT, SCALARS, Vec, fmuladd, int_constant, splat_value, vec_of

ROWS = target.TILE.rows
VECTORS = target.TILE.vectors
LONG = 512  # rows of a right operand from which its blocks are taken one by one
LINE = 64  # bytes of a cache line
WORD = ir.IntType(32)  # of two bfloat16
AHEAD_TILES = max(1, VECTORS * target.WIDTH * 4 // LINE)  # cache lines of a panel in one step over k
STEPS_AHEAD = 8 * 16 // target.WIDTH  # of k, about 2 KB of a panel: what comes to the first-level cache before it is read
FEWEST_ROWS_AHEAD = 3  # with fewer rows the loads are the limit, and a prefetch is one more


class Out(NamedTuple):
    """Where the result, or what sums start from, lies: element (row, vector v) at ``row * row_step + v * vector_step``."""

    start: Any
    row_step: int
    vector_step: int


class Left(NamedTuple):
    """The operand read one element at a time: (row, block, k) at ``row * row_step + block * block_step + k * k_step``."""

    start: Any
    row_step: int
    k_step: int
    block_step: int


class Right(NamedTuple):
    """The operand read in vectors, side by side: (block, k) at ``block * block_step + k * k_step``, in elements or words."""

    start: Any
    k_step: int
    block_step: int


def tile_function(
    module: ir.Module, kind: Vec, rows: int, vectors: int, paired: bool = False, panels: int = 1
) -> ir.Function:
    """Return the LLVM function ``out[rows, vectors] = init + sum over blocks, k of left * right``, once a module.

    Arguments: pointers out, init, left, right, ahead; then the steps in the order of Out, Out, Left, Right; then k and
    blocks; with more than one panel, steps from one to the next of out, init, right. What the right operand holds some steps
    over k later is fetched into the first-level cache; from `ahead` on, a cache line a step is fetched into the second-level
    one.

    paired : whether the right operand is pairs of bfloat16
    """
    name = f"numlstm_tile_{kind.scalar}x{kind.lanes}_{rows}x{vectors}x{panels}{'_paired' if paired else ''}"
    if name in module.globals:
        return module.globals[name]
    pointer = kind.ir_type.element.as_pointer()
    right_pointer = WORD.as_pointer() if paired else pointer
    function_type = ir.FunctionType(ir.VoidType(), [pointer] * 3 + [right_pointer] * 2 + [INT] * (11 if panels == 1 else 14))
    function = ir.Function(module, function_type, name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    out, init, left, right, ahead, out_row, out_vec, init_row, init_vec, a_row, a_k, a_block, b_k, b_block, k_end, blocks = (
        function.args[:16]
    )
    out_panel, init_panel, b_panel = function.args[16:] or [int_constant(0)] * 3

    entry = function.append_basic_block("entry")
    outer = function.append_basic_block("block")
    loop = function.append_basic_block("k")
    outer_end = function.append_basic_block("block_end")
    done = function.append_basic_block("done")
    builder = ir.IRBuilder(entry)
    zero = int_constant(0)
    count = panels * rows * vectors
    a_offsets = [builder.mul(a_row, int_constant(row)) for row in range(rows)]
    soon = builder.mul(b_k, int_constant(STEPS_AHEAD))
    line = LINE * 8 // (32 if paired else kind.scalar.bitwidth)  # elements or words
    lines = range(0, vectors * kind.lanes // (2 if paired else 1), line)

    def places(start, panel_step, row_step, vec_step):
        for panel, row, v in itertools.product(range(panels), range(rows), range(vectors)):
            offset = builder.add(builder.mul(row_step, int_constant(row)), builder.mul(vec_step, int_constant(v)))
            yield builder.gep(start, [builder.add(offset, panel_step) if panel else offset])

    first = [load_vector(builder, place, kind.ir_type) for place in places(init, init_panel, init_row, init_vec)]
    builder.cbranch(_positive(builder, k_end, blocks), outer, done)

    builder.position_at_end(outer)
    block, a_base, b_base = builder.phi(INT), builder.phi(pointer), builder.phi(right_pointer)
    ahead_base = builder.phi(right_pointer)
    carried = [builder.phi(kind.ir_type) for _ in range(count)]
    a_rows = [_opaque(builder, builder.gep(a_base, [offset])) for offset in a_offsets]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, a_at, b_at, ahead_at = builder.phi(INT), builder.phi(INT), builder.phi(right_pointer), builder.phi(right_pointer)
    accumulators = [builder.phi(kind.ir_type) for _ in range(count)]
    sums = []
    for panel in range(panels):
        some = accumulators[panel * rows * vectors : (panel + 1) * rows * vectors]
        sums += _multiply_add(builder, kind, some, a_rows, a_at, builder.gep(b_at, [b_panel]) if panel else b_at, vectors)
    if rows >= FEWEST_ROWS_AHEAD:
        prefetch(builder, ahead_at, SECOND_LEVEL)
        b_soon = builder.gep(b_at, [soon])
        for start in lines:
            prefetch(builder, builder.gep(b_soon, [int_constant(start)]), FIRST_LEVEL)
    ahead_next = builder.gep(ahead_at, [int_constant(line)])
    k_next, a_next, b_next = builder.add(k, int_constant(1)), builder.add(a_at, a_k), builder.gep(b_at, [b_k])
    builder.cbranch(builder.icmp_signed("<", k_next, k_end), loop, outer_end)

    builder.position_at_end(outer_end)
    block_next = builder.add(block, int_constant(1))
    a_base_next, b_base_next = builder.gep(a_base, [a_block]), builder.gep(b_base, [b_block])
    builder.cbranch(builder.icmp_signed("<", block_next, blocks), outer, done)

    for phi, start, following in [
        (block, zero, block_next),
        (a_base, left, a_base_next),
        (b_base, right, b_base_next),
        (ahead_base, ahead, ahead_next),
        *zip(carried, first, sums, strict=True),
    ]:
        phi.add_incoming(start, entry)
        phi.add_incoming(following, outer_end)
    for phi, start, following in [
        (k, zero, k_next),
        (a_at, zero, a_next),
        (b_at, b_base, b_next),
        (ahead_at, ahead_base, ahead_next),
        *zip(accumulators, carried, sums, strict=True),
    ]:
        phi.add_incoming(start, outer)
        phi.add_incoming(following, loop)

    builder.position_at_end(done)
    results = [builder.phi(kind.ir_type) for _ in range(count)]
    for phi, start, summed in zip(results, first, sums, strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(summed, outer_end)
    for place, result in zip(places(out, out_panel, out_row, out_vec), results, strict=True):
        store_vector(builder, place, result)
    builder.ret_void()
    return function


def right_vector(builder, start, v, kind):
    """Load vector `v` of a right operand at one k, from floats or from pairs of bfloat16."""
    if start.type.pointee != WORD:
        return load_vector(builder, builder.gep(start, [int_constant(v * kind.lanes)]), kind.ir_type)
    word_type = ir.VectorType(WORD, kind.lanes)
    words = load_vector(builder, builder.gep(start, [int_constant(v // 2 * kind.lanes)]), word_type)
    if v % 2 == 0:  # the other is the word as it is
        words = builder.shl(words, ir.Constant(word_type, [16] * kind.lanes))
    return builder.bitcast(words, kind.ir_type)


def _opaque(builder, pointer):
    """Return `pointer` so that LLVM cannot see how it was computed.

    Otherwise it replaces the row pointers by a chain of additions in the loop, which take the issue slots of the
    multiply-adds (measured: 176 instead of 210 GFLOP/s).
    """
    kind = pointer.type
    return builder.call(ir.InlineAsm(ir.FunctionType(kind, [kind]), "", "=r,0", side_effect=False), [pointer])


def _positive(builder, *counts):
    condition = builder.icmp_signed(">", counts[0], int_constant(0))
    for other in counts[1:]:
        condition = builder.and_(condition, builder.icmp_signed(">", other, int_constant(0)))
    return condition


def _multiply_add(builder, kind, accumulators, a_rows, a_at, b_at, vectors):
    """Emit one step over k, in the order that keeps the fewest operands alive beside the accumulators."""

    def broadcast(row):
        return splat_value(builder, builder.load(builder.gep(a_rows[row], [a_at])), kind.ir_type)

    def vector(v):
        return right_vector(builder, b_at, v, kind)

    sums = [None] * len(accumulators)
    if len(a_rows) < vectors:
        outer, inner = [(v, vector) for v in range(vectors)], [broadcast(row) for row in range(len(a_rows))]
    else:
        outer, inner = [(row, broadcast) for row in range(len(a_rows))], [vector(v) for v in range(vectors)]
    for place, operand in outer:
        value = operand(place)
        for other, held in enumerate(inner):
            row, v = (other, place) if operand is vector else (place, other)
            sums[row * vectors + v] = fmuladd(builder, value, held, accumulators[row * vectors + v])
    return sums


@intrinsic
def _tile(typingctx, rows, vectors, pointers, steps, k, blocks, second):
    """Branch to the tile function of this many rows and vectors.

    second : () or, for one row of two panels, the steps of out, init and right to the second one
    """
    scalar, paired = pointers[0].dtype, pointers[3].dtype == types.uint32
    panels = 2 if len(second) else 1
    shapes = itertools.product(range(1, ROWS + 1 if panels == 1 else 2), [VECTORS] if paired else range(1, VECTORS + 1))

    def emit(context, builder, sig, args):
        rows, vectors, pointers, steps, k, blocks, second = args
        kind = vec_of(scalar)
        call_args = [builder.extract_value(pointers, i) for i in range(5)]
        call_args += [builder.extract_value(steps, i) for i in range(9)] + [k, blocks]
        call_args += [builder.extract_value(second, i) for i in range(len(sig.args[6]))]
        impossible, done = builder.append_basic_block("impossible"), builder.append_basic_block("done")
        selector = builder.add(builder.mul(rows, int_constant(VECTORS + 1)), vectors)
        switch = builder.switch(selector, impossible)
        for row_count, vector_count in shapes:
            case = builder.append_basic_block(f"tile_{row_count}x{vector_count}")
            switch.add_case(int_constant(row_count * (VECTORS + 1) + vector_count), case)
            builder.position_at_end(case)
            builder.call(tile_function(builder.module, kind, row_count, vector_count, paired, panels), call_args)
            builder.branch(done)
        builder.position_at_end(impossible)
        builder.unreachable()
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature(types.void, rows, vectors, pointers, steps, k, blocks, second), emit


def _panel_product(
    out,
    init,
    left,
    right,
    out_row,
    out_vec,
    init_row,
    init_vec,
    a_row,
    a_k,
    a_block,
    b_k,
    b_block,
    k,
    blocks,
    vectors,
    rows,
    out_second,
    init_second,
    right_second,
):
    """The body of the compiled panel product: deal rows out to tiles evenly, for a tile of one row runs at half speed."""
    if right_second > 0:
        steps = (out_row, out_vec, init_row, init_vec, a_row, a_k, a_block, b_k, b_block)
        _tile(1, vectors, (out, init, left, right, right), steps, k, blocks, (out_second, init_second, right_second))
        return
    tiles = (rows + ROWS - 1) // ROWS
    # A long right operand is taken a block at a time, so that it is still in cache when the next rows meet it.
    at_once = blocks if tiles == 1 or k < LONG else 1
    for block in range(0, blocks, at_once):
        right_at = advance(right, block * b_block)
        init_at, init_row_now, init_vec_now = init, init_row, init_vec
        if block > 0:
            init_at, init_row_now, init_vec_now = out, out_row, out_vec
        steps = (out_row, out_vec, init_row_now, init_vec_now, a_row, a_k, a_block, b_k, b_block)
        for i in range(tiles):
            first = rows * i // tiles
            # What follows in memory is the next block or panel: each of the first tiles fetches its share of the lines.
            ahead = advance(right_at, at_once * k * (b_k + min(i, AHEAD_TILES - 1) * b_k // AHEAD_TILES))
            pointers = (
                advance(out, first * out_row),
                advance(init_at, first * init_row_now),
                advance(left, first * a_row + block * a_block),
                right_at,
                ahead,
            )
            _tile(rows * (i + 1) // tiles - first, vectors, pointers, steps, k, at_once, ())


def _compiled_product(scalar, right):
    pointers = [types.CPointer(scalar)] * 3 + [types.CPointer(right)]
    return CFunction(_panel_product, types.void(*pointers, *[types.intp] * 16))


_PANEL_PRODUCTS = {scalar: _compiled_product(scalar, scalar) for scalar in SCALARS}
_PANEL_PRODUCTS[types.uint32] = _compiled_product(types.float32, types.uint32)


def panel_product_address(dtype) -> int:
    """Return the address of the panel product for right operands of `dtype`, compiled at the first call.

    uint32 stands for pairs of bfloat16, of which there are products of VECTORS vectors only.

    Kernels get it as an argument, so that the tiles, most of the machine code, are not compiled again into each of them.
    """
    return _PANEL_PRODUCTS[from_dtype(np.dtype(dtype))].address


@intrinsic
def panel_product(typingctx, address, rows, vectors, out, init, left, right, k, blocks):
    """Compute ``out = init + sum over blocks and k of left * right`` for any number of rows and 1..VECTORS vectors.

    address : of the compiled product for the right operand's dtype (panel_product_address)
    out, init : Out, may be the same; left : Left; right : Right
    """

    def emit(context, builder, sig, args):
        address, rows, vectors, *operands, k, blocks = args
        _call_product(builder, address, operands, [k, blocks, vectors, rows, *[int_constant(0)] * 3])
        return context.get_dummy_value()

    return signature(types.void, *[types.intp] * 3, out, init, left, right, types.intp, types.intp), emit


@intrinsic
def panel_products(typingctx, address, rows, vectors, out, init, left, right, k, blocks, second):
    """Compute what panel_product does and, with one row, perhaps that of another panel at once.

    One panel's chains of sums cannot keep two multipliers busy.

    second : steps of out, init and right to the second panel, which lies behind the first; the last is 0 if there is none
    """

    def emit(context, builder, sig, args):
        address, rows, vectors, *operands, k, blocks, second = args
        steps = [builder.extract_value(second, i) for i in range(3)]
        _call_product(builder, address, operands, [k, blocks, vectors, rows, *steps])
        return context.get_dummy_value()

    return signature(types.void, *[types.intp] * 3, out, init, left, right, types.intp, types.intp, second), emit


def _call_product(builder, address, operands, numbers):
    """Call the panel product at an address with Out, Out, Left and Right, and what follows them."""
    parts = [[builder.extract_value(operand, i) for i in range(len(operand.type.elements))] for operand in operands]
    call_args = [part[0] for part in parts]
    for part in parts:
        call_args += part[1:]
    call_args += numbers
    function_type = ir.FunctionType(ir.VoidType(), [arg.type for arg in call_args])
    builder.call(builder.inttoptr(address, function_type.as_pointer()), call_args)
