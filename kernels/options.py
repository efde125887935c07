"""What may be done to the states of any cell: recurrent dropout, zoneout and clipping.

A cell without options has None in their place. Numba leaves out what stands behind ``options is not None`` where an argument
of that name is None: then it costs nothing, not even time to compile. With options, c of the sweeps has one slot more, which
holds the first state as the cell left it, before zoneout; and dc one more, for the part of dh that goes past the cell to the
step before.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import jit, overload
from .dropout import GOLDEN, MIXES, SHIFTS
from .memory import load, load_first, store, store_first
from .simd import clamp, constant, int_constant, is_float_array, lanes, splat, vec_of


class Options(NamedTuple):
    """The options of one layer.

    numbers : (3,)  the bound of c, infinity for none; the probabilities that zoneout keeps h, and the first other state
    key : (1,) uint64  of the masks of zoneout; (0,) to mix states by the probabilities, as inference does
    mask : (N, H)  what h is multiplied by before every product; (0, H) for ones
    """

    numbers: Any
    key: Any
    mask: Any


class Place(NamedTuple):
    """Which numbers a vector holds: of a row of the caller's, a step among all that x holds, units from `unit` on, of H."""

    row: Any
    step: Any
    steps: Any
    unit: Any
    hidden: Any


def has_options(cell) -> bool:
    """Tell from the Numba type of a cell's parameters whether there are options."""
    return not isinstance(cell.types[cell.fields.index("options")], types.NoneType)


# --- recurrent dropout ---


@jit
def masked(options, row, unit, hidden, h):
    """Return what the products see of a vector of h."""
    if options.mask.shape[0] > 0:
        h = h * load_first(options.mask, row * hidden + unit, hidden - unit)
    return h


def masked_u(cell, options, row, unit, hidden, u):
    """Return what the second product sees of a vector of u, or the gradient of u: where it is made of h, under h's mask."""
    raise NotImplementedError("compiled code only")


@overload(masked_u)
def _choose_masked_u(cell, options, row, unit, hidden, u):
    if cell.instance_class.h_is_state:
        return lambda cell, options, row, unit, hidden, u: masked(options, row, unit, hidden, u)
    return lambda cell, options, row, unit, hidden, u: u


@jit
def mask_row(mask, row, start, values, at, count):
    """Multiply `count` elements of `values` from `at` on by a row of the mask, from unit `start` on."""
    if mask.shape[0] > 0:
        for j in range(0, count, lanes(values)):
            factors = load_first(mask, row * mask.shape[1] + start + j, count - j)
            store_first(values, at + j, load_first(values, at + j, count - j) * factors, count - j)


# --- zoneout ---

_NO_STATES = types.Tuple(())  # of a part of a cell whose other part makes them


