"""A cell and its options applied to one hidden unit of a sequence at a step: what it needs read, what it makes written.

As on the CPU a cell with a second product has two parts. The first one, before that product, makes u, and the gates and
states beside h; the cell itself makes the others and h. The adjoints go the other way.
"""

from numlstm.kernels import zoneout
from numlstm.kernels.cells import Cell, own_slots
from numlstm.kernels.zoneout import Before, Place

from .layer import reader
from .machine import device, load, store, store_all
from .scalar import of_type, scalar


def _chosen(kind: type[Cell], options: bool, first: bool):
    """Return what the type of a cell selects, for its first part, for its other one, or for a cell of one part."""
    stateless = bool(kind.second_product) and first == kind.h_is_state  # the other part makes the states
    return of_type(kind, options, stateless)


@device
def _place(layer, n, t, unit, width):
    """Return which number of the whole sequences one of h or u is."""
    before, others = layer.outside
    return Place(n, t + before, layer.z.shape[1] + others, unit, width)


def _settler(kind: type[Cell], options: bool, first: bool):
    """Return a device function (cell, layer, n, t, unit, c_at, before, after, out): states and out that a step ends with.

    c_at : where in c the states are to go; with options the first is stored as the cell left it
    """
    if not options:
        return device(lambda cell, layer, n, t, unit, c_at, before, after, out: (after, out))
    chosen = _chosen(kind, options, first)
    settled_states, masked_u = chosen["settled_states"], chosen["masked_u"]
    settled_h = scalar(zoneout.settled_h, **chosen)

    @device
    def settle_u(cell, layer, n, t, unit, c_at, before, after, out):
        units = layer.z.shape[3]
        place = _place(layer, n, t, unit, units)
        after = settled_states(cell, cell.options, place, layer.c, c_at, units, before, after)
        return after, masked_u(cell, cell.options, n, unit, units, out)

    @device
    def settle_h(cell, layer, n, t, unit, c_at, before, after, out):
        _, steps, outputs = layer.y.shape
        place = _place(layer, n, t, unit, outputs)
        lies = Before(t == 0, layer.h0, layer.y, (n * steps + t - 1) * outputs + unit)
        after = settled_states(cell, cell.options, place, layer.c, c_at, layer.z.shape[3], before, after)
        return settled_h(cell, cell.options, place, lies, after, out)

    return settle_u if first else settle_h


@device
def _put_u(layer, n, t, unit, out, length):
    store(layer.u, (n * layer.u.shape[1] + t) * layer.u.shape[2] + unit, out)


@device
def _put_h(layer, n, t, unit, out, length):
    _, steps, outputs = layer.y.shape
    store(layer.y, (n * steps + t) * outputs + unit, out)
    if t == length - 1:
        store(layer.h, n * outputs + unit, out)


def forward_unit(kind: type[Cell], dtype, options: bool, first: bool = False):
    """Return a device function (cell, layer, n, t, unit) that applies a cell, or its `first` part, to the sums in z.

    It writes z, c, and y and h, or u. Past the length of a sequence its states stay and y, or u, is 0.
    """
    states, in_c = kind.states, kind.states + options
    function = scalar(kind.first if first else kind.forward, **_chosen(kind, options, first))
    settle, put = _settler(kind, options, first), _put_u if first else _put_h
    read_slots, read_states = reader(own_slots(kind)), reader(states)

    @device
    def forward_unit(cell, layer, n, t, unit):
        _, steps, slots, units = layer.z.shape
        at, c_at = (n * steps + t) * slots * units + unit, (n * (steps + 1) + t) * in_c * units + unit
        before, length = read_states(layer.c, c_at, units), load(layer.lengths, n)
        if t < length:
            kept, after, out = function(cell, unit, read_slots(layer.z, at, units), before)
            after, out = settle(cell, layer, n, t, unit, c_at + in_c * units, before, after, out)
            store_all(layer.z, at, units, kept)
            store_all(layer.c, c_at + in_c * units, units, after)
            put(layer, n, t, unit, out, length)
        else:
            store_all(layer.c, c_at + in_c * units, units, before)
            put(layer, n, t, unit, dtype(0), length)

    return forward_unit


