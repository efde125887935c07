"""Layer normalisation of both products of a step, before the cell (Ba, Kiros and Hinton 2016, equation 20).

``z = gain_x n(W x) + gain_h n(U h) + b``, where n takes from each row of a product, over all its gates and units, the mean,
and divides by the standard deviation. Such a cell (cells.normalised) has slots of its own for both products: first these
themselves, then, normalised, what the backward pass needs, then their gradients.

Of a cell with two products a step the second one, with rows of U, has a slot and a mean of its own, over what it yields: it
sees what the first one made. A projection is not normalised: it makes h, of which the products are.

Means are taken of each unit's gates first, and of these over the units, in order. So members of a team that hold some units
each exchange two numbers of a unit, and every one computes the same bits.
"""

from typing import Any, NamedTuple

from numba.extending import register_jitable

from .cells import own_slots, panel, places, type_of
from .compiling import jit, overload
from .memory import constant_row, load, load_element, load_first, pointer, store, store_first
from .simd import constant, first_lanes, fma, lane_sum, lanes, splat, sqrt
from .team import meet
from .tile import VECTORS, Out, Right, panel_products

EPSILON = 1e-5  # added to the variance


class Work(NamedTuple):
    """Memory of a sweep over cells whose products are normalised.

    units : (N, 4, H')  of one step, two numbers of each unit for the product with x, then for that with h, then in the
        place of these for a second one
    scale : (N, S, 2 or 3)  1 / standard deviation of the products, for the backward pass
    sums : (N, slots, H')  of the backward pass: over the steps of each row, what its biases and gains have as gradients
    """

    units: Any
    scale: Any
    sums: Any


class _Own(NamedTuple):
    """Of the slots that a cell's functions see: how many, and the first that the products with x and with h are added to."""

    slots: Any
    x_first: Any
    h_first: Any


def _own(cell):
    """Return the constants of a cell."""
    raise NotImplementedError("compiled code only")


@overload(_own)
def _choose_own(cell):
    kind = type_of(cell)
    slots, x_first, h_first = own_slots(kind), kind.base.x_slots[0], kind.base.h_slots[0]
    return lambda cell: _Own(slots, x_first, h_first)


def of_second(cell):
    """Return the cell's Work, or None where the second product, if there is one, is not normalised."""
    raise NotImplementedError("compiled code only")


@overload(of_second)
def _choose_of_second(cell):
    if type_of(cell).second_slot > 0:
        return lambda cell: cell.norm
    return lambda cell: None


@register_jitable
def numbers_of_step(slots, units):
    """Return how many numbers one step of one row works on: all slots, and those of `Work.units`."""
    return (slots + 4) * units


# --- forward ---


@jit
def sums_of_products(tile, team, members, cell, norm, left, hidden, z, passed, slot, keep, start, stop, p0, p1, whole):
    """Compute the recurrent product of a step, and the sums that the cell takes, for panels p0 to p1 of some rows.

    norm : Work; left : what the product sees, of before the step
    z : (N, S, slots, H')  with the product with x in its slots of step `slot`; the cell's own slots are written and, with
        `keep`, both products' are overwritten with what they are normalised
    passed : steps since the team began; whole : panels before this one are taken in pairs
    """
    width, to = lanes(z), places(cell)
    units, k_end = z.shape[3], cell.h.shape[1]
    z_row, z_at, block = z.shape[1] * to.slots * units, slot * to.slots * units, k_end * cell.h.shape[2]
    zeros = Out(constant_row(z, 0), 0, width)
    for p in range(p0, p1):
        j, some, apart = panel(cell, p, units, width)
        if p >= whole or (p - p0) % 2 == 0:
            second = to.spread * width, 0, block * (p < whole)
            for gate in range(0, to.h_count, VECTORS):
                out = Out(pointer(z, start * z_row + z_at + (to.h_first + gate) * units + j), z_row, apart)
                right = Right(pointer(cell.h, p * block + gate * width), cell.h.shape[2], 0)
                vectors = min(VECTORS, to.h_count - gate) * some
                panel_products(tile, stop - start, vectors, out, zeros, left, right, k_end, 1, second)
        for n in range(start, stop):
            for unit in range(j, j + some * width, width):
                unit_moments(cell, z, n * z_row + z_at + unit, units, norm.units, n * 4 * units + unit)
    meet(team, members, passed * to.meets + 1)
    j0, j1 = p0 * to.spread * width, min(p1 * to.spread * width, units)
    for n in range(start, stop):
        of_x = row_moments(norm.units, n * 4 * units, units, hidden, to.x_count)
        of_h = row_moments(norm.units, (n * 4 + 2) * units, units, hidden, to.h_count)
        if keep:
            at = (n * norm.scale.shape[1] + slot) * norm.scale.shape[2]
            store_first(norm.scale, at, of_x[1], 1)
            store_first(norm.scale, at + 1, of_h[1], 1)
        for unit in range(j0, j1, width):
            sums_of_units(cell, z, n * z_row + z_at + unit, units, unit, of_x, of_h, keep)


