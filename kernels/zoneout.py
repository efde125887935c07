"""Zoneout: some units of h, and of the first other state, stay as they were before a step (Krueger et al. 2017)."""

from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from .compiling import jit, overload
from .dropout import GOLDEN, MIXES, SHIFTS
from .memory import load, load_first, store
from .options import has_options, masked
from .simd import constant, int_constant, is_float_array, splat, vec_of


class Place(NamedTuple):
    """Which numbers a vector holds: of a row of the caller's, a step among all that x holds, units from `unit` on, of H."""

    row: Any
    step: Any
    steps: Any
    unit: Any
    hidden: Any


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


def _keeper(place_of_rate, half):
    """Return a function for how much of a state stays as it was before a step, by one of the rates among the numbers."""

    @jit
    def keep(options, place):
        rate = options.numbers[place_of_rate]
        if options.key.shape[0] > 0 and rate > 0:
            return _random_keeps(options.numbers, options.key[0], _counter(place), half, rate)
        return splat(options.numbers, rate)

    return keep


_keep_h, _keep_first = _keeper(1, 0), _keeper(2, 1)


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
