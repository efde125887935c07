"""One step of one sequence, for a user's own compiled code: no allocation, no Python object, no address kept anywhere.

The products of one row are part of the step itself: the sums of a panel of hidden units, or of two panels, stay in registers
over the inputs, then over the states, until the cell is applied to them. The sums are chains in the order of the sweeps':
the same bits.
"""

from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .cells import cell_first, cell_forward, load_slots, places, show, spread_of, store_all, type_of
from .compiling import entry, jit, overload, source_hash
from .memory import copy, element_pointer, load_first, pointer, store_first, store_vector
from .norm import numbers_of_step, row_moments, second_moments, sum_with_second, sums_of_units, unit_moments
from .options import settled_h_one, settled_states_one
from .row import add_products, add_row, load_four
from .simd import int_constant, is_float_array, lanes, vec_of


def step(params, state, x, y):
    """Bring one sequence one step on: ``y`` and the states become those after the input ``x``.

    For calls from ``@njit`` functions: nothing is allocated, no Python object is touched and the GIL is not needed, so that
    ``nogil=True`` functions may call it from many threads, each with a state of its own. Functions with ``cache=True`` are
    found on disk by the next process. Plain Python may call it too, to look at it: `numlstm.Sequential.stream` is for that.

    Parameters
    ----------
    params : namedtuple of arrays
        Of a model, from `numlstm.Sequential.jit`, or of one layer, from `numlstm.functional.jit`.
    state : namedtuple of arrays
        What came with the params: overwritten. A copy is another sequence.
    x : (I,), or an integer for a model that begins with an `numlstm.Embedding`
        The step's input, contiguous, of the params' dtype.
    y : (H,), or (C,) for C outputs of a model
        Written: the output after this step. It may not overlap with x or the state.

    Raises
    ------
    ValueError
        For sizes that do not fit together, or an integer that the embedding does not know.
    numba.core.errors.TypingError
        For other types, and parameters that another version of numlstm made or another width of vectors needed: when the
        calling function is compiled.
    """
    try:
        _call(params, state, x, y)
    except TypingError:
        choose_step(*map(typeof, (params, state, x, y)))  # says what is wrong, without pages of Numba's own around it
        raise


@overload(step, forceinline=True)
def choose_step(params, state, x, y):
    """Return the code for arguments of these types; TypingError if there is none."""
    kind = getattr(params, "instance_class", None)
    stamp = getattr(kind, "stamp", None)
    if stamp is None:
        raise TypingError(f"params must be what the method jit of a model or numlstm.functional.jit returned, not {params}")
    if stamp != source_hash():
        raise TypingError("params were made by another version of numlstm, or for other vectors: call jit again")
    choose = _choose_recurrent if type_of(params) is not None else kind.choose_step
    return choose(params, state, x, y)


@entry
def _call(params, state, x, y):
    step(params, state, x, y)


def check_array(name, array, dtype, written=True):
    """Refuse, by a TypingError, the type of an argument that is not an array as `step` needs it."""
    if not (is_float_array(array) and array.ndim == 1 and array.dtype == dtype and (array.mutable or not written)):
        kind = "contiguous, writable" if written else "contiguous"
        raise TypingError(f"{name} must be a {kind} 1-D array of {dtype}, not {array}")


def _choose_recurrent(params, state, x, y):
    cell, dtype = type_of(params), params[2].dtype
    check_array("x", x, dtype, written=False)
    check_array("y", y, dtype)
    if cell.base is None or cell.second_product:
        _check_state(cell, state, dtype)
        return _two_products if cell.second_product else _step_with_room if cell.seen else _step
    if not isinstance(state, types.BaseNamedTuple) or state.fields != ("states", "products"):
        raise TypingError(f"state must be what came with params, a namedtuple of states and products, not {state}")
    _check_state(cell, state[0], dtype)
    check_array("state.products", state[1], dtype)
    return _normed_step_with_room if cell.seen else _normed_step


def _check_state(cell, state, dtype):
    """Refuse, by a TypingError, the type of a state that the cell does not have."""
    two = bool(cell.second_product)
    count = cell.states + (not cell.h_is_state) + (cell.seen > 0) + two
    if not isinstance(state, types.BaseNamedTuple) or len(state) != count or state.fields[0] != "h":
        raise TypingError(f"state must be what came with params, a namedtuple of {count} with h first, not {state}")
    for name, array in zip(state.fields, state, strict=True):
        if name == "work":
            for part, of_work in zip(("u", "z"), array, strict=True):
                check_array(f"state.work.{part}", of_work, dtype)
        else:
            check_array(f"state.{name}", array, dtype)


def _step(params, state, x, y):
    _check_sizes(params, state, x, y)
    cell_step(params, state.h, state[1:], None, x, y)


def _step_with_room(params, state, x, y):
    _check_sizes(params, state[:-1], x, y)
    if state.room.shape[0] != places(params).seen * y.shape[0]:
        raise ValueError("state.room must have as many elements as the states that the products see beside h")
    cell_step(params, state.h, state[1:-1], state.room, x, y)


def _normed_step(params, state, x, y):
    _check_products(params, state.products)
    _check_sizes(params, state.states, x, y)
    normed_step(params, state.states.h, state.states[1:], x, y, state.products)


def _normed_step_with_room(params, state, x, y):  # which it does not need: all products are there before a state changes
    _check_products(params, state.products)
    _check_sizes(params, state.states[:-1], x, y)
    normed_step(params, state.states.h, state.states[1:-1], x, y, state.products)


@jit
def _check_products(params, products):
    if products.shape[0] != numbers_of_step(params.b.shape[0], params.b.shape[1]):
        raise ValueError("state.products must have the size that came with params")


@jit
def _check_sizes(params, state, x, y):
    hidden = params.h.shape[1] // (1 + places(params).seen)
    if x.shape[0] != params.x.shape[1]:
        raise ValueError("x must have shape (I,), I the inputs of the weights")
    for array in state:
        if array.shape[0] != hidden:
            raise ValueError("the arrays of state must have shape (H,), H the hidden units of the weights")
    if y.shape[0] != hidden:
        raise ValueError("y must have shape (H,), H the hidden units of the weights")


def _two_products(params, state, x, y):
    hidden, outputs = params.second.shape[1], params.h.shape[1]
    if x.shape[0] != params.x.shape[1]:
        raise ValueError("x must have shape (I,), I the inputs of the weights")
    if y.shape[0] != outputs:
        raise ValueError("y must have shape (P,), P the outputs of the weights")
    numbers = params.b.size + 4 * params.b.shape[1] * places(params).normed
    fits = state.h.shape[0] == outputs and state.work.u.shape[0] == hidden and state.work.z.shape[0] == numbers
    if not (fits and _all_of_size(state[1:-1], hidden)):
        raise ValueError("state must have the sizes of the one that came with params")
    two_products_step(params, state.h, state[1:-1], state.work, x, y)


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


# --- cells with a second product ---


def _all_of_size(arrays, size):
    """Return whether all arrays of a tuple have so many elements."""


@overload(_all_of_size, forceinline=True)
def _choose_all_of_size(arrays, size):
    if len(arrays) == 0:
        return lambda arrays, size: True
    return lambda arrays, size: arrays[0].shape[0] == size and _all_of_size(arrays[1:], size)


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