@jit
def add_second(team, members, cell, norm, z, passed, slot, keep, hidden, start, stop, j0, j1):
    """Add the second product of a step, normalised, to the sum that the cell takes, for units j0 to j1 of some rows.

    Arguments are those of sums_of_products.
    """
    width, to = lanes(z), places(cell)
    units = z.shape[3]
    z_row, z_at = z.shape[1] * to.slots * units, slot * to.slots * units
    for n in range(start, stop):
        for unit in range(j0, j1, width):
            second_moments(cell, z, n * z_row + z_at + unit, units, norm.units, n * 4 * units + unit)
    meet(team, members, (passed + 1) * to.meets - 1)
    for n in range(start, stop):
        moments = row_moments(norm.units, (n * 4 + 2) * units, units, hidden, 1)
        if keep:
            store_first(norm.scale, (n * norm.scale.shape[1] + slot) * norm.scale.shape[2] + 2, moments[1], 1)
        for unit in range(j0, j1, width):
            at = n * z_row + z_at + unit
            store(z, at, sum_with_second(cell, z, at, units, unit, moments, keep))


@jit
def second_moments(cell, z, at, units, moments, to_at):
    """Write what unit_moments does of the second product, to the place of that with h."""
    _unit_moments(z, at + places(cell).second * units, units, 1, moments, to_at + 2 * units)


@jit
def sum_with_second(cell, z, at, units, unit, moments, keep):
    """Return the sum in the first slot with the normalised second product, which `keep` writes."""
    return _normalised(cell, z, at, places(cell).second * units, unit, moments, keep, load(z, at))


@jit
def unit_moments(cell, z, at, units, moments, to_at):
    """Write, for a vector of units, the mean of its gates and the sum of squares of what they are off it: of both products.

    z, at : slots of these units, `units` elements apart; moments, to_at : where four vectors go, `units` elements apart
    """
    to = places(cell)
    _unit_moments(z, at + to.x_first * units, units, to.x_count, moments, to_at)
    _unit_moments(z, at + to.h_first * units, units, to.h_count, moments, to_at + 2 * units)


@jit
def _unit_moments(z, at, units, count, moments, to_at):
    total = load(z, at)
    for gate in range(1, count):
        total = total + load(z, at + gate * units)
    mean = total / count
    squares = constant(mean, 0)
    for gate in range(count):
        off = load(z, at + gate * units) - mean
        squares = fma(off, off, squares)
    store(moments, to_at, mean)
    store(moments, to_at + units, squares)


@jit
def row_moments(moments, at, units, hidden, count):
    """Return the mean of a row of a product and 1 / its standard deviation, in all lanes, from those of its units."""
    width = lanes(moments)
    total = squares = constant(load(moments, at), 0)
    for j in range(0, hidden, width):
        total = total + load_first(moments, at + j, hidden - j)
    mean = lane_sum(total) / hidden
    for j in range(0, hidden, width):
        off = load(moments, at + j) - mean
        squares = squares + first_lanes(fma(off * count, off, load(moments, at + units + j)), hidden - j)
    return mean, constant(mean, 1) / sqrt(lane_sum(squares) / (hidden * count) + EPSILON)


@jit
def sums_of_units(cell, z, at, units, unit, of_x, of_h, keep):
    """Write the sums that the cell takes for a vector of units, and with `keep` both normalised products.

    of_x, of_h : (mean, 1 / standard deviation) of both products
    """
    to, own = places(cell), _own(cell)
    for slot in range(own.slots):
        total = load(cell.b, slot * units + unit)
        gate = slot - own.x_first
        if 0 <= gate < to.x_count:
            total = _normalised(cell, z, at, (to.x_first + gate) * units, unit, of_x, keep, total)
        gate = slot - own.h_first
        if 0 <= gate < to.h_count:
            total = _normalised(cell, z, at, (to.h_first + gate) * units, unit, of_h, keep, total)
        store(z, at + slot * units, total)


@jit
def _normalised(cell, z, at, place, unit, moments, keep, total):
    """Return `total` with a product's slot added, normalised and with its gain."""
    value = (load(z, at + place) - moments[0]) * moments[1]
    if keep:
        store(z, at + place, value)
    return fma(load(cell.b, place + unit), value, total)


# --- backward ---