def _adjoint(kind: type[Cell], options: bool, first: bool):
    """Return a device function for the adjoint of a cell or its first part, with that of options around it.

    (cell, layer, gradients, n, t, unit, slots, before, after, out, dstates) -> (dz, gradients of the states), where `out` is
    the gradient of h or u
    """
    chosen = _chosen(kind, options, first)
    backward = scalar(kind.first_backward if first else kind.backward, **chosen)
    size = kind.states + options
    unsettled, to_cell_h, to_cell_states = (chosen[name] for name in ("unsettled", "to_cell_h", "to_cell_states"))
    past_cell_h, past_cell_states, masked_u = (chosen[name] for name in ("past_cell_h", "past_cell_states", "masked_u"))

    @device
    def plain(cell, layer, gradients, n, t, unit, slots, before, after, out, dstates):
        return backward(cell, unit, slots, before, after, out, dstates)

    @device
    def of_u(cell, layer, gradients, n, t, unit, slots, before, after, out, dstates):
        _, steps, _, units = layer.z.shape
        place = _place(layer, n, t, unit, units)
        after = unsettled(cell, layer.c, (n * (steps + 1) + t + 1) * size * units + unit, units, after)
        through = masked_u(cell, cell.options, n, unit, units, out)
        dz, found = backward(cell, unit, slots, before, after, through, to_cell_states(cell, cell.options, place, dstates))
        return dz, past_cell_states(cell, cell.options, place, dstates, found)

    @device
    def of_h(cell, layer, gradients, n, t, unit, slots, before, after, out, dstates):
        _, steps, outputs = layer.y.shape
        units, place = layer.z.shape[3], _place(layer, n, t, unit, outputs)
        after = unsettled(cell, layer.c, (n * (steps + 1) + t + 1) * size * units + unit, units, after)
        through, of_states = to_cell_h(cell, cell.options, place, out, dstates)
        of_states = to_cell_states(cell, cell.options, place, of_states)
        dz, found = backward(cell, unit, slots, before, after, through, of_states)
        found = past_cell_states(cell, cell.options, place, dstates, found)
        at = n * size * units + unit
        return dz, past_cell_h(cell, cell.options, place, gradients.dc, at, units, out, dstates, found)

    return plain if not options else of_u if first else of_h


def backward_unit(kind: type[Cell], dtype, options: bool, first: bool = False):
    """Return a device function (cell, layer, gradients, n, t, unit, out) that applies the adjoint of `forward_unit`.

    out : the gradient of h or u. It overwrites z of step t, what the cell kept, and dc; past a sequence's length z is 0. Of
    a cell with two parts the slots of the second product are the second part's: other blocks may be reading them by then.
    """
    states, size = kind.states, kind.states + options
    adjoint, read_slots, read_states = _adjoint(kind, options, first), reader(own_slots(kind)), reader(states)
    start, stop = (1, kind.second_slot or kind.slots) if first else (0, 1 if kind.second_product else kind.slots)
    of_part = device(lambda dz: dz[1:]) if first else device(lambda dz: dz)

    @device
    def backward_unit(cell, layer, gradients, n, t, unit, out):
        _, steps, slots, units = layer.z.shape
        at, dc_at = (n * steps + t) * slots * units + unit, n * size * units + unit
        c_at = (n * (steps + 1) + t) * size * units + unit
        if t < load(layer.lengths, n):
            dz, dstates = adjoint(
                cell,
                layer,
                gradients,
                n,
                t,
                unit,
                read_slots(layer.z, at, units),
                read_states(layer.c, c_at, units),
                read_states(layer.c, c_at + size * units, units),
                out,
                read_states(gradients.dc, dc_at, units),
            )
            store_all(layer.z, at + start * units, units, of_part(dz))
            store_all(gradients.dc, dc_at, units, dstates)
        else:
            for slot in range(start, stop):
                store(layer.z, at + slot * units, dtype(0))

    return backward_unit