@intrinsic
def _random_keeps(typingctx, like, key, counter, half, rate):
    """Return 1 with probability `rate`, else 0, in each lane, from 32 of the 64 random bits of places `counter` on.

    like : an array, of whose dtype the result is; half : 0 for the upper bits (dropout.random_bits), 1 for the lower
    """
    if not (is_float_array(like) and isinstance(half, types.Literal)):
        return None
    kind, lower = vec_of(like.dtype), bool(half.literal_value)

    def emit(context, builder, sig, args):
        _, key, counter, _, rate = args
        words = ir.VectorType(ir.IntType(64), kind.lanes)

        def splatted(value):
            lane = builder.insert_element(ir.Constant(words, ir.Undefined), value, int_constant(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
            return builder.shuffle_vector(lane, ir.Constant(words, ir.Undefined), zeros)

        def number(value):
            return ir.Constant(words, [int(value)] * kind.lanes)

        places = builder.add(splatted(counter), ir.Constant(words, [lane + 1 for lane in range(kind.lanes)]))
        z = builder.add(splatted(key), builder.mul(places, number(GOLDEN)))
        for mix, shift in zip(MIXES, SHIFTS, strict=False):
            z = builder.mul(builder.xor(z, builder.lshr(z, number(shift))), number(mix))
        z = builder.xor(z, builder.lshr(z, number(SHIFTS[-1])))
        bits = builder.and_(z, number(0xFFFFFFFF)) if lower else builder.lshr(z, number(32))
        rate = rate if rate.type == ir.DoubleType() else builder.fpext(rate, ir.DoubleType())
        of_rate = builder.fmul(rate, ir.Constant(ir.DoubleType(), 2.0**32))
        threshold = splatted(builder.fptoui(of_rate, ir.IntType(64)))
        one, zero = (ir.Constant(kind.ir_type, [float(value)] * kind.lanes) for value in (1, 0))
        return builder.select(builder.icmp_unsigned("<", bits, threshold), one, zero)

    return signature(kind, like, types.uint64, types.intp, half, rate), emit


@jit
def _counter(place):
    return (place.row * place.steps + place.step) * place.hidden + place.unit


@jit
def _keep_h(options, place):
    """Return how much of h stays as it was before a step."""
    rate = options.numbers[1]
    if options.key.shape[0] > 0 and rate > 0:
        return _random_keeps(options.numbers, options.key[0], _counter(place), 0, rate)
    return splat(options.numbers, rate)


@jit
def _keep_first(options, place):
    """Return how much of the first other state does."""
    rate = options.numbers[2]
    if options.key.shape[0] > 0 and rate > 0:
        return _random_keeps(options.numbers, options.key[0], _counter(place), 1, rate)
    return splat(options.numbers, rate)


@jit
def _mixed(keep, before, after):
    return keep * before + (constant(keep, 1) - keep) * after  # exact where keep is 0 or 1


class Before(NamedTuple):
    """Where h before a step lies: in `h0` (N, H) if it is the `first` of a window, otherwise in `y` from `y_at` on."""

    first: Any
    h0: Any
    y: Any
    y_at: Any


@jit
def _h_before(lies, place):
    count = place.hidden - place.unit
    if lies.first:
        return load_first(lies.h0, place.row * place.hidden + place.unit, count)
    return load_first(lies.y, lies.y_at, count)


def _mixed_states(cell, keep, before, after):
    """Return states with the first one mixed, if there is one beside h."""
    raise NotImplementedError("compiled code only")


@overload(_mixed_states)
def _choose_mixed_states(cell, keep, before, after):
    kind = cell.instance_class
    if kind.states == 0 or kind.h_is_state or after == _NO_STATES:
        return lambda cell, keep, before, after: after
    return lambda cell, keep, before, after: (_mixed(keep, before[0], after[0]), *after[1:])


def _with_h(cell, after, h):
    """Return states with h in its place, if it is one of them."""
    raise NotImplementedError("compiled code only")


@overload(_with_h)
def _choose_with_h(cell, after, h):
    if cell.instance_class.h_is_state:
        return lambda cell, after, h: (*after[:-1], h)
    return lambda cell, after, h: after


def settled_states(cell, options, place, c, at, units, before, after):
    """Return the states beside h that a step of a sweep ends with, and store the first one as the cell left it.

    c, at : where the states are to go, with the slot more; after : of the cell, or () where another part of it makes them
    """
    raise NotImplementedError("compiled code only")


@overload(settled_states)
def _choose_settled_states(cell, options, place, c, at, units, before, after):
    count = cell.instance_class.states
    if count == 0 or after == _NO_STATES or cell.instance_class.h_is_state:
        return lambda cell, options, place, c, at, units, before, after: after

    def settle(cell, options, place, c, at, units, before, after):
        store(c, at + count * units, after[0])
        return _mixed_states(cell, _keep_first(options, place), before, after)

    return settle


@jit
def settled_h(cell, options, place, lies, after, h):
    """Return the states and h that a step of a sweep ends with; `lies` says where h before the step does."""
    h = _mixed(_keep_h(options, place), _h_before(lies, place), h)
    return _with_h(cell, after, h), h


def settled_states_one(cell, before, after):
    """Return the states beside h that a step outside of a sweep ends with, without masks: mixed by the probabilities."""
    raise NotImplementedError("compiled code only")


@overload(settled_states_one)
def _choose_settled_states_one(cell, before, after):
    if not has_options(cell):
        return lambda cell, before, after: after
    return lambda cell, before, after: _mixed_states(
        cell, splat(cell.options.numbers, cell.options.numbers[2]), before, after
    )


def settled_h_one(cell, after, h_before, h):
    """Return the states and h that a step outside of a sweep ends with."""
    raise NotImplementedError("compiled code only")


@overload(settled_h_one)
def _choose_settled_h_one(cell, after, h_before, h):
    if not has_options(cell):
        return lambda cell, after, h_before, h: (after, h)

    def mix(cell, after, h_before, h):
        h = _mixed(splat(cell.options.numbers, cell.options.numbers[1]), h_before, h)
        return _with_h(cell, after, h), h

    return mix


def unsettled(cell, c, at, units, after):
    """Return the states after a step as the cell left them, from those it ended with, which lie at `at`."""
    raise NotImplementedError("compiled code only")


@overload(unsettled)
def _choose_unsettled(cell, c, at, units, after):
    kind = cell.instance_class
    if kind.states == 0 or kind.h_is_state:
        return lambda cell, c, at, units, after: after
    count = kind.states
    return lambda cell, c, at, units, after: (load(c, at + count * units), *after[1:])


def to_cell_h(cell, options, place, dh, dstates):
    """Return the part of the gradients of h and of the states after a step that goes through the cell, as to h."""
    raise NotImplementedError("compiled code only")


@overload(to_cell_h)
def _choose_to_cell_h(cell, options, place, dh, dstates):
    if cell.instance_class.h_is_state:

        def with_state(cell, options, place, dh, dstates):
            keep = _keep_h(options, place)
            return (constant(keep, 1) - keep) * (dh + dstates[-1]), (*dstates[:-1], constant(dh, 0))

        return with_state

    def alone(cell, options, place, dh, dstates):
        keep = _keep_h(options, place)
        return (constant(keep, 1) - keep) * dh, dstates

    return alone


def to_cell_states(cell, options, place, dstates):
    """Return the part of the gradients of the states after a step that goes through the cell, as to those beside h."""
    raise NotImplementedError("compiled code only")


@overload(to_cell_states)
def _choose_to_cell_states(cell, options, place, dstates):
    kind = cell.instance_class
    if kind.states == 0 or kind.h_is_state:
        return lambda cell, options, place, dstates: dstates

    def through(cell, options, place, dstates):
        keep = _keep_first(options, place)
        return ((constant(keep, 1) - keep) * dstates[0], *dstates[1:])

    return through


def past_cell_h(cell, options, place, dc, at, units, dh, after, before):
    """Return the gradients of the states before a step, from those after it and what came through the cell.

    What goes past the cell is added, as to h; where that is no state it is left in the slot more of dc, at `at`.
    """
    raise NotImplementedError("compiled code only")


@overload(past_cell_h)
def _choose_past_cell_h(cell, options, place, dc, at, units, dh, after, before):
    count = cell.instance_class.states
    if cell.instance_class.h_is_state:

        def with_state(cell, options, place, dc, at, units, dh, after, before):
            return (*before[:-1], before[-1] + _keep_h(options, place) * (dh + after[-1]))

        return with_state

    def alone(cell, options, place, dc, at, units, dh, after, before):
        store(dc, at + count * units, _keep_h(options, place) * dh)
        return before

    return alone


def past_cell_states(cell, options, place, after, before):
    """Return the same as to the states beside h; `before` is () where another part of the cell makes it."""
    raise NotImplementedError("compiled code only")


@overload(past_cell_states)
def _choose_past_cell_states(cell, options, place, after, before):
    if cell.instance_class.states == 0 or before == _NO_STATES or cell.instance_class.h_is_state:
        return lambda cell, options, place, after, before: before
    return lambda cell, options, place, after, before: (before[0] + _keep_first(options, place) * after[0], *before[1:])


def arrived(cell, options, row, dc, at, units, unit, hidden, dh):
    """Return the gradient of h of the step before: of what came through the products, and what went past the cell."""
    raise NotImplementedError("compiled code only")


@overload(arrived)
def _choose_arrived(cell, options, row, dc, at, units, unit, hidden, dh):
    count, is_state = cell.instance_class.states, cell.instance_class.h_is_state

    def add(cell, options, row, dc, at, units, unit, hidden, dh):
        dh = masked(options, row, unit, hidden, dh)
        if not is_state:
            dh = dh + load(dc, at + count * units)
        return dh

    return add


# --- clipping ---


def limited(cell, c):
    """Return c within the bound of the options."""
    raise NotImplementedError("compiled code only")


@overload(limited)
def _choose_limited(cell, c):
    if not has_options(cell):
        return lambda cell, c: c
    return lambda cell, c: clamp(c, splat(cell.options.numbers, cell.options.numbers[0]))


def within(cell, c, dc):
    """Return the gradient of c as it was before `limited`: none at the bound."""
    raise NotImplementedError("compiled code only")


@overload(within)
def _choose_within(cell, c, dc):
    if not has_options(cell):
        return lambda cell, c, dc: dc
    return lambda cell, c, dc: _zero_beyond(dc, c, splat(cell.options.numbers, cell.options.numbers[0]))


@intrinsic
def _zero_beyond(typingctx, value, c, bound):
    """Return `value`, but 0 where c is not between -bound and bound; kept where c is a NaN."""

    def emit(context, builder, sig, args):
        value, c, bound = args
        inside = builder.and_(builder.fcmp_unordered("<", c, bound), builder.fcmp_unordered(">", c, builder.fneg(bound)))
        return builder.select(inside, value, ir.Constant(value.type, None))

    return signature(value, value, c, bound), emit
