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
from numba.extending import intrinsic, overload

from .compiling import OPTIONS, jit
from .dropout import GOLDEN, MIXES, SHIFTS
from .simd import clamp, constant, int_constant, is_float_array, lanes, load, load_first, splat, store, store_first, vec_of


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


def _overload(function):
    return overload(function, jit_options={**OPTIONS, "_nrt": False})


# --- recurrent dropout ---


@jit
def masked(options, row, unit, hidden, h):
    """Return what the products see of a vector of h."""
    if options.mask.shape[0] > 0:
        h = h * load_first(options.mask, row * hidden + unit, hidden - unit)
    return h


@jit
def mask_row(mask, row, start, values, at, count):
    """Multiply `count` elements of `values` from `at` on by a row of the mask, from unit `start` on."""
    if mask.shape[0] > 0:
        for j in range(0, count, lanes(values)):
            factors = load_first(mask, row * mask.shape[1] + start + j, count - j)
            store_first(values, at + j, load_first(values, at + j, count - j) * factors, count - j)


# --- zoneout ---


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
def _keeps(options, place):
    """Return how much of h and of the first other state stays as it was before a step."""
    numbers = options.numbers
    h, c = splat(numbers, numbers[1]), splat(numbers, numbers[2])
    if options.key.shape[0] > 0:
        counter = (place.row * place.steps + place.step) * place.hidden + place.unit
        if numbers[1] > 0:
            h = _random_keeps(numbers, options.key[0], counter, 0, numbers[1])
        if numbers[2] > 0:
            c = _random_keeps(numbers, options.key[0], counter, 1, numbers[2])
    return h, c


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


def _settled(cell, keep_h, keep_c, before, after, h_before, h):
    """Return the states and h that a step ends with, from those of the cell and those before the step."""
    raise NotImplementedError("compiled code only")


@_overload(_settled)
def _choose_settled(cell, keep_h, keep_c, before, after, h_before, h):
    kind = cell.instance_class
    if kind.states > 0 and not kind.h_is_state:
        return lambda cell, keep_h, keep_c, before, after, h_before, h: (
            (_mixed(keep_c, before[0], after[0]), *after[1:]),
            _mixed(keep_h, h_before, h),
        )
    is_state = kind.h_is_state

    def settled_h(cell, keep_h, keep_c, before, after, h_before, h):
        h = _mixed(keep_h, h_before, h)
        return ((*after[:-1], h) if is_state else after), h

    return settled_h


def settle(cell, options, place, c, at, units, before, after, lies, h):
    """Return the states and h that a step of a sweep ends with, and store the first state as the cell left it.

    c, at : where the states are to go, with the slot more; lies : where h before the step does
    """
    raise NotImplementedError("compiled code only")


@_overload(settle)
def _choose_settle(cell, options, place, c, at, units, before, after, lies, h):
    count = cell.instance_class.states

    def settle_in_sweep(cell, options, place, c, at, units, before, after, lies, h):
        if count > 0:
            store(c, at + count * units, after[0])
        keep_h, keep_c = _keeps(options, place)
        return _settled(cell, keep_h, keep_c, before, after, _h_before(lies, place), h)

    return settle_in_sweep


def settle_one(cell, before, after, h_before, h):
    """Return the states and h that a step outside of a sweep ends with, without masks: mixed by the probabilities."""
    raise NotImplementedError("compiled code only")


@_overload(settle_one)
def _choose_settle_one(cell, before, after, h_before, h):
    if not has_options(cell):
        return lambda cell, before, after, h_before, h: (after, h)

    def mix(cell, before, after, h_before, h):
        numbers = cell.options.numbers
        return _settled(cell, splat(numbers, numbers[1]), splat(numbers, numbers[2]), before, after, h_before, h)

    return mix


def unsettled(cell, c, at, units, after):
    """Return the states after a step as the cell left them, from those it ended with, which lie at `at`."""
    raise NotImplementedError("compiled code only")


@_overload(unsettled)
def _choose_unsettled(cell, c, at, units, after):
    kind = cell.instance_class
    if kind.states == 0 or kind.h_is_state:
        return lambda cell, c, at, units, after: after
    count = kind.states
    return lambda cell, c, at, units, after: (load(c, at + count * units), *after[1:])


def to_cell(cell, options, place, dh, dstates):
    """Return the part of the gradients of h and of the states after a step that goes through the cell."""
    raise NotImplementedError("compiled code only")


@_overload(to_cell)
def _choose_to_cell(cell, options, place, dh, dstates):
    kind = cell.instance_class
    if kind.states == 0 or kind.h_is_state:
        with_state = kind.states > 0

        def h_to_cell(cell, options, place, dh, dstates):
            keep_h, _ = _keeps(options, place)
            through = constant(keep_h, 1) - keep_h
            if with_state:
                return through * (dh + dstates[-1]), (*dstates[:-1], constant(dh, 0))
            return through * dh, dstates

        return h_to_cell

    def all_to_cell(cell, options, place, dh, dstates):
        keep_h, keep_c = _keeps(options, place)
        one = constant(keep_h, 1)
        return (one - keep_h) * dh, ((one - keep_c) * dstates[0], *dstates[1:])

    return all_to_cell


def past_cell(cell, options, place, dc, at, units, dh, after, before):
    """Return the gradients of the states before a step, from those after it and what came through the cell.

    What goes past the cell is added; for h it is left in the slot more of dc, at `at`.
    """
    raise NotImplementedError("compiled code only")


@_overload(past_cell)
def _choose_past_cell(cell, options, place, dc, at, units, dh, after, before):
    kind = cell.instance_class
    count = kind.states
    if kind.h_is_state:

        def h_past_cell(cell, options, place, dc, at, units, dh, after, before):
            keep_h, _ = _keeps(options, place)
            return (*before[:-1], before[-1] + keep_h * (dh + after[-1]))

        return h_past_cell

    def all_past_cell(cell, options, place, dc, at, units, dh, after, before):
        keep_h, keep_c = _keeps(options, place)
        store(dc, at + count * units, keep_h * dh)
        if count > 0:
            return (before[0] + keep_c * after[0], *before[1:])
        return before

    return all_past_cell


def arrived(cell, options, row, dc, at, units, unit, hidden, dh):
    """Return the gradient of h of the step before: of what came through the products, and what went past the cell."""
    raise NotImplementedError("compiled code only")


@_overload(arrived)
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


@_overload(limited)
def _choose_limited(cell, c):
    if not has_options(cell):
        return lambda cell, c: c
    return lambda cell, c: clamp(c, splat(cell.options.numbers, cell.options.numbers[0]))


def within(cell, c, dc):
    """Return the gradient of c as it was before `limited`: none at the bound."""
    raise NotImplementedError("compiled code only")


@_overload(within)
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
