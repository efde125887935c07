"""One step of one sequence, for a user's own compiled code: no allocation, no Python object, no address kept anywhere.

The products of one row are part of the step itself: the sums of a panel of hidden units, or of two panels, stay in registers
over the inputs, then over the states, until the cell is applied to them. The sums are chains in the order of the sweeps':
the same bits.
"""

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload

from .cells import cell_forward, load_slots, spread_of, type_of
from .compiling import OPTIONS, entry, jit, source_hash
from .simd import (
    INT,
    copy,
    element_pointer,
    fmuladd,
    int_constant,
    is_float_array,
    lanes,
    load_first,
    pointer,
    splat_value,
    store_first,
    vec_of,
)
from .tile import right_vector


def step(params, state, x, y):
    """Bring one sequence one step on: ``y`` and the states become those after the input ``x``.

    For calls from ``@njit`` functions: nothing is allocated, no Python object is touched and the GIL is not needed, so that
    ``nogil=True`` functions may call it from many threads, each with a state of its own. Functions with ``cache=True`` are
    found on disk by the next process. Plain Python may call it too, to look at it: numlstm's layers are faster there.

    Parameters
    ----------
    params : namedtuple of arrays
        From `numlstm.functional.jit`.
    state : namedtuple of h (H,) and c (H,)
        Overwritten. A copy of its arrays is another sequence.
    x : (I,)
        The step's input, contiguous, of the weights' dtype.
    y : (H,)
        Written: the new h. It may not overlap with x or the states.

    Raises
    ------
    ValueError
        For sizes that do not fit together.
    numba.core.errors.TypingError
        For other types, and parameters that another version of numlstm made or another width of vectors needed: when the
        calling function is compiled.
    """
    _call(params, state, x, y)


@overload(step, jit_options={**OPTIONS, "_nrt": False, "forceinline": True})
def _choose_step(params, state, x, y):
    cell = type_of(params)
    if cell is None:
        raise TypingError(f"params must be what numlstm.functional.jit returned, not {params}")
    if cell.stamp != source_hash():
        raise TypingError("params were made by another version of numlstm, or for other vectors: call functional.jit again")
    if cell.h_is_state or cell.states != 1 or spread_of(cell) != 1:
        raise TypingError(f"there is no step for {cell.__name__}")
    dtype = params[2].dtype
    fields = dict(zip(state.fields, state, strict=True)) if isinstance(state, types.BaseNamedTuple) else {}
    for name, array in (("x", x), ("y", y), ("state.h", fields.get("h")), ("state.c", fields.get("c"))):
        usable = is_float_array(array) and array.ndim == 1 and array.dtype == dtype and (array.mutable or name == "x")
        if not usable:
            kind = "contiguous" if name == "x" else "contiguous, writable"
            raise TypingError(f"{name} must be a {kind} 1-D array of {dtype}, not {array}")
    return _step


def _step(params, state, x, y):
    hidden = params.h.shape[1]
    if x.shape[0] != params.x.shape[1]:
        raise ValueError("x must have shape (I,), I the inputs of the weights")
    if y.shape[0] != hidden or state.h.shape[0] != hidden or state.c.shape[0] != hidden:
        raise ValueError("y, state.h and state.c must have shape (H,), H the hidden units of the weights")
    cell_step(params, state.h, state.c, x, y)


@entry
def _call(params, state, x, y):
    step(params, state, x, y)


@jit
def cell_step(cell, h, c, x, y):
    """Bring the states of one sequence one step on.

    cell : cells.Cell with one state beside h; x and h may both be pairs of bfloat16 (layout.pair)
    h, c : (H,)  overwritten; x : (I,); y : (H,)  written: the new h; no two arrays overlap
    """
    width, units, panels = lanes(y), cell.b.shape[1], cell.h.shape[0]
    for p in range(0, panels, 2):
        at = p * width
        sums = load_slots(cell, cell.b, at, units)
        last = p + 2 >= panels  # all of h has been read: it can be written
        if p + 1 < panels:  # the chains of sums of one panel cannot keep two multipliers of latency 4 busy
            both = add_products(cell, (sums, load_slots(cell, cell.b, at + width, units)), x, h, p)
            _apply(cell, both[0], c, y, h, at, last)
            _apply(cell, both[1], c, y, h, at + width, last)
        else:
            _apply(cell, add_products(cell, (sums,), x, h, p)[0], c, y, h, at, last)
    if panels > 2:
        copy(pointer(y, 0), pointer(h, 0), (panels - 1) // 2 * 2 * width)


@jit
def _apply(cell, sums, c, y, h, at, last):
    """Apply the cell to one vector of units; write c and y and, with `last`, h."""
    count = y.shape[0] - at
    _, states, out = cell_forward(cell, at, sums, (load_first(c, at, count),))
    store_first(c, at, states[0], count)
    store_first(y, at, out, count)
    if last:
        store_first(h, at, out, count)


@intrinsic
def add_products(typingctx, cell, sums, x, h, p):
    """Return the slots of one panel or more, from panel `p` on, with the products of x and of h added, one row each.

    sums : a tuple of slots for each panel, held in registers throughout
    """
    kind, of_cell = vec_of(x.dtype), type_of(cell)

    def emit(context, builder, sig, args):
        cell, sums, x, h, p = args
        panels = [cgutils.unpack_tuple(builder, slots) for slots in cgutils.unpack_tuple(builder, sums)]
        for i, left_type, left, (first, count) in (
            (0, sig.args[2], x, of_cell.x_slots),
            (1, sig.args[3], h, of_cell.h_slots),
        ):
            weights_type, weights = sig.args[0][i], builder.extract_value(cell, i)
            k_end = builder.extract_value(context.make_array(left_type)(context, builder, left).shape, 0)
            elements = count * kind.lanes // (2 if weights_type.dtype == types.uint32 else 1)
            size = builder.mul(k_end, int_constant(elements))
            offsets = (builder.mul(builder.add(p, int_constant(j)), size) for j in range(len(panels)))
            starts = [element_pointer(context, builder, weights_type, weights, offset) for offset in offsets]
            before = [vector for slots in panels for vector in slots[first : first + count]]
            row = element_pointer(context, builder, left_type, left, int_constant(0))
            after = _row_loop(builder, kind, before, row, starts, k_end, elements)
            for j, slots in enumerate(panels):
                slots[first : first + count] = after[j * count : (j + 1) * count]
        made = [context.make_tuple(builder, kind, slots) for kind, slots in zip(sig.return_type, panels, strict=True)]
        return context.make_tuple(builder, sig.return_type, made)

    return signature(sums, cell, sums, x, h, types.intp), emit


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
