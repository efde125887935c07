"""A cell and its options applied to one vector of hidden units of a row: what it needs loaded, what it makes stored.

A cell with a second product has two parts. The first one, before that product, makes u, and the gates and states that do not
depend on the product; the cell itself makes the others and h of its sums. The adjoints go the other way.
"""

from .cells import (
    cell_backward,
    cell_first,
    cell_first_backward,
    cell_forward,
    load_slots,
    load_states,
    show,
    store_all,
)
from .compiling import inlined
from .memory import load, load_first, store_first
from .options import masked, masked_u
from .ragged import row_of
from .zoneout import (
    Before,
    Place,
    past_cell_h,
    past_cell_states,
    settled_h,
    settled_states,
    to_cell_h,
    to_cell_states,
    unsettled,
)


@inlined
def forward_units(window, ragged, cell, options, steps, h0, h, y, c, z, slot, keep, t, n, unit):
    """Apply the cell to the units from `unit` on of row `n`, whose sums stand in slot `slot` of z: write y, h, c and z.

    steps : that x holds; the others are as in sweeps.forward_part
    """
    row, hidden, units = row_of(ragged, n), y.shape[2], z.shape[3]
    at = ((n * z.shape[1] + slot) * z.shape[2]) * units + unit
    c_step = c.shape[2] * units if keep else 0
    c_at = n * c.shape[1] * c.shape[2] * units + (t - window.start) * c_step + unit
    y_at = (row * y.shape[1] + t - window.y_start) * hidden + unit
    slots, before = load_slots(cell, z, at, units), load_states(cell, c, c_at, units)
    kept, after, out = cell_forward(cell, unit, slots, before)
    if options is not None:
        place, lies = Place(row, t, steps, unit, hidden), Before(t == window.start, h0, y, y_at - hidden)
        after = settled_states(cell, options, place, c, c_at + c_step, units, before, after)
        after, out = settled_h(cell, options, place, lies, after, out)
    store_all(c, c_at + c_step, units, after)
    store_first(y, y_at, out, hidden - unit)
    if h.shape[0] > 0:
        if options is not None:
            out = masked(options, row, unit, hidden, out)
        h_at = (y.shape[0] - (t - window.start) % 2 * y.shape[0] + n) * h.shape[1] + unit
        store_first(h, h_at, out, hidden - unit)
        show(cell, h, h_at + hidden, hidden, hidden - unit, after)
    if keep:
        store_all(z, at, units, kept)


@inlined
def first_units(window, ragged, cell, options, steps, c, z, u, slot, keep, t, n, unit):
    """Apply the first part of a cell with a second product: write u, and what there is of c and z."""
    row, hidden, units = row_of(ragged, n), u.shape[2], z.shape[3]
    at = ((n * z.shape[1] + slot) * z.shape[2]) * units + unit
    c_step = c.shape[2] * units if keep else 0
    c_at = n * c.shape[1] * c.shape[2] * units + (t - window.start) * c_step + unit
    slots, before = load_slots(cell, z, at, units), load_states(cell, c, c_at, units)
    kept, after, out = cell_first(cell, unit, slots, before)
    if options is not None:
        place = Place(row, t, steps, unit, hidden)
        after = settled_states(cell, options, place, c, c_at + c_step, units, before, after)
        out = masked_u(cell, options, row, unit, hidden, out)
    store_all(c, c_at + c_step, units, after)
    store_all(z, at, units, kept)
    u_at = (n * u.shape[1] + (t - window.start if keep else 0)) * hidden + unit
    store_first(u, u_at, out, hidden - unit)


@inlined
def backward_units(window, ragged, cell, options, steps, dy, dh, dc, c, z, t, n, unit):
    """Apply the adjoint of the cell to the units from `unit` on of row `n`: write z and dc.

    steps : that x holds; the others are as in sweeps.backward_part
    """
    row, hidden, units, slot = row_of(ragged, n), dy.shape[2], z.shape[3], t - window.start
    dy_row, dy_step = (dy.shape[1] * hidden, hidden) if dy.shape[0] * dy.shape[1] > 1 else (0, 0)
    at = ((n * z.shape[1] + slot) * z.shape[2]) * units + unit
    c_step, dc_at = c.shape[2] * units, n * dc.shape[1] * units + unit
    c_at = (n * c.shape[1] + slot) * c_step + unit
    slots, before = load_slots(cell, z, at, units), load_states(cell, c, c_at, units)
    after = load_states(cell, c, c_at + c_step, units)
    reached = load(dh, n * units + unit) + load_first(dy, row * dy_row + t * dy_step + unit, hidden - unit)
    states = load_states(cell, dc, dc_at, units)
    if options is None:
        dz, dstates = cell_backward(cell, unit, slots, before, after, reached, states)
    else:
        place = Place(row, t, steps, unit, hidden)
        after = unsettled(cell, c, c_at + c_step, units, after)
        through, of_states = to_cell_h(cell, options, place, reached, states)
        of_states = to_cell_states(cell, options, place, of_states)
        dz, dstates = cell_backward(cell, unit, slots, before, after, through, of_states)
        dstates = past_cell_states(cell, options, place, states, dstates)
        dstates = past_cell_h(cell, options, place, dc, dc_at, units, reached, states, dstates)
    store_all(z, at, units, dz)
    store_all(dc, dc_at, units, dstates)


@inlined
def first_backward_units(window, ragged, cell, options, steps, hidden, du, dc, c, z, t, n, unit):
    """Apply the adjoint of the first part of a cell with a second product, to du (N, H'): write z and dc."""
    row, units, slot = row_of(ragged, n), z.shape[3], t - window.start
    at = ((n * z.shape[1] + slot) * z.shape[2]) * units + unit
    c_step, dc_at = c.shape[2] * units, n * dc.shape[1] * units + unit
    c_at = (n * c.shape[1] + slot) * c_step + unit
    slots, before = load_slots(cell, z, at, units), load_states(cell, c, c_at, units)
    after = load_states(cell, c, c_at + c_step, units)
    reached, states = load(du, n * units + unit), load_states(cell, dc, dc_at, units)
    if options is None:
        dz, dstates = cell_first_backward(cell, unit, slots, before, after, reached, states)
    else:
        place = Place(row, t, steps, unit, hidden)
        after = unsettled(cell, c, c_at + c_step, units, after)
        reached = masked_u(cell, options, row, unit, hidden, reached)
        of_states = to_cell_states(cell, options, place, states)
        dz, dstates = cell_first_backward(cell, unit, slots, before, after, reached, of_states)
        dstates = past_cell_states(cell, options, place, states, dstates)
    store_all(z, at, units, dz)
    store_all(dc, dc_at, units, dstates)
