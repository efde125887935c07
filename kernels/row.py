"""Products of one row, as a part of the code that they are called from: the sums stay in registers over the whole k loop."""

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .cells import spread_of, type_of
from .compiling import jit
from .memory import element_pointer, load_first, store_first
from .simd import INT, fmuladd, int_constant, lanes, splat_value, vec_of
from .tile import right_vector


@jit
def load_four(array, at, count):
    """Return `count` elements from flat offset `at` on in four vectors, zero in the lanes past them; none is read."""
    width = lanes(array)
    return (
        load_first(array, at, count),
        load_first(array, at + width, count - width),
        load_first(array, at + 2 * width, count - 2 * width),
        load_first(array, at + 3 * width, count - 3 * width),
    )


@jit
def dense_row(W, b, x, y):
    """Compute one row of a dense layer, ``y = x W + b``, with the bits of products.dense_rows.

    W : (panels, K, V) by layout.pack_rows; b : (C,); x : (K,); y : (C,)  written
    """
    width, columns = lanes(y), y.shape[0]
    for p in range(W.shape[0]):
        at = p * W.shape[2]
        count = columns - at
        if count > width:
            first, second, third, fourth = add_row(W, p, load_four(b, at, count), x)
            store_first(y, at, first, count)
            store_first(y, at + width, second, count - width)
            store_first(y, at + 2 * width, third, count - 2 * width)
            store_first(y, at + 3 * width, fourth, count - 3 * width)
        else:
            store_first(y, at, add_row(W, p, (load_first(b, at, count),), x)[0], count)


@intrinsic
def add_row(typingctx, W, p, sums, x):
    """Return the first vectors of panel `p`, as many as `sums` has, or all of two panels, with the product of x added.

    W : (panels, K, V); x : (K,)
    """
    kind, sums_type = vec_of(x.dtype), sums

    def emit(context, builder, sig, args):
        W, p, sums, x = args
        k_end = builder.extract_value(context.make_array(sig.args[3])(context, builder, x).shape, 0)
        elements = 4 * kind.lanes
        size = builder.mul(k_end, int_constant(elements))
        panels = (builder.add(p, int_constant(j)) for j in range(1 + len(sums_type) // 8))
        starts = [element_pointer(context, builder, sig.args[0], W, builder.mul(panel, size)) for panel in panels]
        row = element_pointer(context, builder, sig.args[3], x, int_constant(0))
        after = _row_loop(builder, kind, cgutils.unpack_tuple(builder, sums), row, starts, k_end, elements)
        return context.make_tuple(builder, sig.return_type, after)

    return signature(sums, W, types.intp, sums, x), emit


@intrinsic
def add_products(typingctx, cell, sums, x, h, own, p):
    """Return the slots of one panel or more, from panel `p` on, with the products of x and of h added, one row each.

    own : the states beside h, some of which the product sees as well
    sums : a tuple of slots for each panel, of `spread` vectors each, held in registers throughout
    """
    kind, of_cell = vec_of(x.dtype), type_of(cell)
    spread = spread_of(of_cell)

    def emit(context, builder, sig, args):
        cell, sums, x, h, own, p = args
        seen = [h, *cgutils.unpack_tuple(builder, own)[1 : 1 + of_cell.seen]]
        panels = [cgutils.unpack_tuple(builder, slots) for slots in cgutils.unpack_tuple(builder, sums)]
        for i, left_type, lefts, (first, count) in (
            (0, sig.args[2], [x], of_cell.x_slots),
            (1, sig.args[3], seen, of_cell.h_slots),
        ):
            weights_type, weights = sig.args[0][i], builder.extract_value(cell, i)
            first, count = first * spread, count * spread
            k_end = builder.extract_value(context.make_array(left_type)(context, builder, lefts[0]).shape, 0)
            elements = count * kind.lanes // (2 if weights_type.dtype == types.uint32 else 1)
            size = builder.mul(k_end, int_constant(elements))
            of_first = builder.mul(p, int_constant(len(lefts)))
            for k, left in enumerate(lefts):  # whose weights follow each other in a panel
                parts = (builder.add(of_first, int_constant(j * len(lefts) + k)) for j in range(len(panels)))
                offsets = (builder.mul(part, size) for part in parts)
                starts = [element_pointer(context, builder, weights_type, weights, offset) for offset in offsets]
                before = [vector for slots in panels for vector in slots[first : first + count]]
                row = element_pointer(context, builder, left_type, left, int_constant(0))
                after = _row_loop(builder, kind, before, row, starts, k_end, elements)
                for j, slots in enumerate(panels):
                    slots[first : first + count] = after[j * count : (j + 1) * count]
        made = [context.make_tuple(builder, kind, slots) for kind, slots in zip(sig.return_type, panels, strict=True)]
        return context.make_tuple(builder, sig.return_type, made)

    return signature(sums, cell, sums, x, h, own, types.intp), emit


def _row_loop(builder, kind, first, left, starts, k_end, elements):
    """Emit the loop over k; return the sums after it."""
    before, loop, done = builder.block, builder.append_basic_block("row_k"), builder.append_basic_block("row_done")
    builder.cbranch(builder.icmp_signed(">", k_end, int_constant(0)), loop, done)

    builder.position_at_end(loop)
    k, places = builder.phi(INT), [builder.phi(start.type) for start in starts]
    held = [builder.phi(kind.ir_type) for _ in first]
    vectors = len(first) // len(starts)
    number = splat_value(builder, builder.load(builder.gep(left, [k])), kind.ir_type)
    sums = [
        fmuladd(builder, right_vector(builder, places[j // vectors], j % vectors, kind), number, accumulator)
        for j, accumulator in enumerate(held)
    ]
    k_next = builder.add(k, int_constant(1))
    next_places = [builder.gep(place, [int_constant(elements)]) for place in places]
    builder.cbranch(builder.icmp_signed("<", k_next, k_end), loop, done)
    for phi, start, following in [
        (k, int_constant(0), k_next),
        *zip(places, starts, next_places, strict=True),
        *zip(held, first, sums, strict=True),
    ]:
        phi.add_incoming(start, before)
        phi.add_incoming(following, loop)

    builder.position_at_end(done)
    results = [builder.phi(kind.ir_type) for _ in first]
    for result, start, summed in zip(results, first, sums, strict=True):
        result.add_incoming(start, before)
        result.add_incoming(summed, loop)
    return results
