"""The step of one sequence in a layer, without checks.

The products of one row are part of the step itself: the sums of a panel of hidden units, or of two panels, stay in registers
over the inputs, then over the states, until the cell is applied to them. The sums are chains in the order of the sweeps':
the same bits.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .cells import cell_first, cell_forward, load_slots, places, show, spread_of, store_all, type_of
from .compiling import jit, overload
from .memory import copy, element_pointer, load_first, pointer, store_first, store_vector
from .norm import row_moments, second_moments, sum_with_second, sums_of_units, unit_moments
from .row import add_products, add_row, load_four
from .simd import int_constant, lanes, vec_of
from .zoneout import settled_h_one, settled_states_one


@jit
def cell_step(cell, h, own, room, x, y):
    """Bring the states of one sequence one step on.

    cell : cells.Cell; its x and h may both be pairs of bfloat16 (layout.pair)
    h : (H,), own : tuple of (H,), the cell's states beside h; overwritten
    room : (seen H,)  overwritten, of a cell whose products see some of these states; else None
    x : (I,); y : (H,)  written: the new h; no two arrays overlap
    """
    wide, panels = places(cell).spread * lanes(y), cell.h.shape[0]
    for p in range(0, panels, 2):
        at = p * wide
        last = p + 2 >= panels  # all of h has been read: it can be written
        if p + 1 < panels:  # the chains of sums of one panel cannot keep two multipliers of latency 4 busy
            both = add_products(cell, (_biases(cell, at), _biases(cell, at + wide)), x, h, own, p)
            _apply_panel(cell, both[0], own, room, y, h, at, last)
            _apply_panel(cell, both[1], own, room, y, h, at + wide, last)
        else:
            _apply_panel(cell, add_products(cell, (_biases(cell, at),), x, h, own, p)[0], own, room, y, h, at, last)
    if panels > 2:
        copy(pointer(y, 0), pointer(h, 0), (panels - 1) // 2 * 2 * wide)
    if room is not None:
        for k in range(places(cell).seen):
            copy(pointer(room, k * y.shape[0]), pointer(own[1 + k], 0), y.shape[0])


@jit
def normed_step(cell, h, own, x, y, products):
    """Bring the states of one sequence one step on, of a cell whose products are normalised (norm.py): see cell_step.

    products : (norm.numbers_of_step,)  overwritten; nothing older is read
    """
    _normed_sums(cell, h, own, x, y.shape[0], products)
    units = cell.b.shape[1]
    for unit in range(0, units, lanes(y)):
        _apply(cell, load_slots(cell, products, unit, units), own, None, y, h, unit, True)


@jit
def _normed_sums(cell, h, own, x, hidden, products):
    """Write the sums of all units, of normalised products, to the cell's own slots of `products`."""
    width, to, units = lanes(x), places(cell), cell.b.shape[1]
    wide, moments = to.spread * width, to.slots * units
    for p in range(cell.h.shape[0]):
        at, vectors = p * wide, min(to.spread, units // width - p * to.spread)
        _store_products(cell, add_products(cell, (_zeros(cell, x),), x, h, own, p)[0], products, at, units, vectors)
        for unit in range(at, at + vectors * width, width):
            unit_moments(cell, products, unit, units, products, moments + unit)
    of_x = row_moments(products, moments, units, hidden, to.x_count)
    of_h = row_moments(products, moments + 2 * units, units, hidden, to.h_count)
    for unit in range(0, units, width):
        sums_of_units(cell, products, unit, units, unit, of_x, of_h, False)


@intrinsic
def _zeros(typingctx, cell, like):
    """Return zeros for all slots of a panel."""
    of_cell = type_of(cell)
    kind = types.UniTuple(vec_of(like.dtype), of_cell.slots * spread_of(of_cell))

    def emit(context, builder, sig, args):
        zero = ir.Constant(kind.dtype.ir_type, None)
        return context.make_tuple(builder, kind, [zero] * kind.count)

    return signature(kind, cell, like), emit


@intrinsic
def _store_products(typingctx, cell, sums, array, at, units, vectors):
    """Store the slots of both products of a panel, `units` elements apart; of each the first `vectors` vectors."""
    of_cell = type_of(cell)
    spread, first = spread_of(of_cell), of_cell.x_slots[0]

    def emit(context, builder, sig, args):
        _, sums, array, at, units, vectors = args
        held = cgutils.unpack_tuple(builder, sums)
        for v in range(spread):
            with builder.if_then(builder.icmp_signed("<", int_constant(v), vectors)):
                for slot in range(first, of_cell.slots):
                    vector = held[slot * spread + v]
                    offset = builder.add(at, builder.mul(units, int_constant(slot)))
                    offset = builder.add(offset, int_constant(v * vector.type.count))
                    store_vector(builder, element_pointer(context, builder, sig.args[2], array, offset), vector)
        return context.get_dummy_value()

    return signature(types.void, cell, sums, array, types.intp, types.intp, types.intp), emit


def _biases(cell, at):
    """Return the vectors that the sums of the panel that begins with unit `at` start from."""


@overload(_biases, forceinline=True)
def _choose_biases(cell, at):
    if spread_of(type_of(cell)) == 1:
        return lambda cell, at: load_slots(cell, cell.b, at, cell.b.shape[1])
    return lambda cell, at: load_four(cell.b, at, cell.b.shape[1] - at)  # the last panel may hold fewer


def _apply_panel(cell, sums, own, room, y, h, at, last):
    """Apply the cell to the units of a panel."""


@overload(_apply_panel, forceinline=True)
def _choose_apply(cell, sums, own, room, y, h, at, last):
    if spread_of(type_of(cell)) == 1:
        return lambda cell, sums, own, room, y, h, at, last: _apply(cell, sums, own, room, y, h, at, last)

    def several(cell, sums, own, room, y, h, at, last):
        width = lanes(y)
        _apply(cell, (sums[0],), own, room, y, h, at, last)
        if at + width < y.shape[0]:
            _apply(cell, (sums[1],), own, room, y, h, at + width, last)
        if at + 2 * width < y.shape[0]:
            _apply(cell, (sums[2],), own, room, y, h, at + 2 * width, last)
        if at + 3 * width < y.shape[0]:
            _apply(cell, (sums[3],), own, room, y, h, at + 3 * width, last)

    return several


@jit
def _apply(cell, sums, own, room, y, h, at, last):
    """Apply the cell to one vector of units; write their own states, y and, with `last`, h."""
    count = y.shape[0] - at
    before = _before(cell, h, own, at, count)
    _, after, out = cell_forward(cell, at, sums, before)
    after, out = settled_h_one(cell, settled_states_one(cell, before, after), load_first(h, at, count), out)
    if room is None:
        _write(own, after, at, count)
    else:  # other panels' products have yet to see what was before the step
        _write(own[:1], after[:1], at, count)
        show(cell, room, at, y.shape[0], count, after)
    store_first(y, at, out, count)
    if last:
        store_first(h, at, out, count)


def _before(cell, h, own, at, count):
    """Return the states before the step, as the cell takes them."""


@overload(_before, forceinline=True)
def _choose_before(cell, h, own, at, count):
    if len(own) == 0 and type_of(cell).h_is_state:
        return lambda cell, h, own, at, count: (load_first(h, at, count),)
    if len(own) == 0:
        return lambda cell, h, own, at, count: ()
    return lambda cell, h, own, at, count: (load_first(own[0], at, count),) + _before(cell, h, own[1:], at, count)  # noqa: RUF005


def _write(own, after, at, count):
    """Write the states after the step."""


@overload(_write, forceinline=True)
def _choose_write(own, after, at, count):
    if len(own) == 0 or len(after) == 0:  # h itself is written elsewhere
        return lambda own, after, at, count: None

    def write(own, after, at, count):
        store_first(own[0], at, after[0], count)
        _write(own[1:], after[1:], at, count)

    return write


@jit
def two_products_step(cell, h, own, work, x, y):
    """Bring the states of one sequence one step on; arguments are those of cell_step.

    work : (u, z), u (H,) and z (slots H',), overwritten: what the first part of the cell leaves to the second one; where
        products are normalised, z is (norm.numbers_of_step,)
    """
    _first_part(cell, h, own, work, x)
    _second_part(cell, h, own, work, y)


def _first_part(cell, h, own, work, x):
    """Apply what comes before the second product to all units."""


@overload(_first_part, forceinline=True)
def _choose_first_part(cell, h, own, work, x):
    return _first_of_sums if type_of(cell).base is None else _first_of_normed_sums


def _first_of_sums(cell, h, own, work, x):
    width, panels = lanes(x), cell.h.shape[0]
    for p in range(0, panels, 2):
        at = p * width
        if p + 1 < panels:
            both = add_products(cell, (_biases(cell, at), _biases(cell, at + width)), x, h, own, p)
            _apply_first(cell, both[0], own, work, h, at)
            _apply_first(cell, both[1], own, work, h, at + width)
        else:
            _apply_first(cell, add_products(cell, (_biases(cell, at),), x, h, own, p)[0], own, work, h, at)


def _first_of_normed_sums(cell, h, own, work, x):
    _normed_sums(cell, h, own, x, work.u.shape[0], work.z)
    units = cell.b.shape[1]
    for unit in range(0, units, lanes(x)):
        _apply_first(cell, load_slots(cell, work.z, unit, units), own, work, h, unit)


def _second_part(cell, h, own, work, y):
    """Compute the second product and apply the cell to all units."""


@overload(_second_part, forceinline=True)
def _choose_second_part(cell, h, own, work, y):
    return _normed_second if type_of(cell).second_slot > 0 else _second


def _second(cell, h, own, work, y):
    units, four, seconds = cell.b.shape[1], 4 * lanes(y), cell.second.shape[0]
    for p in range(0, seconds, 2):
        at = p * four
        if p + 1 < seconds:
            before = load_four(work.z, at, units - at), load_four(work.z, at + four, units - at - four)
            both = add_row(cell.second, p, before[0] + before[1], work.u)
            _apply_four(cell, both[:4], own, work, y, h, at)
            _apply_four(cell, both[4:], own, work, y, h, at + four)
        else:
            sums = add_row(cell.second, p, load_four(work.z, at, units - at), work.u)
            _apply_four(cell, sums, own, work, y, h, at)


def _normed_second(cell, h, own, work, y):
    units, width, to = cell.b.shape[1], lanes(y), places(cell)
    moments, place = to.slots * units, to.second * units
    for p in range(cell.second.shape[0]):
        at = 4 * width * p
        sums = add_row(cell.second, p, load_four(work.z, 0, 0), work.u)
        for v, vector in enumerate(sums):
            store_first(work.z, place + at + v * width, vector, units - at - v * width)
    for unit in range(0, units, width):
        second_moments(cell, work.z, unit, units, work.z, moments + unit)
    of_second = row_moments(work.z, moments + 2 * units, units, y.shape[0], 1)
    for unit in range(0, units, width):
        total = sum_with_second(cell, work.z, unit, units, unit, of_second, False)
        _apply_second(cell, total, own, work, y, h, unit)


@jit
def _apply_first(cell, sums, own, work, h, at):
    """Apply what comes before the second product to one vector of units."""
    units, count = cell.b.shape[1], work.u.shape[0] - at
    before = _before(cell, h, own, at, count)
    kept, after, u = cell_first(cell, at, sums, before)
    _write(own, settled_states_one(cell, before, after), at, count)
    store_first(work.u, at, u, count)
    store_all(work.z, at, units, sums)
    store_all(work.z, at, units, kept)


@jit
def _apply_four(cell, sums, own, work, y, h, at):
    """Apply the cell to up to four vectors of units, from the sums of their first slots; write y and h."""
    width = lanes(y)
    _apply_second(cell, sums[0], own, work, y, h, at)
    if at + width < y.shape[0]:
        _apply_second(cell, sums[1], own, work, y, h, at + width)
    if at + 2 * width < y.shape[0]:
        _apply_second(cell, sums[2], own, work, y, h, at + 2 * width)
    if at + 3 * width < y.shape[0]:
        _apply_second(cell, sums[3], own, work, y, h, at + 3 * width)


@jit
def _apply_second(cell, first, own, work, y, h, at):
    count = y.shape[0] - at
    before, slots = _before(cell, h, own, at, count), load_slots(cell, work.z, at, cell.b.shape[1])
    _, after, out = cell_forward(cell, at, (first, *slots[1:]), before)
    after, out = settled_h_one(cell, settled_states_one(cell, before, after), load_first(h, at, count), out)
    _write(own, after, at, count)
    store_first(y, at, out, count)
    store_first(h, at, out, count)