@jit
def gradients_of_products(team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1):
    """Bring the gradients of one step from the sums that the cell takes to both products, for units j0 to j1 of some rows.

    z : (N, S, slots, H')  as the cell's adjoint left it, with the gradients in its own slots; those of the products, which
        are normalised, are overwritten with their gradients before that
    norm : Work, whose sums are added to; passed : steps since the team began
    """
    width, to, own = lanes(z), places(cell), _own(cell)
    units = z.shape[3]
    z_row, z_at = z.shape[1] * to.slots * units, slot * to.slots * units
    for n in range(start, stop):
        for unit in range(j0, j1, width):
            at, sums_at, mean_at = n * z_row + z_at + unit, n * to.slots * units + unit, n * 4 * units + unit
            for k in range(own.slots):
                total = load(norm.sums, sums_at + k * units)
                store(norm.sums, sums_at + k * units, total + load(z, at + k * units))
            first = to.x_first, own.x_first, to.x_count
            _unit_gradients(cell, norm, z, at, units, unit, *first, sums_at, mean_at)
            first = to.h_first, own.h_first, to.h_count
            _unit_gradients(cell, norm, z, at, units, unit, *first, sums_at, mean_at + 2 * units)
    meet(team, members, (passed + 1) * to.meets - 1)
    for n in range(start, stop):
        at, scale_at = n * z_row + z_at, (n * norm.scale.shape[1] + slot) * norm.scale.shape[2]
        first = to.x_first, own.x_first, to.x_count
        _row_gradients(cell, norm, z, at, units, hidden, j0, j1, *first, n * 4 * units, scale_at)
        first = to.h_first, own.h_first, to.h_count
        _row_gradients(cell, norm, z, at, units, hidden, j0, j1, *first, (n * 4 + 2) * units, scale_at + 1)


@jit
def gradient_of_second(team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1):
    """Bring the gradient of the first slot of one step to the second product: see gradients_of_products."""
    width, to = lanes(z), places(cell)
    units = z.shape[3]
    z_row, z_at = z.shape[1] * to.slots * units, slot * to.slots * units
    for n in range(start, stop):
        for unit in range(j0, j1, width):
            at, sums_at, mean_at = n * z_row + z_at + unit, n * to.slots * units + unit, (n * 4 + 2) * units + unit
            _unit_gradients(cell, norm, z, at, units, unit, to.second, 0, 1, sums_at, mean_at)
    meet(team, members, passed * to.meets + 1)
    for n in range(start, stop):
        at, scale_at = n * z_row + z_at, (n * norm.scale.shape[1] + slot) * norm.scale.shape[2] + 2
        _row_gradients(cell, norm, z, at, units, hidden, j0, j1, to.second, 0, 1, (n * 4 + 2) * units, scale_at)


def gradients_before_cell(team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1):
    """Call what brings gradients to the products that come right before the cell."""
    raise NotImplementedError("compiled code only")


@overload(gradients_before_cell)
def _choose_gradients(team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1):
    bring = gradient_of_second if type_of(cell).second_slot > 0 else gradients_of_products
    return lambda team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1: bring(
        team, members, cell, norm, z, passed, slot, hidden, start, stop, j0, j1
    )


@jit
def _unit_gradients(cell, norm, z, at, units, unit, first, own_first, count, sums_at, mean_at):
    """Add to the sums for the gains of one product; write, of the normalised values' gradients, the sum over a unit's gates
    and that of their products with the values.
    """
    total = along = constant(load(z, at), 0)
    for gate in range(count):
        place = (first + gate) * units
        dz, value = load(z, at + (own_first + gate) * units), load(z, at + place)
        store(norm.sums, sums_at + place, fma(dz, value, load(norm.sums, sums_at + place)))
        gradient = dz * load(cell.b, place + unit)
        total, along = total + gradient, fma(gradient, value, along)
    store(norm.units, mean_at, total)
    store(norm.units, mean_at + units, along)


@jit
def _row_gradients(cell, norm, z, at, units, hidden, j0, j1, first, own_first, count, mean_at, scale_at):
    """Overwrite the slots of one product, normalised, with the gradient of the product, for units j0 to j1 of a row."""
    width = lanes(z)
    total = along = constant(load(z, at), 0)
    for j in range(0, hidden, width):
        total = total + load_first(norm.units, mean_at + j, hidden - j)
        along = along + load_first(norm.units, mean_at + units + j, hidden - j)
    total, along = lane_sum(total) / (hidden * count), lane_sum(along) / (hidden * count)
    scale = splat(norm.scale, load_element(norm.scale, scale_at))
    for unit in range(j0, j1, width):
        for gate in range(count):
            place = (first + gate) * units
            gradient = load(z, at + unit + (own_first + gate) * units) * load(cell.b, place + unit)
            off = gradient - total - load(z, at + unit + place) * along
            store(z, at + unit + place, off * scale)
